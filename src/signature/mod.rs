//! Signing a root hash the way the kernel and systemd both accept it.
//!
//! What is signed are the 64 hexadecimal digits of the root hash. The signature is a detached PKCS#7
//! without signed attributes; it lies base64-encoded in the JSON of the signature partition.

mod certificate;
mod command_signer;
mod foreign;
mod partition;
mod pem_signer;
mod pkcs11;
mod pkcs7;
mod shape;
mod signed_data;
mod signer;
mod signing_certificate;
#[cfg(test)]
mod tests;
pub mod trust;

use std::io;
use std::path::PathBuf;

pub use certificate::Certificate;
pub use command_signer::{CommandError, CommandInput, CommandSigner};
pub use foreign::{ForeignSignatureError, accept_signature};
pub use partition::{InvalidSignaturePartition, PARTITION_BYTES, SignaturePartition};
pub(crate) use pem_signer::load_private_key;
use pem_signer::read_bounded;
pub use pem_signer::{Passphrase, PemSigner};
pub use pkcs7::{Refusal, SignedBy, sign_root_hash, signer_of};
pub use pkcs11::{
    DEFAULT_MODULE, InvalidUri, PathAttribute, PinSource, Pkcs11Error, Pkcs11Signer, Pkcs11Uri,
    TokenAccess, load_certificate,
};
pub use shape::{Objection, SignatureShape};
pub use signer::{Algorithm, Signer, Signing};
pub use signing_certificate::{SignerWarning, SigningCertificate};

/// Why something could not be signed, or a key or certificate not be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A file could not be read.
    #[error("cannot read {what} {path}")]
    Read {
        /// `private key` or `certificate`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no key or certificate of a known form.
    #[error("{path} holds no {what} in PEM form{hint}")]
    Malformed {
        /// `private key` or `certificate`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What to do, with a leading separator, or nothing.
        hint: &'static str,
    },
    /// The key is encrypted and there is no passphrase.
    #[error(
        "private key {0} is encrypted; give its passphrase with --passphrase-file or in SYSGRAFT_PASSPHRASE"
    )]
    PassphraseMissing(PathBuf),
    /// The passphrase does not open the key.
    #[error("the passphrase does not open private key {0}")]
    PassphraseWrong(PathBuf),
    /// Kernel or systemd would not take a signature by such a key.
    #[error(
        "{key} is {found}: {reason}; use RSA of at least 2048 bits, or ECDSA with P-256 or P-384"
    )]
    UnsuitableKey {
        /// Which one.
        key: String,
        /// What kind of key it is.
        found: String,
        /// Why that does not do.
        reason: &'static str,
    },
    /// The certificate's own signature is of a kind that keeps it out of the kernel's keyrings.
    #[error(
        "certificate {certificate} is signed with {found}: {reason}; have it signed anew with SHA-256 and RSA (PKCS#1 v1.5) or ECDSA"
    )]
    UnsuitableCertificate {
        /// Which file or token object.
        certificate: String,
        /// How it is signed.
        found: &'static str,
        /// Why that does not do.
        reason: &'static str,
    },
    /// The certificate is of another key.
    #[error("private key {key} does not belong to certificate {certificate}")]
    Mismatch {
        /// File or token object of the key.
        key: String,
        /// File or token object of the certificate.
        certificate: String,
    },
    /// Hosts would take the first certificate for the signer's.
    #[error(
        "{certificate} is a chain in which the certificate of private key {key} is number {place}; give a file with that one alone"
    )]
    NotFirst {
        /// File of the certificates.
        certificate: String,
        /// Counted from 1.
        place: usize,
        /// File of the key.
        key: String,
    },
    /// A token could not be used.
    #[error(transparent)]
    Pkcs11(#[from] Pkcs11Error),
    /// A program gave no signature.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The signature does not fit into its partition.
    #[error("the signature takes {0} bytes, more than the 16 KiB of its partition")]
    TooLong(usize),
    /// OpenSSL failed.
    #[error("OpenSSL cannot {what}")]
    OpenSsl {
        /// What it was asked to do.
        what: &'static str,
        /// What it said.
        source: openssl::error::ErrorStack,
    },
    /// The signature could not be encoded.
    #[error("cannot encode the signature")]
    Encode(#[from] der::Error),
}
