//! Versions of symbols that are needed and defined.

use std::collections::BTreeSet;

use object::Endianness;
use object::elf::{VER_FLG_WEAK, Verdaux, Verdef, Vernaux, Verneed};

use super::pages::Pages;
use super::{ElfError, Name};

/// Structures of one list that are read; glibc defines some fifty versions.
const MAX_VERSIONS: usize = 8192;

/// The name of a library, and that of a version that it must have.
pub(super) type Required = (Name, Name);

/// A list of structures that name their successors.
#[derive(Clone, Copy)]
pub(super) struct List {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many there are.
    pub count: u64,
    /// Where the names lie in the file.
    pub strings: u64,
}

/// The versions that libraries must have (`DT_VERNEED`), but for those that may be missing.
pub(super) fn read_needed(
    pages: &mut Pages<'_>,
    endian: Endianness,
    list: List,
) -> Result<Vec<Required>, ElfError> {
    let mut needed = Vec::new();
    let mut left = MAX_VERSIONS;
    let mut offset = list.offset;
    for _ in 0..list.count {
        let library: Verneed<Endianness> = pages.read_record(offset)?;
        let file = name(pages, list, library.vn_file.get(endian))?;
        let mut at = step(offset, library.vn_aux.get(endian))?;
        for _ in 0..library.vn_cnt.get(endian) {
            left = left.checked_sub(1).ok_or(TOO_MANY)?;
            let version: Vernaux<Endianness> = pages.read_record(at)?;
            if !version.vna_flags.get(endian).contains(VER_FLG_WEAK) {
                let version = name(pages, list, version.vna_name.get(endian))?;
                needed.push((file.clone(), version));
            }
            match version.vna_next.get(endian) {
                0 => break,
                next => at = step(at, next)?,
            }
        }
        match library.vn_next.get(endian) {
            0 => break,
            next => offset = step(offset, next)?,
        }
        left = left.checked_sub(1).ok_or(TOO_MANY)?;
    }
    Ok(needed)
}

/// The versions that there are (`DT_VERDEF`).
pub(super) fn read_defined(
    pages: &mut Pages<'_>,
    endian: Endianness,
    list: List,
) -> Result<BTreeSet<Name>, ElfError> {
    let mut defined = BTreeSet::new();
    let mut left = MAX_VERSIONS;
    let mut offset = list.offset;
    for _ in 0..list.count {
        left = left.checked_sub(1).ok_or(TOO_MANY)?;
        let version: Verdef<Endianness> = pages.read_record(offset)?;
        // The first name is its own, others are those of its predecessors.
        let at = step(offset, version.vd_aux.get(endian))?;
        let first: Verdaux<Endianness> = pages.read_record(at)?;
        defined.insert(name(pages, list, first.vda_name.get(endian))?);
        match version.vd_next.get(endian) {
            0 => break,
            next => offset = step(offset, next)?,
        }
    }
    Ok(defined)
}

fn name(pages: &mut Pages<'_>, list: List, at: u32) -> Result<Name, ElfError> {
    pages.read_name(step(list.strings, at)?)
}

fn step(offset: u64, by: u32) -> Result<u64, ElfError> {
    let next = offset.checked_add(u64::from(by));
    next.ok_or(ElfError::Broken("its versions lie nowhere"))
}

const TOO_MANY: ElfError = ElfError::Broken("it has more than 8192 versions");
