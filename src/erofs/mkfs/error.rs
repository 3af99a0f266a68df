//! What can go wrong with mkfs.erofs.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::Version;
use crate::erofs::{ReadError, WriteError};

/// Why mkfs.erofs made no file system.
#[derive(Debug, thiserror::Error)]
pub enum MkfsError {
    /// There is no such program, or it cannot be run.
    #[error(
        "cannot run {program}; install the package erofs-utils, version {oldest} or newer, or name \
         the program with --packer mkfs.erofs=PATH",
        oldest = Version::OLDEST
    )]
    Start {
        /// What was to be run.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program is another one.
    #[error("{program} is no mkfs.erofs: asked for its version it says {said:?}")]
    NoVersion {
        /// What was run.
        program: PathBuf,
        /// The start of what it said.
        said: String,
    },
    /// The version is not used.
    #[error(
        "{program} is of erofs-utils {version}, which {defect}; install the package erofs-utils, \
         version {oldest} or newer (but neither 1.8.7 nor 1.8.8), or name such a program with \
         --packer mkfs.erofs=PATH",
        oldest = Version::OLDEST
    )]
    Version {
        /// What was run.
        program: PathBuf,
        /// What it said it is.
        version: Version,
        /// What is wrong with that version.
        defect: &'static str,
    },
    /// An option is not passed on.
    #[error("the option {option:?} for mkfs.erofs {reason}")]
    Option {
        /// The option, or what several options together switch on.
        option: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// EROFS, or Linux, has no such file, whoever writes it.
    #[error(transparent)]
    File(#[from] WriteError),
    /// Archives have no sockets.
    #[error("mkfs.erofs cannot be given sockets; --packer native can store them")]
    Socket,
    /// Archives end the name of an attribute at the first `=`.
    #[error(
        "mkfs.erofs cannot be given the extended attribute {name}, whose name has a '='; --packer \
         native can store it"
    )]
    XattrName {
        /// The name, made printable.
        name: String,
    },
    /// Versions of mkfs.erofs disagree on what the fraction of an early time is added to.
    #[error(
        "mkfs.erofs cannot be given times before 1970 with fractions of a second; --packer native \
         can store them"
    )]
    EarlyTime,
    /// The copy of the content that waits for mkfs.erofs.
    #[error("the temporary copy of the content for mkfs.erofs could not be written or read")]
    Spool(#[source] io::Error),
    /// mkfs.erofs takes no more of its input.
    #[error("{program} could not be given all files")]
    Pipe {
        /// What runs.
        program: PathBuf,
        /// What writing to it gave.
        source: io::Error,
    },
    /// mkfs.erofs reported a failure, or was killed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// What ran.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its standard error.
        said: String,
    },
    /// The file system that was made could not be read, or not be put into the image.
    #[error("the file system that mkfs.erofs made cannot be put into the image")]
    Image(#[source] io::Error),
    /// mkfs.erofs reported success.
    #[error("{program} reported success, but there is no file system that can be used")]
    NoFileSystem {
        /// What ran.
        program: PathBuf,
        /// What is wrong with what is there.
        source: ReadError,
    },
    /// The file system is not what was asked for.
    #[error("{program} made a file system with {what}: {expected} are needed, there are {actual}")]
    WrongFileSystem {
        /// What ran.
        program: PathBuf,
        /// What there is another number of.
        what: &'static str,
        /// How many there should be.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
}
