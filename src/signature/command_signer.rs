//! Signing with a program of the user's, which can reach any key management service.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Algorithm, Certificate, SignatureError, Signer, SignerWarning, SigningCertificate};

/// No signature is longer: RSA of 16384 bits has 2048 bytes.
const MAX_SIGNATURE_BYTES: u64 = 4096;
/// How often a program is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// The variable of sysgraft's own secret, which is no business of the program.
const PASSPHRASE_VARIABLE: &str = "SYSGRAFT_PASSPHRASE";

/// What the program gets on its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandInput {
    /// The bytes that are signed.
    Message,
    /// Their digest, as bytes.
    Digest,
}

/// A program that gets what is to be signed on standard input and prints the signature.
///
/// It finds in its environment what is wanted: `SYSGRAFT_SIGN_ALGORITHM` (`rsa-sha256`,
/// `ecdsa-p256-sha256` or `ecdsa-p384-sha384`), `SYSGRAFT_SIGN_DIGEST` (`sha256` or `sha384`) and
/// `SYSGRAFT_SIGN_INPUT` (`message` or `digest`).
pub struct CommandSigner {
    program: String,
    arguments: Vec<String>,
    input: CommandInput,
    timeout: Duration,
    certificate: SigningCertificate,
}

/// Why a program gave no signature.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No words, or a quote that is not closed.
    #[error("the sign command is empty or has an open quote")]
    Syntax,
    /// The program could not be started.
    #[error("cannot run sign command {program}")]
    Start {
        /// Its path or name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Speaking with it failed.
    #[error("cannot speak with sign command {program}")]
    Pipe {
        /// Its path or name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with another code than 0.
    #[error("sign command {program} failed ({status})")]
    Failed {
        /// Its path or name.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It took too long and was ended.
    #[error("sign command {program} gave no signature within {seconds} s; see --sign-timeout")]
    Timeout {
        /// Its path or name.
        program: String,
        /// How long it had.
        seconds: u64,
    },
    /// What it printed is not a signature by the certificate's key.
    #[error(
        "what sign command {program} printed ({length} bytes) is no signature by the key of certificate {certificate}; it must print {wanted}"
    )]
    Unusable {
        /// Its path or name.
        program: String,
        /// How much it printed.
        length: usize,
        /// File of the certificate.
        certificate: String,
        /// What it should have printed.
        wanted: &'static str,
    },
}

impl CommandSigner {
    /// Takes a command line apart as a shell would, without expanding anything.
    ///
    /// # Errors
    /// [`CommandError::Syntax`].
    pub fn new(
        command_line: &str,
        input: CommandInput,
        timeout: Duration,
        certificate: SigningCertificate,
    ) -> Result<CommandSigner, SignatureError> {
        let mut arguments = shlex::split(command_line).unwrap_or_default();
        if arguments.is_empty() {
            return Err(CommandError::Syntax.into());
        }
        Ok(CommandSigner {
            program: arguments.remove(0),
            arguments,
            input,
            timeout,
            certificate,
        })
    }

    fn start(&self) -> io::Result<Child> {
        let algorithm = self.algorithm();
        let input = match self.input {
            CommandInput::Message => "message",
            CommandInput::Digest => "digest",
        };
        Command::new(&self.program)
            .args(&self.arguments)
            .env_remove(PASSPHRASE_VARIABLE)
            .env("SYSGRAFT_SIGN_ALGORITHM", algorithm.to_string())
            .env("SYSGRAFT_SIGN_DIGEST", algorithm.digest_name())
            .env("SYSGRAFT_SIGN_INPUT", input)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
    }

    fn run(&self, input: Vec<u8>) -> Result<Vec<u8>, CommandError> {
        let deadline = Instant::now() + self.timeout;
        let program = || self.program.clone();
        let mut child = self.start().map_err(|source| CommandError::Start {
            program: program(),
            source,
        })?;
        let output = exchange(&mut child, input);
        // Not the program's end but that of its output tells that the signature is complete.
        let output = output.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let ended = match output {
            Ok(_) => wait_until(&mut child, deadline),
            Err(_) => Ok(None),
        };
        let status = ended.and_then(|status| match status {
            Some(status) => Ok(Some(status)),
            None => {
                end_group(&child)?;
                child.wait().map(|_| None)
            }
        });
        let pipe = |source| CommandError::Pipe {
            program: program(),
            source,
        };
        match (status.map_err(pipe)?, output) {
            (Some(status), Ok(output)) if status.success() => output.map_err(pipe),
            (Some(status), _) => Err(CommandError::Failed {
                program: program(),
                status,
            }),
            (None, _) => Err(CommandError::Timeout {
                program: program(),
                seconds: self.timeout.as_secs(),
            }),
        }
    }
}

/// Kills a program and all that it started.
fn end_group(child: &Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.ok_or(io::ErrorKind::InvalidInput)?;
    kill_process_group(group, Signal::KILL).or_else(|error| match error {
        // it ended meanwhile
        Errno::SRCH => Ok(()),
        error => Err(error.into()),
    })
}

/// Writes `input` to the program and reads its output, each in a thread, so that neither can block
/// the other or the caller. The threads end with the pipes.
fn exchange(child: &mut Child, input: Vec<u8>) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program may know without its input what to do; its output is what counts.
            let _ = stdin.write_all(&input);
        }
    });
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = match stdout {
            Some(stdout) => stdout
                .take(MAX_SIGNATURE_BYTES + 1)
                .read_to_end(&mut output),
            None => Ok(0),
        };
        // The receiver is gone when the time is up.
        let _ = sender.send(read.map(|_| output));
    });
    receiver
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

impl Signer for CommandSigner {
    fn certificate(&self) -> &Certificate {
        self.certificate.certificate()
    }

    fn algorithm(&self) -> Algorithm {
        self.certificate.algorithm()
    }

    fn warnings(&self) -> &[SignerWarning] {
        self.certificate.warnings()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature = self.run(match self.input {
            CommandInput::Message => message.to_vec(),
            CommandInput::Digest => self.algorithm().digest(message),
        })?;
        if !self.certificate.verifies(message, &signature) {
            return Err(CommandError::Unusable {
                program: self.program.clone(),
                length: signature.len(),
                certificate: self.certificate.origin().to_owned(),
                wanted: match self.algorithm() {
                    Algorithm::RsaSha256 => "the bytes of an RSA signature (PKCS#1 v1.5, SHA-256)",
                    Algorithm::EcdsaSha256 => "an ECDSA signature with SHA-256 in DER form",
                    Algorithm::EcdsaSha384 => "an ECDSA signature with SHA-384 in DER form",
                },
            }
            .into());
        }
        Ok(signature)
    }
}
