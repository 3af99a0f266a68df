//! Release files, of the extension and of the host.

use crate::extension::ExtensionKind;
use crate::layer::EntryPath;
use crate::lint::extension::known;
use crate::lint::{Code, Extension, FilesError, Findings};

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let kind = extension.subject.kind;
    let (path, message) = match kind {
        ExtensionKind::Sysext => ("usr/lib/os-release", "makes systemd refuse the extension"),
        ExtensionKind::Confext => ("etc/os-release", "renames the host"),
    };
    if let Some(entry) = extension.get(path) {
        findings.add(Code::OsReleaseInside, &entry.path, message);
    }
    match extension.releases.len() {
        0 if extension.subject.complete => {
            let message = format!("has no {}/extension-release.NAME", kind.release_directory());
            findings.add(Code::NoReleaseFile, &EntryPath::root(), message);
        }
        0 | 1 => {}
        several => {
            let folder = known(kind.release_directory());
            let message = format!("has the release files of {several} extensions");
            findings.add(Code::ForeignRelease, &folder, message);
        }
    }
    Ok(())
}
