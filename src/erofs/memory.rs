//! A file system in memory.

use std::io;

use super::{BLOCK_SIZE, Block, BlockSink};

/// A [`BlockSink`] that keeps everything in memory: for tests and for small file systems.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    /// What was appended, and room behind it.
    bytes: Vec<u8>,
    /// How many of the bytes were appended.
    position: usize,
}

/// How much room is offered at a time; an odd number of blocks, so that nothing comes to rely on
/// content fitting into it.
const ROOM: usize = 7 * BLOCK_SIZE;

impl MemorySink {
    /// A sink to which nothing was appended.
    pub fn new() -> MemorySink {
        MemorySink::default()
    }

    /// All that was appended.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.position);
        self.bytes
    }
}

impl BlockSink for MemorySink {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.position == self.bytes.len() {
            self.bytes.resize(self.position + ROOM, 0xa5);
        }
        Ok(&mut self.bytes[self.position..])
    }

    fn advance(&mut self, bytes: usize) {
        self.position = (self.position + bytes).min(self.bytes.len());
    }

    fn position(&self) -> u64 {
        self.position as u64
    }

    fn patch(&mut self, block: u64, change: &mut dyn FnMut(&mut Block)) -> io::Result<()> {
        let appended = &mut self.bytes[..self.position];
        let block = usize::try_from(block)
            .ok()
            .and_then(|block| appended.as_chunks_mut().0.get_mut(block))
            .ok_or(io::ErrorKind::InvalidInput)?;
        change(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_can_be_patched_and_nothing_else() {
        let mut sink = MemorySink::new();
        sink.append(&[1; 3 * BLOCK_SIZE + 5]).unwrap();
        assert_eq!(sink.position(), 3 * BLOCK_SIZE as u64 + 5);
        sink.patch(2, &mut |block| block[7] = 9).unwrap();
        assert!(sink.patch(3, &mut |_| unreachable!()).is_err());
        let bytes = sink.into_bytes();
        assert_eq!(bytes.len(), 3 * BLOCK_SIZE + 5);
        assert_eq!(bytes[2 * BLOCK_SIZE + 7], 9);
        assert_eq!(
            bytes.iter().filter(|&&byte| byte == 1).count(),
            bytes.len() - 1
        );
    }
}
