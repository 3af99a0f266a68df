//! Threads that compress chunks.

use std::io;
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};

use super::WriteError;
use crate::erofs::BLOCK_SIZE;
use crate::erofs::compression::{ChunkSize, Compression, Compressor};

/// Chunks that exist for each thread: one that it compresses, others that are being read, wait for
/// it, or wait for their turn to be written.
const CHUNKS_PER_THREAD: usize = 4;

/// What a chunk is a part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ChunkRole {
    /// A file.
    #[default]
    File,
    /// A file, which ends with it, and the end may lie behind the inode.
    InlineTail,
    /// The packed inode.
    Fragments,
}

/// A part of a file or of the packed inode.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Position among all chunks.
    number: u64,
    role: ChunkRole,
    pub content: Vec<u8>,
    /// The content compressed, if it `is_compressed`.
    pub compressed: Vec<u8>,
    pub is_compressed: bool,
}

/// Threads that compress chunks, and the chunks, whose number is limited.
#[derive(Debug)]
pub(super) struct Pool {
    threads: Vec<JoinHandle<()>>,
    /// To the threads; there is none once they shall end.
    todo: Option<Sender<Chunk>>,
    /// From the threads; `None` if one of them panicked, and its chunk is lost.
    done: Receiver<Option<Chunk>>,
    /// Chunks that are free.
    idle: Vec<Chunk>,
    /// How many more chunks there may be.
    unborn: usize,
    /// The number of the next chunk.
    next: u64,
}

impl Pool {
    /// Starts `jobs` threads; `None` if there is nothing to compress.
    pub fn start(compression: Compression, jobs: NonZeroUsize) -> io::Result<Option<Pool>> {
        let limit = jobs.get().saturating_mul(CHUNKS_PER_THREAD);
        let (todo, from_writer) = crossbeam_channel::bounded::<Chunk>(limit);
        let (to_writer, done) = crossbeam_channel::bounded::<Option<Chunk>>(limit);
        let mut pool = Pool {
            threads: Vec::new(),
            todo: Some(todo),
            done,
            idle: Vec::new(),
            unborn: limit,
            next: 0,
        };
        for _ in 0..jobs.get() {
            let Some(mut compressor) = Compressor::new(compression)? else {
                return Ok(None);
            };
            let (from_writer, to_writer) = (from_writer.clone(), to_writer.clone());
            let work = move || {
                let to_writer = Alarm(to_writer);
                for mut chunk in from_writer {
                    let limit = chunk.limit();
                    chunk.is_compressed =
                        compressor.compress(&chunk.content, limit, &mut chunk.compressed);
                    if to_writer.0.send(Some(chunk)).is_err() {
                        break;
                    }
                }
            };
            let name = "compress".to_owned();
            pool.threads
                .push(thread::Builder::new().name(name).spawn(work)?);
        }
        Ok(Some(pool))
    }

    /// A chunk for new content; `None` if all are in use.
    pub fn take(&mut self, chunk_size: ChunkSize) -> Option<Chunk> {
        self.idle.pop().or_else(|| {
            self.unborn = self.unborn.checked_sub(1)?;
            Some(Chunk {
                content: Vec::with_capacity(chunk_size.bytes()),
                ..Chunk::default()
            })
        })
    }

    /// Has a chunk compressed.
    pub fn compress(&mut self, mut chunk: Chunk, role: ChunkRole) -> Result<(), WriteError> {
        chunk.number = self.next;
        chunk.role = role;
        self.next += 1;
        let sent = self.todo.as_ref().map(|todo| todo.send(chunk));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(WriteError::Compressor),
        }
    }

    /// Gives a chunk back that is written.
    pub fn give_back(&mut self, mut chunk: Chunk) {
        chunk.content.clear();
        self.idle.push(chunk);
    }

    /// A chunk that was compressed, in no order.
    pub fn try_receive(&self) -> Result<Option<Chunk>, WriteError> {
        match self.done.try_recv() {
            Ok(None) => Err(WriteError::Compressor),
            Ok(chunk) => Ok(chunk),
            Err(_) => Ok(None),
        }
    }

    /// Waits for a chunk that was compressed.
    pub fn receive(&self) -> Result<Chunk, WriteError> {
        match self.done.recv() {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) | Err(_) => Err(WriteError::Compressor),
        }
    }
}

impl Chunk {
    /// Position among all chunks.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn role(&self) -> ChunkRole {
        self.role
    }

    /// How many bytes it may take compressed: so many that it saves a block, or, if it may lie
    /// behind an inode, a byte.
    fn limit(&self) -> usize {
        let less = self.content.len().saturating_sub(1);
        if self.role == ChunkRole::InlineTail && less < BLOCK_SIZE {
            less
        } else {
            less / BLOCK_SIZE * BLOCK_SIZE
        }
    }
}

/// Tells the writer of a panic, so that it does not wait for the chunk that was lost.
struct Alarm(Sender<Option<Chunk>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            // without a writer there is nobody to be told
            let _ = self.0.send(None);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.todo = None;
        for thread in self.threads.drain(..) {
            // all that it could tell is that it panicked, which ended the writing already
            let _ = thread.join();
        }
    }
}
