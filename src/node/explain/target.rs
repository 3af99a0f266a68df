//! What is to be explained, and under which name systemd finds it.

use std::io;
use std::path::{Path, PathBuf};

use super::search_path;
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::host::SystemdVersion;
use crate::node::select::{SelectError, Several, select_one};
use crate::node::store::{Artefact, Store, StoreError};
use crate::printable::printable;

/// An image, and where systemd finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it can be opened.
    pub path: PathBuf,
    /// Of the node: the path under which systemd would look at it.
    pub seen_as: PathBuf,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing is called so.
    #[error(
        "{0} is neither an installed extension nor a file; `sysgraft-agent {1} list` shows what is installed"
    )]
    NotFound(String, ExtensionKind),
    /// Several are called so.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Target {
    /// What a user means: a path, something stored as [`select_one`] finds it, the name under which
    /// systemd finds something in its own folders, or a file in the working folder.
    ///
    /// # Errors
    /// [`ExplainError::NotFound`], [`ExplainError::Select`], [`ExplainError::Store`].
    pub fn find(node: &Node, kind: ExtensionKind, text: &str) -> Result<Target, ExplainError> {
        if text.contains('/') {
            return Ok(Target::file(node, kind, Path::new(text)));
        }
        let view = Store::new(node.layout.clone(), kind).view()?;
        let stored: Vec<&Artefact> = view.artefacts.iter().collect();
        let selected = select_one(text, kind, &stored, Several::Newest);
        if let Ok(artefact) = selected {
            return Ok(Target::stored(node, kind, artefact));
        }
        let systemd = node.systemd.unwrap_or(super::NEWEST);
        let found = search_path::entries(&node.layout, kind, systemd);
        if let Some(entry) = found.iter().find(|entry| entry.name == text) {
            return Ok(Target {
                path: node.layout.open_path(&entry.path),
                seen_as: entry.path.clone(),
            });
        }
        if Path::new(text).is_file() {
            return Ok(Target::file(node, kind, Path::new(text)));
        }
        match selected {
            Err(error @ SelectError::Ambiguous { .. }) => Err(error.into()),
            _ => Err(ExplainError::NotFound(printable(text.as_bytes()), kind)),
        }
    }

    /// An artefact in the store, which is linked under the name of its extension.
    pub fn stored(node: &Node, kind: ExtensionKind, artefact: &Artefact) -> Target {
        let systemd = node.systemd.unwrap_or(super::NEWEST);
        let name = artefact.name();
        let link = if systemd >= SystemdVersion::STRIPS_INFIX {
            kind.file_name(name)
        } else {
            format!("{name}.raw")
        };
        Target {
            path: node.layout.store(kind).join(artefact.file.file()),
            seen_as: search_path::live(kind).join(link),
        }
    }

    /// A file: where it is, if systemd looks there, else as if it were put into `/run/extensions`.
    pub fn file(node: &Node, kind: ExtensionKind, path: &Path) -> Target {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let of_node = absolute
            .strip_prefix(node.layout.root())
            .map(|inside| Path::new("/").join(inside));
        let systemd = node.systemd.unwrap_or(super::NEWEST);
        let entries = search_path::entries(&node.layout, kind, systemd);
        let is_there = |seen: &PathBuf| entries.iter().any(|entry| entry.path == *seen);
        let file = path.file_name().unwrap_or_default();
        Target {
            path: path.to_path_buf(),
            seen_as: of_node
                .ok()
                .filter(is_there)
                .unwrap_or_else(|| search_path::live(kind).join(file)),
        }
    }

    pub(super) fn file_name(&self) -> String {
        let name = self.seen_as.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}
