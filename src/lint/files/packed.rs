//! Files in an EROFS file system.

use std::collections::BTreeMap;

use super::{Content, Files, FilesError, MAX_PATHS_BYTES};
use crate::erofs::{self, FileSystem, FileType, Inode, ReadError};
use crate::layer::{Device, Entry, EntryKind, EntryPath, MAX_ENTRIES};
use crate::read_at::ReadAt;

/// The tree of a file system. Names and inodes are read once and stay in memory.
pub struct Packed<R> {
    file_system: FileSystem<R>,
    inodes: BTreeMap<EntryPath, Inode>,
}

impl<R: ReadAt> Packed<R> {
    /// Reads the names of the file system that starts at the first byte of `image`.
    ///
    /// # Errors
    /// [`FilesError::FileSystem`], [`FilesError::Path`] and [`FilesError::TooMany`].
    pub fn open(image: R) -> Result<Packed<R>, FilesError> {
        let file_system = FileSystem::open(image)?;
        let mut inodes = BTreeMap::new();
        let mut left = MAX_PATHS_BYTES;
        file_system.walk(|path, inode| {
            if inodes.len() as u64 >= MAX_ENTRIES {
                return Err(FilesError::TooMany { limit: MAX_ENTRIES });
            }
            // Nested folders make long paths of short names.
            left = left.checked_sub(path.len()).ok_or(FilesError::TooLarge {
                limit: MAX_PATHS_BYTES,
            })?;
            inodes.insert(EntryPath::from_archive(path)?, inode.clone());
            Ok(())
        })?;
        Ok(Packed {
            file_system,
            inodes,
        })
    }

    fn kind(&self, inode: &Inode) -> Result<EntryKind, ReadError> {
        let device = inode.device.unwrap_or(Device { major: 0, minor: 0 });
        Ok(match inode.file_type {
            FileType::File => EntryKind::File { size: inode.size },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink {
                target: self.file_system.read_link(inode)?,
            },
            FileType::CharDevice => EntryKind::CharDevice(device),
            FileType::BlockDevice => EntryKind::BlockDevice(device),
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
        })
    }
}

impl<R: ReadAt> Files for Packed<R> {
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError> {
        let Some(inode) = self.inodes.get(path) else {
            return Ok(None);
        };
        let failed = failing_at(path);
        Ok(Some(Entry {
            path: path.clone(),
            kind: self.kind(inode).map_err(&failed)?,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            xattrs: self.file_system.xattrs(inode).map_err(&failed)?,
        }))
    }

    fn names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        let Some(inode) = self.inodes.get(path) else {
            return Ok(Vec::new());
        };
        if inode.file_type != FileType::Directory {
            return Ok(Vec::new());
        }
        let failed = failing_at(path);
        let mut names = Vec::new();
        for entry in self.file_system.read_dir(inode).map_err(&failed)? {
            names.push(entry.map_err(&failed)?.name);
        }
        Ok(names)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError> {
        let inode = self.inodes.get(path);
        let inode = inode.ok_or_else(|| FilesError::Missing { path: path.clone() })?;
        let content = self.file_system.content(inode);
        Ok(Box::new(OpenFile {
            path: path.clone(),
            content: content.map_err(failing_at(path))?,
        }))
    }
}

struct OpenFile<'fs, R> {
    path: EntryPath,
    content: erofs::Content<'fs, R>,
}

impl<R: ReadAt> Content for OpenFile<'_, R> {
    fn size(&self) -> u64 {
        self.content.size()
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> Result<usize, FilesError> {
        let read = self.content.read_at(buffer, offset);
        read.map_err(failing_at(&self.path))
    }
}

fn failing_at(path: &EntryPath) -> impl Fn(ReadError) -> FilesError + use<'_> {
    |source| FilesError::Packed {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use uuid::Uuid;

    use super::*;
    use crate::erofs::{ChunkSize, Compression, MemorySink, Options, TailPacking, Writer};
    use crate::timestamp::Timestamp;
    use crate::tree::{Attributes, Tree};

    /// An image of empty folders in a folder that is nested deeply.
    fn nested(folders: usize) -> Vec<u8> {
        let attributes = || Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(0),
            xattrs: Vec::new(),
        };
        let mut tree = Tree::new(attributes());
        let mut within = Tree::ROOT;
        for _ in 0..15 {
            within = tree.add_directory(within, &[b'd'; 250], attributes());
        }
        for number in 0..folders {
            tree.add_directory(within, number.to_string().as_bytes(), attributes());
        }
        let options = Options {
            uuid: Uuid::nil(),
            epoch: None,
            compression: Compression::None,
            chunk_size: ChunkSize::default(),
            tail_packing: TailPacking::None,
            jobs: NonZeroUsize::MIN,
        };
        let writer = Writer::new(MemorySink::new(), options).unwrap();
        writer.finish(&tree).unwrap().0.into_bytes()
    }

    #[test]
    fn paths_of_a_small_image_take_bounded_memory() {
        let (some, many) = (nested(100), nested(400));
        assert!(Packed::open(&some[..]).is_ok());
        let refused = Packed::open(&many[..]).err();
        assert!(matches!(refused, Some(FilesError::TooLarge { .. })));
    }
}
