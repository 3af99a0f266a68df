//! Signature partitions and PKCS#7 signatures from anybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::signature::{SignaturePartition, SignatureShape, signer_of};
use sysgraft::verity::RootHash;

fuzz_target!(|bytes: &[u8]| {
    let root_hash = RootHash([0; 32]);
    let judge = |pkcs7: &[u8]| {
        let shape = SignatureShape::read(pkcs7);
        let signer = signer_of(pkcs7, &root_hash, &[]);
        assert!(shape.is_ok() || signer.is_err());
    };
    judge(bytes);
    if let Ok(partition) = SignaturePartition::parse(bytes) {
        judge(&partition.pkcs7);
        if let Ok(encoded) = partition.encode() {
            assert_eq!(SignaturePartition::parse(&encoded), Ok(partition));
        }
    }
});
