//! Buffers that threads pass to each other, and use again.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Large enough that passing it on costs nothing, small enough to stay in a core's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Makes [`Chunk`]s out of the buffers of those that were dropped.
pub struct Pool {
    returned: Receiver<Box<[u8]>>,
    home: Sender<Box<[u8]>>,
}

impl Pool {
    pub fn new() -> Pool {
        let (home, returned) = channel();
        Pool { returned, home }
    }

    /// An empty chunk.
    pub fn chunk(&self) -> Chunk {
        let buffer = self.returned.try_recv();
        Chunk {
            buffer: buffer.unwrap_or_else(|_| vec![0; CHUNK_BYTES].into()),
            length: 0,
            home: self.home.clone(),
        }
    }
}

/// Some bytes; their buffer goes back to the [`Pool`] when the last reader drops them.
pub struct Chunk {
    buffer: Box<[u8]>,
    length: usize,
    home: Sender<Box<[u8]>>,
}

impl Chunk {
    /// Reads until the buffer is full or `reader` ends; says whether it ended. What was read
    /// before an error stays.
    pub fn fill(&mut self, reader: &mut impl Read) -> io::Result<bool> {
        while let Some(space) = self.buffer.get_mut(self.length..)
            && !space.is_empty()
        {
            match reader.read(space) {
                Ok(0) => return Ok(true),
                Ok(count) => self.length += count.min(space.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Without a pool to return to, the buffer is simply freed.
        let _ = self.home.send(std::mem::take(&mut self.buffer));
    }
}
