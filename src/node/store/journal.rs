//! A change that either happens or does not, whatever becomes of the program.
//!
//! The change is written down first, durably and as a whole. From then on it is decided: whoever
//! takes the lock next finishes what is written, and whoever only looks sees the store as if it were
//! finished. Every step may be repeated.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::Records;
use super::{Store, StoreError};
use crate::image::{Output, sync_folder};
use crate::node::profile::Profile;
use crate::read_at::read_file;

/// Journals and records of real nodes have a few thousand bytes.
const MAX_BYTES: u64 = 64 << 20;
/// The name under which a link is made before it takes the place of another one.
const NEW_LINK: &str = ".#new";

/// What is to become of a store. Names are those of files directly in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Files that come out of the staging folder.
    #[serde(default)]
    pub placed: Vec<Placement>,
    /// Links of profiles.
    #[serde(default)]
    pub links: Vec<LinkChange>,
    /// Artefacts that go away.
    #[serde(default)]
    pub removed: Vec<String>,
    /// All records as they are to be afterwards.
    pub records: Records,
}

/// A file that gets its final name, in the place of whatever had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Its name in the staging folder. Its content must be durable.
    pub staged: String,
    /// Its name in the store.
    pub file: String,
}

/// A link of a profile that is made, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChange {
    /// The profile.
    pub profile: Profile,
    /// The name of the link.
    pub link: String,
    /// The artefact that it shall lead to; `None` removes it.
    pub target: Option<String>,
}

impl Store {
    /// The change that is decided and perhaps not finished.
    pub(super) fn pending(&self) -> Result<Option<Change>, StoreError> {
        read_json(&self.notes().join("journal.json"))
    }

    pub(super) fn read_records(&self) -> Result<Records, StoreError> {
        Ok(read_json(&self.notes().join("records.json"))?.unwrap_or_default())
    }

    /// Decides on a change and makes it.
    pub(super) fn write(&self, change: &Change) -> Result<(), StoreError> {
        write_json(&self.notes(), "journal.json", change)?;
        self.finish(change)
    }

    /// Makes a change that is decided.
    pub(super) fn finish(&self, change: &Change) -> Result<(), StoreError> {
        self.make(change).map_err(|error| StoreError::Unfinished {
            store: self.path(),
            source: Box::new(error),
        })
    }

    fn make(&self, change: &Change) -> Result<(), StoreError> {
        let store = self.path();
        for placement in &change.placed {
            self.place(placement)?;
        }
        for change in &change.links {
            self.change_link(change)?;
        }
        write_json(&self.notes(), "records.json", &change.records)?;
        for file in &change.removed {
            remove(&store.join(file))?;
        }
        sync_folder(&store).map_err(StoreError::io("store", &store))?;
        let journal = self.notes().join("journal.json");
        remove(&journal)?;
        sync_folder(&self.notes()).map_err(StoreError::io("store", &journal))
    }

    fn place(&self, placement: &Placement) -> Result<(), StoreError> {
        let staged = self.staging().join(&placement.staged);
        let target = self.path().join(&placement.file);
        match fs::rename(&staged, &target) {
            // It was placed before the program died.
            Err(error) if error.kind() == io::ErrorKind::NotFound && target.exists() => Ok(()),
            outcome => outcome.map_err(StoreError::io("put into its place", &target)),
        }
    }

    fn change_link(&self, change: &LinkChange) -> Result<(), StoreError> {
        let folder = self.layout().profile(self.kind(), change.profile);
        let link = folder.join(&change.link);
        let Some(target) = &change.target else {
            remove(&link)?;
            return match sync_folder(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(StoreError::io("store", &folder)(error))
                }
                _ => Ok(()),
            };
        };
        create_folder(&folder)?;
        let new = folder.join(NEW_LINK);
        remove(&new)?;
        symlink(Path::new("..").join(target), &new)
            .and_then(|()| fs::rename(&new, &link))
            .and_then(|()| sync_folder(&folder))
            .map_err(StoreError::io("link", &link))
    }
}

/// Creates a folder and those above it that are missing.
pub(super) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(folder).map_err(StoreError::io("create", folder))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match read_file(path, MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(StoreError::io("read", path))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| StoreError::Damaged {
        path: path.to_path_buf(),
        problem: error.to_string(),
    })
}

fn write_json<T: Serialize>(folder: &Path, name: &str, value: &T) -> Result<(), StoreError> {
    let path = folder.join(name);
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| StoreError::Damaged {
        path: path.clone(),
        problem: error.to_string(),
    })?;
    let output = Output::create(folder, name)?;
    output
        .file()
        .write_all(&bytes)
        .map_err(StoreError::io("write", &path))?;
    output.commit()?;
    Ok(())
}
