//! Directory blocks: arrays of `struct erofs_dirent` with the names behind them.

use super::BLOCK_SIZE;
use super::format::{FileType, MAX_NAME_BYTES, Nid, field};

/// Bytes of `struct erofs_dirent`.
const DIRENT_SIZE: usize = 12;
/// Where a dirent has the offset of its name; `nameoff`.
const NAME_OFFSET: usize = 8;
/// Where a dirent has the type of its inode; `file_type`.
const FILE_TYPE: usize = 10;

/// What a name in a directory means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dirent<'a> {
    pub name: &'a [u8],
    pub nid: Nid,
    pub file_type: FileType,
}

/// How far a block is filled; the rule by which names are spread over blocks.
#[derive(Debug, Default)]
struct Fill(usize);

impl Fill {
    /// Makes room for a name, in the next block if need be; `true` if so.
    fn add(&mut self, name_length: usize) -> bool {
        let size = DIRENT_SIZE + name_length;
        let next = self.0 + size > BLOCK_SIZE;
        self.0 = if next { size } else { self.0 + size };
        next
    }
}

/// Bytes of the directory that has names of these lengths: all blocks but the last are full.
pub(super) fn size_of(name_lengths: impl Iterator<Item = usize>) -> u64 {
    let mut fill = Fill::default();
    let full = name_lengths.filter(|&length| fill.add(length)).count();
    (full * BLOCK_SIZE + fill.0) as u64
}

/// Encodes a directory block by block. Names must come in byte order.
#[derive(Debug, Default)]
pub(super) struct Encoder<'a> {
    fill: Fill,
    pending: Vec<Dirent<'a>>,
}

impl<'a> Encoder<'a> {
    /// Adds an entry; returns a block, not padded, if that did not have room for it.
    pub fn add(&mut self, dirent: Dirent<'a>) -> Option<Vec<u8>> {
        let block = self.fill.add(dirent.name.len()).then(|| self.take());
        self.pending.push(dirent);
        block
    }

    /// The last block, not padded.
    pub fn finish(mut self) -> Vec<u8> {
        self.take()
    }

    fn take(&mut self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        let mut name_offset = self.pending.len() * DIRENT_SIZE;
        for dirent in &self.pending {
            block.extend(dirent.nid.0.to_le_bytes());
            #[allow(clippy::cast_possible_truncation)] // inside a block
            block.extend((name_offset as u16).to_le_bytes());
            block.extend([dirent.file_type.dirent_code(), 0]);
            name_offset += dirent.name.len();
        }
        for dirent in self.pending.drain(..) {
            block.extend_from_slice(dirent.name);
        }
        block
    }
}

/// How many entries a block has, which its first entry tells.
pub(super) fn count_entries(block: &[u8]) -> Result<usize, &'static str> {
    let first = block
        .get(..DIRENT_SIZE)
        .ok_or("has a block that is too short")?;
    let names = usize::from(u16::from_le_bytes(field(first, NAME_OFFSET)));
    if names == 0 || !names.is_multiple_of(DIRENT_SIZE) || names > block.len() {
        return Err("has a block whose entries overlap its names");
    }
    Ok(names / DIRENT_SIZE)
}

/// Entry `index` out of the `count` of `block`.
pub(super) fn entry(block: &[u8], index: usize, count: usize) -> Result<Dirent<'_>, &'static str> {
    let dirent = |index: usize| block.get(index * DIRENT_SIZE..(index + 1) * DIRENT_SIZE);
    let name_offset = |dirent: &[u8]| usize::from(u16::from_le_bytes(field(dirent, NAME_OFFSET)));
    let this = dirent(index).ok_or("has a block that is too short")?;
    let start = name_offset(this);
    let end = match dirent(index + 1).filter(|_| index + 1 < count) {
        Some(next) => name_offset(next),
        None => block.len(),
    };
    let mut name = block
        .get(start..end)
        .filter(|_| start >= count * DIRENT_SIZE)
        .ok_or("has a name that lies outside its block")?;
    if index + 1 == count {
        // the last name ends where the padding starts
        name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    }
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(&0) || name.contains(&b'/') {
        return Err("has a name that no file can have");
    }
    Ok(Dirent {
        name,
        nid: Nid(u64::from_le_bytes(field(this, 0))),
        file_type: FileType::from_dirent_code(this[FILE_TYPE])
            .ok_or("has an entry of unknown type")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn encode(names: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::default();
        let mut blocks = Vec::new();
        for (number, name) in (0..).zip(names) {
            blocks.extend(encoder.add(Dirent {
                name,
                nid: Nid(number),
                file_type: FileType::Fifo,
            }));
        }
        blocks.push(encoder.finish());
        blocks
    }

    fn decode(block: &[u8]) -> Result<Vec<(Nid, Vec<u8>)>, &'static str> {
        let count = count_entries(block)?;
        (0..count)
            .map(|index| entry(block, index, count))
            .map(|dirent| dirent.map(|dirent| (dirent.nid, dirent.name.to_vec())))
            .collect()
    }

    proptest! {
        #[test]
        fn names_round_trip_and_fill_as_many_bytes_as_foretold(
            names in prop::collection::btree_set(
                prop::collection::vec(prop_oneof![1_u8..b'/', b'0'..=255], 1..=255),
                1..200,
            ),
        ) {
            let mut blocks = encode(&names);
            let last = blocks.len() - 1;
            let size = last * BLOCK_SIZE + blocks[last].len();
            prop_assert_eq!(size_of(names.iter().map(Vec::len)), size as u64);
            for block in &mut blocks[..last] {
                prop_assert!(block.len() <= BLOCK_SIZE);
                block.resize(BLOCK_SIZE, 0);
            }
            let mut read = Vec::new();
            for block in &blocks {
                read.extend(decode(block).unwrap());
            }
            let expected: Vec<_> = (0..).map(Nid).zip(names).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn blocks_of_any_bytes_are_read_or_refused(mut block: Vec<u8>, names in 0_u16..64) {
            let _ = decode(&block);
            if block.len() > DIRENT_SIZE {
                block[NAME_OFFSET..][..2].copy_from_slice(&names.to_le_bytes());
                let _ = decode(&block);
            }
        }
    }

    #[test]
    fn a_block_can_be_filled_to_its_last_byte() {
        let lengths = [255; 15]
            .into_iter()
            .chain([BLOCK_SIZE - 15 * 267 - DIRENT_SIZE]);
        assert_eq!(size_of(lengths.clone()), BLOCK_SIZE as u64);
        assert_eq!(
            size_of(lengths.chain([1])),
            (BLOCK_SIZE + DIRENT_SIZE + 1) as u64
        );
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        for name in [&b""[..], b"a/b", &[b'a'; 256]] {
            let mut encoder = Encoder::default();
            for name in [name, b"z"] {
                encoder.add(Dirent {
                    name,
                    nid: Nid(0),
                    file_type: FileType::File,
                });
            }
            assert!(decode(&encoder.finish()).is_err(), "{name:?}");
        }
    }
}
