//! Any bytes as an archive: entries or an error, never a panic, never much memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sysgraft::layer::{EntryStream, TarStream};

fuzz_target!(|archive: &[u8]| {
    let mut stream = TarStream::new(archive);
    let mut buffer = [0; 4096];
    while let Ok(Some(_)) = stream.next_entry() {
        let _ = stream.read_content(&mut buffer);
    }
});
