//! One run of a benchmark: its settings and its folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::machine;

/// Preferred over `$TMPDIR`, so that no disk is measured.
const MEMORY: &str = "/dev/shm";
/// Memory that must be left beside the files of a benchmark.
const SPARE_MEMORY: u64 = 2 << 30;
/// A quick session works with this fraction of each layer.
const QUICK_DIVISOR: u64 = 20;

pub struct Session {
    /// How often each thing is measured; medians are printed.
    pub runs: usize,
    quick: bool,
    filters: Vec<String>,
    folder: TempDir,
}

impl Session {
    /// Finds a place for `room` bytes of files and prints what the figures below are of.
    pub fn start(subject: &str, room: u64) -> Session {
        let quick = env::var("SYSGRAFT_BENCH_QUICK").is_ok_and(|value| value != "0");
        let runs = env::var("SYSGRAFT_BENCH_RUNS").map_or(if quick { 1 } else { 5 }, |runs| {
            runs.parse()
                .expect("SYSGRAFT_BENCH_RUNS is a number of runs")
        });
        assert!(runs > 0, "SYSGRAFT_BENCH_RUNS is at least 1");
        let session = Session {
            runs,
            quick,
            // Cargo itself passes --bench.
            filters: env::args()
                .skip(1)
                .filter(|word| !word.starts_with('-'))
                .collect(),
            folder: make_folder(if quick { room / QUICK_DIVISOR } else { room }),
        };
        remove_on_signals(session.folder.path());
        session.print_head(subject);
        session
    }

    fn print_head(&self, subject: &str) {
        let load = machine::load();
        println!("## {subject}\n");
        println!("{}.", machine::describe(self.folder.path()));
        println!(
            "sysgraft {}; {}; load average at the start {load}.",
            env!("CARGO_PKG_VERSION"),
            match self.runs {
                1 => "single runs".to_owned(),
                runs => format!("medians of {runs} runs, in turn"),
            },
        );
        if self.quick {
            println!("Quick: layers of a {QUICK_DIVISOR}th of their size. Not for publication.");
        }
        if load > 0.3 * machine::cores() as f64 {
            println!("The machine is busy with something else: do not trust these times.");
        }
        println!();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A place in the folder that is empty before each measurement, but for a folder `tree`.
    pub fn output(&self, name: &str) -> PathBuf {
        self.path("out").join(name)
    }

    /// How much of a thing this session works with.
    pub fn scaled(&self, amount: u64) -> u64 {
        if self.quick {
            amount / QUICK_DIVISOR
        } else {
            amount
        }
    }

    /// Whether the command line asks for `name`: it contains one of the words, or there are none.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|word| name.contains(word))
    }
}

fn make_folder(room: u64) -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("sysgraft-bench-");
    let made = match env::var_os("SYSGRAFT_BENCH_DIR") {
        Some(folder) => builder.tempdir_in(folder),
        None if fits_in_memory(room) => builder.tempdir_in(MEMORY),
        None => builder.tempdir(),
    };
    made.expect("a folder to work in")
}

fn fits_in_memory(room: u64) -> bool {
    let Ok(space) = rustix::fs::statvfs(MEMORY) else {
        return false;
    };
    space.f_bavail * space.f_frsize >= room
        && machine::memory("MemAvailable") >= room + SPARE_MEMORY
}

/// An interrupted benchmark must not leave gigabytes in memory.
fn remove_on_signals(folder: &Path) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).unwrap();
    let folder = folder.to_path_buf();
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Fails where nothing is mounted, which is fine; lazily, as files may be open.
            let _ = Command::new("umount")
                .arg("--lazy")
                .arg(folder.join(super::mount::POINT))
                .stderr(Stdio::null())
                .status();
            let _ = std::fs::remove_dir_all(&folder);
            std::process::exit(128 + signal);
        }
    });
}
