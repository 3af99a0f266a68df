//! Reading private keys that are to be used again.

use std::path::Path;

use openssl::pkey::{Id, PKey, Private};

use super::{SecureBootError, read_bounded};
use crate::signature::SignatureError;

/// Larger files hold no private key.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The shortest modulus that is safe.
const MIN_RSA_BITS: u32 = 2048;

/// A key that signs the policies of measured boot: RSA, since many TPMs verify nothing else.
pub struct TpmKey(PKey<Private>);

impl TpmKey {
    /// Reads a key in PEM form.
    ///
    /// # Errors
    /// Unreadable, encrypted, or not RSA of at least 2048 bits.
    pub fn load(path: &Path, passphrase: Option<&str>) -> Result<TpmKey, SecureBootError> {
        let key = load(path, passphrase)?;
        if key.id() != Id::RSA || key.bits() < MIN_RSA_BITS {
            return Err(SecureBootError::UnsuitableTpmKey(path.to_path_buf()));
        }
        Ok(TpmKey(key))
    }

    pub(super) fn into_key(self) -> PKey<Private> {
        self.0
    }
}

/// Reads a key in PEM form.
pub(super) fn load(
    path: &Path,
    passphrase: Option<&str>,
) -> Result<PKey<Private>, SecureBootError> {
    let pem = read_bounded(path, MAX_FILE_BYTES)?;
    let mut asked = false;
    // With a callback OpenSSL never asks on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked = true;
        let secret = passphrase.unwrap_or_default().as_bytes();
        let length = secret.len().min(buffer.len());
        buffer[..length].copy_from_slice(&secret[..length]);
        Ok(length)
    });
    let path = path.to_path_buf();
    Ok(key.map_err(|_| match (asked, passphrase) {
        (true, None) => SignatureError::PassphraseMissing(path),
        (true, Some(_)) => SignatureError::PassphraseWrong(path),
        (false, _) => SignatureError::Malformed {
            what: "private key",
            path,
            hint: "",
        },
    })?)
}
