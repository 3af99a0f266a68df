//! Reading a partition table as systemd and libblkid would, or not at all.
//!
//! Whoever judges an image by another table than systemd mounts it by can be deceived. So where
//! libblkid would pass over something odd (fall back to the other copy, leave out an entry, try
//! another sector size), the image is refused here: only plain damage, which a checksum shows, lets
//! the second copy speak.

use std::io;

use uuid::Uuid;

use super::{ENTRY_BYTES, Entry, HEADER_BYTES, REVISION, SIGNATURE, Table};
use crate::image::layout::Extent;
use crate::read_at::ReadAt;

/// The sizes that systemd tries (`probe_sector_size()` in `src/shared/dissect-image.c`).
const SECTOR_SIZES: [u64; 4] = [512, 1024, 2048, 4096];
/// Eight times as many entries as anybody writes.
const MAX_ENTRIES: u64 = 1024;

/// Which copies of the table an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Both, and they agree.
    Both,
    /// Only the one at the start, or the other one differs.
    PrimaryOnly,
    /// Only the one at the end.
    BackupOnly,
}

/// A table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The table.
    pub table: Table,
    /// Which copies of it are intact.
    pub copies: Copies,
    /// Bytes of a sector.
    pub sector_size: u64,
}

/// Why an image has no usable partition table.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// Neither copy is intact.
    #[error("there is no intact GUID partition table: {0}")]
    NoTable(&'static str),
    /// The end is missing.
    #[error(
        "the image is cut short: it has {found} bytes, and its partition table is for {expected}"
    )]
    CutShort {
        /// Bytes that there are.
        found: u64,
        /// Bytes that the table speaks of.
        expected: u64,
    },
    /// systemd might read another table than this program.
    #[error("the partition table is not to be trusted: {0}")]
    Ambiguous(&'static str),
    /// The image could not be read.
    #[error("cannot read the partition table")]
    Read(#[from] io::Error),
}

/// Reads the table of an image.
///
/// # Errors
/// [`GptError`] where there is none, or one that programs could understand in different ways.
pub fn read(image: &dyn ReadAt) -> Result<Found, GptError> {
    let sector_size = sector_size(image)?;
    let sectors = image.size() / sector_size;
    if sectors < 3 {
        return Err(GptError::NoTable("the file is too short"));
    }
    if !has_protective_mbr(image)? {
        return Err(GptError::NoTable(
            "the protective MBR is missing, without which systemd sees no table",
        ));
    }
    let disk = Disk {
        image,
        sector_size,
        sectors,
    };
    let backup = disk.read_copy(sectors - 1);
    let (table, copies) = match (disk.read_copy(1)?, backup) {
        (Ok(primary), Ok(Ok(backup))) if primary == backup => (primary, Copies::Both),
        (Ok(primary), _) => (primary, Copies::PrimaryOnly),
        (Err(damage), backup) => {
            let backup = backup?.map_err(|_| GptError::NoTable(damage.0))?;
            (backup, Copies::BackupOnly)
        }
    };
    Ok(Found {
        table,
        copies,
        sector_size,
    })
}

fn sector_size(image: &dyn ReadAt) -> Result<u64, GptError> {
    let mut found = None;
    for size in SECTOR_SIZES {
        let mut signature = [0; SIGNATURE.len()];
        if image.size() < size + SIGNATURE.len() as u64 {
            break;
        }
        image.read_exact_at(&mut signature, size)?;
        if signature == *SIGNATURE && found.replace(size).is_some() {
            return Err(GptError::Ambiguous("there is one for two sector sizes"));
        }
    }
    Ok(found.unwrap_or(SECTOR_SIZES[0]))
}

fn has_protective_mbr(image: &dyn ReadAt) -> Result<bool, GptError> {
    let mut mbr = [0; 512];
    image.read_exact_at(&mut mbr, 0)?;
    let protective = |entry: &[u8]| entry[4] == 0xee && number(entry, 8, 4) == 1;
    Ok(mbr[510..] == [0x55, 0xaa] && mbr[446..510].chunks_exact(16).any(protective))
}

/// What accident does to a copy of a table, and a checksum shows.
struct Damage(&'static str);

struct Disk<'a> {
    image: &'a dyn ReadAt,
    sector_size: u64,
    sectors: u64,
}

impl Disk<'_> {
    /// The copy whose header is in the sector `lba`.
    fn read_copy(&self, lba: u64) -> Result<Result<Table, Damage>, GptError> {
        // One of SECTOR_SIZES; a header may cover all of its sector.
        let mut header = vec![0; usize::try_from(self.sector_size).unwrap_or(512)];
        self.image
            .read_exact_at(&mut header, lba * self.sector_size)?;
        if header[..8] != *SIGNATURE {
            return Ok(Err(Damage("the signature is missing")));
        }
        let (checksum, length) = (number(&header, 16, 4), number(&header, 12, 4));
        header[16..20].fill(0);
        let covered = usize::try_from(length)
            .ok()
            .filter(|&length| length >= HEADER_BYTES)
            .and_then(|length| header.get(..length));
        if covered.is_none_or(|bytes| u64::from(crc32fast::hash(bytes)) != checksum) {
            return Ok(Err(Damage("the header's checksum is wrong")));
        }
        self.check_header(&header, lba)?;

        let count = number(&header, 80, 4);
        // At most MAX_ENTRIES of them.
        let length = usize::try_from(count).unwrap_or(0) * ENTRY_BYTES;
        let mut entries = vec![0; length];
        let offset = number(&header, 72, 8) * self.sector_size;
        self.image.read_exact_at(&mut entries, offset)?;
        if u64::from(crc32fast::hash(&entries)) != number(&header, 88, 4) {
            return Ok(Err(Damage("the checksum of its entries is wrong")));
        }
        let usable = number(&header, 40, 8)..=number(&header, 48, 8);
        let entries = entries
            .chunks_exact(ENTRY_BYTES)
            .filter(|bytes| bytes[..16] != [0; 16])
            .map(|bytes| self.decode_entry(bytes, &usable))
            .collect::<Result<Vec<_>, _>>()?;
        refuse_overlaps(&entries)?;
        Ok(Ok(Table {
            disk_guid: guid(&header, 56),
            entries,
        }))
    }

    /// Everything that a header with a right checksum must say.
    fn check_header(&self, header: &[u8], lba: u64) -> Result<(), GptError> {
        let (own, table) = (number(header, 24, 8), number(header, 72, 8));
        let (first_usable, last_usable) = (number(header, 40, 8), number(header, 48, 8));
        let count = number(header, 80, 4);
        let table_sectors = (count * ENTRY_BYTES as u64).div_ceil(self.sector_size);
        // The first copy says where the second one is: in the last sector.
        let last = number(header, 32, 8);
        if lba == 1 && last >= self.sectors && last < u64::MAX / self.sector_size {
            return Err(GptError::CutShort {
                found: self.image.size(),
                expected: (last + 1) * self.sector_size,
            });
        }
        let fault = if number(header, 8, 4) != u64::from(REVISION) {
            "its revision is not 1.0"
        } else if own != lba {
            "its header lies elsewhere than it says"
        } else if number(header, 84, 4) != ENTRY_BYTES as u64 {
            "its entries are not of 128 bytes"
        } else if count == 0 || count > MAX_ENTRIES {
            "it has an impossible number of entries"
        } else if first_usable > last_usable || last_usable >= self.sectors {
            "its usable sectors lie outside of the image"
        } else if table < 2
            || table
                .checked_add(table_sectors)
                .is_none_or(|end| end > self.sectors)
        {
            "its entries lie outside of the image"
        } else {
            return Ok(());
        };
        Err(GptError::Ambiguous(fault))
    }

    fn decode_entry(
        &self,
        bytes: &[u8],
        usable: &std::ops::RangeInclusive<u64>,
    ) -> Result<Entry, GptError> {
        let (first, last) = (number(bytes, 32, 8), number(bytes, 40, 8));
        if last < first || !usable.contains(&first) || !usable.contains(&last) {
            return Err(GptError::Ambiguous(
                "a partition lies outside of the usable sectors",
            ));
        }
        let units: Vec<u16> = bytes[56..ENTRY_BYTES]
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|&unit| unit != 0)
            .collect();
        Ok(Entry {
            type_uuid: guid(bytes, 0),
            uuid: guid(bytes, 16),
            extent: Extent {
                offset: first * self.sector_size,
                size: (last - first + 1) * self.sector_size,
            },
            attributes: number(bytes, 48, 8),
            label: String::from_utf16_lossy(&units),
        })
    }
}

fn refuse_overlaps(entries: &[Entry]) -> Result<(), GptError> {
    let mut extents: Vec<Extent> = entries.iter().map(|entry| entry.extent).collect();
    extents.sort_by_key(|extent| extent.offset);
    let overlap = |pair: &[Extent]| pair[0].end() > pair[1].offset;
    if extents.windows(2).any(overlap) {
        return Err(GptError::Ambiguous("two partitions overlap"));
    }
    Ok(())
}

fn number(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let little_endian = &bytes[offset..offset + length];
    little_endian
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn guid(bytes: &[u8], offset: usize) -> Uuid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[offset..offset + 16]);
    Uuid::from_bytes_le(guid)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::super::READ_ONLY;
    use super::*;
    use crate::image::layout::DATA_OFFSET;

    const SIZE: usize = 2 << 20;

    fn example() -> Table {
        let entry = |number: u64, label: &str| Entry {
            type_uuid: Uuid::from_u128(7 + u128::from(number)),
            uuid: Uuid::from_u128(1 << 100 | u128::from(number)),
            extent: Extent {
                offset: DATA_OFFSET + number * 8192,
                size: 8192,
            },
            attributes: READ_ONLY,
            label: label.to_owned(),
        };
        Table {
            disk_guid: Uuid::from_u128(99),
            entries: vec![entry(0, "root-x86-64"), entry(1, &"ä".repeat(36))],
        }
    }

    fn image() -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        example().write(&file, SIZE as u64).unwrap();
        let mut bytes = vec![0; SIZE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Makes the checksums of the first copy right again.
    fn mend(image: &mut [u8]) {
        let checksum = crc32fast::hash(&image[1024..1024 + 128 * 128]);
        image[512 + 88..512 + 92].copy_from_slice(&checksum.to_le_bytes());
        image[512 + 16..512 + 20].fill(0);
        let checksum = crc32fast::hash(&image[512..512 + 92]);
        image[512 + 16..512 + 20].copy_from_slice(&checksum.to_le_bytes());
    }

    fn refusal(image: &[u8]) -> &'static str {
        match read(&image).unwrap_err() {
            GptError::Ambiguous(why) | GptError::NoTable(why) => why,
            error => panic!("{error}"),
        }
    }

    #[test]
    fn a_table_reads_back_what_it_wrote_from_either_copy() {
        let image = image();
        let found = read(&image.as_slice()).unwrap();
        assert_eq!((&found.table, found.copies), (&example(), Copies::Both));
        assert_eq!(found.sector_size, 512);
        for (damage, expected) in [
            (512, Copies::BackupOnly),
            (600, Copies::BackupOnly),
            (1100, Copies::BackupOnly),
            (SIZE - 500, Copies::PrimaryOnly),
            (SIZE - 33 * 512, Copies::PrimaryOnly),
        ] {
            let mut image = image.clone();
            image[damage] ^= 1;
            let found = read(&image.as_slice()).unwrap();
            assert_eq!(
                (found.table, found.copies),
                (example(), expected),
                "byte {damage}"
            );
            if damage == 600 {
                image[SIZE - 500] ^= 1;
                assert_eq!(refusal(&image), "the header's checksum is wrong");
            }
        }
    }

    /// libblkid would fall back to the other copy in some of these cases, and not in others.
    #[test]
    fn a_first_copy_that_is_intact_but_impossible_never_lets_the_second_one_speak() {
        let last = (SIZE / 512 - 34) as u64;
        let cases: [(usize, &[u8], &str); 14] = [
            (520, &[1], "its revision is not 1.0"),
            (536, &[2], "its header lies elsewhere than it says"),
            (596, &[0, 1], "its entries are not of 128 bytes"),
            (592, &[0], "it has an impossible number of entries"),
            (592, &[1, 4], "it has an impossible number of entries"),
            (
                552,
                &[0, 255],
                "its usable sectors lie outside of the image",
            ),
            (
                560,
                &[255; 8],
                "its usable sectors lie outside of the image",
            ),
            (584, &[1], "its entries lie outside of the image"),
            (584, &[255; 8], "its entries lie outside of the image"),
            (
                1056,
                &[255, 7],
                "a partition lies outside of the usable sectors",
            ),
            (
                1064,
                &[255, 7],
                "a partition lies outside of the usable sectors",
            ),
            (
                1064,
                &(last + 1).to_le_bytes(),
                "a partition lies outside of the usable sectors",
            ),
            (
                1056,
                &[255; 16],
                "a partition lies outside of the usable sectors",
            ),
            (1064, &[16, 8], "two partitions overlap"),
        ];
        for (offset, bytes, why) in cases {
            let mut image = image();
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
            let entries_checksum: [u8; 4] = image[600..604].try_into().unwrap();
            mend(&mut image);
            if offset < 1024 {
                assert_eq!(image[600..604], entries_checksum);
            }
            assert_eq!(refusal(&image), why, "{bytes:?} at {offset}");
        }
    }

    #[test]
    fn an_image_that_was_cut_off_says_how_much_is_missing() {
        let image = image();
        for length in [SIZE - 1, SIZE - 512, SIZE / 2, 20_000] {
            let error = read(&&image[..length]).unwrap_err();
            let GptError::CutShort { found, expected } = error else {
                panic!("{error}");
            };
            assert_eq!((found, expected), (length as u64, SIZE as u64));
        }
    }

    #[test]
    fn a_table_for_a_second_sector_size_is_refused() {
        let mut image = image();
        image[4096..4104].copy_from_slice(SIGNATURE);
        mend(&mut image);
        assert_eq!(refusal(&image), "there is one for two sector sizes");
    }

    #[test]
    fn without_a_protective_mbr_there_is_no_table() {
        for offset in [450, 454, 510] {
            let mut image = image();
            image[offset] ^= 1;
            assert!(
                refusal(&image).starts_with("the protective MBR"),
                "{offset}"
            );
        }
        for length in [0, 511, 1024, 1500] {
            assert_eq!(refusal(&image()[..length]), "the file is too short");
        }
    }

    #[test]
    fn a_table_of_4096_byte_sectors_is_read() {
        let mut image = vec![0; SIZE];
        image[..512].copy_from_slice(&super::super::protective_mbr((SIZE / 4096) as u64));
        let mut table = example();
        for (number, entry) in table.entries.iter_mut().enumerate() {
            // The same sectors are eight times as many bytes.
            entry.extent.offset = (6 + number as u64) * 512;
            entry.extent.size = 512;
        }
        let entries = table.encode_entries();
        let sectors = (SIZE / 4096) as u64;
        let mut header = table.encode_header(&entries, sectors, 1, sectors - 1, 2);
        header[40..48].copy_from_slice(&6_u64.to_le_bytes());
        header[48..56].copy_from_slice(&(sectors - 6).to_le_bytes());
        image[4096..4608].copy_from_slice(&header);
        image[8192..8192 + entries.len()].copy_from_slice(&entries);
        image[4096 + 16..4096 + 20].fill(0);
        let checksum = crc32fast::hash(&image[4096..4096 + 92]);
        image[4096 + 16..4096 + 20].copy_from_slice(&checksum.to_le_bytes());
        let found = read(&image.as_slice()).unwrap();
        assert_eq!(
            (found.copies, found.sector_size),
            (Copies::PrimaryOnly, 4096)
        );
        let extent = Extent {
            offset: 7 * 4096,
            size: 4096,
        };
        assert_eq!(found.table.entries[1].extent, extent);
    }

    proptest! {
        #[test]
        fn damaged_tables_are_read_without_panic(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            mended in any::<bool>(),
        ) {
            let mut image = image();
            for (index, value) in damage {
                // Where the first copy lies.
                image[512 + index.index(1024)] = value;
            }
            if mended {
                mend(&mut image);
            }
            let _ = read(&image.as_slice());
        }

        #[test]
        fn random_files_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _ = read(&bytes.as_slice());
        }
    }
}
