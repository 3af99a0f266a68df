//! What became of the entries of the layers.

use std::collections::BTreeMap;

use super::Cause;
use crate::layer::EntryPath;

/// What an extension holds, and what it does not.
#[derive(Debug, Default)]
pub struct Report {
    /// What is in the tree.
    pub kept: Kept,
    /// What is not.
    pub dropped: DroppedEntries,
    /// Files with the setuid or setgid bit, which act on the host.
    pub setuid: PathList,
    /// Files with `security.capability`, which acts on the host.
    pub capabilities: PathList,
    /// Files that lost setuid, setgid or `security.capability` with the owner to whom these were
    /// given, by their names in the layers and in the order in which they came.
    pub stripped: PathList,
    /// Device nodes.
    pub devices: PathList,
    /// `trusted.overlay.*` attributes that were taken off, which would hide files of the host.
    pub overlay_xattrs: u64,
    /// Attributes that were taken off because no Linux file system knows their kind.
    pub unknown_xattrs: u64,
    /// Symbolic links that lead elsewhere because they or their targets were moved.
    pub broken_links: PathList,
    /// What the user asked for and no entry answered to.
    pub unused: Vec<UnusedRule>,
}

/// A rule that concerned no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusedRule {
    /// A pattern of what is to be kept.
    Include(String),
    /// A pattern of what is not.
    Exclude(String),
    /// Nothing lies at this path that could be moved.
    Remap(EntryPath),
}

/// How much a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Names of regular files, hard links included.
    pub files: u64,
    /// Directories without the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, pipes.
    pub others: u64,
    /// Bytes in all files, hard links counted once and holes in full.
    pub bytes: u64,
}

/// An entry that is not in the extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where it was; for a whiteout, what it hides.
    pub path: EntryPath,
    /// Why.
    pub cause: Cause,
}

/// Memory for names in reports ends here, in names and in bytes.
const MAX_NAMED: usize = 100_000;
const MAX_NAMED_BYTES: usize = 16 * 1024 * 1024;
/// Top-level directories that are counted one by one.
const MAX_TOPS: usize = 1000;

/// The entries that are not in the extension. All are counted, and the first 100,000 named.
#[derive(Debug, Default)]
pub struct DroppedEntries {
    named: Vec<Dropped>,
    named_bytes: usize,
    by_cause: BTreeMap<Cause, u64>,
    by_top: BTreeMap<Box<[u8]>, u64>,
}

impl DroppedEntries {
    /// The first of them, in the order in which they came.
    pub fn named(&self) -> &[Dropped] {
        &self.named
    }

    /// How many there are for each cause.
    pub fn by_cause(&self) -> &BTreeMap<Cause, u64> {
        &self.by_cause
    }

    /// How many there are of `cause`.
    pub fn count(&self, cause: Cause) -> u64 {
        self.by_cause.get(&cause).copied().unwrap_or_default()
    }

    /// How many there are in each directory of the root; the thousandth and later directories
    /// are counted together under the empty name.
    pub fn by_top(&self) -> &BTreeMap<Box<[u8]>, u64> {
        &self.by_top
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.by_cause.values().sum()
    }

    pub(super) fn add(&mut self, path: &EntryPath, cause: Cause) {
        *self.by_cause.entry(cause).or_default() += 1;
        let top = path.components().next().unwrap_or_default();
        match self.by_top.get_mut(top) {
            Some(count) => *count += 1,
            None => {
                let room = self.by_top.len() < MAX_TOPS;
                let top = if room { top } else { b"" };
                *self.by_top.entry(top.into()).or_default() += 1;
            }
        }
        let bytes = path.as_bytes().len();
        if self.named.len() < MAX_NAMED && self.named_bytes + bytes <= MAX_NAMED_BYTES {
            self.named_bytes += bytes;
            self.named.push(Dropped {
                path: path.clone(),
                cause,
            });
        }
    }
}

/// Paths in a tree. All are counted, and the first 100,000 named.
#[derive(Debug, Default)]
pub struct PathList {
    named: Vec<EntryPath>,
    named_bytes: usize,
    total: u64,
}

impl PathList {
    /// The first of them; where nothing else is said, in byte order.
    pub fn named(&self) -> &[EntryPath] {
        &self.named
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn add(&mut self, path: &EntryPath) {
        self.total += 1;
        let bytes = path.as_bytes().len();
        if self.named.len() < MAX_NAMED && self.named_bytes + bytes <= MAX_NAMED_BYTES {
            self.named_bytes += bytes;
            self.named.push(path.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_but_not_everything_is_named() {
        let mut dropped = DroppedEntries::default();
        let mut list = PathList::default();
        let long = "a/".repeat(1000);
        for number in 0..20_000 {
            let path = EntryPath::from_archive(format!("{number}/{long}").as_bytes()).unwrap();
            dropped.add(&path, Cause::Outside);
            list.add(&path);
        }
        assert_eq!(dropped.total(), 20_000);
        assert_eq!(dropped.count(Cause::Outside), 20_000);
        assert_eq!(dropped.count(Cause::Socket), 0);
        assert!(dropped.named().len() < 10_000);
        assert_eq!(dropped.by_top().len(), MAX_TOPS + 1);
        assert_eq!(dropped.by_top().values().sum::<u64>(), 20_000);
        assert_eq!(list.total(), 20_000);
        assert_eq!(list.named().len(), dropped.named().len());
    }
}
