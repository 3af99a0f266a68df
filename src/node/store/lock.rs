//! One change at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;

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
        let io = StoreError::io("lock", path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(&io)?;
        let started = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => sleep(PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(StoreError::Busy {
                        path: path.to_path_buf(),
                        holder: fs::read_to_string(path)
                            .unwrap_or_default()
                            .trim()
                            .to_owned(),
                    });
                }
                Err(error) => return Err(io(error.into())),
            }
        }
        file.rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(&io)?;
        Ok(Lock { _file: file })
    }
}
