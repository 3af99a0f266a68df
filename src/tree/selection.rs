//! What of a layer an extension may hold.

use std::fmt;

use super::filter::PathGlob;
use super::owner::Owner;
use super::remap::{self, InvalidRemap, Remap};
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
    /// Only what matches one of these is kept; everything, if there are none.
    pub include: Vec<PathGlob>,
    /// What matches one of these is not kept.
    pub exclude: Vec<PathGlob>,
    /// What lies elsewhere in the extension than in the image.
    pub remaps: Vec<Remap>,
    /// To whom everything belongs, in the place of what the layers say.
    pub owner: Option<Owner>,
    /// Permission bits of all directories, in the place of what the layers say.
    pub dir_mode: Option<u16>,
    /// No file is younger than this (`SOURCE_DATE_EPOCH`), in seconds since the epoch.
    pub clamp_mtime: Option<i64>,
}

impl ContentRules {
    /// Whether these rules can hold for an extension of `kind`.
    ///
    /// # Errors
    /// [`InvalidRemap`].
    pub fn check(&self, kind: ExtensionKind) -> Result<(), InvalidRemap> {
        remap::check(&self.remaps, hierarchies(kind, self.with_opt))
    }
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
    /// It matches an `--exclude`.
    Excluded,
    /// It matches no `--include`.
    NotIncluded,
    /// A layer above deletes it or has something else in its place.
    Shadowed,
}

impl Cause {
    /// A word for it in machine-readable output.
    pub fn key(self) -> &'static str {
        match self {
            Cause::Outside => "outside",
            Cause::Whiteout => "whiteout",
            Cause::OpaqueDirectory => "opaqueDirectory",
            Cause::OverlayWhiteout => "overlayWhiteout",
            Cause::AufsMetadata => "aufsMetadata",
            Cause::OsRelease => "osRelease",
            Cause::ForeignRelease => "foreignRelease",
            Cause::ReplacedRelease => "replacedRelease",
            Cause::Socket => "socket",
            Cause::Excluded => "excluded",
            Cause::NotIncluded => "notIncluded",
            Cause::Shadowed => "shadowed",
        }
    }

    /// Whether the user asked for it, or could not want it otherwise, so that it takes no warning.
    pub fn is_expected(self) -> bool {
        matches!(
            self,
            Cause::Outside | Cause::Excluded | Cause::NotIncluded | Cause::Shadowed
        )
    }
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
            Cause::Excluded => "matches an --exclude",
            Cause::NotIncluded => "matches no --include",
            Cause::Shadowed => "deleted or replaced by a layer above",
        })
    }
}

impl Selection {
    /// The directories of the root that the extension may have.
    pub fn hierarchies(&self) -> &'static [&'static str] {
        hierarchies(self.kind, self.rules.with_opt)
    }

    /// Whether what lies at `path` in the image, or below it, may be in the extension.
    pub fn keeps(&self, path: &EntryPath) -> bool {
        let remaps = &self.rules.remaps;
        self.is_in_hierarchy(path) || remaps.iter().any(|remap| path.is_within(&remap.from))
    }

    /// Whether something below `path` is moved elsewhere.
    pub(super) fn moves_from_below(&self, path: &EntryPath) -> bool {
        let mut remaps = self.rules.remaps.iter();
        remaps.any(|remap| remap.from.is_within(path))
    }

    /// Whether `path` is one of the [`hierarchies`](Selection::hierarchies) or lies in one.
    pub(super) fn is_in_hierarchy(&self, path: &EntryPath) -> bool {
        let top = path.components().next().unwrap_or_default();
        self.hierarchies().iter().any(|kept| kept.as_bytes() == top)
    }

    /// Why nothing at `path` of the image can be in the extension, if so.
    pub(super) fn refuses_path(&self, path: &EntryPath) -> Option<Cause> {
        let moved = remap::destination(&self.rules.remaps, path);
        let path = moved.as_ref().unwrap_or(path);
        if !self.is_in_hierarchy(path) {
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

fn hierarchies(kind: ExtensionKind, with_opt: bool) -> &'static [&'static str] {
    match (kind, with_opt) {
        (ExtensionKind::Sysext, false) => &["usr"],
        (ExtensionKind::Sysext, true) => &["usr", "opt"],
        (ExtensionKind::Confext, _) => &["etc"],
    }
}

/// Why `entry` cannot be in an extension wherever it lies, if so.
pub fn refuses_kind(entry: &Entry) -> Option<Cause> {
    match entry.kind {
        EntryKind::CharDevice(Device { major: 0, minor: 0 }) => Some(Cause::OverlayWhiteout),
        EntryKind::Socket => Some(Cause::Socket),
        _ => None,
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
