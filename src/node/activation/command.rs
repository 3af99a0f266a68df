//! Running the programs of systemd: within a time, with as much output as fits.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::printable::printable;

/// As much of an output as is kept, in bytes. The status of a hundred extensions has a few thousand.
const MAX_OUTPUT: u64 = 1 << 20;
/// As much of an error as a sentence takes, in characters.
const MAX_SENTENCE: usize = 400;
/// Between two looks at a program that runs.
const PAUSE: Duration = Duration::from_millis(10);
/// For output that a program which ended left in the pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// A program that came to an end.
#[derive(Debug)]
pub(in crate::node) struct Ended {
    /// How; `None` if it was stopped because it took too long.
    pub status: Option<ExitStatus>,
    /// The beginning of its output.
    pub stdout: Vec<u8>,
    /// The beginning of its errors.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// Whether it did what it was to do.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// What it complained of, in one line.
    pub fn complaint(&self) -> String {
        let said = match sentence(&self.stderr) {
            nothing if nothing.is_empty() => sentence(&self.stdout),
            said => said,
        };
        match self.status {
            None => "it took too long and was stopped".to_owned(),
            Some(_) if !said.is_empty() => said,
            Some(status) => format!("it ended with {status} and said nothing"),
        }
    }
}

/// The last two lines of a text, which is where programs say why they failed, as one.
pub(super) fn sentence(text: &[u8]) -> String {
    let lines: Vec<String> = text
        .split(|&byte| byte == b'\n')
        .map(|line| printable(line.trim_ascii()))
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(2)..].join("; ");
    match last.char_indices().nth(MAX_SENTENCE) {
        Some((end, _)) => format!("{}…", &last[..end]),
        None => last.trim_end_matches('.').to_owned(),
    }
}

/// Runs a program without input. After `limit` it is killed, with all that it started.
///
/// # Errors
/// If it cannot be started: there is no such program, for example.
pub(in crate::node) fn run(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that an interrupt on the terminal does not break off a merge.
        .process_group(0)
        .spawn()?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, limit)?;
    let received = |output: Receiver<Vec<u8>>| output.recv_timeout(DRAIN).unwrap_or_default();
    Ok(Ended {
        status,
        stdout: received(stdout),
        stderr: received(stderr),
    })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // Who is gone meanwhile need not be killed.
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// Reads to the end, so that the program never waits for us, and keeps the beginning.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // What cannot be read any more is as good as the end.
            let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut kept);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        let _ = sender.send(kept);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        run(Command::new("sh").args(["-c", script]), limit).unwrap()
    }

    #[test]
    fn outcome_and_complaint_are_told() {
        let ended = shell(
            "echo out; echo Failed to do it. >&2",
            Duration::from_secs(10),
        );
        assert!(ended.succeeded());
        assert_eq!(ended.stdout, b"out\n");
        let ended = shell(
            "echo 'one\ntwo\x1b[31m\n\nthree.' >&2; exit 3",
            Duration::from_secs(10),
        );
        assert!(!ended.succeeded());
        assert_eq!(ended.complaint(), "two\\u{1b}[31m; three");
        let ended = shell("exit 3", Duration::from_secs(10));
        assert!(ended.complaint().contains("exit status: 3"));
    }

    #[test]
    fn whoever_takes_too_long_is_stopped_with_his_children() {
        let started = Instant::now();
        let ended = shell("sleep 60 & sleep 60", Duration::from_millis(100));
        assert_eq!(ended.status, None);
        assert!(ended.complaint().contains("too long"));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn output_has_a_bound() {
        let ended = shell("head -c 3000000 /dev/zero", Duration::from_secs(30));
        assert!(ended.succeeded());
        assert_eq!(ended.stdout.len() as u64, MAX_OUTPUT);
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_does_not_hold_us_up() {
        let started = Instant::now();
        let ended = shell("sleep 5 & echo done", Duration::from_secs(20));
        assert!(ended.succeeded());
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
