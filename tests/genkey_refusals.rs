//! What `sysgraft genkey` refuses: one clear error, and nothing left behind.

#[path = "support/key_set.rs"]
mod key_set;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use key_set::{Set, WITHOUT_MICROSOFT, genkey, names};
use workplace::{run, text};

/// Runs `genkey` with what it must refuse: one error, the exit code, and nothing left behind.
fn refused(arguments: &[&str], code: i32, words: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let output = genkey(&scratch.path().join("keys"), arguments)
        .output()
        .unwrap();
    check_refusal(&output, code, words);
    assert_eq!(names(scratch.path()), [""; 0], "{arguments:?}");
}

fn check_refusal(output: &Output, code: i32, words: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    let errors = stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .count();
    assert_eq!(errors, 1, "{stderr}");
    assert!(!stderr.contains('\x1b'), "{stderr:?}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn arguments_that_make_no_sense_are_wrong_usage() {
    let long = "x".repeat(55);
    for name in ["", " ", "a\nb", "\x1b[31mred", "\u{202e}evil", &long] {
        refused(&["--", name], 2, &["name for keys"]);
    }
    for days in ["0", "-1", "36501", "99999999999999999999", "x", "1.5", ""] {
        refused(&["-e", days, "x"], 2, &["number of days"]);
    }
    refused(&["--key-type", "ed25519", "x"], 2, &["ed25519", "p384"]);
    refused(&["--extension-key=rsa1024", "x"], 2, &["rsa1024"]);
    refused(&["--owner-guid", "me", "x"], 2, &["no GUID"]);
    refused(&["--subject", "/UID=1", "x"], 2, &["UID=1"]);
    for (given, missing) in [
        ("--pk-key", "--pk-cert"),
        ("--kek-cert", "--kek-key"),
        ("--db-key", "--db-cert"),
    ] {
        refused(&[given, "file", "x"], 2, &[missing]);
    }
}

#[test]
fn arguments_that_contradict_the_world_are_refused_by_name() {
    refused(&["--subject", "/CN=a", "b"], 1, &["CN=a", "NAME (b)"]);
    refused(
        &["--passphrase-file", "/nowhere/p", "x"],
        1,
        &["/nowhere/p"],
    );
    refused(&["--passphrase-file", "/dev/null", "x"], 1, &["empty"]);
    for epoch in ["", "x", "-1", "253402300800", "99999999999999999999"] {
        let scratch = tempfile::tempdir().unwrap();
        let mut command = genkey(&scratch.path().join("keys"), &["x"]);
        let output = command.env("SOURCE_DATE_EPOCH", epoch).output().unwrap();
        check_refusal(&output, 1, &[epoch]);
        assert_eq!(names(scratch.path()), [""; 0]);
    }
}

#[test]
fn keys_that_do_not_fit_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let make = |name: &str, options: &[&str]| {
        let (key, pem) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let mut command = Command::new("openssl");
        command.args([
            "req", "-x509", "-nodes", "-subj", "/CN=x", "-keyout", &key, "-out", &pem,
        ]);
        run(command.args(options).stderr(Stdio::null()));
        (key, pem)
    };
    let good = make("good", &["-newkey", "rsa:2048"]);
    let stranger = make("stranger", &["-newkey", "rsa:2048"]);
    let weak = make("weak", &["-newkey", "rsa:1024"]);
    let other = make("ed", &["-newkey", "ed25519"]);
    let sha1 = make("sha1", &["-newkey", "rsa:2048", "-sha1"]);
    let junk = path("junk");
    fs::write(&junk, "junk").unwrap();
    for option in ["pk", "kek", "db"] {
        let (key, certificate) = (format!("--{option}-key"), format!("--{option}-cert"));
        let refused = |pair: (&str, &str), words: &[&str]| {
            refused(&[&key, pair.0, &certificate, pair.1, "x"], 1, words);
        };
        let mismatch = [&*good.0, &*stranger.1, "does not belong"];
        refused((&good.0, &stranger.1), &mismatch);
        refused((&weak.0, &weak.1), &[&weak.0, "1024"]);
        refused((&other.0, &other.1), &[&other.0, "Ed25519"]);
        refused((&sha1.0, &sha1.1), &[&sha1.1, "SHA-1"]);
        refused((&junk, &good.1), &[&junk, "no private key"]);
        refused((&good.0, &junk), &[&junk, "no certificate"]);
        refused((&good.1, &good.1), &[&good.1, "no private key"]);
        refused(("/nowhere/k", &good.1), &["/nowhere/k"]);
    }
    for (key, words) in [
        (&weak.0, "not RSA of at least 2048 bits"),
        (&other.0, "not RSA of at least 2048 bits"),
        (&junk, "no private key"),
    ] {
        refused(&["--tpm-pcr-private-key", key, "x"], 1, &[key, words]);
    }
}

#[test]
fn a_folder_of_junk_certificates_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().to_str().unwrap().to_owned();
    let refuse = |words: &[&str]| refused(&["--custom-cert-dir", &folder, "x"], 1, words);
    refused(
        &["--custom-cert-dir", "/nowhere/c", "x"],
        1,
        &["/nowhere/c"],
    );
    refuse(&["cannot read", "KEK"]);
    fs::write(scratch.path().join("KEK"), "").unwrap();
    refuse(&["cannot read", "db"]);
    fs::write(scratch.path().join("db"), "junk").unwrap();
    refuse(&["db holds no EFI signature lists"]);
    let mut list = Set::make(&[WITHOUT_MICROSOFT]).read("db.esl");
    list[44] ^= 0xff; // where the certificate starts
    fs::write(scratch.path().join("db"), &list).unwrap();
    refuse(&["entry 1 of", "X.509"]);
    fs::remove_file(scratch.path().join("db")).unwrap();
    fs::create_dir(scratch.path().join("db")).unwrap();
    refuse(&["cannot read", "db"]);
}

#[test]
fn folders_that_cannot_take_keys_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let dangling = scratch.path().join("dangling");
    std::os::unix::fs::symlink("/nowhere/x", &dangling).unwrap();
    let before = names(scratch.path());
    let mut targets = vec![
        file.clone(),
        file.join("below"),
        dangling,
        "/proc/keys-x".into(),
    ];
    let closed = scratch.path().join("closed");
    if !workplace::is_root() {
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        targets.push(closed);
    }
    for target in targets {
        let output = genkey(&target, &["x"]).output().unwrap();
        check_refusal(&output, 1, &[target.to_str().unwrap()]);
        assert!(!text(&output.stderr).contains("Generating"));
    }
    assert!(names(scratch.path()).starts_with(&before[..]));
}
