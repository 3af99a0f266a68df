//! Where the content of an inode lies, and reading it.

use std::io::{self, Read};

use super::compressed::Compressed;
use super::{FileSystem, Inode, ReadError};
use crate::erofs::format::{FileType, NULL_BLOCK, Nid};
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

/// Where a part of some content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Bytes from the start of the file system; `None` for a hole.
    offset: Option<u64>,
    /// Bytes; never 0.
    length: u64,
}

/// The content of a regular file, read from its start or anywhere.
///
/// Of compressed content the extent that was last read is kept, 12 MiB at most.
#[derive(Debug)]
pub struct Content<'fs, R> {
    file_system: &'fs FileSystem<R>,
    data: Data,
    position: u64,
}

impl<'fs, R: ReadAt> Content<'fs, R> {
    pub(super) fn new(
        file_system: &'fs FileSystem<R>,
        file: &Inode,
    ) -> Result<Content<'fs, R>, ReadError> {
        file.expect(FileType::File)?;
        Ok(Content {
            file_system,
            data: Data::open(file_system, file)?,
            position: 0,
        })
    }

    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.data.inode.size
    }

    /// Reads from `offset` until `buffer` is full or the content ends; holes read as zeros.
    ///
    /// # Errors
    /// [`ReadError::Inode`] and [`ReadError::Image`].
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let rest = self.size().saturating_sub(offset);
        let length = usize::try_from(rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.data
            .read(self.file_system, &mut buffer[..length], offset)?;
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

/// The content of an inode of any type.
#[derive(Debug)]
pub(super) struct Data {
    inode: Inode,
    /// There is none if the content is not compressed.
    compressed: Option<Box<Compressed>>,
}

impl Data {
    /// The content of an inode.
    pub fn open<R: ReadAt>(file_system: &FileSystem<R>, inode: &Inode) -> Result<Data, ReadError> {
        Data::open_as(file_system, inode.clone(), true)
    }

    /// The content of the packed inode, which has none in itself.
    pub fn open_packed<R: ReadAt>(
        file_system: &FileSystem<R>,
        packed: Nid,
    ) -> Result<Data, ReadError> {
        Data::open_as(file_system, file_system.inode(packed)?, false)
    }

    fn open_as<R: ReadAt>(
        file_system: &FileSystem<R>,
        inode: Inode,
        may_be_packed: bool,
    ) -> Result<Data, ReadError> {
        let compressed = match inode.layout {
            Layout::CompressedFull | Layout::CompressedCompact => {
                let compressed = Compressed::open(file_system, &inode, may_be_packed)?;
                Some(Box::new(compressed))
            }
            _ => None,
        };
        Ok(Data { inode, compressed })
    }

    /// The inode whose content it is.
    pub fn inode(&self) -> &Inode {
        &self.inode
    }

    /// Fills `buffer` with content from `position` on, all of which must lie inside its size.
    pub fn read<R: ReadAt>(
        &mut self,
        file_system: &FileSystem<R>,
        mut buffer: &mut [u8],
        mut position: u64,
    ) -> Result<(), ReadError> {
        let end = position.checked_add(buffer.len() as u64);
        if !buffer.is_empty() && end.is_none_or(|end| end > self.inode.size) {
            return Err(ReadError::Inode {
                nid: self.inode.nid,
                reason: "has less content than other inodes have in it",
            });
        }
        if let Some(compressed) = &mut self.compressed {
            return compressed.read(file_system, buffer, position);
        }
        while !buffer.is_empty() {
            let extent = file_system.extent(&self.inode, position)?;
            let length = usize::try_from(extent.length)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let (part, rest) = buffer.split_at_mut(length);
            match extent.offset {
                Some(offset) => file_system.read(part, offset)?,
                None => part.fill(0),
            }
            buffer = rest;
            position += length as u64;
        }
        Ok(())
    }
}

impl<R: ReadAt> FileSystem<R> {
    /// Where the content from `position` on lies, and how far in one piece; `position` must be less
    /// than the inode's size, and the inode not compressed.
    fn extent(&self, inode: &Inode, position: u64) -> Result<Extent, ReadError> {
        let block_size = self.superblock.block_size();
        // what lies behind the end of all bytes cannot be read either
        let extent = |start: u64, offset: u64, end: u64| Extent {
            offset: Some(start.saturating_add(offset)),
            length: end - position,
        };
        match inode.layout {
            Layout::FlatPlain | Layout::CompressedFull | Layout::CompressedCompact => {
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
}
