//! Writing a data partition and hashing its blocks while they are still in cache.
//!
//! The owner fills a buffer of 1 MiB; workers write full buffers at their place and hash their
//! blocks. There are a few more buffers than workers, so memory is bounded, and every block has its
//! place before a worker sees it, so the result does not depend on how many workers there are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::chunks::{CHUNK_BLOCKS, CHUNK_SIZE, all_cores, hash_chunks};
use super::sha256::hash_blocks;
use super::{BLOCK_SIZE, BlockDigest, HashTree, Salt};
use crate::erofs::{Block, BlockSink};
use crate::read_at::{FileWindow, ReadAt};

/// Buffers beyond one for each worker: one being filled, and some waiting so that no worker idles.
const SPARE_BUFFERS: usize = 3;

/// A data partition that is written, with the digests of its blocks.
#[derive(Debug)]
pub struct HashedData {
    /// The image.
    pub file: File,
    /// Where the data partition begins in it, in bytes.
    pub offset: u64,
    /// What was hashed in front of every block.
    pub salt: Salt,
    /// The digest of every block.
    pub leaves: Vec<BlockDigest>,
}

impl HashedData {
    /// Hashes the `size` bytes of a file system that lie at `offset` of `file` already, on all
    /// cores.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::InvalidInput`] if `size` is not a multiple of the block
    /// size.
    pub fn of_existing(file: File, offset: u64, size: u64, salt: Salt) -> io::Result<HashedData> {
        let blocks = whole_blocks(size)?;
        let window = FileWindow::new(file.try_clone()?, offset, size);
        if size > 0 {
            // Before memory for the digests of a size that is not there is asked for.
            window.read_exact_at(&mut [0], size - 1)?;
        }
        let count = usize::try_from(blocks).map_err(io::Error::other)?;
        let leaves = Mutex::new(vec![[0; 32]; count]);
        let keep = |start: u64, digests: &[BlockDigest]| {
            let start = usize::try_from(start).map_err(io::Error::other)?;
            let mut leaves = leaves.lock().unwrap_or_else(PoisonError::into_inner);
            leaves[start..start + digests.len()].copy_from_slice(digests);
            Ok(())
        };
        let workers = all_cores();
        hash_chunks(
            &window,
            0,
            blocks,
            salt.as_bytes(),
            workers,
            keep,
            |_, error| error,
        )?;
        Ok(HashedData {
            file,
            offset,
            salt,
            leaves: leaves.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// How many blocks the data partition has.
    pub fn blocks(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The hash tree over the data, and the file; `None` if there is no block.
    pub fn into_tree(self) -> Option<(File, HashTree)> {
        Some((self.file, HashTree::from_leaves(&self.salt, self.leaves)?))
    }
}

fn whole_blocks(size: u64) -> io::Result<u64> {
    if size.is_multiple_of(BLOCK_SIZE as u64) {
        return Ok(size / BLOCK_SIZE as u64);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("a data partition of {size} bytes is not made of whole blocks"),
    ))
}

struct Buffer {
    bytes: Box<[u8]>,
    digests: Box<[BlockDigest]>,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer {
            bytes: vec![0; CHUNK_SIZE].into(),
            digests: vec![[0; 32]; CHUNK_BLOCKS].into(),
        }
    }
}

/// The first blocks of a buffer, on their way to their place and back.
struct Chunk {
    /// Position among all chunks.
    number: u64,
    blocks: usize,
    buffer: Buffer,
}

type Written = (Chunk, io::Result<()>);

/// A [`BlockSink`] that writes a data partition into an image file and hashes it.
pub struct HashedDataWriter {
    place: Arc<Place>,
    /// The buffer being filled, with how much of it is; taken from `free` when it is needed.
    current: Option<Buffer>,
    filled: usize,
    /// Chunks before the current one.
    chunks: u64,
    leaves: Vec<BlockDigest>,
    free: Vec<Buffer>,
    /// Buffers that may still be allocated.
    unallocated: usize,
    /// Numbers of the chunks that workers have.
    outstanding: BTreeSet<u64>,
    failure: Option<io::Error>,
    jobs: Option<Sender<Chunk>>,
    written: Receiver<Written>,
    workers: Vec<JoinHandle<()>>,
}

/// Where the data goes and how it is hashed.
struct Place {
    file: File,
    offset: u64,
    salt: Salt,
}

impl Place {
    fn write_and_hash(&self, chunk: &mut Chunk) -> io::Result<()> {
        let bytes = &chunk.buffer.bytes[..chunk.blocks * BLOCK_SIZE];
        let position = chunk.number * CHUNK_SIZE as u64;
        let digests = &mut chunk.buffer.digests[..chunk.blocks];
        hash_blocks(self.salt.as_bytes(), bytes, digests);
        self.file.write_all_at(bytes, self.offset + position)
    }
}

fn work(place: &Place, jobs: &Receiver<Chunk>, written: &Sender<Written>) {
    for mut chunk in jobs {
        // The owner waits for every chunk, so one must come back even after a panic.
        let attempt = AssertUnwindSafe(|| place.write_and_hash(&mut chunk));
        let result = catch_unwind(attempt).unwrap_or_else(|_| Err(workers_gone()));
        if written.send((chunk, result)).is_err() {
            return;
        }
    }
}

impl HashedDataWriter {
    /// Starts `workers` threads that write the data partition at `offset` of `file`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(
        file: File,
        offset: u64,
        salt: Salt,
        workers: NonZero<usize>,
    ) -> io::Result<HashedDataWriter> {
        let buffers = workers.get() + SPARE_BUFFERS;
        let (jobs, incoming) = bounded(buffers);
        // Room for all buffers: a worker never waits for the owner.
        let (outgoing, written) = bounded(buffers);
        let mut writer = HashedDataWriter {
            place: Arc::new(Place { file, offset, salt }),
            current: None,
            filled: 0,
            chunks: 0,
            leaves: Vec::new(),
            free: Vec::new(),
            unallocated: buffers,
            outstanding: BTreeSet::new(),
            failure: None,
            jobs: Some(jobs),
            written,
            workers: Vec::with_capacity(workers.get()),
        };
        for _ in 0..workers.get() {
            let (place, incoming, outgoing) = (
                Arc::clone(&writer.place),
                incoming.clone(),
                outgoing.clone(),
            );
            let worker = thread::Builder::new()
                .name("verity".to_owned())
                .spawn(move || work(&place, &incoming, &outgoing))?;
            writer.workers.push(worker);
        }
        Ok(writer)
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first error that writing met; [`io::ErrorKind::InvalidInput`] if the last block is not
    /// complete.
    pub fn finish(mut self) -> io::Result<HashedData> {
        whole_blocks(self.position())?;
        self.submit()?;
        while !self.outstanding.is_empty() {
            self.receive()?;
        }
        self.check()?;
        let leaves = std::mem::take(&mut self.leaves);
        let place = Arc::clone(&self.place);
        drop(self);
        // All workers are joined, so nobody else has the file any more.
        let place = Arc::into_inner(place)
            .ok_or_else(|| io::Error::other("a worker still holds the image file"))?;
        Ok(HashedData {
            file: place.file,
            offset: place.offset,
            salt: place.salt,
            leaves,
        })
    }

    /// Hands the current buffer to the workers.
    fn submit(&mut self) -> io::Result<()> {
        let blocks = self.filled / BLOCK_SIZE;
        if blocks == 0 {
            return Ok(());
        }
        let (Some(buffer), Some(jobs)) = (self.current.take(), &self.jobs) else {
            return Ok(());
        };
        let chunk = Chunk {
            number: self.chunks,
            blocks,
            buffer,
        };
        jobs.send(chunk).map_err(|_| workers_gone())?;
        self.outstanding.insert(self.chunks);
        self.chunks += 1;
        self.filled = 0;
        Ok(())
    }

    /// Waits for a worker, and keeps the digests that it brings.
    fn receive(&mut self) -> io::Result<()> {
        let (chunk, result) = self.written.recv().map_err(|_| workers_gone())?;
        self.keep(chunk, result)
    }

    fn keep(&mut self, chunk: Chunk, result: io::Result<()>) -> io::Result<()> {
        self.outstanding.remove(&chunk.number);
        let start = usize::try_from(chunk.number).map_err(io::Error::other)? * CHUNK_BLOCKS;
        let end = start + chunk.blocks;
        if self.leaves.len() < end {
            self.leaves.resize(end, [0; 32]);
        }
        self.leaves[start..end].copy_from_slice(&chunk.buffer.digests[..chunk.blocks]);
        self.free.push(chunk.buffer);
        if let Err(error) = result {
            self.failure.get_or_insert(error);
        }
        self.check()
    }

    /// The first error again, as long as anybody asks.
    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(error) => Err(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
            None => Ok(()),
        }
    }

    fn take_buffer(&mut self) -> io::Result<Buffer> {
        while let Ok((chunk, result)) = self.written.try_recv() {
            self.keep(chunk, result)?;
        }
        loop {
            if let Some(buffer) = self.free.pop() {
                return Ok(buffer);
            }
            if self.unallocated > 0 {
                self.unallocated -= 1;
                return Ok(Buffer::new());
            }
            self.receive()?;
        }
    }
}

fn workers_gone() -> io::Error {
    io::Error::other("the threads that write the image have ended early")
}

impl BlockSink for HashedDataWriter {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        self.check()?;
        if self.filled == CHUNK_SIZE {
            self.submit()?;
        }
        let buffer = match self.current.take() {
            Some(buffer) => buffer,
            None => self.take_buffer()?,
        };
        let buffer = self.current.insert(buffer);
        Ok(&mut buffer.bytes[self.filled..])
    }

    fn advance(&mut self, bytes: usize) {
        debug_assert!(self.filled + bytes <= CHUNK_SIZE);
        self.filled = (self.filled + bytes).min(CHUNK_SIZE);
    }

    fn position(&self) -> u64 {
        self.chunks * CHUNK_SIZE as u64 + self.filled as u64
    }

    fn patch(&mut self, block: u64, change: &mut dyn FnMut(&mut Block)) -> io::Result<()> {
        self.check()?;
        let index = usize::try_from(block).map_err(io::Error::other)?;
        if block >= self.position() / BLOCK_SIZE as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("block {block} is not written yet"),
            ));
        }
        let chunk = block / CHUNK_BLOCKS as u64;
        if let (true, Some(buffer)) = (chunk == self.chunks, &mut self.current) {
            let blocks = buffer.bytes.as_chunks_mut().0;
            change(&mut blocks[index % CHUNK_BLOCKS]);
            return Ok(());
        }
        while self.outstanding.contains(&chunk) {
            self.receive()?;
        }
        let position = self.place.offset + block * BLOCK_SIZE as u64;
        let mut bytes = [0; BLOCK_SIZE];
        self.place.file.read_exact_at(&mut bytes, position)?;
        change(&mut bytes);
        self.place.file.write_all_at(&bytes, position)?;
        let salt = self.place.salt.as_bytes();
        hash_blocks(salt, &bytes, &mut self.leaves[index..=index]);
        Ok(())
    }
}

impl Drop for HashedDataWriter {
    /// Ends the workers; what was handed to them is still written.
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // One that panicked has nothing left that could be done for it.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFSET: u64 = 8192;

    fn writer(workers: usize) -> HashedDataWriter {
        let file = tempfile::tempfile().unwrap();
        let workers = NonZero::new(workers).unwrap();
        HashedDataWriter::new(file, OFFSET, Salt::from([5; 32]), workers).unwrap()
    }

    fn expected_leaves(data: &[u8]) -> Vec<BlockDigest> {
        data.chunks(BLOCK_SIZE)
            .map(|block| openssl::sha::sha256(&[&[5; 32], block].concat()))
            .collect()
    }

    fn content(file: &File, size: usize) -> Vec<u8> {
        let mut content = vec![0; size];
        file.read_exact_at(&mut content, OFFSET).unwrap();
        content
    }

    fn pattern(size: usize) -> Vec<u8> {
        (0..size)
            .map(|n| (n / 5 + n / 4096).to_le_bytes()[0])
            .collect()
    }

    #[test]
    fn one_worker_and_eight_write_and_hash_the_same() {
        for blocks in [1, 255, 256, 257, 256 * 20, 256 * 20 + 7] {
            let data = pattern(blocks * BLOCK_SIZE);
            for workers in [1, 8] {
                let mut writer = writer(workers);
                for piece in data.chunks(100_003) {
                    writer.append(piece).unwrap();
                }
                let hashed = writer.finish().unwrap();
                assert_eq!(hashed.blocks(), blocks as u64);
                assert!(content(&hashed.file, data.len()) == data);
                assert!(hashed.leaves == expected_leaves(&data));
            }
        }
    }

    #[test]
    fn what_lies_in_a_file_already_hashes_the_same() {
        let data = pattern(1000 * BLOCK_SIZE);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&data, OFFSET).unwrap();
        let size = data.len() as u64;
        let salt = || Salt::from([5; 32]);
        let hashed =
            HashedData::of_existing(file.try_clone().unwrap(), OFFSET, size, salt()).unwrap();
        assert!(hashed.leaves == expected_leaves(&data));
        let kind = |size| {
            let file = file.try_clone().unwrap();
            HashedData::of_existing(file, OFFSET, size, salt())
                .unwrap_err()
                .kind()
        };
        assert_eq!(kind(size + 4096), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(4095), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_incomplete_block_cannot_be_finished_or_patched() {
        let mut writer = writer(1);
        writer.append(&[1; BLOCK_SIZE + 1]).unwrap();
        assert_eq!(writer.position(), BLOCK_SIZE as u64 + 1);
        writer.patch(0, &mut |block| block[0] = 2).unwrap();
        let error = writer.patch(1, &mut |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = writer.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_first_error_of_a_worker_comes_back_and_nothing_hangs() {
        for workers in [1, 4] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let workers = NonZero::new(workers).unwrap();
            let mut writer = HashedDataWriter::new(full, 0, Salt::from([5; 32]), workers).unwrap();
            let block = [1; BLOCK_SIZE];
            let result = (0..10_000).try_for_each(|_| writer.append(&block));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert!(writer.space().is_err(), "it stays broken");
            assert_eq!(
                writer.finish().unwrap_err().kind(),
                io::ErrorKind::StorageFull
            );
        }
    }

    #[test]
    fn an_error_of_the_last_buffer_is_reported_by_finish() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let salt = Salt::from([5; 32]);
        let mut writer = HashedDataWriter::new(full, 0, salt, NonZero::<usize>::MIN).unwrap();
        writer.append(&[1; BLOCK_SIZE]).unwrap();
        assert_eq!(
            writer.finish().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
    }

    #[test]
    fn a_writer_that_is_dropped_ends_its_threads() {
        let mut writer = writer(4);
        writer.append(&pattern(5 * CHUNK_SIZE + 1)).unwrap();
        let place = Arc::downgrade(&writer.place);
        drop(writer);
        assert_eq!(place.strong_count(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Patch(prop::sample::Index, usize, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1usize..600 * 1024).prop_map(Step::Append),
            any::<(prop::sample::Index, prop::sample::Index, u8)>()
                .prop_map(|(block, at, byte)| Step::Patch(block, at.index(BLOCK_SIZE), byte)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn patches_change_file_and_digests_like_a_plain_array(
            steps in prop::collection::vec(step(), 1..40),
            workers in 1usize..5,
        ) {
            let mut writer = writer(workers);
            let mut model = Vec::new();
            for step in steps {
                match step {
                    Step::Append(size) => {
                        let bytes: Vec<u8> = (0..size).map(|n| (n / 7 + model.len()).to_le_bytes()[0]).collect();
                        writer.append(&bytes).unwrap();
                        model.extend(bytes);
                    }
                    Step::Patch(block, at, byte) => {
                        let complete = model.len() / BLOCK_SIZE;
                        if complete > 0 {
                            let block = block.index(complete);
                            model[block * BLOCK_SIZE + at] = byte;
                            writer.patch(block as u64, &mut |bytes| bytes[at] = byte).unwrap();
                        }
                    }
                }
                prop_assert_eq!(writer.position(), model.len() as u64);
            }
            let padded = model.len().next_multiple_of(BLOCK_SIZE);
            writer.append(&vec![0; padded - model.len()]).unwrap();
            model.resize(padded, 0);
            let hashed = writer.finish().unwrap();
            prop_assert!(content(&hashed.file, model.len()) == model);
            prop_assert!(hashed.leaves == expected_leaves(&model));
        }
    }
}
