//! The bytes of a layer become entries: decompression, digest checks, tar.
//!
//! A layer is hostile until proven otherwise: paths are validated into [`EntryPath`]s, every
//! allocation is bounded, and [`EntryStream::finish`] says whether the digests held.

mod chunk;
mod decompress;
mod directory;
mod entry;
mod error;
mod tar;

pub use decompress::Expected;
pub use entry::{Device, Entry, EntryKind, EntryPath, InvalidPath, Xattr};
pub use error::{DigestOf, EntryProblem, LayerError};
pub use tar::{ByteStream, TarStream};

use crate::source::LayerBytes;

/// A layer with more entries is refused.
pub const MAX_ENTRIES: u64 = 4_000_000;

/// The extended attributes of one entry may have this many bytes together, names and values.
pub const MAX_XATTR_BYTES: usize = 64 * 1024;

/// The entries of one layer in the order in which they are stored.
pub trait EntryStream: Send {
    /// The next entry, or `None` behind the last. Content of the previous entry that was not read
    /// is skipped.
    ///
    /// # Errors
    /// See [`LayerError`].
    fn next_entry(&mut self) -> Result<Option<Entry>, LayerError>;

    /// Reads on in the content of the entry last returned; 0 at its end. Holes read as zeros.
    ///
    /// # Errors
    /// See [`LayerError`].
    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError>;

    /// Reads to the end of the layer as stored, behind the end-of-archive marker too, and compares
    /// the digests with the expected ones. What was read before counts only after this.
    ///
    /// # Errors
    /// See [`LayerError`].
    fn finish(&mut self) -> Result<(), LayerError>;
}

/// Starts reading a layer.
///
/// An archive may be plain, gzip or zstd, which its first bytes tell; it is read, hashed and
/// decompressed on threads of its own, which end when the stream is dropped. Where no digest is
/// expected, only the mark at its end tells that it is complete. A directory has neither digests nor
/// a size to compare, so `expected` says nothing about it.
///
/// # Errors
/// See [`LayerError`]. Most errors come later, from the stream.
pub fn open(bytes: LayerBytes, expected: Expected) -> Result<Box<dyn EntryStream>, LayerError> {
    Ok(match bytes {
        LayerBytes::Archive(stored) => {
            let provable = expected.blob.is_some() || expected.diff_id.is_some();
            let archive = TarStream::new(decompress::decompress(stored, expected)?);
            let archive = match expected.tells_in_bounds() {
                true => archive.reading_on(),
                false => archive,
            };
            Box::new(if provable {
                archive
            } else {
                archive.with_end_mark()
            })
        }
        LayerBytes::Directory(path) => Box::new(directory::DirectoryStream::open(path)?),
    })
}
