//! The artefacts of one kind on a node, and which of them are enabled.
//!
//! Looking needs nothing but the right to read ([`Store::view`]). Changing takes a lock
//! ([`Store::lock`]) and happens wholly or not at all ([`LockedStore::commit`]).

mod as_text;
mod journal;
mod lock;
mod records;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::path::{Path, PathBuf};

pub use journal::{Change, LinkChange, LinkContent, Placement};
pub use records::{Failure, FileIdentity, Moment, Proof, Record, Records, Rejection, Step, Trial};
pub use view::{Artefact, Named, PassedOver, ProfileLink, View};

use rustix::fs::Access;

use super::layout::Layout;
use crate::extension::ExtensionKind;
use crate::image::OutputError;
pub(super) use lock::Lock;

/// The extensions of one kind on one node.
#[derive(Clone, Debug)]
pub struct Store {
    layout: Layout,
    kind: ExtensionKind,
}

/// A store that nobody else changes.
#[derive(Debug)]
pub struct LockedStore {
    store: Store,
    _lock: Lock,
}

/// Why a store could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be used.
    #[error("cannot {action} {path}{}", hint(.source))]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be stored.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The user may not change it.
    #[error(
        "this command requires root privileges: run it with sudo, or name a tree of yours with --root"
    )]
    NeedsRoot,
    /// Another command did not finish.
    #[error(
        "another sysgraft-agent ({holder}) has been changing extensions for two minutes and holds {path}; wait for it or end it"
    )]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// What this program noted cannot be read.
    #[error("{path} is damaged: {problem}; move it away to go on without what is noted there")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Something stands where the change needs room.
    #[error("{path} is in the way: {reason}; move it away")]
    InTheWay {
        /// What.
        path: PathBuf,
        /// Why it cannot be replaced.
        reason: &'static str,
    },
    /// A change is decided but not made to the end.
    #[error(
        "the change is decided, but could not be finished in {store}; free space or mend the disk, and the next command finishes it"
    )]
    Unfinished {
        /// The store.
        store: PathBuf,
        /// What happened.
        source: Box<StoreError>,
    },
}

impl Store {
    /// The extensions of a kind on a node. Nothing is read or created.
    pub fn new(layout: Layout, kind: ExtensionKind) -> Store {
        Store { layout, kind }
    }

    /// Where things lie on the node.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Which extensions these are.
    pub fn kind(&self) -> ExtensionKind {
        self.kind
    }

    /// The folder with the artefacts.
    pub fn path(&self) -> PathBuf {
        self.layout.store(self.kind)
    }

    /// Whether the user may change the store, which is asked before anything is touched.
    ///
    /// # Errors
    /// [`StoreError::NeedsRoot`].
    pub fn may_change(&self) -> Result<(), StoreError> {
        let store = self.path();
        let exists = |folder: &&Path| folder.symlink_metadata().is_ok();
        let nearest = store.ancestors().find(exists).unwrap_or(Path::new("/"));
        match rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Err(StoreError::NeedsRoot),
            _ => Ok(()),
        }
    }

    /// The folder for what is being brought in.
    pub fn staging(&self) -> PathBuf {
        self.layout.staging(self.kind)
    }

    fn notes(&self) -> PathBuf {
        self.layout.notes(self.kind)
    }

    /// Creates the folders of the store, where they are missing.
    pub(super) fn create_folders(&self) -> Result<(), StoreError> {
        journal::create_folder(&self.staging())
    }

    /// Waits until nobody else changes the store, creates its folders where they are missing, and
    /// finishes what a program that died had decided.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lock(&self) -> Result<LockedStore, StoreError> {
        self.create_folders()?;
        let lock = Lock::take(&self.notes().join("lock"))?;
        if let Some(change) = self.pending()? {
            self.finish(&change)?;
        }
        self.discard_leftovers();
        Ok(LockedStore {
            store: self.clone(),
            _lock: lock,
        })
    }
}

impl LockedStore {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What lies in the store, which only the owner of the lock changes.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    pub fn view(&self) -> Result<View, StoreError> {
        self.store.view()
    }

    /// Makes a change, wholly or not at all, durably.
    ///
    /// # Errors
    /// [`StoreError`]. After [`StoreError::Unfinished`] the change is decided and the next lock
    /// finishes it; after any other nothing was changed.
    pub fn commit(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut change = change.clone();
        let changes = self.store.read_records()?.changes;
        change.records.changes = changes.wrapping_add(1);
        self.store.write(&change)
    }
}

impl StoreError {
    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl Fn(io::Error) -> StoreError + 'a {
        move |source| StoreError::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// What to do about an error that users meet.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run the command as root, or name a tree of yours with --root"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; the file system is read-only",
        io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}
