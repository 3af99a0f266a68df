//! Child processes, and what they used: the standard library does not tell, so wait4(2) is asked.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// What a process and all its descendants used that it waited for.
#[derive(Clone, Copy)]
pub struct Usage {
    /// User and system time together.
    pub cpu: Duration,
    /// The largest resident set that any one of them had, in bytes. Not less than this process's
    /// own has ever been: Linux passes the mark on through exec, so benchmarks must stay small.
    pub peak: u64,
}

/// Begins the arguments of a benchmark that is its own child.
const TASK: &str = "--task";

/// This benchmark once more, for a part of the library that no program offers alone.
pub fn itself() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(TASK);
    command
}

/// The arguments behind those of [`itself`], if this is such a child.
pub fn task() -> Option<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == TASK).then(|| arguments.collect())
}

/// `struct timeval` of 64-bit Linux.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Timeval {
    seconds: c_long,
    microseconds: c_long,
}

/// `struct rusage` of getrusage(2).
#[repr(C)]
#[derive(Default)]
struct Rusage {
    user: Timeval,
    system: Timeval,
    /// KiB.
    max_resident: c_long,
    rest: [c_long; 13],
}

unsafe extern "C" {
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut Rusage) -> c_int;
}

/// Waits until `child` has ended.
pub fn wait(child: &Child) -> io::Result<(ExitStatus, Usage)> {
    let pid = c_int::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = Rusage::default();
    loop {
        // SAFETY: both pointers are to live values of the types that wait4 writes; `Rusage` has the
        // layout of the C library's. The child was not waited for, so its number is still its own.
        if unsafe { wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let usage = Usage {
        cpu: duration(usage.user) + duration(usage.system),
        peak: u64::try_from(usage.max_resident).unwrap_or(0) * 1024,
    };
    Ok((ExitStatus::from_raw(status), usage))
}

fn duration(time: Timeval) -> Duration {
    Duration::from_secs(u64::try_from(time.seconds).unwrap_or(0))
        + Duration::from_micros(u64::try_from(time.microseconds).unwrap_or(0))
}
