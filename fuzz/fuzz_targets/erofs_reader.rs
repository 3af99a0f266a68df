//! Reads any bytes as an EROFS file system: no panic, no endless loop, bounded memory.

#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use sysgraft::erofs::{FileSystem, ReadError};

fuzz_target!(|image: &[u8]| {
    let mut image = image.to_vec();
    // without this bit of `feature_compat` the checksum counts for nothing
    if let Some(features) = image.get_mut(1024 + 8) {
        *features &= !1;
    }
    let Ok(file_system) = FileSystem::open(&image[..]) else {
        return;
    };
    let _ = file_system.walk(|_, inode| {
        let _ = file_system.xattrs(inode);
        let _ = file_system.read_link(inode);
        if let Ok(content) = file_system.content(inode) {
            let _ = content.take(1 << 16).read_to_end(&mut Vec::new());
        }
        Ok::<_, ReadError>(())
    });
    let _ = file_system.lookup(b"usr/lib/extension-release.d");
});
