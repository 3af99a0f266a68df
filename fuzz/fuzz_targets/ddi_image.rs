//! Partition tables, superblocks and signature partitions behind right checksums.
//!
//! The input lies at the start of an image of 256 KiB. Random input never has right checksums, so
//! for half of all inputs they are put right: the target `image` gets no further than to them.
#![no_main]

use std::io::Write;
use std::num::NonZero;

use libfuzzer_sys::fuzz_target;
use sysgraft::verification::{Blocks, Progress, Request, Trust, verify};

const SIZE: usize = 256 * 1024;
const HEADER: std::ops::Range<usize> = 512..604;
const ENTRIES: std::ops::Range<usize> = 1024..1024 + 128 * 128;

fuzz_target!(|input: (bool, &[u8])| {
    let (mend, bytes) = input;
    let mut image = vec![0; SIZE];
    let length = bytes.len().min(SIZE);
    image[..length].copy_from_slice(&bytes[..length]);
    if mend {
        image[446 + 4] = 0xee;
        image[446 + 8..446 + 12].copy_from_slice(&1_u32.to_le_bytes());
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image[512..520].copy_from_slice(b"EFI PART");
        image[524..528].copy_from_slice(&92_u32.to_le_bytes());
        let checksum = crc32fast::hash(&image[ENTRIES]);
        image[600..604].copy_from_slice(&checksum.to_le_bytes());
        image[528..532].fill(0);
        let checksum = crc32fast::hash(&image[HEADER]);
        image[528..532].copy_from_slice(&checksum.to_le_bytes());
    }
    let mut file = tempfile::Builder::new().suffix(".raw").tempfile().unwrap();
    file.write_all(&image).unwrap();
    let request = Request {
        path: file.path(),
        known_as: None,
        trust: Trust::Ignored,
        host: None,
        blocks: Blocks::All,
        jobs: NonZero::<usize>::MIN,
    };
    verify(&request, &Silent);
});

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}
