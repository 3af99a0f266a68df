//! Keys in files and programs that sign, and how each of them fails.

#[path = "support/signatures.rs"]
mod signatures;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use signatures::{Pair, image_of_one_step, image_to_sign, openssl_verifies, refusal, sign};
use workplace::{Workplace, run, sysgraft, text};

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{said:?} does not name {word:?}");
    }
}

/// A script that signs with `openssl` what it gets and checks what it is told.
fn signing_script(workplace: &Workplace, name: &str, body: &str) -> PathBuf {
    let script = workplace.path(name);
    fs::write(&script, format!("#!/bin/sh\nset -eu\n{body}\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    script
}

#[test]
fn a_program_signs_the_message_or_its_digest() {
    let workplace = Workplace::new();
    let script = signing_script(
        &workplace,
        "sign with openssl",
        r#"
test "$SYSGRAFT_SIGN_ALGORITHM" = "$2"
test "$SYSGRAFT_SIGN_DIGEST" = "${2##*-}"
test -z "${SYSGRAFT_PASSPHRASE+set}"
case $SYSGRAFT_SIGN_INPUT in
    message) exec openssl dgst "-$SYSGRAFT_SIGN_DIGEST" -sign "$1" ;;
    digest) exec openssl pkeyutl -sign -inkey "$1" -pkeyopt "digest:$SYSGRAFT_SIGN_DIGEST" ;;
esac
"#,
    );
    let image = image_to_sign(&workplace);
    for (algorithm, pair) in [
        ("rsa-sha256", Pair::example("db")),
        ("ecdsa-p256-sha256", Pair::example("ec")),
        ("ecdsa-p384-sha384", Pair::p384(&workplace)),
    ] {
        for input in ["message", "digest"] {
            let command = format!("'{}' {} {algorithm}", script.display(), pair.key.display());
            let output = sysgraft(["sign", "--sign-command", &command])
                .args(["--sign-command-input", input])
                .args(["--certificate", path(&pair.certificate)])
                .arg(&image)
                .env("SYSGRAFT_PASSPHRASE", "a secret of sysgraft's")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            openssl_verifies(&image, &pair.certificate);
            if algorithm == "rsa-sha256" {
                let by_file = image_of_one_step(&workplace, &pair.arguments());
                assert!(fs::read(&image).unwrap() == by_file, "{input}");
            }
        }
    }
    let pair = Pair::example("db");
    let command = format!("openssl dgst -sha256 -sign {}", pair.key.display());
    let arguments = ["--sign-command", &command, "--certificate"];
    let arguments = [&arguments[..], &[path(&pair.certificate)]].concat();
    assert!(
        image_of_one_step(&workplace, &arguments)
            == image_of_one_step(&workplace, &pair.arguments())
    );
}

#[test]
fn a_program_that_gives_no_signature_is_one_error() {
    let workplace = Workplace::new();
    let pair = Pair::example("db");
    let image = image_to_sign(&workplace);
    let stuck = signing_script(&workplace, "stuck", "exec sleep 30");
    let leaves_child = signing_script(&workplace, "leaves-child", "sleep 30 2>/dev/null & echo x");
    let floods = signing_script(&workplace, "floods", "exec head -c 1000000 /dev/zero");
    let other = format!(
        "openssl dgst -sha256 -sign {}",
        Pair::example("ec").key.display()
    );
    for (command, words) in [
        ("false", &["false", "exit status: 1"][..]),
        ("/nowhere/program", &["/nowhere/program", "No such file"]),
        ("", &["sign command", "empty"]),
        ("openssl 'dgst", &["quote"]),
        (
            "true",
            &["(0 bytes)", path(&pair.certificate), "PKCS#1 v1.5"],
        ),
        ("echo garbage", &["(8 bytes)", path(&pair.certificate)]),
        (&other, &["openssl", path(&pair.certificate)]),
        (path(&floods), &["floods"]),
        (path(&stuck), &["stuck", "within 1 s", "--sign-timeout"]),
        (path(&leaves_child), &["leaves-child", "within 1 s"]),
    ] {
        let started = Instant::now();
        let error = refusal(
            &image,
            sysgraft(["sign", "--sign-timeout", "1", "--sign-command", command])
                .args(["--certificate", path(&pair.certificate)])
                .arg(&image)
                .stderr(Stdio::piped()),
        );
        assert_names(&error, words);
        assert!(started.elapsed() < Duration::from_secs(20), "{command}");
    }
    let ec = Pair::example("ec");
    let error = refusal(
        &image,
        sysgraft(["sign", "--sign-command", "echo garbage"])
            .args(["--certificate", path(&ec.certificate)])
            .arg(&image),
    );
    assert_names(&error, &["ECDSA signature with SHA-256 in DER form"]);
}

#[test]
fn who_signs_is_said_once() {
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let before = fs::read(&image).unwrap();
    let [key, key_file, certificate, certificate_file] = workplace::RSA;
    for arguments in [
        &[][..],
        &[key, key_file],
        &[certificate, certificate_file],
        &[
            key,
            key_file,
            certificate,
            certificate_file,
            "--sign-command",
            "true",
        ],
        &[
            key,
            key_file,
            certificate,
            certificate_file,
            "--sign-timeout",
            "5",
        ],
        &["--sign-command", "true"],
        &[
            "--sign-command",
            "true",
            certificate,
            certificate_file,
            "--sign-timeout",
            "0",
        ],
    ] {
        let output = sysgraft(["sign"])
            .args(arguments)
            .arg(&image)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn what_is_doubtful_is_warned_of_and_what_can_be_mended_is_an_error() {
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let good = Pair::generate(&workplace, "good", &["-newkey", "rsa:2048"]);
    let other = Pair::generate(&workplace, "other", &["-newkey", "rsa:2048"]);
    let concatenated = |name: &str, files: [&Path; 2]| {
        let chain = workplace.path(name);
        fs::write(&chain, files.map(|file| fs::read(file).unwrap()).concat()).unwrap();
        chain
    };
    let chain = concatenated("chain.pem", [&good.certificate, &other.certificate]);
    let der = workplace.path("good.der");
    run(Command::new("openssl")
        .args(["x509", "-outform", "DER", "-in"])
        .arg(&good.certificate)
        .arg("-out")
        .arg(&der));
    let expired = good.certify_as(&good.certificate, -9..-1, &workplace, "expired.pem");
    let early = good.certify_as(&good.certificate, 1..9, &workplace, "early.pem");
    fs::set_permissions(&good.key, PermissionsExt::from_mode(0o640)).unwrap();
    let arguments = |certificate| {
        [
            "--private-key",
            path(&good.key),
            "--certificate",
            path(certificate),
        ]
    };
    for certificate in [&good.certificate, &der] {
        let said = text(&sign(&image, &arguments(certificate)).stderr);
        assert_names(&said, &["warning: ", "chmod 600"]);
        openssl_verifies(&image, certificate);
    }
    for (certificate, problem) in [
        (&chain, "2 certificates"),
        (&expired, "has expired"),
        (&early, "not valid yet"),
    ] {
        let mut command = sysgraft(["sign"]);
        command.args(arguments(certificate)).arg(&image);
        assert_names(&refusal(&image, &mut command), &[problem]);
    }
    for (certificate, problem) in [(&expired, "has expired"), (&early, "not valid yet")] {
        let arguments = [&arguments(certificate)[..], &["--ignore-validity"]].concat();
        let said = text(&sign(&image, &arguments).stderr);
        assert_names(&said, &["warning: ", problem]);
        openssl_verifies(&image, certificate);
    }
}

#[test]
fn keys_and_certificates_in_files_that_cannot_sign_are_one_error() {
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    let good = Pair::generate(&workplace, "good", &["-newkey", "rsa:2048"]);
    let other = Pair::generate(&workplace, "other", &["-newkey", "rsa:2048"]);
    let weak = Pair::generate(&workplace, "weak", &["-newkey", "rsa:1024"]);
    let convert = |arguments: &[&str], name: &str| {
        let converted = workplace.path(name);
        run(Command::new("openssl")
            .args(arguments)
            .arg("-in")
            .arg(&good.key)
            .arg("-out")
            .arg(&converted));
        converted
    };
    let der = convert(&["pkey", "-outform", "DER"], "key.der");
    let encrypted = convert(
        &["pkcs8", "-topk8", "-passout", "pass:s3cret"],
        "encrypted.key",
    );
    let chain = workplace.path("chain.pem");
    let files = [&other.certificate, &good.certificate];
    fs::write(&chain, files.map(|file| fs::read(file).unwrap()).concat()).unwrap();
    let nothing = workplace.path("nothing");
    fs::write(&nothing, "nothing").unwrap();
    for (key, certificate, words) in [
        (&der, &good.certificate, &["key.der", "-inform DER"][..]),
        (
            &encrypted,
            &good.certificate,
            &["encrypted.key", "passphrase"],
        ),
        (&good.key, &other.certificate, &["good.key", "other.pem"]),
        (&good.key, &chain, &["chain.pem", "number 2", "good.key"]),
        (&weak.key, &weak.certificate, &["weak.pem", "1024", "2048"]),
        (&nothing, &good.certificate, &["nothing", "private key"]),
        (&good.key, &nothing, &["nothing", "certificate"]),
    ] {
        let error = refusal(
            &image,
            sysgraft(["sign", "--private-key", path(key)])
                .args(["--certificate", path(certificate)])
                .arg(&image)
                .env("SYSGRAFT_PASSPHRASE", "wr0ng"),
        );
        assert_names(&error, words);
        assert!(!error.contains("wr0ng"), "{error}");
    }
}
