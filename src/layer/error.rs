//! What can be wrong with a layer.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::InvalidPath;
use crate::digest::Digest;
use crate::printable::printable;

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The source failed while its bytes were read.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// The compressed data ends early, carries a wrong checksum, or is followed by other data.
    #[error("the {format} data of the layer is damaged or cut off")]
    Decompress {
        /// `gzip` or `zstd`.
        format: &'static str,
        /// What the decoder found.
        source: io::Error,
    },
    /// A compression that container images do not use.
    #[error(
        "the layer is compressed with {0}, but only gzip and zstd are read; compress it anew with one of these"
    )]
    UnknownCompression(&'static str),
    /// The layer as stored is shorter than it should be.
    #[error("the layer ends after {actual} of {expected} bytes")]
    TooShort {
        /// Bytes announced.
        expected: u64,
        /// Bytes read.
        actual: u64,
    },
    /// The layer as stored is longer than it should be.
    #[error("the layer has more than the {expected} bytes that were announced")]
    TooLong {
        /// Bytes announced.
        expected: u64,
    },
    /// The content is another than the image's manifest or configuration says.
    #[error(
        "{of} of the layer is {actual}, but should be {expected}; the content was damaged or replaced"
    )]
    Digest {
        /// Which of the two digests.
        of: DigestOf,
        /// The announced one.
        expected: Digest,
        /// The computed one.
        actual: Digest,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread to read the layer")]
    Thread(#[source] io::Error),
    /// The layer was used on after one of the other errors.
    #[error("the layer was given up after an earlier error")]
    GivenUp,
    /// What should be a tar header is none.
    #[error(
        "there is no tar header at byte {offset} of the uncompressed layer (its checksum is wrong)"
    )]
    NoHeader {
        /// Bytes from the start of the archive.
        offset: u64,
    },
    /// A zero block, of which two end an archive, stands alone.
    #[error("a lone zero block at byte {offset} of the uncompressed layer is no end of an archive")]
    LoneZeroBlock {
        /// Bytes from the start of the archive.
        offset: u64,
    },
    /// The archive ends inside of a header or an entry.
    #[error("the archive is cut off at byte {offset}, in or behind entry \"{entry}\"")]
    Truncated {
        /// The last entry that began, made printable; empty before the first.
        entry: String,
        /// Bytes from the start of the archive.
        offset: u64,
    },
    /// An entry is refused.
    #[error("entry \"{entry}\" {problem}")]
    Entry {
        /// The name of the entry as stored, made printable and shortened.
        entry: String,
        /// Why.
        problem: EntryProblem,
    },
    /// A file or directory of a root tree cannot be read.
    #[error("cannot read {}", path.display())]
    Path {
        /// Where it lies on the host.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file or directory of a root tree is not any more what it was a moment ago.
    #[error("{} changed while it was read; try again when nothing writes there", path.display())]
    Changed {
        /// Where it lies on the host.
        path: PathBuf,
    },
}

impl LayerError {
    /// Whether the content is another than was announced, which explains whatever else is wrong.
    pub(super) fn is_digest(&self) -> bool {
        matches!(self, LayerError::Digest { .. })
    }

    /// Whether what was read is no usable archive.
    pub(super) fn is_of_content(&self) -> bool {
        matches!(
            self,
            LayerError::NoHeader { .. }
                | LayerError::LoneZeroBlock { .. }
                | LayerError::Truncated { .. }
                | LayerError::Entry { .. }
        )
    }

    pub(super) fn entry(raw_name: &[u8], problem: EntryProblem) -> LayerError {
        LayerError::Entry {
            entry: shortened(raw_name),
            problem,
        }
    }
}

/// A name as stored, printable and not longer than a message should be.
pub(super) fn shortened(raw_name: &[u8]) -> String {
    const MAX_SHOWN_BYTES: usize = 256;
    match raw_name.get(..MAX_SHOWN_BYTES) {
        Some(start) if raw_name.len() > MAX_SHOWN_BYTES => format!("{}…", printable(start)),
        _ => printable(raw_name),
    }
}

/// One of the two digests that an image gives for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestOf {
    /// Of the bytes as stored.
    Blob,
    /// Of the uncompressed archive.
    DiffId,
}

impl fmt::Display for DigestOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DigestOf::Blob => "the digest",
            DigestOf::DiffId => "the diff id (the digest of the uncompressed archive)",
        })
    }
}

/// Why an entry of a layer is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryProblem {
    /// Its path would leave the layer, or no kernel would take it.
    #[error("is refused: its path {}", .0.reason)]
    Path(#[source] InvalidPath),
    /// It is a hard link whose target would leave the layer.
    #[error("is a hard link and refused: its target {0}")]
    LinkTarget(#[source] InvalidPath),
    /// It is a symbolic link to nothing, to more than 4095 bytes, or to bytes with a NUL.
    #[error("is a symbolic link whose target is empty, longer than 4095 bytes or has a NUL byte")]
    SymlinkTarget,
    /// It is called as the root, but is no directory.
    #[error("has the name of the root, but is no directory")]
    RootNoDirectory,
    /// By its name it is a directory in the oldest format, but it has content.
    #[error("ends in a slash like a directory, but has content like a file")]
    DirectoryContent,
    /// Its type is none that a container layer has.
    #[error("has the unknown type {}", printable(&[*.0]))]
    UnknownType(u8),
    /// A field of its header is no number, or not one that fits.
    #[error("has no usable number as its {field}")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// An extended header (PAX) breaks the format.
    #[error("has a damaged extended header: {0}")]
    ExtendedHeader(&'static str),
    /// The same thing is said twice, so that two programs might read two things.
    #[error("has two {0}")]
    Twice(&'static str),
    /// A global extended header sets what only one entry can have.
    #[error("is a global header that sets {0} for all entries")]
    GlobalHeader(&'static str),
    /// The map of a sparse file contradicts itself.
    #[error("has a damaged map of its holes: {0}")]
    SparseMap(&'static str),
    /// One of the limits is broken.
    #[error("breaks a limit: {what} must not exceed {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}
