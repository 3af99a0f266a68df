//! What an image that nobody proved says it is.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::artefact::ArtefactName;
use crate::erofs::FileSystem;
use crate::extension::ExtensionName;
use crate::image::{Ddi, Designator, Role};
use crate::read_at::{FileWindow, ReadAt};
use crate::verification::find_release;

/// Bytes that may be read of a file system: the way to a release file takes a few blocks, and one in a
/// hostile image could lead through all of it.
const MAX_BYTES: u64 = 4 << 20;

/// The extension that the image at `path`, which has the name `file`, would be to systemd; nothing
/// where it cannot be read or is none. Nothing of it is proved.
pub fn released_name(path: &Path, file: &ArtefactName) -> Option<ExtensionName> {
    let (data, designator) = match Ddi::examine(path) {
        Ok((ddi, _)) => {
            let kind = ddi.partition(Role::Data)?.kind?;
            (ddi.open_partition(Role::Data).ok()??, kind.designator)
        }
        // systemd merges a file system alone, too.
        Err(_) => {
            let whole = FileWindow::whole(File::open(path).ok()?).ok()?;
            (whole, Designator::Root)
        }
    };
    let file_system = FileSystem::open(Rationed::new(data, MAX_BYTES)).ok()?;
    let known_as = Path::new("/").join(file.file());
    let found = find_release(&file_system, designator, &known_as).ok()?;
    found.name.parse().ok()
}

/// Lets only so much be read.
struct Rationed<R> {
    source: R,
    left: AtomicU64,
}

impl<R> Rationed<R> {
    fn new(source: R, bytes: u64) -> Rationed<R> {
        let left = AtomicU64::new(bytes);
        Rationed { source, left }
    }
}

impl<R: ReadAt> ReadAt for Rationed<R> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let take = |left: u64| left.checked_sub(buffer.len() as u64);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.source.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let rationed = Rationed::new(&[7_u8; 64][..], 40);
        let mut buffer = [0; 16];
        for offset in [0, 48] {
            assert!(rationed.read_exact_at(&mut buffer, offset).is_ok());
        }
        let error = rationed.read_exact_at(&mut buffer, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(rationed.read_exact_at(&mut buffer[..8], 0).is_ok());
    }
}
