//! A staging folder, and what is fetched into it.

#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sysgraft::architecture::Architecture;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::fetch::{FetchError, Fetched, Patience, Request, fetch};
use tempfile::TempDir;

/// Not compressible.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A staging folder, and what is asked of it.
pub struct Staging(pub TempDir);

impl Staging {
    pub fn new() -> Staging {
        Staging(tempfile::tempdir().unwrap())
    }

    pub fn request(&self) -> Request<'_> {
        let architecture = Architecture::X86_64;
        let mut request = Request::new(self.0.path(), ExtensionKind::Sysext, architecture);
        request.patience = Patience {
            silence: Duration::from_secs(5),
            retries: 2,
            first_wait: Duration::from_millis(5),
            ..Patience::default()
        };
        request
    }

    pub fn fetch(&self, location: &str) -> Result<Fetched, FetchError> {
        fetch_with(location, &self.request())
    }

    /// Names of all files in it.
    pub fn names(&self) -> Vec<String> {
        names(self.0.path())
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub fn fetch_with(location: &str, request: &Request<'_>) -> Result<Fetched, FetchError> {
    fetch(&location.parse()?, request, &())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
