//! Layers become a tree.

mod attributes;
mod finish;
mod hiding;
mod second_pass;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

use super::filter::{Filter, Verdict};
use super::links::WaitingLinks;
use super::merge::{Layer, MergedTree, Name, NoDirectory, Room};
use super::selection::refuses_kind;
use super::whiteout::{Meaning, Whiteouts, meaning};
use super::{
    Attributes, Cause, InodeSink, Leaf, LeafId, LeafKind, Report, Selection, TreeError, remap,
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
    filter: Filter,
    sink: S,
    tree: MergedTree,
    whiteouts: Whiteouts,
    links: WaitingLinks,
    /// The number of the next layer.
    layer: Layer,
    /// What of the present layer was left out for not being a file: hard links to it are, too.
    no_files: BTreeMap<EntryPath, Cause>,
    /// Bytes of every leaf, by its number.
    sizes: Vec<u64>,
    /// Leaves that act on the host with more rights than their caller's.
    privileges: HashMap<LeafId, Privileges>,
    /// Symbolic links that lead elsewhere once all is moved.
    broken_links: HashSet<LeafId>,
    /// Whether all layers are there, and what is to be moved was.
    is_complete: bool,
    first_mtime: Option<Timestamp>,
    /// Whether the layers, once all are there, have anything below the top directories.
    has_content: bool,
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
            filter: Filter::new(&selection.rules),
            selection,
            sink,
            tree: MergedTree::new(),
            whiteouts: Whiteouts::default(),
            links: WaitingLinks::default(),
            layer: 0,
            no_files: BTreeMap::new(),
            sizes: Vec::new(),
            privileges: HashMap::new(),
            broken_links: HashSet::new(),
            is_complete: false,
            first_mtime: None,
            has_content: false,
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
        self.links.begin_layer(&self.tree, self.layer);
        while let Some(entry) = entries.next_entry()? {
            self.add_entry(entry, entries)?;
        }
        self.links.resolve(&mut self.tree)?;
        self.links.heed(self.whiteouts.present());
        self.whiteouts.end_layer();
        self.tree.end_layer();
        self.no_files.clear();
        self.layer += 1;
        Ok(())
    }

    fn add_entry(&mut self, entry: Entry, entries: &mut dyn EntryStream) -> Result<(), TreeError> {
        match meaning(&entry.path) {
            // The root of the extension is never the layer's.
            Meaning::Entry if entry.path.is_root() => return Ok(()),
            Meaning::Entry => {}
            Meaning::Hides(whiteout) => {
                return self.add_whiteout(&entry.path, whiteout);
            }
            Meaning::Metadata => {
                self.report.dropped.add(&entry.path, Cause::AufsMetadata);
                return Ok(());
            }
            Meaning::Invalid => return Err(TreeError::InvalidWhiteout { path: entry.path }),
        }
        let is_directory = entry.kind == EntryKind::Directory;
        if let Some(cause) = self.cause_to_drop(&entry)? {
            return self.leave_out(&entry.path, &entry.kind, cause);
        }
        let verdict = self.filter.judge(&entry.path, is_directory);
        if let Some(cause) = filtered(verdict, is_directory) {
            // What is excluded by its path alone is so in every layer, with all below it.
            if cause == Cause::NotIncluded || self.filter.excludes_by_type() {
                self.supersede(&entry.path)?;
            }
            if cause == Cause::NotIncluded {
                let (above, _) = split(&entry.path);
                let above = self.whiteouts.hide_below(&entry.path).unwrap_or(above);
                self.imply(&entry.path, above)?;
            }
            return self.leave_out(&entry.path, &entry.kind, cause);
        }
        if let Some(above) = self.whiteouts.hide_below(&entry.path) {
            self.imply(&entry.path, above)?;
            return self.leave_out(&entry.path, &entry.kind, Cause::Shadowed);
        }
        self.place(entry, verdict.included, entries)
    }

    /// Why an entry is left out whatever the user wants, if it is.
    fn cause_to_drop(&mut self, entry: &Entry) -> Result<Option<Cause>, TreeError> {
        let mut no_file = refuses_kind(entry);
        if let EntryKind::Hardlink { target } = &entry.kind {
            no_file = self.no_files.get(target).copied();
        }
        if let Some(cause) = no_file {
            self.no_files.insert(entry.path.clone(), cause);
            self.supersede(&entry.path)?;
        } else if !self.no_files.is_empty() {
            self.no_files.remove(&entry.path);
        }
        let refused = self.selection.refuses_path(&entry.path);
        // Nothing of lower layers lies below what is no directory, not even what is moved from there.
        if refused == Some(Cause::Outside)
            && entry.kind != EntryKind::Directory
            && self.selection.moves_from_below(&entry.path)
        {
            self.supersede(&entry.path)?;
        }
        Ok(refused.or(no_file))
    }

    /// Accounts for an entry that does not come into the tree.
    fn leave_out(
        &mut self,
        path: &EntryPath,
        kind: &EntryKind,
        cause: Cause,
    ) -> Result<(), TreeError> {
        self.report.dropped.add(path, cause);
        if self.links.pass_over(path, kind, &self.tree, self.layer) {
            self.take_memory(path, 2 * path.as_bytes().len() as u64)?;
        }
        Ok(())
    }

    /// Puts an entry into the tree, where the layers above leave room for it.
    fn place(
        &mut self,
        entry: Entry,
        wanted: bool,
        entries: &mut dyn EntryStream,
    ) -> Result<(), TreeError> {
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
        let is_hierarchy = parent_path.is_empty() && self.selection.is_in_hierarchy(&path);
        if is_hierarchy && kind != EntryKind::Directory {
            return Err(TreeError::HierarchyIsNotADirectory { path });
        }
        let Some(parent) = self.parent(&path, parent_path)? else {
            return self.leave_out(&path, &kind, Cause::Shadowed);
        };
        if kind == EntryKind::Directory {
            let size = |xattr: &Xattr| xattr.name.len() + xattr.value.len();
            let xattr_bytes = attributes.xattrs.iter().map(size).sum::<usize>() as u64;
            self.take_memory(&path, DIRECTORY_BYTES + xattr_bytes)?;
            let attributes = self.normalise_directory(attributes);
            let layer = self.layer;
            let placed = self
                .tree
                .place_directory(parent, name, attributes, wanted, layer);
            return match placed {
                Ok(()) => Ok(()),
                Err(_) => self.leave_out(&path, &kind, Cause::Shadowed),
            };
        }
        match self.tree.make_room(parent, name, self.layer) {
            Room::Free => {}
            Room::Shadowed => return self.leave_out(&path, &kind, Cause::Shadowed),
            Room::ShadowedByDirectory => {
                self.take_memory(&path, 0)?;
                self.whiteouts.replace(&path);
                return self.leave_out(&path, &kind, Cause::Shadowed);
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

    /// The directory at `above`, or `None` where an upper layer hides it.
    fn parent(&mut self, path: &EntryPath, above: &[u8]) -> Result<Option<usize>, TreeError> {
        let before = self.tree.directory_count();
        match self.tree.make_directories(above, self.layer) {
            Ok(parent) => {
                let made = self.tree.directory_count() - before;
                if made > 0 {
                    self.take_memory(path, implied_bytes(above, made))?;
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
        match self.tree.look_up(&target) {
            Some(leaf @ Name::Leaf(_, _, layer)) if layer == self.layer => Ok(leaf),
            _ => match self.links.behind_hidden(&target) {
                Some((leaf, kind)) => Ok(Name::Leaf(leaf, kind, self.layer)),
                None => {
                    self.take_memory(path, target.as_bytes().len() as u64)?;
                    Ok(self.links.add(path.clone(), target, self.layer))
                }
            },
        }
    }

    /// Gives a leaf to the sink.
    fn add_leaf(
        &mut self,
        path: &EntryPath,
        original: &EntryKind,
        attributes: Attributes,
        entries: &mut dyn EntryStream,
    ) -> Result<Name, TreeError> {
        let attributes = self.normalise(attributes);
        let mut content = Content {
            entries,
            error: None,
        };
        let (leaf, kind) = match original {
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
        if let EntryKind::Symlink { target } = original
            && remap::breaks(&self.selection.rules.remaps, path, target)
        {
            self.broken_links.insert(id);
        }
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

/// What the lowest `count` directories of `path` take, each with its own path: later stages list all
/// directories of a tree by their paths.
fn implied_bytes(path: &[u8], count: usize) -> u64 {
    let ends = (0..=path.len()).rev();
    ends.filter(|&end| path.get(end).is_none_or(|&byte| byte == b'/'))
        .take(count)
        .map(|end| DIRECTORY_BYTES + NAME_BYTES + end as u64)
        .sum()
}

/// The path of the directory and the name in it.
fn split(path: &EntryPath) -> (&[u8], &[u8]) {
    let path = path.as_bytes();
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Why the user does not want an entry, if so. A directory may lead to something that is wanted.
fn filtered(verdict: Verdict, is_directory: bool) -> Option<Cause> {
    match verdict {
        Verdict { excluded: true, .. } => Some(Cause::Excluded),
        Verdict {
            included: false, ..
        } if !is_directory => Some(Cause::NotIncluded),
        _ => None,
    }
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
    fn implied_directories_are_charged_with_their_paths() {
        let each = DIRECTORY_BYTES + NAME_BYTES;
        assert_eq!(implied_bytes(b"usr/ab/c", 0), 0);
        assert_eq!(implied_bytes(b"usr/ab/c", 2), 2 * each + 8 + 6);
        assert_eq!(implied_bytes(b"usr/ab/c", 3), 3 * each + 8 + 6 + 3);
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
