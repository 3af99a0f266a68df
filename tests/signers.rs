//! Everybody who can sign: keys in files and tokens, programs; and how each of them fails.

#[path = "support/signatures.rs"]
mod signatures;
#[path = "support/soft_token.rs"]
mod soft_token;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use signatures::{Pair, image_of_one_step, image_to_sign, openssl_verifies, refusal, sign, tree};
use soft_token::{LABEL, PIN, SoftToken};
use support::skip;
use workplace::{Workplace, run, sysgraft, text};

const NO_TOKEN: &str = "softhsm2 or opensc is not installed";

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{said:?} does not name {word:?}");
    }
}

#[test]
fn a_key_in_a_token_signs_as_the_same_key_in_a_file_does() {
    let test = "a_key_in_a_token_signs_as_the_same_key_in_a_file_does";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    let workplace = Workplace::new();
    let rsa = Pair::example("db");
    token.import_key(&rsa.key, "db", "01");
    let by_file = image_of_one_step(&workplace, &rsa.arguments());
    let image = image_to_sign(&workplace);

    let pin = workplace.path("pin");
    fs::write(&pin, format!("{PIN}\nnot the PIN\n")).unwrap();
    let with_pin_source = format!("{}?pin-source=file:{}", token.uri("db"), pin.display());
    let with_module = format!(
        "{}&module-path={}",
        token.uri_with_pin("db"),
        token.module.display()
    );
    let certificate = path(&rsa.certificate);
    let ways: [(&[&str], &str); 4] = [
        (&["--private-key", &with_pin_source], ""),
        (
            &[
                "--private-key",
                &token.uri("db"),
                "--passphrase-file",
                path(&pin),
            ],
            "",
        ),
        (&["--private-key", &token.uri("db")], PIN),
        (
            &["--private-key", &with_module, "--pkcs11-module", "/nowhere"],
            "",
        ),
    ];
    for (arguments, passphrase) in ways {
        fs::remove_file(&image).unwrap();
        image_to_sign(&workplace);
        let mut command = token.sysgraft(&["sign"]);
        command
            .args(arguments)
            .args(["--certificate", certificate])
            .arg(&image);
        if !passphrase.is_empty() {
            command.env("SYSGRAFT_PASSPHRASE", passphrase);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(fs::read(&image).unwrap() == by_file, "{arguments:?}");
    }

    let output = token
        .sysgraft(&["sysext", "--private-key", &token.uri_with_pin("db")])
        .args(["--certificate", certificate, "--output"])
        .arg(workplace.out())
        .arg("x")
        .arg(tree(&workplace))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(fs::read(&image).unwrap() == by_file, "in one step");
}

#[test]
fn ec_keys_and_certificates_in_tokens_make_signatures_that_openssl_verifies() {
    let test = "ec_keys_and_certificates_in_tokens_make_signatures_that_openssl_verifies";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    let workplace = Workplace::new();
    let image = image_to_sign(&workplace);
    for (number, (label, pair)) in [
        ("p256", Pair::example("ec")),
        ("p384", Pair::p384(&workplace)),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("0{number}");
        token.import_key(&pair.key, label, &id);
        let der = workplace.path("certificate.der");
        run(Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(&pair.certificate)
            .arg("-out")
            .arg(&der));
        token.write_object(&der, &["--type", "cert", "--label", label, "--id", &id]);
        fs::remove_file(workplace.out().join("x.sign-request.json")).unwrap_or_default();
        // Several in a row: the numbers of a signature vary in length.
        for _ in 0..5 {
            let output = token
                .sysgraft(&["sign", "--private-key", &token.uri_with_pin(label)])
                .args(["--certificate", &token.uri(label)])
                .arg(&image)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            openssl_verifies(&image, &pair.certificate);
        }
        // A key from a file with a certificate from a token.
        let output = token
            .sysgraft(&["sign", "--private-key", path(&pair.key)])
            .args(["--certificate", &token.uri(label)])
            .arg(&image)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(
            fs::read(&image).unwrap() == image_of_one_step(&workplace, &pair.arguments()),
            "{label}"
        );
    }
}

/// The default module is p11-kit's, which knows the modules that packages register.
#[test]
fn tokens_are_found_through_p11_kit() {
    let test = "tokens_are_found_through_p11_kit";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    if !Path::new("/usr/share/p11-kit/modules/softhsm2.module").exists() {
        return skip(test, "p11-kit does not know SoftHSM here");
    }
    let workplace = Workplace::new();
    let pair = Pair::example("db");
    token.import_key(&pair.key, "db", "01");
    let image = image_to_sign(&workplace);
    let output = token
        .sysgraft(&["sign", "--private-key", &token.uri_with_pin("db")])
        .args(["--certificate", path(&pair.certificate)])
        .arg(&image)
        .env_remove("PKCS11_MODULE_PATH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    openssl_verifies(&image, &pair.certificate);
}

#[test]
fn a_key_that_wants_the_pin_for_each_signature_gets_it() {
    let test = "a_key_that_wants_the_pin_for_each_signature_gets_it";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    let workplace = Workplace::new();
    let pair = Pair::example("db");
    let der = workplace.path("key.der");
    run(Command::new("openssl")
        .args(["pkey", "-outform", "DER", "-in"])
        .arg(&pair.key)
        .arg("-out")
        .arg(&der));
    let arguments = ["--type", "privkey", "--label", "careful", "--id", "07"];
    token.write_object(
        &der,
        &[&arguments[..], &["--always-auth", "--usage-sign"]].concat(),
    );
    let image = image_to_sign(&workplace);
    let output = token
        .sysgraft(&["sign", "--private-key", &token.uri_with_pin("careful")])
        .args(["--certificate", path(&pair.certificate)])
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    openssl_verifies(&image, &pair.certificate);
}

#[test]
fn what_is_wrong_with_a_token_is_one_error_without_the_pin() {
    let test = "what_is_wrong_with_a_token_is_one_error_without_the_pin";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    let workplace = Workplace::new();
    let pair = Pair::example("db");
    token.import_key(&pair.key, "db", "01");
    token.import_key(&Pair::example("ec").key, "ec", "02");
    token.add_token("another");
    let other = Pair::generate(&workplace, "other", &["-newkey", "rsa:2048"]);
    token.import_key(&other.key, "other", "03");
    let image = image_to_sign(&workplace);
    let pin = format!("?pin-value={PIN}");
    let label = "token=release%20keys";
    let nowhere = workplace.path("nowhere");
    for (key, words) in [
        (
            format!("{label};object=db?pin-value=s3cret"),
            &["PIN", LABEL][..],
        ),
        (
            format!("{label};object=db"),
            &["PIN", "--passphrase-file", "pin-source"],
        ),
        (
            format!("token=x;object=db{pin}"),
            &["no token", "token=x", LABEL, "another"],
        ),
        (format!("object=db{pin}"), &["several tokens", "serial"]),
        (
            format!("{label};object=nothing{pin}"),
            &["no private key", "nothing"],
        ),
        (format!("{label}{pin}"), &["3 objects", "id="]),
        (
            format!("{label};object=ec{pin}"),
            &["object=ec", path(&pair.certificate)],
        ),
        (
            format!("{label};object=other{pin}"),
            &["object=other", path(&pair.certificate)],
        ),
        (
            format!("{label};object=db;type=cert{pin}"),
            &["private key", "type=private"],
        ),
        (format!("{label};object=db;serial=0{pin}"), &["no token"]),
        (format!("{label};library-version=99{pin}"), &["no token"]),
        (format!("{label};slot-id=1;object=db{pin}"), &["no token"]),
        (
            format!("{label}?pin-vaule=s3cret"),
            &["part 2", "pin-value"],
        ),
        (format!("{label}?pin-value=s3cret%"), &["pin-value", "%"]),
        (
            format!("{label};object=db?pin-source=file:{}", nowhere.display()),
            &["PIN", path(&nowhere)],
        ),
    ] {
        let error = refusal(
            &image,
            token
                .sysgraft(&["sign", "--private-key", &format!("pkcs11:{key}")])
                .args(["--certificate", path(&pair.certificate)])
                .arg(&image),
        );
        assert_names(&error, words);
        assert!(!error.contains(PIN) && !error.contains("s3cret"), "{error}");
    }
    for certificate in ["nothing", "db"] {
        let error = refusal(
            &image,
            token
                .sysgraft(&["sign", "--private-key", &token.uri_with_pin("db")])
                .args(["--certificate", &token.uri_with_pin(certificate)])
                .arg(&image),
        );
        assert_names(&error, &["no certificate", certificate]);
        assert!(!error.contains(PIN), "{error}");
    }
    for module in ["/nowhere/module.so", "/etc/passwd"] {
        let error = refusal(
            &image,
            token
                .sysgraft(&["sign", "--private-key", &token.uri_with_pin("db")])
                .args(["--pkcs11-module", module])
                .args(["--certificate", path(&pair.certificate)])
                .arg(&image),
        );
        assert_names(&error, &[module, "--pkcs11-module"]);
    }
}

/// SoftHSM never locks a token. This module is SoftHSM but for its C_Login, which the function list
/// of PKCS #11 2.40 has in place 18.
const LOCKED_MODULE: &str = r#"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
struct list { unsigned char version[2]; void *functions[68]; };
static unsigned long locked(unsigned long session, unsigned long user, unsigned char *pin, unsigned long length) {
    return 0xa4; /* CKR_PIN_LOCKED */
}
unsigned long C_GetFunctionList(struct list **out) {
    static struct list ours;
    struct list *theirs;
    void *library = dlopen(getenv("REAL_MODULE"), RTLD_NOW);
    unsigned long (*get)(struct list **) = dlsym(library, "C_GetFunctionList");
    unsigned long result = get(&theirs);
    memcpy(&ours, theirs, sizeof ours);
    ours.functions[18] = locked;
    *out = &ours;
    return result;
}
"#;

#[test]
fn a_locked_token_is_told_from_a_wrong_pin() {
    let test = "a_locked_token_is_told_from_a_wrong_pin";
    let Some(token) = SoftToken::new() else {
        return skip(test, NO_TOKEN);
    };
    let workplace = Workplace::new();
    let (source, module) = (workplace.path("locked.c"), workplace.path("locked.so"));
    fs::write(&source, LOCKED_MODULE).unwrap();
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&module)
        .arg(&source)
        .arg("-ldl"));
    let pair = Pair::example("db");
    token.import_key(&pair.key, "db", "01");
    let image = image_to_sign(&workplace);
    let error = refusal(
        &image,
        token
            .sysgraft(&["sign", "--private-key", &token.uri_with_pin("db")])
            .arg("--pkcs11-module")
            .arg(&module)
            .args(["--certificate", path(&pair.certificate)])
            .arg(&image)
            .env("REAL_MODULE", &token.module),
    );
    assert_names(&error, &[LABEL, "locked"]);
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
fn doubtful_keys_and_certificates_sign_with_a_warning() {
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
    for (key, certificate, warning) in [
        (&good.key, &good.certificate, "chmod 600"),
        (&good.key, &chain, "2 certificates"),
        (&good.key, &der, "chmod 600"),
        (&good.key, &expired, "has expired"),
        (&good.key, &early, "not valid yet"),
    ] {
        let arguments = [
            "--private-key",
            path(key),
            "--certificate",
            path(certificate),
        ];
        let said = text(&sign(&image, &arguments).stderr);
        assert_names(&said, &["warning: ", warning]);
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
