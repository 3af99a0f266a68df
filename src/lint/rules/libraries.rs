//! What programs and libraries need: the right CPU, a loader, libraries, versions of symbols.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::elf::{Elf, ElfError, Target, is_elf, machine_name, runs_on};
use crate::lint::extension::known;
use crate::lint::files::{Files, Found, read_start};
use crate::lint::{Code, Extension, FilesError, Findings};
use crate::printable::printable;

/// Folders in which every loader looks.
const DEFAULT_FOLDERS: [&str; 4] = ["usr/lib64", "usr/lib", "usr/local/lib", "usr/lib32"];
/// Folders with programs that are not for the host's CPU: firmware and what emulators run.
const FOREIGN: [&str; 5] = [
    "usr/lib/firmware",
    "usr/share/qemu",
    "usr/share/firmware",
    "usr/lib/grub",
    "usr/lib/debug",
];
/// So many search folders, and libraries of one program, are looked at; more than anybody has.
const MAX_FOLDERS: usize = 256;
const MAX_NEEDED: usize = 1024;
/// A larger ld.so.conf is none; and so many of its drop-ins are read.
const MAX_CONFIGURATION_BYTES: usize = 64 * 1024;
const MAX_CONFIGURATION_FILES: usize = 256;

/// The programs and libraries of an extension.
#[derive(Default)]
pub(super) struct Programs(Vec<Program>);

struct Program {
    path: EntryPath,
    elf: Elf,
}

/// What one library is needed for, where it is not known whether it is on the host.
#[derive(Default)]
struct Need {
    users: u64,
    first: Option<EntryPath>,
    versions: BTreeSet<Vec<u8>>,
}

impl Programs {
    pub fn add(&mut self, entry: &Entry, elf: Elf) {
        let path = entry.path.clone();
        self.0.push(Program { path, elf });
    }

    pub fn check(
        &self,
        extension: &Extension<'_>,
        findings: &mut Findings,
    ) -> Result<(), FilesError> {
        let programs = self.0.iter().filter(|program| !is_foreign(&program.path));
        let programs: Vec<&Program> = programs.collect();
        let mut search = Search::new(extension, &programs)?;
        let mut needs: BTreeMap<Vec<u8>, Need> = BTreeMap::new();
        for program in programs {
            if check_machine(extension, program, findings) {
                check_interpreter(extension, program, findings)?;
                check_libraries(&mut search, program, &mut needs, findings)?;
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
        if !self.versions.is_empty() {
            let newest = self.versions.iter().max_by_key(|name| numbers(name));
            message += &format!(", at {}", printable(newest.map_or(&[][..], Vec::as_slice)));
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
        Found::Endless => return Ok(()),
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
    needs: &mut BTreeMap<Vec<u8>, Need>,
    findings: &mut Findings,
) -> Result<(), FilesError> {
    let has_base = search.extension.subject.base.is_some();
    for name in program.elf.needed.iter().take(MAX_NEEDED) {
        let versions = program.elf.required.iter();
        let versions = versions
            .filter(|(library, _)| library == name)
            .map(|(_, version)| version);
        match search.find(program, name)? {
            Some(library) => {
                // A library without versions is taken for any.
                let provided = &library.elf.provided;
                let lacking =
                    |version: &&Vec<u8>| !provided.is_empty() && !provided.contains(*version);
                let lacking: Vec<String> = versions.filter(lacking).map(|v| printable(v)).collect();
                if !lacking.is_empty() {
                    let message = format!(
                        "needs {}, which {} does not have",
                        lacking.join(", "),
                        library.path
                    );
                    findings.add(Code::SymbolVersion, &program.path, message);
                }
            }
            None if has_base => {
                let message = format!("needs {}, which is not there", printable(name));
                findings.add(Code::MissingLibrary, &program.path, message);
            }
            None => {
                let need = needs.entry(name.clone()).or_default();
                need.users += 1;
                need.first.get_or_insert_with(|| program.path.clone());
                need.versions.extend(versions.cloned());
            }
        }
    }
    Ok(())
}

/// Looks for libraries as loaders do (ld.so(8)), and a little more generously: in the search paths of
/// all programs of the extension, for those of a program are good for its libraries too.
struct Search<'a> {
    extension: &'a Extension<'a>,
    /// Folders that are not of one program.
    folders: Vec<EntryPath>,
    /// Libraries that were read, by where they really lie.
    libraries: HashMap<EntryPath, Option<Elf>>,
}

/// A library that was found.
struct Library<'s> {
    path: EntryPath,
    elf: &'s Elf,
}

impl<'a> Search<'a> {
    fn new(extension: &'a Extension<'a>, programs: &[&Program]) -> Result<Search<'a>, FilesError> {
        let mut folders: Vec<Vec<u8>> = Vec::new();
        for program in programs {
            folders.extend(
                program
                    .elf
                    .search
                    .iter()
                    .map(|folder| expand(folder, &program.path)),
            );
        }
        folders.extend(configured_folders(extension)?);
        folders.extend(DEFAULT_FOLDERS.map(|folder| folder.as_bytes().to_vec()));
        folders.extend(multiarch_folders(extension)?);
        let mut resolved = Vec::new();
        for folder in folders.iter().collect::<BTreeSet<_>>() {
            if let Found::Entry(entry) = extension.resolve(folder)? {
                resolved.push(entry.path);
            }
        }
        resolved.sort();
        resolved.dedup();
        resolved.truncate(MAX_FOLDERS);
        let read = programs
            .iter()
            .map(|program| (program.path.clone(), Some(program.elf.clone())));
        Ok(Search {
            extension,
            folders: resolved,
            libraries: read.collect(),
        })
    }

    /// A library for the same kind of CPU as the program, best one with all versions that it needs.
    fn find(&mut self, program: &Program, name: &[u8]) -> Result<Option<Library<'_>>, FilesError> {
        let mut candidates: Vec<Vec<u8>> = Vec::new();
        if name.contains(&b'/') {
            candidates.push(expand(name, &program.path));
        } else {
            // Beside each other lie libraries that one program loads.
            let own = program.path.split_last().map(|(folder, _)| folder);
            let own = own.filter(|_| program.elf.interpreter.is_none());
            for folder in own.iter().chain(&self.folders) {
                candidates.push([folder.as_bytes(), b"/", name].concat());
            }
        }
        let needs = |elf: &Elf| {
            let versions = program
                .elf
                .required
                .iter()
                .filter(|(library, _)| library == name);
            versions
                .filter(|(_, version)| !elf.provided.contains(version))
                .count()
        };
        let mut best: Option<(usize, EntryPath)> = None;
        for candidate in candidates {
            let Found::Entry(found) = self.extension.resolve(&candidate)? else {
                continue;
            };
            let Some(elf) = self.read(&found, program.elf.target)? else {
                continue;
            };
            let lacking = needs(elf);
            if best.as_ref().is_none_or(|(least, _)| lacking < *least) {
                best = Some((lacking, found.path));
            }
        }
        let Some((_, path)) = best else {
            return Ok(None);
        };
        let elf = self.libraries.get(&path).and_then(Option::as_ref);
        Ok(elf.map(|elf| Library {
            path: path.clone(),
            elf,
        }))
    }

    fn read(&mut self, found: &Entry, target: Target) -> Result<Option<&Elf>, FilesError> {
        if !matches!(found.kind, EntryKind::File { .. }) {
            return Ok(None);
        }
        if !self.libraries.contains_key(&found.path) {
            let elf = read_library(&self.extension.merged(), &found.path, target)?;
            self.libraries.insert(found.path.clone(), elf);
        }
        let elf = self.libraries.get(&found.path).and_then(Option::as_ref);
        Ok(elf.filter(|elf| elf.target == target))
    }
}

/// Nothing if it is no library. One that may not be read is taken for one that fits.
fn read_library(
    files: &dyn Files,
    path: &EntryPath,
    target: Target,
) -> Result<Option<Elf>, FilesError> {
    let unknown = Elf {
        target,
        ..Elf::default()
    };
    let read = read_start(files, path, 4).and_then(|start| match is_elf(&start) {
        true => files.open(path).map(Some),
        false => Ok(None),
    });
    match read {
        Ok(Some(content)) => match Elf::read(content) {
            Ok(elf) => Ok(Some(elf)),
            Err(ElfError::Broken(_)) => Ok(None),
            Err(ElfError::Files(error)) => Err(error),
        },
        Ok(None) => Ok(None),
        Err(error) if error.is_out_of_reach() => Ok(Some(unknown)),
        Err(error) => Err(error),
    }
}

/// A folder of a search path, with what stands for the program's own folder put in.
fn expand(folder: &[u8], program: &EntryPath) -> Vec<u8> {
    let origin = program
        .split_last()
        .map_or_else(EntryPath::root, |(parent, _)| parent);
    let text = String::from_utf8_lossy(folder);
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let expanded = text
        .replace("$ORIGIN", &origin)
        .replace("${ORIGIN}", &origin);
    expanded.into_bytes()
}

/// The folders of Debian's kind, `usr/lib/x86_64-linux-gnu`: only hosts that have them look in them.
fn multiarch_folders(extension: &Extension<'_>) -> Result<Vec<Vec<u8>>, FilesError> {
    let lib = known("usr/lib");
    let names = match extension.subject.base {
        Some(base) => base.names(&lib)?,
        None if extension.entries.contains_key(&lib) => extension.subject.files.names(&lib)?,
        None => Vec::new(),
    };
    let is_triplet = |name: &Vec<u8>| name.windows(7).any(|part| part == b"-linux-");
    let triplets = names.iter().filter(|name| is_triplet(name));
    Ok(triplets
        .map(|name| [b"usr/lib/", name.as_slice()].concat())
        .collect())
}

/// The folders of `/etc/ld.so.conf` and its drop-ins.
fn configured_folders(extension: &Extension<'_>) -> Result<Vec<Vec<u8>>, FilesError> {
    let merged = extension.merged();
    let drop_ins = known("etc/ld.so.conf.d");
    let mut files = vec![known("etc/ld.so.conf")];
    for name in merged
        .names(&drop_ins)?
        .iter()
        .take(MAX_CONFIGURATION_FILES)
    {
        files.push(drop_ins.join(name)?);
    }
    let mut folders = Vec::new();
    for path in files {
        let Found::Entry(Entry {
            kind: EntryKind::File { .. },
            path,
            ..
        }) = extension.resolve(path.as_bytes())?
        else {
            continue;
        };
        let text = match read_start(&merged, &path, MAX_CONFIGURATION_BYTES) {
            Ok(text) => text,
            Err(error) if error.is_out_of_reach() => continue,
            Err(error) => return Err(error),
        };
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        folders.extend(
            lines
                .filter(|line| line.starts_with(b"/"))
                .map(<[u8]>::to_vec),
        );
    }
    Ok(folders)
}
