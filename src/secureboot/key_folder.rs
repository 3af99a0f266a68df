//! Storing a key set: all of it or nothing, and never over a private key unasked.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};

use super::KeyFile;
use crate::image::{
    create_folders, give_folder_to_owner_of, give_to_owner_of, open_folder, parent, sync_folder,
};

/// Nobody but the owner looks into a folder with private keys.
const FOLDER_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// Every private key that a set can have.
const PRIVATE_KEYS: [&str; 5] = [
    "PK.key",
    "KEK.key",
    "db.key",
    "extension.key",
    "tpm2-pcr-private.pem",
];

/// Folders with unfinished key sets, for [`discard_pending`].
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes unfinished key sets, for a program that is about to die of a signal. Whoever would touch
/// one from now on waits for that end.
pub fn discard_pending() {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in pending.drain(..) {
        let _ = fs::remove_dir_all(folder);
    }
    std::mem::forget(pending);
}

/// Why a key set could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There are keys already.
    #[error(
        "{folder} already holds {}; choose another --output, or let --force replace them, which destroys the private keys there",
        .names.join(", ")
    )]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// The files that are in the way.
        names: Vec<String>,
    },
    /// There is something else than a folder.
    #[error("{0} is no folder; choose another --output")]
    NoFolder(PathBuf),
    /// A file of the set would replace a folder.
    #[error("{0} is a folder; remove it or choose another --output")]
    IsFolder(PathBuf),
    /// A file could not be put into its place, nor what was there back.
    #[error(
        "{failure}, and not everything could be put back: the rest of the old keys is in {staging}"
    )]
    Stranded {
        /// Where the old files are.
        staging: PathBuf,
        /// What failed first.
        failure: Box<FolderError>,
    },
    /// A folder or file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A folder on its way to a key set.
///
/// The set is written into a hidden folder: beside a folder that does not exist yet, which then
/// appears at once by a rename; within one that exists, from which each file is then renamed to its
/// place, and back if one of them cannot.
#[derive(Debug)]
pub struct KeyFolder {
    target: PathBuf,
    staging: PathBuf,
    exists: bool,
    replace: bool,
    /// Whether `staging` must stay, because old keys could not be put back.
    holds_old_keys: bool,
}

impl KeyFolder {
    /// Sees to it that `target` can take a key set, before keys are made. `replace` allows to
    /// destroy the keys that are there.
    ///
    /// # Errors
    /// [`FolderError`], which names the folder or file in the way.
    pub fn prepare(target: &Path, replace: bool) -> Result<KeyFolder, FolderError> {
        let exists = target.symlink_metadata().is_ok();
        if exists && !target.is_dir() {
            return Err(FolderError::NoFolder(target.to_path_buf()));
        }
        let occupied = present(target, PRIVATE_KEYS.into_iter());
        if !replace && !occupied.is_empty() {
            return Err(FolderError::Occupied {
                folder: target.to_path_buf(),
                names: occupied,
            });
        }
        let staging = if exists {
            create_staging(&target.join("keys"))
        } else {
            create_folders(parent(target)).and_then(|()| create_staging(target))
        };
        Ok(KeyFolder {
            staging: staging.map_err(cannot_write(target))?,
            target: target.to_path_buf(),
            exists,
            replace,
            holds_old_keys: false,
        })
    }

    /// Stores `files`, all or none.
    ///
    /// # Errors
    /// [`FolderError`], which names the file. The folder is then as it was before, unless the error is
    /// [`FolderError::Stranded`].
    pub fn store(mut self, files: &[KeyFile]) -> Result<(), FolderError> {
        for file in files {
            let path = self.staging.join(&file.name);
            write(&path, file, self.around())
                .map_err(cannot_write(&self.target.join(&file.name)))?;
        }
        give_folder_to_owner_of(self.around(), &self.staging)
            .and_then(|()| sync_folder(&self.staging))
            .map_err(cannot_write(&self.target))?;
        // A signal that comes now waits until everything is in its place.
        let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.exists {
            self.place_files(files)?;
        } else {
            rename_to_free(&self.staging, &self.target).map_err(cannot_write(&self.target))?;
        }
        drop(pending);
        sync_folder(self.around()).map_err(cannot_write(&self.target))
    }

    /// The folder in which names appear, and whose owner gets what root writes.
    fn around(&self) -> &Path {
        if self.exists {
            &self.target
        } else {
            parent(&self.target)
        }
    }

    fn place_files(&mut self, files: &[KeyFile]) -> Result<(), FolderError> {
        let names = || files.iter().map(|file| file.name.as_str());
        let occupied = present(&self.target, names());
        if let Some(folder) = occupied
            .iter()
            .map(|name| self.target.join(name))
            .find(|path| is_folder(path))
        {
            return Err(FolderError::IsFolder(folder));
        }
        if !self.replace && !occupied.is_empty() {
            return Err(FolderError::Occupied {
                folder: self.target.clone(),
                names: occupied,
            });
        }
        let mut moves = Moves::default();
        let placed = self.exchange(files, &occupied, &mut moves);
        placed.map_err(|failure| match moves.undo() {
            Ok(()) => failure,
            Err(_) => {
                self.holds_old_keys = true;
                FolderError::Stranded {
                    staging: self.staging.clone(),
                    failure: Box::new(failure),
                }
            }
        })
    }

    /// Moves the files that are in the way aside, and the new ones to their places.
    fn exchange(
        &self,
        files: &[KeyFile],
        occupied: &[String],
        moves: &mut Moves,
    ) -> Result<(), FolderError> {
        for name in occupied {
            let aside = self.staging.join(format!("replaced.{name}"));
            moves.rename(&self.target.join(name), &aside)?;
        }
        for file in files {
            let from = self.staging.join(&file.name);
            moves.rename(&from, &self.target.join(&file.name))?;
        }
        Ok(())
    }
}

impl Drop for KeyFolder {
    fn drop(&mut self) {
        if !self.holds_old_keys {
            // After a rename there is nothing left to remove.
            let _ = fs::remove_dir_all(&self.staging);
        }
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|folder| *folder != self.staging);
    }
}

/// Renames that can be undone.
#[derive(Default)]
struct Moves(Vec<(PathBuf, PathBuf)>);

impl Moves {
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), FolderError> {
        rename_to_free(from, to).map_err(cannot_write(to))?;
        self.0.push((from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    /// Undoes as many as it can; the first error.
    fn undo(self) -> io::Result<()> {
        let moves = self.0.into_iter().rev();
        let undone: Vec<_> = moves.map(|(from, to)| rename_to_free(&to, &from)).collect();
        undone.into_iter().collect()
    }
}

/// Renames to a name that nobody has.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> FolderError {
    move |source| FolderError::Write {
        path: path.to_path_buf(),
        source,
    }
}

/// Those of `names` that are in `folder`.
fn present<'a>(folder: &Path, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names
        .filter(|name| folder.join(name).symlink_metadata().is_ok())
        .map(str::to_owned)
        .collect()
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_dir())
}

/// Creates the hidden folder `.#NAME.PROCESS.ATTEMPT` beside `path`.
fn create_staging(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for attempt in 0_u32.. {
        let staging = path.with_file_name(format!(".#{name}.{}.{attempt}", std::process::id()));
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        match DirBuilder::new().mode(FOLDER_MODE).create(&staging) {
            Ok(()) => {
                pending.push(staging.clone());
                return Ok(staging);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn write(path: &Path, file: &KeyFile, around: &Path) -> io::Result<()> {
    let mode = if file.secret {
        SECRET_MODE
    } else {
        PUBLIC_MODE
    };
    let mut options = File::options();
    let mut output = options.write(true).create_new(true).mode(mode).open(path)?;
    output.write_all(&file.content)?;
    give_to_owner_of(open_folder(around)?, &output)?;
    output.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn files(content: &str) -> Vec<KeyFile> {
        let file = |name: &str, secret| KeyFile {
            name: name.to_owned(),
            content: content.into(),
            secret,
        };
        vec![file("PK.key", true), file("PK.pem", false)]
    }

    fn store(target: &Path, content: &str, replace: bool) -> Result<(), FolderError> {
        KeyFolder::prepare(target, replace)?.store(&files(content))
    }

    /// Names and contents of a folder, hidden ones too.
    fn contents(folder: &Path) -> Vec<(String, String)> {
        let mut contents: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let content = fs::read_to_string(entry.path()).unwrap_or_default();
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect();
        contents.sort();
        contents
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, content): &(&str, &str)| (name.to_string(), content.to_string());
        pairs.iter().map(owned).collect()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_appears_complete_and_closed() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("a/b/keys");
        store(&target, "new", false).unwrap();
        assert_eq!(
            contents(&target),
            pairs(&[("PK.key", "new"), ("PK.pem", "new")])
        );
        assert_eq!(contents(target.parent().unwrap()).len(), 1);
        assert_eq!(mode(&target), 0o700);
        assert_eq!(mode(&target.join("PK.key")), 0o600);
    }

    #[test]
    fn keys_in_an_existing_folder_are_replaced_only_on_demand() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path();
        fs::write(target.join("other"), "other").unwrap();
        store(target, "old", false).unwrap();
        let old = pairs(&[("PK.key", "old"), ("PK.pem", "old"), ("other", "other")]);
        assert_eq!(contents(target), old);
        let error = store(target, "new", false).unwrap_err();
        assert!(
            error.to_string().contains("already holds PK.key;"),
            "{error}"
        );
        fs::remove_file(target.join("PK.key")).unwrap();
        let error = store(target, "new", false).unwrap_err();
        assert!(
            error.to_string().contains("already holds PK.pem;"),
            "{error}"
        );
        assert_eq!(contents(target), old[1..]);
        store(target, "new", true).unwrap();
        let new = pairs(&[("PK.key", "new"), ("PK.pem", "new"), ("other", "other")]);
        assert_eq!(contents(target), new);
    }

    #[test]
    fn a_failure_halfway_puts_everything_back() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path();
        store(target, "old", false).unwrap();
        let folder = KeyFolder::prepare(target, true).unwrap();
        let mut files = files("new");
        // It can be written, but its place is missing when its turn comes.
        files.push(KeyFile {
            name: "nowhere/file".to_owned(),
            content: vec![],
            secret: false,
        });
        fs::create_dir(folder.staging.join("nowhere")).unwrap();
        let error = folder.store(&files).unwrap_err();
        assert!(error.to_string().contains("nowhere/file"), "{error}");
        assert_eq!(
            contents(target),
            pairs(&[("PK.key", "old"), ("PK.pem", "old")])
        );
    }

    #[test]
    fn what_cannot_be_put_back_hinders_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let mut moves = Moves::default();
        for name in ["a", "b"] {
            fs::write(path(name), name).unwrap();
            let aside = path(&format!("{name}.aside"));
            moves.rename(&path(name), &aside).unwrap();
        }
        fs::write(path("b"), "somebody's").unwrap();
        let error = moves.undo().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let left = pairs(&[("a", "a"), ("b", "somebody's"), ("b.aside", "b")]);
        assert_eq!(contents(scratch.path()), left);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        let error = store(&file, "new", true).unwrap_err();
        assert!(matches!(error, FolderError::NoFolder(_)), "{error}");
        let target = scratch.path().join("keys");
        fs::create_dir_all(target.join("PK.pem")).unwrap();
        let error = store(&target, "new", true).unwrap_err();
        assert!(matches!(error, FolderError::IsFolder(_)), "{error}");
        assert_eq!(contents(&target), pairs(&[("PK.pem", "")]));
    }
}
