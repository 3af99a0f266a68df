//! A change that either happens or does not, whatever becomes of the program.
//!
//! The change is written down first, durably and as a whole. From then on it is decided: whoever
//! takes the lock next finishes what is written, and whoever only looks sees the store as if it were
//! finished. Every step may be repeated.
//!
//! A change that could not be made to the end would keep all others out for good. So what could stand
//! in its way is looked for before it is decided, and a file that somebody took away since counts as
//! removed after the change.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::records::Records;
use super::view::is_file_name;
use super::{Store, StoreError};
use crate::image::{Output, sync_folder};
use crate::node::profile::Profile;
use crate::read_at::read_file;

/// Journals and records of real nodes have a few thousand bytes.
const MAX_BYTES: u64 = 64 << 20;
const JOURNAL: &str = "journal.json";
const RECORDS: &str = "records.json";
/// What files in the staging folder end in that are about to be placed. They are only there while
/// somebody has the lock.
const PROVED: &str = ".proved";
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
    /// Links of profiles that are to lead again where they led, out of the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored: Vec<LinkContent>,
    /// Artefacts that go away.
    #[serde(default)]
    pub removed: Vec<String>,
    /// All records as they are to be afterwards.
    pub records: Records,
}

/// A file that gets its final name, in the place of whatever had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Its name in the staging folder.
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

/// A link of a profile as it was, whatever it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkContent {
    /// The profile.
    pub profile: Profile,
    /// The name of the link.
    pub link: String,
    /// What stands in it.
    pub content: String,
}

impl Placement {
    /// That of a file that gets the name `file` and has its own until then.
    pub fn of(file: &str) -> Placement {
        Placement {
            staged: format!("{file}{PROVED}"),
            file: file.to_owned(),
        }
    }
}

impl Change {
    /// The first name in it that would lead out of the store.
    fn stray_name(&self) -> Option<&str> {
        let placed = self.placed.iter();
        let placed = placed.flat_map(|placement| [&placement.staged, &placement.file]);
        let links = self.links.iter();
        let links = links.flat_map(|change| [Some(&change.link), change.target.as_ref()]);
        let restored = self.restored.iter().map(|restored| &restored.link);
        let all = placed.chain(links.flatten()).chain(restored);
        let all = all.chain(&self.removed);
        all.map(String::as_str).find(|name| !is_file_name(name))
    }
}

impl Store {
    /// The change that is decided and perhaps not finished.
    pub(super) fn pending(&self) -> Result<Option<Change>, StoreError> {
        let path = self.notes().join(JOURNAL);
        let pending: Option<Change> = read_json(&path)?;
        let stray = pending.as_ref().and_then(Change::stray_name);
        match stray.map(|name| format!("it names {name:?}, which is no file in the store")) {
            Some(problem) => Err(StoreError::Damaged { path, problem }),
            None => Ok(pending),
        }
    }

    pub(super) fn read_records(&self) -> Result<Records, StoreError> {
        Ok(read_json(&self.notes().join(RECORDS))?.unwrap_or_default())
    }

    /// Decides on a change and makes it.
    pub(super) fn write(&self, change: &Change) -> Result<(), StoreError> {
        self.prepare(change)?;
        if let Err(error) = write_json(&self.notes(), JOURNAL, change) {
            return Err(self.undecide(change, error));
        }
        self.finish(change)
    }

    /// Makes sure that a change can be made to the end, whenever that will be.
    fn prepare(&self, change: &Change) -> Result<(), StoreError> {
        if let Some(name) = change.stray_name() {
            return Err(StoreError::InTheWay {
                path: self.path().join(name),
                reason: "its name leads out of the store",
            });
        }
        for placement in &change.placed {
            let staged = self.staging().join(&placement.staged);
            File::open(&staged)
                .and_then(|file| file.sync_all())
                .map_err(StoreError::io("store", &staged))?;
            refuse_folder(&self.path().join(&placement.file))?;
        }
        if !change.placed.is_empty() {
            let staging = self.staging();
            sync_folder(&staging).map_err(StoreError::io("store", &staging))?;
        }
        for file in &change.removed {
            refuse_folder(&self.path().join(file))?;
        }
        for change in &change.links {
            let folder = self.layout().profile(self.kind(), change.profile);
            if change.target.is_some() {
                create_folder(&folder)?;
            }
            refuse_all_but_links(&folder.join(&change.link))?;
        }
        Ok(())
    }

    /// After a journal could not be written: it must not be found by the next command. The error to
    /// report.
    fn undecide(&self, change: &Change, error: StoreError) -> StoreError {
        let undone = match self.pending() {
            Ok(Some(found)) if found == *change => remove(&self.notes().join(JOURNAL)),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match undone {
            Ok(()) => error,
            Err(_) => self.unfinished(error),
        }
    }

    fn unfinished(&self, source: StoreError) -> StoreError {
        StoreError::Unfinished {
            store: self.path(),
            source: Box::new(source),
        }
    }

    /// Makes a change that is decided.
    pub(super) fn finish(&self, change: &Change) -> Result<(), StoreError> {
        let made = self.make(change);
        made.map_err(|error| self.unfinished(error))
    }

    fn make(&self, change: &Change) -> Result<(), StoreError> {
        let store = self.path();
        for placement in &change.placed {
            self.place(placement)?;
        }
        if !change.placed.is_empty() {
            // No link may outlive a crash that its target does not.
            sync_folder(&store).map_err(StoreError::io("store", &store))?;
        }
        for change in &change.links {
            self.change_link(change)?;
        }
        for LinkContent {
            profile,
            link,
            content,
        } in &change.restored
        {
            let folder = self.layout().profile(self.kind(), *profile);
            put_link(&folder, link, Path::new(content))?;
        }
        write_json(&self.notes(), RECORDS, &change.records)?;
        for file in &change.removed {
            remove(&store.join(file))?;
        }
        sync_folder(&store).map_err(StoreError::io("store", &store))?;
        let journal = self.notes().join(JOURNAL);
        remove(&journal)?;
        sync_folder(&self.notes()).map_err(StoreError::io("store", &journal))
    }

    fn place(&self, placement: &Placement) -> Result<(), StoreError> {
        let staged = self.staging().join(&placement.staged);
        let target = self.path().join(&placement.file);
        match fs::rename(&staged, &target) {
            // It was placed before the program died, or somebody took it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
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
        put_link(&folder, &change.link, &self.link_content(&folder, target))
    }

    /// What a link in `folder` has to say to lead to `file` in the store. A folder that is itself a
    /// link does not lie in the store.
    fn link_content(&self, folder: &Path, file: &str) -> PathBuf {
        if folder.is_symlink() {
            self.layout().store_of_node(self.kind()).join(file)
        } else {
            Path::new("..").join(file)
        }
    }

    /// Removes what programs that died have left, once their decided change is made.
    pub(super) fn discard_leftovers(&self) {
        discard(&self.notes(), |name| name.starts_with(b".#"));
        discard(&self.staging(), |name| name.ends_with(PROVED.as_bytes()));
    }
}

fn discard(folder: &Path, is_left_over: impl Fn(&[u8]) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if is_left_over(entry.file_name().as_encoded_bytes()) {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a folder and those above it that are missing, durably.
pub(super) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let io = StoreError::io("create", folder);
    let parent = folder.parent().unwrap_or(Path::new("/"));
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        // Everybody may list extensions, whatever the umask.
        outcome => outcome
            .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o755)))
            .map_err(&io)?,
    }
    sync_folder(parent).map_err(&io)
}

/// Makes a link, or changes it, in one step and durably.
fn put_link(folder: &Path, name: &str, content: &Path) -> Result<(), StoreError> {
    let (new, link) = (folder.join(NEW_LINK), folder.join(name));
    remove(&new)?;
    symlink(content, &new)
        .and_then(|()| fs::rename(&new, &link))
        .and_then(|()| sync_folder(folder))
        .map_err(StoreError::io("link", &link))
}

/// What is no link is not ours to replace.
fn refuse_all_but_links(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_symlink() => Err(StoreError::InTheWay {
            path: path.to_path_buf(),
            reason: if metadata.is_dir() {
                "it is a folder"
            } else {
                "it is no link"
            },
        }),
        _ => Ok(()),
    }
}

/// A folder takes the name of no file.
fn refuse_folder(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(StoreError::InTheWay {
            path: path.to_path_buf(),
            reason: "it is a folder",
        }),
        _ => Ok(()),
    }
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
    let mut file = output.file();
    file.set_permissions(Permissions::from_mode(0o644))
        .and_then(|()| file.write_all(&bytes))
        .map_err(StoreError::io("write", &path))?;
    output.commit()?;
    Ok(())
}
