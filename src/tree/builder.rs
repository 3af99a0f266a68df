//! Layers become a tree.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use super::links::WaitingLinks;
use super::merge::{Layer, MergedTree, Name, NoDirectory, Room};
use super::whiteout::{Meaning, Whiteouts, meaning};
use super::{
    Attributes, Cause, InodeSink, Leaf, LeafId, LeafKind, Node, Report, Selection, Tree, TreeError,
};
use crate::layer::{Entry, EntryKind, EntryPath, EntryStream, LayerError, Xattr};
use crate::timestamp::Timestamp;

/// Builds the tree of an extension from layers, the top one first.
///
/// Within a layer the last entry of a name wins, as it does when a container engine unpacks it; an
/// upper layer wins over lower ones, and its whiteouts hide what they have. The content of files
/// goes to the sink as it streams by; only names stay in memory.
pub struct TreeBuilder<S> {
    selection: Selection,
    sink: S,
    tree: MergedTree,
    whiteouts: Whiteouts,
    links: WaitingLinks,
    layer: Layer,
    /// What of the present layer was left out for not being a file: hard links to it are, too.
    no_files: BTreeMap<EntryPath, Cause>,
    /// Bytes of every leaf, by its number.
    sizes: Vec<u64>,
    /// Leaves that act on the host with more rights than their caller's.
    privileges: HashMap<LeafId, Privileges>,
    first_mtime: Option<Timestamp>,
    /// Whether anything was kept below the top directories.
    any: bool,
    /// Bytes that names and directories may still take.
    memory_left: u64,
    report: Report,
}

#[derive(Clone, Copy, Debug)]
struct Privileges {
    setuid: bool,
    capabilities: bool,
}

/// Names, directories and what else stays in memory may take this many bytes: 1 GiB.
const MAX_MEMORY_BYTES: u64 = 1 << 30;
/// What a directory takes besides its names, roughly.
const DIRECTORY_BYTES: u64 = 512;
/// What a name takes besides its own bytes, roughly.
const NAME_BYTES: u64 = 64;

impl<S: InodeSink> TreeBuilder<S> {
    /// A builder that has seen no layer yet, and gives leaves to `sink`.
    pub fn new(selection: Selection, sink: S) -> TreeBuilder<S> {
        TreeBuilder {
            selection,
            sink,
            tree: MergedTree::new(),
            whiteouts: Whiteouts::default(),
            links: WaitingLinks::default(),
            layer: 0,
            no_files: BTreeMap::new(),
            sizes: Vec::new(),
            privileges: HashMap::new(),
            first_mtime: None,
            any: false,
            memory_left: MAX_MEMORY_BYTES,
            report: Report::default(),
        }
    }

    /// Adds the layer below those that were added. `entries` is read to its last entry, but not
    /// [finished](EntryStream::finish).
    ///
    /// # Errors
    /// See [`TreeError`]; the builder is of no use afterwards.
    pub fn add_layer(&mut self, entries: &mut dyn EntryStream) -> Result<(), TreeError> {
        while let Some(entry) = entries.next_entry()? {
            self.add_entry(entry, entries)?;
        }
        self.links.resolve(&mut self.tree)?;
        self.whiteouts.end_layer();
        self.tree.end_layer();
        self.no_files.clear();
        self.layer += 1;
        Ok(())
    }

    /// Adds a file of root's when all layers are there, in the place of whatever they have at
    /// `path`.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn add_file(
        &mut self,
        path: &EntryPath,
        mode: u16,
        content: &[u8],
    ) -> Result<(), TreeError> {
        let Some((parent, name)) = path.split_last() else {
            return Err(TreeError::Contradiction { path: path.clone() });
        };
        // Only directories may be in the way, whichever layer they are of.
        let parent = self
            .tree
            .make_directories(parent.as_bytes(), self.layer)
            .map_err(|problem| TreeError::ParentIsNotADirectory {
                path: path.clone(),
                parent: match problem {
                    NoDirectory::Taken(taken) => taken,
                    NoDirectory::Shadowed => parent,
                },
            })?;
        self.tree.remove(parent, name);
        let attributes = Attributes {
            mode,
            ..self.implied_attributes()
        };
        let leaf = Leaf::File {
            size: content.len() as u64,
            content: &mut &*content,
        };
        let added = self.sink.add(&attributes, leaf);
        let id = added.map_err(|error| sink_error(path, error))?;
        self.remember_size(id, content.len() as u64);
        let leaf = Name::Leaf(id, LeafKind::File, self.layer);
        self.tree.insert(parent, name, leaf);
        Ok(())
    }

    /// The tree, what became of the entries, and the sink with all leaves.
    ///
    /// # Errors
    /// [`TreeError::Empty`] if the layers have nothing to keep, [`TreeError::LinkTargetMissing`].
    pub fn finish(mut self) -> Result<(Tree, Report, S), TreeError> {
        self.links.check(&self.tree)?;
        for whiteout in std::mem::take(&mut self.whiteouts).reaching_the_host() {
            let dropped = &mut self.report.dropped;
            dropped.add(whiteout.path(), whiteout.cause());
        }
        if !self.any {
            return Err(TreeError::Empty {
                kept: self.selection.hierarchies(),
                dropped: Box::new(self.report.dropped),
            });
        }
        let implied = self.implied_attributes();
        let mut report = self.report;
        let mut sizes = self.sizes;
        let privileges = self.privileges;
        let tree = self.tree.into_tree(&implied, |directory, name, node| {
            let kept = &mut report.kept;
            let Node::Leaf(leaf, kind) = node else {
                kept.directories += 1;
                return;
            };
            match kind {
                LeafKind::File => {
                    kept.files += 1;
                    // Taken out, so that the next name of the same file adds nothing.
                    let size = sizes.get_mut(leaf.0 as usize).map(std::mem::take);
                    kept.bytes += size.unwrap_or_default();
                }
                LeafKind::Symlink => kept.symlinks += 1,
                _ => kept.others += 1,
            }
            let privileges = privileges.get(&leaf);
            let is_device = matches!(kind, LeafKind::CharDevice | LeafKind::BlockDevice);
            if (is_device || privileges.is_some())
                && let Ok(path) = directory.join(name)
            {
                if is_device {
                    report.devices.add(&path);
                }
                if privileges.is_some_and(|privileges| privileges.setuid) {
                    report.setuid.add(&path);
                }
                if privileges.is_some_and(|privileges| privileges.capabilities) {
                    report.capabilities.add(&path);
                }
            }
        });
        Ok((tree, report, self.sink))
    }

    fn add_entry(&mut self, entry: Entry, entries: &mut dyn EntryStream) -> Result<(), TreeError> {
        match meaning(&entry.path) {
            // The root of the extension is never the layer's.
            Meaning::Entry if entry.path.is_root() => return Ok(()),
            Meaning::Entry => {}
            Meaning::Hides(whiteout) => {
                let path = whiteout.path();
                if !self.selection.keeps(path) && !path.is_root() {
                    self.report.dropped.add(path, Cause::Outside);
                    return Ok(());
                }
                self.take_memory(&entry.path, 0)?;
                self.whiteouts.add(whiteout);
                return Ok(());
            }
            Meaning::Metadata => {
                self.report.dropped.add(&entry.path, Cause::AufsMetadata);
                return Ok(());
            }
            Meaning::Invalid => return Err(TreeError::InvalidWhiteout { path: entry.path }),
        }
        if let Some(cause) = self.cause_to_drop(&entry)? {
            self.report.dropped.add(&entry.path, cause);
            return Ok(());
        }
        if self.whiteouts.hide(&entry.path) {
            return Ok(());
        }
        self.place(entry, entries)
    }

    /// Why an entry is left out, if it is.
    fn cause_to_drop(&mut self, entry: &Entry) -> Result<Option<Cause>, TreeError> {
        let mut cause = self.selection.refuses(entry);
        if cause.is_none()
            && let EntryKind::Hardlink { target } = &entry.kind
        {
            cause = self.no_files.get(target).copied();
        }
        if let Some(cause @ (Cause::OverlayWhiteout | Cause::Socket)) = cause {
            self.take_memory(&entry.path, 0)?;
            self.no_files.insert(entry.path.clone(), cause);
            self.tree.forget(&entry.path, self.layer);
        } else if cause.is_none() && !self.no_files.is_empty() {
            self.no_files.remove(&entry.path);
        }
        Ok(cause)
    }

    /// Puts an entry into the tree, where the layers above leave room for it.
    fn place(&mut self, entry: Entry, entries: &mut dyn EntryStream) -> Result<(), TreeError> {
        let Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        } = entry;
        let attributes = Attributes {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        };
        let (parent_path, name) = split(&path);
        if parent_path.is_empty() && kind != EntryKind::Directory {
            return Err(TreeError::HierarchyIsNotADirectory { path });
        }
        let Some(parent) = self.parent(&path, parent_path)? else {
            return Ok(());
        };
        // A hierarchy alone is nothing to keep.
        self.any |= !parent_path.is_empty();
        if kind == EntryKind::Directory {
            let size = |xattr: &Xattr| xattr.name.len() + xattr.value.len();
            let xattr_bytes = attributes.xattrs.iter().map(size).sum::<usize>() as u64;
            self.take_memory(&path, DIRECTORY_BYTES + xattr_bytes)?;
            let attributes = self.normalise(attributes);
            self.tree
                .place_directory(parent, name, attributes, self.layer);
            return Ok(());
        }
        match self.tree.make_room(parent, name, self.layer) {
            Room::Free => {}
            Room::Shadowed => return Ok(()),
            Room::ShadowedByDirectory => {
                self.whiteouts.replace_content(&path);
                return Ok(());
            }
            Room::Contradiction => return Err(TreeError::Contradiction { path }),
        }
        self.take_memory(&path, 0)?;
        let meaning = match kind {
            EntryKind::Hardlink { target } => self.link(&path, target)?,
            kind => self.add_leaf(&path, &kind, attributes, entries)?,
        };
        self.tree.insert(parent, name, meaning);
        Ok(())
    }

    /// The directory at `parent`, or `None` where an upper layer hides it.
    fn parent(&mut self, path: &EntryPath, parent: &[u8]) -> Result<Option<usize>, TreeError> {
        let before = self.tree.directory_count();
        match self.tree.make_directories(parent, self.layer) {
            Ok(parent) => {
                let made = self.tree.directory_count() - before;
                if made > 0 {
                    self.take_memory(path, made as u64 * DIRECTORY_BYTES)?;
                }
                Ok(Some(parent))
            }
            Err(NoDirectory::Shadowed) => Ok(None),
            Err(NoDirectory::Taken(parent)) => Err(TreeError::ParentIsNotADirectory {
                path: path.clone(),
                parent,
            }),
        }
    }

    /// What a hard link means: the leaf at `target`, or that this is to be found later.
    fn link(&mut self, path: &EntryPath, target: EntryPath) -> Result<Name, TreeError> {
        if let Some(cause) = self.selection.refuses_path(&target) {
            return Err(TreeError::LinkTargetDropped {
                path: path.clone(),
                target,
                cause,
            });
        }
        match self.tree.look_up(&target) {
            Some(leaf @ Name::Leaf(_, _, layer)) if layer == self.layer => Ok(leaf),
            _ => {
                self.take_memory(path, target.as_bytes().len() as u64)?;
                Ok(self.links.add(path.clone(), target, self.layer))
            }
        }
    }

    /// Gives a leaf to the sink.
    fn add_leaf(
        &mut self,
        path: &EntryPath,
        kind: &EntryKind,
        attributes: Attributes,
        entries: &mut dyn EntryStream,
    ) -> Result<Name, TreeError> {
        let attributes = self.normalise(attributes);
        let mut content = Content {
            entries,
            error: None,
        };
        let (leaf, kind) = match kind {
            EntryKind::File { size } => {
                let leaf = Leaf::File {
                    size: *size,
                    content: &mut content,
                };
                (leaf, LeafKind::File)
            }
            EntryKind::Symlink { target } => (Leaf::Symlink { target }, LeafKind::Symlink),
            EntryKind::CharDevice(device) => (Leaf::CharDevice(*device), LeafKind::CharDevice),
            EntryKind::BlockDevice(device) => (Leaf::BlockDevice(*device), LeafKind::BlockDevice),
            EntryKind::Fifo => (Leaf::Fifo, LeafKind::Fifo),
            EntryKind::Socket => (Leaf::Socket, LeafKind::Socket),
            EntryKind::Directory | EntryKind::Hardlink { .. } => {
                return Err(TreeError::Contradiction { path: path.clone() });
            }
        };
        let size = match leaf {
            Leaf::File { size, .. } => size,
            _ => 0,
        };
        let added = self.sink.add(&attributes, leaf);
        // The layer's own error says more than what the sink makes of it.
        if let Some(error) = content.error {
            return Err(error.into());
        }
        let id = added.map_err(|error| sink_error(path, error))?;
        self.remember_size(id, size);
        if kind == LeafKind::File {
            let is_capability = |xattr: &Xattr| xattr.name == b"security.capability";
            let privileges = Privileges {
                setuid: attributes.mode & 0o6000 != 0,
                capabilities: attributes.xattrs.iter().any(is_capability),
            };
            if privileges.setuid || privileges.capabilities {
                self.privileges.insert(id, privileges);
            }
        }
        Ok(Name::Leaf(id, kind, self.layer))
    }

    fn remember_size(&mut self, id: LeafId, size: u64) {
        let index = id.0 as usize;
        if self.sizes.len() <= index {
            self.sizes.resize(index + 1, 0);
        }
        if let Some(place) = self.sizes.get_mut(index) {
            *place = size;
        }
    }

    /// Attributes as they may be in the extension.
    fn normalise(&mut self, mut attributes: Attributes) -> Attributes {
        let report = &mut self.report;
        attributes.xattrs.retain(|xattr| {
            let counter = if xattr.name.starts_with(b"trusted.overlay.") {
                &mut report.overlay_xattrs
            } else if is_known_xattr(&xattr.name) {
                return true;
            } else {
                &mut report.unknown_xattrs
            };
            *counter += 1;
            false
        });
        if let Some(latest) = self.selection.rules.clamp_mtime {
            attributes.mtime = attributes.mtime.min(Timestamp::from_seconds(latest));
        }
        self.first_mtime.get_or_insert(attributes.mtime);
        attributes
    }

    /// Attributes of what no layer describes.
    fn implied_attributes(&self) -> Attributes {
        let clamp = self
            .selection
            .rules
            .clamp_mtime
            .map(Timestamp::from_seconds);
        Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: clamp.or(self.first_mtime).unwrap_or_default(),
            xattrs: Vec::new(),
        }
    }

    /// Notes that `path` and `more` bytes stay in memory.
    fn take_memory(&mut self, path: &EntryPath, more: u64) -> Result<(), TreeError> {
        let bytes = NAME_BYTES + path.as_bytes().len() as u64 + more;
        self.memory_left =
            self.memory_left
                .checked_sub(bytes)
                .ok_or_else(|| TreeError::TooLarge {
                    path: path.clone(),
                    what: "bytes of memory for names and directories",
                    limit: MAX_MEMORY_BYTES,
                })?;
        Ok(())
    }
}

/// The path of the directory and the name in it.
fn split(path: &EntryPath) -> (&[u8], &[u8]) {
    let path = path.as_bytes();
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Whether Linux file systems have a place for the attribute: the prefixes of xattr(7).
fn is_known_xattr(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 3] = [b"security.", b"trusted.", b"user."];
    prefixes
        .iter()
        .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

fn sink_error(
    path: &EntryPath,
    error: impl std::error::Error + Send + Sync + 'static,
) -> TreeError {
    TreeError::Sink {
        path: path.clone(),
        source: Box::new(error),
    }
}

/// The content of the present entry for the sink, which keeps the layer's errors.
struct Content<'a> {
    entries: &'a mut dyn EntryStream,
    error: Option<LayerError>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.entries.read_content(buffer).map_err(|error| {
            let message = io::Error::other(error.to_string());
            self.error = Some(error);
            message
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::ExtensionKind;
    use crate::tree::ContentRules;

    /// A layer of ever more directories.
    struct Endless(u32);

    impl EntryStream for Endless {
        fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
            self.0 += 1;
            let path = format!("usr/{}/{}x", self.0, "d/".repeat(1000));
            Ok(Some(Entry {
                path: EntryPath::from_archive(path.as_bytes()).unwrap(),
                kind: EntryKind::Fifo,
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                xattrs: Vec::new(),
            }))
        }

        fn read_content(&mut self, _: &mut [u8]) -> Result<usize, LayerError> {
            Ok(0)
        }

        fn finish(&mut self) -> Result<(), LayerError> {
            Ok(())
        }
    }

    struct Nowhere(u32);

    impl InodeSink for Nowhere {
        type Error = io::Error;

        fn add(&mut self, _: &Attributes, _: Leaf<'_>) -> io::Result<LeafId> {
            self.0 += 1;
            Ok(LeafId(self.0 - 1))
        }
    }

    #[test]
    fn directories_without_end_do_not_fill_the_memory() {
        let selection = Selection {
            kind: ExtensionKind::Sysext,
            name: "hello".parse().unwrap(),
            rules: ContentRules::default(),
        };
        let mut builder = TreeBuilder::new(selection, Nowhere(0));
        builder.memory_left = 20_000_000;
        let mut layer = Endless(0);
        let error = builder.add_layer(&mut layer).unwrap_err();
        assert!(matches!(error, TreeError::TooLarge { .. }), "{error}");
        assert!(layer.0 < 100);
    }
}
