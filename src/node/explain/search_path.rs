//! Where systemd looks for extensions, and what it calls those that it finds.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Condition, Question};
use crate::extension::ExtensionKind;
use crate::node::host::SystemdVersion;
use crate::node::layout::Layout;

/// In the folder before a later one, a name hides that name (`image_search_path`).
const SYSEXT: [&str; 3] = ["/etc/extensions", "/run/extensions", "/var/lib/extensions"];
const CONFEXT: [&str; 4] = [
    "/run/confexts",
    "/var/lib/confexts",
    "/usr/local/lib/confexts",
    "/usr/lib/confexts",
];
/// The first that takes versions in folders `NAME.raw.v` (systemd.v(7)).
const VERSIONED: SystemdVersion = SystemdVersion(256);
/// More entries in a folder are not looked at.
const MAX_ENTRIES: usize = 10_000;

/// Something that systemd takes for an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Of the node.
    pub path: PathBuf,
    /// Whether it is a folder rather than an image.
    pub is_folder: bool,
}

/// The folders of the node in which systemd looks, the first of which has precedence.
pub fn folders(kind: ExtensionKind) -> &'static [&'static str] {
    match kind {
        ExtensionKind::Sysext => &SYSEXT,
        ExtensionKind::Confext => &CONFEXT,
    }
}

/// The folder in which what the agent activates is linked.
pub fn live(kind: ExtensionKind) -> &'static Path {
    Path::new(match kind {
        ExtensionKind::Sysext => "/run/extensions",
        ExtensionKind::Confext => "/run/confexts",
    })
}

/// What systemd calls an image, by its file name; `None` for what it takes for no image.
pub fn image_name(path: &Path, kind: ExtensionKind, systemd: SystemdVersion) -> Option<String> {
    let folder = path.parent()?.file_name().and_then(|name| name.to_str());
    if let Some(versioned) = folder.and_then(|folder| folder.strip_suffix(".v"))
        && systemd >= VERSIONED
    {
        return image_name(Path::new("/").join(versioned).as_path(), kind, systemd);
    }
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".raw")?;
    let infix = format!(".{kind}");
    let name = match stem.strip_suffix(&infix) {
        Some(name) if systemd >= SystemdVersion::STRIPS_INFIX => name,
        _ => stem,
    };
    let valid = !name.is_empty() && !name.starts_with(".#") && !name.contains(char::is_control);
    valid.then(|| name.to_owned())
}

/// Everything in the folders in which systemd looks, those of precedence first. What cannot be read
/// is as if it were not there.
pub fn entries(layout: &Layout, kind: ExtensionKind, systemd: SystemdVersion) -> Vec<Entry> {
    let mut entries = Vec::new();
    for folder in folders(kind) {
        let Ok(found) = layout.open_path(folder).read_dir() else {
            continue;
        };
        let names = found.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.take(MAX_ENTRIES).collect();
        names.sort();
        for name in names {
            let path = Path::new(folder).join(&name);
            // Links lead to where they would on the node.
            let metadata = fs::metadata(opened(layout, &path));
            let is_folder = metadata.is_ok_and(|metadata| metadata.is_dir());
            let versioned = path.extension().is_some_and(|suffix| suffix == "v");
            let called = match name.to_str() {
                Some(name) if is_folder && !versioned => Some(name.to_owned()),
                _ if is_folder && systemd >= VERSIONED => {
                    image_name(&path.with_extension(""), kind, systemd)
                }
                _ => image_name(&path, kind, systemd),
            };
            entries.extend(called.map(|name| Entry {
                name,
                path,
                is_folder,
            }));
        }
    }
    entries
}

/// Where a path of the node is to be opened, with the links at its end followed as the node would.
pub fn opened(layout: &Layout, of_node: &Path) -> PathBuf {
    let mut of_node = of_node.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(layout.open_path(&of_node)) else {
            break;
        };
        // An absolute target replaces all that was there.
        of_node = of_node.parent().unwrap_or(Path::new("/")).join(target);
    }
    layout.open_path(of_node)
}

/// Links that lead to links (`MAXSYMLINKS` of Linux).
const MAX_LINKS: usize = 40;

impl Question<'_> {
    /// Whether another entry of the same name hides this one, or is hidden by it.
    pub(super) fn look_at_places(&self, conditions: &mut Vec<Condition>) {
        let name = self.image_name();
        let seen_as = &self.target.seen_as;
        let folders = folders(self.kind);
        let rank = |path: &Path| {
            folders
                .iter()
                .position(|folder| path.starts_with(folder))
                .unwrap_or(folders.len())
        };
        let entries = entries(&self.node.layout, self.kind, self.systemd);
        let mut others = entries
            .iter()
            .filter(|entry| entry.name == name && entry.path != *seen_as && !self.is_target(entry));
        let condition = Condition::new("place")
            .demands(folders.join(", "))
            .has(seen_as.display());
        conditions.push(match others.next() {
            None => condition,
            Some(other) if rank(&other.path) < rank(seen_as) => condition.ignored(format!(
                "{} has the same name and lies in a folder that systemd searches earlier",
                other.path.display()
            )),
            Some(other) if rank(&other.path) == rank(seen_as) => condition.doubtful(format!(
                "{} has the same name and lies in the same folder, and systemd takes either",
                other.path.display()
            )),
            Some(other) => condition.doubtful(format!(
                "it hides {}, which has the same name",
                other.path.display()
            )),
        });
    }

    /// Whether an entry leads to the image that this is about.
    pub(super) fn is_target(&self, entry: &Entry) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
        let own = identity(&self.target.path);
        own.is_some() && own == identity(&opened(&self.node.layout, &entry.path))
    }
}
