//! Loading certificates from whatever holds them. What the verifiers say is in
//! `tests/trust_shapes.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// The certificate of an example key, in DER form.
fn der(name: &str) -> Vec<u8> {
    Certificate::load(&example(name)).unwrap().der().to_vec()
}

fn pem(name: &str) -> Vec<u8> {
    fs::read(example(name)).unwrap()
}

fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("keys-example");
    folder.join(format!("{name}.pem"))
}

/// A signature list with one certificate.
fn list(der: &[u8]) -> Vec<u8> {
    let mut bytes = uuid::uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
        .to_bytes_le()
        .to_vec();
    for number in [28 + 16 + der.len(), 0, 16 + der.len()] {
        bytes.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    bytes.extend([7; 16]);
    bytes.extend(der);
    bytes
}

fn loaded(bytes: &[u8]) -> Result<TrustStore, TrustError> {
    let mut store = TrustStore::new();
    store.load_bytes(bytes, Path::new("some/file"))?;
    Ok(store)
}

fn forms(store: &TrustStore) -> Vec<(Form, Vec<u8>)> {
    let certificates = store.certificates().iter();
    certificates
        .map(|trusted| (trusted.origin.form, trusted.certificate.der().to_vec()))
        .collect()
}

#[test]
fn every_form_is_known_by_its_content() {
    let db = der("db");
    assert_eq!(
        forms(&loaded(&pem("db")).unwrap()),
        [(Form::Pem, db.clone())]
    );
    assert_eq!(forms(&loaded(&db).unwrap()), [(Form::Der, db.clone())]);
    let lists = [list(&db), list(b"no certificate"), list(&der("ec"))].concat();
    let variable = [&[7, 0, 0, 0], &lists[..]].concat();
    let owner = Guid::from_bytes([7; 16]);
    for bytes in [lists, variable] {
        let store = loaded(&bytes).unwrap();
        let numbered = |number| Form::SignatureList { number, owner };
        let expected = [(numbered(1), db.clone()), (numbered(3), der("ec"))];
        assert_eq!(forms(&store), expected);
        assert_eq!(store.passed_over().len(), 1);
        let shown = store.certificates()[1].to_string();
        assert!(shown.ends_with(" (certificate 3 of some/file)"), "{shown}");
    }
}

#[test]
fn of_several_certificates_in_a_file_the_first_counts() {
    let bundle = [pem("ec"), pem("db")].concat();
    let store = loaded(&bundle).unwrap();
    assert_eq!(forms(&store), [(Form::Pem, der("ec"))]);
    let note = store.passed_over()[0].to_string();
    assert!(note.contains("the first only"), "{note}");
}

#[test]
fn a_certificate_that_is_loaded_twice_keeps_its_first_origin() {
    let mut store = loaded(&pem("db")).unwrap();
    store.load_bytes(&der("db"), Path::new("again")).unwrap();
    assert_eq!(forms(&store), [(Form::Pem, der("db"))]);
}

#[test]
fn files_without_a_certificate_are_named() {
    let db = der("db");
    let trailing = [&db[..], b"x"].concat();
    for bytes in [
        &b""[..],
        b"text",
        b"0",
        &trailing,
        &db[..100],
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &fs::read(example("db").with_extension("key")).unwrap(),
        &list(b"no certificate"),
        &list(&db)[..200],
    ] {
        let error = loaded(bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("some/file holds no certificate"),
            "{error}"
        );
    }
    let mut store = TrustStore::new();
    let error = store.load_file(Path::new("/nowhere/x.pem")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.pem"), "{error}");
}

/// The rows of the table of `verity.d` contents that were measured on systemd 257.
#[test]
fn folders_are_read_as_systemd_reads_verity_d() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["etc", "run", "usr"] {
        fs::create_dir(path(name)).unwrap();
    }
    let nothing: [PathBuf; 0] = [];
    let origins = |folders: &[&str]| -> Vec<PathBuf> {
        let folders: Vec<PathBuf> = folders.iter().map(|name| path(name)).collect();
        let mut store = TrustStore::new();
        store.load_folders(&folders).unwrap();
        let certificates = store.certificates().iter();
        certificates
            .map(|trusted| {
                let origin = trusted.origin.path.strip_prefix(folder.path()).unwrap();
                origin.to_path_buf()
            })
            .collect()
    };
    fs::write(path("etc/b.pem"), pem("db")).unwrap();
    fs::write(path("etc/.c.crt"), pem("db")).unwrap();
    assert_eq!(origins(&["etc"]), nothing);
    fs::write(path("run/a.crt"), pem("db")).unwrap();
    fs::write(path("usr/0.crt"), pem("ec")).unwrap();
    let all = ["etc", "run", "usr"];
    assert_eq!(
        origins(&all),
        [Path::new("usr/0.crt"), Path::new("run/a.crt")]
    );

    symlink("/dev/null", path("etc/a.crt")).unwrap();
    assert_eq!(origins(&all), [Path::new("usr/0.crt")]);
    fs::write(path("run/0.crt"), "").unwrap();
    assert_eq!(origins(&all), nothing);

    let mut store = TrustStore::new();
    fs::write(path("usr/0.crt"), der("ec")).unwrap();
    fs::create_dir(path("usr/folder.crt")).unwrap();
    symlink("gone", path("usr/link.crt")).unwrap();
    store.load_folders(&[path("usr")]).unwrap();
    assert_eq!(store.certificates().len(), 0);
    let notes: Vec<&str> = store.passed_over().iter().map(|note| note.reason).collect();
    assert_eq!(notes.len(), 3);
    assert!(notes[0].contains("PEM form"), "{notes:?}");
    let error = store.load_folders(&[path("gone")]).unwrap_err();
    assert!(matches!(error, TrustError::Folder { .. }), "{error}");
}

proptest! {
    #[test]
    fn any_file_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = loaded(&bytes);
        let _ = loaded(&list(&bytes));
    }

    #[test]
    fn damaged_certificates_are_read_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        listed in any::<bool>(),
    ) {
        let mut bytes = der("ec");
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(store) = loaded(&if listed { list(&bytes) } else { bytes }) {
            let partition = SignaturePartition {
                root_hash: RootHash([1; 32]),
                certificate_fingerprint: None,
                pkcs7: Vec::new(),
            };
            prop_assert!(store.judge(&partition, &RootHash([1; 32])).systemd.is_err());
        }
    }
}
