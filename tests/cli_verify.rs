//! `sysgraft verify`: what is proved, to whom, by which certificates and for which hosts.

mod support;
#[path = "support/verified.rs"]
mod verified;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::skip;
use verified::{DB, facts, outcome, problems, run, sample};
use workplace::{EC, RSA, Workplace, build, sysgraft, text};

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
fn an_image_that_awaits_its_signature_or_has_none_that_can_be_read_is_never_proved() {
    let workplace = Workplace::new();
    let source = format!("dir:{}", workplace.small_tree().display());
    build(&workplace, &["--sign-later", "hello", &source]);
    let awaiting = workplace.out().join("hello.sysext.raw");
    let sample = sample();
    let (_folder, garbled) = sample.changed(|bytes| bytes[sample.signature.start] = b'x');
    for arguments in [&["--certificate", DB][..], &[], &["--ignore-signature"]] {
        let said = facts(&awaiting, arguments);
        let [("signature", problem)] = problems(&said)[..] else {
            panic!("{arguments:?}: {said:#}");
        };
        assert!(problem.contains("awaits its signature"), "{problem}");
        let said = facts(&garbled, arguments);
        assert_eq!(outcome(&said, "signature"), "failed", "{said:#}");
    }
    let said = text(&run(&awaiting, &["--certificate", DB]).stdout);
    assert!(said.contains("not signed yet"), "{said}");
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

/// `sysgraft verify … | head -0` with `set -o pipefail`.
#[test]
fn whoever_stops_reading_still_learns_that_nothing_is_proved() {
    let sample = sample();
    for (arguments, code) in [(&["--certificate", DB][..], 0), (&[], 1), (&["--json"], 1)] {
        let mut child = sysgraft(["verify"])
            .args(arguments)
            .arg(&sample.image)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
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
