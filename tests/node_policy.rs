//! Which images a node lets in, and what it says of those that it does not.

#[path = "support/authority.rs"]
mod authority;
#[path = "support/extension_image.rs"]
mod extension_image;

use std::fs;
use std::path::{Path, PathBuf};

use authority::{Identity, PLAIN, Wish};
use extension_image::{By, Extension, NodeTree, example};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::efi::Guid;
use sysgraft::efi::signature_list::{Entry, SHA_256, SignatureDatabase, X509, X509_SHA_256};
use sysgraft::extension::ExtensionKind::{self, Confext, Sysext};
use sysgraft::image::{Ddi, Role};
use sysgraft::node::artefact::ArtefactName;
use sysgraft::node::configuration::{Configuration, Owner, Signatures, TrustedBoot};
use sysgraft::node::firmware::{Firmware, Standing};
use sysgraft::node::policy::{Allowed, Policy, Proved, Refusal};
use sysgraft::node::store::Proof;
use sysgraft::secureboot::{Variable, microsoft};
use sysgraft::verification::Progress;

const ANY: &str = "ID=_any\nARCHITECTURE=x86-64\n";
const UNSIGNED: Allowed = Allowed {
    unsigned: true,
    skip: false,
};
const SKIP: Allowed = Allowed {
    unsigned: false,
    skip: true,
};

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

/// A folder for images.
struct Images(tempfile::TempDir);

impl Images {
    fn new() -> Images {
        Images(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A good image, signed by the example `db`.
    fn good(&self) -> PathBuf {
        Extension::sysext("hello", ANY).image(&self.path("hello.sysext.raw"), By::Example("db"))
    }
}

fn policy(tree: &NodeTree) -> Policy {
    Policy::load(&tree.node(257), &[]).unwrap()
}

fn prove_as(
    policy: &Policy,
    path: &Path,
    name: &str,
    kind: ExtensionKind,
    allowed: Allowed,
) -> Result<Proved, Refusal> {
    let name = ArtefactName::parse(name, kind).unwrap();
    policy.prove(path, &name, kind, allowed, &Silent)
}

fn prove(policy: &Policy, path: &Path, allowed: Allowed) -> Result<Proved, String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    prove_as(policy, path, name, Sysext, allowed).map_err(|refusal| refusal.to_string())
}

/// That an image is refused, with these words, in one sentence that names it.
#[track_caller]
fn refused(policy: &Policy, path: &Path, allowed: Allowed, words: &str) {
    let refusal = prove(policy, path, allowed).unwrap_err();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(refusal.contains(words), "{refusal}");
    assert!(
        refusal.contains(name) && !refusal.contains('\n'),
        "{refusal}"
    );
    assert!(!refusal.contains(path.to_str().unwrap()), "{refusal}");
}

#[test]
fn a_signed_image_is_proved_and_known_by_its_release_file() {
    let images = Images::new();
    let release = format!(
        "{ANY}SYSEXT_VERSION_ID=1.2.3\nEXTENSION_RESTART_UNITS=\"a.service b.socket\"\n\
         EXTENSION_RELOAD_OR_RESTART_UNITS=c.service\n"
    );
    // The name in the staging folder says nothing.
    let path = images.path("partial-1234");
    Extension::sysext("k3s", &release).image(&path, By::Example("db"));
    let policy = policy(&NodeTree::trusting());
    let proved = prove_as(&policy, &path, "k3s_1.3.raw", Sysext, Allowed::default()).unwrap();
    assert_eq!(proved.name.as_str(), "k3s");
    assert_eq!(proved.version.unwrap().to_string(), "1.2.3");
    assert!(proved.says_version);
    assert_eq!(proved.digest, Digest::of(&fs::read(&path).unwrap()));
    assert_eq!(proved.size, fs::metadata(&path).unwrap().len());
    assert_eq!(proved.root_hash, Ddi::open(&path).unwrap().root_hash());
    assert_eq!(proved.restart_units, ["a.service", "b.socket"]);
    assert_eq!(proved.reload_or_restart_units, ["c.service"]);
    assert_eq!(proved.warnings, [""; 0]);
    let Proof::Signed {
        signer, trusted_by, ..
    } = &proved.proof
    else {
        panic!("{:?}", proved.proof);
    };
    assert!(signer.starts_with("CN="), "{signer}");
    assert!(trusted_by.ends_with("/etc/verity.d/db.crt"), "{trusted_by}");

    let proved = prove_as(&policy, &path, "k3s.sysext.raw", Sysext, Allowed::default()).unwrap();
    assert_eq!(proved.version.unwrap().to_string(), "1.2.3");
    let name = ArtefactName::parse("k3s.sysext.raw", Sysext).unwrap();
    let quick = policy
        .prove_quickly(&path, &name, Sysext, Allowed::default())
        .unwrap();
    assert_eq!(quick.name.as_str(), "k3s");
    assert!(matches!(quick.proof, Proof::Signed { .. }));
}

#[test]
fn whose_signature_counts_is_for_the_node_to_say() {
    let images = Images::new();
    let good = images.good();
    let stranger =
        Extension::sysext("other", ANY).image(&images.path("other.raw"), By::Example("ec"));
    let (nobody, trusting) = (NodeTree::new(), NodeTree::trusting());
    for allowed in [Allowed::default(), UNSIGNED] {
        refused(&policy(&nobody), &good, allowed, "this node trusts nobody");
        refused(&policy(&nobody), &good, allowed, "signed by CN=");
        refused(
            &policy(&trusting),
            &stranger,
            allowed,
            "whose certificate is not trusted",
        );
        refused(&policy(&trusting), &stranger, allowed, "/etc/verity.d");
    }
    // Given by hand it counts, but systemd will not find it.
    let extra = Policy::load(&trusting.node(257), &[example("ec", "pem")]).unwrap();
    let proved = prove(&extra, &stranger, Allowed::default()).unwrap();
    assert!(
        proved.warnings[0].contains("systemd does not look"),
        "{:?}",
        proved.warnings
    );
    // A file of the same name in a later folder is masked.
    let masked = NodeTree::trusting().with("usr/lib/verity.d/db.crt", "");
    prove(&policy(&masked), &good, Allowed::default()).unwrap();
    let masked = NodeTree::new().with("etc/verity.d/db.crt", "").with(
        "usr/lib/verity.d/db.crt",
        fs::read(example("db", "pem")).unwrap(),
    );
    refused(&policy(&masked), &good, Allowed::default(), "trusts nobody");
    // What cannot be used costs nobody else.
    let odd = NodeTree::trusting()
        .with("run/verity.d/noise.crt", "noise")
        .with("etc/verity.d/db.pem", "not looked at");
    fs::create_dir_all(odd.path("etc/verity.d/folder.crt")).unwrap();
    let odd = policy(&odd);
    prove(&odd, &good, Allowed::default()).unwrap();
    assert_eq!(odd.notes().len(), 2, "{:?}", odd.notes());
}

#[test]
fn unsigned_images_are_let_in_one_by_one_or_never() {
    let images = Images::new();
    let path = Extension::sysext("hello", ANY).image(&images.path("hello.raw"), By::Nobody);
    let waiting = Extension::sysext("wait", ANY).image(&images.path("wait.raw"), By::Later);
    let tree = NodeTree::trusting();
    let node = policy(&tree);
    refused(&node, &path, Allowed::default(), "is not signed; sign it");
    let proved = prove(&node, &path, UNSIGNED).unwrap();
    assert!(matches!(proved.proof, Proof::Unsigned { .. }));
    assert!(proved.root_hash.is_some());
    assert!(
        proved.warnings[0].contains("nobody vouches"),
        "{:?}",
        proved.warnings
    );
    for allowed in [Allowed::default(), UNSIGNED] {
        refused(&node, &waiting, allowed, "awaits its signature");
    }
    let required = Configuration {
        signatures: Signatures::Required,
        ..Configuration::default()
    };
    let trusted_boot = Configuration {
        trusted_boot: TrustedBoot::Yes,
        ..Configuration::default()
    };
    for (configuration, words) in [
        (required, "signatures = \"required\""),
        (trusted_boot, "Trusted Boot"),
    ] {
        let strict = Policy::load(&tree.configured(257, configuration), &[]).unwrap();
        assert!(strict.requires_signatures());
        refused(&strict, &path, Allowed::default(), words);
        for (allowed, option) in [
            (UNSIGNED, "--allow-unsigned is"),
            (SKIP, "--insecure-skip-verify is"),
        ] {
            let refusal = prove(&strict, &path, allowed).unwrap_err();
            assert!(
                refusal.contains(words) && refusal.contains(option),
                "{refusal}"
            );
        }
        assert_eq!(
            strict.image_policy(Sysext),
            Some("root=signed+absent:usr=absent")
        );
    }
}

#[test]
fn what_is_not_verified_is_said_aloud_but_still_has_its_name() {
    let images = Images::new();
    let path = images.path("hello_2.raw");
    Extension::sysext("hello", ANY).image(&path, By::Example("ec"));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 600] ^= 1;
    fs::write(&path, bytes).unwrap();
    let node = policy(&NodeTree::trusting());
    let proved = prove(&node, &path, SKIP).unwrap();
    assert_eq!(proved.proof, Proof::Skipped);
    assert_eq!(proved.name.as_str(), "hello");
    assert!(
        proved.warnings[0].contains("was not verified"),
        "{:?}",
        proved.warnings
    );
    assert!(proved.warnings.len() > 1, "{:?}", proved.warnings);
    fs::write(&path, "noise").unwrap();
    assert_eq!(
        prove(&node, &path, SKIP).unwrap().name.as_str(),
        "hello_2",
        "it is called like the file"
    );
}

#[test]
fn damage_is_found_wherever_it_is() {
    let images = Images::new();
    let noise: Vec<u8> = (0..9_000_000_u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    let path = images.path("hello.raw");
    Extension::sysext("hello", ANY)
        .with("usr/share/noise", noise)
        .image(&path, By::Example("db"));
    let good = fs::read(&path).unwrap();
    let ddi = Ddi::open(&path).unwrap();
    let start = |role| ddi.partition(role).unwrap().offset as usize;
    let (data, hash) = (start(Role::Data), start(Role::Hash));
    let release = good.windows(7).position(|text| text == b"ID=_any").unwrap();
    let node = policy(&NodeTree::trusting());
    let name = ArtefactName::parse("hello.raw", Sysext).unwrap();
    // Offset, words, and whether it is found without reading everything.
    for (offset, words, quickly) in [
        (data + 1_000_000, "data block", true),
        (data + 4_000_000, "data block", false),
        (release, "damaged", true),
        (hash + 5000, "root hash", true),
        (hash + 100, "root hash", true),
        (good.len() - 600, "partition table", true),
        (600, "partition table", true),
        (start(Role::Signature) + 1600, "signature", true),
    ] {
        let mut bytes = good.clone();
        bytes[offset] ^= 1;
        fs::write(&path, bytes).unwrap();
        refused(&node, &path, UNSIGNED, words);
        let quick = node.prove_quickly(&path, &name, Sysext, UNSIGNED);
        assert_eq!(quick.is_err(), quickly, "{offset}: {quick:?}");
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused(&node, &path, UNSIGNED, "hello.raw");
    fs::write(&path, "").unwrap();
    refused(&node, &path, UNSIGNED, "is no extension image");
    fs::write(&path, &good).unwrap();
    prove(&node, &path, Allowed::default()).unwrap();
}

#[test]
fn what_systemd_would_take_without_looking_is_refused() {
    let images = Images::new();
    let node = policy(&NodeTree::trusting());
    let extension = Extension::sysext("hello", ANY);
    let naked = images.path("hello.raw");
    extension.file_system(&naked);
    refused(&node, &naked, UNSIGNED, "is no extension image");
    fs::remove_file(&naked).unwrap();
    fs::create_dir(&naked).unwrap();
    refused(&node, &naked, UNSIGNED, "no regular file");
    let foreign = images.path("arm.raw");
    Extension::sysext("arm", "ID=_any\n").image_for(
        Architecture::Arm64,
        &foreign,
        By::Example("db"),
    );
    refused(
        &node,
        &foreign,
        UNSIGNED,
        "is for arm64, and this node is x86-64",
    );
    let missing = images.path("missing.raw");
    refused(&node, &missing, UNSIGNED, "cannot read");
}

#[test]
fn what_systemd_would_not_take_is_refused() {
    let images = Images::new();
    let node = policy(&NodeTree::trusting());
    let by = By::Example("db");
    let image = |name: &str, release: &str| {
        Extension::sysext(name, release).image(&images.path(&format!("{name}.raw")), by)
    };
    for (name, release, words) in [
        (
            "older",
            "ID=debian\nVERSION_ID=12",
            "VERSION_ID=12 is not the host's, 13",
        ),
        ("fedora", "ID=fedora\nVERSION_ID=42", "ID=fedora is neither"),
        ("silent", "VERSION_ID=13", "has no ID"),
        (
            "scope",
            "ID=_any\nSYSEXT_SCOPE=initrd",
            "does not name system",
        ),
        ("arm", "ID=_any\nARCHITECTURE=arm64", "ARCHITECTURE=arm64"),
    ] {
        refused(&node, &image(name, release), UNSIGNED, words);
        refused(
            &node,
            &images.path(&format!("{name}.raw")),
            UNSIGNED,
            "systemd 257 would ignore it",
        );
    }
    prove(
        &node,
        &image("fits", "ID=debian\nVERSION_ID=13"),
        Allowed::default(),
    )
    .unwrap();

    let path = image("hello", ANY);
    let misnamed = prove_as(&node, &path, "hello-1.2.raw", Sysext, UNSIGNED).unwrap_err();
    assert!(
        misnamed.to_string().contains("Rename the image"),
        "{misnamed}"
    );
    let system = Extension::sysext("os", ANY).with("usr/lib/os-release", "ID=x");
    refused(
        &node,
        &system.image(&images.path("os.raw"), by),
        UNSIGNED,
        "operating system",
    );
    let confext = Extension::confext("site", ANY).image(&images.path("site.raw"), by);
    refused(
        &node,
        &confext,
        UNSIGNED,
        "is a confext; use `sysgraft-agent confext`",
    );
    let proved = prove_as(
        &node,
        &confext,
        "site.confext.raw",
        Confext,
        Allowed::default(),
    );
    assert_eq!(proved.unwrap().name.as_str(), "site");
}

#[test]
fn the_kernel_must_be_able_to_read_it() {
    let images = Images::new();
    let text = "compressible ".repeat(10_000);
    let extension = Extension::sysext("hello", ANY)
        .with("usr/share/text", text)
        .packed("-zlz4hc")
        .packed("-C65536");
    let path = extension.image(&images.path("hello.raw"), By::Example("db"));
    let old = NodeTree::trusting().with("proc/sys/kernel/osrelease", "5.4.0-42-generic\n");
    refused(
        &policy(&old),
        &path,
        UNSIGNED,
        "Linux 5.4.0-42-generic lacks it",
    );
    let new = NodeTree::trusting().with("proc/sys/kernel/osrelease", "6.12.107+deb13-amd64\n");
    prove(&policy(&new), &path, Allowed::default()).unwrap();
    let bare = new.with("proc/filesystems", "nodev\tproc\n\text4\n").with(
        "lib/modules/6.12.107+deb13-amd64/modules.dep",
        "kernel/fs/xfs/xfs.ko.xz:\n",
    );
    refused(&policy(&bare), &path, UNSIGNED, "has no EROFS");
    let module = bare.with(
        "lib/modules/6.12.107+deb13-amd64/modules.dep",
        "kernel/fs/erofs/erofs.ko.xz:\n",
    );
    prove(&policy(&module), &path, Allowed::default()).unwrap();
    let plain = "CONFIG_EROFS_FS=m\n# CONFIG_EROFS_FS_ZIP is not set\n";
    let without = module.with("boot/config-6.12.107+deb13-amd64", plain);
    refused(
        &policy(&without),
        &path,
        UNSIGNED,
        "was built without CONFIG_EROFS_FS_ZIP",
    );
    // What the kernel itself says goes before its version.
    let backported = old
        .with("sys/fs/erofs/features/zero_padding", "supported")
        .with("sys/fs/erofs/features/compr_cfgs", "supported");
    prove(&policy(&backported), &path, Allowed::default()).unwrap();
}

const PLATFORM: Guid = Guid::from_u128(0x88a69775_5ad7_45d9_9f34_cec43e1f1989);
const VENDOR: Guid = Guid::from_u128(0x1111_1111_1111_1111_1111_1111_1111_1111);

/// A variable as efivarfs shows it.
fn variable(entries: &[(Guid, Guid, Vec<u8>)]) -> Vec<u8> {
    let mut database = SignatureDatabase::default();
    for (kind, owner, data) in entries {
        assert!(database.add(
            *kind,
            Entry {
                owner: *owner,
                data
            }
        ));
    }
    [&[0x27, 0, 0, 0][..], &database.encode()].concat()
}

fn efivar(name: &str, vendor: Guid) -> String {
    format!("sys/firmware/efi/efivars/{name}-{vendor}")
}

fn der(name: &str) -> Vec<u8> {
    let pem = fs::read(example(name, "pem")).unwrap();
    openssl::x509::X509::from_pem(&pem)
        .unwrap()
        .to_der()
        .unwrap()
}

/// A node whose firmware has these entries in db and dbx, and a PK of the platform's owner.
fn firmware(db: &[(Guid, Guid, Vec<u8>)], dbx: &[(Guid, Guid, Vec<u8>)]) -> NodeTree {
    let pk = Identity::p256(&Wish {
        name: "platform",
        ..PLAIN
    })
    .der();
    NodeTree::new()
        .with(
            &efivar("PK", Variable::Pk.vendor()),
            variable(&[(X509, PLATFORM, pk)]),
        )
        .with(&efivar("db", Variable::Db.vendor()), variable(db))
        .with(&efivar("dbx", Variable::Db.vendor()), variable(dbx))
}

#[test]
fn under_trusted_boot_the_firmware_vouches_for_what_its_owner_put_there() {
    let images = Images::new();
    let good = images.good();
    let microsofts = microsoft::certificates(Variable::Db)[0].to_vec();
    let db = [
        (X509, PLATFORM, der("db")),
        (X509, microsoft::OWNER, microsofts),
    ];
    let tree = firmware(&db, &[]);
    refused(&policy(&tree), &good, Allowed::default(), "trusts nobody");
    let tree = tree.with("proc/cmdline", "root=LABEL=x rd.immucore.uki quiet\n");
    let node = policy(&tree);
    assert!(node.trusted_boot() && node.requires_signatures());
    assert_eq!(node.trust().certificates().len(), 1);
    let proved = prove(&node, &good, Allowed::default()).unwrap();
    assert_eq!(proved.warnings, [""; 0]);
    let Proof::Signed { trusted_by, .. } = proved.proof else {
        panic!("not signed");
    };
    assert!(trusted_by.contains("certificate 1 of"), "{trusted_by}");
    // A variable that is broken costs nobody else.
    let broken = tree.with(
        &efivar("KEK", Variable::Kek.vendor()),
        "broken variable, and not a list",
    );
    let node = policy(&broken);
    prove(&node, &good, Allowed::default()).unwrap();
    assert!(node.notes()[0].contains("KEK-"), "{:?}", node.notes());
}

#[test]
fn revoked_and_foreign_certificates_of_the_firmware_do_not_count() {
    let certificate = sysgraft::signature::Certificate::from_der(&der("db")).unwrap();
    let digest = openssl::sha::sha256(certificate.to_be_signed());
    // As OpenSSL takes a certificate apart.
    let dated = [&digest[..], &[0; 16]].concat();
    let fingerprint = certificate.fingerprint().as_bytes().to_vec();
    let standing =
        |db: &[(Guid, Guid, Vec<u8>)], dbx: &[(Guid, Guid, Vec<u8>)], owners: &[Owner]| {
            let tree = firmware(db, dbx);
            let mut trust = Configuration::default().trust;
            trust.firmware_owners = owners.to_vec();
            let read = Firmware::read(&tree.node(257).layout, &trust);
            let found = read
                .certificates
                .iter()
                .find(|it| it.variable == Variable::Db);
            found.unwrap().standing
        };
    let platform = [Owner::Platform];
    let own = [(X509, PLATFORM, der("db"))];
    assert_eq!(standing(&own, &[], &platform), Standing::Signer);
    for revocation in [
        (X509, VENDOR, der("db")),
        (SHA_256, VENDOR, fingerprint),
        (X509_SHA_256, VENDOR, dated),
    ] {
        assert_eq!(
            standing(&own, &[revocation], &[Owner::Any]),
            Standing::Revoked
        );
    }
    let other = (X509, VENDOR, der("ec"));
    assert_eq!(standing(&own, &[other], &platform), Standing::Signer);
    let vendors = [(X509, VENDOR, der("db"))];
    assert_eq!(standing(&vendors, &[], &platform), Standing::OtherOwner);
    assert_eq!(
        standing(&vendors, &[], &[Owner::Guid(VENDOR)]),
        Standing::Signer
    );
    for owner in [microsoft::OWNER, PLATFORM] {
        let theirs = [(
            X509,
            owner,
            microsoft::certificates(Variable::Db)[0].to_vec(),
        )];
        assert_eq!(standing(&theirs, &[], &platform), Standing::Microsoft);
        assert_eq!(standing(&theirs, &[], &[Owner::Any]), Standing::Signer);
    }
}

#[test]
fn trusted_boot_is_seen_by_what_was_booted() {
    let is_trusted_boot = |tree: &NodeTree| policy(tree).trusted_boot();
    let loader: Guid = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f".parse().unwrap();
    let secure_boot = efivar("SecureBoot", Variable::Pk.vendor());
    assert!(!is_trusted_boot(&NodeTree::new()));
    assert!(is_trusted_boot(
        &NodeTree::new().with("run/cos/uki_boot_mode", "1")
    ));
    let other = NodeTree::new().with("proc/cmdline", "rd.immucore.ukiless ro");
    assert!(!is_trusted_boot(&other));
    // Secure Boot alone has shim and GRUB behind it.
    let shim = NodeTree::new().with(&secure_boot, [6, 0, 0, 0, 1]);
    assert!(!is_trusted_boot(&shim));
    let stub = shim.with(&efivar("StubInfo", loader), "systemd-stub 257");
    assert!(is_trusted_boot(&stub));
    assert!(!is_trusted_boot(&stub.with(&secure_boot, [6, 0, 0, 0, 0])));
}
