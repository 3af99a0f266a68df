//! Storing a key set: all of it or nothing, and never over a private key unasked.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::KeyFile;
use super::staging::{self, Staging};
use crate::image::{
    Named, create_folders, give_to_owner_of, is_foreign_link, open_folder, parent, sync_folder_at,
};

const SECRET_MODE: Mode = Mode::from_raw_mode(0o600);
const PUBLIC_MODE: Mode = Mode::from_raw_mode(0o644);

/// Every private key that a set can have.
const PRIVATE_KEYS: [&str; 5] = [
    "PK.key",
    "KEK.key",
    "db.key",
    "extension.key",
    "tpm2-pcr-private.pem",
];

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
/// place, and back if one of them cannot. Every folder is looked up once: whoever owns what is around
/// could put another one in its place.
#[derive(Debug)]
pub struct KeyFolder {
    target: PathBuf,
    /// The folder in which names appear, and whose owner gets what root writes.
    around: Arc<OwnedFd>,
    staging: Arc<Staging>,
    /// Whether `target` was there: it is `around` then.
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
        let existing = match open_folder(target) {
            Ok(folder) => Some(Arc::new(folder)),
            Err(error) if is_foreign_link(&error) => return Err(cannot_write(target)(error)),
            Err(_) => None,
        };
        if existing.is_none() && target.symlink_metadata().is_ok() {
            return Err(FolderError::NoFolder(target.to_path_buf()));
        }
        let exists = existing.is_some();
        let (around, name) = match existing {
            Some(folder) => (folder, "keys".into()),
            None => {
                let around = create_folders(parent(target)).map_err(cannot_write(target))?;
                let name = target.file_name().unwrap_or_default();
                (Arc::new(around), name.to_string_lossy())
            }
        };
        let occupied = match exists {
            true => present(&around, PRIVATE_KEYS.into_iter()),
            false => vec![],
        };
        if !replace && !occupied.is_empty() {
            return Err(FolderError::Occupied {
                folder: target.to_path_buf(),
                names: occupied,
            });
        }
        let staging = Staging::create(&around, &name).map_err(cannot_write(target))?;
        Ok(KeyFolder {
            target: target.to_path_buf(),
            around,
            staging,
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
            self.write(file)
                .map_err(cannot_write(&self.target.join(&file.name)))?;
        }
        let here = Path::new(".");
        give_to_owner_of(&self.around, &self.staging.folder)
            .and_then(|()| sync_folder_at(&self.staging.folder, here))
            .map_err(cannot_write(&self.target))?;
        // A signal that comes now waits until everything is in its place.
        let pending = staging::pending();
        if self.exists {
            self.place_files(files)?;
        } else {
            let name = self.target.file_name().unwrap_or_default();
            rename_to_free(&self.staging.place, &self.named(name))
                .map_err(cannot_write(&self.target))?;
        }
        drop(pending);
        sync_folder_at(&self.around, here).map_err(cannot_write(&self.target))
    }

    fn named(&self, name: impl Into<PathBuf>) -> Named {
        Named {
            folder: Arc::clone(&self.around),
            name: name.into(),
        }
    }

    fn write(&self, file: &KeyFile) -> io::Result<()> {
        let mode = if file.secret {
            SECRET_MODE
        } else {
            PUBLIC_MODE
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.staging.folder, &file.name, flags, mode)?;
        let mut output = File::from(opened);
        output.write_all(&file.content)?;
        give_to_owner_of(&self.around, &output)?;
        output.sync_all()
    }

    fn place_files(&mut self, files: &[KeyFile]) -> Result<(), FolderError> {
        let names = || files.iter().map(|file| file.name.as_str());
        let occupied = present(&self.around, names());
        if let Some(name) = occupied.iter().find(|name| is_folder(&self.around, name)) {
            return Err(FolderError::IsFolder(self.target.join(name)));
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
                    staging: self.target.join(&self.staging.place.name),
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
            let aside = self.staging.named(format!("replaced.{name}"));
            moves
                .rename(self.named(name), aside)
                .map_err(cannot_write(&self.target.join(name)))?;
        }
        for file in files {
            let from = self.staging.named(&file.name);
            moves
                .rename(from, self.named(&file.name))
                .map_err(cannot_write(&self.target.join(&file.name)))?;
        }
        Ok(())
    }
}

impl Drop for KeyFolder {
    fn drop(&mut self) {
        if !self.holds_old_keys {
            self.staging.remove();
        }
        staging::pending().retain(|staging| !Arc::ptr_eq(staging, &self.staging));
    }
}

/// Renames that can be undone.
#[derive(Default)]
struct Moves(Vec<(Named, Named)>);

impl Moves {
    fn rename(&mut self, from: Named, to: Named) -> io::Result<()> {
        rename_to_free(&from, &to)?;
        self.0.push((from, to));
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
fn rename_to_free(from: &Named, to: &Named) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(&from.folder, &from.name, &to.folder, &to.name, flags) {
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if rustix::fs::statat(&to.folder, &to.name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let renamed = rustix::fs::renameat(&from.folder, &from.name, &to.folder, &to.name);
            Ok(renamed?)
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
fn present<'a>(folder: &OwnedFd, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names
        .filter(|name| rustix::fs::statat(folder, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
        .map(str::to_owned)
        .collect()
}

fn is_folder(folder: &OwnedFd, name: &str) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
        let nowhere = target.join(&folder.staging.place.name).join("nowhere");
        fs::create_dir(&nowhere).unwrap();
        let error = folder.store(&files).unwrap_err();
        // Only names are removed: no set has folders.
        fs::remove_dir_all(nowhere.parent().unwrap()).unwrap();
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
        let folder = Arc::new(open_folder(scratch.path()).unwrap());
        let named = |name: &str| Named {
            folder: Arc::clone(&folder),
            name: name.into(),
        };
        let mut moves = Moves::default();
        for name in ["a", "b"] {
            fs::write(path(name), name).unwrap();
            let aside = named(&format!("{name}.aside"));
            moves.rename(named(name), aside).unwrap();
        }
        fs::write(path("b"), "somebody's").unwrap();
        let error = moves.undo().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let left = pairs(&[("a", "a"), ("b", "somebody's"), ("b.aside", "b")]);
        assert_eq!(contents(scratch.path()), left);
    }

    #[test]
    fn a_folder_that_takes_the_place_of_the_first_gets_no_keys() {
        let scratch = tempfile::tempdir().unwrap();
        let [around, aside, other] =
            ["around", "aside", "other"].map(|name| scratch.path().join(name));
        fs::create_dir(&around).unwrap();
        fs::create_dir(&other).unwrap();
        let exchange = |from: &Path, to: &Path| {
            fs::rename(from, to).unwrap();
            std::os::unix::fs::symlink(&other, from).unwrap();
        };
        // The one around a new set.
        let folder = KeyFolder::prepare(&around.join("keys"), false).unwrap();
        exchange(&around, &aside);
        folder.store(&files("new")).unwrap();
        let new = pairs(&[("PK.key", "new"), ("PK.pem", "new")]);
        assert_eq!(contents(&aside.join("keys")), new);
        // The hidden one in a folder that is there.
        let folder = KeyFolder::prepare(&aside, false).unwrap();
        let hidden = aside.join(&folder.staging.place.name);
        exchange(&hidden, &aside.join("moved"));
        folder.store(&files("new")).unwrap();
        assert_eq!(fs::read(aside.join("PK.key")).unwrap(), b"new");
        assert_eq!(contents(&aside.join("moved")), []);
        assert_eq!(contents(&other), []);
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
