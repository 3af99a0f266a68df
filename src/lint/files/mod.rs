//! Trees of files that can be looked into, wherever they lie.

mod folder;
mod packed;
mod resolve;

use std::io;

use crate::erofs::ReadError;
use crate::layer::{Entry, EntryPath, InvalidPath};

pub use folder::Folder;
pub use packed::Packed;
pub use resolve::{Found, resolve};

/// Bytes of all paths of a tree, and of the links and attributes that are kept with them: four million
/// paths, as many as there may be, of 64 bytes.
pub(super) const MAX_PATHS_BYTES: usize = if cfg!(test) { 1 << 20 } else { 256 << 20 };

/// A tree of files. Paths are taken as they are: no symbolic link in them is followed, so nothing
/// outside of the tree is ever seen; [`resolve`] follows links within it.
pub trait Files {
    /// What lies at `path`; `None` if nothing does, or if something on the way is no directory. It is
    /// never a hard link: every name of a file is a file.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError>;

    /// The names in the directory at `path`, in byte order; none if it is no directory.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError>;

    /// The content of the regular file at `path`.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError>;
}

/// The content of a regular file.
pub trait Content {
    /// Bytes.
    fn size(&self) -> u64;

    /// Reads from `offset` until `buffer` is full or the content ends.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, FilesError>;
}

/// Why something in a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The local file system refused.
    #[error("cannot read {path} of the folder {folder}")]
    Folder {
        /// The root of the tree.
        folder: String,
        /// What was to be read.
        path: EntryPath,
        /// Why not.
        source: io::Error,
    },
    /// The file system in an image is broken, or more than this program can read.
    #[error("cannot read {path} in the file system of the image")]
    Packed {
        /// What was to be read.
        path: EntryPath,
        /// Why not.
        source: ReadError,
    },
    /// The file system in an image cannot be walked.
    #[error("cannot read the file system of the image")]
    FileSystem(#[from] ReadError),
    /// A name in a tree makes a path that no kernel would take.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// There is no such file.
    #[error("there is no file {path}")]
    Missing {
        /// What was to be read.
        path: EntryPath,
    },
    /// Names, links and attributes that together are larger than anybody's.
    #[error("the names, links and attributes are larger than {} MiB together", limit >> 20)]
    TooLarge {
        /// How many bytes of them are read.
        limit: usize,
    },
    /// To look further would take too long.
    #[error("there is too much to look at")]
    TooLong,
    /// More entries than anybody has.
    #[error("there are more than {limit} entries")]
    TooMany {
        /// How many are read.
        limit: u64,
    },
}

impl FilesError {
    /// Whether only this one content is out of reach, for it is stored in a way that this program
    /// does not know, belongs to somebody else, or is one of too many.
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            FilesError::Packed { source, .. } => matches!(source, ReadError::Compressed { .. }),
            FilesError::Folder { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            FilesError::TooLong => true,
            _ => false,
        }
    }
}

/// Reads the first `limit` bytes of a file, or all if there are fewer.
///
/// # Errors
/// See [`FilesError`].
pub fn read_start(
    files: &dyn Files,
    path: &EntryPath,
    limit: usize,
) -> Result<Vec<u8>, FilesError> {
    let mut content = files.open(path)?;
    let size = usize::try_from(content.size()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size.min(limit)];
    let length = content.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(bytes)
}
