//! Programs and libraries: what they need and what they offer.
//!
//! Only headers, the dynamic section and single strings are read, and only so many of each; files may
//! be hostile. What is no sound ELF file is told from what cannot be read.
//!
//! Sources of the format: the System V gABI, chapters 4 and 5; symbol versions: "ELF Symbol
//! Versioning" by Ulrich Drepper, and the Linux Standard Base 5.0, chapter 10.7.

mod dynamic;
mod machine;
mod pages;
mod versions;

use std::collections::BTreeSet;
use std::rc::Rc;

use object::Endianness;
use object::elf::{ELFCLASS64, ELFMAG, FileHeader32, FileHeader64, Machine};
use object::pod::{Pod, from_bytes};
use object::read::elf::{FileHeader, ProgramHeader};

use super::files::{Content, FilesError};
use super::reach::Reach;
use pages::Pages;

pub(super) use machine::{machine_name, runs_on};

/// What is known of a program, library or kernel module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elf {
    /// For which CPU.
    pub target: Target,
    /// The loader that the kernel is to start (`PT_INTERP`).
    pub interpreter: Option<Vec<u8>>,
    /// Names of libraries (`DT_NEEDED`).
    pub needed: Vec<Name>,
    /// Folders in which they are looked for (`DT_RUNPATH`, else `DT_RPATH`), as they are written.
    pub search: Vec<Name>,
    /// Versions of symbols that libraries must have.
    pub required: Vec<versions::Required>,
    /// Versions of symbols that there are here.
    pub provided: BTreeSet<Name>,
    /// Memory that all of this takes.
    pub bytes: usize,
}

/// The name of a library, a version or a folder; several may share it.
pub(super) type Name = Rc<[u8]>;

/// A kind of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// `e_machine`.
    pub machine: u16,
    /// Whether addresses have 64 bits.
    pub is_64_bit: bool,
    /// Whether the lowest byte comes first.
    pub is_little_endian: bool,
}

/// Why a file is not read as ELF.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    /// It cannot be read at all.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It says what cannot be.
    #[error("it is a damaged ELF file: {0}")]
    Broken(&'static str),
}

/// Program headers that are read; more than any linker writes.
const MAX_PROGRAM_HEADERS: usize = 1024;

/// Whether a file that starts so is to be ELF.
pub(super) fn is_elf(start: &[u8]) -> bool {
    start.starts_with(&ELFMAG)
}

impl Elf {
    /// Reads a file that [`is_elf`].
    pub fn read(content: Box<dyn Content + '_>, reach: &Reach) -> Result<Elf, ElfError> {
        let mut pages = Pages::new(content, reach);
        let mut ident = [0; 5];
        pages.read(&mut ident, 0)?;
        match ident[4] == ELFCLASS64.0 {
            true => read_as::<FileHeader64<Endianness>>(&mut pages),
            false => read_as::<FileHeader32<Endianness>>(&mut pages),
        }
    }
}

fn read_as<H: FileHeader<Endian = Endianness>>(pages: &mut Pages<'_>) -> Result<Elf, ElfError> {
    let header: H = pages.read_record(0)?;
    let broken = |_| ElfError::Broken("its header is of an unknown kind");
    if !header.is_supported() {
        return Err(ElfError::Broken("its header is of an unknown kind"));
    }
    let endian = header.endian().map_err(broken)?;
    let Machine(machine) = header.e_machine(endian);
    let segments = read_segments(pages, &header, endian)?;
    let mut elf = Elf {
        target: Target {
            machine,
            is_64_bit: header.is_type_64(),
            is_little_endian: header.is_little_endian(),
        },
        ..Elf::default()
    };
    dynamic::read(pages, endian, &segments, &mut elf)?;
    elf.bytes = size_of::<Elf>() + pages.names_bytes();
    Ok(elf)
}

fn read_segments<H: FileHeader<Endian = Endianness>>(
    pages: &mut Pages<'_>,
    header: &H,
    endian: Endianness,
) -> Result<Vec<H::ProgramHeader>, ElfError> {
    let count = usize::from(header.e_phnum(endian));
    if count > MAX_PROGRAM_HEADERS {
        return Err(ElfError::Broken("it has more than 1024 segments"));
    }
    let size = size_of::<H::ProgramHeader>();
    if count > 0 && usize::from(header.e_phentsize(endian)) != size {
        return Err(ElfError::Broken("its segments are of an unknown size"));
    }
    let start: u64 = header.e_phoff(endian).into();
    let place = |index: usize| start.saturating_add((index * size) as u64);
    (0..count)
        .map(|index| pages.read_record(place(index)))
        .collect()
}

impl Pages<'_> {
    /// The structure at an offset.
    fn read_record<T: Pod>(&mut self, offset: u64) -> Result<T, ElfError> {
        // Alignment is of no concern: `Endianness` makes these structures of bytes.
        let mut bytes = vec![0; size_of::<T>()];
        self.read(&mut bytes, offset)?;
        let (record, _) = from_bytes::<T>(&bytes)
            .map_err(|_| ElfError::Broken("a structure of it lies askew"))?;
        Ok(*record)
    }
}

/// Where in the file an address of the loaded program lies (`PT_LOAD`).
fn offset_of<P: ProgramHeader<Endian = Endianness>>(
    segments: &[P],
    endian: Endianness,
    address: u64,
) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.p_type(endian) == object::elf::PT_LOAD)
        .find_map(|segment| {
            let into = address.checked_sub(segment.p_vaddr(endian).into())?;
            let size: u64 = segment.p_filesz(endian).into();
            let start: u64 = segment.p_offset(endian).into();
            (into < size).then(|| start.checked_add(into))?
        })
}
