//! Verity superblocks from anybody, and verification with them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::verity::{Superblock, verify};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(superblock) = Superblock::parse(bytes) {
        assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
    }
    // As data and hash partition at once.
    let _ = verify(bytes, bytes, None);
});
