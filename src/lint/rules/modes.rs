//! Modes and owners.

use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::{Code, Extension, FilesError, Findings};

/// Folders that every host has.
const SHARED: [&str; 33] = [
    "usr/bin",
    "usr/games",
    "usr/include",
    "usr/lib",
    "usr/lib32",
    "usr/lib64",
    "usr/libexec",
    "usr/local",
    "usr/sbin",
    "usr/share",
    "usr/src",
    "usr/lib/firmware",
    "usr/lib/modprobe.d",
    "usr/lib/modules",
    "usr/lib/modules-load.d",
    "usr/lib/sysctl.d",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/lib/sysusers.d",
    "usr/lib/tmpfiles.d",
    "usr/lib/udev",
    "usr/lib/udev/rules.d",
    "usr/local/bin",
    "usr/local/lib",
    "usr/local/sbin",
    "usr/share/bash-completion",
    "usr/share/dbus-1",
    "usr/share/man",
    "etc/pam.d",
    "etc/profile.d",
    "etc/ssl",
    "etc/systemd",
    "etc/systemd/system",
];
/// What other users need of a folder, if they know the names in it: passing through.
const OPEN_TO_OTHERS: u16 = 0o001;
/// People have numbers from here on (`UID_MIN` of login.defs(5)).
const FIRST_PERSON: u32 = 1000;

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in extension.entries() {
        let Entry {
            path,
            mode,
            uid,
            gid,
            ..
        } = entry;
        if is_locked(entry) {
            let message = format!("has mode {mode:04o}, which would lock other users out");
            findings.add(Code::DirectoryLocked, path, message);
        }
        if is_writable_by_others(entry) {
            let message = format!("has mode {mode:04o} and group {gid}");
            findings.add(Code::WritableByOthers, path, message);
        }
        if *uid >= FIRST_PERSON || *gid >= FIRST_PERSON {
            let message = format!("belongs to user {uid} and group {gid}");
            findings.add(Code::ForeignOwner, path, message);
        }
        if !matches!(entry.kind, EntryKind::File { .. }) {
            continue;
        }
        if mode & 0o6000 != 0 {
            let message = format!("has mode {mode:04o} and belongs to {uid}:{gid}");
            findings.add(Code::Setuid, path, message);
        }
        if entry
            .xattrs
            .iter()
            .any(|xattr| xattr.name == b"security.capability")
        {
            findings.add(Code::FileCapability, path, "has capabilities");
        }
    }
    Ok(())
}

/// Whether a folder of every host is closed for other users.
pub(super) fn is_locked(entry: &Entry) -> bool {
    entry.kind == EntryKind::Directory
        && entry.mode & OPEN_TO_OTHERS != OPEN_TO_OTHERS
        && is_shared(&entry.path)
}

fn is_shared(path: &EntryPath) -> bool {
    // The top folder itself keeps the mode of the host.
    SHARED
        .iter()
        .any(|shared| shared.as_bytes() == path.as_bytes())
}

/// A folder with the sticky bit is made to be written by all.
fn is_writable_by_others(entry: &Entry) -> bool {
    if matches!(entry.kind, EntryKind::Symlink { .. }) || entry.mode & 0o1000 != 0 {
        return false;
    }
    entry.mode & 0o002 != 0 || (entry.mode & 0o020 != 0 && entry.gid != 0)
}
