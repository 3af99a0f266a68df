//! File trees in memory: made at random, written with the library, compared with what others read.

// each test that includes this module uses a part of it
#![allow(dead_code)]

pub mod fsck;
pub mod random;
mod seen;
#[path = "../support/unmount.rs"]
mod unmount;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use sysgraft::erofs::{
    ChunkSize, Compression, MemorySink, Options, Summary, TailPacking, WriteError, Writer,
};
use sysgraft::layer::Device;
use sysgraft::timestamp::Timestamp;
use sysgraft::tree::{Attributes, InodeSink, Leaf, LeafId, LeafKind, Node, Tree};

pub use seen::{Mounted, assert_seen, read, why_no_mount};

/// What a path of a [`Model`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
    Socket,
    /// Another name of an earlier path.
    Hardlink(Path),
}

/// Components, so that the order of paths is that of a walk.
pub type Path = Vec<Vec<u8>>;

/// Everything about one path, in a form that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub attributes: Attributes,
}

/// A tree by path, the root included; leaves are written in order of `leaves`.
#[derive(Clone, Debug)]
pub struct Model {
    pub entries: BTreeMap<Path, Entry>,
    pub order: Vec<Path>,
}

/// What is read of a path from a finished file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The content of files and the targets of links included; no hard links.
    pub entry: Entry,
    pub nlink: u64,
}

pub const EPOCH: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

pub fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        uid: 0,
        gid: 0,
        mtime: EPOCH,
        xattrs: Vec::new(),
    }
}

impl Model {
    pub fn new(root: Attributes) -> Model {
        let root = Entry {
            kind: Kind::Directory,
            attributes: root,
        };
        Model {
            entries: BTreeMap::from([(Vec::new(), root)]),
            order: Vec::new(),
        }
    }

    /// Adds a path unless there is one of the name; parents must exist.
    pub fn add(&mut self, path: Path, kind: Kind, attributes: Attributes) {
        if !self.entries.contains_key(&path) {
            self.order.push(path.clone());
            self.entries.insert(path, Entry { kind, attributes });
        }
    }

    /// Adds a path with components split at slashes.
    pub fn add_at(&mut self, path: &str, kind: Kind, attributes: Attributes) {
        let components = path.split('/').map(|name| name.as_bytes().to_vec());
        self.add(components.collect(), kind, attributes);
    }

    pub fn options() -> Options {
        Options {
            uuid: uuid::Uuid::from_bytes([7; 16]),
            epoch: Some(EPOCH),
            compression: Compression::None,
            chunk_size: ChunkSize::default(),
            tail_packing: TailPacking::None,
            jobs: NonZeroUsize::MIN,
        }
    }

    /// Writes the tree as a file system.
    pub fn write(&self) -> Result<(Vec<u8>, Summary), WriteError> {
        self.write_with(Model::options())
    }

    /// Writes the tree as a file system with certain options.
    pub fn write_with(&self, options: Options) -> Result<(Vec<u8>, Summary), WriteError> {
        let mut writer = Writer::new(MemorySink::new(), options)?;
        let mut tree = Tree::new(self.entries[&Vec::new()].attributes.clone());
        let mut directories = HashMap::from([(Vec::new(), Tree::ROOT)]);
        let mut leaves: HashMap<Path, (LeafId, LeafKind)> = HashMap::new();
        for path in &self.order {
            let Entry { kind, attributes } = &self.entries[path];
            let (name, parent) = path.split_last().expect("only the root has no name");
            let parent = directories[parent];
            let mut content;
            let (leaf, kind) = match kind {
                Kind::Directory => {
                    let id = tree.add_directory(parent, name, attributes.clone());
                    directories.insert(path.clone(), id);
                    continue;
                }
                Kind::Hardlink(target) => {
                    let (id, kind) = leaves[target];
                    let children = &mut tree.directory_mut(parent).children;
                    children.insert(name.clone().into(), Node::Leaf(id, kind));
                    continue;
                }
                Kind::File(bytes) => {
                    let size = bytes.len() as u64;
                    content = &bytes[..];
                    let content = &mut content;
                    (Leaf::File { size, content }, LeafKind::File)
                }
                Kind::Symlink(target) => (Leaf::Symlink { target }, LeafKind::Symlink),
                Kind::CharDevice(device) => (Leaf::CharDevice(*device), LeafKind::CharDevice),
                Kind::BlockDevice(device) => (Leaf::BlockDevice(*device), LeafKind::BlockDevice),
                Kind::Fifo => (Leaf::Fifo, LeafKind::Fifo),
                Kind::Socket => (Leaf::Socket, LeafKind::Socket),
            };
            let id = writer.add(attributes, leaf)?;
            leaves.insert(path.clone(), (id, kind));
            let children = &mut tree.directory_mut(parent).children;
            children.insert(name.clone().into(), Node::Leaf(id, kind));
        }
        let (sink, summary) = writer.finish(&tree)?;
        let image = sink.into_bytes();
        assert_eq!(image.len() as u64, summary.blocks * 4096);
        Ok((image, summary))
    }

    /// What must be read of every path.
    pub fn expected(&self) -> BTreeMap<Path, Seen> {
        let mut names = HashMap::new();
        let mut subdirectories = HashMap::new();
        for (path, entry) in &self.entries {
            *names.entry(self.original(path)).or_insert(0) += 1;
            if let (Kind::Directory, Some((_, parent))) = (&entry.kind, path.split_last()) {
                *subdirectories.entry(parent.to_vec()).or_insert(0) += 1;
            }
        }
        let seen = |path: &Path| {
            let original = self.original(path);
            let entry = self.entries[original].clone();
            let nlink = match entry.kind {
                Kind::Directory => 2 + subdirectories.get(path).copied().unwrap_or(0),
                _ => names[original],
            };
            (path.clone(), Seen { entry, nlink })
        };
        self.entries.keys().map(seen).collect()
    }

    /// The path itself, or that of which it is another name.
    fn original<'a>(&'a self, path: &'a Path) -> &'a Path {
        match &self.entries[path].kind {
            Kind::Hardlink(target) => target,
            _ => path,
        }
    }
}

/// Bytes that differ from block to block and from file to file.
pub fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Bytes that compress to about a third, however long.
pub fn text(seed: u64, size: usize) -> Vec<u8> {
    let mut words = content(seed, size / 8 + 8);
    words.truncate(size / 8 + 1);
    words
        .iter()
        .flat_map(|word| format!("{word:03} abc ").into_bytes())
        .take(size)
        .collect()
}

/// Parts that compress and parts that do not.
pub fn mixed(seed: u64, size: usize) -> Vec<u8> {
    let parts = (0_u64..).flat_map(|part| {
        let size = 3000 + 9001 * (part as usize % 7);
        match part % 3 {
            0 => text(seed + part, size),
            1 => content(seed + part, 5 * size),
            _ => vec![0; 2 * size],
        }
    });
    parts.take(size).collect()
}
