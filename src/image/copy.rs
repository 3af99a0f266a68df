//! Copying an image beside its place.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::{MetadataExt, fchown};

/// How much is copied between two reports of progress.
const PIECE_BYTES: u64 = 64 << 20;

/// Is told how many more bytes were read or copied.
pub type OnBytes<'a> = &'a (dyn Fn(u64) + Sync);

/// Gives the empty file `copy` the content of `original`: by sharing its blocks where the file
/// system can do that, else within the kernel.
pub fn copy_content(
    original: &File,
    copy: &File,
    size: u64,
    on_bytes: OnBytes<'_>,
) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(copy, original).is_ok() {
        on_bytes(size);
        return Ok(());
    }
    let (mut original, mut copy) = (original, copy);
    original.rewind()?;
    let mut done = 0;
    while done < size {
        // Between files this is copy_file_range(2).
        let copied = io::copy(&mut original.take(PIECE_BYTES.min(size - done)), &mut copy)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += copied;
        on_bytes(copied);
    }
    Ok(())
}

/// Whoever could read the old file, and nobody else, can read the new one.
pub fn take_over_owner(original: &File, copy: &File) -> io::Result<()> {
    let (old, new) = (original.metadata()?, copy.metadata()?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        // Only root can give files away; an image of one's own is no less signed.
        let _ = fchown(copy, Some(old.uid()), Some(old.gid()));
    }
    copy.set_permissions(old.permissions())
}
