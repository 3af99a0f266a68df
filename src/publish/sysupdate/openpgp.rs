//! Detached OpenPGP signatures, which gpg makes.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::printable::printable;

/// How gpg is to find the key: a fingerprint, key id or mail address.
#[derive(Clone, Debug)]
pub struct OpenPgpKey(pub String);

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// gpg could not be run.
    #[error("cannot run gpg, which makes the signature; install GnuPG")]
    Run(#[source] io::Error),
    /// gpg refused.
    #[error("gpg made no signature with the key {key}: {said}")]
    Refused {
        /// The key that was asked for.
        key: String,
        /// What it said.
        said: String,
    },
}

impl OpenPgpKey {
    /// A detached signature over `content`, in binary form.
    ///
    /// # Errors
    /// [`OpenPgpError`].
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>, OpenPgpError> {
        let mut gpg = Command::new("gpg")
            .args(["--batch", "--no-tty", "--quiet", "--local-user", &self.0])
            .args(["--output", "-", "--detach-sign"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(OpenPgpError::Run)?;
        // It reads everything before it writes. Where it does not read, its own words say why.
        let written = gpg.stdin.take().map(|mut stdin| stdin.write_all(content));
        let output = gpg.wait_with_output().map_err(OpenPgpError::Run)?;
        let is_whole = matches!(written, Some(Ok(())));
        if output.status.success() && is_whole && !output.stdout.is_empty() {
            return Ok(output.stdout);
        }
        Err(OpenPgpError::Refused {
            key: self.0.clone(),
            said: printable(output.stderr.trim_ascii()),
        })
    }
}
