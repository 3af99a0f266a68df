//! What waits for its turn to be written while chunks are compressed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;

use super::fragments::Fragment;
use super::pool::{Chunk, ChunkRole, Pool};
use super::{WriteError, Writer};
use crate::erofs::BlockSink;
use crate::erofs::compression::Compression;
use crate::erofs::inode::DiskInode;
use crate::erofs::xattr::Body;

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
    /// The chunks that come before the leaf, and, if there is one, a last part that does not.
    Chunks(Option<Fragment>),
}

impl PendingLeaf<'_> {
    fn into_owned(self) -> PendingLeaf<'static> {
        PendingLeaf {
            inode: self.inode,
            xattrs: self.xattrs,
            content: match self.content {
                LeafContent::None => LeafContent::None,
                LeafContent::End(end) => LeafContent::End(Cow::Owned(end.into_owned())),
                LeafContent::Chunks(fragment) => LeafContent::Chunks(fragment),
            },
        }
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let end = match &self.content {
            LeafContent::End(end) => end.len(),
            LeafContent::None | LeafContent::Chunks(_) => 0,
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
    fn push_chunk(&mut self, chunk: Chunk, role: ChunkRole) -> Result<(), WriteError> {
        self.pool.compress(chunk, role)?;
        self.chunks.push_back(None);
        self.steps.push_back(Step::Chunk);
        Ok(())
    }

    fn push_leaf(&mut self, leaf: PendingLeaf<'static>) {
        self.waiting_bytes += leaf.bytes();
        self.steps.push_back(Step::Leaf(leaf));
    }

    /// Takes over what the threads have done.
    fn receive_ready(&mut self) -> Result<(), WriteError> {
        while let Some(chunk) = self.pool.try_receive()? {
            self.store(chunk);
        }
        Ok(())
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

impl<S: BlockSink> Writer<S> {
    /// Has a chunk compressed and written.
    pub(super) fn push_chunk(&mut self, chunk: Chunk, role: ChunkRole) -> Result<(), WriteError> {
        let queue = self.queue.as_mut().ok_or(WriteError::Compressor)?;
        queue.push_chunk(chunk, role)?;
        self.write_ready()
    }

    /// A chunk to read into; waits until one is written if need be.
    pub(super) fn free_chunk(&mut self) -> Result<Chunk, WriteError> {
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
            queue.receive_ready()?;
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
}
