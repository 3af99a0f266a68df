//! The whole job on a layer of a few hundred megabytes, beside the tools that do its parts:
//! gunzip, mkfs.erofs (uncompressed) and `veritysetup format`, one after another on the same input.
//!
//! The peers are spared what they would have to do besides: unpacking the tar archive into the
//! folder that mkfs.erofs reads, copying the file system into an image, signing. Run it with
//! `make bench`; it prints medians and their ratio, and judges nothing.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 5;

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let layer = make_layer(folder);
    println!(
        "layer: {} MB of tar, {} MB of gzip",
        megabytes(&folder.join("layer.tar")),
        megabytes(&layer)
    );

    let mut ours = Vec::new();
    let mut theirs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        ours.push(time(|| build(folder, &layer)));
        theirs[0].push(time(|| gunzip(folder, &layer)));
        theirs[1].push(time(|| mkfs(folder)));
        theirs[2].push(time(|| verity(folder)));
    }
    let ours = median(&mut ours);
    let parts = theirs.each_mut().map(|times| median(times));
    let sum: Duration = parts.iter().sum();
    println!("median of {RUNS}      seconds");
    println!("sysgraft sysext   {:>7.2}", ours.as_secs_f64());
    println!("gunzip            {:>7.2}", parts[0].as_secs_f64());
    println!("mkfs.erofs        {:>7.2}", parts[1].as_secs_f64());
    println!("veritysetup       {:>7.2}", parts[2].as_secs_f64());
    println!("sum of the three  {:>7.2}", sum.as_secs_f64());
    println!(
        "ratio             {:>7.2}  (sum of the three / sysgraft)",
        sum.as_secs_f64() / ours.as_secs_f64()
    );
}

/// A gzip layer of the Rust toolchain's files: large binaries, many libraries, some text.
fn make_layer(folder: &Path) -> std::path::PathBuf {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = String::from_utf8(output.stdout).unwrap();
    let root = folder.join("root");
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    run(Command::new("cp")
        .args(["-a", &format!("{}/bin", sysroot.trim())])
        .arg(root.join("usr/bin")));
    run(Command::new("cp")
        .args(["-a", &format!("{}/lib/rustlib", sysroot.trim())])
        .arg(root.join("usr/lib/rustlib")));
    run(Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(folder.join("layer.tar"))
        .arg("usr"));
    let layer = folder.join("layer.tar.gz");
    run(Command::new("gzip")
        .arg("-c")
        .arg(folder.join("layer.tar"))
        .stdout(File::create(&layer).unwrap()));
    layer
}

fn build(folder: &Path, layer: &Path) {
    run(Command::new(env!("CARGO_BIN_EXE_sysgraft"))
        .args(["sysext", "--private-key", "keys-example/db.key"])
        .args(["--certificate", "keys-example/db.pem", "--output"])
        .arg(folder)
        .arg("bench")
        .arg(format!("tar:{}", layer.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null()));
}

fn gunzip(folder: &Path, layer: &Path) {
    run(Command::new("gunzip")
        .arg("-c")
        .arg(layer)
        .stdout(File::create(folder.join("unpacked.tar")).unwrap()));
}

fn mkfs(folder: &Path) {
    run(Command::new("mkfs.erofs")
        .arg(folder.join("file-system"))
        .arg(folder.join("root"))
        .stdout(Stdio::null())
        .stderr(Stdio::null()));
}

fn verity(folder: &Path) {
    run(Command::new("veritysetup")
        .arg("format")
        .arg(folder.join("file-system"))
        .arg(folder.join("hashes"))
        .stdout(Stdio::null()));
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn megabytes(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len() / 1_000_000
}
