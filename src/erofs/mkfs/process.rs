//! Running mkfs.erofs so that it cannot outlive this program, and that neither waits for the other.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::MkfsError;
use crate::printable::printable;

/// How long a program that closed its input may take to say why.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked whether it has ended.
const INTERVAL: Duration = Duration::from_millis(20);
/// How much of its last words is shown: lines, and bytes of which they are taken.
const LAST_LINES: usize = 3;
const LAST_BYTES: u64 = 1024;

/// A program that reads from a pipe. It is ended on drop, and when this process ends, in whatever
/// way.
///
/// What it says on standard error goes to memory that it need not wait for; standard output is not
/// kept.
pub(super) struct Running {
    program: PathBuf,
    child: Child,
    stderr: File,
}

impl Running {
    /// Starts `program`; returns its standard input, too.
    pub fn start(program: &Path, arguments: &[String]) -> Result<(Running, ChildStdin), MkfsError> {
        let start = || {
            let stderr = rustix::fs::memfd_create("standard error", MemfdFlags::CLOEXEC)?;
            let stderr = File::from(stderr);
            let mut command = Command::new(program);
            command
                .args(arguments)
                // All times are clamped already.
                .env_remove("SOURCE_DATE_EPOCH")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(stderr.try_clone()?);
            let mut child = end_with_this_process(&mut command).spawn()?;
            let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let program = program.to_path_buf();
            let running = Running {
                program,
                child,
                stderr,
            };
            Ok((running, stdin))
        };
        start().map_err(|source| MkfsError::Start {
            program: program.to_path_buf(),
            source,
        })
    }

    /// Waits, as long as it takes, for the end of a program whose input is complete and closed.
    pub fn finish(mut self) -> Result<(), MkfsError> {
        let status = self.child.wait().map_err(|source| MkfsError::Start {
            program: self.program.clone(),
            source,
        })?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(status))
    }

    /// The error of a program whose input, closed by now, took no more: its own if it ends soon.
    pub fn stopped_reading(mut self, source: io::Error) -> MkfsError {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.child.try_wait() {
                Ok(Some(status)) if !status.success() => return self.failed(status),
                Ok(None) => thread::sleep(INTERVAL),
                _ => break,
            }
        }
        MkfsError::Pipe {
            program: self.program.clone(),
            source,
        }
    }

    fn failed(&self, status: ExitStatus) -> MkfsError {
        MkfsError::Failed {
            program: self.program.clone(),
            status,
            said: last_words(&self.stderr),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets the kernel kill what `command` starts when the thread that starts it ends.
pub(super) fn end_with_this_process(command: &mut Command) -> &mut Command {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before the kernel knew.
        match getppid() == Some(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    };
    // SAFETY: `prepare` runs between fork and exec, where only async-signal-safe functions may be
    // called: it makes two system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) }
}

/// The last lines of `stderr`, in one.
fn last_words(stderr: &File) -> String {
    let read = || {
        let size = stderr.metadata()?.len();
        let length = size.min(LAST_BYTES);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stderr.read_exact_at(&mut bytes, size - length)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let lines: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(printable)
        .collect();
    match &lines[lines.len().saturating_sub(LAST_LINES)..] {
        [] => "it said nothing".to_owned(),
        lines => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shell(script: &str) -> (Running, ChildStdin) {
        Running::start(Path::new("sh"), &["-c".to_owned(), script.to_owned()]).unwrap()
    }

    #[test]
    fn a_failure_comes_with_the_last_words() {
        let (running, input) = shell("seq 1 100000 >&2; printf 'no\\033room\\n\\n' >&2; exit 3");
        drop(input);
        let error = running.finish().unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("99999; 100000; no\\u{1b}room"), "{error}");
    }

    #[test]
    fn silence_is_said_to_be() {
        let (running, input) = shell("kill -9 $$");
        drop(input);
        let error = running.finish().unwrap_err().to_string();
        assert!(error.contains("SIGKILL"), "{error}");
        assert!(error.ends_with("it said nothing"), "{error}");
    }

    #[test]
    fn what_keeps_standard_error_open_is_not_waited_for() {
        let started = Instant::now();
        let (running, input) = shell("sleep 30 & exit 1");
        drop(input);
        assert!(running.finish().is_err());
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_closes_its_input_is_given_time_to_say_why_and_no_more() {
        let (running, mut input) = shell("exec <&-; sleep 0.2; echo why >&2; exit 1");
        let error = loop {
            if let Err(error) = input.write_all(&[0; 4096]) {
                break error;
            }
        };
        let error = running.stopped_reading(error).to_string();
        assert!(error.ends_with("why"), "{error}");

        let (running, _input) = shell("exec <&-; exec sleep 600");
        let process = running.child.id();
        let error = running.stopped_reading(io::ErrorKind::BrokenPipe.into());
        assert!(matches!(error, MkfsError::Pipe { .. }));
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }

    #[test]
    fn a_program_that_is_dropped_is_gone() {
        let (running, _input) = shell("exec sleep 600");
        let process = running.child.id();
        assert!(Path::new(&format!("/proc/{process}")).exists());
        drop(running);
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
}
