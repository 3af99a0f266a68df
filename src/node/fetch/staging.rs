//! The staging folder: what a download occupies in it, and what is left of broken ones.
//!
//! A download has a slot, `KEY.N` with a key made of its address and a small number. In it lie
//! `KEY.N.partial`, the bytes as they came; `KEY.N.json`, which says what they are a part of; and
//! `KEY.N.raw`, what compressed ones unpack to. Whoever uses a slot holds a lock on its partial
//! file, so that two downloads of one address never write to one file.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::FetchError;
use super::resume::Identity;
use crate::digest::Digest;

/// Downloads of one address at the same time.
const MAX_SLOTS: u32 = 64;

/// Bytes that a slot's description may have.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 10;

const PARTIAL: &str = "partial";
const DESCRIPTION: &str = "json";
const UNPACKED: &str = "raw";

/// The place of one download, removed with all that is in it unless it is kept.
#[derive(Debug)]
pub(super) struct Slot {
    folder: PathBuf,
    name: String,
    /// The lock.
    partial: File,
    /// Whether its files stay when this value goes.
    stays: bool,
}

impl Slot {
    /// Takes a slot for the source that `key` tells from all others.
    pub fn claim(folder: &Path, key: Digest) -> Result<Slot, FetchError> {
        let staging = |path: &Path, source| FetchError::Staging {
            path: path.to_path_buf(),
            source,
        };
        fs::create_dir_all(folder).map_err(|source| staging(folder, source))?;
        let key = key.hex();
        let key = key.get(..32).unwrap_or(&key);
        for number in 0..MAX_SLOTS {
            let name = format!("{key}.{number}");
            let path = folder.join(format!("{name}.{PARTIAL}"));
            if let Some(partial) = lock(&path).map_err(|source| staging(&path, source))? {
                return Ok(Slot {
                    folder: folder.to_path_buf(),
                    name,
                    partial,
                    stays: false,
                });
            }
        }
        Err(staging(folder, io::ErrorKind::ResourceBusy.into()))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.name))
    }

    /// The bytes as they came.
    pub fn partial(&self) -> &File {
        &self.partial
    }

    pub fn partial_path(&self) -> PathBuf {
        self.path(PARTIAL)
    }

    pub fn unpacked_path(&self) -> PathBuf {
        self.path(UNPACKED)
    }

    /// What the bytes in the slot are a part of; `None` where they are of no use.
    pub fn identity(&self) -> Option<Identity> {
        let path = self.path(DESCRIPTION);
        let is_small = fs::metadata(&path).ok()?.len() <= MAX_DESCRIPTION_BYTES;
        is_small
            .then(|| fs::read(&path).ok())
            .flatten()
            .and_then(|json| serde_json::from_slice(&json).ok())
    }

    /// Writes down what the bytes are a part of, or that nobody knows.
    pub fn describe(&self, identity: Option<&Identity>) -> io::Result<()> {
        let path = self.path(DESCRIPTION);
        match identity {
            Some(identity) => fs::write(path, serde_json::to_vec(identity)?),
            None => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Creates the file into which compressed bytes are unpacked, empty.
    pub fn create_unpacked(&self) -> io::Result<File> {
        create(&self.unpacked_path(), true)
    }

    /// Leaves the bytes where they are for a later download of the same source. What was unpacked
    /// of them is made anew then.
    pub fn stay(&mut self) {
        let _ = fs::remove_file(self.unpacked_path());
        self.stays = true;
    }

    /// Gives the finished artefact, one of the slot's files, its place at `target`, and clears the
    /// slot.
    pub fn place(mut self, artefact: &Path, target: &Path) -> io::Result<()> {
        // As soon as the partial file is renamed, the slot may be somebody else's.
        fs::remove_file(self.path(DESCRIPTION)).or_else(absent_is_fine)?;
        fs::rename(artefact, target)?;
        self.stays = artefact == self.partial_path();
        Ok(())
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.stays {
            // The partial file goes last: it holds the lock.
            for suffix in [UNPACKED, DESCRIPTION, PARTIAL] {
                let _ = fs::remove_file(self.path(suffix));
            }
        }
    }
}

fn create(path: &Path, truncate: bool) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Opens and locks the file at `path`; `None` if someone else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = create(path, false)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Meanwhile its owner may have finished with it, and put it elsewhere.
    let (own, there) = (file.metadata()?, fs::symlink_metadata(path));
    let is_still_there =
        there.is_ok_and(|there| there.ino() == own.ino() && there.dev() == own.dev());
    Ok(is_still_there.then_some(file))
}

/// A file that a download left in the staging folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its name in the staging folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
}

/// What downloads that nobody went on with left in `staging`: all files of those slots in which
/// none has changed for `age` and which nobody uses.
///
/// # Errors
/// [`FetchError::Staging`] if the folder cannot be read.
pub fn leftovers(staging: &Path, age: Duration) -> Result<Vec<Leftover>, FetchError> {
    in_old_slots(staging, age, |_| true)
}

/// Removes what [`leftovers`] tells of; the result is what is gone.
///
/// # Errors
/// [`FetchError::Staging`] if the folder cannot be read; a file that cannot be removed is left.
pub fn sweep(staging: &Path, age: Duration) -> Result<Vec<Leftover>, FetchError> {
    in_old_slots(staging, age, |path| fs::remove_file(path).is_ok())
}

/// The files in old slots that `take` accepts, which is called while nobody can claim the slot.
fn in_old_slots(
    staging: &Path,
    age: Duration,
    take: impl Fn(&Path) -> bool,
) -> Result<Vec<Leftover>, FetchError> {
    let failed = |source| FetchError::Staging {
        path: staging.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut slots = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if is_of_download(&path) {
            slots.insert(path.with_extension(""));
        }
    }
    let mut taken = Vec::new();
    for slot in slots {
        // The partial file goes last: it holds the lock.
        let files = [UNPACKED, DESCRIPTION, PARTIAL].map(|suffix| with_suffix(&slot, suffix));
        let there = |path: &PathBuf| Some((path.clone(), fs::symlink_metadata(path).ok()?));
        let files: Vec<_> = files.iter().filter_map(there).collect();
        // A note is written once, and a download may take longer than `age`.
        if !files.iter().all(|(_, metadata)| is_older(metadata, age)) {
            continue;
        }
        // Whoever claims the slot meanwhile does not wait, but takes another one.
        let partial = File::open(with_suffix(&slot, PARTIAL));
        let is_free = |partial: &File| partial.try_lock().is_ok();
        if partial.as_ref().map_or(true, is_free) {
            taken.extend(files.iter().filter_map(|(path, metadata)| {
                let file = path.file_name()?.to_str()?.to_owned();
                let size = metadata.len();
                take(path).then_some(Leftover { file, size })
            }));
        }
    }
    Ok(taken)
}

/// The file of a slot; not `with_extension`, for which the slot's number is one.
fn with_suffix(slot: &Path, suffix: &str) -> PathBuf {
    let mut name = slot.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Whether it has a name that only slots give.
pub fn is_of_download(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let mut parts = name.unwrap_or_default().split('.');
    let is = |part: Option<&str>, allowed: fn(&u8) -> bool| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| allowed(&byte)))
    };
    is(parts.next(), u8::is_ascii_hexdigit)
        && is(parts.next(), u8::is_ascii_digit)
        && matches!(parts.next(), Some(PARTIAL | DESCRIPTION | UNPACKED))
        && parts.next().is_none()
}

fn is_older(metadata: &fs::Metadata, age: Duration) -> bool {
    metadata.modified().is_ok_and(|modified| {
        // A time in the future is a clock that was wrong: as old as any.
        SystemTime::now()
            .duration_since(modified)
            .map_or(true, |since| since >= age)
    })
}

/// The room that a file system has for downloads.
#[derive(Clone, Debug)]
pub(super) struct Room {
    folder: PathBuf,
}

/// Bytes that downloads leave free for everything else on the file system; on small ones a
/// twentieth.
const RESERVE: u64 = 64 << 20;

impl Room {
    pub fn in_folder(folder: &Path) -> Room {
        Room {
            folder: folder.to_path_buf(),
        }
    }

    /// Makes sure that `bytes` more, all that is still to come, can be written.
    pub fn demand(&self, bytes: u64) -> Result<(), FetchError> {
        match self.holds(bytes) {
            true => Ok(()),
            false => Err(self.lacking(Some(bytes))),
        }
    }

    /// Makes sure that the next `bytes` of something of unknown size can be written.
    pub fn allow(&self, bytes: u64) -> Result<(), FetchError> {
        match self.holds(bytes) {
            true => Ok(()),
            false => Err(self.lacking(None)),
        }
    }

    fn holds(&self, bytes: u64) -> bool {
        let available = self.available();
        available.is_none_or(|available| available >= bytes)
    }

    /// Bytes that can be written, less the reserve; `None` where the system does not say.
    fn available(&self) -> Option<u64> {
        let all = rustix::fs::statvfs(&self.folder).ok()?;
        let total = all.f_blocks.saturating_mul(all.f_frsize);
        let free = all.f_bavail.saturating_mul(all.f_frsize);
        Some(free.saturating_sub(RESERVE.min(total / 20)))
    }

    fn lacking(&self, needed: Option<u64>) -> FetchError {
        FetchError::NoSpace {
            folder: self.folder.clone(),
            needed,
            available: self.available().unwrap_or(0),
        }
    }

    /// What a failed write to `path` means.
    pub fn write_error(&self, path: &Path, source: io::Error) -> FetchError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.lacking(None),
            _ => FetchError::Staging {
                path: path.to_path_buf(),
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::resume::Validator;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn identity() -> Identity {
        Identity {
            validator: Validator("\"a\"".to_owned()),
            length: Some(5),
        }
    }

    #[test]
    fn what_stays_is_found_again_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let key = Digest::of(b"a");
        let mut slot = Slot::claim(folder.path(), key).unwrap();
        assert_eq!(slot.identity(), None);
        slot.partial().write_all(b"abc").unwrap();
        slot.describe(Some(&identity())).unwrap();
        slot.create_unpacked().unwrap();
        slot.stay();
        drop(slot);
        assert_eq!(names(folder.path()).len(), 2);
        let slot = Slot::claim(folder.path(), key).unwrap();
        assert_eq!(slot.identity(), Some(identity()));
        assert_eq!(slot.partial().metadata().unwrap().len(), 3);
        drop(slot);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn two_downloads_of_one_address_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let key = Digest::of(b"a");
        let first = Slot::claim(folder.path(), key).unwrap();
        let second = Slot::claim(folder.path(), key).unwrap();
        assert_ne!(first.partial_path(), second.partial_path());
        first.partial().write_all(b"first").unwrap();
        let target = folder.path().join("target");
        let artefact = first.partial_path();
        first.place(&artefact, &target).unwrap();
        drop(second);
        assert_eq!(names(folder.path()), ["target"]);
        let again = Slot::claim(folder.path(), key).unwrap();
        again.partial().write_all(b"x").unwrap();
        assert_eq!(fs::read(target).unwrap(), b"first");
    }

    #[test]
    fn nothing_is_written_through_a_link_in_the_staging_folder() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let key = Digest::of(b"a");
        let partial = format!("{}.0.partial", &key.hex()[..32]);
        std::os::unix::fs::symlink(&victim, folder.path().join(partial)).unwrap();
        assert!(Slot::claim(folder.path(), key).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn sweeping_takes_what_is_old_ours_and_not_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let mut left = Slot::claim(folder.path(), Digest::of(b"left")).unwrap();
        left.describe(Some(&identity())).unwrap();
        left.stay();
        drop(left);
        fs::write(folder.path().join("other.raw"), "x").unwrap();
        let used = Slot::claim(folder.path(), Digest::of(b"used")).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(sweep(folder.path(), minute).unwrap(), []);
        let told = leftovers(folder.path(), Duration::ZERO).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(names(folder.path()).len(), 4);
        assert_eq!(sweep(folder.path(), Duration::ZERO).unwrap(), told);
        assert_eq!(names(folder.path()).len(), 2);
        drop(used);
        assert_eq!(names(folder.path()), ["other.raw"]);
        let none = folder.path().join("none");
        assert_eq!(sweep(&none, Duration::ZERO).unwrap(), []);
    }

    #[test]
    fn a_slot_is_as_old_as_the_newest_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut slot = Slot::claim(folder.path(), Digest::of(b"slow")).unwrap();
        slot.describe(Some(&identity())).unwrap();
        slot.stay();
        drop(slot);
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let set_old = |suffix: &str| {
            let name = names(folder.path())
                .into_iter()
                .find(|name| name.ends_with(suffix));
            let file = File::options()
                .append(true)
                .open(folder.path().join(name.unwrap()));
            file.unwrap().set_modified(long_ago).unwrap();
        };
        let minute = Duration::from_secs(60);
        set_old(DESCRIPTION);
        assert_eq!(sweep(folder.path(), minute).unwrap(), []);
        set_old(PARTIAL);
        assert_eq!(sweep(folder.path(), minute).unwrap().len(), 2);
    }

    #[test]
    fn room_that_no_disk_has_is_missed() {
        let room = Room::in_folder(Path::new("/"));
        assert!(room.demand(1).is_ok());
        let error = room.demand(u64::MAX).unwrap_err();
        assert!(matches!(
            error,
            FetchError::NoSpace {
                needed: Some(_),
                ..
            }
        ));
        assert!(room.allow(1).is_ok());
        let error = room.allow(u64::MAX).unwrap_err();
        assert!(matches!(error, FetchError::NoSpace { needed: None, .. }));
    }
}
