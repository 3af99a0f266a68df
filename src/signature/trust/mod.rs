//! Whom to trust, and what systemd and the kernel would make of a signature.
//!
//! systemd takes certificates from `*.crt` files in its `verity.d` folders, the kernel from its
//! keyrings, which firmware fills from the variable `db`. A [`TrustStore`] holds what either would
//! have, and judges a signature as both would: without asking them, and without being root.

mod kernel;
mod load;
mod naming;
mod systemd;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::path::PathBuf;

use super::signed_data::SignedData;
use super::{Certificate, SignaturePartition};
use crate::efi::Guid;
use crate::printable::printable;
use crate::verity::RootHash;

pub use load::TrustError;
pub use verdict::{Acceptance, DateWarning, Distrust, Verdict, Verifier};

/// Certificates whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct TrustStore {
    certificates: Vec<TrustedCertificate>,
    passed_over: Vec<PassedOver>,
}

/// A certificate whose signatures count, and where it is from.
#[derive(Clone, Debug)]
pub struct TrustedCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// Where it is from.
    pub origin: Origin,
}

/// Where a trusted certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// How it lies in there.
    pub form: Form,
}

/// How a file holds a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Base64 between two lines.
    Pem,
    /// As it is.
    Der,
    /// In a list of signatures, whether that is a file or a variable of the firmware.
    SignatureList {
        /// Which one, counted from 1 over all certificates of the file.
        number: usize,
        /// Who put it into the list.
        owner: Guid,
    },
}

/// Something that looks like a certificate but does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} {reason}")]
pub struct PassedOver {
    /// Which file, printable.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

impl TrustStore {
    /// A store in which nobody is trusted.
    pub fn new() -> TrustStore {
        TrustStore::default()
    }

    /// Trusts a certificate. One that is trusted already keeps its origin.
    pub fn add(&mut self, certificate: Certificate, origin: Origin) {
        let known = |trusted: &TrustedCertificate| trusted.certificate.der() == certificate.der();
        if !self.certificates.iter().any(known) {
            self.certificates.push(TrustedCertificate {
                certificate,
                origin,
            });
        }
    }

    /// Everyone who is trusted, in the order of loading.
    pub fn certificates(&self) -> &[TrustedCertificate] {
        &self.certificates
    }

    /// What was found while loading but does not count.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// What systemd and the kernel would say of a signature over `root_hash`, if each had all of
    /// these certificates where it looks for them.
    pub fn judge(&self, signature: &SignaturePartition, root_hash: &RootHash) -> Verdict {
        let refuse = |distrust: Distrust| Verdict {
            systemd: Err(distrust.clone()),
            kernel: Err(distrust),
        };
        if signature.root_hash != *root_hash {
            return refuse(Distrust::OtherRootHash {
                named: signature.root_hash,
                expected: *root_hash,
            });
        }
        let Ok(message) = SignedData::read(&signature.pkcs7) else {
            return refuse(Distrust::Malformed);
        };
        if message.signers.is_empty() {
            return refuse(Distrust::NoSigner);
        }
        if self.certificates.is_empty() {
            return refuse(Distrust::NothingTrusted);
        }
        Verdict {
            systemd: systemd::judge(&message, &signature.pkcs7, root_hash, &self.certificates),
            kernel: kernel::judge(&message, root_hash, &self.certificates),
        }
    }
}

impl fmt::Display for TrustedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.certificate.subject(), self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = printable(self.path.as_os_str().as_encoded_bytes());
        match self.form {
            Form::Pem | Form::Der => f.write_str(&path),
            Form::SignatureList { number, .. } => write!(f, "certificate {number} of {path}"),
        }
    }
}
