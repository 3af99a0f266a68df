//! Programs that keep logins: `docker-credential-NAME`.
//!
//! Source: docker-credential-helpers, "Development".

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::credentials::Secret;

/// Bytes that a helper's answer may have.
const ANSWER_LIMIT: u64 = 64 << 10;

/// How long a helper may take: some ask the user for a fingerprint.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often a helper is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// The name under which helpers hand out identity tokens.
const TOKEN_USER: &str = "<token>";

/// Why a helper gave no login.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("{0:?} is no name of a credential helper")]
    Name(String),
    #[error("docker-credential-{name} cannot be run ({source})")]
    Start { name: String, source: io::Error },
    #[error("docker-credential-{name} failed: {message}")]
    Failed { name: String, message: String },
    #[error("docker-credential-{name} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout { name: String },
    #[error("the answer of docker-credential-{name} is no login")]
    Answer { name: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` for the login that it keeps under `key`.
pub(super) fn ask(name: &str, key: &str) -> Result<Option<Secret>, HelperError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(HelperError::Name(name.to_owned()));
    }
    let (status, output) = run(name, key)?;
    if !status.success() {
        // Helpers say on standard output what is wrong.
        let message = String::from_utf8_lossy(&output).trim().to_owned();
        return match message.contains("credentials not found") {
            true => Ok(None),
            false => Err(HelperError::Failed {
                name: name.to_owned(),
                message: message.chars().take(200).collect(),
            }),
        };
    }
    let answer: Answer = serde_json::from_slice(&output).map_err(|_| HelperError::Answer {
        name: name.to_owned(),
    })?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Secret::IdentityToken(answer.secret),
        _ => Secret::Password {
            user: answer.username,
            password: answer.secret,
        },
    }))
}

/// Runs a helper to its end: how it ended, and what it printed.
fn run(name: &str, key: &str) -> Result<(ExitStatus, Vec<u8>), HelperError> {
    let failed = |source| HelperError::Start {
        name: name.to_owned(),
        source,
    };
    let timeout = || HelperError::Timeout {
        name: name.to_owned(),
    };
    let mut helper = Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = helper.stdin.take() {
        // A helper may know without its input what to do; its output is what counts.
        let _ = stdin.write_all(key.as_bytes());
    }
    let deadline = Instant::now() + TIMEOUT;
    let Ok(output) = output_of(&mut helper).recv_timeout(TIMEOUT) else {
        end(&mut helper);
        return Err(timeout());
    };
    loop {
        match helper.try_wait().map_err(failed)? {
            Some(status) => return Ok((status, output)),
            None if Instant::now() > deadline => {
                end(&mut helper);
                return Err(timeout());
            }
            None => thread::sleep(PAUSE),
        }
    }
}

/// What a helper prints, read by a thread that ends with it.
fn output_of(helper: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let stdout = helper.stdout.take();
    thread::spawn(move || {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            // What came until an error is no answer; it is refused as such.
            let _ = stdout.take(ANSWER_LIMIT).read_to_end(&mut output);
        }
        // Nobody waits any more after the time is up.
        let _ = sender.send(output);
    });
    receiver
}

/// Ends a helper and all that it started.
fn end(helper: &mut Child) {
    let group = i32::try_from(helper.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = helper.wait();
}
