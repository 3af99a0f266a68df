//! A large layer in little memory and without a copy of it on disk.

#[path = "support/peak_memory.rs"]
mod peak_memory;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use peak_memory::watch;
use workplace::{Workplace, sysgraft};

const LAYER_BYTES: usize = 2 << 30;
const PEAK_BYTES: u64 = 128 << 20;

#[test]
fn a_layer_of_2_gb_is_built_within_128_mib_and_without_a_copy() {
    assert!(image_bytes("none") > LAYER_BYTES as u64);
}

#[test]
fn so_is_a_compressed_one() {
    for compression in ["lz4hc", "zstd"] {
        assert!(image_bytes(compression) < LAYER_BYTES as u64);
    }
}

/// Builds the layer, watches the memory, and tells how large the image became.
fn image_bytes(compression: &str) -> u64 {
    let workplace = Workplace::new();
    let scratch = workplace.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut child = sysgraft(["sysext", "--jobs", "4", "--compression", compression])
        .arg("--output")
        .arg(workplace.out())
        .args(["large", "-"])
        .env("TMPDIR", &scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let mut header = tar::Header::new_gnu();
        header.set_size(LAYER_BYTES as u64);
        header.set_mode(0o644);
        header.set_path("usr/share/large").unwrap();
        header.set_cksum();
        input.write_all(header.as_bytes()).unwrap();
        let chunk: Vec<u8> = (0..1 << 20)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for _ in 0..LAYER_BYTES / chunk.len() {
            input.write_all(&chunk).unwrap();
        }
        input.write_all(&[0; 1024]).unwrap();
    });
    watch(&mut child, PEAK_BYTES, || {
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    });
    writer.join().unwrap();
    let image = workplace.out().join("large.sysext.raw");
    fs::metadata(image).unwrap().len()
}
