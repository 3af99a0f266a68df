//! What of a layer an extension may hold.

use std::fmt;

use crate::extension::{ExtensionKind, ExtensionName};
use crate::layer::{Device, Entry, EntryKind, EntryPath};

/// Which entries belong into an extension.
#[derive(Clone, Debug)]
pub struct Selection {
    /// A sysext keeps `usr`, a confext keeps `etc`.
    pub kind: ExtensionKind,
    /// The extension's name; a release file of any other name is foreign.
    pub name: ExtensionName,
    /// What the user wants of the content.
    pub rules: ContentRules,
}

/// What the user wants of the content, beyond what every extension needs.
#[derive(Clone, Debug, Default)]
pub struct ContentRules {
    /// Whether a sysext keeps `opt` too.
    pub with_opt: bool,
    /// No file is younger than this (`SOURCE_DATE_EPOCH`), in seconds since the epoch.
    pub clamp_mtime: Option<i64>,
}

/// Why an entry of a layer is not in the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// It lies outside of the directories that the extension may have.
    Outside,
    /// It deletes a file (`.wh.NAME`) that no layer of the selection has, so it would have to be a
    /// file of the host.
    Whiteout,
    /// It empties a directory (`.wh..wh..opq`) that no lower layer of the selection has.
    OpaqueDirectory,
    /// It is a deletion as overlayfs stores it: a character device 0:0.
    OverlayWhiteout,
    /// It is bookkeeping of aufs (`.wh..wh.NAME`).
    AufsMetadata,
    /// It is the os-release file, with which systemd refuses an extension, or which would rename
    /// the host.
    OsRelease,
    /// It is the release file of another extension.
    ForeignRelease,
    /// It is the release file of this extension, in whose place a new one is written.
    ReplacedRelease,
    /// It is a socket.
    Socket,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Outside => "outside of what the extension may hold",
            Cause::Whiteout => "deletes a file of the host",
            Cause::OpaqueDirectory => "hides a directory of the host",
            Cause::OverlayWhiteout => "deletes a file of the host (device 0:0)",
            Cause::AufsMetadata => "bookkeeping of aufs",
            Cause::OsRelease => "os-release belongs to the host",
            Cause::ForeignRelease => "release file of another extension",
            Cause::ReplacedRelease => "a new release file takes its place",
            Cause::Socket => "a socket",
        })
    }
}

impl Selection {
    /// The directories of the root that the extension may have.
    pub fn hierarchies(&self) -> &'static [&'static str] {
        match (self.kind, self.rules.with_opt) {
            (ExtensionKind::Sysext, false) => &["usr"],
            (ExtensionKind::Sysext, true) => &["usr", "opt"],
            (ExtensionKind::Confext, _) => &["etc"],
        }
    }

    /// Whether `path` is one of the [`hierarchies`](Selection::hierarchies) or lies in one.
    pub fn keeps(&self, path: &EntryPath) -> bool {
        let top = path.components().next().unwrap_or_default();
        self.hierarchies().iter().any(|kept| kept.as_bytes() == top)
    }

    /// Why `entry` cannot be in the extension, if so.
    pub(super) fn refuses(&self, entry: &Entry) -> Option<Cause> {
        self.refuses_path(&entry.path).or(match entry.kind {
            EntryKind::CharDevice(Device { major: 0, minor: 0 }) => Some(Cause::OverlayWhiteout),
            EntryKind::Socket => Some(Cause::Socket),
            _ => None,
        })
    }

    /// Why nothing at `path` can be in the extension, if so.
    pub(super) fn refuses_path(&self, path: &EntryPath) -> Option<Cause> {
        if !self.keeps(path) {
            return Some(Cause::Outside);
        }
        let os_release = match self.kind {
            ExtensionKind::Sysext => "usr/lib/os-release",
            ExtensionKind::Confext => "etc/os-release",
        };
        if below(path, os_release).is_some() {
            return Some(Cause::OsRelease);
        }
        let extension = below(path, self.kind.release_directory())?
            .strip_prefix(b"/")?
            .strip_prefix(b"extension-release.")?;
        if extension == self.name.as_str().as_bytes() {
            Some(Cause::ReplacedRelease)
        } else {
            Some(Cause::ForeignRelease)
        }
    }
}

/// What follows `ancestor` in `path`: nothing, or something that starts with a slash.
fn below<'a>(path: &'a EntryPath, ancestor: &str) -> Option<&'a [u8]> {
    path.as_bytes()
        .strip_prefix(ancestor.as_bytes())
        .filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(kind: ExtensionKind, with_opt: bool) -> Selection {
        Selection {
            kind,
            name: "hello".parse().unwrap(),
            rules: ContentRules {
                with_opt,
                ..ContentRules::default()
            },
        }
    }

    #[test]
    fn directories_are_kept_by_component_and_release_files_are_not() {
        let sysext = selection(ExtensionKind::Sysext, false);
        let with_opt = selection(ExtensionKind::Sysext, true);
        let confext = selection(ExtensionKind::Confext, true);
        let outside = Some(Cause::Outside);
        let foreign = Some(Cause::ForeignRelease);
        for (path, in_sysext, in_opt, in_confext) in [
            ("usr", None, None, outside),
            ("usr/bin/x", None, None, outside),
            ("usrlocal/x", outside, outside, outside),
            ("", outside, outside, outside),
            ("opt/x", outside, None, outside),
            ("etc/x", outside, outside, None),
            ("etcetera", outside, outside, outside),
            ("usr/etc/x", None, None, outside),
            (
                "usr/lib/os-release",
                Some(Cause::OsRelease),
                Some(Cause::OsRelease),
                outside,
            ),
            ("usr/lib/os-release.d", None, None, outside),
            ("etc/os-release", outside, outside, Some(Cause::OsRelease)),
            ("usr/lib/extension-release.d", None, None, outside),
            ("usr/lib/extension-release.d/README", None, None, outside),
            (
                "usr/lib/extension-release.d/extension-release.other",
                foreign,
                foreign,
                outside,
            ),
            (
                "usr/lib/extension-release.d/extension-release.hello",
                Some(Cause::ReplacedRelease),
                Some(Cause::ReplacedRelease),
                outside,
            ),
            (
                "etc/extension-release.d/extension-release.other",
                outside,
                outside,
                foreign,
            ),
        ] {
            let entry_path = EntryPath::from_archive(path.as_bytes()).unwrap();
            assert_eq!(sysext.refuses_path(&entry_path), in_sysext, "{path}");
            assert_eq!(with_opt.refuses_path(&entry_path), in_opt, "{path}");
            assert_eq!(confext.refuses_path(&entry_path), in_confext, "{path}");
        }
    }
}
