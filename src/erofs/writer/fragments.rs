//! The packed inode: the ends of files, one behind the other, compressed as if they were one file.
//! Equal ends are stored once.

use std::collections::HashMap;
use std::io::Read;

use super::pool::{Chunk, ChunkRole};
use super::{WriteError, Writer, expect_end, read_full};
use crate::digest::Digest;
use crate::erofs::BlockSink;
use crate::erofs::compression::Algorithm;
use crate::erofs::format::FileType;
use crate::erofs::inode::{DiskInode, Layout};
use crate::erofs::lcluster::{Chunks, PlacedChunk};
use crate::erofs::packing::Slot;
use crate::erofs::xattr::Body;
use crate::timestamp::Timestamp;

/// Content in the packed inode.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fragment {
    /// The last chunk of a file.
    End { offset: u32 },
    /// All of a file.
    File { offset: u64 },
}

/// What is known of the packed inode while it grows.
#[derive(Debug, Default)]
pub(super) struct PackedContent {
    /// Bytes that were read.
    size: u64,
    /// Where each different end of a file lies, by its digest.
    known: HashMap<Digest, u64>,
    /// The end that was read last.
    scratch: Vec<u8>,
    /// The chunk that is being filled.
    open: Option<Chunk>,
    /// The chunks that are written.
    placed: Vec<PlacedChunk>,
}

impl<S: BlockSink> Writer<S> {
    /// Reads the last `length` bytes of a file of `size` bytes into the packed inode, unless it holds
    /// the same already. Does nothing if none are wanted there, or if the index of the file could
    /// not tell where they are.
    pub(super) fn read_fragment(
        &mut self,
        size: u64,
        length: usize,
        content: &mut dyn Read,
    ) -> Result<Option<Fragment>, WriteError> {
        let is_file = length as u64 == size;
        if !self.packs(length) || !is_file && u32::try_from(self.packed.size).is_err() {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.packed.scratch);
        bytes.resize(length, 0);
        read_full(content, &mut bytes, size, length as u64)?;
        expect_end(content, size)?;
        let digest = Digest::of(&bytes);
        let offset = match self.packed.known.get(&digest) {
            Some(&offset) => offset,
            None => {
                let offset = self.append_fragment(&bytes)?;
                self.packed.known.insert(digest, offset);
                offset
            }
        };
        self.packed.scratch = bytes;
        Ok(match u32::try_from(offset) {
            Ok(offset) if !is_file => Some(Fragment::End { offset }),
            _ => Some(Fragment::File { offset }),
        })
    }

    /// Appends to the packed inode, and yields where.
    fn append_fragment(&mut self, mut bytes: &[u8]) -> Result<u64, WriteError> {
        let offset = self.packed.size;
        while !bytes.is_empty() {
            let mut chunk = match self.packed.open.take() {
                Some(chunk) => chunk,
                None => self.free_chunk()?,
            };
            let room = self.chunk_size.bytes() - chunk.content.len();
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            chunk.content.extend_from_slice(part);
            self.packed.size += part.len() as u64;
            bytes = rest;
            if part.len() == room {
                self.push_chunk(chunk, ChunkRole::Fragments)?;
            } else {
                self.packed.open = Some(chunk);
            }
        }
        Ok(offset)
    }

    /// Has what was read last compressed and written.
    pub(super) fn close_packed(&mut self) -> Result<(), WriteError> {
        match self.packed.open.take() {
            Some(chunk) => self.push_chunk(chunk, ChunkRole::Fragments),
            None => Ok(()),
        }
    }

    /// Writes the next chunk of the packed inode.
    pub(super) fn write_packed_chunk(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        let address = self.next_block()?;
        let compressed_blocks = if chunk.is_compressed {
            self.append_compressed(&chunk.compressed)?
        } else {
            self.append_padded(&chunk.content)?;
            0
        };
        self.packed.placed.push(PlacedChunk {
            address,
            compressed_blocks,
        });
        Ok(())
    }

    /// Places the packed inode, all of which is written; `None` if there is none.
    pub(super) fn place_packed(
        &mut self,
        algorithm: Algorithm,
    ) -> Result<Option<Slot>, WriteError> {
        if self.packed.size == 0 {
            return Ok(None);
        }
        let chunks = Chunks {
            size: self.packed.size,
            chunk_size: self.chunk_size,
            placed: std::mem::take(&mut self.packed.placed),
            tail: None,
        };
        let inode = DiskInode {
            layout: Layout::CompressedCompact,
            xattr_count: 0,
            mode: FileType::File.mode_bits(),
            nlink: 1,
            size: self.packed.size,
            data: chunks.blocks(),
            ino: self.added,
            uid: 0,
            gid: 0,
            mtime: self.epoch_or(Timestamp::from_seconds(0)),
        };
        self.added = self.added.checked_add(1).ok_or(WriteError::TooManyInodes)?;
        self.any_compressed = true;
        self.count_stored(inode.data);
        let xattrs = Body::default();
        let behind = self.index_behind(&inode, &xattrs, |start| chunks.encode(algorithm, start));
        Ok(Some(self.place(&inode, &xattrs, &behind)))
    }
}
