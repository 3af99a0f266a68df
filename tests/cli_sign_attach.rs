//! Signatures that other programs made: taken over, or refused with the reason.

#[path = "support/signatures.rs"]
mod signatures;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use signatures::{Pair, image_of_one_step, image_to_sign, openssl_verifies, refusal};
use sysgraft::image::Ddi;
use workplace::{RSA, Workplace, run, sysgraft, text};

fn assert_names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{said:?} does not name {word:?}");
    }
}

/// An image that awaits its signature, and its root hash in a file without line break.
struct ToAttach {
    workplace: Workplace,
    image: PathBuf,
    root_hash: String,
}

impl ToAttach {
    fn new() -> ToAttach {
        let workplace = Workplace::new();
        let image = image_to_sign(&workplace);
        let root_hash = Ddi::open(&image).unwrap().root_hash().unwrap().to_string();
        fs::write(workplace.path("root-hash"), &root_hash).unwrap();
        ToAttach {
            workplace,
            image,
            root_hash,
        }
    }

    /// A file that `openssl smime` or `openssl cms` makes of `content` with these arguments.
    fn signature(&self, content: &str, pair: &Pair, arguments: &str) -> PathBuf {
        let name = arguments.replace([' ', ':', '/'], "_");
        let signature = self.workplace.path(&format!("{content}{name}.p7s"));
        let mut arguments = arguments.split(' ');
        run(Command::new("openssl")
            .arg(arguments.next().unwrap())
            .args(["-sign", "-binary", "-in"])
            .arg(self.workplace.path(content))
            .arg("-inkey")
            .arg(&pair.key)
            .arg("-signer")
            .arg(&pair.certificate)
            .args(arguments)
            .arg("-out")
            .arg(&signature));
        signature
    }

    fn command(&self, signature: &Path, pair: &Pair) -> Command {
        let mut command = sysgraft(["sign", "attach", "--signature"]);
        command
            .arg(signature)
            .arg("--certificate")
            .arg(&pair.certificate)
            .arg(&self.image);
        command
    }

    fn attach(&self, signature: &Path, pair: &Pair) -> Vec<u8> {
        let output = self.command(signature, pair).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        openssl_verifies(&self.image, &pair.certificate);
        fs::read(&self.image).unwrap()
    }
}

#[test]
fn signatures_made_elsewhere_give_the_same_bytes_in_every_form() {
    let place = ToAttach::new();
    let rsa = Pair::example("db");
    let at_once = image_of_one_step(&place.workplace, &RSA);
    let waiting = fs::read(&place.image).unwrap();
    let base64 = place.workplace.path("base64");
    let der = place.signature("root-hash", &rsa, "smime -noattr -nocerts -outform DER");
    let encoded = Command::new("base64").arg(&der).output().unwrap().stdout;
    fs::write(&base64, encoded).unwrap();
    for signature in [
        der,
        base64,
        place.signature("root-hash", &rsa, "smime -noattr -outform DER"),
        place.signature("root-hash", &rsa, "smime -noattr -outform PEM"),
        place.signature("root-hash", &rsa, "cms -noattr -md sha256 -outform DER"),
        place.signature("root-hash", &rsa, "cms -noattr -outform PEM"),
        place.signature(
            "root-hash",
            &rsa,
            "smime -noattr -outform DER -certfile keys-example/ec.pem",
        ),
    ] {
        fs::write(&place.image, &waiting).unwrap();
        assert!(place.attach(&signature, &rsa) == at_once, "{signature:?}");
    }

    // With another digest it is another signature, and as good.
    let sha512 = place.signature("root-hash", &rsa, "smime -noattr -md sha512 -outform DER");
    assert!(place.attach(&sha512, &rsa) != at_once);
    let p384 = Pair::p384(&place.workplace);
    for (pair, digest) in [(Pair::example("ec"), "sha256"), (p384, "sha384")] {
        let arguments = format!("smime -noattr -md {digest} -outform DER");
        let signature = place.signature("root-hash", &pair, &arguments);
        place.attach(&signature, &pair);
    }
}

#[test]
fn signatures_that_would_not_be_taken_are_refused() {
    let place = ToAttach::new();
    let (rsa, ec) = (Pair::example("db"), Pair::example("ec"));
    fs::write(
        place.workplace.path("with-line-break"),
        format!("{}\n", place.root_hash),
    )
    .unwrap();
    fs::write(place.workplace.path("other"), "ab".repeat(32)).unwrap();
    let uppercase = place.root_hash.to_uppercase();
    fs::write(place.workplace.path("uppercase"), uppercase).unwrap();
    let damaged = place.workplace.path("damaged");
    let mut bytes =
        fs::read(place.signature("root-hash", &rsa, "smime -noattr -outform DER")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let cut = place.workplace.path("cut");
    fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    let large = place.workplace.path("large");
    fs::write(&large, vec![b'A'; 2 << 20]).unwrap();

    let made = |content: &str, arguments: &str| place.signature(content, &rsa, arguments);
    for (signature, word) in [
        (made("root-hash", "smime -outform DER"), "signed attributes"),
        (
            made("root-hash", "cms -nosmimecap -outform DER"),
            "signed attributes",
        ),
        (
            made("root-hash", "smime -noattr -nodetach -outform DER"),
            "embeds",
        ),
        (
            made("root-hash", "smime -noattr -md sha1 -outform DER"),
            "digest",
        ),
        (
            made("root-hash", "smime -noattr -md sha224 -outform DER"),
            "digest",
        ),
        (
            made(
                "root-hash",
                "cms -noattr -keyopt rsa_padding_mode:pss -outform DER",
            ),
            "1.2.840.113549.1.1.10",
        ),
        (
            made("root-hash", "cms -noattr -keyid -outform DER"),
            "version 3",
        ),
        (made("root-hash", "smime -noattr"), "S/MIME"),
        (
            made("with-line-break", "smime -noattr -outform DER"),
            "line break",
        ),
        (made("other", "smime -noattr -outform DER"), "another image"),
        (
            made("uppercase", "smime -noattr -outform DER"),
            "another image",
        ),
        (
            place.signature("root-hash", &ec, "smime -noattr -outform DER"),
            "P-256",
        ),
        (damaged, "another image"),
        (cut, "PKCS#7"),
        (large, "larger"),
        (rsa.certificate.clone(), "PKCS#7"),
        (place.workplace.path("root-hash"), "PKCS#7"),
        (place.workplace.path("nowhere"), "No such file"),
    ] {
        let error = refusal(&place.image, &mut place.command(&signature, &rsa));
        assert_names(&error, &[signature.to_str().unwrap(), word]);
    }
    // The same issuer and serial number, but another key.
    let impostor = Pair::generate(&place.workplace, "impostor", &["-newkey", "rsa:2048"]);
    let twin = Pair {
        certificate: impostor.certify_as(&rsa.certificate, -1..1, &place.workplace, "twin.pem"),
        ..impostor
    };
    let signature = made("root-hash", "smime -noattr -outform DER");
    let error = refusal(&place.image, &mut place.command(&signature, &twin));
    assert_names(&error, &["twin.pem", &place.root_hash]);
    place.attach(&signature, &rsa);
}
