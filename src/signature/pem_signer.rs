//! Signing with a private key in a PEM file.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};

use super::signer::Unsuitable;
use super::{Algorithm, Certificate, SignatureError, Signer, SignerWarning, SigningCertificate};
use crate::read_at::read_file;

/// The first byte of a key in DER form.
const DER_SEQUENCE: u8 = 0x30;
/// Larger files hold no private key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Opens an encrypted private key, or a token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

impl Passphrase {
    /// A passphrase.
    pub fn new(text: &str) -> Passphrase {
        Passphrase(text.to_owned())
    }

    /// What it is.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// A private key from a PEM file (PKCS#1, PKCS#8 or SEC1, encrypted or not) with its certificate.
pub struct PemSigner {
    key: Key,
    certificate: SigningCertificate,
    warnings: Vec<SignerWarning>,
}

enum Key {
    Rsa(PKey<Private>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

impl PemSigner {
    /// Loads a key and its certificate.
    ///
    /// # Errors
    /// [`SignatureError`], which names the file: unreadable, encrypted, of a kind that kernel or
    /// systemd would refuse, or not belonging together.
    pub fn load(
        key_path: &Path,
        certificate_path: &Path,
        passphrase: Option<Passphrase>,
    ) -> Result<PemSigner, SignatureError> {
        let private = load_private_key(key_path, passphrase.as_ref())?;
        PemSigner::with_key(key_path, private, certificate_path)
    }

    /// Signs with a key that was read from `key_path`.
    ///
    /// # Errors
    /// As [`PemSigner::load`].
    pub(crate) fn with_key(
        key_path: &Path,
        private: PKey<Private>,
        certificate_path: &Path,
    ) -> Result<PemSigner, SignatureError> {
        // What is wrong with the key is said of the key rather than of its certificate.
        Algorithm::of(&private).map_err(|Unsuitable { found, reason }| {
            SignatureError::UnsuitableKey {
                key: format!("private key {}", key_path.display()),
                found,
                reason,
            }
        })?;
        let certificate = SigningCertificate::load(certificate_path)?;
        PemSigner::new(key_path, private, certificate)
    }

    /// Loads the key of a certificate.
    ///
    /// # Errors
    /// As [`PemSigner::load`].
    pub fn with_certificate(
        key_path: &Path,
        passphrase: Option<Passphrase>,
        certificate: SigningCertificate,
    ) -> Result<PemSigner, SignatureError> {
        let private = load_private_key(key_path, passphrase.as_ref())?;
        PemSigner::new(key_path, private, certificate)
    }

    fn new(
        key_path: &Path,
        private: PKey<Private>,
        certificate: SigningCertificate,
    ) -> Result<PemSigner, SignatureError> {
        let name = key_path.display().to_string();
        certificate.belongs_to(&private, &name)?;
        let key = match certificate.algorithm() {
            Algorithm::RsaSha256 => Some(Key::Rsa(private)),
            Algorithm::EcdsaSha256 => scalar(&private, 32)
                .and_then(|scalar| p256::ecdsa::SigningKey::from_slice(&scalar).ok())
                .map(Key::P256),
            Algorithm::EcdsaSha384 => scalar(&private, 48)
                .and_then(|scalar| p384::ecdsa::SigningKey::from_slice(&scalar).ok())
                .map(Key::P384),
        };
        let key = key.ok_or_else(|| SignatureError::Malformed {
            what: "private key",
            path: key_path.to_path_buf(),
            hint: "",
        })?;
        let mut warnings = certificate.warnings().to_vec();
        warnings.extend(exposed(key_path));
        Ok(PemSigner {
            key,
            certificate,
            warnings,
        })
    }
}

impl Signer for PemSigner {
    fn certificate(&self) -> &Certificate {
        self.certificate.certificate()
    }

    fn algorithm(&self) -> Algorithm {
        self.certificate.algorithm()
    }

    fn warnings(&self) -> &[SignerWarning] {
        &self.warnings
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        // Both ECDSA implementations take their nonce from key and message (RFC 6979), so that equal
        // images have equal signatures.
        match &self.key {
            Key::Rsa(key) => sign_rsa(key, message).map_err(|source| SignatureError::OpenSsl {
                what: "sign with the RSA key",
                source,
            }),
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    p256::ecdsa::signature::Signer::sign(key, message);
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Key::P384(key) => {
                let signature: p384::ecdsa::Signature =
                    p384::ecdsa::signature::Signer::sign(key, message);
                Ok(signature.to_der().as_bytes().to_vec())
            }
        }
    }
}

fn sign_rsa(key: &PKey<Private>, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), key)?;
    signer.set_rsa_padding(openssl::rsa::Padding::PKCS1)?;
    signer.sign_oneshot_to_vec(message)
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read_bounded(
    what: &'static str,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, SignatureError> {
    read_file(path, limit).map_err(|source| SignatureError::Read {
        what,
        path: path.to_path_buf(),
        source,
    })
}

/// Reads a key in PEM form.
pub(crate) fn load_private_key(
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<PKey<Private>, SignatureError> {
    let pem = read_bounded("private key", path, MAX_FILE_BYTES)?;
    let mut asked = false;
    // With a callback OpenSSL never asks on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked = true;
        let secret = passphrase.map_or(&[][..], |passphrase| passphrase.reveal().as_bytes());
        let length = secret.len().min(buffer.len());
        buffer[..length].copy_from_slice(&secret[..length]);
        Ok(length)
    });
    key.map_err(|_| match (asked, passphrase) {
        (true, None) => SignatureError::PassphraseMissing(path.to_path_buf()),
        (true, Some(_)) => SignatureError::PassphraseWrong(path.to_path_buf()),
        (false, _) => SignatureError::Malformed {
            what: "private key",
            path: path.to_path_buf(),
            hint: match pem.first() {
                Some(&DER_SEQUENCE) => {
                    "; if it is in DER form, convert it: openssl pkey -inform DER -in KEY -out KEY.pem"
                }
                _ => "",
            },
        },
    })
}

/// The private number of an EC key, as long as its curve's order.
fn scalar(key: &PKey<Private>, length: i32) -> Option<Vec<u8>> {
    let key = key.ec_key().ok()?;
    key.private_key().to_vec_padded(length).ok()
}

fn exposed(path: &Path) -> Option<SignerWarning> {
    let metadata = std::fs::metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o777;
    (metadata.is_file() && mode & 0o077 != 0).then(|| SignerWarning::Exposed {
        path: path.to_path_buf(),
        mode,
    })
}
