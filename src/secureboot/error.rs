//! What can go wrong with keys.

use std::io;
use std::path::PathBuf;

use openssl::error::ErrorStack;

use super::FolderError;
use crate::efi::InvalidSignatureList;
use crate::signature::SignatureError;

/// Why a key set was not made.
#[derive(Debug, thiserror::Error)]
pub enum SecureBootError {
    /// An existing key or certificate cannot be used.
    #[error(transparent)]
    Existing(#[from] SignatureError),
    /// The folder for the keys is not fit.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key cannot sign the policies of measured boot.
    #[error("private key {0} is not RSA of at least 2048 bits, as TPMs need it")]
    UnsuitableTpmKey(PathBuf),
    /// The folder with other people's certificates is missing.
    #[error("there is no folder {0} with custom certificates")]
    NoCustomFolder(PathBuf),
    /// One of its files is not what firmware exports.
    #[error(
        "{path} holds no EFI signature lists; export the variable from the firmware's menu, or with `efi-readvar -v NAME -o FILE`"
    )]
    CustomFile {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidSignatureList,
    },
    /// An entry of one of its files is damaged.
    #[error("entry {number} of {path} is said to be {said} but is none")]
    CustomEntry {
        /// Which file.
        path: PathBuf,
        /// Which entry, from 1 on.
        number: usize,
        /// `an X.509 certificate` or `a SHA-256 digest`.
        said: &'static str,
    },
    /// OpenSSL failed.
    #[error("OpenSSL cannot {what}")]
    OpenSsl {
        /// What it was asked to do.
        what: &'static str,
        /// What it said.
        source: ErrorStack,
    },
    /// OpenSSL made a certificate that cannot be read.
    #[error("OpenSSL made a certificate that is none")]
    Certificate,
    /// OpenSSL made a signature that cannot be read.
    #[error("OpenSSL made a signature that is none")]
    Signature(#[from] der::Error),
}

impl SecureBootError {
    /// What became of asking OpenSSL to do `what`.
    pub(super) fn openssl(what: &'static str) -> impl Fn(ErrorStack) -> SecureBootError {
        move |source| SecureBootError::OpenSsl { what, source }
    }
}
