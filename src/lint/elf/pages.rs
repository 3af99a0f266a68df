//! Reading single places of a file without asking for each of them alone, nor for too many.

use std::collections::VecDeque;

use super::{ElfError, Name};
use crate::lint::files::Content;
use crate::lint::reach::Reach;

const PAGE_BYTES: usize = 16 * 1024;
/// Pages that are kept.
const KEPT: usize = 8;
/// Pages that are read of one file: 16 MiB. What a loader reads of a large library is far less.
const MAX_READ: usize = 1024;
/// A longer name of a library or version is none (`NAME_MAX`).
const MAX_NAME_BYTES: usize = 255;
/// A page takes as long as so many steps.
const STEPS_OF_A_PAGE: usize = 16;
/// Memory for the names of one file; each takes some more than its bytes.
const MAX_NAMES_BYTES: usize = 256 * 1024;
const BYTES_BESIDE_A_NAME: usize = 64;

/// Content that is read in pages, the last few of which are kept.
pub(super) struct Pages<'c> {
    content: Box<dyn Content + 'c>,
    reach: &'c Reach,
    kept: VecDeque<(u64, Vec<u8>)>,
    left: usize,
    names_bytes: usize,
}

impl<'c> Pages<'c> {
    pub fn new(content: Box<dyn Content + 'c>, reach: &'c Reach) -> Pages<'c> {
        Pages {
            content,
            reach,
            kept: VecDeque::new(),
            left: MAX_READ,
            names_bytes: 0,
        }
    }

    /// Memory that the names take that were kept.
    pub fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// Keeps a name of the file.
    pub fn keep(&mut self, name: &[u8]) -> Result<Name, ElfError> {
        self.names_bytes += name.len() + BYTES_BESIDE_A_NAME;
        match self.names_bytes <= MAX_NAMES_BYTES {
            true => Ok(name.into()),
            false => Err(ElfError::Broken(
                "its names are longer than 256 KiB together",
            )),
        }
    }

    /// Reads a name up to a NUL, and keeps it.
    pub fn read_name(&mut self, offset: u64) -> Result<Name, ElfError> {
        let name = self.read_text(offset, MAX_NAME_BYTES)?;
        self.keep(&name)
    }

    /// Fills `buffer` from `offset`.
    pub fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<(), ElfError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let position = offset.checked_add(filled as u64);
            let rest = self.rest_of_page(position.ok_or(CUT_OFF)?)?;
            let length = rest.len().min(buffer.len() - filled);
            if length == 0 {
                return Err(CUT_OFF);
            }
            buffer[filled..filled + length].copy_from_slice(&rest[..length]);
            filled += length;
        }
        Ok(())
    }

    /// The bytes from `offset` to a NUL, which is not among them.
    pub fn read_text(&mut self, offset: u64, limit: usize) -> Result<Vec<u8>, ElfError> {
        let mut text = Vec::new();
        loop {
            let position = offset.checked_add(text.len() as u64).ok_or(CUT_OFF)?;
            let rest = self.rest_of_page(position)?;
            let end = rest.iter().position(|&byte| byte == 0);
            text.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            if text.len() > limit {
                return Err(ElfError::Broken("a name in it is too long"));
            }
            match (end, rest.is_empty()) {
                (Some(_), _) => return Ok(text),
                (None, true) => return Err(CUT_OFF),
                (None, false) => {}
            }
        }
    }

    fn rest_of_page(&mut self, offset: u64) -> Result<&[u8], ElfError> {
        let number = offset / PAGE_BYTES as u64;
        let into = usize::try_from(offset % PAGE_BYTES as u64).unwrap_or_default();
        let page = match self.kept.iter().position(|(kept, _)| *kept == number) {
            Some(index) => index,
            None => self.load(number)?,
        };
        let bytes = self.kept.get(page).map_or(&[][..], |(_, bytes)| bytes);
        Ok(bytes.get(into..).unwrap_or_default())
    }

    fn load(&mut self, number: u64) -> Result<usize, ElfError> {
        let tired = ElfError::Broken("its parts are scattered over too many places");
        self.left = self.left.checked_sub(1).ok_or(tired)?;
        self.reach.spend(STEPS_OF_A_PAGE)?;
        let mut page = match self.kept.len() >= KEPT {
            true => self.kept.pop_front().map(|(_, page)| page),
            false => None,
        }
        .unwrap_or_default();
        page.resize(PAGE_BYTES, 0);
        let start = number * PAGE_BYTES as u64;
        let length = self.content.read_at(&mut page, start)?;
        page.truncate(length);
        self.kept.push_back((number, page));
        Ok(self.kept.len() - 1)
    }
}

const CUT_OFF: ElfError = ElfError::Broken("it is cut off");
