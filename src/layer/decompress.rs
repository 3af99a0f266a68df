//! From the stored bytes of a layer to the tar archive in it.
//!
//! ```text
//!   source ──► [read: size, blob digest] ──► [inflate] ──┬──► consumer
//!                                                        └──► [diff id]
//! ```
//!
//! Each bracket is a thread; bounded channels of reference-counted buffers join them, so that
//! memory stays below 8 MiB (and the window of zstd, at most 128 MiB). A plain archive needs only
//! the first thread. Errors travel in the channels and so arrive in order; a thread ends when the
//! one behind it does.

use std::io::{self, BufRead, Cursor, Read};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::chunk::{Chunk, Pool};
use super::tar::ByteStream;
use super::{DigestOf, LayerError};
use crate::digest::{Digest, Hasher};

/// What is known of a layer before it is read. What is `None` is not checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Digest of the bytes as stored.
    pub blob: Option<Digest>,
    /// Digest of the uncompressed archive.
    pub diff_id: Option<Digest>,
    /// Bytes as stored.
    pub size: Option<u64>,
}

impl Expected {
    /// Whether it is worth reading to the end, which is bounded, once the content makes no sense:
    /// the digest tells whether these are the bytes of the layer at all.
    pub(super) fn tells_in_bounds(&self) -> bool {
        self.blob.is_some() && self.size.is_some()
    }
}

/// Chunks on the way between two threads.
const STORED_CHUNKS: usize = 4;
const ARCHIVE_CHUNKS: usize = 8;

/// Frames with a larger window need `zstd --long` to be read, too; 2²⁷ is zstd's own default limit.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
}

/// The longest of the magic numbers below.
const MAGIC_BYTES: u64 = 10;

impl Format {
    /// Sources of the magic numbers: RFC 1952, RFC 8878, the formats' own specifications.
    fn detect(head: &[u8]) -> Result<Format, LayerError> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Format::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Format::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(LayerError::UnknownCompression("xz")),
            [b'B', b'Z', b'h', _, b'1', b'A', b'Y', b'&', b'S', b'Y'] => {
                Err(LayerError::UnknownCompression("bzip2"))
            }
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(LayerError::UnknownCompression("lz4")),
            _ => Ok(Format::Plain),
        }
    }
}

type Chunks = Receiver<Result<Arc<Chunk>, LayerError>>;

/// Starts the threads that read, check and decompress `stored`.
pub fn decompress(
    mut stored: Box<dyn Read + Send>,
    expected: Expected,
) -> Result<Archive, LayerError> {
    let mut head = Vec::new();
    (&mut stored)
        .take(MAGIC_BYTES)
        .read_to_end(&mut head)
        .map_err(LayerError::Read)?;
    let format = Format::detect(&head)?;
    let plain = format == Format::Plain;
    let stored = Measured {
        stored: Cursor::new(head).chain(stored),
        size: 0,
        expected_size: expected.size,
        digests: [
            expected.blob.map(|digest| (DigestOf::Blob, digest)),
            // Stored and uncompressed bytes are the same: one computation serves both.
            expected
                .diff_id
                .filter(|_| plain)
                .map(|digest| (DigestOf::DiffId, digest)),
        ],
        hasher: (expected.blob.is_some() || plain && expected.diff_id.is_some()).then(Hasher::new),
    };
    let mut threads = Vec::new();
    if plain {
        let chunks = spawn_reader(stored, ARCHIVE_CHUNKS, &mut threads)?;
        return Ok(Archive::new(chunks, None, threads));
    }
    let chunks = spawn_reader(stored, STORED_CHUNKS, &mut threads)?;
    let (diff_id, to_hash) = match expected.diff_id {
        Some(digest) => {
            let (sender, receiver) = sync_channel(ARCHIVE_CHUNKS);
            let hashing = spawn("diff id", move || digest_of(&receiver))?;
            (Some((digest, hashing)), Some(sender))
        }
        None => (None, None),
    };
    let chunks = spawn_inflater(
        StoredBytes {
            arrived: Arrived::new(chunks),
            reads_on: expected.tells_in_bounds(),
        },
        format,
        to_hash,
        &mut threads,
    )?;
    Ok(Archive::new(chunks, diff_id, threads))
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, LayerError> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(LayerError::Thread)
}

fn spawn_reader(
    mut stored: Measured<impl Read + Send + 'static>,
    capacity: usize,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Chunks, LayerError> {
    let (sender, receiver) = sync_channel(capacity);
    threads.push(spawn("layer", move || {
        let checked = match pump(&mut stored, LayerError::Read, &sender, None) {
            Ok(true) => stored.check(),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = checked {
            // Where nobody takes it any more, nobody wants to know.
            let _ = sender.send(Err(error));
        }
    })?);
    Ok(receiver)
}

fn spawn_inflater(
    mut stored: StoredBytes,
    format: Format,
    to_hash: Option<SyncSender<Arc<Chunk>>>,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<Chunks, LayerError> {
    let (sender, receiver) = sync_channel(ARCHIVE_CHUNKS);
    let name = if format == Format::Gzip {
        "gzip"
    } else {
        "zstd"
    };
    let explain = move |source| LayerError::Decompress {
        format: name,
        source,
    };
    threads.push(spawn(name, move || {
        let to_hash = to_hash.as_ref();
        let inflated = match format {
            Format::Gzip => pump(&mut gunzip(&mut stored), explain, &sender, to_hash),
            _ => zstd::stream::read::Decoder::with_buffer(&mut stored)
                .and_then(|mut zstd| {
                    zstd.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Ok(zstd)
                })
                .map_err(explain)
                .and_then(|mut zstd| pump(&mut zstd, explain, &sender, to_hash)),
        };
        if let Err(error) = inflated {
            let _ = sender.send(Err(stored.wrong_digest().unwrap_or(error)));
        }
    })?);
    Ok(receiver)
}

/// The decoder of all members of a gzip stream.
#[cfg(not(feature = "isal"))]
fn gunzip(stored: impl BufRead) -> impl Read {
    flate2::bufread::MultiGzDecoder::new(stored)
}

/// The decoder of all members of a gzip stream.
#[cfg(feature = "isal")]
fn gunzip(stored: impl BufRead) -> impl Read {
    isal::read::GzipDecoder::new(stored)
}

/// Reads to the end and passes everything on; says whether it came to the end, rather than to a
/// receiver that has gone.
fn pump(
    reader: &mut impl Read,
    explain: impl Fn(io::Error) -> LayerError,
    receiver: &SyncSender<Result<Arc<Chunk>, LayerError>>,
    to_hash: Option<&SyncSender<Arc<Chunk>>>,
) -> Result<bool, LayerError> {
    let pool = Pool::new();
    loop {
        let mut chunk = pool.chunk();
        let filled = chunk.fill(reader);
        if !chunk.is_empty() {
            let chunk = Arc::new(chunk);
            if let Some(hash) = to_hash {
                // It only ends before this thread by a panic, which Archive::finish passes on.
                let _ = hash.send(chunk.clone());
            }
            if receiver.send(Ok(chunk)).is_err() {
                return Ok(false);
            }
        }
        match filled {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            // A layer error that an earlier thread met comes wrapped; it needs no other words.
            Err(error) => return Err(error.downcast().unwrap_or_else(&explain)),
        }
    }
}

fn digest_of(chunks: &Receiver<Arc<Chunk>>) -> Digest {
    let mut hasher = Hasher::new();
    for chunk in chunks {
        hasher.update(&chunk);
    }
    hasher.finish()
}

/// Counts and hashes the stored bytes while they are in cache.
struct Measured<R> {
    stored: R,
    size: u64,
    expected_size: Option<u64>,
    digests: [Option<(DigestOf, Digest)>; 2],
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stored.read(buffer)?;
        self.size = self.size.saturating_add(count as u64);
        if let Some(expected) = self.expected_size
            && self.size > expected
        {
            return Err(io::Error::other(LayerError::TooLong { expected }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
        Ok(count)
    }
}

impl<R> Measured<R> {
    /// What to say when all was read.
    fn check(self) -> Result<(), LayerError> {
        if let Some(expected) = self.expected_size
            && self.size < expected
        {
            return Err(LayerError::TooShort {
                expected,
                actual: self.size,
            });
        }
        if let Some(hasher) = self.hasher {
            let actual = hasher.finish();
            for (of, expected) in self.digests.into_iter().flatten() {
                compare(of, expected, actual)?;
            }
        }
        Ok(())
    }
}

fn compare(of: DigestOf, expected: Digest, actual: Digest) -> Result<(), LayerError> {
    if expected == actual {
        return Ok(());
    }
    Err(LayerError::Digest {
        of,
        expected,
        actual,
    })
}

/// The chunks that arrive through a channel, and how much of the present one was consumed.
struct Arrived {
    chunks: Chunks,
    current: Option<Arc<Chunk>>,
    position: usize,
}

impl Arrived {
    fn new(chunks: Chunks) -> Arrived {
        Arrived {
            chunks,
            current: None,
            position: 0,
        }
    }

    /// What comes next; empty at the end.
    fn peek(&mut self) -> Result<&[u8], LayerError> {
        let exhausted = |chunk: &Arc<Chunk>| self.position >= chunk.len();
        if self.current.as_ref().is_none_or(exhausted) {
            // Given back before waiting, so that the sender can use it.
            self.current = None;
            self.position = 0;
            self.current = self.chunks.recv().ok().transpose()?;
        }
        let chunk = self.current.as_deref();
        Ok(chunk
            .and_then(|chunk| chunk.get(self.position..))
            .unwrap_or_default())
    }
}

/// The stored bytes, as the decoders want them.
struct StoredBytes {
    arrived: Arrived,
    /// See [`Expected::tells_in_bounds`].
    reads_on: bool,
}

impl StoredBytes {
    /// Reads on to the end: whether the bytes that make no sense are other bytes than were announced.
    fn wrong_digest(&mut self) -> Option<LayerError> {
        while self.reads_on {
            match self.arrived.peek() {
                Ok([]) => break,
                Ok(rest) => {
                    let count = rest.len();
                    self.consume(count);
                }
                Err(error) => return Some(error).filter(LayerError::is_digest),
            }
        }
        None
    }
}

impl Read for StoredBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for StoredBytes {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.arrived.peek().map_err(io::Error::other)
    }

    fn consume(&mut self, count: usize) {
        self.arrived.position += count;
    }
}

/// The tar archive in a layer, as the threads deliver it.
pub struct Archive {
    arrived: Arrived,
    diff_id: Option<(Digest, JoinHandle<Digest>)>,
    threads: Vec<JoinHandle<()>>,
}

impl Archive {
    fn new(
        chunks: Chunks,
        diff_id: Option<(Digest, JoinHandle<Digest>)>,
        threads: Vec<JoinHandle<()>>,
    ) -> Archive {
        Archive {
            arrived: Arrived::new(chunks),
            diff_id,
            threads,
        }
    }
}

impl ByteStream for Archive {
    fn peek(&mut self) -> Result<&[u8], LayerError> {
        self.arrived.peek()
    }

    fn consume(&mut self, count: usize) {
        self.arrived.position += count;
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        loop {
            let count = self.peek()?.len();
            if count == 0 {
                break;
            }
            self.consume(count);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
        if let Some((expected, hashing)) = self.diff_id.take() {
            let actual = hashing.join().unwrap_or_else(|panic| resume_unwind(panic));
            compare(DigestOf::DiffId, expected, actual)?;
        }
        Ok(())
    }
}
