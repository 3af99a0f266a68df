//! The hidden folder in which a key set is written, and what becomes of it when a signal ends the program.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, Mode};
use rustix::io::Errno;

use crate::image::{Named, make_folder};

/// Nobody but the owner looks into a folder with private keys.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);

/// Folders with unfinished key sets, for [`discard_pending`].
static PENDING: Mutex<Vec<Arc<Staging>>> = Mutex::new(Vec::new());

pub(super) fn pending() -> MutexGuard<'static, Vec<Arc<Staging>>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes unfinished key sets, for a program that is about to die of a signal. Whoever would touch
/// one from now on waits for that end.
pub fn discard_pending() {
    let mut pending = pending();
    for staging in pending.drain(..) {
        staging.remove();
    }
    std::mem::forget(pending);
}

/// The hidden folder of an unfinished key set.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) folder: Arc<OwnedFd>,
    /// Where it was made.
    pub(super) place: Named,
}

impl Staging {
    /// Creates `.#NAME.PROCESS.ATTEMPT` in `around`.
    pub(super) fn create(around: &Arc<OwnedFd>, name: &str) -> io::Result<Arc<Staging>> {
        for attempt in 0_u32.. {
            let place = Named {
                folder: Arc::clone(around),
                name: format!(".#{name}.{}.{attempt}", std::process::id()).into(),
            };
            let mut pending = pending();
            match make_folder(around, &place.name, FOLDER_MODE) {
                Ok(folder) => {
                    let folder = Arc::new(folder);
                    let staging = Arc::new(Staging { folder, place });
                    pending.push(Arc::clone(&staging));
                    return Ok(staging);
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn named(&self, name: impl Into<PathBuf>) -> Named {
        Named {
            folder: Arc::clone(&self.folder),
            name: name.into(),
        }
    }

    /// Removes the folder, unless it has become the key set, or is not where it was made.
    pub(super) fn remove(&self) {
        if !self.is_in_place().is_ok_and(|is| is) {
            return;
        }
        // The program is on its way out of an error already.
        for entry in Dir::read_from(&self.folder).into_iter().flatten().flatten() {
            let _ = rustix::fs::unlinkat(&self.folder, entry.file_name(), AtFlags::empty());
        }
        let _ = rustix::fs::unlinkat(&self.place.folder, &self.place.name, AtFlags::REMOVEDIR);
    }

    fn is_in_place(&self) -> rustix::io::Result<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let there = rustix::fs::statat(&self.place.folder, &self.place.name, flags)?;
        let ours = rustix::fs::fstat(&self.folder)?;
        Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
    }
}
