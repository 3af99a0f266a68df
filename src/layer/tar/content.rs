//! The content of files: how much of it the archive has, and where it has holes instead.

use super::header::{BLOCK_BYTES, Header, SparseTable};
use super::pax::{Pax, PaxSparse};
use super::sparse::{Extent, SegmentList, SparseMap};
use super::{ByteStream, TarStream};
use crate::layer::{EntryProblem, LayerError};

/// A larger file is refused: 1 TiB.
const MAX_FILE_BYTES: u64 = 1 << 40;
/// All holes of a layer may have this many bytes, since they take no room in it: 64 GiB.
const MAX_HOLE_BYTES: u64 = 64 << 30;

/// What is left of an entry's content.
#[derive(Debug, Default)]
pub struct Content {
    /// Bytes of the file read so far, holes included.
    position: u64,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Bytes left in the archive, without the padding.
    pub stored: u64,
    /// Bytes left up to the next header.
    pub padding: u64,
    /// Where the holes are, if there are any.
    map: Option<SparseMap>,
}

impl<B: ByteStream> TarStream<B> {
    /// How many bytes of content the archive has behind the header.
    pub(super) fn stored_size(&self, header: &Header, pax: &Pax) -> Result<u64, LayerError> {
        let in_header = || header.size().and_then(|size| u64::try_from(size).ok());
        let size = pax
            .size
            .or_else(in_header)
            .ok_or_else(|| self.refuse(EntryProblem::Number { field: "size" }))?;
        self.check_file_size(size)
    }

    fn check_file_size(&self, size: u64) -> Result<u64, LayerError> {
        if size > MAX_FILE_BYTES {
            return Err(self.refuse(EntryProblem::TooLarge {
                what: "bytes of a file",
                limit: MAX_FILE_BYTES,
            }));
        }
        Ok(size)
    }

    /// Sets up the content of a file, which has `stored` bytes in the archive.
    pub(super) fn begin_content(
        &mut self,
        header: &Header,
        sparse: PaxSparse,
        stored: u64,
    ) -> Result<(), LayerError> {
        self.content = Content {
            position: 0,
            size: stored,
            stored,
            padding: padding_of(stored),
            map: None,
        };
        let (segments, size) = if header.entry_type() == b'S' {
            let size = header
                .gnu_real_size()
                .and_then(|size| u64::try_from(size).ok());
            (self.read_gnu_segments(header)?, size)
        } else {
            let format_1 = match (sparse.major, sparse.minor) {
                (None, None) | (Some(0), Some(0 | 1)) => false,
                (Some(1), Some(0)) => true,
                _ => {
                    let problem = EntryProblem::SparseMap("its format is unknown");
                    return Err(self.refuse(problem));
                }
            };
            match (sparse.map, format_1) {
                (None, false) if sparse.size.is_none() => return Ok(()),
                // One great hole.
                (None, false) => (SegmentList::default(), sparse.size),
                (Some(segments), false) => (segments, sparse.size),
                (None, true) => (self.read_stored_segments()?, sparse.size),
                (Some(_), true) => {
                    return Err(self.refuse(EntryProblem::Twice("maps of its holes")));
                }
            }
        };
        let no_size = EntryProblem::SparseMap("the size of the file is missing");
        let size = self.check_file_size(size.ok_or_else(|| self.refuse(no_size))?)?;
        let map = segments
            .into_map(size, self.content.stored)
            .map_err(|problem| self.refuse(problem))?;
        self.hole_bytes += map.hole_bytes();
        if self.hole_bytes > MAX_HOLE_BYTES {
            return Err(self.refuse(EntryProblem::TooLarge {
                what: "bytes of holes in a layer",
                limit: MAX_HOLE_BYTES,
            }));
        }
        self.content.size = size;
        self.content.map = Some(map);
        Ok(())
    }

    /// The map of a GNU sparse file: four pieces in the header, more in blocks behind it.
    fn read_gnu_segments(&mut self, header: &Header) -> Result<SegmentList, LayerError> {
        let mut segments = SegmentList::default();
        let mut continues = self.add_gnu_segments(&mut segments, &header.gnu_sparse())?;
        while continues {
            let block = self.read_block()?;
            continues = self.add_gnu_segments(&mut segments, &SparseTable::extension(&block))?;
        }
        Ok(segments)
    }

    fn add_gnu_segments(
        &self,
        segments: &mut SegmentList,
        table: &SparseTable<'_>,
    ) -> Result<bool, LayerError> {
        let no_number = || {
            self.refuse(EntryProblem::Number {
                field: "sparse map",
            })
        };
        let mut count = 0;
        for (offset, length) in table.segments() {
            let number = |number: Option<i128>| number.and_then(|n| u64::try_from(n).ok());
            segments
                .push(
                    number(offset).ok_or_else(no_number)?,
                    number(length).ok_or_else(no_number)?,
                )
                .map_err(|problem| self.refuse(problem))?;
            count += 1;
        }
        if count == 0 && table.continues {
            // Blocks without pieces could go on for ever.
            return Err(self.refuse(EntryProblem::SparseMap("a part of it is empty")));
        }
        Ok(table.continues)
    }

    /// The map of PAX sparse format 1.0: decimal numbers on lines, in blocks before the data.
    fn read_stored_segments(&mut self) -> Result<SegmentList, LayerError> {
        let mut lines = StoredLines {
            block: [0; BLOCK_BYTES],
            position: BLOCK_BYTES,
        };
        let mut segments = SegmentList::default();
        for _ in 0..lines.next_number(self)? {
            let offset = lines.next_number(self)?;
            let length = lines.next_number(self)?;
            segments
                .push(offset, length)
                .map_err(|problem| self.refuse(problem))?;
        }
        Ok(segments)
    }

    /// Reads on in the content, at most to the end of a hole or of a buffer.
    pub(super) fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let content = &mut self.content;
        let extent = match &mut content.map {
            None => Extent::Data(content.stored),
            Some(map) => map.extent(content.position),
        };
        let (Extent::Hole(length) | Extent::Data(length)) = extent;
        let length = length.min(content.size - content.position);
        let most = usize::try_from(length).map_or(buffer.len(), |most| buffer.len().min(most));
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let count = match extent {
            Extent::Hole(_) => {
                buffer.fill(0);
                buffer.len()
            }
            Extent::Data(_) => self.read_some(buffer)?,
        };
        self.content.position += count as u64;
        if let Extent::Data(_) = extent {
            self.content.stored -= count as u64;
        }
        Ok(count)
    }
}

/// Reads the lines of a map that is stored before the data of its file.
struct StoredLines {
    block: [u8; BLOCK_BYTES],
    position: usize,
}

impl StoredLines {
    fn next_number<B: ByteStream>(&mut self, tar: &mut TarStream<B>) -> Result<u64, LayerError> {
        let damaged = EntryProblem::SparseMap("a line of it is no number");
        let mut number: Option<u64> = None;
        loop {
            if self.position == BLOCK_BYTES {
                let left = tar.content.stored.checked_sub(BLOCK_BYTES as u64);
                let cut_off = EntryProblem::SparseMap("it does not end before the file does");
                tar.content.stored = left.ok_or_else(|| tar.refuse(cut_off))?;
                self.block = tar.read_block()?;
                self.position = 0;
            }
            let byte = self.block.get(self.position).copied().unwrap_or_default();
            self.position += 1;
            let digit = match (byte, number) {
                (b'\n', Some(number)) => return Ok(number),
                (b'0'..=b'9', _) => u64::from(byte - b'0'),
                _ => return Err(tar.refuse(damaged)),
            };
            number = number
                .unwrap_or_default()
                .checked_mul(10)
                .and_then(|number| number.checked_add(digit));
            if number.is_none() {
                return Err(tar.refuse(damaged));
            }
        }
    }
}

/// Bytes from the end of content of `size` bytes to the next block.
pub fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}
