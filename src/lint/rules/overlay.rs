//! What overlayfs acts upon, and what containers leave behind for it.

use crate::layer::{Device, EntryKind};
use crate::lint::extension::name_of;
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;

/// Attributes that overlayfs reads (`Documentation/filesystems/overlayfs.rst`).
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Before the name of what a layer deletes (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in extension.entries() {
        let path = &entry.path;
        if name_of(path).starts_with(WHITEOUT) {
            let message = "is a deletion of a container layer, and deletes nothing";
            findings.add(Code::WhiteoutFile, path, message);
        }
        match entry.kind {
            EntryKind::CharDevice(Device { major: 0, minor: 0 }) => {
                let message = "deletes the file of this name on the host";
                findings.add(Code::OverlayWhiteout, path, message);
            }
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => {
                let message = "is a device node, which cannot be opened (nodev)";
                findings.add(Code::DeviceNode, path, message);
            }
            _ => {}
        }
        let acts = |name: &[u8]| OVERLAY.iter().any(|prefix| name.starts_with(prefix));
        for xattr in entry.xattrs.iter().filter(|xattr| acts(&xattr.name)) {
            let message = format!("has the attribute {}", printable(&xattr.name));
            findings.add(Code::OverlayAttribute, path, message);
        }
    }
    Ok(())
}
