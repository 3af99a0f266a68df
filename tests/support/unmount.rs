//! Unmounting.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long somebody may be in the way.
const PATIENCE: Duration = Duration::from_secs(20);

/// Unmounts what is at `point`. A program that another thread of the test starts has, until it is one of
/// its own, a copy of every open file, also of those that were read there; on a busy machine that
/// takes a while.
pub fn unmount(point: &Path) {
    let begun = Instant::now();
    loop {
        let output = Command::new("umount").arg(point).output().unwrap();
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let is_busy = said.contains("busy") && begun.elapsed() < PATIENCE;
        // A second panic would hide what the first one says.
        assert!(is_busy || std::thread::panicking(), "{said}");
        if !is_busy {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
