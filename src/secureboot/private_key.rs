//! Reading private keys that are to be used again.

use std::path::Path;

use openssl::pkey::{Id, PKey, Private};

use super::SecureBootError;
use crate::signature::{Passphrase, load_private_key};

/// The shortest modulus that is safe.
const MIN_RSA_BITS: u32 = 2048;

/// A key that signs the policies of measured boot: RSA, since many TPMs verify nothing else.
pub struct TpmKey(PKey<Private>);

impl TpmKey {
    /// Reads a key in PEM form.
    ///
    /// # Errors
    /// Unreadable, encrypted, or not RSA of at least 2048 bits.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<TpmKey, SecureBootError> {
        let key = load_private_key(path, passphrase)?;
        if key.id() != Id::RSA || key.bits() < MIN_RSA_BITS {
            return Err(SecureBootError::UnsuitableTpmKey(path.to_path_buf()));
        }
        Ok(TpmKey(key))
    }

    pub(super) fn into_key(self) -> PKey<Private> {
        self.0
    }
}
