//! A private key with its certificate: made, or read from files.

use std::path::Path;

use openssl::pkey::{Id, PKey, PKeyRef, Private};

use super::certificate::certify;
use super::{KeyType, Purpose, SecureBootError, Subject, Validity};
use crate::signature::{
    Certificate, Passphrase, PemSigner, Signer, SignerWarning, load_private_key,
};

/// A private key and the certificate of its public part.
pub struct KeyPair {
    key: PKey<Private>,
    certificate: Certificate,
}

impl KeyPair {
    /// Makes a key, and a certificate for `SUBJECT-suffix` that it signs itself.
    ///
    /// # Errors
    /// Where OpenSSL cannot.
    pub fn generate(
        key_type: KeyType,
        subject: &Subject,
        suffix: &str,
        purpose: Purpose,
        validity: Validity,
    ) -> Result<KeyPair, SecureBootError> {
        let make = || {
            let key = key_type.generate()?;
            let name = subject.on_certificate(suffix)?;
            let der = certify(&key, &name, purpose, validity)?.to_der()?;
            Ok((key, der))
        };
        let failed = SecureBootError::openssl("make a key and its certificate");
        let (key, der) = make().map_err(failed)?;
        let certificate = Certificate::from_der(&der).ok_or(SecureBootError::Certificate)?;
        Ok(KeyPair { key, certificate })
    }

    /// Reads a key in PEM form and its certificate, and says what the user should know of them.
    ///
    /// # Errors
    /// As [`PemSigner::load`]: unreadable, encrypted, weak, or not belonging together.
    pub fn load(
        key_path: &Path,
        certificate_path: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<(KeyPair, Vec<SignerWarning>), SecureBootError> {
        let key = load_private_key(key_path, passphrase)?;
        // Judges both.
        let signer = PemSigner::with_key(key_path, key.clone(), certificate_path)?;
        let pair = KeyPair {
            key,
            certificate: signer.certificate().clone(),
        };
        Ok((pair, signer.warnings().to_vec()))
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What the key is made of, as [`KeyType`] names it: `rsa2048`.
    pub fn key_type(&self) -> String {
        let family = if self.key.id() == Id::EC { "p" } else { "rsa" };
        format!("{family}{}", self.key.bits())
    }

    pub(super) fn key(&self) -> &PKeyRef<Private> {
        &self.key
    }
}
