//! The packed inode: the ends of files, one behind the other, compressed as if they were one file.

use std::io::Read;

use super::pool::{Chunk, ChunkRole};
use super::{WriteError, Writer, expect_end, read_full};
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
    /// The chunk that is being filled.
    open: Option<Chunk>,
    /// The chunks that are written.
    placed: Vec<PlacedChunk>,
}

impl<S: BlockSink> Writer<S> {
    /// What the last `length` bytes of a file of `size` bytes are if the packed inode takes them
    /// next. It does not if none are wanted there, or if the index of the file could not tell where.
    pub(super) fn fragment_of(&self, size: u64, length: usize) -> Option<Fragment> {
        if !self.packs(length) {
            return None;
        }
        let offset = self.packed.size;
        if length as u64 == size {
            return Some(Fragment::File { offset });
        }
        let offset = u32::try_from(offset).ok()?;
        Some(Fragment::End { offset })
    }

    /// Reads the last `length` bytes of a file of `size` bytes into the packed inode.
    pub(super) fn read_fragment(
        &mut self,
        size: u64,
        mut length: usize,
        content: &mut dyn Read,
    ) -> Result<(), WriteError> {
        while length > 0 {
            let mut chunk = match self.packed.open.take() {
                Some(chunk) => chunk,
                None => self.free_chunk()?,
            };
            let start = chunk.content.len();
            let part = length.min(self.chunk_size.bytes() - start);
            chunk.content.resize(start + part, 0);
            read_full(content, &mut chunk.content[start..], size, length as u64)?;
            length -= part;
            self.packed.size += part as u64;
            if chunk.content.len() == self.chunk_size.bytes() {
                self.push_chunk(chunk, ChunkRole::Fragments)?;
            } else {
                self.packed.open = Some(chunk);
            }
        }
        expect_end(content, size)
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
