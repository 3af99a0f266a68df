//! What packages and builds leave behind.

use std::collections::BTreeMap;

use crate::layer::{EntryKind, EntryPath};
use crate::lint::extension::{known, name_of};
use crate::lint::{Code, Extension, FilesError, Findings};

/// Databases and caches of package managers.
const DATABASES: [&str; 12] = [
    "usr/lib/sysimage",
    "usr/share/rpm",
    "usr/lib/apk/db",
    "usr/lib/opkg",
    "usr/lib/dpkg",
    "usr/var/lib/dpkg",
    "usr/var/lib/rpm",
    "usr/var/lib/pacman",
    "usr/var/lib/apt",
    "usr/var/cache",
    "usr/share/dpkg-db",
    "opt/var/lib/dpkg",
];
/// Files that list what all packages have.
const INDEXES: [&str; 14] = [
    "usr/lib/udev/hwdb.bin",
    "usr/lib/locale/locale-archive",
    "usr/lib/gconv/gconv-modules.cache",
    "usr/lib64/gconv/gconv-modules.cache",
    "usr/share/applications/mimeinfo.cache",
    "usr/share/glib-2.0/schemas/gschemas.compiled",
    "usr/share/icons/hicolor/icon-theme.cache",
    "usr/share/info/dir",
    "usr/share/mime/mime.cache",
    "usr/share/mime/globs2",
    "usr/lib/systemd/catalog/database",
    "etc/udev/hwdb.bin",
    "etc/ssl/certs/ca-certificates.crt",
    "etc/shells",
];
const LEFTOVERS: [&[u8]; 5] = [b"__pycache__", b".git", b".hg", b".svn", b".cache"];

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for folder in DATABASES {
        let files = extension
            .below(folder)
            .filter_map(|entry| match entry.kind {
                EntryKind::File { size } => Some(size),
                _ => None,
            });
        let (count, bytes) = files.fold((0u64, 0u64), |(count, bytes), size| {
            (count + 1, bytes.saturating_add(size))
        });
        if count > 0 {
            let message = format!(
                "is of a package manager: {count} files, {} KiB",
                bytes / 1024
            );
            findings.add(Code::PackageDatabase, &known(folder), message);
        }
    }
    for entry in INDEXES.iter().filter_map(|path| extension.get(path)) {
        let message = "lists the files of all packages, and takes the place of the host's";
        findings.add(Code::SharedIndex, &entry.path, message);
    }
    for left in leftovers(extension).into_values() {
        let Leftover {
            first,
            folders,
            files,
        } = left;
        let message = format!(
            "is left over from a build; of its kind are {folders} folders with {files} files"
        );
        findings.add(Code::BuildLeftover, &first, message);
    }
    Ok(())
}

/// Folders of one name that builds leave behind.
struct Leftover {
    first: EntryPath,
    folders: u64,
    files: u64,
}

fn leftovers<'e>(extension: &'e Extension<'_>) -> BTreeMap<&'e [u8], Leftover> {
    let mut found: BTreeMap<&[u8], Leftover> = BTreeMap::new();
    let mut within: Option<&EntryPath> = None;
    for entry in extension.entries() {
        if let Some(folder) = within.filter(|folder| entry.path.is_within(folder)) {
            if let (false, Some(left)) = (
                entry.kind == EntryKind::Directory,
                found.get_mut(name_of(folder)),
            ) {
                left.files += 1;
            }
        } else if entry.kind == EntryKind::Directory && LEFTOVERS.contains(&name_of(&entry.path)) {
            within = Some(&entry.path);
            let left = found
                .entry(name_of(&entry.path))
                .or_insert_with(|| Leftover {
                    first: entry.path.clone(),
                    folders: 0,
                    files: 0,
                });
            left.folders += 1;
        }
    }
    found
}
