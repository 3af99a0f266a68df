//! Files in chunks: reading them, writing what became of them, and placing their inodes.

use std::io::Read;

use super::fragments::Fragment;
use super::pool::{Chunk, ChunkRole};
use super::{WriteError, Writer, expect_end, read_full};
use crate::erofs::format::NULL_BLOCK;
use crate::erofs::inode::{DiskInode, Layout};
use crate::erofs::lcluster::{
    Chunks, CompactPacks, HEADER_ALIGNMENT, HEADER_SIZE, PlacedChunk, Tail,
};
use crate::erofs::packing::Slot;
use crate::erofs::superblock::CompressionSettings;
use crate::erofs::tail::TailPacking;
use crate::erofs::xattr::Body;
use crate::erofs::{BLOCK_SIZE, BlockSink};

/// The chunks of a file that are written.
#[derive(Debug, Default)]
pub(super) struct WrittenChunks {
    placed: Vec<PlacedChunk>,
    /// What of the last chunk is not written: less than a block if it is not compressed, else all
    /// of it, a block at most.
    end: Vec<u8>,
    end_is_compressed: bool,
    /// The end that is compressed as it was, if it is no longer than a block.
    plain_end: Vec<u8>,
}

impl<S: BlockSink> Writer<S> {
    /// Whether so many bytes at the end of a file go into the packed inode.
    pub(super) fn packs(&self, bytes: usize) -> bool {
        self.tail_packing == TailPacking::Fragments && bytes > 0
    }

    /// Reads a file into chunks and has them compressed and written. Yields what is a part of the
    /// packed inode instead.
    pub(super) fn read_chunks(
        &mut self,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Option<Fragment>, WriteError> {
        let chunk_bytes = self.chunk_size.bytes();
        let mut missing = size;
        while missing > 0 {
            let length = usize::try_from(missing).unwrap_or(chunk_bytes);
            let length = length.min(chunk_bytes);
            if length < chunk_bytes
                && let Some(fragment) = self.read_fragment(size, length, content)?
            {
                return Ok(Some(fragment));
            }
            let mut chunk = self.free_chunk()?;
            chunk.content.resize(length, 0);
            read_full(content, &mut chunk.content, size, missing)?;
            missing -= length as u64;
            let role = match (self.tail_packing, missing) {
                (TailPacking::Inline, 0) => ChunkRole::InlineTail,
                _ => ChunkRole::File,
            };
            self.push_chunk(chunk, role)?;
        }
        expect_end(content, size)?;
        Ok(None)
    }

    /// Writes the next chunk of a file, but for what of it fills no block.
    pub(super) fn write_chunk(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        if chunk.role() == ChunkRole::Fragments {
            return self.write_packed_chunk(chunk);
        }
        let inlined = chunk.role() == ChunkRole::InlineTail && chunk.compressed.len() <= BLOCK_SIZE;
        if chunk.is_compressed && inlined {
            self.chunks.end.extend_from_slice(&chunk.compressed);
            self.chunks.end_is_compressed = true;
            if chunk.content.len() <= BLOCK_SIZE {
                self.chunks.plain_end.extend_from_slice(&chunk.content);
            }
            return Ok(());
        }
        let address = self.next_block()?;
        let compressed_blocks = if chunk.is_compressed {
            self.append_compressed(&chunk.compressed)?
        } else {
            let full = chunk.content.len() / BLOCK_SIZE * BLOCK_SIZE;
            let (full, end) = chunk.content.split_at(full);
            self.sink.append(full).map_err(WriteError::Sink)?;
            self.chunks.end.extend_from_slice(end);
            0
        };
        self.chunks.placed.push(PlacedChunk {
            address,
            compressed_blocks,
        });
        Ok(())
    }

    /// Appends what was compressed, at the end of its blocks: readers find the start as the first
    /// byte that is not zero. Yields how many blocks there are.
    pub(super) fn append_compressed(&mut self, compressed: &[u8]) -> Result<u16, WriteError> {
        let blocks = compressed.len().div_ceil(BLOCK_SIZE);
        let padding = &[0; BLOCK_SIZE][..blocks * BLOCK_SIZE - compressed.len()];
        self.sink
            .append(padding)
            .and_then(|()| self.sink.append(compressed))
            .map_err(WriteError::Sink)?;
        #[allow(clippy::cast_possible_truncation)] // 255 at most
        Ok(blocks as u16)
    }

    /// Places the inode of the file whose chunks, but for a tail elsewhere, are all written.
    pub(super) fn place_chunked(
        &mut self,
        mut inode: DiskInode,
        xattrs: &Body,
        tail: Option<Tail>,
    ) -> Result<Slot, WriteError> {
        let written = std::mem::take(&mut self.chunks);
        let mut end = written.end;
        let mut chunks = Chunks {
            size: inode.size,
            chunk_size: self.chunk_size,
            placed: written.placed,
            tail,
        };
        if written.end_is_compressed {
            let plain = written.plain_end;
            end = self.place_compressed_end(&inode, xattrs, &mut chunks, end, plain)?;
        }
        let algorithm = self.compression.algorithm();
        let Some(algorithm) = algorithm.filter(|_| chunks.any_compressed()) else {
            inode.data = chunks
                .placed
                .first()
                .map_or(NULL_BLOCK, |chunk| chunk.address);
            self.stored_bytes += inode.size;
            return self.place_with_end(inode, xattrs, &end);
        };
        if !matches!(chunks.tail, Some(Tail::Inline { .. })) {
            self.append_padded(&std::mem::take(&mut end))?;
        }
        self.any_compressed = true;
        inode.layout = Layout::CompressedCompact;
        inode.data = chunks.blocks();
        self.count_stored(inode.data);
        self.stored_bytes += end.len() as u64;
        let mut behind = self.index_behind(&inode, xattrs, |start| chunks.encode(algorithm, start));
        behind.extend(end);
        Ok(self.place(&inode, xattrs, &behind))
    }

    /// Leaves the compressed end of a file for behind its index, if it fits there, or writes it.
    /// Yields what is to be written yet.
    fn place_compressed_end(
        &mut self,
        inode: &DiskInode,
        xattrs: &Body,
        chunks: &mut Chunks,
        end: Vec<u8>,
        plain: Vec<u8>,
    ) -> Result<Vec<u8>, WriteError> {
        if self.fits_behind(inode, xattrs, end.len()) {
            #[allow(clippy::cast_possible_truncation)] // a block at most
            let bytes = end.len() as u16;
            chunks.tail = Some(Tail::Inline { bytes });
            self.any_inline_tail = true;
            return Ok(end);
        }
        let address = self.next_block()?;
        // readers before Linux 6.15 look for the size of a compressed extent behind its head, where
        // a file that ends in the same cluster has nothing
        let compressed_blocks = match plain.is_empty() {
            true => self.append_compressed(&end)?,
            false => 0,
        };
        chunks.placed.push(PlacedChunk {
            address,
            compressed_blocks,
        });
        Ok(plain)
    }

    /// Whether so many bytes behind the index of a file do not cross into another block, which
    /// readers demand. Its chunks are consecutive, for nothing is written between them.
    fn fits_behind(&mut self, inode: &DiskInode, xattrs: &Body, bytes: usize) -> bool {
        let start = self.index_start(inode, xattrs) + HEADER_SIZE;
        let clusters = inode.size.div_ceil(BLOCK_SIZE as u64);
        let packs = CompactPacks::new(start as u64, clusters, true);
        #[allow(clippy::cast_possible_truncation)] // less than a block
        let end = (packs.end(clusters) % BLOCK_SIZE as u64) as usize;
        end + bytes <= BLOCK_SIZE
    }

    /// Counts blocks that hold content.
    pub(super) fn count_stored(&mut self, blocks: u32) {
        self.stored_bytes += u64::from(blocks) * BLOCK_SIZE as u64;
    }

    /// Where the index of a file starts, in bytes behind the start of its inode.
    fn index_start(&mut self, inode: &DiskInode, xattrs: &Body) -> usize {
        let size = inode.encoded_size(self.epoch_or(inode.mtime)) + xattrs.bytes.len();
        size.next_multiple_of(HEADER_ALIGNMENT)
    }

    /// What goes behind an inode and its attributes: the index that `encode` makes, which is told
    /// where it starts, and what comes before it.
    pub(super) fn index_behind(
        &mut self,
        inode: &DiskInode,
        xattrs: &Body,
        encode: impl FnOnce(usize) -> Vec<u8>,
    ) -> Vec<u8> {
        let start = self.index_start(inode, xattrs);
        let end = inode.encoded_size(self.epoch_or(inode.mtime)) + xattrs.bytes.len();
        let mut behind = vec![0; start - end];
        behind.extend(encode(start));
        behind
    }

    /// What readers must know of the compression; `None` if no file is compressed.
    pub(super) fn compression_settings(&self) -> Option<CompressionSettings> {
        let algorithm = self.compression.algorithm();
        let algorithm = algorithm.filter(|_| self.any_compressed)?;
        Some(CompressionSettings {
            algorithm,
            chunk_size: self.chunk_size,
            inline_tails: self.any_inline_tail,
            packed: self.packed_nid,
        })
    }
}
