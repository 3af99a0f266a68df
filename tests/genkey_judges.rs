//! What efitools, sbsigntool and OpenSSL think of key sets.

#[path = "support/key_set.rs"]
mod key_set;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::Path;
use std::process::Command;

use key_set::{MICROSOFT, Set, VARIABLES, WITHOUT_MICROSOFT, accepted, genkey, parts, tool};
use support::skip;
use sysgraft::secureboot::{AuthenticatedVariable, Variable, microsoft};
use workplace::{Workplace, build, run, text};

#[test]
fn efitools_make_the_same_signature_lists() {
    const TEST: &str = "efitools_make_the_same_signature_lists";
    let set = Set::make(&[]);
    for (name, variable) in [
        ("PK", Variable::Pk),
        ("KEK", Variable::Kek),
        ("db", Variable::Db),
    ] {
        let theirs = set.scratch("theirs.esl");
        let mut expected = Vec::new();
        let mut convert = |owner: &str, pem: &Path| {
            let mut command = Command::new("cert-to-efi-sig-list");
            accepted(TEST, command.args(["-g", owner]).arg(pem).arg(&theirs))?;
            expected.extend(fs::read(&theirs).unwrap());
            Some(())
        };
        let Some(()) = convert(&set.owner(), &set.file(&format!("{name}.pem"))) else {
            return;
        };
        for der in microsoft::certificates(variable) {
            let (der_file, pem_file) = (set.scratch("m.der"), set.scratch("m.pem"));
            fs::write(&der_file, der).unwrap();
            run(Command::new("openssl")
                .args(["x509", "-inform", "DER", "-in"])
                .arg(&der_file)
                .arg("-out")
                .arg(&pem_file));
            convert(MICROSOFT, &pem_file).unwrap();
        }
        assert_eq!(set.read(&format!("{name}.esl")), expected, "{name}");
    }
}

#[test]
fn efitools_read_every_certificate_back() {
    const TEST: &str = "efitools_read_every_certificate_back";
    let set = Set::make(&[]);
    for (name, variable) in [
        ("PK", Variable::Pk),
        ("KEK", Variable::Kek),
        ("db", Variable::Db),
    ] {
        let prefix = set.scratch(name);
        let mut command = Command::new("sig-list-to-certs");
        let Some(said) = accepted(
            TEST,
            command.arg(set.file(&format!("{name}.esl"))).arg(&prefix),
        ) else {
            return;
        };
        let mut expected = vec![set.read(&format!("{name}.der"))];
        expected.extend(
            microsoft::certificates(variable)
                .iter()
                .map(|der| der.to_vec()),
        );
        for (index, der) in expected.iter().enumerate() {
            let read_back = format!("{}-{index}.der", prefix.display());
            assert_eq!(&fs::read(&read_back).unwrap(), der, "{read_back}");
        }
        assert_eq!(said.matches("X509 Header").count(), expected.len());
        assert_eq!(said.matches(MICROSOFT).count(), expected.len() - 1);
        assert!(said.contains(&set.owner()), "{said}");
    }
}

#[test]
fn efitools_sign_the_same_variables() {
    const TEST: &str = "efitools_sign_the_same_variables";
    // RSA signatures are deterministic, so that whole files can be compared.
    for key_type in ["rsa2048", "rsa3072", "p256", "p384"] {
        let set = Set::make(&["--key-type", key_type]);
        for (name, signer) in VARIABLES {
            let theirs = set.scratch("theirs.auth");
            let mut command = Command::new("sign-efi-sig-list");
            command.args(["-t", "2024-01-02 03:04:05", "-k"]);
            command.arg(set.file(&format!("{signer}.key"))).arg("-c");
            command.arg(set.file(&format!("{signer}.pem"))).arg(name);
            command.arg(set.file(&format!("{name}.esl"))).arg(&theirs);
            if accepted(TEST, &mut command).is_none() {
                return;
            }
            let ours = set.read(&format!("{name}.auth"));
            let theirs = fs::read(&theirs).unwrap();
            let (time, signature, content) = parts(&ours);
            let (their_time, their_signature, their_content) = parts(&theirs);
            assert_eq!(time, their_time);
            assert_eq!(content, their_content);
            if key_type.starts_with("rsa") {
                assert_eq!(signature, their_signature, "{key_type} {name}");
                assert_eq!(ours, theirs);
            } else {
                // All fields but the signature, which is another one each time.
                let shape = |der: &[u8]| -> Vec<String> {
                    let path = set.scratch("p7");
                    fs::write(&path, der).unwrap();
                    let mut command = Command::new("openssl");
                    command
                        .args(["asn1parse", "-inform", "DER", "-in"])
                        .arg(&path);
                    let lines = text(&command.output().unwrap().stdout);
                    // Offsets and lengths depend on the signature's.
                    let fields = lines.lines().filter_map(|line| line.split_once("prim:"));
                    fields.map(|(_, field)| field.trim().to_owned()).collect()
                };
                let (mut ours, mut theirs) = (shape(signature), shape(their_signature));
                assert!(ours.len() > 20, "{ours:?}");
                assert!(ours.pop().unwrap().contains("OCTET STRING"));
                theirs.pop();
                assert_eq!(ours, theirs, "{key_type} {name}");
            }
            let parsed = AuthenticatedVariable::parse(&ours).unwrap();
            assert_eq!(
                (&parsed.time()[..], parsed.signature(), parsed.content()),
                (time, signature, content)
            );
        }
    }
}

/// The `ContentInfo` around a `SignedData`, without which OpenSSL does not read it.
fn content_info(signed_data: &[u8]) -> Vec<u8> {
    let tagged = |tag: u8, length: usize| {
        let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
        [tag, 0x82, high, low]
    };
    // 1.2.840.113549.1.7.2
    let oid = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    let mut der = tagged(0x30, oid.len() + 4 + signed_data.len()).to_vec();
    der.extend(oid);
    der.extend(tagged(0xa0, signed_data.len()));
    der.extend(signed_data);
    der
}

/// What is signed, put together anew: name, vendor, attributes, time, content.
fn signed_bytes(name: &str, time: &[u8], content: &[u8]) -> Vec<u8> {
    let global = "61dfe48bca93d211aa0d00e098032b8c";
    let image_security = "cbb219d73a3d9645a3bcdad00e67656f";
    let vendor = if name == "db" { image_security } else { global };
    let mut bytes: Vec<u8> = name.bytes().flat_map(|letter| [letter, 0]).collect();
    let digits = (0..32).step_by(2);
    bytes.extend(digits.map(|at| u8::from_str_radix(&vendor[at..at + 2], 16).unwrap()));
    bytes.extend([0x27, 0, 0, 0]);
    bytes.extend(time);
    bytes.extend(content);
    bytes
}

#[test]
fn openssl_verifies_every_variable_by_its_own_signer_and_by_no_other() {
    for key_type in ["rsa2048", "p256", "p384"] {
        let set = Set::make(&["--key-type", key_type]);
        for (name, signer) in VARIABLES {
            let auth = set.read(&format!("{name}.auth"));
            let (time, signature, content) = parts(&auth);
            let (p7, message, found) = (
                set.scratch("p7"),
                set.scratch("message"),
                set.scratch("signer.pem"),
            );
            fs::write(&p7, content_info(signature)).unwrap();
            let verify = |name: &str, authority: &str| {
                fs::write(&message, signed_bytes(name, time, content)).unwrap();
                let mut command = Command::new("openssl");
                command.args([
                    "smime",
                    "-verify",
                    "-inform",
                    "DER",
                    "-binary",
                    "-out",
                    "/dev/null",
                ]);
                command.arg("-in").arg(&p7).arg("-content").arg(&message);
                command.arg("-signer").arg(&found);
                command
                    .arg("-CAfile")
                    .arg(set.file(&format!("{authority}.pem")));
                command.output().unwrap()
            };
            for (_, authority) in VARIABLES.iter().chain([&("", "db")]) {
                let output = verify(name, authority);
                let stderr = text(&output.stderr);
                assert_eq!(
                    output.status.success(),
                    *authority == signer,
                    "{name}: {stderr}"
                );
            }
            assert!(verify(name, signer).status.success());
            assert_eq!(
                fs::read(&found).unwrap(),
                set.read(&format!("{signer}.pem")),
                "{name}"
            );
            // A value of one variable is no value of another one.
            assert!(!verify("dbx", signer).status.success());
        }
    }
}

#[test]
fn openssl_reads_every_key_and_certificate() {
    let set = Set::make(&["--key-type", "rsa3072", "--extension-key=p384"]);
    let openssl = |arguments: &[&str], file: &str| {
        let mut command = Command::new("openssl");
        let path = set.file(file);
        let output = command
            .args(arguments)
            .arg("-in")
            .arg(path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    };
    for (name, bits) in [
        ("PK", 3072),
        ("KEK", 3072),
        ("db", 3072),
        ("extension", 384),
    ] {
        let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
        assert!(text(&set.read(&key)).starts_with("-----BEGIN PRIVATE KEY-----"));
        let said = openssl(&["pkey", "-check", "-noout", "-text"], &key);
        assert!(said.contains(&format!("({bits} bit")), "{said}");
        let public = openssl(&["pkey", "-pubout"], &key);
        assert_eq!(openssl(&["x509", "-noout", "-pubkey"], &pem), public);
        // DER holds the same certificate and nothing else.
        let der = openssl(&["x509", "-inform", "DER"], &format!("{name}.der"));
        assert_eq!(der, text(&set.read(&pem)));
        assert_eq!(der.matches("BEGIN CERTIFICATE").count(), 1);
        let said = openssl(&["x509", "-noout", "-text"], &pem);
        for words in [
            &format!("Subject: CN = fleet-{name}\n"),
            "Subject Key Identifier",
        ] {
            assert!(said.contains(words), "{said}");
        }
        let certificate = set.file(&pem);
        run(Command::new("openssl")
            .arg("verify")
            .arg("-x509_strict")
            .arg("-CAfile")
            .args([&certificate, &certificate]));
    }
    let public = openssl(&["pkey", "-pubout"], "tpm2-pcr-private.pem");
    assert_eq!(public, text(&set.read("tpm2-pcr-public.pem")));
}

#[test]
fn sbsign_signs_boot_loaders_with_the_db_key() {
    const TEST: &str = "sbsign_signs_boot_loaders_with_the_db_key";
    let program = "/usr/lib/efitools/x86_64-linux-gnu/HelloWorld.efi";
    if !Path::new(program).exists() {
        return skip(TEST, &format!("there is no {program}"));
    }
    let set = Set::make(&[WITHOUT_MICROSOFT]);
    let signed = set.scratch("signed.efi");
    let mut command = Command::new("sbsign");
    command
        .arg("--key")
        .arg(set.file("db.key"))
        .arg("--cert")
        .arg(set.file("db.pem"));
    command.arg("--output").arg(&signed).arg(program);
    if accepted(TEST, &mut command).is_none() {
        return;
    }
    let verify = |certificate: &str| {
        let mut command = Command::new("sbverify");
        command
            .arg("--cert")
            .arg(set.file(certificate))
            .arg(&signed);
        tool(TEST, &mut command).unwrap().status.success()
    };
    assert!(verify("db.pem"));
    assert!(!verify("KEK.pem"));
}

#[test]
fn extensions_signed_with_db_or_the_extension_key_are_accepted() {
    let set = Set::make(&["--extension-key=p256"]);
    for name in ["db", "extension"] {
        let workplace = Workplace::new();
        let image = format!("dir:{}", workplace.small_tree().display());
        let (key, pem) = (
            set.file(&format!("{name}.key")),
            set.file(&format!("{name}.pem")),
        );
        let (key, certificate) = (key.to_str().unwrap(), pem.to_str().unwrap());
        let arguments = [
            "--private-key",
            key,
            "--certificate",
            certificate,
            "x",
            &image,
        ];
        build(&workplace, &arguments);
        let output = Command::new("examples/check-image")
            .args([&workplace.out().join("x.sysext.raw"), &pem])
            .output()
            .unwrap();
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("accepted  openssl"), "{said}");
    }
}

#[test]
fn a_renewed_set_is_signed_by_the_old_keys() {
    let old = Set::make(&[]);
    let renewed = old.scratch("renewed");
    let file = |name: &str| old.file(name).to_str().unwrap().to_owned();
    let (pk, pk_cert) = (file("PK.key"), file("PK.pem"));
    let (kek, kek_cert) = (file("KEK.key"), file("KEK.der"));
    let output = genkey(
        &renewed,
        &[
            "--pk-key",
            &pk,
            "--pk-cert",
            &pk_cert,
            "--kek-key",
            &kek,
            "--kek-cert",
            &kek_cert,
            "--owner-guid",
            &old.owner(),
            "--tpm-pcr-private-key",
            &file("tpm2-pcr-private.pem"),
            "fleet",
        ],
    )
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // PK and KEK are what they were, to the signature; db is not.
    for name in [
        "PK.key",
        "PK.pem",
        "PK.auth",
        "KEK.key",
        "KEK.pem",
        "KEK.der",
        "KEK.auth",
        "tpm2-pcr-private.pem",
        "tpm2-pcr-public.pem",
        "guid.txt",
    ] {
        assert_eq!(
            fs::read(renewed.join(name)).unwrap(),
            old.read(name),
            "{name}"
        );
    }
    for name in ["db.key", "db.pem", "db.auth"] {
        assert_ne!(
            fs::read(renewed.join(name)).unwrap(),
            old.read(name),
            "{name}"
        );
    }
}
