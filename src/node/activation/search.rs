//! Where systemd looks for images, and which names it finds there (systemd-sysext(8)).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::host::SystemdVersion;

/// The folders, the first of which that has a name wins.
pub(in crate::node) fn folders(kind: ExtensionKind) -> &'static [&'static str] {
    match kind {
        ExtensionKind::Sysext => &["/etc/extensions", "/run/extensions", "/var/lib/extensions"],
        ExtensionKind::Confext => &[
            "/run/confexts",
            "/var/lib/confexts",
            "/usr/local/lib/confexts",
            "/usr/lib/confexts",
        ],
    }
}

/// The name of the image that a file is to systemd; `None` if it is none.
pub(in crate::node) fn image_name(
    systemd: Option<SystemdVersion>,
    kind: ExtensionKind,
    file: &str,
    is_folder: bool,
) -> Option<String> {
    // What systemd-sysupdate is about to finish.
    if file.starts_with(".sysupdate.") {
        return None;
    }
    let file = if is_folder {
        // systemd.v(7), since systemd 256; in between the suffix stays.
        file.strip_suffix(".v").unwrap_or(file)
    } else {
        file.strip_suffix(".raw")?
    };
    let file = file.strip_suffix(".raw").unwrap_or(file);
    let keeps_infix = systemd.is_some_and(|version| version < SystemdVersion::STRIPS_INFIX);
    let infix = format!(".{kind}");
    let name = if keeps_infix {
        file
    } else {
        file.strip_suffix(&infix).unwrap_or(file)
    };
    // image_name_is_valid() of systemd: other names with a dot are names.
    let valid = !matches!(name, "" | "." | "..")
        && !name.starts_with(".#")
        && !name.contains(char::is_control);
    valid.then(|| name.to_owned())
}

/// The names that systemd finds anywhere, but for the files `ours` of the live folder.
pub(super) fn foreign(node: &Node, kind: ExtensionKind, ours: &BTreeSet<&str>) -> BTreeSet<String> {
    entries(node, kind, ours)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// What systemd would merge under the name in the place of our link: a file or link of somebody
/// else in a folder that it searches before ours, or in ours.
pub(super) fn in_the_way(
    node: &Node,
    kind: ExtensionKind,
    ours: &BTreeSet<&str>,
    name: &ExtensionName,
) -> Option<PathBuf> {
    let live = node.layout.live(kind);
    let last = folders(kind)
        .iter()
        .position(|folder| node.layout.open_path(folder) == live)?;
    let until = &folders(kind)[..=last];
    entries(node, kind, ours)
        .into_iter()
        .find(|(found, path)| {
            found == name.as_str()
                && until
                    .iter()
                    .any(|folder| path.parent() == Some(&node.layout.open_path(folder)))
        })
        .map(|(_, path)| path)
}

fn entries(node: &Node, kind: ExtensionKind, ours: &BTreeSet<&str>) -> Vec<(String, PathBuf)> {
    let live = node.layout.live(kind);
    let mut found = Vec::new();
    for folder in folders(kind) {
        let folder = node.layout.open_path(folder);
        // A folder that cannot be read holds nothing that this program knows of.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            if folder == live && ours.contains(file) {
                continue;
            }
            let path = entry.path();
            if let Some(name) = image_name(node.systemd, kind, file, path.is_dir()) {
                found.push((name, path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_gives() {
        let name = |version, file, folder| {
            let version = Some(SystemdVersion(version));
            image_name(version, ExtensionKind::Sysext, file, folder)
        };
        assert_eq!(name(257, "a.sysext.raw", false).as_deref(), Some("a"));
        assert_eq!(name(257, "a_1.raw", false).as_deref(), Some("a_1"));
        assert_eq!(
            name(254, "a.sysext.raw", false).as_deref(),
            Some("a.sysext")
        );
        assert_eq!(name(254, "a.raw", false).as_deref(), Some("a"));
        assert_eq!(name(257, "a", true).as_deref(), Some("a"));
        assert_eq!(name(257, "a.sysext.raw.v", true).as_deref(), Some("a"));
        assert_eq!(name(257, "a.txt", false), None);
        assert_eq!(name(257, ".a.raw", false).as_deref(), Some(".a"));
        for passed_over in [".#a.raw", ".raw", "...raw", ".sysupdate.a.raw", "a\n.raw"] {
            assert_eq!(name(257, passed_over, false), None, "{passed_over:?}");
        }
    }
}
