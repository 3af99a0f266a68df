//! The file system that mkfs.erofs made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{MkfsError, MkfsProgram};
use crate::erofs::format::{Nid, SLOT_SIZE};
use crate::erofs::inode::{DiskInode, EXTENDED_SIZE};
use crate::erofs::superblock::renew_checksum;
use crate::erofs::{BLOCK_SIZE, BlockSink, FileSystem, Superblock};
use crate::read_at::FileWindow;
use crate::timestamp::Timestamp;

/// Reads what the superblock in `file` says, if it can be of a file system with `inodes` inodes.
pub(super) fn check(
    program: &MkfsProgram,
    file: &File,
    inodes: u64,
) -> Result<Superblock, MkfsError> {
    let size = file.metadata().map_err(MkfsError::Image)?.len();
    let window = FileWindow::new(file.try_clone().map_err(MkfsError::Image)?, 0, size);
    let file_system = FileSystem::open(window).map_err(|source| MkfsError::NoFileSystem {
        program: program.path().to_path_buf(),
        source,
    })?;
    let superblock = file_system.superblock();
    let differs = |what, expected, actual| MkfsError::WrongFileSystem {
        program: program.path().to_path_buf(),
        what,
        expected,
        actual,
    };
    if superblock.block_size() != BLOCK_SIZE as u64 {
        let actual = superblock.block_size();
        return Err(differs("other blocks", BLOCK_SIZE as u64, actual));
    }
    // One more holds fragments, and options can make hard links files of their own.
    if superblock.inodes < inodes {
        return Err(differs("too few inodes", inodes, superblock.inodes));
    }
    program.check_size(size_of(superblock))?;
    Ok(superblock.clone())
}

/// Sets the time of the inode that holds fragments, which nobody sees, but which makes every file
/// system another one: before 1.8.7 mkfs.erofs leaves the present time there.
pub(super) fn set_packed_time(
    file: &File,
    superblock: &Superblock,
    time: Timestamp,
) -> io::Result<()> {
    let Some(Nid(nid)) = superblock.packed else {
        return Ok(());
    };
    let start = u64::from(superblock.meta_block) * BLOCK_SIZE as u64;
    let offset = start.saturating_add(nid.saturating_mul(SLOT_SIZE as u64));
    let mut inode = [0; EXTENDED_SIZE];
    file.read_exact_at(&mut inode, offset)?;
    DiskInode::set_mtime(&mut inode, time);
    file.write_all_at(&inode, offset)?;
    if offset < BLOCK_SIZE as u64 {
        let mut block = [0; BLOCK_SIZE];
        file.read_exact_at(&mut block, 0)?;
        renew_checksum(&mut block);
        file.write_all_at(&block, 0)?;
    }
    Ok(())
}

/// Copies the file system into `sink`.
pub(super) fn copy(
    file: &File,
    superblock: &Superblock,
    sink: &mut impl BlockSink,
) -> io::Result<()> {
    let (mut position, size) = (0, size_of(superblock));
    while position < size {
        let space = sink.space()?;
        let rest = usize::try_from(size - position).unwrap_or(usize::MAX);
        let length = space.len().min(rest);
        file.read_exact_at(&mut space[..length], position)?;
        sink.advance(length);
        position += length as u64;
    }
    Ok(())
}

fn size_of(superblock: &Superblock) -> u64 {
    u64::from(superblock.blocks) * superblock.block_size()
}
