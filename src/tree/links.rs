//! Hard links whose target is not in the tree, or not yet: it may come later in the same layer or in
//! a lower one, or it is there but out of sight, because it is left out or an upper layer hides it.

use std::collections::{HashMap, HashSet};

use super::merge::{Layer, MergedTree, Name};
use super::whiteout::Whiteout;
use super::{LeafId, LeafKind, TreeError};
use crate::layer::{EntryKind, EntryPath};

struct Link {
    path: EntryPath,
    target: EntryPath,
    layer: Layer,
    /// A layer between this one and those still to come deletes the target.
    lost: bool,
}

/// What a hard link is that is out of sight itself.
#[derive(Clone)]
enum Hidden {
    Leaf(LeafId, LeafKind),
    To(EntryPath),
}

/// Links by the numbers that [`Name::Link`] holds.
#[derive(Default)]
pub struct WaitingLinks {
    links: Vec<Link>,
    /// The hard links of the present layer that are out of sight.
    hidden: HashMap<EntryPath, Hidden>,
    /// What links of upper layers wait for.
    wanted: HashSet<EntryPath>,
    /// Whether the present layer has any of that out of sight.
    found: bool,
    /// What the layers above the next one delete.
    deleted: Deleted,
}

/// What a layer deletes in those below it: there may be as many deletions as links.
#[derive(Default)]
struct Deleted {
    paths: HashSet<EntryPath>,
    contents: HashSet<EntryPath>,
}

impl Deleted {
    fn add(&mut self, whiteout: &Whiteout) {
        match whiteout {
            Whiteout::Path(path) => self.paths.insert(path.clone()),
            Whiteout::Content(path) => self.contents.insert(path.clone()),
        };
    }

    fn covers(&self, path: &EntryPath) -> bool {
        if self.paths.is_empty() && self.contents.is_empty() {
            return false;
        }
        let mut hides = self.paths.contains(path);
        let mut path = path.clone();
        while let Some((parent, _)) = path.split_last() {
            hides |= self.paths.contains(&parent) || self.contents.contains(&parent);
            path = parent;
        }
        hides
    }
}

/// A link that waits, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTarget {
    /// The link.
    pub path: EntryPath,
    /// What it should be.
    pub target: EntryPath,
}

impl WaitingLinks {
    /// The layer `layer` begins, below all others.
    pub fn begin_layer(&mut self, tree: &MergedTree, layer: Layer) {
        self.hidden.clear();
        self.found = false;
        let deleted = std::mem::take(&mut self.deleted);
        self.wanted.clear();
        for (number, link) in self.links.iter_mut().enumerate() {
            // A layer's own whiteouts are for the layers below it, but its links come from there.
            link.lost |= link.layer + 1 < layer && deleted.covers(&link.target);
            if !link.lost && waits(tree, link, number) {
                self.wanted.insert(link.target.clone());
            }
        }
    }

    /// What the present layer deletes in those below it.
    pub fn heed<'a>(&mut self, whiteouts: impl Iterator<Item = &'a Whiteout>) {
        if !self.links.is_empty() {
            whiteouts.for_each(|whiteout| self.deleted.add(whiteout));
        }
    }

    /// Makes a link wait, and gives the name to put into the tree.
    pub fn add(&mut self, path: EntryPath, target: EntryPath, layer: Layer) -> Name {
        // There are fewer entries than numbers.
        let number = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        self.links.push(Link {
            path,
            target,
            layer,
            lost: false,
        });
        Name::Link(number, layer)
    }

    /// Notes an entry of the present layer that does not come into the tree. Says whether it stays
    /// in memory.
    pub fn pass_over(
        &mut self,
        path: &EntryPath,
        kind: &EntryKind,
        tree: &MergedTree,
        layer: Layer,
    ) -> bool {
        self.found |= self.wanted.contains(path);
        let EntryKind::Hardlink { target } = kind else {
            self.hidden.remove(path);
            return false;
        };
        let meaning = match (tree.look_up(target), self.hidden.get(target)) {
            (Some(Name::Leaf(leaf, kind, of)), _) if of == layer => Hidden::Leaf(leaf, kind),
            (_, Some(Hidden::Leaf(leaf, kind))) => Hidden::Leaf(*leaf, *kind),
            _ => Hidden::To(target.clone()),
        };
        self.hidden.insert(path.clone(), meaning);
        true
    }

    /// What a link to `target` means, if that is a link of the present layer which is out of sight
    /// but leads to something that is not.
    pub fn behind_hidden(&self, target: &EntryPath) -> Option<(LeafId, LeafKind)> {
        match self.hidden.get(target) {
            Some(Hidden::Leaf(leaf, kind)) => Some((*leaf, *kind)),
            _ => None,
        }
    }

    /// Gives every link its leaf whose target is in the tree by now.
    pub fn resolve(&mut self, tree: &mut MergedTree) -> Result<(), TreeError> {
        let mut seen = vec![false; self.links.len()];
        let mut seen_hidden = HashSet::new();
        for start in 0..self.links.len() {
            let mut chain = Vec::new();
            let found = self.follow(start, tree, &mut seen, &mut seen_hidden, &mut chain)?;
            let Some((leaf, kind)) = found else { continue };
            for link in chain {
                match link {
                    Step::Link(number) => {
                        if let Some(link) = self.links.get(number) {
                            tree.replace(&link.path, Name::Leaf(leaf, kind, link.layer));
                        }
                    }
                    Step::Hidden(path) => {
                        self.hidden.insert(path, Hidden::Leaf(leaf, kind));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the link `start` leads to. A target may be a link that waits itself: they are followed
    /// to the end, and those on the way are left in `chain`. One that was seen before and is still
    /// no leaf will not become one now.
    fn follow(
        &self,
        start: usize,
        tree: &MergedTree,
        seen: &mut [bool],
        seen_hidden: &mut HashSet<EntryPath>,
        chain: &mut Vec<Step>,
    ) -> Result<Option<(LeafId, LeafKind)>, TreeError> {
        let mut number = start;
        'links: loop {
            let (Some(link), Some(seen)) = (self.links.get(number), seen.get_mut(number)) else {
                return Ok(None);
            };
            if std::mem::replace(seen, true) || !waits(tree, link, number) {
                return Ok(None);
            }
            chain.push(Step::Link(number));
            let mut target = &link.target;
            loop {
                match tree.look_up(target) {
                    Some(Name::Leaf(leaf, kind, layer)) if layer >= link.layer => {
                        return Ok(Some((leaf, kind)));
                    }
                    Some(Name::Link(next, layer)) if layer >= link.layer => {
                        number = usize::try_from(next).unwrap_or(usize::MAX);
                        continue 'links;
                    }
                    Some(Name::Directory(directory))
                        if tree.lowest_layer(directory) >= link.layer =>
                    {
                        return Err(TreeError::LinkToDirectory {
                            path: link.path.clone(),
                            target: link.target.clone(),
                        });
                    }
                    _ => {}
                }
                match self.hidden.get(target) {
                    Some(Hidden::Leaf(leaf, kind)) if !link.lost => {
                        return Ok(Some((*leaf, *kind)));
                    }
                    Some(Hidden::To(next)) if !link.lost && seen_hidden.insert(target.clone()) => {
                        chain.push(Step::Hidden(target.clone()));
                        target = next;
                    }
                    _ => return Ok(None),
                }
            }
        }
    }

    /// A link whose target the present layer has out of sight, or may have.
    pub fn missing(&self, tree: &MergedTree, present: Layer) -> Option<MissingTarget> {
        let mut waiting = self.waiting(tree);
        let link = waiting.find(|link| {
            link.layer == present || (self.found && self.wanted.contains(&link.target))
        })?;
        Some(MissingTarget {
            path: link.path.clone(),
            target: link.target.clone(),
        })
    }

    /// The targets that the present layer may have out of sight.
    pub fn second_pass(&self, tree: &MergedTree) -> SecondPass {
        let waiting: Vec<&Link> = self.waiting(tree).filter(|link| !link.lost).collect();
        let mut wanted = HashSet::new();
        let mut next: Vec<&EntryPath> = waiting.iter().map(|link| &link.target).collect();
        while let Some(target) = next.pop() {
            if wanted.insert(target.clone())
                && let Some(Hidden::To(further)) = self.hidden.get(target)
            {
                next.push(further);
            }
        }
        let links = waiting.iter().map(|link| {
            let (path, target) = (link.path.clone(), link.target.clone());
            (path, (target, link.layer))
        });
        SecondPass {
            wanted,
            links: links.collect(),
            found: HashMap::new(),
            early: HashMap::new(),
        }
    }

    fn waiting<'a>(&'a self, tree: &'a MergedTree) -> impl Iterator<Item = &'a Link> {
        let links = self.links.iter().enumerate();
        links
            .filter(|(number, link)| waits(tree, link, *number))
            .map(|(_, link)| link)
    }

    /// Fails if any link still waits.
    pub fn check(&self, tree: &MergedTree) -> Result<(), TreeError> {
        match self.waiting(tree).next() {
            None => Ok(()),
            Some(link) => Err(TreeError::LinkTargetMissing {
                path: link.path.clone(),
                target: link.target.clone(),
            }),
        }
    }
}

enum Step {
    Link(usize),
    Hidden(EntryPath),
}

/// Whether the link still waits in the tree, and was not replaced meanwhile.
fn waits(tree: &MergedTree, link: &Link, number: usize) -> bool {
    match tree.look_up(&link.path) {
        Some(Name::Link(waiting, _)) => usize::try_from(waiting) == Ok(number),
        _ => false,
    }
}

/// A layer is read once more, for nothing but the targets of links.
pub struct SecondPass {
    wanted: HashSet<EntryPath>,
    /// The links that wait, with their targets and layers.
    links: HashMap<EntryPath, (EntryPath, Layer)>,
    /// What the wanted paths are so far.
    found: HashMap<EntryPath, (LeafId, LeafKind)>,
    /// Wanted paths that are links to something that was not there yet.
    early: HashMap<EntryPath, EntryPath>,
}

impl SecondPass {
    /// Whether the entry's content is wanted.
    pub fn wants(&self, path: &EntryPath) -> bool {
        self.wanted.contains(path)
    }

    /// A wanted path is a leaf from here on.
    pub fn found(&mut self, path: EntryPath, leaf: LeafId, kind: LeafKind) {
        self.found.insert(path, (leaf, kind));
    }

    /// A wanted path is something that no link can lead to.
    pub fn gone(&mut self, path: &EntryPath) {
        self.found.remove(path);
    }

    /// A link comes by: from here on it is what its target is now.
    pub fn meet(&mut self, path: &EntryPath, target: &EntryPath, tree: &mut MergedTree) {
        let leaf = self.found.get(target).copied();
        if let Some((leaf, kind)) = leaf
            && self.links.get(path).is_some_and(|(to, _)| to == target)
            && let Some((_, layer)) = self.links.remove(path)
        {
            tree.replace(path, Name::Leaf(leaf, kind, layer));
        }
        if self.wants(path) {
            match leaf {
                Some(leaf) => self.found.insert(path.clone(), leaf),
                None => {
                    self.early.insert(path.clone(), target.clone());
                    self.found.remove(path)
                }
            };
        }
    }

    /// The layer is at its end; whatever waits gets the last that its target was.
    pub fn end(mut self, tree: &mut MergedTree) {
        for (path, (target, layer)) in std::mem::take(&mut self.links) {
            if let Some((leaf, kind)) = self.last(target) {
                tree.replace(&path, Name::Leaf(leaf, kind, layer));
            }
        }
    }

    /// What `target` is at the end, through links that came before what they lead to. Each of these
    /// is followed once, for what it leads to is found then for all that come after, or never.
    fn last(&mut self, target: EntryPath) -> Option<(LeafId, LeafKind)> {
        let mut way = Vec::new();
        let mut next = target;
        let leaf = loop {
            if let Some(leaf) = self.found.get(&next) {
                break *leaf;
            }
            let further = self.early.remove(&next)?;
            way.push(std::mem::replace(&mut next, further));
        };
        self.found.extend(way.into_iter().map(|path| (path, leaf)));
        Some(leaf)
    }
}
