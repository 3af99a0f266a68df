//! What can be wrong with a file system that is read.

use std::io;

use crate::erofs::{Algorithm, FileType, Nid, SuperblockError};

/// Why a file system, or something in it, could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The image could not be read, or it ends too early.
    #[error("the file system cannot be read at byte {offset}")]
    Image {
        /// Bytes from the start of the file system.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The superblock is refused.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// The image is smaller than its file system.
    #[error("the image is cut off: the file system has {expected} bytes, the image {actual}")]
    CutOff {
        /// Bytes that the superblock tells.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// An inode is refused.
    #[error("inode {nid} {reason}")]
    Inode {
        /// The inode.
        nid: Nid,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The entries of a directory are refused.
    #[error("directory {nid} {reason}")]
    Directory {
        /// The directory.
        nid: Nid,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The extended attributes of an inode are refused.
    #[error("the extended attributes of inode {nid} {reason}")]
    Xattrs {
        /// The inode.
        nid: Nid,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Something else was asked for than there is.
    #[error("inode {nid} is no {expected} but a {actual}")]
    WrongType {
        /// The inode.
        nid: Nid,
        /// What was asked for.
        expected: FileType,
        /// What there is.
        actual: FileType,
    },
    /// Content that this program cannot read.
    #[error("inode {nid} is compressed with {algorithm}, which this program cannot read")]
    Compressed {
        /// The inode.
        nid: Nid,
        /// How it is compressed.
        algorithm: Algorithm,
    },
}
