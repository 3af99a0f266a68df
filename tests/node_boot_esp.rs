//! What `sysgraft-agent boot` takes from the firmware: extensions on the EFI system partition, and
//! certificates.

#[path = "support/booted.rs"]
mod booted;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use booted::{Booted, CONFEXTS, STORE, image, links};
use openssl::x509::X509;
use serde_json::Value;
use sysgraft::efi::signature_list::{Entry, X509 as X509_LIST};
use sysgraft::efi::{Guid, SignatureDatabase};
use sysgraft::node::Node;
use sysgraft::node::boot_state::BootState;
use sysgraft::node::configuration::Configuration;
use sysgraft::node::layout::{DEFAULT_STATE_DIR, Layout};
use sysgraft::node::policy::Policy;
use sysgraft::secureboot::microsoft;

const ACTIVE: &str = "efi/EFI/kairos/active.efi.extra.d";
const PASSIVE: &str = "efi/EFI/kairos/passive.efi.extra.d";

/// A node that booted its active system, with an EFI system partition.
fn node(options: &str) -> Booted {
    let node = Booted::new();
    node.write("run/cos/active_mode", "1");
    mount(&node, options);
    node
}

fn mount(node: &Booted, options: &str) {
    let point = node.path("efi");
    let line = format!(
        "36 1 8:1 / {} {options} - vfat /dev/sda1 rw\n",
        point.display()
    );
    node.write("proc/self/mountinfo", line);
}

fn put(node: &Booted, folder: &str, name: &str, image: PathBuf) -> PathBuf {
    fs::create_dir_all(node.path(folder)).unwrap();
    let path = node.path(folder).join(name);
    fs::copy(image, &path).unwrap();
    path
}

fn next_boot(node: &Booted, id: &str) {
    node.boot_id(id).write("run/cos/active_mode", "1");
}

fn records(node: &Booted) -> Value {
    let records = fs::read(node.path(STORE).join(".sysgraft/records.json")).unwrap();
    serde_json::from_slice(&records).unwrap()
}

#[test]
fn i10_both_kinds_are_taken_over_once_and_leave_the_partition() {
    let node = node("rw");
    let found = [
        put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw")),
        put(&node, PASSIVE, "a.sysext.raw", image("a.sysext.raw")),
        put(&node, ACTIVE, "c.confext.raw", image("c.confext.raw")),
    ];
    let credential = put(&node, ACTIVE, "x.cred", image("a.sysext.raw"));
    let told = node.boot();
    assert_eq!(
        told.json["takenOver"].as_array().unwrap().len(),
        3,
        "{}",
        told.json
    );
    assert_eq!(
        told.linked(),
        ["a.sysext.raw", "c.confext.raw"],
        "{}",
        told.json
    );
    assert!(found.iter().all(|path| !path.exists()));
    assert!(credential.exists());
    for profile in ["active", "passive"] {
        let link = ("a.sysext.raw".to_owned(), "../a.sysext.raw".to_owned());
        assert_eq!(links(&node.path(STORE).join(profile)), [link]);
    }
    assert!(node.path(CONFEXTS).join("c.confext.raw").is_file());
    let record = &records(&node)["artefacts"]["a.sysext.raw"];
    assert_eq!(record["name"], "a");
    assert_eq!(record["proof"]["is"], "signed");
    assert!(
        record["source"]
            .as_str()
            .unwrap()
            .starts_with("esp:/efi/EFI/kairos/")
    );
    let staging = node.path(STORE).join(".sysgraft/staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn i11_what_was_taken_over_is_not_copied_again_at_each_boot() {
    let node = node("ro");
    let found = put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
    let told = node.boot();
    assert!(found.exists());
    assert!(
        told.notes().contains("mounted read-only"),
        "{}",
        told.notes()
    );
    assert_eq!(told.json["takenOver"].as_array().unwrap().len(), 1);
    // What the user does with it afterwards counts.
    fs::remove_file(node.path(STORE).join("active/a.sysext.raw")).unwrap();
    next_boot(&node, "second");
    let told = node.boot();
    assert_eq!(told.json["takenOver"].as_array().unwrap().len(), 0);
    assert_eq!(told.linked(), [""; 0]);
    // Something else under the name is new.
    put(&node, ACTIVE, "a.sysext.raw", image("b.sysext.raw"));
    let told = node.boot();
    assert!(
        told.reason("/efi/EFI/kairos/active.efi.extra.d/a.sysext.raw")
            .contains("release")
    );
    // Once it can be removed, it is.
    put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
    node.boot();
    mount(&node, "rw");
    node.boot();
    assert!(!found.exists());
    assert!(
        !fs::read_to_string(node.path("var/lib/kairos/.sysgraft/taken-over.json"))
            .unwrap()
            .contains("a.sysext.raw")
    );
}

#[test]
fn what_does_not_prove_stays_on_the_partition_and_is_told() {
    let node = node("rw");
    let mut damaged = fs::read(image("b.sysext.raw")).unwrap();
    let middle = (1 << 20) + 600;
    damaged[middle] ^= 1;
    node.write("damaged", damaged);
    let bad = [
        (
            "stranger.sysext.raw",
            image("stranger.sysext.raw"),
            "certificate",
        ),
        ("plain.sysext.raw", image("plain.sysext.raw"), "not signed"),
        ("b.sysext.raw", node.path("damaged"), "damaged"),
        (
            "b b;rm -rf x.sysext.raw",
            image("b.sysext.raw"),
            "cannot be the file name",
        ),
        (
            "b\nb.sysext.raw",
            image("b.sysext.raw"),
            "cannot be the file name",
        ),
    ];
    for (name, image, _) in &bad {
        put(&node, ACTIVE, name, image.clone());
    }
    put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
    let folder = node.path(ACTIVE).join("folder.sysext.raw");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", node.path(ACTIVE).join("link.sysext.raw")).unwrap();
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    for (name, _, reason) in bad {
        assert!(node.path(ACTIVE).join(name).exists());
        let shown = format!(
            "/efi/EFI/kairos/active.efi.extra.d/{}",
            name.replace('\n', "\\n")
        );
        let told = told.reason(&shown);
        assert!(told.contains(reason), "{name:?}: {told}");
    }
    for name in ["folder.sysext.raw", "link.sysext.raw"] {
        let shown = format!("/efi/EFI/kairos/active.efi.extra.d/{name}");
        assert!(
            told.reason(&shown).contains("cannot be copied"),
            "{}",
            told.json
        );
    }
    assert_eq!(links(&node.path(STORE).join("active")).len(), 1);
}

#[test]
fn another_extension_of_the_same_file_name_is_kept() {
    let node = node("rw");
    let name = "a.sysext.raw";
    // Somebody has put one there, which nobody has enabled.
    fs::copy(image("plain.sysext.raw"), node.path(STORE).join(name)).unwrap();
    put(&node, ACTIVE, name, image(name));
    put(&node, PASSIVE, name, image("a2/a.sysext.raw"));
    let told = node.boot();
    assert_eq!(told.json["takenOver"].as_array().unwrap().len(), 2);
    let content = |file: &str| fs::read(node.path(STORE).join(file)).unwrap();
    let image = |name| fs::read(image(name)).unwrap();
    assert_eq!(content(name), image("plain.sysext.raw"));
    for (profile, expected) in [("active", "a.sysext.raw"), ("passive", "a2/a.sysext.raw")] {
        let linked = links(&node.path(STORE).join(profile));
        assert_eq!(linked.len(), 1, "{linked:?}");
        assert_eq!(content(&linked[0].0), image(expected), "{profile}");
        assert!(records(&node)["artefacts"][&linked[0].0]["digest"].is_string());
    }
    assert_eq!(node.live_names(), [name]);
}

#[test]
fn only_a_system_that_lasts_takes_over() {
    for (sentinel, mounts, reason) in [
        ("recovery_mode", "", "this is the recovery system"),
        ("autoreset_mode", "", "this is the recovery system"),
        ("live_mode", "", "this is the live system"),
        ("active_mode", "tmpfs", "(tmpfs) that a reboot empties"),
        ("active_mode", "overlay", "(overlay) that a reboot empties"),
    ] {
        let node = node("rw");
        fs::remove_dir_all(node.path("run/cos")).unwrap();
        node.write(&format!("run/cos/{sentinel}"), "1");
        if !mounts.is_empty() {
            let before = fs::read_to_string(node.path("proc/self/mountinfo")).unwrap();
            let point = node.path("var/lib/kairos").canonicalize().unwrap();
            let line = format!("40 1 0:7 / {} rw - {mounts} x rw\n", point.display());
            node.write("proc/self/mountinfo", before + &line);
        }
        let found = put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
        let told = node.boot();
        assert!(found.exists(), "{sentinel} {mounts}");
        assert!(told.notes().contains(reason), "{}", told.notes());
        assert!(!node.path(STORE).join("a.sysext.raw").exists());
    }
}

#[test]
fn what_stays_on_the_partition_is_not_written_to_the_store_again() {
    let node = node("ro");
    put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
    put(
        &node,
        ACTIVE,
        "stranger.sysext.raw",
        image("stranger.sysext.raw"),
    );
    let mut damaged = fs::read(image("b.sysext.raw")).unwrap();
    damaged[(1 << 20) + 600] ^= 1;
    node.write("damaged", damaged);
    put(&node, ACTIVE, "b.sysext.raw", node.path("damaged"));
    node.boot();
    // A staging folder in which nothing can be made tells of every copy.
    let staging = node.path(STORE).join(".sysgraft/staging");
    fs::remove_dir(&staging).unwrap();
    node.write(&format!("{STORE}/.sysgraft/staging/esp-a.sysext.raw/x"), "");
    let before = fs::metadata(&staging).unwrap().modified().unwrap();
    next_boot(&node, "second");
    let told = node.boot();
    assert_eq!(fs::metadata(&staging).unwrap().modified().unwrap(), before);
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    let reason = told.reason(&format!("/{ACTIVE}/b.sysext.raw"));
    assert!(reason.contains("damaged"), "{reason}");
    // What cannot be read at one boot is not forgotten at the next.
    let notes = "var/lib/kairos/.sysgraft/taken-over.json";
    let known = fs::read(node.path(notes)).unwrap();
    let found = node.path(ACTIVE).join("a.sysext.raw");
    fs::rename(&found, node.path("aside")).unwrap();
    fs::create_dir(&found).unwrap();
    node.boot();
    assert_eq!(fs::read(node.path(notes)).unwrap(), known);
}

#[test]
fn a_partition_that_is_not_mounted_is_left_alone() {
    let node = Booted::new();
    node.write("run/cos/active_mode", "1");
    let found = put(&node, ACTIVE, "a.sysext.raw", image("a.sysext.raw"));
    for mountinfo in [
        String::new(),
        format!(
            "36 1 0:9 / {} rw - autofs systemd-1 rw\n",
            node.path("efi").display()
        ),
        "nonsense\n".to_owned(),
    ] {
        node.write("proc/self/mountinfo", mountinfo);
        assert_eq!(node.boot().linked(), [""; 0]);
        assert!(found.exists());
    }
}

/// A file of efivarfs.
fn variable(entries: &[(Guid, &[u8])]) -> Vec<u8> {
    let mut database = SignatureDatabase::default();
    for (owner, data) in entries {
        let owner = *owner;
        assert!(database.add(X509_LIST, Entry { owner, data }));
    }
    let mut bytes = vec![7, 0, 0, 0];
    bytes.extend(database.encode());
    bytes
}

#[test]
fn i7_only_certificates_of_the_platforms_owner_are_given_to_systemd() {
    const EFIVARS: &str = "sys/firmware/efi/efivars";
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    const SECURITY: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    let der = |path| {
        let pem = X509::from_pem(&fs::read(path).unwrap()).unwrap();
        pem.to_der().unwrap()
    };
    let (ours, theirs) = (der("keys-example/db.pem"), der("keys-example/ec.pem"));
    let (owner, other) = (Guid::from_u128(1), Guid::from_u128(2));
    let node = Booted::new();
    fs::remove_file(node.path("etc/verity.d/db.crt")).unwrap();
    node.write("run/cos/uki_boot_mode", "1")
        .write(
            &format!("{EFIVARS}/PK-{GLOBAL}"),
            variable(&[(owner, &theirs)]),
        )
        .write(&format!("{EFIVARS}/KEK-{GLOBAL}"), "no signature lists")
        .write(
            &format!("{EFIVARS}/db-{SECURITY}"),
            variable(&[
                (owner, &ours),
                (other, &theirs),
                (microsoft::OWNER, &theirs),
            ]),
        )
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(
            &image("stranger.sysext.raw"),
            "stranger.sysext.raw",
            "common",
        );
    let told = node.boot();
    assert_eq!(told.json["trustedBoot"], true);
    assert_eq!(told.linked(), ["a.sysext.raw"], "{}", told.json);
    let certificates = told.json["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 1, "{certificates:?}");
    let name = certificates[0].as_str().unwrap().trim_start_matches('/');
    let written = fs::read(node.path(name)).unwrap();
    assert_eq!(X509::from_pem(&written).unwrap().to_der().unwrap(), ours);
    let mode = fs::metadata(node.path(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    // One unreadable variable cost nothing but a note.
    assert!(told.notes().contains("KEK-"), "{}", told.notes());
    // The same certificate has the same name, and one that is gone is taken back.
    assert_eq!(node.boot().json["certificates"], told.json["certificates"]);
    node.write(
        &format!("{EFIVARS}/db-{SECURITY}"),
        variable(&[(other, &ours)]),
    );
    let told = node.boot();
    assert_eq!(told.json["certificates"].as_array().unwrap().len(), 0);
    assert!(!node.path(name).exists());
    assert_eq!(told.linked(), [""; 0]);
    assert_eq!(node.live_names(), [""; 0]);
}

#[test]
fn what_kairos_copies_out_of_the_firmware_counts_only_if_it_may_vouch() {
    const EFIVARS: &str = "sys/firmware/efi/efivars";
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    const SECURITY: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    let pem = |name: &str| fs::read(format!("keys-example/{name}.pem")).unwrap();
    let der = |name| X509::from_pem(&pem(name)).unwrap().to_der().unwrap();
    let owner = Guid::from_u128(1);
    let node = Booted::new();
    fs::remove_dir_all(node.path("etc/verity.d")).unwrap();
    node.write("run/cos/uki_boot_mode", "1")
        .write(
            &format!("{EFIVARS}/PK-{GLOBAL}"),
            variable(&[(owner, &der("db"))]),
        )
        .write(
            &format!("{EFIVARS}/db-{SECURITY}"),
            variable(&[(owner, &der("db")), (microsoft::OWNER, &der("ec"))]),
        )
        .write("run/verity.d/PK0.crt", pem("db"))
        .write("run/verity.d/DB1.crt", pem("ec"))
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(
            &image("stranger.sysext.raw"),
            "stranger.sysext.raw",
            "common",
        );
    let layout = Layout::new(node.path(""), DEFAULT_STATE_DIR);
    let this = Node {
        boot_state: BootState::Plain,
        systemd: None,
        layout,
        configuration: Configuration::default(),
    };
    let policy = Policy::load(&this, &[]).unwrap();
    assert_eq!(policy.trust().certificates().len(), 1);
    let notes = policy.notes().join("\n");
    assert!(
        notes.contains("DB1.crt does not count: the certificate is Microsoft's"),
        "{notes}"
    );
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"], "{}", told.json);
    assert!(!node.path("run/verity.d/DB1.crt").exists());
    assert!(node.path("run/verity.d/PK0.crt").exists());
    let notes = told.notes();
    assert!(
        notes.contains("/run/verity.d/DB1.crt is removed"),
        "{notes}"
    );
    // Somebody who lays it where it stays trusts it.
    node.write("etc/verity.d/mine.crt", pem("ec"));
    let mut linked: Vec<String> = node
        .boot()
        .linked()
        .iter()
        .map(|it| (*it).to_owned())
        .collect();
    linked.sort();
    assert_eq!(linked, ["a.sysext.raw", "stranger.sysext.raw"]);
}
