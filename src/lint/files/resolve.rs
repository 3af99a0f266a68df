//! Following symbolic links within a tree.

use std::collections::VecDeque;

use super::{Files, FilesError};
use crate::layer::{Entry, EntryKind, EntryPath};

/// What a path leads to once its symbolic links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Something that is no link; [`Entry::path`] tells where it really lies.
    Entry(Entry),
    /// Nothing: this is the path, with its links followed as far as they lead, that is missing.
    Missing(EntryPath),
    /// More links than any kernel follows, or a path that none would take.
    Endless,
    /// It cannot be said: something on the way must not be read, or there was too much to look at.
    Unknown,
}

/// So many links are followed (`MAXSYMLINKS`, `include/linux/namei.h`).
const MAX_LINKS: usize = 40;
/// So many names may still be ahead; each link brings at most 4095 bytes.
const MAX_AHEAD: usize = 4096;

/// Walks `path` in `files`, following every symbolic link as a program would that has the tree as its
/// root: absolute links start at the root again, and `..` does not lead out of it.
///
/// # Errors
/// Those of [`Files::entry`], but for what is out of reach.
pub fn resolve(files: &dyn Files, path: &[u8]) -> Result<Found, FilesError> {
    match walk(files, path) {
        Err(error) if error.is_out_of_reach() => Ok(Found::Unknown),
        found => found,
    }
}

fn walk(files: &dyn Files, path: &[u8]) -> Result<Found, FilesError> {
    let mut ahead = VecDeque::new();
    push_front(&mut ahead, path);
    let mut links = 0;
    let mut at = EntryPath::root();
    while let Some(name) = ahead.pop_front() {
        if name == b".." {
            at = at
                .split_last()
                .map_or_else(EntryPath::root, |(parent, _)| parent);
            continue;
        }
        let Ok(next) = at.join(&name) else {
            return Ok(Found::Endless);
        };
        match files.entry(&next)?.map(|entry| entry.kind) {
            None => return Ok(Found::Missing(with_rest(next, &ahead))),
            Some(EntryKind::Symlink { target }) => {
                links += 1;
                push_front(&mut ahead, &target);
                if links > MAX_LINKS || ahead.len() > MAX_AHEAD {
                    return Ok(Found::Endless);
                }
                if target.first() == Some(&b'/') {
                    at = EntryPath::root();
                }
            }
            Some(EntryKind::Directory) => at = next,
            Some(_) if ahead.is_empty() => at = next,
            Some(_) => return Ok(Found::Missing(with_rest(next, &ahead))),
        }
    }
    Ok(match files.entry(&at)? {
        Some(entry) => Found::Entry(entry),
        None => Found::Missing(at),
    })
}

fn push_front(ahead: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    let names = path.split(|&byte| byte == b'/');
    for name in names.rev().filter(|name| !matches!(*name, b"" | b".")) {
        ahead.push_front(name.to_vec());
    }
}

/// The rest of the way behind a missing name, as far as it is plain.
fn with_rest(missing: EntryPath, ahead: &VecDeque<Vec<u8>>) -> EntryPath {
    let mut whole = missing.as_bytes().to_vec();
    for name in ahead {
        whole.push(b'/');
        whole.extend_from_slice(name);
    }
    EntryPath::from_archive(&whole).unwrap_or(missing)
}
