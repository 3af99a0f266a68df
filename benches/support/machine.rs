//! The machine in a few lines, for the head of a table.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

/// CPU features on which hashing or compressing depends.
const FEATURES: [&str; 7] = [
    "avx2", "avx512f", "avx512bw", "sha_ni", "bmi2", "sha2", "asimd",
];

/// CPU, memory, system and the file system under `folder`.
pub fn describe(folder: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpu, "model name").unwrap_or("unknown CPU");
    let flags = field(&cpu, "flags")
        .or_else(|| field(&cpu, "Features"))
        .unwrap_or_default();
    let features: Vec<&str> = FEATURES
        .into_iter()
        .filter(|feature| flags.split(' ').any(|flag| flag == *feature))
        .collect();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown system");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{} cores of {model} ({}), {} GB of memory; {}, Linux {}; files on {}",
        cores(),
        features.join(", "),
        memory("MemTotal") / 1_000_000_000,
        system.trim_matches('"'),
        kernel.trim(),
        file_system(folder),
    )
}

pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Running or waiting processes, on average over the last minute.
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ')
        .next()
        .and_then(|average| average.parse().ok())
        .unwrap_or(0.0)
}

/// A line of /proc/meminfo in bytes.
pub fn memory(name: &str) -> u64 {
    bytes("/proc/meminfo", name)
}

/// The largest resident set that this process has had, in bytes.
pub fn own_peak() -> u64 {
    bytes("/proc/self/status", "VmHWM")
}

/// A line `name: N kB` of a file.
fn bytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let kibibytes = field(&text, name).and_then(|value| value.split(' ').next()?.parse().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// The type of the file system that holds `folder`.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut deepest = ("", "an unknown file system");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if folder.starts_with(point) && point.len() >= deepest.0.len() {
            deepest = (point, kind);
        }
    }
    deepest.1.to_owned()
}

/// The value in the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}
