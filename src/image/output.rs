//! A file that appears under its final name only when it is complete.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::folder::open_folder;
use super::ownership::give_to_owner_of;

/// Read and write for the owner, read for others, as far as the umask allows.
const PERMISSIONS: Mode = Mode::from_raw_mode(0o644);

/// Where an open file has a name of which a link can be made (proc(5)).
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// Temporary files that have a name, for [`discard_pending`].
static PENDING: Mutex<Vec<Named>> = Mutex::new(Vec::new());

/// A name in an open folder.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) folder: Arc<OwnedFd>,
    pub(crate) name: PathBuf,
}

/// A file on its way to its final name.
///
/// Until [`Output::commit`] it has no name at all (`O_TMPFILE`), so that nothing is left whatever
/// happens to the program. On file systems that know no such files it is a hidden one beside the
/// target, which is removed on drop and by [`discard_pending`].
///
/// What root writes into somebody's folder belongs to that folder's owner. The folder is looked up
/// once: whoever could put another one in its place would otherwise get his file into that.
#[derive(Debug)]
pub struct Output {
    file: File,
    target: PathBuf,
    place: Named,
    /// The name of the temporary file, where it has one.
    temporary: Option<Named>,
}

/// Why a file could not be made or put into its place.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The folder is missing, or is none.
    #[error("there is no output folder {0}; create it first")]
    NoFolder(PathBuf),
    /// The target is a folder.
    #[error("{0} is a folder; remove it or choose another name")]
    TargetIsFolder(PathBuf),
    /// A file could not be created there.
    #[error("cannot create {path}")]
    Create {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The complete file could not be stored or get its name.
    #[error("cannot put {path} into its place")]
    Commit {
        /// The target.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Output {
    /// Starts the file `folder/name`.
    ///
    /// # Errors
    /// [`OutputError`], which names the path.
    pub fn create(folder: &Path, name: impl AsRef<Path>) -> Result<Output, OutputError> {
        let name = name.as_ref();
        let target = folder.join(name);
        let opened = match open_folder(folder) {
            Ok(opened) => opened,
            Err(source) => {
                return Err(match Errno::from_io_error(&source) {
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {
                        OutputError::NoFolder(folder.to_path_buf())
                    }
                    _ => OutputError::Create {
                        path: target,
                        source,
                    },
                });
            }
        };
        let place = Named {
            folder: Arc::new(opened),
            name: name.to_path_buf(),
        };
        if place.is_folder() {
            return Err(OutputError::TargetIsFolder(target));
        }
        let (file, temporary) = create_temporary(&place).map_err(|source| OutputError::Create {
            path: target.clone(),
            source,
        })?;
        Ok(Output {
            file,
            target,
            place,
            temporary,
        })
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file will appear.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Stores the content and gives the file its final name, in the place of whatever had it.
    ///
    /// # Errors
    /// [`OutputError::Commit`]; the target is then as it was before, unless it was only the folder
    /// that could not be stored.
    pub fn commit(mut self) -> Result<PathBuf, OutputError> {
        match self.store_and_name() {
            Ok(()) => Ok(self.target.clone()),
            Err(source) => Err(OutputError::Commit {
                path: self.target.clone(),
                source,
            }),
        }
    }

    fn store_and_name(&mut self) -> io::Result<()> {
        give_to_owner_of(&self.place.folder, &self.file)?;
        self.file.sync_all()?;
        if self.temporary.is_none() {
            if self.link(&self.place)? {
                return self.place.store();
            }
            self.temporary = Some(self.link_beside()?);
        }
        if let Some(temporary) = &self.temporary {
            temporary.rename(&self.place)?;
            forget(temporary);
            self.temporary = None;
        }
        self.place.store()
    }

    /// Gives the nameless file the name `place`; `false` where the name is taken.
    fn link(&self, place: &Named) -> io::Result<bool> {
        // linkat(2): the way that needs no capability leads through /proc.
        let own = format!("{OWN_DESCRIPTORS}/{}", self.file.as_raw_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        match rustix::fs::linkat(CWD, &own, &place.folder, &place.name, flags) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the nameless file a hidden name from which it can be renamed over the target.
    fn link_beside(&self) -> io::Result<Named> {
        for attempt in 0_u32.. {
            let hidden = self.place.hidden(attempt);
            remember(&hidden);
            match self.link(&hidden) {
                Ok(true) => return Ok(hidden),
                Ok(false) => forget(&hidden),
                Err(error) => {
                    forget(&hidden);
                    return Err(error);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            temporary.remove();
            forget(&temporary);
        }
    }
}

impl Named {
    fn is_folder(&self) -> bool {
        rustix::fs::statat(&self.folder, &self.name, AtFlags::empty())
            .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
    }

    fn rename(&self, to: &Named) -> io::Result<()> {
        let renamed = rustix::fs::renameat(&self.folder, &self.name, &to.folder, &to.name);
        Ok(renamed?)
    }

    fn remove(&self) {
        // The program is on its way out of an error already.
        let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
    }

    /// Stores the names in the folder.
    fn store(&self) -> io::Result<()> {
        sync_folder_at(&self.folder, Path::new("."))
    }

    /// `.#NAME.PROCESS.ATTEMPT`: systemd's image discovery passes over names that start with `.#`.
    fn hidden(&self, attempt: u32) -> Named {
        let name = self.name.file_name().unwrap_or_default().to_string_lossy();
        let hidden = format!(".#{name}.{}.{attempt}", std::process::id());
        Named {
            folder: Arc::clone(&self.folder),
            name: self.name.with_file_name(hidden),
        }
    }

    fn is(&self, other: &Named) -> bool {
        Arc::ptr_eq(&self.folder, &other.folder) && self.name == other.name
    }
}

/// Removes every named temporary file of unfinished outputs: what a program that is about to be
/// ended by a signal calls. An output that would need another name from now on waits for that end.
pub fn discard_pending() {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    for temporary in pending.drain(..) {
        temporary.remove();
    }
    std::mem::forget(pending);
}

fn remember(temporary: &Named) {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.push(temporary.clone());
}

fn forget(temporary: &Named) {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.retain(|candidate| !candidate.is(temporary));
}

fn create_temporary(place: &Named) -> io::Result<(File, Option<Named>)> {
    // Without /proc a nameless file could not get its name: better to know now than after the work.
    if !Path::new(OWN_DESCRIPTORS).is_dir() {
        return create_hidden(place);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(&place.folder, ".", flags, PERMISSIONS) {
        Ok(descriptor) => Ok((File::from(descriptor), None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => create_hidden(place),
        Err(error) => Err(error.into()),
    }
}

fn create_hidden(place: &Named) -> io::Result<(File, Option<Named>)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    for attempt in 0_u32.. {
        let hidden = place.hidden(attempt);
        remember(&hidden);
        match rustix::fs::openat(&hidden.folder, &hidden.name, flags, PERMISSIONS) {
            Ok(descriptor) => return Ok((File::from(descriptor), Some(hidden))),
            Err(error) => {
                forget(&hidden);
                if error != Errno::EXIST {
                    return Err(error.into());
                }
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Stores the names in `folder`, where that can be done: not in one that may be written but not
/// read, and not on file systems that know no such thing.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    sync_folder_at(CWD, folder)
}

/// The same for the folder `path` of the open folder `at`.
pub(crate) fn sync_folder_at(at: impl AsFd, path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(at, path, flags, Mode::empty());
    match opened
        .map_err(io::Error::from)
        .and_then(|folder| Ok(rustix::fs::fsync(folder)?))
    {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_has_a_name_before_commit() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(folder.path(), "x").unwrap();
        output.file().write_all(b"new").unwrap();
        assert_eq!(names(folder.path()), [""; 0]);
        output.commit().unwrap();
        assert_eq!(names(folder.path()), ["x"]);
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"new");
    }

    #[test]
    fn an_existing_file_is_replaced_by_commit_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        fs::write(&target, "old").unwrap();
        drop(Output::create(folder.path(), "x").unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"old");
        let output = Output::create(folder.path(), "x").unwrap();
        output.file().write_all(b"new").unwrap();
        output.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn a_temporary_file_with_a_name_goes_with_its_owner_or_with_the_signal() {
        let folder = tempfile::tempdir().unwrap();
        let named = || {
            let place = Named {
                folder: Arc::new(open_folder(folder.path()).unwrap()),
                name: "x".into(),
            };
            let (file, temporary) = create_hidden(&place).unwrap();
            Output {
                file,
                target: folder.path().join("x"),
                place,
                temporary,
            }
        };
        let output = named();
        assert_eq!(names(folder.path()).len(), 1);
        drop(output);
        assert_eq!(names(folder.path()), [""; 0]);
        let output = named();
        let other = named();
        assert_eq!(names(folder.path()).len(), 2);
        drop(other);
        output.commit().unwrap();
        assert_eq!(names(folder.path()), ["x"]);
    }

    #[test]
    fn a_folder_that_takes_the_place_of_the_first_gets_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let [first, second, aside] = ["first", "second", "aside"].map(|n| scratch.path().join(n));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        for _ in ["new", "replaced"] {
            let output = Output::create(&first, "x").unwrap();
            fs::rename(&first, &aside).unwrap();
            std::os::unix::fs::symlink(&second, &first).unwrap();
            output.commit().unwrap();
            fs::remove_file(&first).unwrap();
            fs::rename(&aside, &first).unwrap();
        }
        assert_eq!(names(&first), ["x"]);
        assert_eq!(names(&second), [""; 0]);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(matches!(
            Output::create(&missing, "x"),
            Err(OutputError::NoFolder(_))
        ));
        fs::create_dir(&missing).unwrap();
        assert!(matches!(
            Output::create(folder.path(), "missing"),
            Err(OutputError::TargetIsFolder(_))
        ));
    }
}
