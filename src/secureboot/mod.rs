//! The keys of Secure Boot and Trusted Boot: made, signed for enrolment, and stored.
//!
//! Firmware keeps three lists of certificates in variables: PK, whose owner may change KEK, whose
//! owners may change db, whose owners may sign what is started. A variable's content is a
//! [`SignatureDatabase`](crate::efi::SignatureDatabase); firmware takes a new one as an [`AuthenticatedVariable`], signed by the
//! key above it. Structures and names are those of UEFI 2.10.

use std::path::Path;

use crate::read_at::read_file;

mod authenticated_variable;
mod certificate;
mod custom;
mod efi_time;
mod error;
mod key_folder;
mod key_pair;
mod key_set;
mod key_type;
pub mod microsoft;
mod private_key;
mod readme;
mod staging;
mod subject;

pub use authenticated_variable::{AuthenticatedVariable, InvalidAuthenticatedVariable, Variable};
pub use certificate::{InvalidValidity, Purpose, Validity};
pub use custom::{CustomEntries, LeftOut};
pub use efi_time::{EfiTime, InvalidTime};
pub use error::SecureBootError;
pub use key_folder::{FolderError, KeyFolder};
pub use key_pair::KeyPair;
pub use key_set::{ExistingKeys, FirmwareKey, KeyFile, KeySet, KeySetRequest};
pub use key_type::{InvalidKeyType, KeyType};
pub use private_key::TpmKey;
pub use staging::discard_pending;
pub use subject::{CommonName, InvalidSubject, PartialSubject, Subject};

/// Reads a file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, SecureBootError> {
    read_file(path, limit).map_err(|source| SecureBootError::Read {
        path: path.to_path_buf(),
        source,
    })
}
