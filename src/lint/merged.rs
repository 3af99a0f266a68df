//! The extension merged into its base, as programs will see it.

use super::Extension;
use super::extension::known;
use super::files::{Content, Files, FilesError};
use super::reach::Side;
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::timestamp::Timestamp;

/// The extension above its base, if there is one.
///
/// Hosts of extensions have merged `/bin`, `/sbin` and `/lib*` into `/usr`. Where the base does not
/// have these links, as an extension alone and the `/usr` of a container image do not, they are there
/// all the same.
#[derive(Clone, Copy)]
pub struct Merged<'a> {
    extension: &'a Extension<'a>,
}

/// The folders of the root that are links into `/usr`.
const USR_MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

impl<'a> Merged<'a> {
    pub(super) fn new(extension: &'a Extension<'a>) -> Merged<'a> {
        Merged { extension }
    }

    /// Whether something of the extension that is no directory lies on the way to `path`, and so hides
    /// what the base has there.
    fn is_hidden(&self, path: &EntryPath) -> bool {
        let mut above = path.split_last().map(|(parent, _)| parent);
        while let Some(parent) = above {
            if let Some(entry) = self.extension.entries.get(&parent) {
                return entry.kind != EntryKind::Directory;
            }
            above = parent.split_last().map(|(parent, _)| parent);
        }
        false
    }

    fn usr_merge_link(&self, path: &EntryPath) -> Option<Entry> {
        let name = USR_MERGED
            .iter()
            .find(|name| name.as_bytes() == path.as_bytes())?;
        Some(Entry {
            path: path.clone(),
            kind: EntryKind::Symlink {
                target: format!("usr/{name}").into_bytes(),
            },
            mode: 0o777,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(0),
            xattrs: Vec::new(),
        })
    }
}

/// Attributes are of no use to those who follow links, and may be large.
fn without_xattrs(entry: &Entry) -> Entry {
    Entry {
        path: entry.path.clone(),
        kind: entry.kind.clone(),
        xattrs: Vec::new(),
        ..*entry
    }
}

impl Files for Merged<'_> {
    fn entry(&self, path: &EntryPath) -> Result<Option<Entry>, FilesError> {
        if path.is_root() {
            return self.extension.subject.files.entry(path);
        }
        let reach = &self.extension.reach;
        reach.spend(1 + path.components().count())?;
        let entry = match self.extension.entries.get(path) {
            Some(entry) => Some(without_xattrs(entry)),
            None if self.is_hidden(path) => None,
            None => {
                let base = self.extension.subject.base.map(|base| base.entry(path));
                let base = base.transpose().inspect_err(|error| {
                    if error.is_out_of_reach() {
                        reach.miss(path, Side::Host);
                    }
                })?;
                base.flatten().or_else(|| self.usr_merge_link(path))
            }
        };
        if let Some(Entry {
            kind: EntryKind::Symlink { target },
            ..
        }) = &entry
        {
            reach.spend(target.len() / 2)?;
        }
        Ok(entry)
    }

    fn names(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>, FilesError> {
        let mut names = match self.extension.entries.contains_key(path) {
            true => {
                let names = self.extension.subject.files.names(path);
                let seen = self.extension.reach.seen(names, path, Side::Extension)?;
                seen.unwrap_or_default()
            }
            false => Vec::new(),
        };
        if !self.is_hidden(path) {
            names.extend(self.extension.names_in_base(path)?);
            names.sort();
            names.dedup();
        }
        Ok(names)
    }

    fn open(&self, path: &EntryPath) -> Result<Box<dyn Content + '_>, FilesError> {
        if self.extension.entries.contains_key(path) {
            return self.extension.subject.files.open(path);
        }
        match self.extension.subject.base {
            Some(base) if !self.is_hidden(path) => base.open(path),
            _ => Err(FilesError::Missing { path: path.clone() }),
        }
    }
}

impl Merged<'_> {
    /// Whether it can be said what lies at `path`: it is in the extension, or the base has the folder
    /// of the root in which it lies.
    pub(super) fn knows(&self, path: &EntryPath) -> Result<bool, FilesError> {
        let Some(top) = path.components().next() else {
            return Ok(true);
        };
        let top = EntryPath::root().join(top)?;
        let top = match self.usr_merge_link(&top) {
            Some(_) => known("usr"),
            None => top,
        };
        Ok(self.extension.in_base(&top)?.is_some())
    }
}
