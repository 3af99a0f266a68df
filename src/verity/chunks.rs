//! Hashing all blocks of something on all cores, in bounded memory.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::sha256::hash_blocks;
use super::{BLOCK_SIZE, BlockDigest};
use crate::read_at::ReadAt;

/// Blocks that are read, written or hashed at once: 1 MiB.
pub(super) const CHUNK_BLOCKS: usize = 256;
/// Bytes of a chunk.
pub(super) const CHUNK_SIZE: usize = CHUNK_BLOCKS * BLOCK_SIZE;

/// As many workers as the machine has cores for this process.
pub(super) fn all_cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Hashes the `blocks` blocks of `data` that begin at block `first`, and gives `take` the digests
/// of every chunk with the number of its first block (counted from `first`), in any order.
///
/// The error of the lowest failing chunk is returned, whatever the number of workers.
pub(super) fn hash_chunks<E: Send>(
    data: &dyn ReadAt,
    first: u64,
    blocks: u64,
    salt: &[u8],
    workers: NonZero<usize>,
    take: impl Fn(u64, &[BlockDigest]) -> Result<(), E> + Sync,
    read_error: impl Fn(u64, io::Error) -> E + Sync,
) -> Result<(), E> {
    let next = AtomicU64::new(0);
    let failure: Mutex<Option<(u64, E)>> = Mutex::new(None);
    // Chunks above the lowest failure found so far need no work.
    let end = AtomicU64::new(blocks);

    let work = || {
        let mut buffer = vec![0; CHUNK_SIZE];
        let mut digests = [[0; 32]; CHUNK_BLOCKS];
        loop {
            let start = next.fetch_add(CHUNK_BLOCKS as u64, Ordering::Relaxed);
            if start >= end.load(Ordering::Relaxed) {
                return;
            }
            let count =
                usize::try_from(blocks - start).map_or(CHUNK_BLOCKS, |n| n.min(CHUNK_BLOCKS));
            let (bytes, digests) = (&mut buffer[..count * BLOCK_SIZE], &mut digests[..count]);
            let result = data
                .read_exact_at(bytes, (first + start) * BLOCK_SIZE as u64)
                .map_err(|error| read_error(start, error))
                .and_then(|()| {
                    hash_blocks(salt, bytes, digests);
                    take(start, digests)
                });
            if let Err(error) = result {
                end.fetch_min(start, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.as_ref().is_none_or(|(lowest, _)| start < *lowest) {
                    *failure = Some((start, error));
                }
            }
        }
    };

    let useful = usize::try_from(blocks.div_ceil(CHUNK_BLOCKS as u64)).unwrap_or(usize::MAX);
    thread::scope(|scope| {
        for _ in 1..workers.get().min(useful) {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
