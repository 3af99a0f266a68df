//! The room as a whole, with OpenSSL as the other opinion.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::stack::Stack;
use openssl::symm::Cipher;
use openssl::x509::{X509, X509Builder, X509Name};
use proptest::prelude::*;

use super::*;
use crate::verity::RootHash;

const ROOT: RootHash = RootHash([0x5a; 32]);

fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

struct Wish {
    serial: i32,
    /// 0 for version 1.
    version: i32,
    name: &'static str,
    /// Days from now.
    valid: (i64, i64),
}

const PLAIN: Wish = Wish {
    serial: 0x1234,
    version: 2,
    name: "somebody",
    valid: (-1, 1),
};

fn certify(key: &PKey<Private>, wish: &Wish) -> X509 {
    let mut serial = BigNum::from_u32(wish.serial.unsigned_abs()).unwrap();
    serial.set_negative(wish.serial < 0);
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("O", "an organisation").unwrap();
    name.append_entry_by_text("CN", wish.name).unwrap();
    let name = name.build();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(wish.version).unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&time(wish.valid.0)).unwrap();
    builder.set_not_after(&time(wish.valid.1)).unwrap();
    builder.set_pubkey(key).unwrap();
    // Edwards keys bring their own digest.
    let digest = match key.id() {
        openssl::pkey::Id::ED25519 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    };
    builder.sign(key, digest).unwrap();
    builder.build()
}

/// A folder with `key` and `certificate` in it.
struct Files {
    _folder: tempfile::TempDir,
    key: PathBuf,
    certificate: PathBuf,
}

fn files(key: &[u8], certificate: &[u8]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let (key_path, certificate_path) = (folder.path().join("key"), folder.path().join("crt"));
    fs::write(&key_path, key).unwrap();
    fs::set_permissions(&key_path, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&certificate_path, certificate).unwrap();
    Files {
        _folder: folder,
        key: key_path,
        certificate: certificate_path,
    }
}

impl Files {
    fn load(&self, passphrase: Option<&str>) -> Result<PemSigner, SignatureError> {
        PemSigner::load(
            &self.key,
            &self.certificate,
            passphrase.map(Passphrase::new),
        )
    }
}

fn pair(key: &PKey<Private>, wish: &Wish) -> Files {
    let pem = key.private_key_to_pem_pkcs8().unwrap();
    files(&pem, &certify(key, wish).to_pem().unwrap())
}

fn refusal(files: &Files, passphrase: Option<&str>) -> SignatureError {
    match files.load(passphrase) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

fn openssl_signature(key: &PKey<Private>, certificate: &X509, flags: Pkcs7Flags) -> Vec<u8> {
    let flags = Pkcs7Flags::BINARY | flags;
    let none = Stack::new().unwrap();
    let content = ROOT.to_string();
    let signed = Pkcs7::sign(certificate, key, &none, content.as_bytes(), flags);
    signed.unwrap().to_der().unwrap()
}

/// systemd-repart signs with these flags.
const REPART: Pkcs7Flags = Pkcs7Flags::DETACHED.union(Pkcs7Flags::NOATTR);

#[test]
fn rsa_signatures_equal_those_of_openssl_whatever_the_certificate() {
    let key = rsa(2048);
    let wishes = [
        PLAIN,
        Wish { serial: 0, ..PLAIN },
        Wish {
            serial: 0x80,
            ..PLAIN
        },
        Wish {
            serial: -5,
            ..PLAIN
        },
        Wish {
            serial: i32::MIN + 1,
            ..PLAIN
        },
        Wish {
            version: 0,
            ..PLAIN
        },
        Wish {
            name: "Jürgen, \"the\" <signer>",
            ..PLAIN
        },
    ];
    for wish in wishes {
        let files = pair(&key, &wish);
        let signer = files.load(None).unwrap();
        let ours = sign_root_hash(&signer, &ROOT).unwrap();
        let certificate = X509::from_pem(&fs::read(&files.certificate).unwrap()).unwrap();
        let theirs = openssl_signature(&key, &certificate, REPART);
        assert!(ours == theirs, "serial number {}", wish.serial);
        let shape = SignatureShape::read(&ours).unwrap();
        assert_eq!(shape.objections, []);
        assert_eq!(shape.algorithm, "RSA with SHA-256");
        let by = signer_of(&ours, &ROOT, &[signer.certificate().clone()]).unwrap();
        assert_eq!(by.certificate.der(), signer.certificate().der());
    }
}

#[test]
fn a_signature_counts_only_for_its_root_hash_and_its_certificate() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let signer = pair(&key, &PLAIN).load(None).unwrap();
    let other = pair(&key, &Wish { serial: 7, ..PLAIN }).load(None).unwrap();
    let impostor = pair(&ec(Nid::X9_62_PRIME256V1), &PLAIN).load(None).unwrap();
    let signed = sign_root_hash(&signer, &ROOT).unwrap();
    let judge = |root: &RootHash, certificates: &[Certificate]| {
        signer_of(&signed, root, certificates).map(|by| by.certificate.der().to_vec())
    };
    let own = signer.certificate().clone();
    let der = own.der().to_vec();
    assert_eq!(judge(&ROOT, std::slice::from_ref(&own)), Ok(der.clone()));
    assert_eq!(judge(&ROOT, &[]), Ok(der.clone()));
    let several = [other.certificate().clone(), own.clone()];
    assert_eq!(judge(&ROOT, &several), Ok(der));
    assert_eq!(judge(&RootHash([1; 32]), &[own]), Err(Refusal::Invalid));
    let others = [other.certificate().clone()];
    assert_eq!(judge(&ROOT, &others), Err(Refusal::SignerUnknown));
    // Another key under the same issuer and serial number.
    let impostors = [impostor.certificate().clone()];
    assert_eq!(judge(&ROOT, &impostors), Err(Refusal::Invalid));
}

#[test]
fn shapes_that_one_verifier_refuses_are_told() {
    let key = rsa(2048);
    let certificate = certify(&key, &PLAIN);
    let objections = |der: &[u8]| SignatureShape::read(der).unwrap().objections;
    let signed = |flags| openssl_signature(&key, &certificate, flags);
    assert_eq!(objections(&signed(REPART)), []);
    assert_eq!(objections(&signed(REPART | Pkcs7Flags::NOCERTS)), []);
    let attributes = objections(&signed(Pkcs7Flags::DETACHED));
    assert_eq!(attributes, [Objection::SignedAttributes]);
    let embedded = objections(&signed(Pkcs7Flags::NOATTR));
    assert_eq!(embedded, [Objection::EmbeddedContent]);

    let renamed = |from: &str, to: &str| {
        let oid = |text: &str| der::asn1::ObjectIdentifier::new_unwrap(text);
        let (from, to) = (oid(from), oid(to));
        let mut der = signed(REPART);
        // The last one is the signer's.
        let place = der
            .windows(from.as_bytes().len())
            .rposition(|w| w == from.as_bytes());
        let place = place.unwrap();
        der[place..place + to.as_bytes().len()].copy_from_slice(to.as_bytes());
        (objections(&der), to)
    };
    // rsaEncryption to sha256WithRSAEncryption, and SHA-256 to SHA-224.
    let (found, oid) = renamed("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11");
    assert_eq!(found, [Objection::Algorithm(oid)]);
    let (found, oid) = renamed("2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.4");
    assert_eq!(found, [Objection::Digest(oid)]);
}

#[test]
fn a_signature_that_is_none_is_malformed() {
    let signer = pair(&rsa(2048), &PLAIN).load(None).unwrap();
    let signed = sign_root_hash(&signer, &ROOT).unwrap();
    let trailing = [&signed[..], b"x"].concat();
    for bytes in [
        &b""[..],
        b"x",
        &signed[..signed.len() - 1],
        &trailing,
        signer.certificate().der(),
    ] {
        assert_eq!(SignatureShape::read(bytes).unwrap_err(), Refusal::Malformed);
        assert_eq!(
            signer_of(bytes, &ROOT, &[]).unwrap_err(),
            Refusal::Malformed
        );
    }
}

/// RFC 6979, appendices A.2.5 and A.2.6.
#[test]
fn ecdsa_signatures_are_those_of_rfc_6979() {
    const P256: &str = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    const P384: &str = "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D8\
                        96D5724E4C70A825F872C9EA60D2EDF5";
    let vectors = [
        (
            Nid::X9_62_PRIME256V1,
            P256,
            "sample",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ),
        (
            Nid::X9_62_PRIME256V1,
            P256,
            "test",
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
            "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        ),
        (
            Nid::SECP384R1,
            P384,
            "sample",
            "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C\
             81A648152E44ACF96E36DD1E80FABE46",
            "99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94F\
             A329C145786E679E7B82C71A38628AC8",
        ),
        (
            Nid::SECP384R1,
            P384,
            "test",
            "8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB\
             0542A7F0812998DA8F1DD3CA3CF023DB",
            "DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E0\
             6A739F040649A667BF3B828246BAA5A5",
        ),
    ];
    for (curve, scalar, message, r, s) in vectors {
        let group = EcGroup::from_curve_name(curve).unwrap();
        let scalar = BigNum::from_hex_str(scalar).unwrap();
        let mut point = EcPoint::new(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        point.mul_generator2(&group, &scalar, &mut context).unwrap();
        let key = EcKey::from_private_components(&group, &scalar, &point).unwrap();
        let signer = pair(&PKey::from_ec_key(key).unwrap(), &PLAIN)
            .load(None)
            .unwrap();
        let signature = signer.sign(message.as_bytes()).unwrap();
        let signature = openssl::ecdsa::EcdsaSig::from_der(&signature).unwrap();
        assert_eq!(
            signature.r(),
            &*BigNum::from_hex_str(r).unwrap(),
            "{message}"
        );
        assert_eq!(
            signature.s(),
            &*BigNum::from_hex_str(s).unwrap(),
            "{message}"
        );
    }
}

#[test]
fn keys_are_read_in_every_pem_form() {
    let (rsa, p256, p384) = (rsa(2048), ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1));
    let secret = b"correct horse";
    let cipher = Cipher::aes_256_cbc();
    let rsa_key = rsa.rsa().unwrap();
    let ec_key = p256.ec_key().unwrap();
    let forms = [
        (&rsa, rsa_key.private_key_to_pem().unwrap()),
        (
            &rsa,
            rsa_key
                .private_key_to_pem_passphrase(cipher, secret)
                .unwrap(),
        ),
        (&rsa, rsa.private_key_to_pem_pkcs8().unwrap()),
        (
            &rsa,
            rsa.private_key_to_pem_pkcs8_passphrase(cipher, secret)
                .unwrap(),
        ),
        (&p256, ec_key.private_key_to_pem().unwrap()),
        (
            &p256,
            ec_key
                .private_key_to_pem_passphrase(cipher, secret)
                .unwrap(),
        ),
        (
            &p384,
            p384.private_key_to_pem_pkcs8_passphrase(cipher, secret)
                .unwrap(),
        ),
    ];
    for (key, pem) in forms {
        let text = String::from_utf8_lossy(&pem).into_owned();
        let certificate = certify(key, &PLAIN);
        let files = files(&pem, &certificate.to_der().unwrap());
        let signer = files.load(Some("correct horse")).expect(&text);
        let signed = sign_root_hash(&signer, &ROOT).unwrap();
        assert!(signer_of(&signed, &ROOT, &[signer.certificate().clone()]).is_ok());
        assert_eq!(SignatureShape::read(&signed).unwrap().objections, []);
        if text.contains("ENCRYPTED") {
            let error = refusal(&files, None);
            assert!(
                matches!(error, SignatureError::PassphraseMissing(_)),
                "{error}"
            );
            for wrong in ["wrong", "", &"long".repeat(1000)] {
                let error = refusal(&files, Some(wrong));
                assert!(
                    matches!(error, SignatureError::PassphraseWrong(_)),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn keys_whose_signatures_a_verifier_refuses_are_refused() {
    let unsuitable = |key: PKey<Private>, expected: &str| {
        let error = refusal(&pair(&key, &PLAIN), None);
        let SignatureError::UnsuitableKey { found, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(found, expected);
    };
    unsuitable(rsa(1024), "RSA of 1024 bits");
    unsuitable(PKey::generate_ed25519().unwrap(), "Ed25519");
    unsuitable(ec(Nid::SECP521R1), "ECDSA on another curve");
    unsuitable(ec(Nid::SECP256K1), "ECDSA on another curve");
}

#[test]
fn key_and_certificate_must_belong_together() {
    let (one, other) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::X9_62_PRIME256V1));
    let certificate = certify(&other, &PLAIN).to_pem().unwrap();
    let files = files(&one.private_key_to_pem_pkcs8().unwrap(), &certificate);
    let error = refusal(&files, None);
    assert!(matches!(error, SignatureError::Mismatch { .. }), "{error}");
}

#[test]
fn files_that_hold_no_key_or_certificate_are_named() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let (pem, certificate) = (
        key.private_key_to_pem_pkcs8().unwrap(),
        certify(&key, &PLAIN),
    );
    let certificate = certificate.to_pem().unwrap();
    for (key, certificate, expected) in [
        (&b"no key"[..], &certificate[..], "key"),
        (b"", &certificate, "key"),
        (&certificate, &certificate, "key"),
        (&pem, b"no certificate", "crt"),
        (&pem, &pem, "crt"),
    ] {
        let files = files(key, certificate);
        let SignatureError::Malformed { path, .. } = refusal(&files, None) else {
            panic!("{expected}");
        };
        assert!(path.ends_with(expected));
    }
    let mut files = files(&pem, &certificate);
    files.key = Path::new("/nowhere/key").to_owned();
    assert!(matches!(refusal(&files, None), SignatureError::Read { .. }));
    let large = vec![b' '; (1 << 20) + 1];
    fs::write(&files.certificate, large).unwrap();
    files.key = files.certificate.clone();
    assert!(matches!(refusal(&files, None), SignatureError::Read { .. }));
}

#[test]
fn what_is_doubtful_about_key_and_certificate_is_a_warning() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let warnings = |files: &Files| files.load(None).unwrap().warnings().to_vec();
    assert_eq!(warnings(&pair(&key, &PLAIN)), []);
    let of_this_second = Wish {
        valid: (0, 1),
        ..PLAIN
    };
    assert_eq!(warnings(&pair(&key, &of_this_second)), []);
    let expired = pair(
        &key,
        &Wish {
            valid: (-9, -1),
            ..PLAIN
        },
    );
    let found = warnings(&expired);
    assert!(
        matches!(found[..], [SignerWarning::Expired { .. }]),
        "{found:?}"
    );
    let early = pair(
        &key,
        &Wish {
            valid: (1, 9),
            ..PLAIN
        },
    );
    let found = warnings(&early);
    assert!(
        matches!(found[..], [SignerWarning::NotYetValid(_)]),
        "{found:?}"
    );
    let open = pair(&key, &PLAIN);
    fs::set_permissions(&open.key, PermissionsExt::from_mode(0o640)).unwrap();
    let found = warnings(&open);
    assert!(
        matches!(found[..], [SignerWarning::Exposed { mode: 0o640, .. }]),
        "{found:?}"
    );
    let found = warnings(&pair(&rsa(2560), &PLAIN));
    assert!(
        matches!(found[..], [SignerWarning::OddRsaLength { bits: 2560, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_certificate_tells_about_itself_without_control_characters() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let wish = Wish {
        name: "evil\u{1b}[2J\u{9b}name",
        ..PLAIN
    };
    let signer = pair(&key, &wish).load(None).unwrap();
    let certificate = signer.certificate();
    let shape = SignatureShape::read(&sign_root_hash(&signer, &ROOT).unwrap()).unwrap();
    for text in [certificate.subject(), certificate.issuer(), shape.signer] {
        assert!(text.starts_with("O=an organisation, CN=evil"), "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert_eq!(certificate.serial(), "1234");
}

#[test]
fn secrets_do_not_show() {
    assert!(!format!("{:?}", Passphrase::new("secret")).contains("secret"));
}

proptest! {
    #[test]
    fn mutated_signatures_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        static SIGNED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let signed = SIGNED.get_or_init(|| {
            let signer = pair(&ec(Nid::X9_62_PRIME256V1), &PLAIN).load(None).unwrap();
            sign_root_hash(&signer, &ROOT).unwrap()
        });
        let mut bytes = signed.clone();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let _ = SignatureShape::read(&bytes);
        let _ = signer_of(&bytes, &ROOT, &[]);
    }

    #[test]
    fn what_is_accepted_from_elsewhere_is_the_shape_that_is_made_here(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        base64 in any::<bool>(),
    ) {
        use base64::Engine;
        static SIGNED: std::sync::OnceLock<(SigningCertificate, Vec<u8>)> =
            std::sync::OnceLock::new();
        let (certificate, signed) = SIGNED.get_or_init(|| {
            let files = pair(&ec(Nid::X9_62_PRIME256V1), &PLAIN);
            let signed = sign_root_hash(&files.load(None).unwrap(), &ROOT).unwrap();
            (SigningCertificate::load(&files.certificate).unwrap(), signed)
        });
        let mut bytes = signed.clone();
        let unchanged = changes.is_empty();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if base64 {
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            bytes = text.into_bytes();
        }
        match accept_signature(&bytes, &ROOT, certificate) {
            Ok(accepted) => prop_assert_eq!(&accepted, signed),
            Err(refusal) => prop_assert!(!unchanged, "{}", refusal),
        }
        let _ = accept_signature(&bytes, &RootHash([1; 32]), certificate)
            .map(|_| panic!("over another root hash"));
    }

    #[test]
    fn random_signatures_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = SignatureShape::read(&bytes);
        let _ = signer_of(&bytes, &ROOT, &[]);
    }
}
