//! `sysgraft verify`: what is proved, and what every kind of damage and distrust is called.

#[path = "support/authority.rs"]
mod authority;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use authority::{Identity, PLAIN};
use proptest::prelude::*;
use serde_json::Value;
use support::skip;
use sysgraft::image::{Ddi, Role};
use sysgraft::signature::trust::TrustStore;
use sysgraft::signature::{PemSigner, SignaturePartition, sign_root_hash};
use sysgraft::verification::{Check, Progress, Request, Trust, verify};
use workplace::{EC, RSA, Workplace, build, sysgraft, text};

const DB: &str = "keys-example/db.pem";

/// Runs `sysgraft verify`.
fn run<S: AsRef<std::ffi::OsStr>>(image: &Path, arguments: &[S]) -> Output {
    sysgraft(["verify"])
        .args(arguments)
        .arg(image)
        .output()
        .unwrap()
}

/// What `--json` says of one image, after a look at the exit code.
fn facts<S: AsRef<std::ffi::OsStr>>(image: &Path, arguments: &[S]) -> Value {
    let output = sysgraft(["verify", "--json"])
        .args(arguments)
        .arg(image)
        .output()
        .unwrap();
    let all: Value = serde_json::from_slice(&output.stdout).expect(&text(&output.stderr));
    let facts = all[0].clone();
    let code = if facts["proved"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{facts:#}");
    facts
}

/// Every check that did not pass, with its problem.
fn problems(facts: &Value) -> Vec<(&str, &str)> {
    let checks = facts["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["outcome"] == "failed")
        .map(|check| {
            (
                check["check"].as_str().unwrap(),
                check["problem"].as_str().unwrap(),
            )
        })
        .collect()
}

fn outcome<'a>(facts: &'a Value, name: &str) -> &'a str {
    let checks = facts["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == name).unwrap();
    check["outcome"].as_str().unwrap()
}

/// A signed image of some 300 blocks, as file and in memory, with where its partitions lie.
struct Sample {
    workplace: Workplace,
    image: PathBuf,
    bytes: Vec<u8>,
    data: Range<usize>,
    hash: Range<usize>,
    signature: Range<usize>,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let workplace = Workplace::new();
        let root = workplace.small_tree();
        let noise: Vec<u8> = (0..300 * 4096_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        fs::write(root.join("usr/bin/noise"), noise).unwrap();
        let source = format!("dir:{}", root.display());
        build(&workplace, &[&RSA[..], &["sample", &source]].concat());
        let image = workplace.out().join("sample.sysext.raw");
        let ddi = Ddi::open(&image).unwrap();
        let range = |role| {
            let partition = ddi.partition(role).unwrap();
            let start = partition.offset as usize;
            start..start + partition.size as usize
        };
        Sample {
            bytes: fs::read(&image).unwrap(),
            data: range(Role::Data),
            hash: range(Role::Hash),
            signature: range(Role::Signature),
            workplace,
            image,
        }
    })
}

impl Sample {
    /// A changed copy, under the right name in a folder of its own.
    fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.sysext.raw");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// What `verify` says of a changed copy.
    fn facts(&self, change: impl FnOnce(&mut Vec<u8>)) -> Value {
        let (_folder, path) = self.changed(change);
        facts(&path, &["--certificate", DB])
    }

    /// A copy with another signature.
    fn with_signature(&self, change: impl FnOnce(&mut SignaturePartition)) -> Value {
        self.facts(|bytes| {
            let mut partition = SignaturePartition::parse(&bytes[self.signature.clone()]).unwrap();
            change(&mut partition);
            bytes[self.signature.clone()].copy_from_slice(&partition.encode().unwrap());
        })
    }
}

/// Makes the checksums of both copies of the partition table right, after the first was changed.
fn mend(bytes: &mut [u8]) {
    let end = bytes.len();
    let entries = bytes[1024..1024 + 128 * 128].to_vec();
    bytes[end - 33 * 512..end - 512].copy_from_slice(&entries);
    for header in [512, end - 512] {
        let header = &mut bytes[header..header + 92];
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        header[16..20].fill(0);
        let checksum = crc32fast::hash(header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn golden(name: &str, called: &str) -> (tempfile::TempDir, PathBuf) {
    let file = fs::File::open(format!("tests/golden/{name}.raw.zst")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{called}.raw"));
    fs::write(&path, zstd::decode_all(file).unwrap()).unwrap();
    (folder, path)
}

#[test]
fn images_of_systemd_repart_are_proved() {
    for (name, called, key) in [
        ("large-rsa.sysext", "large.sysext", "rsa"),
        ("large-ec.sysext", "large.sysext", "ec"),
        ("small-rsa.sysext", "small", "rsa"),
        ("small-ec.sysext", "small_1.2+3.sysext", "ec"),
        ("conf-rsa.confext", "conf.confext", "rsa"),
    ] {
        let (_folder, path) = golden(name, called);
        let certificate = format!("tests/golden/keys/{key}.crt");
        let said = facts(&path, &["--certificate", &certificate]);
        assert_eq!(problems(&said), [], "{name}");
        assert_eq!(said["warnings"].as_array().unwrap().len(), 0, "{said:#}");
        let said = facts(&path, &["--trust", "tests/golden/keys"]);
        assert_eq!(problems(&said), [], "{name}");
    }
    let (_folder, path) = golden("small-unsigned.sysext", "small");
    let said = facts(&path, &["--trust", "tests/golden/keys"]);
    assert_eq!(problems(&said), [("signature", "the image is not signed")]);
    let said = facts(&path, &["--ignore-signature"]);
    assert_eq!(problems(&said), []);
    assert_eq!(outcome(&said, "signature"), "notAsked");
}

#[test]
fn our_images_are_proved_to_us_and_to_others() {
    let workplace = Workplace::new();
    let source = format!("dir:{}", workplace.small_tree().display());
    for (key, certificate) in [(RSA, DB), (EC, "keys-example/ec.pem")] {
        build(&workplace, &[&key[..], &["hello", &source]].concat());
        let image = workplace.out().join("hello.sysext.raw");
        let output = run(&image, &["--certificate", certificate]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(
            said.contains("proved: every block is as CN=sysgraft"),
            "{said}"
        );
        let judged = Command::new("examples/check-image")
            .arg(&image)
            .arg(certificate)
            .output()
            .unwrap();
        let verdicts = text(&judged.stdout);
        for peer in ["veritysetup", "openssl"] {
            let accepted = format!("accepted  {peer}");
            if !verdicts.contains(&accepted) {
                assert!(judged.status.success(), "{verdicts}");
                skip("our_images_are_proved_to_us_and_to_others", &verdicts);
            }
        }
    }
}

#[test]
fn every_kind_of_damage_has_its_name() {
    let sample = sample();
    let flip = |place: usize| move |bytes: &mut Vec<u8>| bytes[place] ^= 1;
    let said = |change: &dyn Fn(&mut Vec<u8>)| {
        let facts = sample.facts(|bytes| change(bytes));
        let problems = problems(&facts);
        let problems = problems.iter();
        problems
            .map(|(check, problem)| format!("{check}: {problem}"))
            .collect::<Vec<_>>()
    };
    let expect = |change: &dyn Fn(&mut Vec<u8>), expected: &[&str]| {
        let said = said(change);
        assert_eq!(
            said.len(),
            expected.len(),
            "{said:#?}, expected {expected:#?}"
        );
        for (said, expected) in said.iter().zip(expected) {
            let (check, words) = expected.split_once(": ").unwrap();
            assert!(said.starts_with(check), "{said}");
            assert!(said.contains(words), "{said}, expected {expected}");
        }
    };
    expect(&|_| (), &[]);
    let (data, hash) = (&sample.data, &sample.hash);
    // Behind superblock and root directory, so that the release file can be read.
    let block = 150;
    let place = format!(
        "blocks: data block {block} is damaged (4096 bytes at offset {}",
        block * 4096
    );
    expect(&flip(data.start + block * 4096 + 5), &[&place]);
    expect(
        &flip(hash.start + 2 * 4096),
        &["blocks: hash block 2 of the hash partition"],
    );
    expect(
        &flip(hash.start + 4096),
        &["blocks: the hash tree has the root hash"],
    );
    // Magic, salt, number of data blocks.
    expect(&flip(hash.start), &["blocks: no verity superblock"]);
    expect(
        &flip(hash.start + 90),
        &["blocks: the hash tree has the root hash"],
    );
    expect(
        &flip(hash.start + 75),
        &["blocks: its verity superblock speaks of"],
    );

    let end = sample.bytes.len();
    let first = "partitionTable: the copy at the start is missing or damaged";
    let last = "partitionTable: the copy at the end is missing, damaged or different";
    expect(&flip(512 + 60), &[first]);
    expect(&flip(1024 + 40), &[first]);
    expect(&flip(end - 512 + 60), &[last]);
    expect(&flip(end - 33 * 512), &[last]);
    expect(&|bytes| bytes.extend([0; 512]), &[last]);
    let both = |bytes: &mut Vec<u8>| {
        bytes[512 + 60] ^= 1;
        bytes[end - 512 + 60] ^= 1;
    };
    expect(&both, &["partitionTable: no intact GUID partition table"]);
    expect(
        &flip(450),
        &["partitionTable: the protective MBR is missing"],
    );
    for length in [end - 1, end / 2, 20_000] {
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(length);
        expect(&cut, &["partitionTable: the image is cut short"]);
    }
    expect(&Vec::clear, &["partitionTable: the file is too short"]);

    let json = sample.signature.start;
    expect(&flip(json), &["signature: JSON is unusable"]);
    expect(
        &flip(sample.signature.end - 1),
        &["signature: more than NUL bytes"],
    );
    // A digit of the root hash: "rootHash":" takes 13 bytes.
    expect(
        &flip(json + 13),
        &[
            "rootHash: contradicts itself",
            "blocks: root hash",
            "signature: ",
        ],
    );
}

#[test]
fn partitions_in_each_others_place_are_found_out() {
    let sample = sample();
    let swap = |range: Range<usize>| {
        sample.facts(|bytes| {
            let (first, second) = bytes[1024..1024 + 256].split_at_mut(128);
            first[range.clone()].swap_with_slice(&mut second[range]);
            mend(bytes);
        })
    };
    let no_tree = "does not begin with 'verity'";
    for (what, range, expected) in [
        ("types", 0..16, ["contradicts itself", no_tree]),
        ("places", 32..48, [no_tree, "there is no EROFS file system"]),
    ] {
        let said = swap(range);
        let found = problems(&said);
        for (problem, expected) in found.iter().zip(expected) {
            assert!(problem.1.contains(expected), "{what}: {found:#?}");
        }
    }
    let identities = swap(16..32);
    let found = problems(&identities);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].1.contains("contradicts itself"), "{found:#?}");

    // Two data partitions.
    let several = sample.facts(|bytes| {
        let data: [u8; 16] = bytes[1024..1040].try_into().unwrap();
        bytes[1024 + 128..1024 + 144].copy_from_slice(&data);
        mend(bytes);
    });
    let found = problems(&several);
    assert!(
        found[0].1.contains("more than one data partition"),
        "{found:#?}"
    );
    assert_eq!(found.len(), 1);
    assert_eq!(outcome(&several, "blocks"), "impossible");
}

#[test]
fn signatures_of_others_do_not_count() {
    let sample = sample();
    let refusal = |arguments: &[&str]| {
        let said = facts(&sample.image, arguments);
        let found = problems(&said);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].0, "signature");
        found[0].1.to_owned()
    };
    let said = refusal(&["--certificate", "keys-example/ec.pem"]);
    assert!(said.contains("by CN=sysgraft example"), "{said}");
    assert!(said.contains("is not trusted"), "{said}");

    // The same subject and serial number, another key.
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (Identity::p256(&PLAIN), Identity::p256(&PLAIN));
    let (_, trusted) = trusted.write(folder.path(), "trusted").unwrap();
    let (key, certificate) = stranger.write(folder.path(), "stranger").unwrap();
    let stranger = PemSigner::load(&key, &certificate, None).unwrap();
    let (_folder, path) = sample.changed(|bytes| {
        let partition = SignaturePartition::parse(&bytes[sample.signature.clone()]).unwrap();
        let pkcs7 = sign_root_hash(&stranger, &partition.root_hash).unwrap();
        let partition = SignaturePartition { pkcs7, ..partition };
        bytes[sample.signature.clone()].copy_from_slice(&partition.encode().unwrap());
    });
    let said = facts(&path, &["--certificate", trusted.to_str().unwrap()]);
    let found = problems(&said);
    assert!(
        found[0].1.contains("by another key than CN=somebody"),
        "{found:?}"
    );

    let said = refusal(&[]);
    assert!(said.contains("no trusted certificate is given"), "{said}");
    let output = run::<&str>(&sample.image, &[]);
    let said = text(&output.stdout);
    assert!(
        said.contains("NOT PROVED: it is intact, but its signature was not judged"),
        "{said}"
    );
    assert!(said.contains("--ignore-signature"), "{said}");
    assert_eq!(output.status.code(), Some(1));

    let said = sample.with_signature(|partition| *partition.pkcs7.last_mut().unwrap() ^= 1);
    assert!(problems(&said)[0].1.contains("it was damaged"), "{said:#}");
    let said = sample.with_signature(|partition| partition.pkcs7 = b"none".to_vec());
    assert!(
        problems(&said)[0].1.contains("no PKCS#7 structure"),
        "{said:#}"
    );
    let other = sample.workplace.path("other");
    fs::create_dir_all(other.join("usr/bin")).unwrap();
    let source = format!("dir:{}", other.display());
    build(&sample.workplace, &[&RSA[..], &["other", &source]].concat());
    let other = Ddi::open(&sample.workplace.out().join("other.sysext.raw")).unwrap();
    let other = other.signature.unwrap();
    let said = sample.with_signature(|partition| partition.pkcs7 = other.pkcs7.clone());
    assert!(
        problems(&said)[0].1.contains("over something else"),
        "{said:#}"
    );
    let said = sample.with_signature(|partition| *partition = other.clone());
    assert!(
        problems(&said)[0].1.contains("contradicts itself"),
        "{said:#}"
    );

    // What nobody looks at is no reason to refuse, but to wonder.
    let said = sample.with_signature(|partition| {
        partition.certificate_fingerprint = Some(sysgraft::digest::Digest::of(b"other"));
    });
    assert_eq!(problems(&said), []);
    let warning = said["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("names the certificate sha256:"),
        "{warning}"
    );
}

/// One that repart would not make, but `openssl smime` without options.
#[test]
fn a_signature_for_some_hosts_only_is_refused_unless_they_are_meant() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("root-hash");
    let partition = SignaturePartition::parse(&sample.bytes[sample.signature.clone()]).unwrap();
    fs::write(&content, partition.root_hash.to_string()).unwrap();
    let signed = Command::new("openssl")
        .args(["smime", "-sign", "-binary", "-outform", "der"])
        .args(["-inkey", "keys-example/db.key", "-signer", DB, "-in"])
        .arg(&content)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    let (_folder, path) = sample.changed(|bytes| {
        let partition = SignaturePartition {
            pkcs7: signed.stdout,
            ..partition
        };
        bytes[sample.signature.clone()].copy_from_slice(&partition.encode().unwrap());
    });
    for (who, proved) in [("both", false), ("kernel", false), ("systemd", true)] {
        let said = facts(&path, &["--certificate", DB, "--verifier", who]);
        assert_eq!(said["proved"], proved, "{said:#}");
        assert_eq!(said["systemd"]["accepted"], true);
        let problem = said["kernel"]["problem"].as_str().unwrap();
        assert!(problem.contains("S/MIME capabilities"), "{problem}");
        if proved {
            let warning = said["warnings"][0].as_str().unwrap();
            assert!(warning.starts_with("the kernel refuses"), "{warning}");
        }
    }
    let inspected = sysgraft(["inspect"]).arg(&path).output().unwrap();
    let said = text(&inspected.stdout);
    assert!(
        said.contains("NOT FOR EVERY HOST: it has signed attributes"),
        "{said}"
    );
    let inspected = sysgraft(["inspect", "--json"]).arg(&path).output().unwrap();
    let said: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(said["signature"]["objections"].as_array().unwrap().len(), 1);
}

#[test]
fn the_name_must_be_that_of_the_release_file() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    for (name, words) in [
        ("sample.raw", ""),
        ("sample.sysext.raw", ""),
        ("sample_1.2.raw", ""),
        ("sample+3-0.sysext.raw", ""),
        ("sample.raw.v/sample_1.2_x86-64.raw", ""),
        ("other.v/sample_1.raw", ""),
        (
            "sample-1.2.raw",
            "demands usr/lib/extension-release.d/extension-release.sample-1.2",
        ),
        (
            "other.raw",
            "there is extension-release.sample. Rename the image",
        ),
        (
            "other.raw.v/other_1.raw",
            "demands usr/lib/extension-release.d/extension-release.other,",
        ),
        ("sample.confext.raw", "it has no release file"),
        (
            "sample.img",
            "\"sample.img\" is no name of an extension image",
        ),
        (".raw", "is no name"),
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(&sample.image, &path).unwrap();
        let said = facts(&path, &["--certificate", DB]);
        if words.is_empty() {
            assert_eq!(problems(&said), [], "{name}");
            let expected = if name.starts_with("other") {
                "sample_1"
            } else {
                said["name"].as_str().unwrap()
            };
            assert_eq!(said["name"], expected);
        } else {
            let found = problems(&said);
            assert_eq!(found[0].0, "release");
            assert!(found[0].1.contains(words), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_host_decides_by_the_release_file() {
    let workplace = Workplace::new();
    let root = workplace.small_tree();
    let source = format!("dir:{}", root.display());
    build(
        &workplace,
        &[&RSA[..], &["x", &source, "--arch", "amd64"]].concat(),
    );
    let image = workplace.out().join("x.sysext.raw");
    let host = workplace.path("os-release");
    let judge = |os_release: &str, more: &[&str]| {
        fs::write(&host, os_release).unwrap();
        let arguments = [
            &["--certificate", DB, "--os-release", host.to_str().unwrap()],
            more,
        ]
        .concat();
        facts(&image, &arguments)
    };
    let amd64 = ["--architecture", "x86-64"];
    assert_eq!(problems(&judge("ID=debian\nVERSION_ID=13\n", &amd64)), []);
    let said = judge("ID=debian\nVERSION_ID=13\n", &["--arch", "arm64"]);
    let found = problems(&said);
    assert_eq!(found[0].0, "host");
    assert!(
        found[0]
            .1
            .contains("ARCHITECTURE=x86-64 is not the host's, arm64"),
        "{found:?}"
    );
    let warning = said["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("its partitions are for x86-64"),
        "{warning}"
    );
    let said = judge("ID=debian\nARCHITECTURE=riscv64\n", &[]);
    assert!(problems(&said)[0].1.contains("riscv64"), "{said:#}");

    let output = run(&image, &["--os-release", "/nowhere/os-release"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/os-release"));
}

#[test]
fn certificates_come_from_whatever_holds_them() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let certificate = openssl::x509::X509::from_pem(&fs::read(DB).unwrap()).unwrap();
    let der = certificate.to_der().unwrap();
    fs::write(path("db.der"), &der).unwrap();
    let mut list = uuid::uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
        .to_bytes_le()
        .to_vec();
    for number in [28 + 16 + der.len(), 0, 16 + der.len()] {
        list.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    list.extend([1; 16]);
    list.extend(&der);
    fs::write(path("db.esl"), &list).unwrap();
    let variable = path("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    fs::write(&variable, [&[0x27, 0, 0, 0], &list[..]].concat()).unwrap();
    for file in [path("db.der"), path("db.esl"), variable] {
        let said = facts(&sample.image, &["--certificate", &file]);
        assert_eq!(problems(&said), [], "{file}");
        let from = said["kernel"]["trustedBy"].as_str().unwrap();
        assert!(from.ends_with(&file), "{from}");
    }

    // In a folder only PEM counts, and the reason is told.
    let trusted = path("verity.d");
    fs::create_dir(&trusted).unwrap();
    fs::write(path("verity.d/db.crt"), &der).unwrap();
    let output = run(&sample.image, &["--trust", &trusted]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("warning:") && stderr.contains("db.crt does not begin"),
        "{stderr}"
    );
    fs::copy(DB, path("verity.d/db.crt")).unwrap();
    assert!(run(&sample.image, &["--trust", &trusted]).status.success());

    for (flag, name) in [("--certificate", "gone.pem"), ("--trust", "gone")] {
        let output = run(&sample.image, &[flag, &path(name)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(&path(name)),
            "{}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn several_images_are_judged_one_by_one() {
    let sample = sample();
    let (_folder, damaged) = sample.changed(|bytes| bytes[sample.data.end - 4096] ^= 1);
    let output = sysgraft(["verify", "--json", "--certificate", DB, "--jobs", "2"])
        .args([&sample.image, &damaged, Path::new("/nowhere/x.raw")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let proved: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|facts| &facts["proved"])
        .collect();
    assert_eq!(proved, [true, false, false]);
    assert!(
        problems(&all[2])[0]
            .1
            .contains("cannot read /nowhere/x.raw")
    );
    let stderr = text(&output.stderr);
    assert_eq!(stderr, "error: 2 of 3 images are not proved\n");
}

#[test]
fn wrong_usage_is_told_from_damage() {
    let sample = sample();
    for arguments in [
        &["--ignore-signature", "--certificate", DB][..],
        &["--jobs", "0"],
        &["--verifier", "nobody"],
        &["--architecture", "arm64"],
    ] {
        let output = run(&sample.image, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(
        sysgraft(["verify"]).output().unwrap().status.code(),
        Some(2)
    );
}

/// Runs the commands of `docs/verify.md` in one shell; `…` there stands for anything.
#[test]
fn the_documentation_says_what_happens() {
    let workplace = Workplace::new();
    workplace.small_tree();
    for name in ["db.key", "db.pem"] {
        fs::copy(format!("keys-example/{name}"), workplace.path(name)).unwrap();
    }
    let page = fs::read_to_string("docs/verify.md").unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    let (commands, expected): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("$ "));
    let script: Vec<&str> = commands.iter().map(|line| &line[2..]).collect();
    let programs = Path::new(env!("CARGO_BIN_EXE_sysgraft")).parent().unwrap();
    let search = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-ec", &script.join("\n")])
        .current_dir(workplace.path(""))
        .env("PATH", search)
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    for (said, expected) in said.lines().zip(expected) {
        let mut rest = said;
        for (number, part) in expected.split('…').enumerate() {
            let place = rest.find(part);
            assert!(
                place.is_some_and(|place| number > 0 || place == 0),
                "{said:?}, not {expected:?}"
            );
            rest = &rest[place.unwrap() + part.len()..];
        }
        assert!(
            rest.is_empty() || expected.ends_with('…'),
            "{said:?}, not {expected:?}"
        );
    }
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

fn is_proved(path: &Path) -> bool {
    let mut store = TrustStore::new();
    store.load_file(Path::new(DB)).unwrap();
    let verifiers = [sysgraft::signature::trust::Verifier::Systemd];
    let request = Request {
        path,
        trust: Trust::Signed {
            store: &store,
            verifiers: &verifiers,
        },
        host: None,
        jobs: std::num::NonZero::<usize>::MIN,
    };
    let report = verify(&request, &Silent);
    assert_eq!(report.outcomes().len(), Check::ALL.len());
    report.is_proved()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_change_to_what_is_protected_is_ever_proved(
        place in any::<prop::sample::Index>(),
        flip in 1_u8..,
        part in 0..3_usize,
    ) {
        let sample = sample();
        // All data, the hash tree behind its superblock, both partition tables.
        let tables = 512..1024 + 128 * 128;
        let tree = sample.hash.start + 4096..sample.hash.end;
        let range: Range<usize> = [sample.data.clone(), tree, tables][part].clone();
        let place = range.start + place.index(range.len());
        let (_folder, path) = sample.changed(|bytes| bytes[place] ^= flip);
        // Behind the 92 bytes of a header the sector is nobody's.
        let in_table = !(604..1024).contains(&place);
        prop_assert_eq!(is_proved(&path), !in_table, "byte {}", place);
    }

    #[test]
    fn any_change_anywhere_ends_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
        mended in any::<bool>(),
    ) {
        let sample = sample();
        let (_folder, path) = sample.changed(|bytes| {
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            if mended {
                mend(bytes);
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
        });
        is_proved(&path);
    }
}
