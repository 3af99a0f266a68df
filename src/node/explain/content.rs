//! What the extension brings along, beside the host and the other extensions.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;

use super::search_path::{self, Entry};
use super::{Condition, Question};
use crate::erofs::{FileSystem, FileType, ReadError};
use crate::image::{Ddi, Designator, Role};
use crate::node::version::compare;
use crate::printable::printable;
use crate::read_at::{FileWindow, ReadAt};

/// More paths of one image are not compared.
const MAX_PATHS: usize = 200_000;
/// How many examples are told.
const EXAMPLES: usize = 3;

/// What lies at each path below the hierarchies, and whether all was looked at.
struct Content {
    paths: HashMap<Vec<u8>, FileType>,
    /// How many files lie where nothing is overlaid.
    outside: Vec<Vec<u8>>,
    files: usize,
}

/// What ends a walk.
enum Stop {
    Enough,
    Damage,
}

impl From<ReadError> for Stop {
    fn from(_: ReadError) -> Stop {
        Stop::Damage
    }
}

impl Question<'_> {
    pub(super) fn look_at_content(&self, conditions: &mut Vec<Condition>) {
        let Ok(file_system) = &self.image.file_system else {
            return;
        };
        let usr = self.image.designator() == Some(Designator::Usr);
        let content = self.content(file_system, usr);
        conditions.push(self.hierarchies(&content));
        conditions.push(self.beside_host(&content));
        conditions.push(self.beside_others(&content));
    }

    /// The paths in a file system, as they lie on the host.
    fn content<R: ReadAt>(&self, file_system: &FileSystem<R>, usr: bool) -> Content {
        let hierarchies = self.settings.hierarchies();
        let release = self.kind.release_directory();
        let mut content = Content {
            paths: HashMap::new(),
            outside: Vec::new(),
            files: 0,
        };
        // What could be read is enough for a comparison.
        let _ = file_system.walk(|path, inode| {
            let mut full = if usr { b"usr/".to_vec() } else { Vec::new() };
            full.extend_from_slice(path);
            if full.starts_with(release.as_bytes()) {
                return Ok(());
            }
            let below = |hierarchy: &str| {
                let rest = full.strip_prefix(hierarchy.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            };
            let is_file = inode.file_type != FileType::Directory;
            content.files += usize::from(is_file);
            if hierarchies.iter().any(|hierarchy| below(hierarchy)) {
                content.paths.insert(full, inode.file_type);
            } else if is_file {
                content.outside.push(full);
            }
            if content.paths.len() + content.outside.len() > MAX_PATHS {
                return Err(Stop::Enough);
            }
            Ok(())
        });
        content
    }

    fn hierarchies(&self, content: &Content) -> Condition {
        let setting = &self.settings.hierarchies;
        let condition = Condition::new("hierarchies").demands(&setting.value);
        let condition = condition.has(format!("{} files", content.files));
        if content.outside.is_empty() {
            return condition;
        }
        let (lost, by) = (
            examples(&content.outside),
            match &setting.origin {
                Some(path) => format!(" (by {})", path.display()),
                None => String::new(),
            },
        );
        if content.outside.len() == content.files {
            return condition.doubtful(format!("nothing of it is overlaid{by}: {lost}"));
        }
        condition.doubtful(format!(
            "{lost} will not be seen: systemd overlays nothing there{by}"
        ))
    }

    /// Files in the place of the host's folders, and the reverse.
    fn beside_host(&self, content: &Content) -> Condition {
        let layout = &self.node.layout;
        let mut hidden: Vec<Vec<u8>> = Vec::new();
        for (path, file_type) in &content.paths {
            use std::os::unix::ffi::OsStrExt;
            let of_node = Path::new(std::ffi::OsStr::from_bytes(path));
            let Ok(host) = fs::symlink_metadata(layout.root().join(of_node)) else {
                continue;
            };
            let both = [*file_type == FileType::Directory, host.is_dir()];
            if both == [true, false] || both == [false, true] {
                hidden.push(path.clone());
            }
        }
        let condition = Condition::new("host's files");
        if hidden.is_empty() {
            return condition;
        }
        condition.doubtful(format!(
            "{} hides what the host has there: one is a folder, the other is not",
            examples(&hidden)
        ))
    }

    /// Files that other extensions have as well.
    fn beside_others(&self, content: &Content) -> Condition {
        let name = self.image_name();
        let mut remarks = Vec::new();
        let mut names = Vec::new();
        let mut seen = vec![name.clone()];
        for entry in search_path::entries(&self.node.layout, self.kind, self.systemd) {
            if seen.contains(&entry.name) || self.is_target(&entry) {
                continue;
            }
            seen.push(entry.name.clone());
            names.push(entry.name.clone());
            let Some(other) = self.open(&entry) else {
                continue;
            };
            remarks.extend(conflict(&name, content, &entry.name, &other));
        }
        let condition = Condition::new("other extensions").demands(match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        });
        if remarks.is_empty() {
            condition
        } else {
            condition.doubtful(remarks.join("; "))
        }
    }

    /// What another extension brings along, if that can be read.
    fn open(&self, entry: &Entry) -> Option<Content> {
        let path = search_path::opened(&self.node.layout, &entry.path);
        if entry.is_folder || !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let (data, usr) = match Ddi::open(&path) {
            Ok(ddi) => {
                let kind = ddi.partition(Role::Data)?.kind?;
                let usr = kind.designator == Designator::Usr;
                (ddi.open_partition(Role::Data).ok()??, usr)
            }
            Err(_) => (FileWindow::whole(File::open(&path).ok()?).ok()?, false),
        };
        Some(self.content(&FileSystem::open(data).ok()?, usr))
    }
}

/// What becomes of the paths that two extensions have both: that with the later name lies on top.
fn conflict(name: &str, own: &Content, other: &str, theirs: &Content) -> Option<String> {
    let (mut both, mut mixed) = (Vec::new(), Vec::new());
    for (path, file_type) in &own.paths {
        let Some(their_type) = theirs.paths.get(path) else {
            continue;
        };
        let folders = [*file_type, *their_type].map(|it| it == FileType::Directory);
        match folders {
            [true, true] => {}
            [false, false] => both.push(path.clone()),
            _ => mixed.push(path.clone()),
        }
    }
    let winner = if compare(name, other).is_lt() {
        other
    } else {
        name
    };
    let mut remarks = Vec::new();
    if !both.is_empty() {
        remarks.push(format!(
            "{other} has {} too, and that of {winner} is seen",
            examples(&both)
        ));
    }
    if !mixed.is_empty() {
        remarks.push(format!(
            "{} is a folder in one of it and {other}, and that of {winner} hides the other",
            examples(&mixed)
        ));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// Some paths of many, sorted.
fn examples(paths: &[Vec<u8>]) -> String {
    let mut sorted: Vec<&Vec<u8>> = paths.iter().collect();
    sorted.sort();
    let some: Vec<String> = sorted
        .iter()
        .take(EXAMPLES)
        .map(|path| format!("/{}", printable(path)))
        .collect();
    match paths.len().saturating_sub(EXAMPLES) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
