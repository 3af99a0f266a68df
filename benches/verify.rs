//! `sysgraft verify` of an image of one gigabyte, beside `veritysetup verify` in the same session.
//!
//! Both read from the page cache. veritysetup is given data and hash partition as files of their
//! own; it checks nothing but them. Run it with `make bench`; it prints medians and their ratio, and
//! judges nothing.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sysgraft::image::{Ddi, Role};
use sysgraft::read_at::ReadAt;

const RUNS: usize = 7;
const BYTES: usize = 1_000_000_000;

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let image = make_image(folder);
    let root_hash = Ddi::open(&image).unwrap().root_hash().unwrap().to_string();
    let data = take_out(&image, Role::Data);
    let hash = take_out(&image, Role::Hash);

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(time(
            Command::new(env!("CARGO_BIN_EXE_sysgraft"))
                .args(["verify", "--certificate", "keys-example/db.pem"])
                .arg(&image),
        ));
        theirs.push(time(
            Command::new("veritysetup")
                .arg("verify")
                .args([&data, &hash])
                .arg(&root_hash)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let rate = |time: Duration| BYTES as f64 / 1e6 / time.as_secs_f64();
    println!("median of {RUNS}          seconds    MB/s");
    println!(
        "sysgraft verify     {:>9.3} {:>7.0}",
        ours.as_secs_f64(),
        rate(ours)
    );
    println!(
        "veritysetup verify  {:>9.3} {:>7.0}",
        theirs.as_secs_f64(),
        rate(theirs)
    );
    println!(
        "ratio               {:>9.2}  (veritysetup / sysgraft)",
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// A signed extension with one file of noise.
fn make_image(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    fs::create_dir_all(root.join("usr/share")).unwrap();
    let noise = root.join("usr/share/noise");
    let mut file = BufWriter::new(File::create(&noise).unwrap());
    let mut state = 1_u64;
    for _ in 0..BYTES / 8 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    time(
        Command::new(env!("CARGO_BIN_EXE_sysgraft"))
            .args(["sysext", "--private-key", "keys-example/db.key"])
            .args(["--certificate", "keys-example/db.pem", "--output"])
            .arg(folder)
            .arg("bench")
            .arg(format!("dir:{}", root.display())),
    );
    fs::remove_file(noise).unwrap();
    folder.join("bench.sysext.raw")
}

/// Copies a partition into a file of its own.
fn take_out(image: &Path, role: Role) -> PathBuf {
    let window = Ddi::open(image).unwrap().open_partition(role).unwrap();
    let window = window.unwrap();
    let path = image.with_extension(role.to_string());
    let mut file = File::create(&path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < window.size() {
        let length = buffer.len().min((window.size() - offset) as usize);
        window.read_exact_at(&mut buffer[..length], offset).unwrap();
        file.write_all(&buffer[..length]).unwrap();
        offset += length as u64;
    }
    path
}

fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
