//! The extension beside the system that it extends.

use super::layout::kind_name;
use super::modes::is_locked;
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::{Code, Extension, Files, FilesError, Findings};
use crate::printable::printable;

/// How much of two files is compared at once.
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let Some(base) = extension.subject.base else {
        return Ok(());
    };
    for entry in extension.entries() {
        if extension.releases.contains(&entry.path) {
            continue;
        }
        if let Some(host) = extension.in_base(&entry.path)? {
            if is_top_folder(entry, &host) {
                continue;
            }
            compare(extension.subject.files, base, entry, &host, findings)?;
        }
    }
    Ok(())
}

/// The top folders keep mode and owner of the host, and where one is a link there, as `/opt` on some
/// hosts, systemd follows it before it merges.
fn is_top_folder(entry: &Entry, host: &Entry) -> bool {
    entry.path.components().count() < 2
        && entry.kind == EntryKind::Directory
        && matches!(host.kind, EntryKind::Directory | EntryKind::Symlink { .. })
}

fn compare(
    files: &dyn Files,
    base: &dyn Files,
    entry: &Entry,
    host: &Entry,
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let path = &entry.path;
    let instead = format!(
        "is {}, but the host has {} there",
        kind_name(entry),
        kind_name(host)
    );
    match (&entry.kind, &host.kind) {
        (EntryKind::Directory, EntryKind::Directory) => compare_folders(entry, host, findings),
        (EntryKind::Directory, EntryKind::Symlink { .. }) => {
            findings.add(Code::LinkConflict, path, instead);
        }
        (EntryKind::Directory, _) | (_, EntryKind::Directory) => {
            findings.add(Code::TypeConflict, path, instead);
        }
        (EntryKind::File { size }, EntryKind::File { size: other }) => {
            if size != other {
                let message = format!("has {size} bytes, that of the host {other}");
                findings.add(Code::OverwrittenFile, path, message);
                return Ok(());
            }
            match is_same_content(files, base, path) {
                Ok(true) => findings.add(Code::RepeatedFile, path, "is the same on the host"),
                Ok(false) => {
                    findings.add(Code::OverwrittenFile, path, "differs from that of the host");
                }
                Err(error) if error.is_out_of_reach() => {
                    let message = "takes the place of the host's, which cannot be read to compare";
                    findings.add(Code::OverwrittenFile, path, message);
                }
                Err(error) => return Err(error),
            }
        }
        (EntryKind::Symlink { target }, EntryKind::Symlink { target: other }) => {
            if target != other {
                let message = format!(
                    "leads to {}, that of the host to {}",
                    printable(target),
                    printable(other)
                );
                findings.add(Code::OverwrittenFile, path, message);
            }
        }
        _ => findings.add(Code::OverwrittenFile, path, instead),
    }
    Ok(())
}

fn compare_folders(entry: &Entry, host: &Entry, findings: &mut Findings) {
    let rights = |entry: &Entry| (entry.mode, entry.uid, entry.gid);
    if rights(entry) == rights(host) || is_locked(entry) {
        return;
    }
    let show = |entry: &Entry| format!("{:04o} {}:{}", entry.mode, entry.uid, entry.gid);
    let message = format!("is {}, that of the host {}", show(entry), show(host));
    findings.add(Code::DirectoryDiffers, &entry.path, message);
}

/// Both files have the same size.
fn is_same_content(
    files: &dyn Files,
    base: &dyn Files,
    path: &EntryPath,
) -> Result<bool, FilesError> {
    let mut ours = files.open(path)?;
    let mut theirs = base.open(path)?;
    let mut buffers = [vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]];
    let mut offset = 0;
    loop {
        let [one, other] = &mut buffers;
        let length = ours.read_at(one, offset)?;
        if theirs.read_at(other, offset)? != length || one[..length] != other[..length] {
            return Ok(false);
        }
        if length < CHUNK_BYTES {
            return Ok(true);
        }
        offset += length as u64;
    }
}
