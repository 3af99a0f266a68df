//! What an extension image says of itself, and how two images differ.
//!
//! Nothing is proved here, see [`crate::verification`]; and nothing is believed: whatever an image
//! says is text to show, and reading it ends.

mod difference;
mod facts;
mod gather;

use std::path::PathBuf;

use crate::erofs::{FileSystem, ReadError};
use crate::image::DdiError;
use crate::read_at::FileWindow;

pub use difference::{
    Aspect, ChangedFile, CompareError, Difference, FieldDifference, FileDifferences,
    FolderDifference, PartitionDifference, compare,
};
pub use facts::{
    Facts, FileFacts, FileSystemFacts, PartitionFacts, SignatureFacts, VerityFacts, is_provenance,
};
pub use gather::inspect;

/// An opened image, and what it says of itself.
#[derive(Debug)]
pub struct Inspected {
    /// What it says.
    pub facts: Facts,
    file_system: FileSystem<FileWindow>,
}

/// Why an image could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Not an extension image.
    #[error(transparent)]
    Image(#[from] DdiError),
    /// There is nothing to look into.
    #[error("{0} has no data partition")]
    NoData(PathBuf),
    /// The file system is broken, or none that is known.
    #[error("cannot read the file system in {path}")]
    FileSystem {
        /// Which image.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
}
