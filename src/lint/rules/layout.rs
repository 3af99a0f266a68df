//! Folders and links where hosts have others.

use std::collections::HashSet;

use crate::extension::ExtensionKind;
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::extension::{known, name_of};
use crate::lint::reach::Side;
use crate::lint::{Code, Extension, FilesError, Findings};

/// Folders that every host has as folders.
const CORE: [&str; 18] = [
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/lib/modules",
    "usr/lib/firmware",
    "usr/lib/udev",
    "usr/libexec",
    "usr/share",
    "usr/include",
    "opt",
    "etc",
    "etc/systemd",
    "etc/systemd/system",
    "etc/ssl",
    "etc/pam.d",
    "etc/profile.d",
];
/// Folders that are links on some hosts and folders on others.
const MERGED_USR: [&str; 4] = ["usr/sbin", "usr/lib64", "usr/lib32", "usr/libx32"];
/// Where extensions within an extension would lie.
const EXTENSION_FOLDERS: [&str; 5] = [
    "usr/lib/confexts",
    "usr/lib/extensions",
    "usr/local/lib/confexts",
    "etc/extensions",
    "etc/confexts",
];

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    if extension.leaves().next().is_none() {
        let root = EntryPath::root();
        findings.add(Code::EmptyExtension, &root, "has no file for the host");
    }
    core_folders(extension, findings)?;
    merged_usr(extension, findings)?;
    usr_local(extension, findings);
    nested_extensions(extension, findings);
    case_collisions(extension, findings);
    outside(extension, findings)
}

fn core_folders(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in CORE.iter().filter_map(|path| extension.get(path)) {
        // With a host to compare with, that tells.
        if entry.kind != EntryKind::Directory && extension.in_base(&entry.path)?.is_none() {
            let message = format!("is {}, where every host has a folder", kind_name(entry));
            findings.add(Code::CoreDirectoryReplaced, &entry.path, message);
        }
    }
    Ok(())
}

fn merged_usr(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in MERGED_USR.iter().filter_map(|path| extension.get(path)) {
        if extension.in_base(&entry.path)?.is_some() {
            continue;
        }
        match entry.kind {
            EntryKind::Directory => findings.add(
                Code::MergedUsrDirectory,
                &entry.path,
                "is a folder; many hosts have a link there, which it would hide",
            ),
            _ => findings.add(
                Code::MergedUsrLink,
                &entry.path,
                format!(
                    "is {}; many hosts have a folder there, which it would hide",
                    kind_name(entry)
                ),
            ),
        }
    }
    Ok(())
}

fn usr_local(extension: &Extension<'_>, findings: &mut Findings) {
    let files = extension.below("usr/local");
    let count = files
        .filter(|entry| entry.kind != EntryKind::Directory)
        .count();
    if count > 0 {
        let message =
            format!("has {count} files, which many hosts hide with a folder of their own");
        findings.add(Code::UsrLocal, &known("usr/local"), message);
    }
}

fn nested_extensions(extension: &Extension<'_>, findings: &mut Findings) {
    for folder in EXTENSION_FOLDERS {
        if extension.below(folder).next().is_some() {
            let message = "holds extensions, which systemd does not look for in merged ones";
            findings.add(Code::NestedExtension, &known(folder), message);
        }
    }
}

fn case_collisions(extension: &Extension<'_>, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for entry in extension.entries() {
        let Some((parent, name)) = entry.path.split_last() else {
            continue;
        };
        if !seen.insert((parent, name.to_ascii_lowercase())) {
            let message = "differs from another name in its folder in case only";
            findings.add(Code::CaseCollision, &entry.path, message);
        }
    }
}

fn outside(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for path in &extension.outside {
        let files = extension.subject.files;
        let reach = &extension.reach;
        let entry = reach.seen(files.entry(path), path, Side::Extension)?;
        let is_folder =
            matches!(entry.flatten(), Some(entry) if entry.kind == EntryKind::Directory);
        let names = reach.seen(files.names(path), path, Side::Extension)?;
        if is_folder && names.is_some_and(|names| names.is_empty()) {
            continue;
        }
        let merged = match extension.subject.kind {
            ExtensionKind::Sysext => "/usr and /opt",
            ExtensionKind::Confext => "/etc",
        };
        let name = crate::printable::printable(name_of(path));
        let message = format!(
            "/{name} is not merged: of a {} only {merged} are",
            extension.subject.kind
        );
        findings.add(Code::OutsideHierarchies, path, message);
    }
    Ok(())
}

/// What an entry is, with its article.
pub(super) fn kind_name(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File { .. } | EntryKind::Hardlink { .. } => "a file".to_owned(),
        EntryKind::Directory => "a folder".to_owned(),
        EntryKind::Symlink { target } => {
            format!("a link to {}", crate::printable::printable(target))
        }
        EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => "a device".to_owned(),
        EntryKind::Fifo => "a pipe".to_owned(),
        EntryKind::Socket => "a socket".to_owned(),
    }
}
