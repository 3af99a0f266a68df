//! Symbolic links that lead out of the extension.

use crate::layer::{EntryKind, EntryPath};
use crate::lint::files::Found;
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;

/// Folders whose content comes to be only when a host runs.
const AT_RUN_TIME: [&[u8]; 8] = [
    b"dev", b"proc", b"sys", b"run", b"var", b"tmp", b"home", b"root",
];

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in extension.leaves() {
        let EntryKind::Symlink { target } = &entry.kind else {
            continue;
        };
        let shown = printable(target);
        match extension.resolve(entry.path.as_bytes())? {
            Found::Entry(_) | Found::Unknown => {}
            Found::Endless => {
                let message = format!("leads to {shown}, and on without an end");
                findings.add(Code::DanglingLink, &entry.path, message);
            }
            Found::Missing(missing) if is_made_at_run_time(&missing) => {}
            Found::Missing(missing) if extension.merged().knows(&missing)? => {
                let message = format!("leads to {shown}, but there is no {missing}");
                findings.add(Code::DanglingLink, &entry.path, message);
            }
            Found::Missing(missing) => {
                let message = format!("leads to {shown}, which is not in the extension: {missing}");
                findings.add(Code::OutsideLink, &entry.path, message);
            }
        }
    }
    Ok(())
}

fn is_made_at_run_time(path: &EntryPath) -> bool {
    let top = path.components().next().unwrap_or_default();
    AT_RUN_TIME.contains(&top)
}
