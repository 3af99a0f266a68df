//! The names of several layers on their way to becoming one tree.
//!
//! Layers come from the top one down. A name of an upper layer stays, a name of the same layer is
//! replaced by a later one, and directories are joined.

use std::collections::BTreeMap;

use super::{Attributes, LeafId, LeafKind, Node, Tree};
use crate::layer::EntryPath;

/// The number of a layer: 0 is the top one.
pub type Layer = u32;

/// What a name means, for as long as layers still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A directory.
    Directory(usize),
    /// Anything else, from the layer.
    Leaf(LeafId, LeafKind, Layer),
    /// A hard link of the layer whose target has not come yet, by its number.
    Link(u32, Layer),
}

impl Name {
    /// The layer that a name other than a directory's came from.
    fn leaf_layer(self) -> Option<Layer> {
        match self {
            Name::Directory(_) => None,
            Name::Leaf(_, _, layer) | Name::Link(_, layer) => Some(layer),
        }
    }
}

#[derive(Debug, Default)]
struct MergedDirectory {
    /// The topmost layer that has the directory.
    first_layer: Layer,
    /// The lowest layer so far that has it.
    last_layer: Layer,
    /// Attributes of the topmost layer that has an entry for the directory, and that layer.
    attributes: Option<(Attributes, Layer)>,
    /// Whether it is wanted even if nothing lies in it.
    wanted: bool,
    children: BTreeMap<Box<[u8]>, Name>,
}

/// A tree of names that can still change.
#[derive(Debug)]
pub struct MergedTree {
    /// The root is the first; directories that were replaced stay here, but no name leads there.
    directories: Vec<MergedDirectory>,
    /// The directory that was looked up last; most entries lie beside their predecessor.
    last_parent: Option<(Box<[u8]>, usize)>,
}

/// Why there is no directory at some path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDirectory {
    /// An upper layer has something else there or above, so that the path cannot be seen.
    Shadowed,
    /// The same layer has something else at this path.
    Taken(EntryPath),
}

/// Whether something other than a directory can be at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Free,
    /// An upper layer has something else there.
    Shadowed,
    /// An upper layer has a directory there.
    ShadowedByDirectory,
    /// As before, but earlier on the same layer had a directory there, too, and is now joined.
    Contradiction,
}

/// The root directory's place.
const ROOT: usize = 0;

impl MergedTree {
    pub fn new() -> MergedTree {
        MergedTree {
            directories: vec![MergedDirectory::default()],
            last_parent: None,
        }
    }

    /// How many directories were ever made, the root included.
    pub fn directory_count(&self) -> usize {
        self.directories.len()
    }

    /// The next layer begins.
    pub fn end_layer(&mut self) {
        self.last_parent = None;
    }

    /// The directory at `path`, made with all above it where nothing is there.
    pub fn make_directories(&mut self, path: &[u8], layer: Layer) -> Result<usize, NoDirectory> {
        if let Some((known, directory)) = &self.last_parent
            && **known == *path
        {
            return Ok(*directory);
        }
        let mut directory = ROOT;
        let mut end = 0;
        for component in components(path) {
            end += component.len() + usize::from(end > 0);
            directory = match self.child(directory, component) {
                Some(Name::Directory(child)) => {
                    self.mark(child, layer);
                    child
                }
                Some(name) if name.leaf_layer() == Some(layer) => {
                    let taken = path.get(..end).unwrap_or_default();
                    return Err(match EntryPath::from_archive(taken) {
                        Ok(path) => NoDirectory::Taken(path),
                        Err(_) => NoDirectory::Shadowed,
                    });
                }
                Some(_) => return Err(NoDirectory::Shadowed),
                None => self.insert_directory(directory, component, layer),
            };
        }
        self.last_parent = Some((path.into(), directory));
        Ok(directory)
    }

    /// What is at `path`.
    pub fn look_up(&self, path: &EntryPath) -> Option<Name> {
        path.components()
            .try_fold(Name::Directory(ROOT), |name, component| match name {
                Name::Directory(directory) => self.child(directory, component),
                _ => None,
            })
    }

    /// What `name` in `parent` means.
    pub fn child(&self, parent: usize, name: &[u8]) -> Option<Name> {
        let parent = self.directories.get(parent)?;
        parent.children.get(name).copied()
    }

    /// Says whether something of `layer` other than a directory can be at `name`. If so, whatever
    /// the layer had there is gone.
    pub fn make_room(&mut self, parent: usize, name: &[u8], layer: Layer) -> Room {
        match self.child(parent, name) {
            None => Room::Free,
            Some(Name::Directory(directory)) => match self.directories.get(directory) {
                Some(directory) if directory.first_layer != layer => {
                    if directory.last_layer == layer {
                        return Room::Contradiction;
                    }
                    Room::ShadowedByDirectory
                }
                _ => {
                    self.remove(parent, name);
                    Room::Free
                }
            },
            Some(leaf) if leaf.leaf_layer() == Some(layer) => Room::Free,
            Some(_) => Room::Shadowed,
        }
    }

    /// Gives `name` its meaning.
    pub fn insert(&mut self, parent: usize, name: &[u8], meaning: Name) {
        if let Some(parent) = self.directories.get_mut(parent) {
            parent.children.insert(name.into(), meaning);
        }
    }

    /// Takes away what `layer` has at `path`, if that is there for all to see.
    pub fn forget(&mut self, path: &EntryPath, layer: Layer) {
        if let Some((parent, name)) = path.split_last()
            && let Some(Name::Directory(parent)) = self.look_up(&parent)
            && self.child(parent, name).is_some()
            && self.make_room(parent, name, layer) == Room::Free
        {
            self.remove(parent, name);
        }
    }

    /// Gives the name at `path` another meaning, if its directory is there.
    pub fn replace(&mut self, path: &EntryPath, meaning: Name) {
        if let Some((parent, name)) = path.split_last()
            && let Some(Name::Directory(parent)) = self.look_up(&parent)
        {
            self.insert(parent, name, meaning);
        }
    }

    /// Puts a directory of `layer` at `name`, or joins it with the one that is there, unless an
    /// upper layer has something else, of which it tells. A directory that is not `wanted` stays only
    /// if something lies in it.
    pub fn place_directory(
        &mut self,
        parent: usize,
        name: &[u8],
        attributes: Attributes,
        wanted: bool,
        layer: Layer,
    ) -> Result<(), NoDirectory> {
        let directory = match self.child(parent, name) {
            Some(Name::Directory(directory)) => directory,
            Some(leaf) if leaf.leaf_layer() != Some(layer) => return Err(NoDirectory::Shadowed),
            _ => self.insert_directory(parent, name, layer),
        };
        self.mark(directory, layer);
        if let Some(directory) = self.directories.get_mut(directory) {
            directory.wanted |= wanted;
            match &directory.attributes {
                Some((_, upper)) if *upper != layer => {}
                _ => directory.attributes = Some((attributes, layer)),
            }
        }
        Ok(())
    }

    /// The lowest layer so far that has the directory.
    pub fn lowest_layer(&self, directory: usize) -> Layer {
        let directory = self.directories.get(directory);
        directory.map_or(0, |directory| directory.last_layer)
    }

    /// Takes away what is at `path`, and says what it was.
    pub fn take_out(&mut self, path: &EntryPath) -> Option<Name> {
        let (parent, name) = path.split_last()?;
        let Some(Name::Directory(parent)) = self.look_up(&parent) else {
            return None;
        };
        self.last_parent = None;
        self.directories.get_mut(parent)?.children.remove(name)
    }

    /// Empties a directory.
    pub fn take_children(&mut self, directory: usize) -> BTreeMap<Box<[u8]>, Name> {
        let directory = self.directories.get_mut(directory);
        directory
            .map(|directory| std::mem::take(&mut directory.children))
            .unwrap_or_default()
    }

    /// Whether there is more than empty directories in the root.
    pub fn has_depth(&self) -> bool {
        let root = self.directories.get(ROOT);
        let mut tops = root.into_iter().flat_map(|root| root.children.values());
        tops.any(|top| match top {
            Name::Directory(top) => {
                let top = self.directories.get(*top);
                top.is_some_and(|top| !top.children.is_empty())
            }
            Name::Leaf(..) | Name::Link(..) => true,
        })
    }

    /// Takes away whatever lies in the root under other names than these.
    pub fn keep_tops(&mut self, names: &[&str]) {
        self.last_parent = None;
        if let Some(root) = self.directories.get_mut(ROOT) {
            let kept = |name: &[u8]| names.iter().any(|kept| kept.as_bytes() == name);
            root.children.retain(|name, _| kept(name));
        }
    }

    /// Takes away the directories that have nothing in them and are not wanted for themselves, and
    /// shows those to `visit` that a layer has an entry for.
    pub fn prune(&mut self, mut visit: impl FnMut(&EntryPath)) {
        self.last_parent = None;
        // Parents come before what lies in them, so that the way back goes from the bottom up.
        let mut all = vec![(ROOT, ROOT, Box::<[u8]>::default(), EntryPath::root())];
        let mut next = 0;
        while let Some((_, directory, _, path)) = all.get(next) {
            let (directory, path) = (*directory, path.clone());
            next += 1;
            let children = self.directories.get(directory).map(|it| &it.children);
            for (name, meaning) in children.into_iter().flatten() {
                if let (Name::Directory(child), Ok(path)) = (*meaning, path.join(name)) {
                    all.push((directory, child, name.clone(), path));
                }
            }
        }
        for (parent, directory, name, path) in all.into_iter().rev() {
            let goes = self
                .directories
                .get(directory)
                .is_some_and(|it| it.children.is_empty() && !it.wanted);
            if goes && !path.is_root() {
                self.remove(parent, &name);
                if self.take_attributes(directory).is_some() {
                    visit(&path);
                }
            }
        }
    }

    fn mark(&mut self, directory: usize, layer: Layer) {
        if let Some(directory) = self.directories.get_mut(directory) {
            directory.last_layer = layer;
        }
    }

    fn insert_directory(&mut self, parent: usize, name: &[u8], layer: Layer) -> usize {
        let directory = self.directories.len();
        self.directories.push(MergedDirectory {
            first_layer: layer,
            last_layer: layer,
            ..MergedDirectory::default()
        });
        self.insert(parent, name, Name::Directory(directory));
        directory
    }

    /// Takes away a name with all below it.
    pub fn remove(&mut self, parent: usize, name: &[u8]) {
        self.last_parent = None;
        if let Some(parent) = self.directories.get_mut(parent) {
            parent.children.remove(name);
        }
    }

    /// The tree, in which directories without attributes of their own get `implied`. Each name is
    /// shown to `visit` with the path of its directory.
    pub fn into_tree(
        mut self,
        implied: &Attributes,
        mut visit: impl FnMut(&EntryPath, &[u8], Node),
    ) -> Tree {
        let mut tree = Tree::new(implied.clone());
        let mut waiting = vec![(ROOT, Tree::ROOT, EntryPath::root())];
        while let Some((merged, id, path)) = waiting.pop() {
            let mut children = Vec::new();
            for (name, meaning) in self.take(merged).children {
                let node = match meaning {
                    Name::Leaf(leaf, kind, _) => Node::Leaf(leaf, kind),
                    Name::Directory(child) => {
                        let attributes = self.take_attributes(child);
                        let id = tree.push(attributes.unwrap_or_else(|| implied.clone()));
                        if let Ok(path) = path.join(&name) {
                            waiting.push((child, id, path));
                        }
                        Node::Directory(id)
                    }
                    Name::Link(..) => continue,
                };
                visit(&path, &name, node);
                children.push((name, node));
            }
            tree.directory_mut(id).children = children.into_iter().collect();
        }
        tree
    }

    fn take(&mut self, directory: usize) -> MergedDirectory {
        self.directories
            .get_mut(directory)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn take_attributes(&mut self, directory: usize) -> Option<Attributes> {
        let directory = self.directories.get_mut(directory)?;
        let (attributes, _) = directory.attributes.take()?;
        Some(attributes)
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty())
}
