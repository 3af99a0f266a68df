//! Whether two files hold the same.

use std::collections::HashMap;

use crate::erofs::{Content, FileSystem, Nid, ReadError};
use crate::inspection::FileFacts;
use crate::read_at::FileWindow;

use super::CompareError;

/// Bytes that are compared at once.
const BUFFER_SIZE: usize = 256 << 10;
/// All that 2^32 blocks of 4 KiB could hold, the most that a file system has. Holes could claim more.
const MAX_BYTES: u64 = 1 << 44;

/// The contents of two file systems, to be compared with each other.
pub struct Contents<'a> {
    a: &'a FileSystem<FileWindow>,
    b: &'a FileSystem<FileWindow>,
    /// What is known of files with several names: whether those two differ.
    linked: HashMap<(Nid, Nid), bool>,
    buffers: [Vec<u8>; 2],
}

impl<'a> Contents<'a> {
    pub fn new(a: &'a FileSystem<FileWindow>, b: &'a FileSystem<FileWindow>) -> Contents<'a> {
        Contents {
            a,
            b,
            linked: HashMap::new(),
            buffers: [vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]],
        }
    }

    /// Whether the contents of two regular files differ.
    pub fn differ(&mut self, a: &FileFacts, b: &FileFacts) -> Result<bool, CompareError> {
        if a.size != b.size {
            return Ok(true);
        }
        if b.size > MAX_BYTES {
            return Err(CompareError::TooLarge {
                path: b.path.clone(),
                bytes: b.size,
            });
        }
        let both = (a.inode.nid, b.inode.nid);
        if let Some(&differ) = self.linked.get(&both) {
            return Ok(differ);
        }
        let differ = self.read_both(a, b).map_err(|source| CompareError::File {
            path: b.path.clone(),
            source,
        })?;
        if b.inode.nlink > 1 {
            self.linked.insert(both, differ);
        }
        Ok(differ)
    }

    /// Whether the extended attributes of two files differ.
    pub fn attributes_differ(&self, a: &FileFacts, b: &FileFacts) -> Result<bool, CompareError> {
        let differ = || Ok(self.a.xattrs(&a.inode)? != self.b.xattrs(&b.inode)?);
        differ().map_err(|source| CompareError::File {
            path: b.path.clone(),
            source,
        })
    }

    /// Both have the same size.
    fn read_both(&mut self, a: &FileFacts, b: &FileFacts) -> Result<bool, ReadError> {
        let mut was: Content<'_, FileWindow> = self.a.content(&a.inode)?;
        let mut is: Content<'_, FileWindow> = self.b.content(&b.inode)?;
        let [from_a, from_b] = &mut self.buffers;
        let mut offset = 0;
        while offset < b.size {
            let read = was.read_at(from_a, offset)?;
            is.read_at(&mut from_b[..read], offset)?;
            if from_a[..read] != from_b[..read] {
                return Ok(true);
            }
            offset += read as u64;
        }
        Ok(false)
    }
}
