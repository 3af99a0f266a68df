//! Where the content of an inode lies, and reading it.

use std::io::{self, Read};

use super::{FileSystem, Inode, ReadError};
use crate::erofs::format::{FileType, NULL_BLOCK};
use crate::erofs::inode::Layout;
use crate::read_at::ReadAt;

/// The part of a chunk format that tells the size, as a logarithm of blocks;
/// `EROFS_CHUNK_FORMAT_BLKBITS_MASK`.
const CHUNK_BITS_MASK: u32 = 0x1f;
/// Addresses of chunks have 8 bytes, not 4; `EROFS_CHUNK_FORMAT_INDEXES`.
const CHUNK_INDEXES: u32 = 0x20;
/// All of a chunk format that has a meaning; `EROFS_CHUNK_FORMAT_ALL`. Above it lie 16 bits that
/// are reserved.
const CHUNK_FORMAT_ALL: u32 = 0x3f;

/// Compression algorithms by number; `Z_EROFS_COMPRESSION_*`.
const ALGORITHMS: [&str; 4] = ["LZ4", "LZMA", "DEFLATE", "Zstandard"];
/// Where `struct z_erofs_map_header` has the algorithm; `h_algorithmtype`.
const ALGORITHM_OFFSET: u64 = 6;

/// Where a part of some content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Bytes from the start of the file system; `None` for a hole.
    offset: Option<u64>,
    /// Bytes; never 0.
    length: u64,
}

/// The content of a regular file, read from its start or anywhere.
#[derive(Debug)]
pub struct Content<'fs, R> {
    file_system: &'fs FileSystem<R>,
    inode: Inode,
    position: u64,
}

impl<'fs, R: ReadAt> Content<'fs, R> {
    pub(super) fn new(
        file_system: &'fs FileSystem<R>,
        file: &Inode,
    ) -> Result<Content<'fs, R>, ReadError> {
        file.expect(FileType::File)?;
        if matches!(
            file.layout,
            Layout::CompressedFull | Layout::CompressedCompact
        ) {
            return Err(file_system.compressed(file)?);
        }
        Ok(Content {
            file_system,
            inode: file.clone(),
            position: 0,
        })
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.inode.size
    }

    /// Reads from `offset` until `buffer` is full or the content ends; holes read as zeros.
    ///
    /// # Errors
    /// [`ReadError::Inode`] and [`ReadError::Image`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let rest = self.inode.size.saturating_sub(offset);
        let length = usize::try_from(rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.file_system
            .read_content(&self.inode, &mut buffer[..length], offset)?;
        Ok(length)
    }
}

impl<R: ReadAt> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self
            .read_at(buffer, self.position)
            .map_err(io::Error::other)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: ReadAt> FileSystem<R> {
    /// Fills `buffer` with content from `position` on, all of which must lie inside its size.
    pub(super) fn read_content(
        &self,
        inode: &Inode,
        mut buffer: &mut [u8],
        mut position: u64,
    ) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            let extent = self.extent(inode, position)?;
            let length = usize::try_from(extent.length)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let (part, rest) = buffer.split_at_mut(length);
            match extent.offset {
                Some(offset) => self.read(part, offset)?,
                None => part.fill(0),
            }
            buffer = rest;
            position += length as u64;
        }
        Ok(())
    }

    /// Where the content from `position` on lies, and how far in one piece; `position` must be less
    /// than the inode's size.
    fn extent(&self, inode: &Inode, position: u64) -> Result<Extent, ReadError> {
        let block_size = self.superblock.block_size();
        // what lies behind the end of all bytes cannot be read either
        let extent = |start: u64, offset: u64, end: u64| Extent {
            offset: Some(start.saturating_add(offset)),
            length: end - position,
        };
        match inode.layout {
            Layout::FlatPlain => {
                let start = self.block_offset(inode.data);
                Ok(extent(start, position, inode.size))
            }
            Layout::FlatInline => {
                let end = inode.size % block_size;
                let full = inode.size - end;
                if position < full {
                    let start = self.block_offset(inode.data);
                    return Ok(extent(start, position, full));
                }
                let start = inode.behind_xattrs();
                if start % block_size + end > block_size {
                    return Err(ReadError::Inode {
                        nid: inode.nid,
                        reason: "has content behind it that crosses into another block",
                    });
                }
                Ok(extent(start, position - full, inode.size))
            }
            Layout::ChunkBased => {
                let (chunk_start, chunk_size, address) = self.chunk(inode, position)?;
                let end = chunk_start.saturating_add(chunk_size).min(inode.size);
                Ok(match address {
                    Some(block) => extent(self.block_offset(block), position - chunk_start, end),
                    None => Extent {
                        offset: None,
                        length: end - position,
                    },
                })
            }
            Layout::CompressedFull | Layout::CompressedCompact => Err(self.compressed(inode)?),
        }
    }

    /// The chunk that holds `position`: its start and size in bytes of content, and its first block
    /// unless it is a hole (`erofs_map_blocks()`, `fs/erofs/data.c`).
    fn chunk(&self, inode: &Inode, position: u64) -> Result<(u64, u64, Option<u32>), ReadError> {
        let refuse = |reason| ReadError::Inode {
            nid: inode.nid,
            reason,
        };
        let format = inode.data & 0xffff;
        if format & !CHUNK_FORMAT_ALL != 0 {
            return Err(refuse(
                "has chunks of a form that this program does not know",
            ));
        }
        // at most 16 + 31, so chunks have fewer than 2^48 bytes
        let bits = u32::from(self.superblock.block_size_bits) + (format & CHUNK_BITS_MASK);
        let number = position >> bits;
        let unit = if format & CHUNK_INDEXES != 0 { 8 } else { 4 };
        let offset = inode
            .behind_xattrs()
            .checked_next_multiple_of(unit)
            .zip(number.checked_mul(unit))
            .and_then(|(table, entry)| table.checked_add(entry))
            .ok_or_else(|| refuse("has more chunks than there can be"))?;
        let mut address = [0; 4];
        if unit == 8 {
            let mut index = [0; 8];
            self.read(&mut index, offset)?;
            let [_, _, device_low, device_high, rest @ ..] = index;
            if [device_low, device_high] != [0, 0] {
                return Err(refuse("has chunks on another device"));
            }
            address = rest;
        } else {
            self.read(&mut address, offset)?;
        }
        let address = u32::from_le_bytes(address);
        let mapped = (address != NULL_BLOCK).then_some(address);
        Ok((number << bits, 1 << bits, mapped))
    }

    /// The error that tells how a compressed inode is compressed.
    fn compressed(&self, inode: &Inode) -> Result<ReadError, ReadError> {
        let header = inode.behind_xattrs().next_multiple_of(8);
        let mut algorithm = [0];
        self.read(&mut algorithm, header + ALGORITHM_OFFSET)?;
        let number = usize::from(algorithm[0] & 0xf);
        Ok(ReadError::Compressed {
            nid: inode.nid,
            algorithm: match ALGORITHMS.get(number) {
                Some(name) => (*name).to_owned(),
                None => format!("algorithm {number}"),
            },
        })
    }
}
