//! Temporary files without a name: nothing is left of them, whatever ends the program.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags};

use super::error::SourceError;

/// A new temporary file in `$TMPDIR` (or `/tmp`).
pub(super) fn temporary_file() -> Result<File, SourceError> {
    let directory = env::temp_dir();
    unnamed(&directory).map_err(|source| SourceError::Temporary { directory, source })
}

/// The error for a failed write into a temporary file.
pub(super) fn write_failed(source: io::Error) -> SourceError {
    SourceError::Temporary {
        directory: env::temp_dir(),
        source,
    }
}

fn unnamed(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // File systems without O_TMPFILE (some FUSE and network ones) say one of these.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT) => {
            unlinked(directory)
        }
        Err(error) => Err(error.into()),
    }
}

fn unlinked(directory: &Path) -> io::Result<File> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".sysgraft-{}-{count}", process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match file {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn temporary_files_leave_no_name_behind() {
        let directory = tempfile::tempdir().unwrap();
        for make in [unnamed, unlinked] {
            let mut file = make(directory.path()).unwrap();
            file.write_all(b"abc").unwrap();
            file.rewind().unwrap();
            let mut back = String::new();
            file.read_to_string(&mut back).unwrap();
            assert_eq!(back, "abc");
            assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        }
        assert!(unnamed(&directory.path().join("absent")).is_err());
    }
}
