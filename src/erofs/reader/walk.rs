//! Visiting all that a file system holds.

use std::collections::HashSet;

use super::{Entries, FileSystem, Inode, ReadError};
use crate::erofs::format::{FileType, Nid};
use crate::read_at::ReadAt;

/// The longest path that is followed: `PATH_MAX` less the NUL (`include/uapi/linux/limits.h`). It
/// bounds the depth.
const MAX_PATH_BYTES: usize = 4095;

impl<R: ReadAt> FileSystem<R> {
    /// Calls `visit` with the path and inode of the root and of all below it: a directory before its
    /// content, that in byte order of the names. Paths have no leading slash; the root's is empty.
    /// A file with several names comes as often; [`Inode::nid`] tells.
    ///
    /// # Errors
    /// Whatever `visit` gives, and those of [`FileSystem::read_dir`] and [`FileSystem::inode`]. A
    /// directory in several places is an error, as are more directories than the image has room for.
    pub fn walk<E: From<ReadError>>(
        &self,
        mut visit: impl FnMut(&[u8], &Inode) -> Result<(), E>,
    ) -> Result<(), E> {
        let root = self.root()?;
        let mut visited = Visited {
            directories: HashSet::new(),
            bytes_left: self.image.size(),
        };
        visited.enter(&root)?;
        visit(b"", &root)?;
        let mut path = Vec::new();
        let mut open = vec![(self.read_dir(&root)?, 0)];
        while let Some((entries, parent_length)) = open.last_mut() {
            path.truncate(*parent_length);
            let Some(entry) = entries.next().transpose()? else {
                open.pop();
                continue;
            };
            let refuse = refuser(entries);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            if path.len() > MAX_PATH_BYTES {
                return Err(
                    refuse("is nested too deeply: a path is longer than 4095 bytes").into(),
                );
            }
            let inode = self.inode(entry.nid)?;
            if inode.file_type != entry.file_type {
                return Err(refuse("has an entry of another type than its inode").into());
            }
            let is_directory = inode.file_type == FileType::Directory;
            if is_directory {
                visited.enter(&inode)?;
            }
            visit(&path, &inode)?;
            if is_directory {
                open.push((self.read_dir(&inode)?, path.len()));
            }
        }
        Ok(())
    }
}

/// Makes errors about the directory of `entries`.
fn refuser<R: ReadAt>(entries: &Entries<'_, R>) -> impl Fn(&'static str) -> ReadError + use<R> {
    let nid = entries.directory().nid;
    move |reason| ReadError::Directory { nid, reason }
}

/// Makes sure that a walk ends: every directory has one place, and as each has bytes of its own,
/// together they cannot have more than the image.
struct Visited {
    directories: HashSet<Nid>,
    bytes_left: u64,
}

impl Visited {
    fn enter(&mut self, directory: &Inode) -> Result<(), ReadError> {
        let refuse = |reason| ReadError::Directory {
            nid: directory.nid,
            reason,
        };
        if !self.directories.insert(directory.nid) {
            return Err(refuse("has several places in the tree"));
        }
        self.bytes_left = self
            .bytes_left
            .checked_sub(directory.size)
            .ok_or_else(|| refuse("shares its entries with other directories"))?;
        Ok(())
    }
}
