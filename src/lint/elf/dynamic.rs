//! The dynamic section, and the loader.

use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

use super::pages::Pages;
use super::{Elf, ElfError, offset_of, versions};

/// Entries that are read; libraries with the most dependencies have some hundred.
const MAX_ENTRIES: usize = 4096;
/// A longer path is none (`PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;
/// Search paths may hold several.
const MAX_SEARCH_BYTES: usize = 16 * 1024;

/// The values of the dynamic section that are of use.
#[derive(Default)]
struct Section {
    needed: Vec<u64>,
    strings: Option<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
    versions_needed: (Option<u64>, u64),
    versions_defined: (Option<u64>, u64),
}

/// Fills in what the loader would read.
pub(super) fn read<P: ProgramHeader<Endian = Endianness>>(
    pages: &mut Pages<'_>,
    endian: Endianness,
    segments: &[P],
    found: &mut Elf,
) -> Result<(), ElfError> {
    let of_type = |wanted| {
        segments
            .iter()
            .find(|segment| segment.p_type(endian) == wanted)
    };
    if let Some(segment) = of_type(elf::PT_INTERP) {
        let text = pages.read_text(segment.p_offset(endian).into(), MAX_PATH_BYTES)?;
        pages.keep(&text)?;
        found.interpreter = Some(text);
    }
    let Some(segment) = of_type(elf::PT_DYNAMIC) else {
        return Ok(());
    };
    let section = read_section(pages, endian, segment)?;
    let place = |address: Option<u64>| match address {
        Some(address) => offset_of(segments, endian, address)
            .map(Some)
            .ok_or(ElfError::Broken("its dynamic section points to nothing")),
        None => Ok(None),
    };
    let Some(strings) = place(section.strings)? else {
        return Ok(());
    };
    let place_of = |offset: u64| {
        let start = strings.checked_add(offset);
        start.ok_or(ElfError::Broken("a name in it lies nowhere"))
    };
    for &name in &section.needed {
        found.needed.push(pages.read_name(place_of(name)?)?);
    }
    if let Some(path) = section.runpath.or(section.rpath) {
        let path = pages.read_text(place_of(path)?, MAX_SEARCH_BYTES)?;
        let folders = path
            .split(|&byte| byte == b':')
            .filter(|folder| (1..=MAX_PATH_BYTES).contains(&folder.len()));
        for folder in folders {
            found.search.push(pages.keep(folder)?);
        }
    }
    let (address, count) = section.versions_needed;
    if let Some(offset) = place(address)? {
        let list = versions::List {
            offset,
            count,
            strings,
        };
        found.required = versions::read_needed(pages, endian, list)?;
    }
    let (address, count) = section.versions_defined;
    if let Some(offset) = place(address)? {
        let list = versions::List {
            offset,
            count,
            strings,
        };
        found.provided = versions::read_defined(pages, endian, list)?;
    }
    Ok(())
}

fn read_section<P: ProgramHeader<Endian = Endianness>>(
    pages: &mut Pages<'_>,
    endian: Endianness,
    segment: &P,
) -> Result<Section, ElfError> {
    type Entry<P> = <<P as ProgramHeader>::Elf as FileHeader>::Dyn;
    let size = size_of::<Entry<P>>();
    let (start, length) = segment.file_range(endian);
    let count = usize::try_from(length).unwrap_or(usize::MAX) / size;
    let mut section = Section::default();
    for index in 0..count {
        if index == MAX_ENTRIES {
            return Err(ElfError::Broken(
                "its dynamic section has more than 4096 entries",
            ));
        }
        let offset = start.checked_add((index * size) as u64);
        let offset = offset.ok_or(ElfError::Broken("its dynamic section lies nowhere"))?;
        let entry: Entry<P> = pages.read_record(offset)?;
        let value = entry.val(endian);
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => section.needed.push(value),
            elf::DT_STRTAB => section.strings = Some(value),
            elf::DT_RPATH => section.rpath = Some(value),
            elf::DT_RUNPATH => section.runpath = Some(value),
            elf::DT_VERNEED => section.versions_needed.0 = Some(value),
            elf::DT_VERNEEDNUM => section.versions_needed.1 = value,
            elf::DT_VERDEF => section.versions_defined.0 = Some(value),
            elf::DT_VERDEFNUM => section.versions_defined.1 = value,
            _ => {}
        }
    }
    Ok(section)
}
