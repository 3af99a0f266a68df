//! mkfs.erofs as the packer, where there is one that can be used.

#![allow(dead_code)] // each test uses a part of it

use std::path::Path;

use sysgraft::erofs::mkfs::MkfsProgram;

use crate::support::skip;
use crate::workplace::is_root;

/// The arguments that choose it.
pub const PACKER: [&str; 2] = ["--packer", "mkfs.erofs"];

/// Whether `PATH` has an mkfs.erofs that is new enough; a skipped test if not.
pub fn can_pack(test: &str) -> bool {
    match MkfsProgram::find(Path::new("mkfs.erofs"), Vec::new()) {
        Ok(_) => true,
        Err(error) => {
            skip(test, &error.to_string());
            false
        }
    }
}

pub fn can_mount(test: &str) -> bool {
    if !is_root() {
        skip(test, "mounting needs root");
    }
    is_root()
}

/// The arguments that pass `options` on, and nothing else about compression.
pub fn passed_on<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let options = options.iter().flat_map(|option| ["--mkfs-option", option]);
    let packer = PACKER.into_iter().chain(["--compression", "none"]);
    packer.chain(options).collect()
}
