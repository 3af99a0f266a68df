//! What systemd finds beside the links of this program.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::activation::image_name;
use crate::printable::printable;

/// Something in a search path that this program did not put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Where it lies, as a path of the node.
    pub path: PathBuf,
    /// Where this program can open it.
    pub open: PathBuf,
    /// Its file name.
    pub file: String,
    /// The name that systemd gives it.
    pub name: String,
    /// What it is.
    pub form: Form,
}

/// What an extension is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder with something in it. No image policy is applied to it.
    Folder,
    /// A folder with nothing in it, which is not merged, and hides what else has its name.
    Empty,
    /// A file that is an image.
    Image,
    /// A folder with versions of an image, a device, or a link to nothing.
    Unknown,
}

/// Where systemd-stub puts what lay beside a unified kernel image, for the initrd.
pub fn stub_folders(kind: ExtensionKind) -> &'static [&'static str] {
    match kind {
        ExtensionKind::Sysext => &["/.extra/sysext", "/.extra/global_sysext"],
        ExtensionKind::Confext => &["/.extra/confext", "/.extra/global_confext"],
    }
}

/// What lies in `folders` but for the links `ours` in the folder of live links, and which of the
/// folders could not be read.
pub fn foreign(
    node: &Node,
    kind: ExtensionKind,
    folders: &[&str],
    ours: &BTreeSet<String>,
) -> (Vec<Foreign>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for folder in folders {
        let open = node.layout.open_path(folder);
        let is_live = open == node.layout.live(kind);
        let entries = match fs::read_dir(&open) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!(
                    "cannot look what systemd finds in {folder}: {error}"
                ));
                continue;
            }
        };
        let mut names: Vec<String> = entries
            .flatten()
            // systemd passes over what is not text.
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !(is_live && ours.contains(name)))
            .collect();
        names.sort();
        for file in names {
            if let Some((name, form)) = classify(node, kind, &open.join(&file), &file) {
                found.push(Foreign {
                    path: PathBuf::from(folder).join(&file),
                    open: open.join(&file),
                    file,
                    name,
                    form,
                });
            }
        }
    }
    (found, problems)
}

/// The image that systemd sees in a file or folder, if any.
fn classify(node: &Node, kind: ExtensionKind, path: &Path, file: &str) -> Option<(String, Form)> {
    if file.chars().any(char::is_control) {
        return None;
    }
    let metadata = fs::metadata(path);
    let is_folder = metadata.as_ref().is_ok_and(fs::Metadata::is_dir);
    let form = match metadata {
        Ok(_) if is_folder && file.ends_with(".raw.v") => Form::Unknown,
        Ok(_) if is_folder && is_empty(path) => Form::Empty,
        Ok(_) if is_folder => Form::Folder,
        Ok(metadata) if metadata.is_file() => Form::Image,
        _ => Form::Unknown,
    };
    let name = image_name(node.systemd, kind, file, is_folder)?;
    Some((name, form))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

impl Foreign {
    /// Its path, safe to show.
    pub fn shown(&self) -> String {
        printable(self.path.as_os_str().as_encoded_bytes())
    }
}
