//! The bytes of a layer become entries: decompression, digest checks, tar.
//!
//! A layer is hostile until proven otherwise: paths are validated into [`EntryPath`]s, every
//! allocation is bounded, and [`EntryStream::finish`] says whether the digests held.

mod entry;

pub use entry::{Device, Entry, EntryKind, EntryPath, InvalidPath, Xattr, printable};

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

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {}
