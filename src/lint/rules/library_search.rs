//! Where loaders find libraries.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::libraries::Program;
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::elf::{Elf, ElfError, Name, is_elf};
use crate::lint::extension::known;
use crate::lint::files::{Files, Found, read_start};
use crate::lint::{Extension, FilesError};

/// Folders in which every loader looks.
const DEFAULT_FOLDERS: [&str; 4] = ["usr/lib64", "usr/lib", "usr/local/lib", "usr/lib32"];
/// So many search folders are looked at, and so many names of them; more than anybody has.
const MAX_FOLDERS: usize = 256;
const MAX_FOLDER_NAMES: usize = 2048;
/// A larger ld.so.conf is none; and so many of its drop-ins are read.
const MAX_CONFIGURATION_BYTES: usize = 64 * 1024;
const MAX_CONFIGURATION_FILES: usize = 256;
/// A longer path is none (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;
/// Memory for what is known of the libraries of the host.
const MAX_LIBRARIES_BYTES: usize = 64 << 20;

/// Looks for libraries as loaders do (ld.so(8)), and a little more generously: in the search paths of
/// all programs of the extension, for those of a program are good for its libraries too.
pub(super) struct Search<'a> {
    extension: &'a Extension<'a>,
    /// Folders that are not of one program.
    folders: Rc<[EntryPath]>,
    libraries: Vec<Library>,
    /// Numbers of libraries, by where they really lie.
    places: HashMap<EntryPath, usize>,
    /// What the folders have of a name.
    named: HashMap<Name, Rc<Candidates>>,
    bytes: usize,
}

/// What a file is to loaders.
enum Kind {
    Elf(Rc<Elf>),
    /// It must not be read, and is taken for a library that fits.
    Unreadable,
    /// No library.
    Other,
}

struct Library {
    path: EntryPath,
    kind: Kind,
}

/// Files of one name.
#[derive(Default)]
struct Candidates {
    /// Numbers of libraries.
    libraries: Vec<usize>,
    /// Whether there may be more.
    may_be_more: bool,
}

/// What a program gets for the name of a library.
pub(super) enum Lookup<'n> {
    /// This one, which lacks some of the versions that it needs.
    Found {
        path: EntryPath,
        lacking: Vec<&'n Name>,
    },
    Missing,
    /// It may lie where nobody may look.
    Unknown,
}

impl<'a> Search<'a> {
    pub fn new(
        extension: &'a Extension<'a>,
        programs: &[&Program],
    ) -> Result<Search<'a>, FilesError> {
        let mut search = Search {
            extension,
            folders: search_folders(extension, programs)?,
            libraries: Vec::new(),
            places: HashMap::new(),
            named: HashMap::new(),
            bytes: 0,
        };
        for program in programs {
            search.insert(program.path.clone(), Kind::Elf(Rc::clone(&program.elf)));
        }
        Ok(search)
    }

    pub fn has_base(&self) -> bool {
        self.extension.subject.base.is_some()
    }

    fn insert(&mut self, path: EntryPath, kind: Kind) -> usize {
        self.places.insert(path.clone(), self.libraries.len());
        self.libraries.push(Library { path, kind });
        self.libraries.len() - 1
    }

    /// A library for the same kind of CPU as the program, best one with all `versions`.
    pub fn find<'n>(
        &mut self,
        program: &Program,
        name: &Name,
        versions: &[&'n Name],
    ) -> Result<Lookup<'n>, FilesError> {
        let mut own = Candidates::default();
        let mut shared = Rc::default();
        if name.contains(&b'/') {
            if let Some(path) = expand(name, &program.path) {
                self.follow(&path, &mut own)?;
            }
        } else {
            // Beside each other lie libraries that one program loads.
            if let (Some((folder, _)), None) = (program.path.split_last(), &program.elf.interpreter)
            {
                self.look_into(&folder, name, &mut own)?;
            }
            shared = self.named(name)?;
        }
        let mut best: Option<(usize, &Library)> = None;
        for &number in own.libraries.iter().chain(&shared.libraries) {
            self.extension.reach.spend(1 + versions.len())?;
            let Some(library) = self.libraries.get(number) else {
                continue;
            };
            let lacking = match &library.kind {
                Kind::Elf(elf) if elf.target == program.elf.target => {
                    lacking(elf, versions).count()
                }
                Kind::Unreadable => versions.len(),
                Kind::Elf(_) | Kind::Other => continue,
            };
            if best.is_none_or(|(least, _)| lacking < least) {
                best = Some((lacking, library));
            }
        }
        Ok(match best {
            Some((_, library)) => Lookup::Found {
                path: library.path.clone(),
                lacking: match &library.kind {
                    // A library without versions is taken for any.
                    Kind::Elf(elf) if !elf.provided.is_empty() => lacking(elf, versions).collect(),
                    _ => Vec::new(),
                },
            },
            None if own.may_be_more || shared.may_be_more => Lookup::Unknown,
            None => Lookup::Missing,
        })
    }

    /// What the folders have of a name; each is looked at once.
    fn named(&mut self, name: &Name) -> Result<Rc<Candidates>, FilesError> {
        if let Some(known) = self.named.get(name) {
            return Ok(Rc::clone(known));
        }
        let mut candidates = Candidates::default();
        for folder in Rc::clone(&self.folders).iter() {
            self.look_into(folder, name, &mut candidates)?;
        }
        let candidates = Rc::new(candidates);
        self.named.insert(Name::clone(name), Rc::clone(&candidates));
        Ok(candidates)
    }

    fn look_into(
        &mut self,
        folder: &EntryPath,
        name: &[u8],
        candidates: &mut Candidates,
    ) -> Result<(), FilesError> {
        let Ok(path) = folder.join(name) else {
            return Ok(());
        };
        match self.extension.merged().entry(&path) {
            Ok(Some(entry)) if matches!(entry.kind, EntryKind::Symlink { .. }) => {
                self.follow(path.as_bytes(), candidates)
            }
            Ok(Some(entry)) => self.add(entry, candidates),
            Ok(None) => Ok(()),
            Err(error) if error.is_out_of_reach() => {
                candidates.may_be_more = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn follow(&mut self, path: &[u8], candidates: &mut Candidates) -> Result<(), FilesError> {
        match self.extension.resolve(path)? {
            Found::Entry(entry) => self.add(entry, candidates)?,
            Found::Unknown => candidates.may_be_more = true,
            Found::Missing(_) | Found::Endless => {}
        }
        Ok(())
    }

    fn add(&mut self, found: Entry, candidates: &mut Candidates) -> Result<(), FilesError> {
        if !matches!(found.kind, EntryKind::File { .. }) {
            return Ok(());
        }
        let number = match self.places.get(&found.path) {
            Some(&number) => number,
            None => {
                let kind = self.read(&found.path)?;
                self.insert(found.path, kind)
            }
        };
        candidates.libraries.push(number);
        Ok(())
    }

    fn read(&mut self, path: &EntryPath) -> Result<Kind, FilesError> {
        let kind = read_library(self.extension, path)?;
        if let Kind::Elf(elf) = &kind {
            self.bytes += elf.bytes;
            if self.bytes > MAX_LIBRARIES_BYTES {
                self.extension.reach.cut_short();
                return Ok(Kind::Unreadable);
            }
        }
        Ok(kind)
    }
}

fn lacking<'v, 'n>(elf: &'v Elf, versions: &'v [&'n Name]) -> impl Iterator<Item = &'n Name> + 'v {
    let versions = versions.iter().copied();
    versions.filter(|version| !elf.provided.contains(*version))
}

fn read_library(extension: &Extension<'_>, path: &EntryPath) -> Result<Kind, FilesError> {
    let files = extension.merged();
    let read = read_start(&files, path, 4).and_then(|start| match is_elf(&start) {
        true => files.open(path).map(Some),
        false => Ok(None),
    });
    let error = match read {
        Ok(None) => return Ok(Kind::Other),
        Ok(Some(content)) => match Elf::read(content, &extension.reach) {
            Ok(elf) => return Ok(Kind::Elf(Rc::new(elf))),
            Err(ElfError::Broken(_)) => return Ok(Kind::Other),
            Err(ElfError::Files(error)) => error,
        },
        Err(error) => error,
    };
    match error.is_out_of_reach() {
        true => Ok(Kind::Unreadable),
        false => Err(error),
    }
}

/// The folders that are looked at for every program, those that every loader knows first.
fn search_folders(
    extension: &Extension<'_>,
    programs: &[&Program],
) -> Result<Rc<[EntryPath]>, FilesError> {
    let mut folders = Folders::default();
    for folder in DEFAULT_FOLDERS {
        folders.add(extension, folder.as_bytes())?;
    }
    for folder in multiarch_folders(extension)? {
        folders.add(extension, &folder)?;
    }
    add_configured(extension, &mut folders)?;
    for program in programs {
        for folder in &program.elf.search {
            if folders.are_enough() || extension.reach.spend(1).is_err() {
                extension.reach.cut_short();
                break;
            }
            if let Some(folder) = expand(folder, &program.path) {
                folders.add(extension, &folder)?;
            }
        }
    }
    Ok(folders.resolved.into())
}

#[derive(Default)]
struct Folders {
    names: BTreeSet<Vec<u8>>,
    resolved: Vec<EntryPath>,
}

impl Folders {
    fn are_enough(&self) -> bool {
        self.names.len() >= MAX_FOLDER_NAMES || self.resolved.len() >= MAX_FOLDERS
    }

    fn add(&mut self, extension: &Extension<'_>, folder: &[u8]) -> Result<(), FilesError> {
        if self.are_enough() || folder.len() > MAX_PATH_BYTES || self.names.contains(folder) {
            return Ok(());
        }
        self.names.insert(folder.to_vec());
        if let Found::Entry(entry) = extension.resolve(folder)?
            && entry.kind == EntryKind::Directory
            && !self.resolved.contains(&entry.path)
        {
            self.resolved.push(entry.path);
        }
        Ok(())
    }
}

/// A folder of a search path, with what stands for the program's own folder put in, if that makes a
/// path.
fn expand(folder: &[u8], program: &EntryPath) -> Option<Vec<u8>> {
    let origin = program
        .split_last()
        .map_or_else(EntryPath::root, |(parent, _)| parent);
    if !folder.contains(&b'$') {
        return Some(folder.to_vec());
    }
    let text = String::from_utf8_lossy(folder);
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let uses = text.matches("ORIGIN").count();
    let expanded = || {
        text.replace("$ORIGIN", &origin)
            .replace("${ORIGIN}", &origin)
    };
    (uses * origin.len() <= MAX_PATH_BYTES).then(|| expanded().into_bytes())
}

/// The folders of Debian's kind, `usr/lib/x86_64-linux-gnu`: only hosts that have them look in them.
fn multiarch_folders(extension: &Extension<'_>) -> Result<Vec<Vec<u8>>, FilesError> {
    let lib = known("usr/lib");
    let names = match extension.subject.base {
        Some(_) => extension.names_in_base(&lib)?,
        None if extension.entries.contains_key(&lib) => extension.subject.files.names(&lib)?,
        None => Vec::new(),
    };
    let is_triplet = |name: &Vec<u8>| name.windows(7).any(|part| part == b"-linux-");
    let triplets = names.iter().filter(|name| is_triplet(name));
    Ok(triplets
        .map(|name| [b"usr/lib/", name.as_slice()].concat())
        .collect())
}

/// Adds the folders of `/etc/ld.so.conf` and its drop-ins.
fn add_configured(extension: &Extension<'_>, folders: &mut Folders) -> Result<(), FilesError> {
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
        for folder in lines.filter(|line| line.starts_with(b"/")) {
            folders.add(extension, folder)?;
        }
    }
    Ok(())
}
