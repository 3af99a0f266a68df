//! Keys made for a test, images to sign, and OpenSSL's opinion of signatures.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Builder};
use sysgraft::image::Ddi;

use crate::workplace::{Workplace, build, run, sysgraft, text};

/// A key and its certificate.
pub struct Pair {
    pub key: PathBuf,
    pub certificate: PathBuf,
}

impl Pair {
    /// One of the public examples: `db` is RSA, `ec` is P-256.
    pub fn example(name: &str) -> Pair {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("keys-example");
        Pair {
            key: folder.join(format!("{name}.key")),
            certificate: folder.join(format!("{name}.pem")),
        }
    }

    /// A new pair that `openssl req -x509` makes with these arguments.
    pub fn generate(workplace: &Workplace, name: &str, arguments: &[&str]) -> Pair {
        let pair = Pair {
            key: workplace.path(&format!("{name}.key")),
            certificate: workplace.path(&format!("{name}.pem")),
        };
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj"])
            .arg(format!("/CN={name}"))
            .args(arguments)
            .arg("-keyout")
            .arg(&pair.key)
            .arg("-out")
            .arg(&pair.certificate)
            .stderr(Stdio::null()));
        pair
    }

    pub fn p384(workplace: &Workplace) -> Pair {
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
        Pair::generate(workplace, "p384", &curve)
    }

    /// A certificate of this key with the names and the serial number of `original`, valid from one
    /// day to another, counted from today.
    pub fn certify_as(
        &self,
        original: &Path,
        days: Range<i64>,
        workplace: &Workplace,
        name: &str,
    ) -> PathBuf {
        let key = PKey::private_key_from_pem(&fs::read(&self.key).unwrap()).unwrap();
        let original = X509::from_pem(&fs::read(original).unwrap()).unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(original.serial_number()).unwrap();
        builder.set_subject_name(original.subject_name()).unwrap();
        builder.set_issuer_name(original.issuer_name()).unwrap();
        builder.set_not_before(&time(days.start)).unwrap();
        builder.set_not_after(&time(days.end)).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = workplace.path(name);
        fs::write(&certificate, builder.build().to_pem().unwrap()).unwrap();
        certificate
    }

    /// The arguments that sign with it.
    pub fn arguments(&self) -> [&str; 4] {
        let (key, certificate) = (self.key.to_str(), self.certificate.to_str());
        [
            "--private-key",
            key.unwrap(),
            "--certificate",
            certificate.unwrap(),
        ]
    }
}

/// A tree that stays as it is, times included.
pub fn tree(workplace: &Workplace) -> String {
    if !workplace.path("root").exists() {
        workplace.small_tree();
    }
    format!("dir:{}", workplace.path("root").display())
}

/// An image `out/x.sysext.raw` with an empty signature partition.
pub fn image_to_sign(workplace: &Workplace) -> PathBuf {
    build(workplace, &["--sign-later", "x", &tree(workplace)]);
    workplace.out().join("x.sysext.raw")
}

/// What one build with these arguments gives.
pub fn image_of_one_step(workplace: &Workplace, arguments: &[&str]) -> Vec<u8> {
    let folder = workplace.path("one-step");
    fs::create_dir_all(&folder).unwrap();
    let output = sysgraft(["sysext", "--output"])
        .arg(&folder)
        .args(arguments)
        .arg("x")
        .arg(tree(workplace))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::read(folder.join("x.sysext.raw")).unwrap()
}

/// `sysgraft sign …` that must succeed.
pub fn sign(image: &Path, arguments: &[&str]) -> Output {
    let output = sysgraft(["sign"])
        .args(arguments)
        .arg(image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// The one error line of a program that must fail with code 1 and leave `image` and its folder as
/// they were.
pub fn refusal(image: &Path, command: &mut Command) -> String {
    let names = || {
        let folder = fs::read_dir(image.parent().unwrap()).unwrap();
        let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (fs::read(image).unwrap(), names());
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "errors belong on stderr");
    assert!(before == (fs::read(image).unwrap(), names()), "{stderr}");
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    errors[0].to_owned()
}

/// Lets OpenSSL verify the image's signature as systemd does, with `certificate` alone.
pub fn openssl_verifies(image: &Path, certificate: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let ddi = Ddi::open(image).unwrap();
    let signature = ddi.signature.as_ref().unwrap();
    assert_eq!(Some(signature.root_hash), ddi.root_hash());
    let (pkcs7, content) = (folder.path().join("p7s"), folder.path().join("root-hash"));
    fs::write(&pkcs7, &signature.pkcs7).unwrap();
    fs::write(&content, signature.root_hash.to_string()).unwrap();
    run(Command::new("openssl")
        .args(["smime", "-verify", "-binary", "-inform", "DER", "-in"])
        .arg(&pkcs7)
        .arg("-content")
        .arg(&content)
        .arg("-certfile")
        .arg(certificate)
        .args(["-noverify", "-nointern"])
        .stdout(Stdio::null())
        .stderr(Stdio::null()));
}
