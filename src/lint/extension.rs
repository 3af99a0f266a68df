//! The extension that is judged: its entries by path, and its release file.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{Found, MAX_PATHS_BYTES, read_start, resolve};
use super::merged::Merged;
use super::reach::{Reach, Side};
use super::{FilesError, Subject};
use crate::extension::ExtensionKind;
use crate::layer::{Entry, EntryKind, EntryPath, MAX_ENTRIES};
use crate::release::ReleaseFile;

/// An extension whose entries are known.
pub struct Extension<'a> {
    pub(super) subject: Subject<'a>,
    /// What lies in the folders that the extension can extend, these included, by path.
    pub(super) entries: BTreeMap<EntryPath, Entry>,
    /// What else lies in the root.
    pub(super) outside: Vec<EntryPath>,
    /// The names of the release files.
    pub(super) releases: BTreeSet<EntryPath>,
    /// What the release file says, if there is just one and it can be read.
    pub(super) release: Option<ReleaseFile>,
    /// What could not be looked at.
    pub(super) reach: Reach,
}

/// A larger release file is none.
const MAX_RELEASE_BYTES: usize = 1 << 20;
/// Before the name in the name of every release file.
pub(super) const RELEASE_PREFIX: &[u8] = b"extension-release.";

impl<'a> Extension<'a> {
    /// Reads the names of all entries.
    ///
    /// # Errors
    /// See [`FilesError`].
    pub(super) fn read(subject: Subject<'a>) -> Result<Extension<'a>, FilesError> {
        let mut extension = Extension {
            subject,
            entries: BTreeMap::new(),
            outside: Vec::new(),
            releases: BTreeSet::new(),
            release: None,
            reach: Reach::new(),
        };
        let mut bytes_left = MAX_PATHS_BYTES;
        let root = EntryPath::root();
        for name in subject.files.names(&root)? {
            let path = root.join(&name)?;
            let is_merged = hierarchies(subject.kind).contains(&name.as_slice());
            match is_merged {
                true => extension.read_below(path, &mut bytes_left)?,
                false => extension.outside.push(path),
            }
        }
        extension.read_release()?;
        Ok(extension)
    }

    fn read_below(&mut self, top: EntryPath, bytes_left: &mut usize) -> Result<(), FilesError> {
        let files = self.subject.files;
        let mut ahead = vec![top];
        while let Some(path) = ahead.pop() {
            let seen = self
                .reach
                .seen(files.entry(&path), &path, Side::Extension)?;
            let Some(entry) = seen.flatten() else {
                continue;
            };
            *bytes_left = bytes_left
                .checked_sub(bytes_of(&entry))
                .ok_or(FilesError::TooLarge {
                    limit: MAX_PATHS_BYTES,
                })?;
            if self.entries.len() as u64 >= MAX_ENTRIES {
                return Err(FilesError::TooMany { limit: MAX_ENTRIES });
            }
            if entry.kind == EntryKind::Directory {
                let names = self
                    .reach
                    .seen(files.names(&path), &path, Side::Extension)?;
                for name in names.unwrap_or_default() {
                    ahead.push(path.join(&name)?);
                }
            }
            self.entries.insert(path, entry);
        }
        Ok(())
    }

    fn read_release(&mut self) -> Result<(), FilesError> {
        let directory = self.subject.kind.release_directory();
        self.releases = self
            .below(directory)
            .filter(|entry| entry.path.components().count() == directory.split('/').count() + 1)
            .filter(|entry| name_of(&entry.path).starts_with(RELEASE_PREFIX))
            .map(|entry| entry.path.clone())
            .collect();
        let mut releases = self.releases.iter();
        let (Some(only), None) = (releases.next(), releases.next()) else {
            return Ok(());
        };
        if !matches!(
            self.entries.get(only),
            Some(Entry {
                kind: EntryKind::File { .. },
                ..
            })
        ) {
            return Ok(());
        }
        self.release = match read_start(self.subject.files, only, MAX_RELEASE_BYTES) {
            Ok(bytes) => ReleaseFile::parse(&bytes).ok(),
            Err(error) if error.is_out_of_reach() => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// All entries, parents before what is in them.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entries that are neither directories nor release files.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &Entry> {
        self.entries()
            .filter(|entry| entry.kind != EntryKind::Directory)
            .filter(|entry| !self.releases.contains(&entry.path))
    }

    /// What lies at a path that is well known.
    pub(super) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(&known(path))
    }

    /// What lies below a folder that is well known, this not included.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &Entry> + use<'_> {
        let folder = known(folder);
        // What lies below is not next to it in byte order: `a-b` comes between `a` and `a/b`.
        let mut start = folder.as_bytes().to_vec();
        start.push(b'/');
        self.entries
            .range(folder..)
            .map(|(_, entry)| entry)
            .skip_while({
                let start = start.clone();
                move |entry| entry.path.as_bytes() < start.as_slice()
            })
            .take_while(move |entry| entry.path.as_bytes().starts_with(&start))
    }

    /// What a program sees that has the extension merged into the base.
    pub(super) fn merged(&self) -> Merged<'_> {
        Merged::new(self)
    }

    /// What a path in the merged tree leads to.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<Found, FilesError> {
        resolve(&self.merged(), path)
    }

    /// What the base has at a path, no link followed.
    pub(super) fn in_base(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError> {
        let Some(base) = self.subject.base else {
            return Ok(None);
        };
        let seen = self.reach.seen(base.entry(path), path, Side::Host)?;
        Ok(seen.flatten())
    }

    /// The names that the base has in a folder, none where it must not be read.
    pub(super) fn names_in_base(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        let Some(base) = self.subject.base else {
            return Ok(Vec::new());
        };
        let seen = self.reach.seen(base.names(path), path, Side::Host)?;
        Ok(seen.unwrap_or_default())
    }
}

/// Memory for an entry, but for what all have.
fn bytes_of(entry: &Entry) -> usize {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    let xattrs = entry.xattrs.iter();
    let xattrs: usize = xattrs
        .map(|xattr| xattr.name.len() + xattr.value.len())
        .sum();
    entry.path.as_bytes().len() + target + xattrs
}

/// The folders of the root that an extension of a kind can extend: those of systemd, whatever the
/// build was told to keep.
pub(super) fn hierarchies(kind: ExtensionKind) -> &'static [&'static [u8]] {
    match kind {
        ExtensionKind::Sysext => &[b"usr", b"opt"],
        ExtensionKind::Confext => &[b"etc"],
    }
}

/// A path that stands in this program.
pub(super) fn known(path: &str) -> EntryPath {
    EntryPath::from_archive(path.as_bytes()).unwrap_or_else(|_| EntryPath::root())
}

/// The last component of a path; nothing for the root.
pub(super) fn name_of(path: &EntryPath) -> &[u8] {
    path.components().next_back().unwrap_or_default()
}
