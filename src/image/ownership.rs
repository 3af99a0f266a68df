//! To whom files belong that root writes into somebody's folder.
//!
//! In a container the program usually is root, while the folder that it writes to is mounted from
//! outside and belongs to whoever called: so should the files.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// Whom the kernel shows as owner where the real one has no number in this user namespace.
const OVERFLOW: u32 = 65_534;

/// What the map of a user namespace that lacks nobody says (user_namespaces(7)).
const ALL_USERS: &str = "4294967295";

/// Opens `folder` as a place to create, link and rename in, which needs no right to read it.
pub(crate) fn open_folder(folder: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, folder, flags, Mode::empty())
}

/// Gives the open `file` the owner and group of the open `folder`, if this program is root and the folder is
/// somebody else's. Where root may not give files away, as without `CAP_CHOWN` and on some network
/// file systems, it stays root's.
pub(crate) fn give_to_owner_of(folder: impl AsFd, file: impl AsFd) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = rustix::fs::fstat(folder)?;
    if owner.st_uid == 0 || !is_known(owner.st_uid) {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    match rustix::fs::fchown(file, Some(user), Some(group)) {
        // INVAL: a group that has no number in this user namespace.
        Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

/// Whether `user` is the one that the number stands for: in containers of users who are not root it
/// may be a stand-in, and a file must not go to whoever happens to have that number.
fn is_known(user: u32) -> bool {
    let all = |map: String| map.split_whitespace().nth(2) == Some(ALL_USERS);
    user != OVERFLOW || fs::read_to_string("/proc/self/uid_map").is_ok_and(all)
}

/// The same for the folder `path`, which this program has just made.
pub(crate) fn give_folder_to_owner_of(folder: &Path, path: &Path) -> io::Result<()> {
    // Whoever owns what is around it could have put a link in its place.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    give_to_owner_of(open_folder(folder)?, made)
}

/// Makes the folder `path` and those above it that are missing; each belongs to whoever owns the one
/// that it is in.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    create_folders(parent)?;
    match DirBuilder::new().create(path) {
        Ok(()) => give_folder_to_owner_of(parent, path),
        // Somebody else was faster.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// The folder that `path` is in, `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_folders_are_made() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b/c");
        create_folders(&path).unwrap();
        create_folders(&path).unwrap();
        assert!(path.is_dir());
        fs::write(path.join("file"), "").unwrap();
        assert!(create_folders(&path.join("file/d")).is_err());
    }

    #[test]
    fn a_link_is_never_given_away() {
        let scratch = tempfile::tempdir().unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(give_folder_to_owner_of(scratch.path(), &link).is_err());
    }

    #[test]
    fn the_folder_around_a_bare_name_is_this_one() {
        assert_eq!(parent(Path::new("keys")), Path::new("."));
        assert_eq!(parent(Path::new("a/keys")), Path::new("a"));
        assert_eq!(parent(Path::new("/keys")), Path::new("/"));
    }
}
