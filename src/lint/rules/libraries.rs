//! What programs and libraries need: the right CPU, a loader, libraries, versions of symbols.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::library_search::{Lookup, Search};
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::elf::{Elf, Name, machine_name, runs_on};
use crate::lint::extension::known;
use crate::lint::files::Found;
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;

/// Folders with programs that are not for the host's CPU: firmware and what emulators run.
const FOREIGN: [&str; 5] = [
    "usr/lib/firmware",
    "usr/share/qemu",
    "usr/share/firmware",
    "usr/lib/grub",
    "usr/lib/debug",
];
/// So many libraries of one program are looked at; more than anybody has.
const MAX_NEEDED: usize = 1024;
/// Memory for what is known of all programs.
const MAX_PROGRAMS_BYTES: usize = 128 << 20;
/// So many lacking versions are named.
const NAMED: usize = 3;

/// The programs and libraries of an extension.
#[derive(Default)]
pub(super) struct Programs {
    kept: Vec<Program>,
    bytes: usize,
}

/// A program or library of the extension.
pub(super) struct Program {
    pub(super) path: EntryPath,
    pub(super) elf: Rc<Elf>,
}

/// What one library is needed for, where it is not known whether it is on the host.
#[derive(Default)]
struct Need {
    users: u64,
    first: Option<EntryPath>,
    newest: Option<Name>,
}

impl Programs {
    pub fn add(&mut self, extension: &Extension<'_>, entry: &Entry, elf: Elf) {
        let path = entry.path.clone();
        let bytes = self.bytes + elf.bytes + path.as_bytes().len();
        if bytes > MAX_PROGRAMS_BYTES {
            return extension.reach.cut_short();
        }
        self.bytes = bytes;
        let elf = Rc::new(elf);
        self.kept.push(Program { path, elf });
    }

    pub fn check(
        &self,
        extension: &Extension<'_>,
        findings: &mut Findings,
    ) -> Result<(), FilesError> {
        let programs = self
            .kept
            .iter()
            .filter(|program| !is_foreign(&program.path));
        let programs: Vec<&Program> = programs.collect();
        let mut search = Search::new(extension, &programs)?;
        let mut needs: BTreeMap<Name, Need> = BTreeMap::new();
        for program in programs {
            if check_machine(extension, program, findings) {
                check_interpreter(extension, program, findings)?;
                match check_libraries(&mut search, program, &mut needs, findings) {
                    // There were too many, which is told.
                    Err(FilesError::TooLong) => break,
                    result => result?,
                }
            }
        }
        for (library, need) in needs {
            need.report(&library, findings);
        }
        Ok(())
    }
}

impl Need {
    fn report(self, library: &[u8], findings: &mut Findings) {
        let Some(first) = self.first else { return };
        let mut message = format!("needs {} of the host", printable(library));
        if let Some(newest) = &self.newest {
            message += &format!(", at {}", printable(newest));
        }
        if self.users > 1 {
            message += &format!("; so do {} others", self.users - 1);
        }
        findings.add(Code::HostNeeded, &first, message);
    }
}

/// The numbers in the name of a version, by which names are in order.
fn numbers(name: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(name);
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|number| number.parse().ok()).collect()
}

fn is_foreign(path: &EntryPath) -> bool {
    FOREIGN.iter().any(|folder| path.is_within(&known(folder)))
}

fn check_machine(extension: &Extension<'_>, program: &Program, findings: &mut Findings) -> bool {
    let target = program.elf.target;
    let Some(architecture) = extension.subject.architecture else {
        return true;
    };
    // Programs for the kernel's own machine, BPF, run on every CPU.
    if runs_on(target, architecture) || target.machine == object::elf::EM_BPF.0 {
        return true;
    }
    let message = format!(
        "is for {}, the extension for {}",
        machine_name(target),
        architecture.systemd_name()
    );
    findings.add(Code::ForeignMachine, &program.path, message);
    false
}

fn check_interpreter(
    extension: &Extension<'_>,
    program: &Program,
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let Some(interpreter) = &program.elf.interpreter else {
        return Ok(());
    };
    let missing = match extension.resolve(interpreter)? {
        Found::Entry(entry) if entry.kind != EntryKind::Directory => return Ok(()),
        Found::Entry(entry) => entry.path,
        Found::Missing(missing) => missing,
        Found::Endless | Found::Unknown => return Ok(()),
    };
    let shown = printable(interpreter);
    if extension.merged().knows(&missing)? {
        let message = format!("needs the loader {shown}, which is not there");
        findings.add(Code::MissingInterpreter, &program.path, message);
    }
    Ok(())
}

fn check_libraries(
    search: &mut Search<'_>,
    program: &Program,
    needs: &mut BTreeMap<Name, Need>,
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let mut required: HashMap<&Name, Vec<&Name>> = HashMap::new();
    for (library, version) in &program.elf.required {
        required.entry(library).or_default().push(version);
    }
    let needed: BTreeSet<&Name> = program.elf.needed.iter().take(MAX_NEEDED).collect();
    for name in needed {
        let versions = required.get(name).map_or(&[][..], Vec::as_slice);
        match search.find(program, name, versions)? {
            Lookup::Found { lacking, .. } if lacking.is_empty() => {}
            Lookup::Found { path, lacking } => {
                let message = format!("needs {}, which {path} does not have", list(&lacking));
                findings.add(Code::SymbolVersion, &program.path, message);
            }
            Lookup::Unknown => {}
            Lookup::Missing if search.has_base() => {
                let message = format!("needs {}, which is not there", printable(name));
                findings.add(Code::MissingLibrary, &program.path, message);
            }
            Lookup::Missing => {
                let need = needs.entry(Name::clone(name)).or_default();
                need.users += 1;
                need.first.get_or_insert_with(|| program.path.clone());
                let all = versions.iter().copied().chain(&need.newest);
                need.newest = all.max_by_key(|version| numbers(version)).cloned();
            }
        }
    }
    Ok(())
}

fn list(versions: &[&Name]) -> String {
    let shown: Vec<String> = versions
        .iter()
        .take(NAMED)
        .map(|name| printable(name))
        .collect();
    match versions.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}
