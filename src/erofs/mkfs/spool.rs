//! Leaves that wait for their names, their content in a temporary file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use super::MkfsError;
use super::tar_stream::{MemberKind, xattr_records};
use crate::erofs::WriteError;
use crate::erofs::inode::encode_device;
use crate::erofs::xattr::SharedXattrs;
use crate::layer::{Device, Xattr};
use crate::printable::printable;
use crate::timestamp::Timestamp;
use crate::tree::{Attributes, Leaf, LeafId};

/// Bytes that are copied at once.
const BUFFER_BYTES: usize = 128 << 10;
/// The longest target of a symbolic link: `PATH_MAX` less the NUL
/// (`include/uapi/linux/limits.h`).
const MAX_TARGET_BYTES: usize = 4095;

/// All leaves that were added. The file holds of each the records of its extended attributes, the
/// target if it is a link, the content if it is a file.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    /// Bytes in the file.
    position: u64,
    leaves: Vec<SpooledLeaf>,
    buffer: Box<[u8]>,
}

/// What is known of a leaf apart from its names.
#[derive(Debug)]
pub(super) struct SpooledLeaf {
    pub kind: MemberKind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    /// Bytes of content.
    pub size: u64,
    /// Where its part of the file starts.
    offset: u64,
    xattr_bytes: usize,
    target_bytes: usize,
}

impl Spool {
    /// A spool in an empty file.
    pub fn new(file: File) -> Spool {
        Spool {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            position: 0,
            leaves: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into(),
        }
    }

    /// Adds a leaf with all of its content.
    pub fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, MkfsError> {
        let number = u32::try_from(self.leaves.len()).map_err(|_| WriteError::TooManyInodes)?;
        check_attributes(attributes)?;
        let xattrs = xattr_records(&attributes.xattrs);
        let mut spooled = SpooledLeaf {
            kind: kind_of(&leaf)?,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            size: 0,
            offset: self.position,
            xattr_bytes: xattrs.len(),
            target_bytes: 0,
        };
        self.append(&xattrs)?;
        match leaf {
            Leaf::Symlink { target } => {
                self.append(target)?;
                spooled.target_bytes = target.len();
            }
            Leaf::File { size, content } => {
                self.copy(size, content)?;
                spooled.size = size;
            }
            _ => {}
        }
        self.leaves.push(spooled);
        Ok(LeafId(number))
    }

    /// Makes everything readable.
    pub fn flush(&mut self) -> Result<(), MkfsError> {
        self.file.flush().map_err(MkfsError::Spool)
    }

    /// Frees the room that content takes on disk; it cannot be read any more.
    pub fn clear(&mut self) -> Result<(), MkfsError> {
        self.file.get_ref().set_len(0).map_err(MkfsError::Spool)
    }

    /// How many leaves were added.
    pub fn count(&self) -> usize {
        self.leaves.len()
    }

    /// When the leaves were modified.
    pub fn mtimes(&self) -> impl Iterator<Item = Timestamp> {
        self.leaves.iter().map(|leaf| leaf.mtime)
    }

    /// A leaf that was added.
    pub fn leaf(&self, LeafId(id): LeafId) -> Result<&SpooledLeaf, WriteError> {
        let leaf = self.leaves.get(id as usize);
        leaf.ok_or(WriteError::UnknownLeaf { id })
    }

    /// The records of a leaf's extended attributes, and its target.
    pub fn records_and_target(&self, leaf: &SpooledLeaf) -> Result<(Vec<u8>, Vec<u8>), MkfsError> {
        let mut records = vec![0; leaf.xattr_bytes + leaf.target_bytes];
        self.read(&mut records, leaf.offset)?;
        let target = records.split_off(leaf.xattr_bytes);
        Ok((records, target))
    }

    /// Gives `take` the content of a leaf, piece by piece.
    pub fn content<E: From<MkfsError>>(
        &self,
        leaf: &SpooledLeaf,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = leaf.offset + (leaf.xattr_bytes + leaf.target_bytes) as u64;
        let mut buffer =
            vec![0; BUFFER_BYTES.min(usize::try_from(leaf.size).unwrap_or(usize::MAX))];
        let mut done = 0;
        while done < leaf.size {
            let rest = usize::try_from(leaf.size - done).unwrap_or(usize::MAX);
            let length = rest.min(buffer.len());
            let piece = &mut buffer[..length];
            self.read(piece, start + done)?;
            take(piece)?;
            done += length as u64;
        }
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), MkfsError> {
        let file = self.file.get_ref();
        file.read_exact_at(buffer, offset).map_err(MkfsError::Spool)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), MkfsError> {
        self.file.write_all(bytes).map_err(MkfsError::Spool)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Appends content, of which there must be `size` bytes.
    fn copy(&mut self, size: u64, content: &mut dyn Read) -> Result<(), MkfsError> {
        let mut missing = size;
        loop {
            let read = match content.read(&mut self.buffer) {
                Ok(read) => read.min(self.buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(WriteError::Content(error).into()),
            };
            if read == 0 {
                break;
            }
            missing =
                (missing.checked_sub(read as u64)).ok_or(WriteError::ContentTooLong { size })?;
            let written = self.file.write_all(&self.buffer[..read]);
            written.map_err(MkfsError::Spool)?;
            self.position += read as u64;
        }
        match missing {
            0 => Ok(()),
            missing => Err(WriteError::ContentTooShort { size, missing }.into()),
        }
    }
}

/// Passes for what EROFS can store and archives for mkfs.erofs can carry.
pub(super) fn check_attributes(attributes: &Attributes) -> Result<(), MkfsError> {
    // mkfs.erofs leaves out what it cannot store; the writer of this library refuses it.
    SharedXattrs::default().encode(&attributes.xattrs)?;
    let has_equals_sign = |xattr: &&Xattr| xattr.name.contains(&b'=');
    if let Some(xattr) = attributes.xattrs.iter().find(has_equals_sign) {
        return Err(MkfsError::XattrName {
            name: printable(&xattr.name),
        });
    }
    let Timestamp {
        seconds,
        nanoseconds,
    } = attributes.mtime;
    if seconds < 0 && nanoseconds != 0 {
        return Err(MkfsError::EarlyTime);
    }
    Ok(())
}

/// What a leaf is in an archive.
fn kind_of(leaf: &Leaf<'_>) -> Result<MemberKind, MkfsError> {
    Ok(match *leaf {
        Leaf::File { .. } => MemberKind::File,
        Leaf::Symlink { target } => {
            let bytes = target.len();
            if !(1..=MAX_TARGET_BYTES).contains(&bytes) || target.contains(&0) {
                return Err(WriteError::Target { bytes }.into());
            }
            MemberKind::Symlink
        }
        Leaf::CharDevice(device) => MemberKind::CharDevice(check_device(device)?),
        Leaf::BlockDevice(device) => MemberKind::BlockDevice(check_device(device)?),
        Leaf::Fifo => MemberKind::Fifo,
        Leaf::Socket => return Err(MkfsError::Socket),
    })
}

fn check_device(device: Device) -> Result<Device, WriteError> {
    let Device { major, minor } = device;
    match encode_device(device) {
        Some(_) => Ok(device),
        None => Err(WriteError::Device { major, minor }),
    }
}
