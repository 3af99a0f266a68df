//! The GUID partition table (UEFI specification 2.10, section 5.3).
//!
//! Written here rather than by the `gpt` crate, which cannot write the first usable LBA that
//! systemd-repart writes, draws its own partition GUIDs, and has had no commit for long: equality
//! with systemd-repart, byte for byte, is promised and tested.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

use super::layout::{DATA_OFFSET, Extent};
use crate::read_at::ReadAt;

/// Bytes of a sector.
pub const SECTOR_SIZE: u64 = 512;
/// Attribute bit 60: mount read-only (`SD_GPT_FLAG_READ_ONLY` in systemd's `sd-gpt.h`).
pub const READ_ONLY: u64 = 1 << 60;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: usize = 128;
const ENTRY_COUNT: usize = 128;
const TABLE_BYTES: usize = ENTRY_BYTES * ENTRY_COUNT;
const TABLE_SECTORS: u64 = TABLE_BYTES as u64 / SECTOR_SIZE;
const LABEL_UNITS: usize = 36;
/// A table with larger entries or more of them than this is refused, not read.
const MAX_TABLE_BYTES: u64 = 1 << 20;

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its type.
    pub type_uuid: Uuid,
    /// Its identity.
    pub uuid: Uuid,
    /// Where it lies.
    pub extent: Extent,
    /// Attribute bits.
    pub attributes: u64,
    /// Its name, at most 36 UTF-16 units.
    pub label: String,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Identity of the disk.
    pub disk_guid: Uuid,
    /// The partitions, in order.
    pub entries: Vec<Entry>,
}

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

/// Why an image has no usable partition table.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// Neither copy is intact.
    #[error("there is no intact GUID partition table: {0}")]
    NoTable(&'static str),
    /// The image could not be read.
    #[error("cannot read the partition table")]
    Read(#[from] io::Error),
}

impl Table {
    /// Writes protective MBR and both copies into an image of `size` bytes, and gives the file that
    /// size.
    ///
    /// # Errors
    /// What writing gives.
    pub fn write(&self, file: &File, size: u64) -> io::Result<()> {
        let sectors = size / SECTOR_SIZE;
        let entries = self.encode_entries();
        let primary = self.encode_header(&entries, sectors, 1, sectors - 1, 2);
        let backup_entries = sectors - 1 - TABLE_SECTORS;
        let backup = self.encode_header(&entries, sectors, sectors - 1, 1, backup_entries);
        file.set_len(size)?;
        file.write_all_at(&protective_mbr(sectors), 0)?;
        file.write_all_at(&primary, SECTOR_SIZE)?;
        file.write_all_at(&entries, 2 * SECTOR_SIZE)?;
        file.write_all_at(&entries, backup_entries * SECTOR_SIZE)?;
        file.write_all_at(&backup, (sectors - 1) * SECTOR_SIZE)
    }

    fn encode_entries(&self) -> Vec<u8> {
        let mut table = vec![0; TABLE_BYTES];
        for (entry, bytes) in self.entries.iter().zip(table.chunks_exact_mut(ENTRY_BYTES)) {
            bytes[0..16].copy_from_slice(&entry.type_uuid.to_bytes_le());
            bytes[16..32].copy_from_slice(&entry.uuid.to_bytes_le());
            bytes[32..40].copy_from_slice(&entry.extent.first_sector().to_le_bytes());
            bytes[40..48].copy_from_slice(&entry.extent.last_sector().to_le_bytes());
            bytes[48..56].copy_from_slice(&entry.attributes.to_le_bytes());
            let units = entry.label.encode_utf16().take(LABEL_UNITS);
            for (unit, bytes) in units.zip(bytes[56..].chunks_exact_mut(2)) {
                bytes.copy_from_slice(&unit.to_le_bytes());
            }
        }
        table
    }

    fn encode_header(
        &self,
        entries: &[u8],
        sectors: u64,
        own: u64,
        other: u64,
        table: u64,
    ) -> [u8; SECTOR_SIZE as usize] {
        let mut header = [0; SECTOR_SIZE as usize];
        header[0..8].copy_from_slice(SIGNATURE);
        header[8..12].copy_from_slice(&REVISION.to_le_bytes());
        header[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&(DATA_OFFSET / SECTOR_SIZE).to_le_bytes());
        header[48..56].copy_from_slice(&(sectors - 2 - TABLE_SECTORS).to_le_bytes());
        header[56..72].copy_from_slice(&self.disk_guid.to_bytes_le());
        header[72..80].copy_from_slice(&table.to_le_bytes());
        header[80..84].copy_from_slice(&(ENTRY_COUNT as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY_BYTES as u32).to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
        let checksum = crc32fast::hash(&header[..HEADER_BYTES]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Reads the table of an image, from whichever copy is intact.
    ///
    /// # Errors
    /// [`GptError`] where neither copy is, or a partition does not lie within the image.
    pub fn read(image: &dyn ReadAt) -> Result<(Table, Copies), GptError> {
        let sectors = image.size() / SECTOR_SIZE;
        if sectors < 3 {
            return Err(GptError::NoTable("the file is too short"));
        }
        let primary = read_copy(image, 1);
        let backup = read_copy(image, sectors - 1);
        match (primary, backup) {
            (Ok(primary), Ok(backup)) if primary == backup => Ok((primary, Copies::Both)),
            (Ok(primary), _) => Ok((primary, Copies::PrimaryOnly)),
            (Err(_), Ok(backup)) => Ok((backup, Copies::BackupOnly)),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

/// LBA 0: without it libblkid sees no table at all.
fn protective_mbr(sectors: u64) -> [u8; SECTOR_SIZE as usize] {
    let mut mbr = [0; SECTOR_SIZE as usize];
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    // First CHS 0/0/2, type 0xEE, last CHS ff/ff/ff, LBA 1, length.
    mbr[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&size.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

fn read_copy(image: &dyn ReadAt, lba: u64) -> Result<Table, GptError> {
    let mut header = [0; SECTOR_SIZE as usize];
    image.read_exact_at(&mut header, lba * SECTOR_SIZE)?;
    if &header[0..8] != SIGNATURE {
        return Err(GptError::NoTable("the signature is missing"));
    }
    let header_bytes = number(&header, 12, 4) as usize;
    if !(HEADER_BYTES..=header.len()).contains(&header_bytes) {
        return Err(GptError::NoTable("the header has an impossible size"));
    }
    let checksum = number(&header, 16, 4);
    header[16..20].fill(0);
    if u64::from(crc32fast::hash(&header[..header_bytes])) != checksum {
        return Err(GptError::NoTable("the header's checksum is wrong"));
    }
    let entry_bytes = number(&header, 84, 4);
    let table_bytes = entry_bytes.saturating_mul(number(&header, 80, 4));
    if entry_bytes < ENTRY_BYTES as u64 || table_bytes > MAX_TABLE_BYTES {
        return Err(GptError::NoTable(
            "the header describes an impossible table",
        ));
    }
    #[allow(clippy::cast_possible_truncation)] // at most MAX_TABLE_BYTES
    let (entry_bytes, mut table) = (entry_bytes as usize, vec![0; table_bytes as usize]);
    image.read_exact_at(
        &mut table,
        number(&header, 72, 8).saturating_mul(SECTOR_SIZE),
    )?;
    if u64::from(crc32fast::hash(&table)) != number(&header, 88, 4) {
        return Err(GptError::NoTable("the table's checksum is wrong"));
    }
    let entries = table
        .chunks_exact(entry_bytes)
        .filter(|bytes| bytes[..16] != [0; 16])
        .map(|bytes| decode_entry(bytes, image.size()))
        .collect::<Result<_, _>>()?;
    Ok(Table {
        disk_guid: guid(&header, 56),
        entries,
    })
}

fn decode_entry(bytes: &[u8], image_bytes: u64) -> Result<Entry, GptError> {
    let first = number(bytes, 32, 8);
    let last = number(bytes, 40, 8);
    let sectors = image_bytes / SECTOR_SIZE;
    if first == 0 || last < first || last >= sectors {
        return Err(GptError::NoTable("a partition lies outside of the image"));
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
            offset: first * SECTOR_SIZE,
            size: (last - first + 1) * SECTOR_SIZE,
        },
        attributes: number(bytes, 48, 8),
        label: String::from_utf16_lossy(&units),
    })
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
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 2 << 20;

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
        example().write(&file, SIZE).unwrap();
        let mut bytes = vec![0; SIZE as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn a_table_reads_back_what_it_wrote_from_either_copy() {
        let image = image();
        let (table, copies) = Table::read(&image.as_slice()).unwrap();
        assert_eq!((table, copies), (example(), Copies::Both));
        for (damage, expected) in [
            (600, Copies::BackupOnly),
            (1100, Copies::BackupOnly),
            (SIZE as usize - 500, Copies::PrimaryOnly),
        ] {
            let mut image = image.clone();
            image[damage] ^= 1;
            let (table, copies) = Table::read(&image.as_slice()).unwrap();
            assert_eq!((table, copies), (example(), expected), "byte {damage}");
        }
    }

    #[test]
    fn partitions_outside_of_the_image_are_refused() {
        let last = SIZE / SECTOR_SIZE - 1;
        let decode = |first_sector: u64, last_sector: u64| {
            let mut bytes = example().encode_entries();
            bytes[32..40].copy_from_slice(&first_sector.to_le_bytes());
            bytes[40..48].copy_from_slice(&last_sector.to_le_bytes());
            decode_entry(&bytes[..ENTRY_BYTES], SIZE)
        };
        assert!(decode(1, last).is_ok());
        for (first, last) in [
            (0, 9),
            (9, 8),
            (1, last + 1),
            (1, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            assert!(decode(first, last).is_err(), "{first} to {last}");
        }
    }

    proptest! {
        #[test]
        fn damaged_tables_are_read_without_panic(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            mend in any::<bool>(),
        ) {
            let mut image = image();
            for (index, value) in damage {
                // Where the first copy lies.
                image[512 + index.index(1024)] = value;
            }
            if mend {
                image[528..532].fill(0);
                let checksum = crc32fast::hash(&image[512..604]);
                image[528..532].copy_from_slice(&checksum.to_le_bytes());
            }
            let _ = Table::read(&image.as_slice());
        }
    }
}
