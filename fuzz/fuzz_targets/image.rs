//! Opens any bytes as an extension image and verifies what is in it: no panic, bounded memory.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use sysgraft::image::{Ddi, Role};
use sysgraft::signature::signer_of;
use sysgraft::verity::{RootHash, verify};

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    let _ = signer_of(bytes, &RootHash([0; 32]), &[]);
    let Ok(ddi) = Ddi::open(file.path()) else {
        return;
    };
    let data = ddi.open_partition(Role::Data);
    let hash = ddi.open_partition(Role::Hash);
    if let (Ok(Some(data)), Ok(Some(hash))) = (data, hash) {
        let _ = verify(&data, &hash, ddi.root_hash().as_ref());
    }
});
