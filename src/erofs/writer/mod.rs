//! Writing a file system in one pass.
//!
//! ```text
//! block 0          superblock, root directory            written last
//! blocks 1…        content of files as it arrives, between it batches of inodes with the ends
//!                  of their files
//! then             directories: their blocks, their inodes
//! at the end       extended attributes that several inodes share
//! ```
//!
//! Inodes are numbered from block 0, so that one anywhere in the image can be named: directory
//! entries have 64 bits for the number. Only the root's must fit 16 bits, hence its place.
//!
//! Files to be compressed are cut into chunks, which threads compress while further files are read.
//! Their ends may go into one inode for all, the packed one, whose chunks lie between those of files.
//! Everything waits in a queue until its turn comes, so that the result does not depend on how fast
//! the threads are.

mod chunks;
mod directories;
mod error;
mod fragments;
mod pool;
mod queue;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, Read};
use std::num::NonZeroUsize;

use uuid::Uuid;

use super::compression::{ChunkSize, Compression};
use super::format::{FileType, NULL_BLOCK, Nid};
use super::inode::{DiskInode, Layout, encode_device};
use super::lcluster;
use super::packing::{MetadataBatch, Slot};
use super::tail::TailPacking;
use super::xattr::{Body, SharedXattrs};
use super::{BLOCK_SIZE, BlockSink};
use crate::layer::Device;
use crate::timestamp::Timestamp;
use crate::tree::{Attributes, InodeSink, Leaf, LeafId, Tree};

use chunks::WrittenChunks;
use fragments::{Fragment, PackedContent};
use queue::{LeafContent, PendingLeaf, Queue};

pub use error::WriteError;

/// Bytes of inodes that are kept until they are written together.
const BATCH_BYTES: usize = 4 << 20;
/// The longest target of a symbolic link: `PATH_MAX` less the NUL
/// (`include/uapi/linux/limits.h`).
const MAX_TARGET_BYTES: usize = 4095;

/// What else goes into a file system.
#[derive(Clone, Debug)]
pub struct Options {
    /// Identity of the file system.
    pub uuid: Uuid,
    /// The time of last modification that inodes share; one with another time takes 32 bytes more.
    /// `None` means that of the first leaf, or of the root if there is no leaf.
    pub epoch: Option<Timestamp>,
    /// How content is compressed.
    pub compression: Compression,
    /// How much content is compressed together.
    pub chunk_size: ChunkSize,
    /// Where the ends of compressed files lie.
    pub tail_packing: TailPacking,
    /// How many threads compress; the result does not depend on it.
    pub jobs: NonZeroUsize,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Blocks of the file system.
    pub blocks: u64,
    /// Inodes that have a name, directories included.
    pub inodes: u64,
    /// Bytes of all files.
    pub content_bytes: u64,
    /// Bytes that they take, compressed if that is less; padding of compressed data included.
    pub stored_bytes: u64,
}

/// Writes a file system: leaves as they come, then, by [`Writer::finish`], the tree that they form.
///
/// After an error nothing more can be written. Memory stays bounded by a few MiB, 8 chunks for each
/// thread and 8 bytes for each leaf, with [`TailPacking::Fragments`] about 100 for each different end
/// of a file; files larger than about 1 GiB take up to 4 bytes for each of their blocks if they are
/// compressed.
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    uuid: Uuid,
    epoch: Option<Timestamp>,
    /// Inodes that are not written yet.
    batch: MetadataBatch,
    /// Where each leaf's inode lies: its number, or, if it is in the batch, its slot there.
    leaves: Vec<u64>,
    /// How many leaves have their number.
    numbered: usize,
    xattrs: SharedXattrs,
    /// How many leaves were added.
    added: u32,
    chunk_size: ChunkSize,
    compression: Compression,
    /// What waits to be compressed; there is none if nothing is.
    queue: Option<Queue>,
    /// The chunks so far of the file that is being written.
    chunks: WrittenChunks,
    tail_packing: TailPacking,
    packed: PackedContent,
    /// The number of the packed inode, once it is written.
    packed_nid: Option<Nid>,
    /// Whether the end of any file lies compressed behind its inode.
    any_inline_tail: bool,
    /// Whether any file is compressed.
    any_compressed: bool,
    content_bytes: u64,
    stored_bytes: u64,
    /// An error left the file system incomplete.
    broken: bool,
}

impl<S: BlockSink> Writer<S> {
    /// Starts a file system in an empty sink.
    ///
    /// # Errors
    /// [`WriteError::Sink`], [`WriteError::Threads`].
    pub fn new(mut sink: S, options: Options) -> Result<Writer<S>, WriteError> {
        sink.append(&[0; BLOCK_SIZE]).map_err(WriteError::Sink)?;
        let queue = Queue::start(options.compression, options.jobs).map_err(WriteError::Threads)?;
        Ok(Writer {
            sink,
            uuid: options.uuid,
            epoch: options.epoch,
            batch: MetadataBatch::new(),
            leaves: Vec::new(),
            numbered: 0,
            xattrs: SharedXattrs::default(),
            added: 0,
            chunk_size: options.chunk_size,
            compression: options.compression,
            queue,
            chunks: WrittenChunks::default(),
            tail_packing: options.tail_packing,
            packed: PackedContent::default(),
            packed_nid: None,
            any_inline_tail: false,
            any_compressed: false,
            content_bytes: 0,
            stored_bytes: 0,
            broken: false,
        })
    }

    /// Writes the directories of `tree`, whose leaves were all added here, and completes the file
    /// system. Leaves without a name in the tree remain in the image, but nothing leads to them.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(mut self, tree: &Tree) -> Result<(S, Summary), WriteError> {
        if self.broken {
            return Err(WriteError::Broken);
        }
        self.close_packed()?;
        self.write_queue()?;
        let packed = match self.compression.algorithm() {
            Some(algorithm) => self.place_packed(algorithm)?,
            None => None,
        };
        let block = self.next_block()?;
        self.write_batch()?;
        self.packed_nid = packed.map(|slot| slot.nid(block.into()));
        let summary = self.write_directories(tree)?;
        Ok((self.sink, summary))
    }

    fn add_leaf(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, WriteError> {
        let id = self.added;
        let xattrs = self.xattrs.encode(&attributes.xattrs)?;
        let pending = |file_type, size, data, content| PendingLeaf {
            inode: DiskInode {
                layout: Layout::FlatPlain,
                xattr_count: xattrs.count,
                mode: attributes.mode & 0o7777 | FileType::mode_bits(file_type),
                nlink: 1,
                size,
                data,
                ino: id,
                uid: attributes.uid,
                gid: attributes.gid,
                mtime: attributes.mtime,
            },
            xattrs,
            content,
        };
        let mut end = [0; BLOCK_SIZE];
        let leaf = match leaf {
            Leaf::File { size, content } => {
                let (data, content) = self.read_content(size, content, &mut end)?;
                pending(FileType::File, size, data, content)
            }
            Leaf::Symlink { target } => {
                check_target(target)?;
                let content = LeafContent::End(target.into());
                pending(FileType::Symlink, target.len() as u64, NULL_BLOCK, content)
            }
            Leaf::CharDevice(device) => {
                let number = device_number(device)?;
                pending(FileType::CharDevice, 0, number, LeafContent::None)
            }
            Leaf::BlockDevice(device) => {
                let number = device_number(device)?;
                pending(FileType::BlockDevice, 0, number, LeafContent::None)
            }
            Leaf::Fifo => pending(FileType::Fifo, 0, 0, LeafContent::None),
            Leaf::Socket => pending(FileType::Socket, 0, 0, LeafContent::None),
        };
        self.added = id.checked_add(1).ok_or(WriteError::TooManyInodes)?;
        self.enqueue(leaf)?;
        Ok(LeafId(id))
    }

    /// Reads a file: what may be compressed into chunks, else full blocks into the sink, from the
    /// block that is returned on, and the rest into `end`.
    fn read_content<'e>(
        &mut self,
        size: u64,
        content: &mut dyn Read,
        end: &'e mut [u8; BLOCK_SIZE],
    ) -> Result<(u32, LeafContent<'e>), WriteError> {
        self.content_bytes += size;
        if self.queue.is_none() {
            let data = self.next_block()?;
            let end = self.copy_content(size, content, end)?;
            return Ok((data, LeafContent::End(end.into())));
        }
        let content = match usize::try_from(size) {
            Ok(bytes) if bytes <= BLOCK_SIZE && !self.packs(bytes) => {
                let end = &mut end[..bytes];
                read_full(content, end, size, size)?;
                expect_end(content, size)?;
                LeafContent::End(Cow::Borrowed(end))
            }
            _ => LeafContent::Chunks(self.read_chunks(size, content)?),
        };
        Ok((NULL_BLOCK, content))
    }

    /// Writes all full blocks of a file, and reads what follows them into `end`.
    fn copy_content<'e>(
        &mut self,
        size: u64,
        content: &mut dyn Read,
        end: &'e mut [u8; BLOCK_SIZE],
    ) -> Result<&'e [u8], WriteError> {
        #[allow(clippy::cast_possible_truncation)] // less than a block
        let end_bytes = (size % BLOCK_SIZE as u64) as usize;
        let mut missing = size;
        while missing > end_bytes as u64 {
            let space = self.sink.space().map_err(WriteError::Sink)?;
            let full = usize::try_from(missing - end_bytes as u64).unwrap_or(usize::MAX);
            let length = space.len().min(full);
            let read = read_some(content, &mut space[..length])?;
            if read == 0 {
                return Err(WriteError::ContentTooShort { size, missing });
            }
            self.sink.advance(read);
            missing -= read as u64;
        }
        read_full(content, &mut end[..end_bytes], size, missing)?;
        expect_end(content, size)?;
        Ok(&end[..end_bytes])
    }

    /// Writes the inode of a leaf whose turn it is, and thereby gives it its place.
    fn write_leaf(&mut self, leaf: PendingLeaf<'_>) -> Result<(), WriteError> {
        let PendingLeaf {
            mut inode,
            xattrs,
            content,
        } = leaf;
        let slot = match content {
            LeafContent::None => self.place(&inode, &xattrs, &[]),
            LeafContent::End(end) => {
                if inode.data == NULL_BLOCK {
                    inode.data = self.next_block()?;
                }
                self.stored_bytes += inode.size;
                self.place_with_end(inode, &xattrs, &end)?
            }
            LeafContent::Chunks(None) => self.place_chunked(inode, &xattrs, None)?,
            LeafContent::Chunks(Some(Fragment::End { offset })) => {
                let tail = lcluster::Tail::Fragment { offset };
                self.place_chunked(inode, &xattrs, Some(tail))?
            }
            LeafContent::Chunks(Some(Fragment::File { offset })) => {
                inode.layout = Layout::CompressedCompact;
                inode.data = 0;
                let behind = self.index_behind(&inode, &xattrs, |_| {
                    lcluster::encode_packed_file(offset).to_vec()
                });
                self.place(&inode, &xattrs, &behind)
            }
        };
        self.leaves.push(slot.0);
        if self.batch.bytes().len() >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Places an inode whose other blocks are written from block `inode.data` on. The end of its
    /// content, a block at most, goes behind it, or to a block of its own if there is no room.
    fn place_with_end(
        &mut self,
        mut inode: DiskInode,
        xattrs: &Body,
        end: &[u8],
    ) -> Result<Slot, WriteError> {
        let size = inode.encoded_size(self.epoch_or(inode.mtime)) + xattrs.bytes.len() + end.len();
        let behind = if end.is_empty() {
            end
        } else if size <= BLOCK_SIZE {
            inode.layout = Layout::FlatInline;
            end
        } else {
            self.append_padded(end)?;
            &[]
        };
        if self.next_block()? == inode.data {
            inode.data = NULL_BLOCK;
        }
        Ok(self.place(&inode, xattrs, behind))
    }

    /// Places an inode, its attributes and what else lies behind it in the batch.
    fn place(&mut self, inode: &DiskInode, xattrs: &Body, behind: &[u8]) -> Slot {
        let epoch = self.epoch_or(inode.mtime);
        let inode_size = inode.encoded_size(epoch);
        let content = inode_size + xattrs.bytes.len();
        let slot = self.batch.reserve(content + behind.len());
        let bytes = self.batch.bytes_at(slot);
        inode.encode(epoch, bytes);
        bytes[inode_size..content].copy_from_slice(&xattrs.bytes);
        bytes[content..content + behind.len()].copy_from_slice(behind);
        slot
    }

    /// The epoch, which `mtime` becomes if there is none yet.
    fn epoch_or(&mut self, mtime: Timestamp) -> Timestamp {
        *self.epoch.get_or_insert(mtime)
    }

    /// Writes the batch and thereby numbers its leaves.
    fn write_batch(&mut self) -> Result<(), WriteError> {
        let block = self.next_block()?;
        for leaf in &mut self.leaves[self.numbered..] {
            *leaf = Slot(*leaf).nid(block.into()).0;
        }
        self.numbered = self.leaves.len();
        let bytes = self.batch.bytes();
        self.sink.append(bytes).map_err(WriteError::Sink)?;
        self.batch.clear();
        Ok(())
    }

    /// The number of a leaf's inode, which must have been written.
    fn leaf_nid(&self, LeafId(id): LeafId) -> Result<Nid, WriteError> {
        let nid = self.leaves.get(id as usize).copied();
        nid.map(Nid).ok_or(WriteError::UnknownLeaf { id })
    }

    /// Appends `bytes` and zeros up to the end of the block.
    fn append_padded(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let padding = bytes.len().next_multiple_of(BLOCK_SIZE) - bytes.len();
        self.sink
            .append(bytes)
            .and_then(|()| self.sink.append(&[0; BLOCK_SIZE][..padding]))
            .map_err(WriteError::Sink)
    }

    /// The address of the block that is appended next.
    fn next_block(&self) -> Result<u32, WriteError> {
        let block = self.sink.position() / BLOCK_SIZE as u64;
        u32::try_from(block)
            .ok()
            .filter(|&block| block != NULL_BLOCK)
            .ok_or(WriteError::TooLarge)
    }
}

impl<S: BlockSink> InodeSink for Writer<S> {
    type Error = WriteError;

    fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, WriteError> {
        if self.broken {
            return Err(WriteError::Broken);
        }
        let added = self.add_leaf(attributes, leaf);
        self.broken = added.is_err();
        added
    }
}

/// Reads as much as `content` gives at once; 0 at its end.
fn read_some(content: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, WriteError> {
    loop {
        match content.read(buffer) {
            Ok(read) => return Ok(read.min(buffer.len())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WriteError::Content(error)),
        }
    }
}

/// Fills `buffer` with content of a file of `size` bytes, of which `missing` were not read.
fn read_full(
    content: &mut dyn Read,
    mut buffer: &mut [u8],
    size: u64,
    mut missing: u64,
) -> Result<(), WriteError> {
    while !buffer.is_empty() {
        let read = read_some(content, buffer)?;
        if read == 0 {
            return Err(WriteError::ContentTooShort { size, missing });
        }
        buffer = &mut buffer[read..];
        missing -= read as u64;
    }
    Ok(())
}

/// Passes if the content of a file of `size` bytes does not go on.
fn expect_end(content: &mut dyn Read, size: u64) -> Result<(), WriteError> {
    match read_some(content, &mut [0])? {
        0 => Ok(()),
        _ => Err(WriteError::ContentTooLong { size }),
    }
}

fn check_target(target: &[u8]) -> Result<(), WriteError> {
    let length = 1..=MAX_TARGET_BYTES;
    if !length.contains(&target.len()) || target.contains(&0) {
        return Err(WriteError::Target {
            bytes: target.len(),
        });
    }
    Ok(())
}

fn device_number(device: Device) -> Result<u32, WriteError> {
    let Device { major, minor } = device;
    encode_device(device).ok_or(WriteError::Device { major, minor })
}
