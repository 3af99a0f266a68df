//! Scripts and what runs them.

use crate::layer::{Entry, EntryKind};
use crate::lint::files::Found;
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;

/// Where env(1) looks, more or less.
const PATH: [&str; 6] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];
/// Every host has these.
const EVERYWHERE: [&[u8]; 4] = [b"/bin/sh", b"/usr/bin/sh", b"/usr/bin/env", b"/bin/env"];
/// The kernel reads no more of the first line (`BINPRM_BUF_SIZE`, `include/uapi/linux/binfmts.h`).
const MAX_LINE_BYTES: usize = 254;

/// `line` is what follows `#!`.
pub(super) fn check(
    extension: &Extension<'_>,
    entry: &Entry,
    line: &[u8],
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let line = &line[..line.len().min(MAX_LINE_BYTES)];
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let Some(interpreter) = words.next() else {
        return Ok(());
    };
    let is_env = interpreter.ends_with(b"/env");
    let candidates: Vec<Vec<u8>> =
        match words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')) {
            Some(name) if is_env => PATH
                .iter()
                .map(|folder| [folder.as_bytes(), b"/", name].concat())
                .collect(),
            _ if EVERYWHERE.contains(&interpreter) => return Ok(()),
            _ => vec![interpreter.to_vec()],
        };
    let mut is_known = true;
    for candidate in &candidates {
        match extension.resolve(candidate)? {
            Found::Entry(found) if found.kind != EntryKind::Directory => return Ok(()),
            Found::Missing(missing) => is_known &= extension.merged().knows(&missing)?,
            Found::Unknown => return Ok(()),
            Found::Entry(_) | Found::Endless => {}
        }
    }
    let shown = printable(line.trim_ascii());
    if is_known {
        let message = format!("is a script for {shown}, which is not there");
        findings.add(Code::MissingInterpreter, &entry.path, message);
    } else {
        let message = format!("is a script for {shown}, which has to be on the host");
        findings.add(Code::HostNeeded, &entry.path, message);
    }
    Ok(())
}
