//! Any bytes as a stored layer, compressed or not: entries or an error, never a panic.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sysgraft::layer::{Expected, open};
use sysgraft::source::LayerBytes;

fuzz_target!(|stored: &[u8]| {
    let bytes = LayerBytes::Archive(Box::new(Cursor::new(stored.to_vec())));
    if let Ok(mut stream) = open(bytes, Expected::default()) {
        while let Ok(Some(_)) = stream.next_entry() {}
        let _ = stream.finish();
    }
});
