//! Deletions: entries of a layer that hide what the layers below it have.
//!
//! Source: the OCI image specification, "Image Layer Filesystem Changeset". `.wh.NAME` hides NAME,
//! and `.wh..wh..opq` hides everything that its directory has in lower layers.

use std::collections::BTreeMap;

use super::Cause;
use crate::layer::EntryPath;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// What an entry means by its name.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is what it seems.
    Entry,
    /// It hides something.
    Hides(Whiteout),
    /// It belongs to aufs, or lies below something that hides.
    Metadata,
    /// It hides something that has no name.
    Invalid,
}

/// Something that is hidden in the lower layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// This path with all below it.
    Path(EntryPath),
    /// Everything below this path.
    Content(EntryPath),
}

impl Whiteout {
    /// The path that is hidden, or whose content is.
    pub fn path(&self) -> &EntryPath {
        match self {
            Whiteout::Path(path) | Whiteout::Content(path) => path,
        }
    }

    /// Why it is not in the extension when it reaches the host.
    pub fn cause(&self) -> Cause {
        match self {
            Whiteout::Path(_) => Cause::Whiteout,
            Whiteout::Content(_) => Cause::OpaqueDirectory,
        }
    }
}

/// What the name of an entry says.
pub fn meaning(path: &EntryPath) -> Meaning {
    // Hardly any entry is a whiteout.
    if !path
        .as_bytes()
        .windows(PREFIX.len())
        .any(|bytes| bytes == PREFIX)
    {
        return Meaning::Entry;
    }
    let Some((parent, name)) = path.split_last() else {
        return Meaning::Entry;
    };
    if parent.components().any(|name| name.starts_with(PREFIX)) {
        return Meaning::Metadata;
    }
    if name == OPAQUE {
        return Meaning::Hides(Whiteout::Content(parent));
    }
    if name.starts_with(AUFS_PREFIX) {
        return Meaning::Metadata;
    }
    match name.strip_prefix(PREFIX) {
        None => Meaning::Entry,
        Some(b"" | b"." | b"..") => Meaning::Invalid,
        Some(hidden) => match parent.join(hidden) {
            Ok(hidden) => Meaning::Hides(Whiteout::Path(hidden)),
            Err(_) => Meaning::Invalid,
        },
    }
}

/// All that the layers so far hide from those below them.
#[derive(Debug, Default)]
pub struct Whiteouts {
    /// Hidden with all below, and whether that hid anything.
    paths: BTreeMap<Box<[u8]>, bool>,
    /// Directories whose content is hidden, and whether that hid anything.
    contents: BTreeMap<Box<[u8]>, bool>,
    /// What the present layer hides, and whether that is known to hide something; it does not
    /// count for that layer itself.
    present: Vec<(Whiteout, bool)>,
}

impl Whiteouts {
    /// Adds a whiteout of the present layer.
    pub fn add(&mut self, whiteout: Whiteout) {
        self.present.push((whiteout, false));
    }

    /// Adds a whiteout of the present layer that is outside of what reaches the host.
    pub fn add_outside(&mut self, whiteout: Whiteout) {
        self.present.push((whiteout, true));
    }

    /// Hides what lower layers have at and below `path`, where the present layer has something that
    /// does not come into the tree; that is nothing that reaches the host.
    pub fn replace(&mut self, path: &EntryPath) {
        self.present.push((Whiteout::Path(path.clone()), true));
    }

    /// What the present layer hides.
    pub fn present(&self) -> impl Iterator<Item = &Whiteout> {
        self.present.iter().map(|(whiteout, _)| whiteout)
    }

    /// The present layer is complete, and the next one lies below it.
    pub fn end_layer(&mut self) {
        for (whiteout, found) in std::mem::take(&mut self.present) {
            if self.hides(whiteout.path(), false).is_none() {
                let (map, path) = match whiteout {
                    Whiteout::Path(path) => (&mut self.paths, path),
                    Whiteout::Content(path) => (&mut self.contents, path),
                };
                *map.entry(path.as_bytes().into()).or_insert(false) |= found;
            }
        }
    }

    /// Whether a layer above the present one hides `path`, which is then remembered.
    pub fn hide(&mut self, path: &EntryPath) -> bool {
        self.hides(path, true).is_some()
    }

    /// As [`hide`](Whiteouts::hide): if `path` is hidden, the lowest directory above it that is not.
    pub fn hide_below<'a>(&mut self, path: &'a EntryPath) -> Option<&'a [u8]> {
        self.hides(path, true)
    }

    /// If `path` is hidden, the lowest directory above it that is not.
    fn hides<'a>(&mut self, path: &'a EntryPath, remember: bool) -> Option<&'a [u8]> {
        if self.paths.is_empty() && self.contents.is_empty() {
            return None;
        }
        let path = path.as_bytes();
        let slashes = (0..path.len()).filter(|&at| path.get(at) == Some(&b'/'));
        let mut seen = None;
        let mut look = |map: &mut BTreeMap<Box<[u8]>, bool>, hidden: &[u8], above| {
            if let Some(found) = map.get_mut(hidden) {
                *found |= remember;
                // The way goes down: the first that hides, hides most.
                seen.get_or_insert(above);
            }
        };
        look(&mut self.contents, b"", &path[..0]);
        let mut parent = &path[..0];
        for ancestor in slashes.filter_map(|slash| path.get(..slash)) {
            look(&mut self.paths, ancestor, parent);
            look(&mut self.contents, ancestor, ancestor);
            parent = ancestor;
        }
        look(&mut self.paths, path, parent);
        seen
    }

    /// What no layer had below the one that hides it, so that it could only be of the host.
    pub fn reaching_the_host(self) -> impl Iterator<Item = Whiteout> {
        let unused = |map: BTreeMap<Box<[u8]>, bool>| {
            map.into_iter()
                .filter(|(_, found)| !found)
                .filter_map(|(path, _)| EntryPath::from_archive(&path).ok())
        };
        unused(self.paths)
            .map(Whiteout::Path)
            .chain(unused(self.contents).map(Whiteout::Content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_archive(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_tell_whiteouts_from_entries() {
        let removes = |text| Meaning::Hides(Whiteout::Path(path(text)));
        let empties = |text| Meaning::Hides(Whiteout::Content(path(text)));
        for (name, expected) in [
            ("usr/bin/x", Meaning::Entry),
            ("", Meaning::Entry),
            ("usr/x.wh.y", Meaning::Entry),
            ("usr/.wh", Meaning::Entry),
            ("usr/bin/.wh.x", removes("usr/bin/x")),
            (".wh.usr", removes("usr")),
            ("usr/.wh..x", removes("usr/.x")),
            ("usr/.wh..wh..opq", empties("usr")),
            (".wh..wh..opq", empties("")),
            ("usr/.wh..wh.plnk", Meaning::Metadata),
            ("usr/.wh..wh.plnk/12.34", Meaning::Metadata),
            ("usr/.wh.x/y", Meaning::Metadata),
            ("usr/.wh.", Meaning::Invalid),
            ("usr/.wh..", Meaning::Invalid),
            ("usr/.wh...", Meaning::Invalid),
        ] {
            assert_eq!(meaning(&path(name)), expected, "{name}");
        }
    }

    #[test]
    fn only_lower_layers_are_hidden_from() {
        let mut whiteouts = Whiteouts::default();
        whiteouts.add(Whiteout::Path(path("usr/a")));
        whiteouts.add(Whiteout::Content(path("usr/d")));
        assert!(!whiteouts.hide(&path("usr/a")));
        whiteouts.end_layer();
        for (name, hidden) in [
            ("usr", false),
            ("usr/a", true),
            ("usr/a/b/c", true),
            ("usr/ab", false),
            ("usr/d", false),
            ("usr/d/e", true),
        ] {
            assert_eq!(whiteouts.hide(&path(name)), hidden, "{name}");
        }
        for (name, above) in [
            ("usr/a/b/c", "usr"),
            ("usr/a", "usr"),
            ("usr/d/e/f", "usr/d"),
        ] {
            assert_eq!(
                whiteouts.hide_below(&path(name)),
                Some(above.as_bytes()),
                "{name}"
            );
        }
        assert_eq!(whiteouts.reaching_the_host().count(), 0);
    }

    #[test]
    fn whiteouts_that_hid_nothing_reach_the_host() {
        let mut whiteouts = Whiteouts::default();
        whiteouts.add(Whiteout::Path(path("usr/a")));
        whiteouts.add(Whiteout::Content(path("usr/d")));
        whiteouts.end_layer();
        // Hidden by the one above, so of no effect of its own.
        whiteouts.add(Whiteout::Path(path("usr/d/x")));
        whiteouts.replace(&path("usr/e"));
        whiteouts.end_layer();
        assert!(whiteouts.hide(&path("usr/e/f")));
        let unused: Vec<Whiteout> = whiteouts.reaching_the_host().collect();
        assert_eq!(
            unused,
            [
                Whiteout::Path(path("usr/a")),
                Whiteout::Content(path("usr/d"))
            ]
        );
    }
}
