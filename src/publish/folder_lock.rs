//! One publisher at a time.

use std::fs::File;
use std::io;
use std::path::Path;

/// Waits until nobody else publishes into `folder`, and keeps others waiting until the result is
/// dropped. The folder itself is locked, so that nothing is left in it.
pub(super) fn lock_folder(folder: &Path) -> io::Result<File> {
    let lock = File::open(folder)?;
    if !lock.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    lock.lock()?;
    Ok(lock)
}
