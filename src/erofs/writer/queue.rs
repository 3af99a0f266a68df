//! What waits for its turn to be written while chunks are compressed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::num::NonZeroUsize;

use super::pool::{Chunk, Pool};
use super::{WriteError, Writer, expect_end, read_full};
use crate::erofs::compression::Compression;
use crate::erofs::inode::{DiskInode, Layout};
use crate::erofs::lcluster::{Chunks, HEADER_ALIGNMENT};
use crate::erofs::packing::Slot;
use crate::erofs::superblock::CompressionSettings;
use crate::erofs::xattr::Body;
use crate::erofs::{BLOCK_SIZE, BlockSink};

/// Bytes of leaves that may wait behind a chunk.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// A leaf that is read.
#[derive(Debug)]
pub(super) struct PendingLeaf<'a> {
    /// The inode, but for where its content lies.
    pub inode: DiskInode,
    pub xattrs: Body,
    pub content: LeafContent<'a>,
}

/// The content of a leaf that is read.
#[derive(Debug)]
pub(super) enum LeafContent<'a> {
    /// Leaves of its type have none.
    None,
    /// All of it, or what remains behind the full blocks that are written: a block at most.
    End(Cow<'a, [u8]>),
    /// The chunks that come before the leaf.
    Chunks,
}

impl PendingLeaf<'_> {
    fn into_owned(self) -> PendingLeaf<'static> {
        PendingLeaf {
            inode: self.inode,
            xattrs: self.xattrs,
            content: match self.content {
                LeafContent::None => LeafContent::None,
                LeafContent::End(end) => LeafContent::End(Cow::Owned(end.into_owned())),
                LeafContent::Chunks => LeafContent::Chunks,
            },
        }
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let end = match &self.content {
            LeafContent::End(end) => end.len(),
            LeafContent::None | LeafContent::Chunks => 0,
        };
        size_of::<PendingLeaf<'_>>() + self.xattrs.bytes.len() + end
    }
}

/// What is written at once.
#[derive(Debug)]
enum Step {
    /// The next chunk.
    Chunk,
    Leaf(PendingLeaf<'static>),
}

/// What waits for its turn, in order.
#[derive(Debug)]
pub(super) struct Queue {
    pool: Pool,
    steps: VecDeque<Step>,
    /// Bytes of the leaves among the steps.
    waiting_bytes: usize,
    /// The chunks of the steps, each once it is compressed.
    chunks: VecDeque<Option<Chunk>>,
    /// The number of the first of them.
    first: u64,
}

impl Queue {
    /// Starts the threads that compress; `None` if there is nothing for them to do.
    pub fn start(compression: Compression, jobs: NonZeroUsize) -> io::Result<Option<Queue>> {
        let pool = Pool::start(compression, jobs)?;
        Ok(pool.map(|pool| Queue {
            pool,
            steps: VecDeque::new(),
            waiting_bytes: 0,
            chunks: VecDeque::new(),
            first: 0,
        }))
    }

    /// Has a chunk compressed and then written.
    fn push_chunk(&mut self, chunk: Chunk) -> Result<(), WriteError> {
        self.pool.compress(chunk)?;
        self.chunks.push_back(None);
        self.steps.push_back(Step::Chunk);
        Ok(())
    }

    fn push_leaf(&mut self, leaf: PendingLeaf<'static>) {
        self.waiting_bytes += leaf.bytes();
        self.steps.push_back(Step::Leaf(leaf));
    }

    /// Takes over what the threads have done.
    fn receive_ready(&mut self) {
        while let Some(chunk) = self.pool.try_receive() {
            self.store(chunk);
        }
    }

    /// Waits until the threads have done something.
    fn receive(&mut self) -> Result<(), WriteError> {
        let chunk = self.pool.receive()?;
        self.store(chunk);
        Ok(())
    }

    fn store(&mut self, chunk: Chunk) {
        let position = usize::try_from(chunk.number() - self.first);
        let place = position.ok().and_then(|place| self.chunks.get_mut(place));
        if let Some(place) = place {
            *place = Some(chunk);
        }
    }

    /// What can be written now, if anything.
    fn pop(&mut self) -> Option<Ready> {
        match self.steps.front()? {
            Step::Chunk => {
                let chunk = self.chunks.front_mut()?.take()?;
                self.chunks.pop_front();
                self.first += 1;
                self.steps.pop_front();
                Some(Ready::Chunk(chunk))
            }
            Step::Leaf(_) => match self.steps.pop_front()? {
                Step::Leaf(leaf) => {
                    self.waiting_bytes -= leaf.bytes();
                    Some(Ready::Leaf(leaf))
                }
                Step::Chunk => None,
            },
        }
    }
}

/// What can be written.
enum Ready {
    Chunk(Chunk),
    Leaf(PendingLeaf<'static>),
}

/// The chunks of a file that are written.
#[derive(Debug, Default)]
pub(super) struct WrittenChunks {
    /// The block at which the first starts.
    first_block: u32,
    /// How many blocks each takes if it is compressed, else 0.
    compressed_blocks: Vec<u16>,
    /// What of the last chunk is not written: less than a block, not compressed.
    end: Vec<u8>,
}

impl<S: BlockSink> Writer<S> {
    /// Reads a file into chunks and has them compressed and written.
    pub(super) fn read_chunks(
        &mut self,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), WriteError> {
        let mut missing = size;
        while missing > 0 {
            let mut chunk = self.free_chunk()?;
            let limit = self.chunk_size.bytes();
            let length = usize::try_from(missing).unwrap_or(limit).min(limit);
            chunk.content.resize(length, 0);
            read_full(content, &mut chunk.content, size, missing)?;
            missing -= length as u64;
            if let Some(queue) = &mut self.queue {
                queue.push_chunk(chunk)?;
            }
            self.write_ready()?;
        }
        expect_end(content, size)
    }

    /// A chunk to read into; waits until one is written if need be.
    fn free_chunk(&mut self) -> Result<Chunk, WriteError> {
        loop {
            let queue = self.queue.as_mut().ok_or(WriteError::Compressor)?;
            if let Some(chunk) = queue.pool.take(self.chunk_size) {
                return Ok(chunk);
            }
            queue.receive()?;
            self.write_ready()?;
        }
    }

    /// Writes a leaf when its turn comes.
    pub(super) fn enqueue(&mut self, leaf: PendingLeaf<'_>) -> Result<(), WriteError> {
        let Some(queue) = self.queue.as_mut().filter(|queue| !queue.steps.is_empty()) else {
            return self.write_leaf(leaf);
        };
        queue.push_leaf(leaf.into_owned());
        self.write_ready()?;
        while let Some(queue) = &mut self.queue
            && queue.waiting_bytes > MAX_WAITING_BYTES
        {
            queue.receive()?;
            self.write_ready()?;
        }
        Ok(())
    }

    /// Writes everything that waits.
    pub(super) fn write_queue(&mut self) -> Result<(), WriteError> {
        self.write_ready()?;
        while let Some(queue) = &mut self.queue
            && !queue.steps.is_empty()
        {
            queue.receive()?;
            self.write_ready()?;
        }
        Ok(())
    }

    /// Writes what can be written without waiting.
    fn write_ready(&mut self) -> Result<(), WriteError> {
        if let Some(queue) = &mut self.queue {
            queue.receive_ready();
        }
        while let Some(ready) = self.queue.as_mut().and_then(Queue::pop) {
            match ready {
                Ready::Chunk(chunk) => {
                    self.write_chunk(&chunk)?;
                    if let Some(queue) = &mut self.queue {
                        queue.pool.give_back(chunk);
                    }
                }
                Ready::Leaf(leaf) => self.write_leaf(leaf)?,
            }
        }
        Ok(())
    }

    /// Writes the next chunk of a file, but for what of it fills no block.
    fn write_chunk(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        if self.chunks.compressed_blocks.is_empty() {
            self.chunks.first_block = self.next_block()?;
        }
        let blocks = if chunk.is_compressed {
            let compressed = &chunk.compressed;
            let blocks = compressed.len().div_ceil(BLOCK_SIZE);
            // readers find the start as the first byte that is not zero
            let padding = &[0; BLOCK_SIZE][..blocks * BLOCK_SIZE - compressed.len()];
            self.sink
                .append(padding)
                .and_then(|()| self.sink.append(compressed))
                .map_err(WriteError::Sink)?;
            blocks
        } else {
            let full = chunk.content.len() / BLOCK_SIZE * BLOCK_SIZE;
            let (full, end) = chunk.content.split_at(full);
            self.sink.append(full).map_err(WriteError::Sink)?;
            self.chunks.end.extend_from_slice(end);
            0
        };
        #[allow(clippy::cast_possible_truncation)] // 255 at most
        self.chunks.compressed_blocks.push(blocks as u16);
        Ok(())
    }

    /// Places the inode of the file whose chunks are all written.
    pub(super) fn place_chunked(
        &mut self,
        mut inode: DiskInode,
        xattrs: &Body,
    ) -> Result<Slot, WriteError> {
        let written = std::mem::take(&mut self.chunks);
        let chunks = Chunks {
            size: inode.size,
            chunk_size: self.chunk_size,
            first_block: written.first_block,
            compressed_blocks: written.compressed_blocks,
        };
        let algorithm = self.compression.algorithm();
        let Some(algorithm) = algorithm.filter(|_| chunks.any_compressed()) else {
            inode.data = chunks.first_block;
            self.stored_bytes += inode.size;
            return self.place_with_end(inode, xattrs, &written.end);
        };
        self.append_padded(&written.end)?;
        self.any_compressed = true;
        inode.layout = Layout::CompressedCompact;
        inode.data = self.next_block()? - chunks.first_block;
        self.stored_bytes += u64::from(inode.data) * BLOCK_SIZE as u64;
        let start = inode.encoded_size(self.epoch_or(inode.mtime)) + xattrs.bytes.len();
        let aligned = start.next_multiple_of(HEADER_ALIGNMENT);
        let mut behind = vec![0; aligned - start];
        behind.extend(chunks.encode(algorithm, aligned));
        Ok(self.place(&inode, xattrs, &behind))
    }

    /// What readers must know of the compression; `None` if no file is compressed.
    pub(super) fn compression_settings(&self) -> Option<CompressionSettings> {
        let algorithm = self.compression.algorithm();
        let algorithm = algorithm.filter(|_| self.any_compressed)?;
        Some(CompressionSettings {
            algorithm,
            chunk_size: self.chunk_size,
        })
    }
}
