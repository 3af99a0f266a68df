//! A large layer in little memory and without a copy of it on disk.

#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use workplace::{Workplace, sysgraft};

const LAYER_BYTES: usize = 2 << 30;
const PEAK_BYTES: u64 = 128 << 20;

/// The highest resident set of a process so far, in bytes (proc(5), VmHWM).
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

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
    let process = child.id();
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
    let mut highest = 0;
    while child.try_wait().unwrap().is_none() {
        highest = highest.max(peak(process).unwrap_or(0));
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
        std::thread::sleep(Duration::from_millis(10));
    }
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(highest > 1 << 20, "its memory was never seen");
    assert!(
        highest <= PEAK_BYTES,
        "peak memory was {} MiB",
        highest >> 20
    );
    let image = workplace.out().join("large.sysext.raw");
    fs::metadata(image).unwrap().len()
}
