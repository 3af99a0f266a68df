//! Attributes as they may be in an extension.

use super::TreeBuilder;
use crate::layer::EntryPath;
use crate::timestamp::Timestamp;
use crate::tree::{Attributes, InodeSink, Owner};

impl<S: InodeSink> TreeBuilder<S> {
    /// Attributes as they may be in the extension.
    pub(super) fn normalise(&mut self, mut attributes: Attributes) -> Attributes {
        let report = &mut self.report;
        attributes.xattrs.retain(|xattr| {
            let counter = if xattr.name.starts_with(b"trusted.overlay.") {
                &mut report.overlay_xattrs
            } else if is_known_xattr(&xattr.name) {
                return true;
            } else {
                &mut report.unknown_xattrs
            };
            *counter += 1;
            false
        });
        if let Some(owner) = self.selection.rules.owner {
            attributes.uid = owner.uid;
            attributes.gid = owner.gid;
        }
        if let Some(latest) = self.selection.rules.clamp_mtime {
            attributes.mtime = attributes.mtime.min(Timestamp::from_seconds(latest));
        }
        self.first_mtime.get_or_insert(attributes.mtime);
        attributes
    }

    /// Attributes of what is no directory as they may be in the extension. Whose owner changes loses
    /// the powers that the old one gave, as with chown(2): nobody meant a program to run as root
    /// only because the file is to be root's.
    pub(super) fn normalise_leaf(&mut self, path: &EntryPath, original: Attributes) -> Attributes {
        let old = (original.uid, original.gid);
        let mut attributes = self.normalise(original);
        if old != (attributes.uid, attributes.gid) {
            let xattrs = attributes.xattrs.len();
            attributes
                .xattrs
                .retain(|xattr| xattr.name != b"security.capability");
            if attributes.mode & 0o6000 != 0 || attributes.xattrs.len() < xattrs {
                self.report.stripped.add(path);
            }
            attributes.mode &= !0o6000;
        }
        attributes
    }

    /// Attributes of a directory as they may be in the extension.
    pub(super) fn normalise_directory(&mut self, attributes: Attributes) -> Attributes {
        let mut attributes = self.normalise(attributes);
        if let Some(mode) = self.selection.rules.dir_mode {
            attributes.mode = mode;
        }
        attributes
    }

    /// Attributes of a directory that no layer describes.
    pub(super) fn implied_attributes(&self) -> Attributes {
        let rules = &self.selection.rules;
        let clamp = rules.clamp_mtime.map(Timestamp::from_seconds);
        let owner = rules.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        Attributes {
            mode: rules.dir_mode.unwrap_or(0o755),
            uid: owner.uid,
            gid: owner.gid,
            mtime: clamp.or(self.first_mtime).unwrap_or_default(),
            xattrs: Vec::new(),
        }
    }
}

/// Whether Linux file systems have a place for the attribute: the prefixes of xattr(7).
fn is_known_xattr(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 3] = [b"security.", b"trusted.", b"user."];
    prefixes
        .iter()
        .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}
