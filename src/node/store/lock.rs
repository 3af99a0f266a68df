//! One change at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::StoreError;
use crate::read_at::read_file;

/// How long a command waits for another one to finish.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a lock that another process has.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to change a store, as long as it lives. The kernel takes it back from a process that
/// dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody else changes what `path` stands for.
    ///
    /// # Errors
    /// [`StoreError::Busy`] after two minutes, [`StoreError::Io`].
    pub fn take(path: &Path) -> Result<Lock, StoreError> {
        Lock::take_within(path, PATIENCE)
    }

    fn take_within(path: &Path, patience: Duration) -> Result<Lock, StoreError> {
        let io = StoreError::io("lock", path);
        let started = Instant::now();
        loop {
            let file = open(path).map_err(&io)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_at(&file, path) => {
                    note_holder(&file).map_err(&io)?;
                    return Ok(Lock { _file: file });
                }
                // Somebody removed the file that was locked, and others lock a new one.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < patience => sleep(PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StoreError::Busy {
                        path: path.to_path_buf(),
                        holder: holder(path),
                    });
                }
                Err(error) => return Err(io(error.into())),
            }
        }
    }
}

/// Nothing that a link leads to is opened: its content would be lost.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(locked), Ok(found)) => (locked.dev(), locked.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

/// A full disk is no reason not to lock: removing something may be what is wanted.
fn note_holder(mut file: &File) -> io::Result<()> {
    let noted = file
        .rewind()
        .and_then(|()| file.set_len(0))
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    match noted {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(()),
    }
}

fn holder(path: &Path) -> String {
    let noted = read_file(path, 32).unwrap_or_default();
    match String::from_utf8_lossy(&noted).trim().parse::<u32>() {
        Ok(process) => format!("process {process}"),
        Err(_) => "its process is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_lock_keeps_others_out_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let error = Lock::take_within(&path, Duration::from_millis(50)).unwrap_err();
        let own = format!("(process {})", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        drop(held);
        Lock::take_within(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_lock_that_was_removed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::take(&path).unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || Lock::take_within(&path, Duration::from_secs(10)))
        };
        sleep(PAUSE * 2);
        fs::remove_file(&path).unwrap();
        drop(held);
        let lock = waiting.join().unwrap().unwrap();
        assert!(is_at(&lock._file, &path));
    }

    #[test]
    fn what_a_link_leads_to_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("lock"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(Lock::take(&path).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
