//! What can go wrong while a file system is written.

use std::io;

/// Why a file system could not be written. The path is known to the caller, not to the writer.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image could not be written.
    #[error("the file system could not be written")]
    Sink(#[source] io::Error),
    /// The content of a file could not be read.
    #[error("the content of the file could not be read")]
    Content(#[source] io::Error),
    /// The threads that compress could not be started.
    #[error("the threads that compress content could not be started")]
    Threads(#[source] io::Error),
    /// A thread that compresses ended.
    #[error("a thread that compresses content ended unexpectedly; this is a fault of this program")]
    Compressor,
    /// The content of a file ended early.
    #[error("the file should have {size} bytes, but its content ends {missing} bytes early")]
    ContentTooShort {
        /// Bytes that were announced.
        size: u64,
        /// Bytes that did not come.
        missing: u64,
    },
    /// The content of a file went on.
    #[error("the file should have {size} bytes, but its content goes on behind them")]
    ContentTooLong {
        /// Bytes that were announced.
        size: u64,
    },
    /// EROFS, or Linux, has no such symbolic links.
    #[error("the target of the symbolic link, {bytes} bytes, must have 1 to 4095 bytes and no NUL")]
    Target {
        /// Bytes of the target.
        bytes: usize,
    },
    /// Linux has no such device.
    #[error(
        "device {major}:{minor} is out of range: 12 bits for the major, 20 for the minor number"
    )]
    Device {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// An extended attribute that EROFS has no place for.
    #[error("extended attribute {name} {reason}")]
    Xattr {
        /// The name, made printable.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The extended attributes of one inode are too many.
    #[error(
        "the extended attributes take {bytes} bytes, more than the {limit} that there is room for"
    )]
    XattrsTooLarge {
        /// Bytes that they take.
        bytes: usize,
        /// Bytes that they may take.
        limit: usize,
    },
    /// A name in the tree that no file can have.
    #[error(
        "name {name} cannot be stored: it must have 1 to 255 bytes, no slash and no NUL, and be \
         neither . nor .."
    )]
    Name {
        /// The name, made printable.
        name: String,
    },
    /// The tree has a leaf that was never added.
    #[error("the tree has a leaf {id} that was not added to the file system")]
    UnknownLeaf {
        /// The leaf's number.
        id: u32,
    },
    /// The tree is none.
    #[error("directory {name} has several places in the tree")]
    DirectoryTwice {
        /// One of its names, made printable.
        name: String,
    },
    /// A file has more names than its inode, which is long written, can count.
    #[error("a file has {links} hard links; 65535 is the most that is supported")]
    TooManyLinks {
        /// Names of the file.
        links: u32,
    },
    /// The numbers of inodes have 32 bits.
    #[error("the file system has too many files: more than 2^32")]
    TooManyInodes,
    /// The addresses of blocks have 32 bits.
    #[error("the file system is too large: more than 16 TiB")]
    TooLarge,
    /// An earlier error was not heeded.
    #[error("the file system is incomplete since an earlier error")]
    Broken,
}
