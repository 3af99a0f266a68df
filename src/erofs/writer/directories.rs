//! Writing what is only known at the end: directories, link counts, the superblock.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::{Summary, WriteError, Writer};
use crate::erofs::directory::{self, Dirent};
use crate::erofs::format::{FileType, MAX_NAME_BYTES, NULL_BLOCK, Nid, SLOT_SIZE};
use crate::erofs::inode::{DiskInode, Layout};
use crate::erofs::packing::Slot;
use crate::erofs::superblock::{self, CompressionSettings, Superblock};
use crate::erofs::xattr::Body;
use crate::erofs::{BLOCK_SIZE, Block, BlockSink};
use crate::printable::printable;
use crate::timestamp::Timestamp;
use crate::tree::{Directory, DirectoryId, Node, Tree};

/// The place of the root's inode and of all that lies behind it: the rest of block 0.
#[derive(Clone, Copy)]
struct RootPlace {
    /// Bytes from the start of the block.
    offset: usize,
}

impl RootPlace {
    /// The first slot behind the superblock and the settings of the compression.
    fn behind(compression: Option<CompressionSettings>) -> RootPlace {
        let settings = compression.map_or(0, |_| superblock::MAX_SETTINGS_SIZE);
        let offset = superblock::OFFSET + superblock::SIZE + settings;
        RootPlace {
            offset: offset.next_multiple_of(SLOT_SIZE),
        }
    }

    /// The root's number, which fits the 16 bits that the superblock has for it.
    fn nid(self) -> Nid {
        Nid((self.offset / SLOT_SIZE) as u64)
    }

    /// The most bytes that may lie there.
    fn room(self) -> usize {
        BLOCK_SIZE - self.offset
    }
}

/// A directory that has its place.
struct Planned<'t> {
    directory: &'t Directory,
    /// Position of the parent; the root is its own.
    parent: usize,
    /// Where the inode lies in the batch of directories; the root's lies in block 0.
    slot: Option<Slot>,
    /// Bytes between the start of the inode and the last part of the content, if that lies there.
    end_offset: Option<usize>,
}

/// All directories that can be reached from the root, which is the first.
struct Plan<'t> {
    directories: Vec<Planned<'t>>,
    /// Position among `directories` by number.
    positions: Vec<Option<usize>>,
    root_place: RootPlace,
    /// What goes there.
    root: Vec<u8>,
    /// The first block of the inodes.
    inodes_block: u64,
}

impl Plan<'_> {
    /// The number of the directory at a position.
    fn nid(&self, position: usize) -> Nid {
        match self.directories[position].slot {
            Some(slot) => slot.nid(self.inodes_block),
            None => self.root_place.nid(),
        }
    }
}

impl<S: BlockSink> Writer<S> {
    /// Writes everything that remains once the leaves are written.
    pub(super) fn write_directories(&mut self, tree: &Tree) -> Result<Summary, WriteError> {
        let epoch = self.epoch_or(tree.directory(Tree::ROOT).attributes.mtime);
        let compression = self.compression_settings();
        let mut plan = self.plan(tree, epoch, RootPlace::behind(compression))?;
        let links = self.write_contents(&mut plan)?;
        let inodes = self.batch.bytes();
        self.sink.append(inodes).map_err(WriteError::Sink)?;
        self.set_link_counts(&links)?;

        let xattr_block = self.next_block()?;
        let shared = std::mem::take(&mut self.xattrs);
        self.append_padded(shared.area())?;
        let blocks = self.next_block()?;
        let leaves = links.iter().filter(|&&links| links > 0).count();
        let inodes = (plan.directories.len() + leaves) as u64;
        let mut superblock = Superblock {
            block_size_bits: 12,
            root: plan.root_place.nid(),
            inodes,
            epoch,
            blocks,
            meta_block: 0,
            xattr_block,
            uuid: self.uuid,
            volume_name: Vec::new(),
            algorithms: Vec::new(),
            packed: None,
            incompat: 0,
        };
        if let Some(settings) = compression {
            superblock.declare(settings);
        }
        let mut finish = |block: &mut Block| {
            block[plan.root_place.offset..][..plan.root.len()].copy_from_slice(&plan.root);
            superblock.encode(compression, block);
        };
        self.sink.patch(0, &mut finish).map_err(WriteError::Sink)?;
        Ok(Summary {
            blocks: blocks.into(),
            inodes,
            content_bytes: self.content_bytes,
            stored_bytes: self.stored_bytes,
        })
    }

    /// Gives every directory its place, and encodes the inodes.
    fn plan<'t>(
        &mut self,
        tree: &'t Tree,
        epoch: Timestamp,
        root_place: RootPlace,
    ) -> Result<Plan<'t>, WriteError> {
        let mut plan = Plan {
            root_place,
            directories: Vec::new(),
            positions: vec![None; tree.directory_count()],
            root: Vec::new(),
            inodes_block: self.next_block()?.into(),
        };
        plan.visit(tree, Tree::ROOT, 0, b"/")?;
        let mut position = 0;
        while let Some(planned) = plan.directories.get(position) {
            let directory = planned.directory;
            let mut subdirectories = 0;
            for (name, node) in &directory.children {
                check_name(name)?;
                if let Node::Directory(id) = node {
                    plan.visit(tree, *id, position, name)?;
                    subdirectories += 1;
                }
            }
            let size = directory::size_of(entries(directory).map(|(name, _)| name.len()));
            let inode = self.directory_inode(directory, position, size, subdirectories)?;
            self.place_directory(&mut plan, position, inode, epoch)?;
            position += 1;
        }
        u32::try_from(plan.inodes_block).map_err(|_| WriteError::TooLarge)?;
        Ok(plan)
    }

    /// The inode of a directory, but for where its attributes and content lie.
    fn directory_inode(
        &self,
        directory: &Directory,
        position: usize,
        size: u64,
        subdirectories: u32,
    ) -> Result<DiskInode, WriteError> {
        let attributes = &directory.attributes;
        let ino = u32::try_from(position).ok();
        let ino = ino.and_then(|position| self.added.checked_add(position));
        Ok(DiskInode {
            layout: Layout::FlatPlain,
            xattr_count: 0,
            mode: attributes.mode & 0o7777 | FileType::Directory.mode_bits(),
            nlink: subdirectories + 2,
            size,
            data: NULL_BLOCK,
            ino: ino.ok_or(WriteError::TooManyInodes)?,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
        })
    }

    /// Decides where a directory's blocks, inode and attributes lie, and encodes the latter two.
    fn place_directory(
        &mut self,
        plan: &mut Plan<'_>,
        position: usize,
        mut inode: DiskInode,
        epoch: Timestamp,
    ) -> Result<(), WriteError> {
        let planned = &mut plan.directories[position];
        let is_root = position == 0;
        let inode_size = inode.encoded_size(epoch);
        let wanted = &planned.directory.attributes.xattrs;
        let (xattrs, room) = if is_root {
            let room = plan.root_place.room();
            (self.xattrs.encode_within(wanted, room - inode_size)?, room)
        } else {
            (self.xattrs.encode(wanted)?, BLOCK_SIZE)
        };
        inode.xattr_count = xattrs.count;
        let block = BLOCK_SIZE as u64;
        #[allow(clippy::cast_possible_truncation)] // less than a block
        let end = (inode.size % block) as usize;
        let end_offset = inode_size + xattrs.bytes.len();
        let mut blocks = inode.size / block;
        let mut size = end_offset;
        if end > 0 && end_offset + end <= room {
            inode.layout = Layout::FlatInline;
            planned.end_offset = Some(end_offset);
            size += end;
        } else if end > 0 {
            blocks += 1;
        }
        if blocks > 0 {
            inode.data = u32::try_from(plan.inodes_block).map_err(|_| WriteError::TooLarge)?;
        }
        plan.inodes_block += blocks;
        if is_root {
            plan.root = vec![0; size];
            encode_inode(&inode, &xattrs, epoch, &mut plan.root);
        } else {
            let slot = self.batch.reserve(size);
            planned.slot = Some(slot);
            encode_inode(&inode, &xattrs, epoch, self.batch.bytes_at(slot));
        }
        Ok(())
    }

    /// Writes the blocks of all directories, puts their ends behind their inodes, and counts the
    /// names of each leaf.
    fn write_contents(&mut self, plan: &mut Plan<'_>) -> Result<Vec<u32>, WriteError> {
        let mut links = vec![0_u32; self.leaves.len()];
        for position in 0..plan.directories.len() {
            let planned = &plan.directories[position];
            let (slot, end_offset) = (planned.slot, planned.end_offset);
            let mut encoder = directory::Encoder::default();
            for (name, meaning) in entries(planned.directory) {
                let (nid, file_type) = match meaning {
                    Meaning::Itself => (plan.nid(position), FileType::Directory),
                    Meaning::Parent => (plan.nid(planned.parent), FileType::Directory),
                    Meaning::Child(Node::Directory(id)) => {
                        // every child was visited while planning
                        let child = plan.positions[id.index()].unwrap_or_default();
                        (plan.nid(child), FileType::Directory)
                    }
                    Meaning::Child(&Node::Leaf(id, kind)) => {
                        let nid = self.leaf_nid(id)?;
                        links[id.0 as usize] += 1;
                        (nid, kind.into())
                    }
                };
                let dirent = Dirent {
                    name,
                    nid,
                    file_type,
                };
                if let Some(block) = encoder.add(dirent) {
                    self.append_padded(&block)?;
                }
            }
            let end = encoder.finish();
            match (slot, end_offset) {
                (_, None) => self.append_padded(&end)?,
                (Some(slot), Some(offset)) => {
                    self.batch.bytes_at(slot)[offset..][..end.len()].copy_from_slice(&end);
                }
                (None, Some(offset)) => {
                    plan.root[offset..][..end.len()].copy_from_slice(&end);
                }
            }
        }
        Ok(links)
    }

    /// Corrects the inodes of all leaves that have more names than the one with which they were
    /// written, each block once.
    fn set_link_counts(&mut self, links: &[u32]) -> Result<(), WriteError> {
        let mut by_block: BTreeMap<u64, Vec<(usize, u32)>> = BTreeMap::new();
        for (&nid, &links) in self
            .leaves
            .iter()
            .zip(links)
            .filter(|(_, links)| **links > 1)
        {
            let (block, offset) = Nid(nid).position();
            by_block.entry(block).or_default().push((offset, links));
        }
        for (block, inodes) in by_block {
            let mut too_many = None;
            let mut set = |block: &mut Block| {
                for &(offset, links) in &inodes {
                    if !DiskInode::set_nlink(&mut block[offset..], links) {
                        too_many = Some(WriteError::TooManyLinks { links });
                    }
                }
            };
            self.sink.patch(block, &mut set).map_err(WriteError::Sink)?;
            if let Some(error) = too_many {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl<'t> Plan<'t> {
    /// Appends a directory whose parent is at a position.
    fn visit(
        &mut self,
        tree: &'t Tree,
        id: DirectoryId,
        parent: usize,
        name: &[u8],
    ) -> Result<(), WriteError> {
        if self.positions[id.index()].is_some() {
            return Err(WriteError::DirectoryTwice {
                name: printable(name),
            });
        }
        self.positions[id.index()] = Some(self.directories.len());
        self.directories.push(Planned {
            directory: tree.directory(id),
            parent,
            slot: None,
            end_offset: None,
        });
        Ok(())
    }
}

/// What a name in a directory stands for.
#[derive(Clone, Copy)]
enum Meaning<'t> {
    Itself,
    Parent,
    Child(&'t Node),
}

/// All names of a directory in byte order, `.` and `..` at their places among them.
fn entries(directory: &Directory) -> impl Iterator<Item = (&[u8], Meaning<'_>)> {
    const DOT: &[u8] = b".";
    const DOT_DOT: &[u8] = b"..";
    let range = |from, to| {
        let children = directory.children.range::<[u8], _>((from, to));
        children.map(|(name, node)| (&**name, Meaning::Child(node)))
    };
    range(Unbounded, Excluded(DOT))
        .chain([(DOT, Meaning::Itself)])
        .chain(range(Excluded(DOT), Excluded(DOT_DOT)))
        .chain([(DOT_DOT, Meaning::Parent)])
        .chain(range(Excluded(DOT_DOT), Unbounded))
}

fn check_name(name: &[u8]) -> Result<(), WriteError> {
    let length = 1..=MAX_NAME_BYTES;
    let special = name == b"." || name == b"..";
    if !length.contains(&name.len()) || name.contains(&b'/') || name.contains(&0) || special {
        return Err(WriteError::Name {
            name: printable(name),
        });
    }
    Ok(())
}

/// Encodes an inode and its attributes at the start of `bytes`.
fn encode_inode(inode: &DiskInode, xattrs: &Body, epoch: Timestamp, bytes: &mut [u8]) {
    let size = inode.encoded_size(epoch);
    inode.encode(epoch, bytes);
    bytes[size..size + xattrs.bytes.len()].copy_from_slice(&xattrs.bytes);
}
