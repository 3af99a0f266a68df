//! Certificates and signature lists from anybody, and signatures that are judged by them.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sysgraft::signature::SignaturePartition;
use sysgraft::signature::trust::TrustStore;
use sysgraft::verity::RootHash;

/// So that somebody is trusted, whatever the input is.
const EXAMPLE: &[u8] = include_bytes!("../../keys-example/db.pem");

fuzz_target!(|input: (&[u8], &[u8])| {
    let (file, pkcs7) = input;
    let mut store = TrustStore::new();
    store.load_bytes(EXAMPLE, Path::new("example")).unwrap();
    let known = store.certificates().len();
    let loaded = store.load_bytes(file, Path::new("file"));
    assert!(loaded.is_ok() || store.certificates().len() == known);
    let root_hash = RootHash([0; 32]);
    let partition = SignaturePartition {
        root_hash,
        certificate_fingerprint: None,
        pkcs7: pkcs7.to_vec(),
    };
    let verdict = store.judge(&partition, &root_hash);
    // Nobody has signed this root hash.
    assert!(verdict.systemd.is_err() && verdict.kernel.is_err());
});
