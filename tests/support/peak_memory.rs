//! How much memory a program needs.

use std::fs;
use std::process::Child;
use std::time::Duration;

/// Waits for `child`, which must succeed, and must never have had more than `limit` bytes in memory.
/// `look` is called again and again meanwhile.
pub fn watch(child: &mut Child, limit: u64, look: impl Fn()) {
    let mut highest = 0;
    while child.try_wait().unwrap().is_none() {
        highest = highest.max(peak(child.id()).unwrap_or(0));
        look();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    assert!(highest > 1 << 20, "its memory was never seen");
    assert!(highest <= limit, "peak memory was {} MiB", highest >> 20);
}

/// The highest resident set of a process so far, in bytes (proc(5), VmHWM).
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
