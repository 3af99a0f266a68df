//! Reads any bytes as an ESL file, a variable of efivarfs and an `.auth` file. What can be read is
//! written back as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::efi::SignatureDatabase;
use sysgraft::secureboot::AuthenticatedVariable;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(database) = SignatureDatabase::parse(bytes) {
        assert_eq!(database.encode(), bytes);
        let mut copy = SignatureDatabase::default();
        for list in database.lists() {
            for entry in list.entries() {
                assert!(copy.add(list.kind(), entry));
            }
        }
        assert!(copy.certificates().count() <= database.certificates().count());
        assert_eq!(SignatureDatabase::parse(&copy.encode()), Ok(copy));
    }
    let _ = SignatureDatabase::parse_file(bytes);
    if let Ok(variable) = AuthenticatedVariable::parse(bytes) {
        assert_eq!(variable.encode(), bytes);
    }
});
