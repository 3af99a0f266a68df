//! To whom files belong that root writes into somebody's folder.
//!
//! In a container the program usually is root, while the folder that it writes to is mounted from
//! outside and belongs to whoever called: so should the files.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::folder::{open_folder, open_folder_at};

/// Whom the kernel shows as owner where the real one has no number in this user namespace.
const OVERFLOW: u32 = 65_534;

/// What the map of a user namespace that lacks nobody says (user_namespaces(7)).
const ALL_USERS: &str = "4294967295";

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
pub(super) fn is_known(user: u32) -> bool {
    let all = |map: String| map.split_whitespace().nth(2) == Some(ALL_USERS);
    user != OVERFLOW || fs::read_to_string("/proc/self/uid_map").is_ok_and(all)
}

/// Makes the folder `name` in the open folder `around` and opens it. [`Errno::NOTEMPTY`]: whoever owns
/// what is around it has put another one in its place, which must not be given to him.
pub(crate) fn make_folder(around: impl AsFd, name: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(&around, name, mode)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&around, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&made)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Err(Errno::NOTEMPTY);
        }
    }
    Ok(made)
}

/// Opens the folder `path`, made with those above it where they are missing; each belongs to whoever
/// owns the one that it is in.
pub(crate) fn create_folders(path: &Path) -> io::Result<OwnedFd> {
    let name = match (open_folder(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => Path::new(name),
        (opened, _) => return opened,
    };
    let around = create_folders(parent(path))?;
    match make_folder(&around, name, Mode::from_raw_mode(0o777)) {
        Ok(made) => {
            give_to_owner_of(&around, &made)?;
            Ok(made)
        }
        // Somebody else was faster.
        Err(Errno::EXIST | Errno::NOTEMPTY) => open_folder_at(&around, name),
        Err(error) => Err(error.into()),
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
    fn a_link_is_never_taken_for_a_folder_that_was_made() {
        let scratch = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", scratch.path().join("link")).unwrap();
        let around = open_folder(scratch.path()).unwrap();
        let made = make_folder(&around, Path::new("link"), Mode::RWXU);
        assert_eq!(made.unwrap_err(), Errno::EXIST);
    }

    #[test]
    fn the_folder_around_a_bare_name_is_this_one() {
        assert_eq!(parent(Path::new("keys")), Path::new("."));
        assert_eq!(parent(Path::new("a/keys")), Path::new("a"));
        assert_eq!(parent(Path::new("/keys")), Path::new("/"));
    }
}
