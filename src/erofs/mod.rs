//! EROFS: writing a file system in one pass, and reading one back.
//!
//! [`Writer`] takes files as they stream by and puts a file system into a [`BlockSink`];
//! [`FileSystem`] reads what it, or mkfs.erofs, wrote. Both rest on the same on-disk structures:
//! `superblock`, `inode`, `xattr`, `directory` and, for compressed content, `lcluster`.
//!
//! Sources of the format: `fs/erofs/erofs_fs.h` of Linux 6.12 and its
//! `Documentation/filesystems/erofs.rst`. What is written uncompressed needs no feature that Linux
//! 5.4 lacks; [`Superblock::minimum_kernel`] tells what else does.

mod compression;
mod directory;
mod format;
mod inode;
mod lcluster;
mod memory;
pub mod mkfs;
mod packing;
mod reader;
mod superblock;
mod tail;
mod writer;
mod xattr;

use std::io;

pub use compression::{Algorithm, BadChunkSize, ChunkSize, Compression, UnknownCompression};
pub use format::{FileType, Nid};
pub use inode::Layout;
pub use memory::MemorySink;
pub use reader::{Content, DirEntry, Entries, FileSystem, Inode, ReadError};
pub use superblock::{Demand, KernelVersion, Superblock, SuperblockError};
pub use tail::{TailPacking, UnknownTailPacking};
pub use writer::{Options, Summary, WriteError, Writer};

/// Bytes of a block; the only block size that is written, since every kernel reads it.
pub const BLOCK_SIZE: usize = 4096;

/// A block of a file system.
pub type Block = [u8; BLOCK_SIZE];

/// Takes the blocks of a file system in order, and lets earlier ones be changed.
///
/// Content is read straight into the sink's own buffer: ask for [`space`](BlockSink::space), fill a
/// part of it from its start, [`advance`](BlockSink::advance) by that much.
pub trait BlockSink {
    /// Room behind all that was appended; never empty, at most until the sink's buffer is full.
    /// May wait until a buffer is free.
    ///
    /// # Errors
    /// The first error that writing met, whichever block it was for.
    fn space(&mut self) -> io::Result<&mut [u8]>;

    /// Appends the first `bytes` of the last [`space`](BlockSink::space).
    fn advance(&mut self, bytes: usize);

    /// Bytes appended so far.
    fn position(&self) -> u64;

    /// Changes a block all of which was appended already.
    ///
    /// # Errors
    /// The first error that reading or writing met.
    fn patch(&mut self, block: u64, change: &mut dyn FnMut(&mut Block)) -> io::Result<()>;

    /// Appends `bytes`.
    ///
    /// # Errors
    /// As [`space`](BlockSink::space).
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let space = self.space()?;
            let length = bytes.len().min(space.len());
            space[..length].copy_from_slice(&bytes[..length]);
            self.advance(length);
            bytes = &bytes[length..];
        }
        Ok(())
    }
}
