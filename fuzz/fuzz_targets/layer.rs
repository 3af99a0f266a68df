//! Reads any bytes as a layer: no panic, no endless loop, bounded memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::layer::{self, Expected};
use sysgraft::source::LayerBytes;

/// A few bytes of gzip or a sparse map can stand for very many.
const MAX_CONTENT_BYTES: usize = 1 << 22;

fuzz_target!(|bytes: Vec<u8>| {
    let stored = LayerBytes::Archive(Box::new(std::io::Cursor::new(bytes)));
    let Ok(mut entries) = layer::open(stored, Expected::default()) else {
        return;
    };
    let mut buffer = vec![0; 1 << 16];
    let mut read = 0;
    while let Ok(Some(_)) = entries.next_entry() {
        while let Ok(length) = entries.read_content(&mut buffer) {
            read += length;
            if length == 0 {
                break;
            }
            if read > MAX_CONTENT_BYTES {
                return;
            }
        }
    }
});
