//! Constants that several on-disk structures share, and access to their little-endian fields.
//!
//! Names in capitals in the comments are those of `fs/erofs/erofs_fs.h` in Linux 6.12.

use std::fmt;

use crate::tree::LeafKind;

/// Inodes lie on slots of this many bytes, by which they are numbered; `sizeof(struct
/// erofs_inode_compact)`.
pub(super) const SLOT_SIZE: usize = 32;
/// Longest file name in bytes; `EROFS_NAME_LEN`.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// Address of a block that there is none of: a hole, or the data of a file that has no blocks;
/// `EROFS_NULL_ADDR`.
pub(super) const NULL_BLOCK: u32 = u32::MAX;

/// The number of an inode: its distance in slots of 32 bytes from the start of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nid(pub u64);

impl fmt::Display for Nid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

/// The bits of `i_mode` that hold the type; `S_IFMT` of `include/uapi/linux/stat.h`.
const TYPE_MASK: u16 = 0o170_000;

impl FileType {
    const ALL: [FileType; 7] = [
        FileType::File,
        FileType::Directory,
        FileType::CharDevice,
        FileType::BlockDevice,
        FileType::Fifo,
        FileType::Socket,
        FileType::Symlink,
    ];

    /// The type bits of `i_mode`; `include/uapi/linux/stat.h`.
    pub(super) fn mode_bits(self) -> u16 {
        match self {
            FileType::File => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::CharDevice => 0o020_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Fifo => 0o010_000,
            FileType::Socket => 0o140_000,
            FileType::Symlink => 0o120_000,
        }
    }

    /// The type that `i_mode` tells.
    pub(super) fn from_mode(mode: u16) -> Option<FileType> {
        FileType::ALL
            .into_iter()
            .find(|kind| kind.mode_bits() == mode & TYPE_MASK)
    }

    /// The `file_type` of directory entries; `FT_*` of `include/linux/fs_types.h`.
    pub(super) fn dirent_code(self) -> u8 {
        match self {
            FileType::File => 1,
            FileType::Directory => 2,
            FileType::CharDevice => 3,
            FileType::BlockDevice => 4,
            FileType::Fifo => 5,
            FileType::Socket => 6,
            FileType::Symlink => 7,
        }
    }

    /// The type that the `file_type` of a directory entry tells.
    pub(super) fn from_dirent_code(code: u8) -> Option<FileType> {
        FileType::ALL
            .into_iter()
            .find(|kind| kind.dirent_code() == code)
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileType::File => "regular file",
            FileType::Directory => "directory",
            FileType::CharDevice => "character device",
            FileType::BlockDevice => "block device",
            FileType::Fifo => "named pipe",
            FileType::Socket => "socket",
            FileType::Symlink => "symbolic link",
        })
    }
}

impl From<LeafKind> for FileType {
    fn from(kind: LeafKind) -> FileType {
        match kind {
            LeafKind::File => FileType::File,
            LeafKind::Symlink => FileType::Symlink,
            LeafKind::CharDevice => FileType::CharDevice,
            LeafKind::BlockDevice => FileType::BlockDevice,
            LeafKind::Fifo => FileType::Fifo,
            LeafKind::Socket => FileType::Socket,
        }
    }
}

/// The `N` bytes of a structure at `offset`, which must lie inside it.
pub(super) fn field<const N: usize>(structure: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&structure[offset..offset + N]);
    field
}

/// Writes a field of a structure at `offset`; both must lie inside it.
pub(super) fn set_field<const N: usize>(structure: &mut [u8], offset: usize, field: [u8; N]) {
    structure[offset..offset + N].copy_from_slice(&field);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip_through_modes_and_entries() {
        for kind in FileType::ALL {
            assert_eq!(FileType::from_mode(kind.mode_bits() | 0o7777), Some(kind));
            assert_eq!(FileType::from_dirent_code(kind.dirent_code()), Some(kind));
        }
        assert_eq!(FileType::from_mode(0o7777), None);
        assert_eq!(FileType::from_dirent_code(0), None);
    }
}
