//! The links by which systemd finds what it is to merge.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::printable::printable;

/// The name under which a link is made before it takes the place of another one. systemd passes over
/// names that begin so.
const NEW_LINK: &str = ".#sysgraft";

/// A link in `/run/extensions` or `/run/confexts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLink {
    /// Its name.
    pub name: String,
    /// What it leads to, as the running node will see it.
    pub target: PathBuf,
}

/// A link that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot link it in {folder}: {source}")]
pub struct LinkError {
    /// Where.
    pub folder: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The folder of the live links, which is created where it is missing.
///
/// # Errors
/// What creating it gave.
pub fn folder(node: &Node, kind: ExtensionKind) -> io::Result<PathBuf> {
    let folder = node.layout.live(kind);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&folder)?;
    Ok(folder)
}

/// Makes a link, in the place of one that leads into the store, and of nothing else.
///
/// # Errors
/// [`LinkError`].
pub fn link(node: &Node, kind: ExtensionKind, link: &LiveLink) -> Result<(), LinkError> {
    let folder = node.layout.live(kind);
    let failed = |source| LinkError {
        folder: folder.clone(),
        source,
    };
    let path = folder.join(&link.name);
    match fs::read_link(&path) {
        Ok(target) if target == link.target => return Ok(()),
        Ok(target) if leads_into_store(node, kind, &target) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => {
            let taken = format!("something else is named {} there", link.name);
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, taken)));
        }
    }
    let new = folder.join(NEW_LINK);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    symlink(&link.target, &new)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(failed)
}

/// Removes the links into the store that are not to be there, and says what could not be done.
pub fn remove_stale(node: &Node, kind: ExtensionKind, wanted: &BTreeSet<String>) -> Vec<String> {
    let folder = node.layout.live(kind);
    let mut problems = Vec::new();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return problems,
        Err(error) => {
            return vec![format!("cannot read {}: {error}", folder.display())];
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let stays = name.to_str().is_some_and(|name| wanted.contains(name));
        let into_store =
            fs::read_link(entry.path()).is_ok_and(|target| leads_into_store(node, kind, &target));
        if stays || !into_store {
            continue;
        }
        if let Err(error) = fs::remove_file(entry.path()) {
            let path = printable(entry.path().as_os_str().as_encoded_bytes());
            problems.push(format!("cannot remove the stale link {path}: {error}"));
        }
    }
    problems
}

/// Whether a live link is one of ours, or of kairos-agent or immucore.
fn leads_into_store(node: &Node, kind: ExtensionKind, target: &Path) -> bool {
    target.starts_with(node.layout.store_of_node(kind))
}
