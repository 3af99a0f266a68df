//! The file tree of an extension: which entries of the layers belong into it, and where.
//!
//! Directories stay in memory; everything else goes to an [`InodeSink`] as it streams by, and the
//! tree only keeps its number.

mod builder;
mod census;
mod error;
mod filter;
mod links;
mod merge;
mod moving;
mod owner;
mod reading;
mod remap;
mod report;
mod selection;
mod whiteout;

pub use builder::TreeBuilder;
pub use census::Census;
pub use error::TreeError;
pub use filter::{InvalidGlob, PathGlob};
pub use links::MissingTarget;
pub use owner::{InvalidOwner, Owner};
pub use reading::{ReadLayersError, ReadProgress, open_entries, read_layers};
pub use remap::{InvalidRemap, Remap};
pub use report::{Dropped, DroppedEntries, Kept, PathList, Report, UnusedRule};
pub use selection::{Cause, ContentRules, Selection};
pub(crate) use whiteout::{Meaning, Whiteout, Whiteouts, meaning};

use std::collections::BTreeMap;
use std::io::Read;

use crate::layer::{Device, Xattr};
use crate::timestamp::Timestamp;

/// What is known of a file or directory apart from its name and content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name, each name once.
    pub xattrs: Vec<Xattr>,
}

/// Anything but a directory, on its way into the file system.
pub enum Leaf<'a> {
    /// A regular file; `content` yields exactly `size` bytes.
    File {
        /// Bytes.
        size: u64,
        /// The content, from its start.
        content: &'a mut dyn Read,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link, 1 to 4095 bytes.
        target: &'a [u8],
    },
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The number that an [`InodeSink`] gave to a leaf: 0 for the first, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeafId(pub u32);

/// Takes the leaves of a tree in the order in which they arrive, before their names are final.
pub trait InodeSink {
    /// Why a leaf could not be taken.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes one leaf with all of its content.
    ///
    /// # Errors
    /// What reading the content or writing it gives.
    fn add(&mut self, attributes: &Attributes, leaf: Leaf<'_>) -> Result<LeafId, Self::Error>;
}

/// A finished tree: node 0 is the root directory.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Directory>,
}

/// The number of a directory in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryId(u32);

/// A directory and what its names mean.
#[derive(Debug)]
pub struct Directory {
    /// Mode, owner, times.
    pub attributes: Attributes,
    /// What lies in it, by name, in byte order.
    pub children: BTreeMap<Box<[u8]>, Node>,
}

/// What a name in a directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory of the same tree.
    Directory(DirectoryId),
    /// A leaf; several names may mean the same one (hard links).
    Leaf(LeafId, LeafKind),
}

/// The type of a leaf, as directory entries record it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Tree {
    /// The number of the root directory.
    pub const ROOT: DirectoryId = DirectoryId(0);

    /// A tree of nothing but a root directory.
    pub fn new(root: Attributes) -> Tree {
        Tree {
            nodes: vec![Directory {
                attributes: root,
                children: BTreeMap::new(),
            }],
        }
    }

    /// How many directories there are, the root included. Their numbers have no gaps.
    pub fn directory_count(&self) -> usize {
        self.nodes.len()
    }

    /// All directories with their numbers, the root first.
    pub fn directories(&self) -> impl Iterator<Item = (DirectoryId, &Directory)> {
        (0..).map(DirectoryId).zip(&self.nodes)
    }

    /// The directory `id`.
    ///
    /// # Panics
    /// If `id` is of another tree.
    pub fn directory(&self, id: DirectoryId) -> &Directory {
        &self.nodes[id.0 as usize]
    }

    /// The directory `id`, to be changed.
    ///
    /// # Panics
    /// If `id` is of another tree.
    pub fn directory_mut(&mut self, id: DirectoryId) -> &mut Directory {
        &mut self.nodes[id.0 as usize]
    }

    /// Adds an empty directory `name` to `parent`, in the place of whatever had the name.
    ///
    /// # Panics
    /// If `parent` is of another tree, or at 2³² directories.
    pub fn add_directory(
        &mut self,
        parent: DirectoryId,
        name: &[u8],
        attributes: Attributes,
    ) -> DirectoryId {
        let id = self.push(attributes);
        self.directory_mut(parent)
            .children
            .insert(name.into(), Node::Directory(id));
        id
    }

    /// Adds an empty directory that has no name yet.
    fn push(&mut self, attributes: Attributes) -> DirectoryId {
        #[allow(clippy::expect_used)] // each takes more memory than there is
        let id = DirectoryId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 directories"));
        self.nodes.push(Directory {
            attributes,
            children: BTreeMap::new(),
        });
        id
    }
}

impl DirectoryId {
    /// Position among [`Tree::directories`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
