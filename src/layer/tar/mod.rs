//! A streaming reader of tar archives in all dialects that container layers come in.
//!
//! The layouts are those of V7, ustar, GNU and PAX. Where readers of the world disagree, this one
//! sides with Go's `archive/tar`, which the container engines use (links, directories and devices
//! have no content whatever their size says), or refuses the archive (names given twice, unknown
//! types). An archive ends at two zero blocks, or where its bytes end between two entries; only the
//! former tells that it is complete where no digest does.

mod content;
mod header;
mod pax;
mod sparse;

use std::mem;

use content::{Content, padding_of};
use header::{BLOCK_BYTES, Dialect, Header, until_nul};
use pax::{Pax, PaxSparse};

use super::error::shortened;
use super::{
    Device, Entry, EntryKind, EntryPath, EntryProblem, EntryStream, LayerError, MAX_ENTRIES,
};
use crate::timestamp::Timestamp;

/// Extended headers and long names are refused beyond this.
const MAX_EXTENDED_BYTES: u64 = 1024 * 1024;
/// A symbolic link must fit `PATH_MAX` with its NUL (`include/uapi/linux/limits.h`).
const MAX_SYMLINK_BYTES: usize = 4095;

/// An uncompressed archive, lent out buffer by buffer.
pub trait ByteStream: Send {
    /// What comes next; empty only at the end.
    ///
    /// # Errors
    /// See [`LayerError`].
    fn peek(&mut self) -> Result<&[u8], LayerError>;

    /// Goes on by `count` bytes, at most as many as the last [`peek`](ByteStream::peek) showed.
    fn consume(&mut self, count: usize);

    /// Reads to the end and says whether all was as expected.
    ///
    /// # Errors
    /// See [`LayerError`].
    fn finish(&mut self) -> Result<(), LayerError>;
}

impl ByteStream for &[u8] {
    fn peek(&mut self) -> Result<&[u8], LayerError> {
        Ok(self)
    }

    fn consume(&mut self, count: usize) {
        *self = self.get(count..).unwrap_or_default();
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        *self = &[];
        Ok(())
    }
}

/// Reads the entries of a tar archive.
pub struct TarStream<B> {
    bytes: B,
    /// Bytes of the archive consumed.
    offset: u64,
    /// Entries so far.
    entries: u64,
    /// Bytes of holes so far.
    hole_bytes: u64,
    /// Name of the last entry as stored, for messages.
    name: Vec<u8>,
    /// Content of the last entry.
    content: Content,
    /// What global headers said so far.
    global: Pax,
    ended: bool,
    /// Whether the archive is cut off where it has no zero blocks at its end.
    end_mark_needed: bool,
    /// Whether content that makes no sense is read to the end, for the digest.
    reads_on: bool,
    /// After an error, nothing of the layer counts any more.
    failed: bool,
}

/// What stood before the header of an entry.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<B: ByteStream> TarStream<B> {
    /// A reader of the archive `bytes`.
    pub fn new(bytes: B) -> TarStream<B> {
        TarStream {
            bytes,
            offset: 0,
            entries: 0,
            hole_bytes: 0,
            name: Vec::new(),
            content: Content::default(),
            global: Pax::default(),
            ended: false,
            end_mark_needed: false,
            reads_on: false,
            failed: false,
        }
    }

    /// Refuses an archive that has no zero blocks at its end: where no digest is known, a lost rest
    /// could not be told from a short archive.
    #[must_use]
    pub fn with_end_mark(self) -> TarStream<B> {
        TarStream {
            end_mark_needed: true,
            ..self
        }
    }

    /// Reads content that makes no sense to its end, and rather says so if its digest is wrong.
    #[must_use]
    pub fn reading_on(self) -> TarStream<B> {
        TarStream {
            reads_on: true,
            ..self
        }
    }

    fn refuse(&self, problem: EntryProblem) -> LayerError {
        LayerError::entry(&self.name, problem)
    }

    fn truncated(&self) -> LayerError {
        LayerError::Truncated {
            entry: shortened(&self.name),
            offset: self.offset,
        }
    }

    fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
        self.offset += count as u64;
    }

    /// Reads on, at most to the end of one buffer; never 0 for a `buffer` that is not empty.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let bytes = self.bytes.peek()?;
        let count = bytes.len().min(buffer.len());
        if count == 0 && !buffer.is_empty() {
            return Err(self.truncated());
        }
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), LayerError> {
        while !buffer.is_empty() {
            let count = self.read_some(buffer)?;
            buffer = buffer.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            let available = self.bytes.peek()?.len();
            if available == 0 {
                return Err(self.truncated());
            }
            let step = usize::try_from(count).map_or(available, |count| available.min(count));
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Goes on to the next header. The last padding may be missing: umoci leaves it out, and Go's reader
    /// takes that for the end; whether all is there is for the digest to say.
    fn skip_padding(&mut self, count: u64) -> Result<(), LayerError> {
        let end = self.offset + count;
        while self.offset < end {
            let available = self.bytes.peek()?.len();
            if available == 0 && !self.end_mark_needed {
                return Ok(());
            }
            self.skip((end - self.offset).min(available.max(1) as u64))?;
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK_BYTES], LayerError> {
        let mut block = [0; BLOCK_BYTES];
        self.read_exact(&mut block)?;
        Ok(block)
    }

    /// The next header, or `None` at the end of the archive.
    fn read_header(&mut self) -> Result<Option<Header>, LayerError> {
        if self.bytes.peek()?.is_empty() {
            if self.end_mark_needed {
                return Err(self.truncated());
            }
            return Ok(None);
        }
        let offset = self.offset;
        let header = Header::new(self.read_block()?);
        if header.is_zero() {
            // A second zero block must follow, unless the archive ends already.
            if !self.bytes.peek()?.is_empty() && !Header::new(self.read_block()?).is_zero() {
                return Err(LayerError::LoneZeroBlock { offset });
            }
            return Ok(None);
        }
        if !header.has_valid_checksum() {
            return Err(LayerError::NoHeader { offset });
        }
        Ok(Some(header))
    }

    /// The content of an extended header.
    fn read_extended(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        self.name = header.name();
        let size = header
            .size()
            .and_then(|size| u64::try_from(size).ok())
            .ok_or_else(|| self.refuse(EntryProblem::Number { field: "size" }))?;
        let too_large = EntryProblem::TooLarge {
            what: "bytes of an extended header",
            limit: MAX_EXTENDED_BYTES,
        };
        let length = usize::try_from(size)
            .ok()
            .filter(|_| size <= MAX_EXTENDED_BYTES)
            .ok_or_else(|| self.refuse(too_large))?;
        let mut content = vec![0; length];
        self.read_exact(&mut content)?;
        self.skip(padding_of(size))?;
        Ok(content)
    }

    /// Names the entry of an extended header that is refused; its own name says nothing to people.
    fn name_next_header(&mut self) {
        if let Ok(Some(header)) = self.read_header() {
            self.name = header.name();
        }
    }

    fn read_global(&mut self, header: &Header) -> Result<(), LayerError> {
        let records = self.read_extended(header)?;
        let pax = Pax::parse(&records).map_err(|problem| self.refuse(problem))?;
        if let Some(key) = pax.not_for_all() {
            return Err(self.refuse(EntryProblem::GlobalHeader(key)));
        }
        self.global.mtime = pax.mtime.or(self.global.mtime);
        self.global.uid = pax.uid.or(self.global.uid);
        self.global.gid = pax.gid.or(self.global.gid);
        Ok(())
    }

    /// The entry to which all of this belongs.
    fn entry(&mut self, header: &Header, extended: Extended) -> Result<Entry, LayerError> {
        let mut pax = extended.pax.unwrap_or_default();
        let sparse = mem::take(&mut pax.sparse);
        let name = one_of(extended.long_name, pax.path.take())
            .ok_or_else(|| self.refuse(EntryProblem::Twice("names")))?;
        self.name = match &sparse.name {
            Some(name) => name.clone(),
            None => name.unwrap_or_else(|| header.name()),
        };
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.refuse(EntryProblem::TooLarge {
                what: "entries of a layer",
                limit: MAX_ENTRIES,
            }));
        }
        let link = one_of(extended.long_link, pax.link_path.take())
            .ok_or_else(|| self.refuse(EntryProblem::Twice("link targets")))?;
        let link = link.unwrap_or_else(|| header.link_name().to_vec());
        let path = EntryPath::from_archive(&self.name)
            .map_err(|problem| self.refuse(EntryProblem::Path(problem)))?;
        let kind = self.kind(header, &pax, sparse, link)?;
        if path.is_root() && kind != EntryKind::Directory {
            return Err(self.refuse(EntryProblem::RootNoDirectory));
        }
        self.describe(header, pax, path, kind)
            .map_err(|problem| self.refuse(problem))
    }

    fn describe(
        &self,
        header: &Header,
        mut pax: Pax,
        path: EntryPath,
        kind: EntryKind,
    ) -> Result<Entry, EntryProblem> {
        let owner = |own: Option<u32>, global: Option<u32>, stored: Option<i128>, field| {
            own.or(global)
                .or_else(|| stored.and_then(|id| u32::try_from(id).ok()))
                .ok_or(EntryProblem::Number { field })
        };
        let stored_mtime = || {
            let seconds = header.mtime().and_then(|mtime| i64::try_from(mtime).ok());
            seconds.map(Timestamp::from_seconds)
        };
        Ok(Entry {
            path,
            kind,
            // Some programs store the file type in the upper bits.
            mode: header
                .mode()
                .and_then(|mode| u16::try_from(mode & 0o7777).ok())
                .ok_or(EntryProblem::Number { field: "mode" })?,
            uid: owner(pax.uid, self.global.uid, header.uid(), "uid")?,
            gid: owner(pax.gid, self.global.gid, header.gid(), "gid")?,
            mtime: pax
                .mtime
                .or(self.global.mtime)
                .or_else(stored_mtime)
                .ok_or(EntryProblem::Number { field: "mtime" })?,
            xattrs: pax.take_xattrs(),
        })
    }

    /// What the entry is; for files, this sets up the content too.
    fn kind(
        &mut self,
        header: &Header,
        pax: &Pax,
        sparse: PaxSparse,
        link: Vec<u8>,
    ) -> Result<EntryKind, LayerError> {
        match header.entry_type() {
            b'S' if header.dialect() != Dialect::Gnu => {
                Err(self.refuse(EntryProblem::UnknownType(b'S')))
            }
            entry_type @ (0 | b'0' | b'7' | b'S') => {
                let stored = self.stored_size(header, pax)?;
                let before_posix = entry_type == 0 || header.dialect() == Dialect::V7;
                if before_posix && self.name.ends_with(b"/") {
                    return match stored {
                        0 => Ok(EntryKind::Directory),
                        _ => Err(self.refuse(EntryProblem::DirectoryContent)),
                    };
                }
                self.begin_content(header, sparse, stored)?;
                Ok(EntryKind::File {
                    size: self.content.size,
                })
            }
            b'1' => EntryPath::from_archive(&link)
                .map(|target| EntryKind::Hardlink { target })
                .map_err(|problem| self.refuse(EntryProblem::LinkTarget(problem))),
            b'2' if link.is_empty() || link.len() > MAX_SYMLINK_BYTES || link.contains(&0) => {
                Err(self.refuse(EntryProblem::SymlinkTarget))
            }
            b'2' => Ok(EntryKind::Symlink { target: link }),
            b'3' => Ok(EntryKind::CharDevice(self.device(header)?)),
            b'4' => Ok(EntryKind::BlockDevice(self.device(header)?)),
            b'5' => Ok(EntryKind::Directory),
            b'6' => Ok(EntryKind::Fifo),
            other => Err(self.refuse(EntryProblem::UnknownType(other))),
        }
    }

    fn device(&self, header: &Header) -> Result<Device, LayerError> {
        let number = |stored: Option<i128>, bits: u32, field| {
            stored
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| number >> bits == 0)
                .ok_or_else(|| self.refuse(EntryProblem::Number { field }))
        };
        Ok(Device {
            major: number(header.device_major(), 12, "major device number")?,
            minor: number(header.device_minor(), 20, "minor device number")?,
        })
    }
}

fn set_once<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), EntryProblem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(EntryProblem::Twice(what)),
    }
}

/// Whichever is there; `None` if both are.
fn one_of(a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
    match (a, b) {
        (Some(_), Some(_)) => None,
        (a, b) => Some(a.or(b)),
    }
}

impl<B: ByteStream> TarStream<B> {
    fn advance(&mut self) -> Result<Option<Entry>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        let content = mem::take(&mut self.content);
        self.skip(content.stored)?;
        self.skip_padding(content.padding)?;
        let mut extended = Extended::default();
        while let Some(header) = self.read_header()? {
            let set = match header.entry_type() {
                b'g' => {
                    self.read_global(&header)?;
                    Ok(())
                }
                b'x' => {
                    let records = self.read_extended(&header)?;
                    let pax = Pax::parse(&records).inspect_err(|_| self.name_next_header());
                    pax.and_then(|pax| set_once(&mut extended.pax, pax, "extended headers"))
                }
                b'L' => {
                    let name = until_nul(&self.read_extended(&header)?).to_vec();
                    set_once(&mut extended.long_name, name, "long names")
                }
                b'K' => {
                    let link = until_nul(&self.read_extended(&header)?).to_vec();
                    set_once(&mut extended.long_link, link, "long link targets")
                }
                _ => return self.entry(&header, extended).map(Some),
            };
            set.map_err(|problem| self.refuse(problem))?;
        }
        let announced =
            extended.pax.is_some() || extended.long_name.is_some() || extended.long_link.is_some();
        if announced {
            return Err(self.truncated());
        }
        self.ended = true;
        Ok(None)
    }

    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut TarStream<B>) -> Result<T, LayerError>,
    ) -> Result<T, LayerError> {
        if self.failed {
            return Err(LayerError::GivenUp);
        }
        let result = step(self);
        self.failed = result.is_err();
        match result {
            Err(error) if self.reads_on && error.is_of_content() => {
                let whole = self.bytes.finish();
                Err(whole.err().filter(LayerError::is_digest).unwrap_or(error))
            }
            result => result,
        }
    }
}

impl<B: ByteStream> EntryStream for TarStream<B> {
    fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.guarded(TarStream::advance)
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        self.guarded(|stream| stream.read_on(buffer))
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        self.ended = true;
        self.guarded(|stream| stream.bytes.finish())
    }
}

#[cfg(test)]
mod tests;
