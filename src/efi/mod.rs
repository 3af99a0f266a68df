//! How firmware keeps certificates: GUIDs, and signature lists in files and variables.

mod guid;
pub mod signature_list;

pub use guid::{Guid, InvalidGuid};
pub use signature_list::{InvalidSignatureList, SignatureDatabase, SignatureList};
