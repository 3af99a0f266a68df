//! Signing with a private key in a PEM file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::ec::EcKey;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};

use super::{Algorithm, Certificate, SignatureError, Signer};

/// Larger files hold no private key.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What the kernel's and everybody else's idea of a safe modulus starts at.
const MIN_RSA_BITS: u32 = 2048;
/// The lengths of a safe modulus that the kernel takes (`crypto/rsa.c`, `rsa_check_key_length()`).
const KERNEL_RSA_BITS: [u32; 3] = [2048, 3072, 4096];

/// Opens an encrypted private key. It is never printed.
pub struct Passphrase(String);

impl Passphrase {
    /// A passphrase.
    pub fn new(text: &str) -> Passphrase {
        Passphrase(text.to_owned())
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
    certificate: Certificate,
    warnings: Vec<SignerWarning>,
}

enum Key {
    Rsa(PKey<Private>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
}

/// What a user should know about a key or certificate that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerWarning {
    /// systemd and the kernel do not look at dates, but firmware and people may.
    #[error("certificate {path} has expired ({not_after})")]
    Expired {
        /// Which file.
        path: PathBuf,
        /// When.
        not_after: String,
    },
    /// The same, at the other end.
    #[error("certificate {0} is not valid yet")]
    NotYetValid(PathBuf),
    /// Others than the owner can read the key.
    #[error(
        "private key {path} can be read by others than its owner (mode {mode:o}); chmod 600 it"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// systemd takes such signatures, the kernel does not.
    #[error(
        "private key {path} is RSA of {bits} bits; the kernel verifies 2048, 3072 and 4096 bits only, so its signatures will do for systemd alone"
    )]
    OddRsaLength {
        /// Which file.
        path: PathBuf,
        /// Bits of the modulus.
        bits: u32,
    },
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
        let certificate = Certificate::load(certificate_path)?;
        let belongs = certificate
            .x509()
            .public_key()
            .is_ok_and(|public| private.public_eq(&public));
        let key = suitable(private, key_path)?;
        if !belongs {
            return Err(SignatureError::Mismatch {
                key: key_path.to_path_buf(),
                certificate: certificate_path.to_path_buf(),
            });
        }
        accept_signature_of(&certificate, certificate_path)?;
        let mut warnings = warnings(key_path, certificate_path, &certificate);
        warnings.extend(odd_length(&key, key_path));
        Ok(PemSigner {
            key,
            certificate,
            warnings,
        })
    }

    /// What the user should know.
    pub fn warnings(&self) -> &[SignerWarning] {
        &self.warnings
    }
}

impl Signer for PemSigner {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithm(&self) -> Algorithm {
        match self.key {
            Key::Rsa(_) => Algorithm::RsaSha256,
            Key::P256(_) => Algorithm::EcdsaSha256,
            Key::P384(_) => Algorithm::EcdsaSha384,
        }
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
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    };
    read().map_err(|source| SignatureError::Read {
        what,
        path: path.to_path_buf(),
        source,
    })
}

fn load_private_key(
    path: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<PKey<Private>, SignatureError> {
    let pem = read_bounded("private key", path, MAX_FILE_BYTES)?;
    let mut asked = false;
    // With a callback OpenSSL never asks on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked = true;
        let secret = passphrase.map_or(&[][..], |passphrase| passphrase.0.as_bytes());
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
            hint: "",
        },
    })
}

/// The key as a signer, if kernel and systemd both take signatures by such keys.
fn suitable(key: PKey<Private>, path: &Path) -> Result<Key, SignatureError> {
    let refuse = |found: &str, reason| {
        Err(SignatureError::UnsuitableKey {
            path: path.to_path_buf(),
            found: found.to_owned(),
            reason,
        })
    };
    match key.id() {
        Id::RSA if key.bits() < MIN_RSA_BITS => refuse(
            &format!("RSA of {} bits", key.bits()),
            "that is too short to be safe",
        ),
        Id::RSA => Ok(Key::Rsa(key)),
        Id::RSA_PSS => refuse("RSA-PSS", "neither the kernel nor systemd verifies PSS"),
        Id::EC => match key.ec_key().ok().and_then(|key| ecdsa_key(&key)) {
            Some(key) => Ok(key),
            None => refuse("ECDSA on another curve", "the kernel has no such curve"),
        },
        Id::ED25519 => refuse(
            "Ed25519",
            "neither the kernel nor systemd verifies it in PKCS#7",
        ),
        Id::ED448 => refuse(
            "Ed448",
            "neither the kernel nor systemd verifies it in PKCS#7",
        ),
        _ => refuse(
            "of an unknown kind",
            "kernel and systemd verify RSA and ECDSA",
        ),
    }
}

/// Refuses a certificate whose issuer signed it in a way that kernels do not know, or do not trust
/// any more (`crypto/asymmetric_keys/x509_cert_parser.c`).
fn accept_signature_of(certificate: &Certificate, path: &Path) -> Result<(), SignatureError> {
    let broken = "it can be forged";
    let unknown = "the kernel does not load such certificates";
    let algorithm = certificate.x509().signature_algorithm().object().nid();
    let (found, reason) = match algorithm {
        Nid::SHA1WITHRSAENCRYPTION | Nid::SHA1WITHRSA | Nid::ECDSA_WITH_SHA1 => ("SHA-1", broken),
        Nid::MD5WITHRSAENCRYPTION | Nid::MD5WITHRSA => ("MD5", broken),
        Nid::RSASSAPSS => ("RSA-PSS", unknown),
        _ => return Ok(()),
    };
    Err(SignatureError::UnsuitableCertificate {
        path: path.to_path_buf(),
        found,
        reason,
    })
}

fn ecdsa_key(key: &EcKey<Private>) -> Option<Key> {
    let scalar = |bytes| key.private_key().to_vec_padded(bytes).ok();
    match key.group().curve_name()? {
        Nid::X9_62_PRIME256V1 => {
            let key = p256::ecdsa::SigningKey::from_slice(&scalar(32)?);
            Some(Key::P256(key.ok()?))
        }
        Nid::SECP384R1 => {
            let key = p384::ecdsa::SigningKey::from_slice(&scalar(48)?);
            Some(Key::P384(key.ok()?))
        }
        _ => None,
    }
}

fn odd_length(key: &Key, path: &Path) -> Option<SignerWarning> {
    let Key::Rsa(key) = key else { return None };
    (!KERNEL_RSA_BITS.contains(&key.bits())).then(|| SignerWarning::OddRsaLength {
        path: path.to_path_buf(),
        bits: key.bits(),
    })
}

fn warnings(
    key_path: &Path,
    certificate_path: &Path,
    certificate: &Certificate,
) -> Vec<SignerWarning> {
    let mut warnings = Vec::new();
    if certificate.is_expired() {
        warnings.push(SignerWarning::Expired {
            path: certificate_path.to_path_buf(),
            not_after: certificate.not_after(),
        });
    }
    if certificate.is_not_yet_valid() {
        warnings.push(SignerWarning::NotYetValid(certificate_path.to_path_buf()));
    }
    if let Ok(metadata) = std::fs::metadata(key_path) {
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_file() && mode & 0o077 != 0 {
            warnings.push(SignerWarning::Exposed {
                path: key_path.to_path_buf(),
                mode,
            });
        }
    }
    warnings
}
