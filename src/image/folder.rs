//! Opening the folder that something is written to.
//!
//! For root the way there may lead through somebody's folder, whose links could take what root writes to
//! where that somebody may not write himself: to another folder that a container was given, or to the
//! system's. So his links count only if they lead to folders of his own.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat};
use rustix::io::Errno;

use super::ownership::is_known;

/// A folder that is created, linked and renamed in, which needs no right to read it.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// As many links as the kernel follows on one way (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Somebody's link leads where he could not write himself.
#[derive(Debug, thiserror::Error)]
#[error(
    "the way there leads over a symbolic link of user {owner}, to a folder that is not that user's; name the folder itself, or link to it as root"
)]
struct ForeignLink {
    owner: u32,
}

/// Whether `error` comes from somebody's link.
pub(crate) fn is_foreign_link(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<ForeignLink>())
}

/// Opens `folder` as a place to create, link and rename in.
pub(crate) fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    open_folder_at(CWD, folder)
}

/// The same for the folder `path`, as seen from the open folder `around`.
pub(super) fn open_folder_at(around: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    // Others can write nowhere where they could not have been led to by name.
    if !rustix::process::geteuid().is_root() || path == Path::new("") {
        return Ok(rustix::fs::openat(around, path, FOLDER, Mode::empty())?);
    }
    Walk { links: MAX_LINKS }.open(around, path)
}

/// A way that is gone name by name, so that nobody can change what was looked at.
struct Walk {
    /// How many more of them are followed.
    links: u32,
}

impl Walk {
    fn open(&mut self, around: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
        let mut here = rustix::fs::openat(around, ".", FOLDER, Mode::empty())?;
        for component in path.components() {
            here = match component {
                Component::RootDir => rustix::fs::open("/", FOLDER, Mode::empty())?,
                component => self.step(&here, component.as_os_str())?,
            };
        }
        Ok(here)
    }

    fn step(&mut self, here: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        match rustix::fs::openat(here, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            // It may be a link.
            Err(Errno::NOTDIR | Errno::LOOP) => self.follow(here, name),
            opened => Ok(opened?),
        }
    }

    fn follow(&mut self, here: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = rustix::fs::openat(here, name, flags, Mode::empty())?;
        let status = fstat(&link)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        self.links = self.links.checked_sub(1).ok_or(Errno::LOOP)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        let folder = self.open(here, Path::new(OsStr::from_bytes(target.as_bytes())))?;
        let owner = status.st_uid;
        if owner != 0 && !(owner == fstat(&folder)?.st_uid && is_known(owner)) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                ForeignLink { owner },
            ));
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn the_way_is_the_one_that_the_kernel_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/file"), "").unwrap();
        for (target, name) in [
            ("b", "a/relative"),
            ("../a/./relative/c/..", "a/chain"),
            ("nowhere", "a/dangling"),
            ("loop", "a/loop"),
            ("file", "a/to-file"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        symlink(at("a/chain"), at("absolute")).unwrap();
        for name in [
            ".",
            "a//b/",
            "a/b/../b/./c",
            "a/relative/c",
            "a/chain/c",
            "absolute/c/..",
            "a/dangling",
            "a/dangling/b",
            "a/loop",
            "a/file",
            "a/to-file",
            "a/file/..",
            "missing",
        ] {
            let around = fs::File::open(scratch.path()).unwrap();
            for path in [Path::new(name), &at(name)] {
                let inode = |opened: io::Result<OwnedFd>| {
                    opened.map(|folder| fs::File::from(folder).metadata().unwrap().ino())
                };
                let kernels = rustix::fs::openat(&around, path, FOLDER, Mode::empty());
                let kernels = inode(kernels.map_err(io::Error::from));
                let ours = inode(Walk { links: MAX_LINKS }.open(&around, path));
                match (ours, kernels) {
                    (Ok(ours), Ok(kernels)) => assert_eq!(ours, kernels, "{name}"),
                    (Err(ours), Err(kernels)) => {
                        assert_eq!(ours.raw_os_error(), kernels.raw_os_error(), "{name}");
                    }
                    (ours, kernels) => panic!("{name}: {ours:?}, {kernels:?}"),
                }
            }
        }
        assert!(open_folder(Path::new("")).is_err());
    }
}
