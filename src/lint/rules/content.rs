//! What stands in files: each is opened once, and its start tells whose business it is.

use super::libraries::Programs;
use super::{scripts, secrets};
use crate::layer::{Entry, EntryKind};
use crate::lint::elf::{Elf, ElfError, is_elf};
use crate::lint::extension::name_of;
use crate::lint::files::Content;
use crate::lint::{Code, Extension, FilesError, Findings};

/// So much of a file is looked at to tell what it is.
const START_BYTES: usize = 4096;

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let mut programs = Programs::default();
    for entry in extension.leaves() {
        let EntryKind::File { size } = entry.kind else {
            continue;
        };
        secrets::check_name(entry, findings);
        if !may_run(entry) && !secrets::may_hold_secret(entry, size) {
            continue;
        }
        match check_file(extension, entry, &mut programs, findings) {
            Err(error) if error.is_out_of_reach() => {
                let message = "cannot be read, so that its content is not judged";
                findings.add(Code::UnreadableContent, &entry.path, message);
            }
            result => result?,
        }
    }
    programs.check(extension, findings)
}

/// Whether a file may be a program, library or kernel module.
fn may_run(entry: &Entry) -> bool {
    let name = name_of(&entry.path);
    entry.mode & 0o111 != 0 || name.ends_with(b".ko") || name.windows(3).any(|part| part == b".so")
}

fn check_file(
    extension: &Extension<'_>,
    entry: &Entry,
    programs: &mut Programs,
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let mut content = extension.subject.files.open(&entry.path)?;
    let start = read_start(content.as_mut())?;
    if is_elf(&start) {
        match Elf::read(content, &extension.reach) {
            Ok(elf) => programs.add(extension, entry, elf),
            Err(ElfError::Files(error)) => return Err(error),
            Err(ElfError::Broken(problem)) => {
                let message = format!("is a damaged ELF file: {problem}");
                findings.add(Code::UnreadableContent, &entry.path, message);
            }
        }
    } else if let (Some(script), true) = (start.strip_prefix(b"#!"), entry.mode & 0o111 != 0) {
        scripts::check(extension, entry, script, findings)?;
    } else {
        secrets::check_content(entry, &start, findings);
    }
    Ok(())
}

fn read_start(content: &mut dyn Content) -> Result<Vec<u8>, FilesError> {
    let size = usize::try_from(content.size()).unwrap_or(usize::MAX);
    let mut start = vec![0; size.min(START_BYTES)];
    let length = content.read_at(&mut start, 0)?;
    start.truncate(length);
    Ok(start)
}
