//! Release files, of the extension and of the host.

use crate::extension::ExtensionKind;
use crate::layer::EntryPath;
use crate::lint::extension::{RELEASE_PREFIX, known, name_of};
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;
use crate::verification::{ImageName, is_for_any_name};

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
    check_name(extension, findings);
    Ok(())
}

/// Whether the name of the image leads to one of the release files, as systemd looks for it.
fn check_name(extension: &Extension<'_>, findings: &mut Findings) {
    let image = extension.subject.image.and_then(ImageName::of);
    let (Some(image), Some(first)) = (image, extension.releases.first()) else {
        return;
    };
    let leads_to = |path: &EntryPath| {
        let name = name_of(path).strip_prefix(RELEASE_PREFIX);
        let is_meant = [image.name.as_str(), image.base()]
            .map(str::as_bytes)
            .map(Some)
            .contains(&name);
        let entry = extension.entries.get(path);
        is_meant || entry.is_some_and(|entry| is_for_any_name(&entry.xattrs))
    };
    if !extension.releases.iter().any(leads_to) {
        let name = printable(image.name.as_bytes());
        let message = format!("is not found by the name of the image, {name}");
        findings.add(Code::ReleaseName, first, message);
    }
}
