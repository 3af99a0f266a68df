//! A file that appears under its final name only when it is complete.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::ownership::give_to_owner_of;

/// Read and write for the owner, read for others, as far as the umask allows.
const PERMISSIONS: u32 = 0o644;

/// Where an open file has a name of which a link can be made (proc(5)).
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// Temporary files that have a name, for [`discard_pending`].
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file on its way to its final name.
///
/// Until [`Output::commit`] it has no name at all (`O_TMPFILE`), so that nothing is left whatever
/// happens to the program. On file systems that know no such files it is a hidden one beside the
/// target, which is removed on drop and by [`discard_pending`].
///
/// What root writes into somebody's folder belongs to that folder's owner.
#[derive(Debug)]
pub struct Output {
    file: File,
    folder: PathBuf,
    target: PathBuf,
    /// The name of the temporary file, where it has one.
    temporary: Option<PathBuf>,
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
        let target = folder.join(name);
        if !folder.is_dir() {
            return Err(OutputError::NoFolder(folder.to_path_buf()));
        }
        if target.is_dir() {
            return Err(OutputError::TargetIsFolder(target));
        }
        let (file, temporary) =
            create_temporary(folder, &target).map_err(|source| OutputError::Create {
                path: target.clone(),
                source,
            })?;
        Ok(Output {
            file,
            folder: folder.to_path_buf(),
            target,
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
        give_to_owner_of(&self.folder, &self.file)?;
        self.file.sync_all()?;
        if self.temporary.is_none() {
            if self.link(&self.target)? {
                return sync_folder(&self.folder);
            }
            self.temporary = Some(self.link_beside()?);
        }
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.target)?;
            forget(temporary);
            self.temporary = None;
        }
        sync_folder(&self.folder)
    }

    /// Gives the nameless file the name `path`; `false` where the name is taken.
    fn link(&self, path: &Path) -> io::Result<bool> {
        // linkat(2): the way that needs no capability leads through /proc.
        let own = CString::new(format!("{OWN_DESCRIPTORS}/{}", self.file.as_raw_fd()))?;
        match rustix::fs::linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the nameless file a hidden name from which it can be renamed over the target.
    fn link_beside(&self) -> io::Result<PathBuf> {
        for attempt in 0_u32.. {
            let path = hidden_name(&self.target, attempt);
            remember(&path);
            match self.link(&path) {
                Ok(true) => return Ok(path),
                Ok(false) => forget(&path),
                Err(error) => {
                    forget(&path);
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
            // The program is on its way out of an error already.
            let _ = fs::remove_file(&temporary);
            forget(&temporary);
        }
    }
}

/// Removes every named temporary file of unfinished outputs: what a program that is about to be
/// ended by a signal calls. An output that would need another name from now on waits for that end.
pub fn discard_pending() {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    for path in pending.drain(..) {
        let _ = fs::remove_file(path);
    }
    std::mem::forget(pending);
}

fn remember(path: &Path) {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.push(path.to_path_buf());
}

fn forget(path: &Path) {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    pending.retain(|candidate| candidate != path);
}

fn create_temporary(folder: &Path, target: &Path) -> io::Result<(File, Option<PathBuf>)> {
    // Without /proc a nameless file could not get its name: better to know now than after the work.
    if !Path::new(OWN_DESCRIPTORS).is_dir() {
        return create_hidden(target);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::from_raw_mode(PERMISSIONS)) {
        Ok(descriptor) => Ok((File::from(descriptor), None)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            create_hidden(target)
        }
        Err(error) => Err(error.into()),
    }
}

fn create_hidden(target: &Path) -> io::Result<(File, Option<PathBuf>)> {
    for attempt in 0_u32.. {
        let path = hidden_name(target, attempt);
        remember(&path);
        let created = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(PERMISSIONS)
            .open(&path);
        match created {
            Ok(file) => return Ok((file, Some(path))),
            Err(error) => {
                forget(&path);
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(error);
                }
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// `.#NAME.PROCESS.ATTEMPT`: systemd's image discovery passes over names that start with `.#`.
fn hidden_name(target: &Path, attempt: u32) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".#{name}.{}.{attempt}", std::process::id()))
}

/// Stores the names in `folder`, where that can be done: not in one that may be written but not
/// read, and not on file systems that know no such thing.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
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
            let target = folder.path().join("x");
            let (file, temporary) = create_hidden(&target).unwrap();
            Output {
                file,
                folder: folder.path().to_path_buf(),
                target,
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
