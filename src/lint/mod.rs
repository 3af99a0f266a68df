//! Looks for what would surprise a host: files that take the place of its own, programs that cannot
//! start, secrets, units that nobody starts.
//!
//! [`lint`] judges the files of an extension by rules that each know one family of accidents, see
//! [`Code`]. It reads them through [`Files`], which may be the file system of an image, finished or
//! not, or a folder; a second such tree, the base, is the system that is to be extended. Nothing in
//! either is trusted: whatever is in them, reading ends and takes bounded memory.

mod code;
mod elf;
mod extension;
mod files;
mod finding;
mod merged;
mod pack;
mod reach;
mod rules;

use std::path::Path;

use crate::architecture::Architecture;
use crate::extension::ExtensionKind;

pub use code::{Code, Rule, Severity, UnknownCode};
pub use extension::Extension;
pub use files::{Content, Files, FilesError, Folder, Found, Packed, resolve};
pub use finding::{Finding, Findings, Policy};
pub use pack::{PackError, pack};

/// What is to be judged, and beside what.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// For which CPU the extension is, where that is known.
    pub architecture: Option<Architecture>,
    /// The files of the extension.
    pub files: &'a dyn Files,
    /// The image that they were read from, by whose name systemd looks for the release file.
    pub image: Option<&'a Path>,
    /// Whether they are all that systemd will see, the release file included.
    pub complete: bool,
    /// The system that is to be extended, where there is one to compare with.
    pub base: Option<&'a dyn Files>,
}

/// Judges an extension.
///
/// # Errors
/// See [`FilesError`]. Files that cannot be read for who owns them, or for how they are compressed,
/// are no error but findings.
pub fn lint(subject: Subject<'_>, policy: &Policy) -> Result<Findings, FilesError> {
    let extension = Extension::read(subject)?;
    let mut findings = Findings::default();
    for rule in rules::ALL {
        rule(&extension, &mut findings)?;
    }
    extension.reach.report(&mut findings);
    Ok(findings.settle(policy))
}
