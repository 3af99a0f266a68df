//! The entries of a directory.

use super::content::Data;
use super::{FileSystem, Inode, ReadError};
use crate::erofs::directory;
use crate::erofs::format::{FileType, Nid};
use crate::read_at::ReadAt;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// 1 to 255 bytes without slash and NUL, neither `.` nor `..`.
    pub name: Vec<u8>,
    /// The inode that it means.
    pub nid: Nid,
    /// The type of that inode as the directory has it.
    pub file_type: FileType,
}

/// The entries of a directory in byte order of their names, `.` and `..` left out.
///
/// They are read block by block. Names out of order or twice are an error, since the kernel would
/// find other files than this iterator. After an error there are no further entries.
#[derive(Debug)]
pub struct Entries<'fs, R> {
    file_system: &'fs FileSystem<R>,
    data: Data,
    /// Bytes of the directory that were read.
    position: u64,
    block: Vec<u8>,
    /// The next entry of the block, and how many it has.
    next: usize,
    count: usize,
    /// The name that was last returned.
    last: Vec<u8>,
}

impl<'fs, R: ReadAt> Entries<'fs, R> {
    pub(super) fn new(
        file_system: &'fs FileSystem<R>,
        directory: &Inode,
    ) -> Result<Entries<'fs, R>, ReadError> {
        directory.expect(FileType::Directory)?;
        if directory.size > file_system.image.size() {
            return Err(ReadError::Directory {
                nid: directory.nid,
                reason: "is larger than the file system",
            });
        }
        Ok(Entries {
            file_system,
            data: Data::open(file_system, directory)?,
            position: 0,
            block: Vec::new(),
            next: 0,
            count: 0,
            last: Vec::new(),
        })
    }

    /// The directory that is read.
    pub(super) fn directory(&self) -> &Inode {
        self.data.inode()
    }

    fn try_next(&mut self) -> Result<Option<DirEntry>, ReadError> {
        let Inode { nid, size, .. } = *self.directory();
        let refuse = |reason| ReadError::Directory { nid, reason };
        loop {
            if self.next == self.count {
                if self.position == size {
                    return Ok(None);
                }
                self.read_block()?;
                self.count = directory::count_entries(&self.block).map_err(refuse)?;
                self.next = 0;
            }
            let entry = directory::entry(&self.block, self.next, self.count).map_err(refuse)?;
            self.next += 1;
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            if entry.name <= &*self.last {
                return Err(refuse("has names that are not in order"));
            }
            self.last = entry.name.to_vec();
            return Ok(Some(DirEntry {
                name: entry.name.to_vec(),
                nid: entry.nid,
                file_type: entry.file_type,
            }));
        }
    }

    fn read_block(&mut self) -> Result<(), ReadError> {
        let rest = self.directory().size - self.position;
        let length = rest.min(self.file_system.superblock.block_size());
        // 64 KiB at most
        self.block.resize(usize::try_from(length).unwrap_or(0), 0);
        self.data
            .read(self.file_system, &mut self.block, self.position)?;
        self.position += length;
        Ok(())
    }
}

impl<R: ReadAt> Iterator for Entries<'_, R> {
    type Item = Result<DirEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.try_next();
        if entry.is_err() {
            self.position = self.directory().size;
            self.next = self.count;
        }
        entry.transpose()
    }
}
