//! The certificate of a key that is to sign, and what is doubtful about it.

use std::path::Path;

use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKeyRef};
use openssl::sign::Verifier;

use super::signer::Unsuitable;
use super::{Algorithm, Certificate, SignatureError};

/// The lengths of a safe modulus that the kernel takes (`crypto/rsa.c`, `rsa_check_key_length()`).
const KERNEL_RSA_BITS: [u32; 3] = [2048, 3072, 4096];

/// A certificate whose key makes signatures that the kernel and systemd both take.
#[derive(Clone, Debug)]
pub struct SigningCertificate {
    certificate: Certificate,
    algorithm: Algorithm,
    /// File or URI.
    origin: String,
    /// What else the file holds.
    others: Vec<Certificate>,
    warnings: Vec<SignerWarning>,
}

/// What a user should know about a key or certificate that works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerWarning {
    /// systemd and the kernel do not look at dates, but firmware and people may.
    #[error(
        "certificate {origin} has expired ({not_after}); the kernel and systemd take its signatures all the same"
    )]
    Expired {
        /// Which file or token object.
        origin: String,
        /// When.
        not_after: String,
    },
    /// The same, at the other end.
    #[error(
        "certificate {0} is not valid yet; the kernel and systemd take its signatures all the same"
    )]
    NotYetValid(String),
    /// systemd reads only the first certificate of a file in `verity.d`.
    #[error(
        "{origin} holds {count} certificates; the first, {subject}, is the signer's and the only one that hosts need"
    )]
    Chain {
        /// Which file.
        origin: String,
        /// How many it holds.
        count: usize,
        /// Whose the first one is.
        subject: String,
    },
    /// Others than the owner can read the key.
    #[error(
        "private key {path} can be read by others than its owner (mode {mode:o}); chmod 600 it"
    )]
    Exposed {
        /// Which file.
        path: std::path::PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// systemd takes such signatures, the kernel does not.
    #[error(
        "the key of certificate {origin} is RSA of {bits} bits; the kernel verifies 2048, 3072 and 4096 bits only, so its signatures will do for systemd alone"
    )]
    OddRsaLength {
        /// Which file or token object.
        origin: String,
        /// Bits of the modulus.
        bits: u32,
    },
}

impl SigningCertificate {
    /// Reads a file in PEM or DER form. Of several certificates the first one counts.
    ///
    /// # Errors
    /// [`SignatureError`], which names the file: unreadable, not a certificate, of a key or with a
    /// signature that kernel or systemd would refuse.
    pub fn load(path: &Path) -> Result<SigningCertificate, SignatureError> {
        let mut certificates = Certificate::load_all(path)?;
        let others = certificates.split_off(1);
        let first = certificates.swap_remove(0);
        SigningCertificate::new(first, others, path.display().to_string())
    }

    /// A certificate that a token holds under the URI `origin`.
    ///
    /// # Errors
    /// As [`SigningCertificate::load`].
    pub fn from_token(
        certificate: Certificate,
        origin: String,
    ) -> Result<SigningCertificate, SignatureError> {
        SigningCertificate::new(certificate, Vec::new(), origin)
    }

    fn new(
        certificate: Certificate,
        others: Vec<Certificate>,
        origin: String,
    ) -> Result<SigningCertificate, SignatureError> {
        let key = certificate.public_key()?;
        let algorithm = Algorithm::of(&key).map_err(|Unsuitable { found, reason }| {
            SignatureError::UnsuitableKey {
                key: format!("the key of certificate {origin}"),
                found,
                reason,
            }
        })?;
        accept_signature_of(&certificate, &origin)?;
        let mut warnings = warnings(&certificate, &origin);
        if !others.is_empty() {
            warnings.push(SignerWarning::Chain {
                origin: origin.clone(),
                count: others.len() + 1,
                subject: certificate.subject(),
            });
        }
        if algorithm == Algorithm::RsaSha256 && !KERNEL_RSA_BITS.contains(&key.bits()) {
            warnings.push(SignerWarning::OddRsaLength {
                origin: origin.clone(),
                bits: key.bits(),
            });
        }
        Ok(SigningCertificate {
            certificate,
            algorithm,
            origin,
            others,
            warnings,
        })
    }

    /// The certificate itself.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// How its key signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The file or URI that it came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the user should know.
    pub fn warnings(&self) -> &[SignerWarning] {
        &self.warnings
    }

    /// Demands that it belongs to `key`, which errors call `name`.
    pub(super) fn belongs_to<T: HasPublic>(
        &self,
        key: &PKeyRef<T>,
        name: &str,
    ) -> Result<(), SignatureError> {
        let belongs = |certificate: &Certificate| {
            certificate
                .x509()
                .public_key()
                .is_ok_and(|public| key.public_eq(&public))
        };
        if belongs(&self.certificate) {
            return Ok(());
        }
        match self.others.iter().position(belongs) {
            Some(place) => Err(SignatureError::NotFirst {
                certificate: self.origin.clone(),
                place: place + 2,
                key: name.to_owned(),
            }),
            None => Err(SignatureError::Mismatch {
                key: name.to_owned(),
                certificate: self.origin.clone(),
            }),
        }
    }

    /// Whether `signature` is one over `message` by its key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = || {
            let key = self.certificate.x509().public_key()?;
            // For RSA keys OpenSSL's default is the padding of PKCS#1 v1.5.
            let mut verifier = Verifier::new(self.algorithm.message_digest(), &key)?;
            verifier.verify_oneshot(signature, message)
        };
        // An error is OpenSSL's way to speak of signatures that are not even well formed.
        verify().unwrap_or(false)
    }
}

fn warnings(certificate: &Certificate, origin: &str) -> Vec<SignerWarning> {
    let mut warnings = Vec::new();
    if certificate.is_expired() {
        warnings.push(SignerWarning::Expired {
            origin: origin.to_owned(),
            not_after: certificate.not_after(),
        });
    }
    if certificate.is_not_yet_valid() {
        warnings.push(SignerWarning::NotYetValid(origin.to_owned()));
    }
    warnings
}

/// Refuses a certificate whose issuer signed it in a way that kernels do not know, or do not trust
/// any more (`crypto/asymmetric_keys/x509_cert_parser.c`).
fn accept_signature_of(certificate: &Certificate, origin: &str) -> Result<(), SignatureError> {
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
        certificate: origin.to_owned(),
        found,
        reason,
    })
}
