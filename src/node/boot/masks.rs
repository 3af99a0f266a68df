//! Empty folders that keep systemd from images that would block all others.
//!
//! systemd merges of each name the first that it finds, and of an empty folder nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::report::Report;
use super::search_path::Foreign;
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::activation::{folders, image_name};

/// Hides an image behind an empty folder in the folder of live links. Returns where that is, as a path
/// of the node.
///
/// # Errors
/// Why it cannot be hidden, as the end of a sentence.
pub fn hide(node: &Node, kind: ExtensionKind, foreign: &Foreign) -> Result<PathBuf, String> {
    let live = node.layout.live(kind);
    let is_folders_name =
        image_name(node.systemd, kind, &foreign.name, true).as_ref() == Some(&foreign.name);
    if !is_after_ours(node, kind, foreign) || !is_folders_name {
        return Err("remove it".to_owned());
    }
    match fs::create_dir(live.join(&foreign.name)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("it cannot be hidden ({error}), so remove it"))
        }
        _ => {
            let live = folders(kind)
                .iter()
                .find(|folder| node.layout.open_path(folder) == live);
            Ok(Path::new(live.unwrap_or(&"/run")).join(&foreign.name))
        }
    }
}

/// Whether systemd looks at something only after the folder of live links.
pub fn is_after_ours(node: &Node, kind: ExtensionKind, foreign: &Foreign) -> bool {
    let position = |wanted: Option<&Path>| {
        let mut folders = folders(kind).iter();
        folders.position(|folder| Some(node.layout.open_path(folder).as_path()) == wanted)
    };
    position(foreign.open.parent()) > position(Some(&node.layout.live(kind)))
}

/// Takes back what an earlier run at this boot hid. A folder that somebody has put something into
/// since then stays.
pub fn remove(node: &Node, report: &mut Report) {
    let Ok(Some(earlier)) = Report::read(&node.layout) else {
        return;
    };
    for mask in earlier.masks {
        match fs::remove_dir(node.layout.open_path(&mask)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                report.note(format!("cannot remove {}: {error}", mask.display()));
            }
            _ => {}
        }
    }
}
