//! What systemd and the kernel were seen to take and to refuse, and what this program says of the
//! same: signatures of every shape, made with OpenSSL.
//!
//! The rows of the table were measured on Debian 13 (Linux 6.12.107, systemd 257.13). There the key
//! was in no keyring of the kernel's, so "takes" means that the kernel went as far as asking for it.

#[path = "support/authority.rs"]
mod authority;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use authority::{Identity, PLAIN, Wish, ec, rsa};
use der::asn1::ObjectIdentifier;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use sysgraft::signature::trust::{TrustStore, Verdict, Verifier};
use sysgraft::signature::{SignaturePartition, SignatureShape};
use sysgraft::verity::RootHash;

const ROOT: RootHash = RootHash([0x5a; 32]);

/// `openssl smime` or `openssl cms` over `content`.
fn openssl(identity: &Identity, content: &str, arguments: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (key, certificate) = identity.write(path, "signer").unwrap();
    fs::write(path.join("content"), content).unwrap();
    let mut words = arguments.split_whitespace();
    let output = Command::new("openssl")
        .arg(words.next().unwrap())
        .args(["-sign", "-binary", "-outform", "der", "-in"])
        .arg(path.join("content"))
        .arg("-signer")
        .arg(certificate)
        .arg("-inkey")
        .arg(key)
        .args(words)
        .output()
        .expect("openssl is there");
    assert!(output.status.success(), "{arguments}: {output:?}");
    output.stdout
}

fn signed(identity: &Identity, arguments: &str) -> Vec<u8> {
    openssl(identity, &ROOT.to_string(), arguments)
}

fn store(trusted: &[&Identity]) -> TrustStore {
    let mut store = TrustStore::new();
    for (number, identity) in trusted.iter().enumerate() {
        let path = format!("{number}.crt");
        store.load_bytes(&identity.pem(), Path::new(&path)).unwrap();
    }
    store
}

fn judge(pkcs7: &[u8], trusted: &[&Identity]) -> Verdict {
    let partition = SignaturePartition {
        root_hash: ROOT,
        certificate_fingerprint: None,
        pkcs7: pkcs7.to_vec(),
    };
    store(trusted).judge(&partition, &ROOT)
}

/// Fails unless each verifier takes the signature, or refuses it with a sentence that has these
/// words.
fn expect(what: &str, verdict: &Verdict, systemd: Result<(), &str>, kernel: Result<(), &str>) {
    for (verifier, expected) in [(Verifier::Systemd, systemd), (Verifier::Kernel, kernel)] {
        match (verdict.of(verifier), expected) {
            (Ok(_), Ok(())) => {}
            (Err(distrust), Err(words)) => {
                let sentence = distrust.to_string();
                assert!(
                    sentence.contains(words),
                    "{what}: {verifier} refuses: {sentence}"
                );
            }
            (found, _) => panic!("{what}: {verifier}: {found:?}, expected {expected:?}"),
        }
    }
}

const TAKEN: Result<(), &str> = Ok(());

/// An RSA key of 2048 bits, which all tests share.
fn signer() -> &'static Identity {
    static SIGNER: OnceLock<Identity> = OnceLock::new();
    SIGNER.get_or_init(|| Identity::new(rsa(2048), &PLAIN))
}

#[test]
fn shapes_that_both_take() {
    let rsa2048 = signer();
    let rsa4096 = Identity::new(rsa(4096), &PLAIN);
    let p256 = Identity::p256(&PLAIN);
    let p384 = Identity::new(ec(Nid::SECP384R1), &PLAIN);
    let other = Identity::p256(&Wish {
        name: "other",
        ..PLAIN
    });
    for (identity, arguments) in [
        (rsa2048, "smime -noattr"),
        (rsa2048, "cms -noattr"),
        (&rsa4096, "smime -noattr"),
        (rsa2048, "smime -noattr -nocerts"),
        (rsa2048, "cms -noattr -nocerts"),
        (&p256, "smime -noattr -md sha256"),
        (&p256, "cms -noattr -md sha256 -nocerts"),
        (&p384, "smime -noattr -md sha384"),
        (rsa2048, "smime -noattr -md sha512"),
        (rsa2048, "smime -noattr -md sha1"),
        (rsa2048, "cms -nosmimecap"),
    ] {
        let pkcs7 = signed(identity, arguments);
        let verdict = judge(&pkcs7, &[&other, identity]);
        expect(arguments, &verdict, TAKEN, TAKEN);
        let signer = verdict.signer().unwrap();
        assert_eq!(signer.der(), identity.der(), "{arguments}");
        assert_eq!(verdict.date_warning(), None, "{arguments}");
        for acceptance in [verdict.systemd, verdict.kernel] {
            let anchor = acceptance.unwrap().anchor;
            assert_eq!(anchor.to_string(), "CN=somebody (1.crt)");
        }
    }
}

#[test]
fn shapes_that_only_systemd_takes() {
    let taken = |arguments: &str, pkcs7: &[u8], kernel: &str| {
        expect(arguments, &judge(pkcs7, &[signer()]), TAKEN, Err(kernel));
    };
    for (arguments, kernel) in [
        ("smime", "S/MIME capabilities"),
        ("cms", "S/MIME capabilities"),
        ("smime -noattr -nodetach", "embeds its content"),
    ] {
        taken(arguments, &signed(signer(), arguments), kernel);
    }
    let renamed = replace_last(
        &signed(signer(), "smime -noattr"),
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1"),
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"),
    );
    let algorithm = "1.2.840.113549.1.1.11 is none that the kernel takes";
    taken("sha256WithRSAEncryption", &renamed, algorithm);

    let odd = Identity::new(rsa(2560), &PLAIN);
    let verdict = judge(&signed(&odd, "smime -noattr"), &[&odd]);
    expect("RSA 2560", &verdict, TAKEN, Err("RSA of 2560 bits"));
}

#[test]
fn a_signer_named_by_key_identifier_is_known_to_the_kernel_alone() {
    for arguments in ["cms -noattr -keyid", "cms -noattr -keyid -nocerts"] {
        let verdict = judge(&signed(signer(), arguments), &[signer()]);
        expect(arguments, &verdict, Err("by key identifier"), TAKEN);
        assert_eq!(verdict.signer().unwrap().der(), signer().der());
    }
}

#[test]
fn algorithms_that_neither_takes() {
    let pss = "1.2.840.113549.1.1.10 is none that";
    let arguments = "cms -noattr -keyopt rsa_padding_mode:pss";
    let verdict = judge(&signed(signer(), arguments), &[signer()]);
    expect(arguments, &verdict, Err(pss), Err(pss));

    let edwards = Identity::new(PKey::generate_ed25519().unwrap(), &PLAIN);
    let verdict = judge(&ed25519(&edwards), &[&edwards]);
    let algorithm = "1.3.101.112 is none that";
    expect("Ed25519", &verdict, Err(algorithm), Err(algorithm));
}

#[test]
fn what_is_signed_must_be_the_64_digits_of_the_root_hash() {
    let over = |content: &str, arguments: &str| openssl(signer(), content, arguments);
    for arguments in ["smime -noattr", "cms -noattr -nocerts", "cms -nosmimecap"] {
        let verdict = judge(&over(&format!("{ROOT}\n"), arguments), &[signer()]);
        let newline = Err("and a newline");
        expect(arguments, &verdict, newline, newline);
        let other = RootHash([1; 32]).to_string();
        let verdict = judge(&over(&other, arguments), &[signer()]);
        let invalid = Err("over something else than this root hash");
        expect(arguments, &verdict, invalid, invalid);
        let upper = ROOT.to_string().to_uppercase();
        expect(
            arguments,
            &judge(&over(&upper, arguments), &[signer()]),
            invalid,
            invalid,
        );
    }
    // The partition's own word is not enough either.
    let partition = SignaturePartition {
        root_hash: RootHash([1; 32]),
        certificate_fingerprint: None,
        pkcs7: signed(signer(), "smime -noattr"),
    };
    let verdict = store(&[signer()]).judge(&partition, &ROOT);
    let other = Err("its partition speaks of the root hash 0101");
    expect("another partition", &verdict, other, other);
}

#[test]
fn somebody_else_is_not_trusted() {
    let other = Identity::p256(&Wish {
        name: "other",
        ..PLAIN
    });
    for arguments in ["smime -noattr", "smime -noattr -nocerts"] {
        let verdict = judge(&signed(signer(), arguments), &[&other]);
        let unknown = Err("by CN=somebody");
        expect(arguments, &verdict, unknown, unknown);
    }
    let verdict = judge(&signed(signer(), "smime -noattr"), &[]);
    let nobody = Err("no trusted certificate is given");
    expect("an empty store", &verdict, nobody, nobody);
}

/// Everything but the key is as in the trusted certificate.
#[test]
fn a_stranger_under_a_trusted_name_is_told_from_damage() {
    let stranger = Identity::p256(&PLAIN);
    let trusted = [signer()];
    let verdict = judge(&signed(&stranger, "smime -noattr"), &trusted);
    expect(
        "with certificate",
        &verdict,
        Err("by another key than CN=somebody (0.crt)"),
        Err("whose certificate is not trusted"),
    );
    let verdict = judge(&signed(&stranger, "smime -noattr -nocerts"), &trusted);
    let invalid = Err("does not verify with CN=somebody (0.crt)");
    expect("without certificate", &verdict, invalid, invalid);

    // The right one behind the wrong one: systemd looks at the first.
    let verdict = judge(&signed(signer(), "smime -noattr"), &[&stranger, signer()]);
    assert!(verdict.systemd.is_err());

    let mut damaged = signed(signer(), "smime -noattr");
    *damaged.last_mut().unwrap() ^= 1;
    let invalid = Err("it was damaged");
    expect("damage", &judge(&damaged, &trusted), invalid, invalid);
}

#[test]
fn dates_and_purposes_are_not_looked_at_but_dates_are_warned_of() {
    for (days, words) in [((-9, -1), "has expired"), ((1, 9), "is not valid before")] {
        let identity = Identity::p256(&Wish {
            valid: days,
            ..PLAIN
        });
        let verdict = judge(&signed(&identity, "smime -noattr -md sha256"), &[&identity]);
        expect(words, &verdict, TAKEN, TAKEN);
        let warning = verdict.date_warning().unwrap().to_string();
        assert!(warning.contains(words), "{warning}");
        // A signing time that is claimed must lie within.
        let verdict = judge(
            &signed(&identity, "cms -nosmimecap -md sha256"),
            &[&identity],
        );
        expect(words, &verdict, TAKEN, Err("it was made when"));
    }
    let unfit = Identity::p256(&Wish {
        unfit: true,
        ..PLAIN
    });
    let verdict = judge(&signed(&unfit, "smime -noattr -md sha256"), &[&unfit]);
    expect("unfit", &verdict, TAKEN, TAKEN);
}

#[test]
fn only_the_kernel_builds_chains() {
    let authority = Identity::p256(&Wish {
        name: "authority",
        ..PLAIN
    });
    let leaf = Identity::p256(&Wish {
        name: "leaf",
        serial: 5,
        issuer: Some(&authority),
        ..PLAIN
    });
    let arguments = "smime -noattr -md sha256";
    let pkcs7 = signed(&leaf, arguments);
    let verdict = judge(&pkcs7, &[&authority]);
    let hint = "only the issuer is trusted (CN=authority (0.crt))";
    expect("authority installed", &verdict, Err(hint), TAKEN);
    assert_eq!(verdict.signer().unwrap().der(), leaf.der());
    assert_eq!(
        verdict.kernel.unwrap().anchor.certificate.der(),
        authority.der()
    );
    expect("leaf installed", &judge(&pkcs7, &[&leaf]), TAKEN, TAKEN);
    let both = judge(&pkcs7, &[&authority, &leaf]);
    expect("both installed", &both, TAKEN, TAKEN);

    // Without the leaf's certificate there is nothing to begin with.
    let pkcs7 = signed(&leaf, "smime -noattr -md sha256 -nocerts");
    let unknown = Err("by CN=authority, serial number 05");
    expect(
        "no certificate",
        &judge(&pkcs7, &[&authority]),
        unknown,
        unknown,
    );

    // An authority whose key the kernel has no code for.
    let odd = Identity::new(
        rsa(2560),
        &Wish {
            name: "odd",
            ..PLAIN
        },
    );
    let leaf_of_odd = Identity::p256(&Wish {
        name: "leaf",
        serial: 5,
        issuer: Some(&odd),
        ..PLAIN
    });
    let verdict = judge(&signed(&leaf_of_odd, arguments), &[&odd]);
    expect("odd", &verdict, Err("CN=leaf"), Err("CN=leaf"));

    // An authority of the same name with another key.
    let impostor = Identity::p256(&Wish {
        name: "authority",
        ..PLAIN
    });
    let verdict = judge(&signed(&leaf, arguments), &[&impostor]);
    let unknown = Err("by CN=leaf, whose certificate is not trusted");
    expect("impostor", &verdict, unknown, unknown);
}

#[test]
fn a_chain_may_lead_through_certificates_of_the_message() {
    let named = |name, serial, issuer| {
        Identity::p256(&Wish {
            name,
            serial,
            issuer,
            ..PLAIN
        })
    };
    let authority = named("authority", 1, None);
    let middle = named("middle", 2, Some(&authority));
    let leaf = named("leaf", 3, Some(&middle));
    let folder = tempfile::tempdir().unwrap();
    let extra = folder.path().join("middle.crt");
    fs::write(&extra, middle.pem()).unwrap();
    let arguments = format!("smime -noattr -md sha256 -certfile {}", extra.display());
    let verdict = judge(&signed(&leaf, &arguments), &[&authority]);
    expect("with the middle", &verdict, Err("CN=leaf"), TAKEN);
    let verdict = judge(&signed(&leaf, "smime -noattr -md sha256"), &[&authority]);
    expect(
        "without the middle",
        &verdict,
        Err("CN=leaf"),
        Err("CN=leaf"),
    );
}

#[test]
fn versions_and_contents_that_do_not_go_together_are_refused() {
    let pkcs7 = signed(signer(), "smime -noattr");
    // SignedData ::= SEQUENCE { version INTEGER 1, digestAlgorithms SET …
    let place = pkcs7.windows(4).position(|w| w == [2, 1, 1, 0x31]).unwrap();
    let mut other = pkcs7.clone();
    other[place + 2] = 3;
    let verdict = judge(&other, &[signer()]);
    expect("version 3 and 1", &verdict, TAKEN, Err("versions 3 and 1"));
    for bytes in [
        &b""[..],
        b"0",
        &pkcs7[..pkcs7.len() - 1],
        &[&pkcs7[..], b"0"].concat(),
    ] {
        let malformed = Err("no PKCS#7");
        expect(
            "malformed",
            &judge(bytes, &[signer()]),
            malformed,
            malformed,
        );
    }
}

/// The shape that the builder promises is the one that nobody objects to.
#[test]
fn a_shape_without_objections_is_taken_by_both() {
    for arguments in [
        "smime -noattr",
        "smime -noattr -nocerts",
        "smime",
        "cms -nosmimecap",
        "smime -noattr -nodetach",
        "smime -noattr -md sha1",
        "cms -noattr -keyid",
        "cms -noattr -keyopt rsa_padding_mode:pss",
    ] {
        let pkcs7 = signed(signer(), arguments);
        let verdict = judge(&pkcs7, &[signer()]);
        if SignatureShape::read(&pkcs7).unwrap().objections.is_empty() {
            expect(arguments, &verdict, TAKEN, TAKEN);
        }
    }
}

fn replace_last(pkcs7: &[u8], from: ObjectIdentifier, to: ObjectIdentifier) -> Vec<u8> {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let place = pkcs7.windows(from.len()).rposition(|w| w == from).unwrap();
    let mut changed = pkcs7.to_vec();
    changed[place..place + from.len()].copy_from_slice(to);
    changed
}

fn tlv(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let content = contents.concat();
    let length = content.len();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 128 => bytes.push(short),
        Ok(short) => bytes.extend([0x81, short]),
        _ => {
            bytes.push(0x82);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(content);
    bytes
}

/// A signature by an Ed25519 key, as RFC 8419 has it. OpenSSL 3.0 makes none.
fn ed25519(identity: &Identity) -> Vec<u8> {
    let oid = |text: &str| tlv(6, &[ObjectIdentifier::new_unwrap(text).as_bytes()]);
    let algorithm = |text: &str| tlv(0x30, &[&oid(text)]);
    let sha512 = algorithm("2.16.840.1.101.3.4.2.3");
    let issuer = identity.certificate.issuer_name().to_der().unwrap();
    let serial = identity.certificate.serial_number().to_bn().unwrap();
    let serial = tlv(2, &[&serial.to_vec()]);
    let mut signer = openssl::sign::Signer::new_without_digest(&identity.key).unwrap();
    let signature = signer
        .sign_oneshot_to_vec(ROOT.to_string().as_bytes())
        .unwrap();
    let info = tlv(
        0x30,
        &[
            &tlv(2, &[&[1]]),
            &tlv(0x30, &[&issuer, &serial]),
            &sha512,
            &algorithm("1.3.101.112"),
            &tlv(4, &[&signature]),
        ],
    );
    let data = tlv(0x30, &[&oid("1.2.840.113549.1.7.1")]);
    let signed_data = tlv(
        0x30,
        &[
            &tlv(2, &[&[1]]),
            &tlv(0x31, &[&sha512]),
            &data,
            &tlv(0xa0, &[&identity.der()]),
            &tlv(0x31, &[&info]),
        ],
    );
    let signed_data = tlv(0xa0, &[&signed_data]);
    tlv(0x30, &[&oid("1.2.840.113549.1.7.2"), &signed_data])
}
