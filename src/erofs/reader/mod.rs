//! Reading a file system, whoever made it.
//!
//! Nothing in the image is trusted: whatever it says, reading ends, takes bounded memory and never
//! panics.

mod compressed;
mod content;
mod entries;
mod error;
mod walk;

use super::format::{FileType, Nid, SLOT_SIZE, field};
use super::inode::{DiskInode, EXTENDED_SIZE, Layout, decode_device};
use super::superblock::{self, Superblock};
use super::xattr;
use crate::layer::{Device, Xattr};
use crate::read_at::ReadAt;
use crate::timestamp::Timestamp;

use content::Data;

pub use content::Content;
pub use entries::{DirEntry, Entries};
pub use error::ReadError;

/// The longest target of a symbolic link that is read: `PATH_MAX` (`include/uapi/linux/limits.h`).
const MAX_TARGET_BYTES: u64 = 4096;

/// A file system in `R`.
#[derive(Debug)]
pub struct FileSystem<R> {
    image: R,
    superblock: Superblock,
}

/// What is known of a file or directory apart from its names and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub nid: Nid,
    /// What it is.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// How many names it has, by its own account.
    pub nlink: u32,
    /// Bytes of the content.
    pub size: u64,
    /// Which device it is, if it is one.
    pub device: Option<Device>,
    /// How its content is stored.
    pub layout: Layout,
    /// First block or chunk format, as the layout calls for.
    data: u32,
    /// Where its extended attributes start, in bytes from the start of the file system.
    xattr_offset: u64,
    /// Bytes of extended attributes.
    xattr_size: usize,
}

impl Inode {
    /// Where lies what follows the extended attributes, in bytes from the start of the file system.
    fn behind_xattrs(&self) -> u64 {
        self.xattr_offset + self.xattr_size as u64
    }

    /// Passes if the inode is of a type.
    fn expect(&self, expected: FileType) -> Result<(), ReadError> {
        if self.file_type == expected {
            return Ok(());
        }
        Err(ReadError::WrongType {
            nid: self.nid,
            expected,
            actual: self.file_type,
        })
    }
}

impl<R: ReadAt> FileSystem<R> {
    /// Opens the file system that starts at the first byte of `image`. If its superblock has a
    /// checksum, it must be right.
    ///
    /// # Errors
    /// [`ReadError::Superblock`] for what is no EROFS or has unknown features,
    /// [`ReadError::CutOff`], [`ReadError::Image`].
    pub fn open(image: R) -> Result<FileSystem<R>, ReadError> {
        let mut bytes = [0; superblock::SIZE];
        read_at(&image, &mut bytes, superblock::OFFSET as u64)?;
        let rest = (superblock::OFFSET + superblock::SIZE) as u64;
        let superblock = Superblock::decode(&bytes, |size| {
            let mut rest_of_block = vec![0; size];
            read_at(&image, &mut rest_of_block, rest)?;
            Ok::<_, ReadError>(rest_of_block)
        })?;
        let expected = u64::from(superblock.blocks) * superblock.block_size();
        let actual = image.size();
        if expected > actual {
            return Err(ReadError::CutOff { expected, actual });
        }
        Ok(FileSystem { image, superblock })
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The root directory.
    ///
    /// # Errors
    /// As [`FileSystem::inode`], and [`ReadError::WrongType`].
    pub fn root(&self) -> Result<Inode, ReadError> {
        let root = self.inode(self.superblock.root)?;
        root.expect(FileType::Directory)?;
        Ok(root)
    }

    /// The inode of a number.
    ///
    /// # Errors
    /// [`ReadError::Inode`] and [`ReadError::Image`].
    pub fn inode(&self, nid: Nid) -> Result<Inode, ReadError> {
        let refuse = |reason| ReadError::Inode { nid, reason };
        let offset = nid
            .0
            .checked_mul(SLOT_SIZE as u64)
            .and_then(|offset| offset.checked_add(self.block_offset(self.superblock.meta_block)))
            .filter(|&offset| offset < self.image.size())
            .ok_or_else(|| refuse("lies outside the file system"))?;
        let mut bytes = [0; EXTENDED_SIZE];
        let (start, rest) = bytes.split_at_mut(SLOT_SIZE);
        self.read(start, offset)?;
        let start = &field(start, 0);
        let size = DiskInode::size_of_encoded(start).map_err(refuse)?;
        self.read(&mut rest[..size - SLOT_SIZE], offset + SLOT_SIZE as u64)?;
        let disk = DiskInode::decode(&bytes, self.superblock.epoch).map_err(refuse)?;
        let file_type =
            FileType::from_mode(disk.mode).ok_or_else(|| refuse("is of unknown type"))?;
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Inode {
            nid,
            file_type,
            mode: disk.mode & 0o7777,
            uid: disk.uid,
            gid: disk.gid,
            mtime: disk.mtime,
            nlink: disk.nlink,
            size: disk.size,
            device: is_device.then(|| decode_device(disk.data)),
            layout: disk.layout,
            data: disk.data,
            xattr_offset: offset + size as u64,
            xattr_size: xattr::body_size(disk.xattr_count),
        })
    }

    /// The names in a directory.
    ///
    /// # Errors
    /// [`ReadError::WrongType`] if it is none, [`ReadError::Directory`] if it claims to be larger
    /// than the image.
    pub fn read_dir<'fs>(&'fs self, directory: &Inode) -> Result<Entries<'fs, R>, ReadError> {
        Entries::new(self, directory)
    }

    /// The inode of a path, or `None` if there is none. Slashes at the start, at the end and doubled
    /// ones do not count; symbolic links are not followed; `.` and `..` are never found.
    ///
    /// # Errors
    /// Those of [`FileSystem::read_dir`] and [`FileSystem::inode`].
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut inode = self.root()?;
        for name in path.split(|&byte| byte == b'/').filter(|n| !n.is_empty()) {
            if inode.file_type != FileType::Directory {
                return Ok(None);
            }
            let mut entries = self.read_dir(&inode)?;
            let found = entries.find(|entry| match entry {
                Ok(entry) => entry.name == name,
                Err(_) => true,
            });
            match found {
                Some(entry) => inode = self.inode(entry?.nid)?,
                None => return Ok(None),
            }
        }
        Ok(Some(inode))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`ReadError::WrongType`] if it is none, [`ReadError::Inode`] if it is empty or longer than
    /// 4096 bytes, and those of reading content.
    pub fn read_link(&self, link: &Inode) -> Result<Vec<u8>, ReadError> {
        link.expect(FileType::Symlink)?;
        let refuse = |reason| ReadError::Inode {
            nid: link.nid,
            reason,
        };
        if !(1..=MAX_TARGET_BYTES).contains(&link.size) {
            return Err(refuse("is a symbolic link without a sensible target"));
        }
        let size = usize::try_from(link.size).unwrap_or(usize::MAX);
        let mut target = vec![0; size];
        Data::open(self, link)?.read(self, &mut target, 0)?;
        Ok(target)
    }

    /// The content of a regular file.
    ///
    /// # Errors
    /// [`ReadError::WrongType`] if it is none, [`ReadError::Compressed`] if it cannot be read.
    pub fn content<'fs>(&'fs self, file: &Inode) -> Result<Content<'fs, R>, ReadError> {
        Content::new(self, file)
    }

    /// The extended attributes of an inode, sorted by name, each name once.
    ///
    /// # Errors
    /// [`ReadError::Xattrs`] and [`ReadError::Image`].
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, ReadError> {
        if inode.xattr_size == 0 {
            return Ok(Vec::new());
        }
        let refuse = |reason| ReadError::Xattrs {
            nid: inode.nid,
            reason,
        };
        let mut body = vec![0; inode.xattr_size];
        self.read(&mut body, inode.xattr_offset)?;
        let (shared, mut xattrs) = xattr::decode_body(&body).map_err(refuse)?;
        let mut total = body.len();
        for id in shared {
            let offset = self.block_offset(self.superblock.xattr_block)
                + u64::from(id) * xattr::ENTRY_SIZE as u64;
            let mut header = [0; xattr::ENTRY_SIZE];
            self.read(&mut header, offset)?;
            let header = xattr::EntryHeader::decode(header).map_err(refuse)?;
            total += header.content_size();
            if total > xattr::MAX_TOTAL_BYTES {
                return Err(refuse("take more than 1 MiB"));
            }
            let mut content = vec![0; header.content_size()];
            self.read(&mut content, offset + xattr::ENTRY_SIZE as u64)?;
            xattrs.push(header.attribute(&content));
        }
        // the kernel finds the first of a name, and an inode's own before those it shares
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        xattrs.dedup_by(|later, first| later.name == first.name);
        Ok(xattrs)
    }

    /// Bytes from the start of the file system to a block.
    fn block_offset(&self, block: u32) -> u64 {
        u64::from(block) * self.superblock.block_size()
    }

    /// Fills `buffer` from a place in the file system.
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        read_at(&self.image, buffer, offset)
    }
}

fn read_at(image: &impl ReadAt, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
    image
        .read_exact_at(buffer, offset)
        .map_err(|source| ReadError::Image { offset, source })
}
