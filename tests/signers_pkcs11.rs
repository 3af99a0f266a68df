//! Keys and certificates in tokens, and how tokens fail.

#[path = "support/signatures.rs"]
mod signatures;
#[path = "support/soft_token.rs"]
mod soft_token;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::Path;
use std::process::Command;

use signatures::{Pair, image_of_one_step, image_to_sign, openssl_verifies, refusal, tree};
use soft_token::{LABEL, PIN, SoftToken};
use support::skip;
use workplace::{Workplace, run, text};

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
