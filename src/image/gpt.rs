//! The GUID partition table (UEFI specification 2.10, section 5.3).
//!
//! Written here rather than by the `gpt` crate, which cannot write the first usable LBA that
//! systemd-repart writes, draws its own partition GUIDs, and has had no commit for long: equality
//! with systemd-repart, byte for byte, is promised and tested.

mod read;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

pub use read::{Copies, GptError, read};

use super::layout::{DATA_OFFSET, Extent};

/// Bytes of a sector.
pub const SECTOR_SIZE: u64 = SECTOR_BYTES as u64;
/// Attribute bit 60: mount read-only (`SD_GPT_FLAG_READ_ONLY` in systemd's `sd-gpt.h`).
pub const READ_ONLY: u64 = 1 << 60;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const SECTOR_BYTES: usize = 512;
/// `HeaderSize`.
const HEADER_SIZE: u32 = 92;
const HEADER_BYTES: usize = HEADER_SIZE as usize;
/// `SizeOfPartitionEntry`.
const ENTRY_SIZE: u32 = 128;
const ENTRY_BYTES: usize = ENTRY_SIZE as usize;
/// `NumberOfPartitionEntries`.
const ENTRY_COUNT: u32 = 128;
const TABLE_BYTES: usize = ENTRY_BYTES * ENTRY_COUNT as usize;
const TABLE_SECTORS: u64 = TABLE_BYTES as u64 / SECTOR_SIZE;
const LABEL_UNITS: usize = 36;

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
    ) -> [u8; SECTOR_BYTES] {
        let mut header = [0; SECTOR_BYTES];
        header[0..8].copy_from_slice(SIGNATURE);
        header[8..12].copy_from_slice(&REVISION.to_le_bytes());
        header[12..16].copy_from_slice(&HEADER_SIZE.to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&(DATA_OFFSET / SECTOR_SIZE).to_le_bytes());
        header[48..56].copy_from_slice(&(sectors - 2 - TABLE_SECTORS).to_le_bytes());
        header[56..72].copy_from_slice(&self.disk_guid.to_bytes_le());
        header[72..80].copy_from_slice(&table.to_le_bytes());
        header[80..84].copy_from_slice(&ENTRY_COUNT.to_le_bytes());
        header[84..88].copy_from_slice(&ENTRY_SIZE.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
        let checksum = crc32fast::hash(&header[..HEADER_BYTES]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// LBA 0: without it libblkid sees no table at all.
fn protective_mbr(sectors: u64) -> [u8; SECTOR_BYTES] {
    let mut mbr = [0; SECTOR_BYTES];
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    // First CHS 0/0/2, type 0xEE, last CHS ff/ff/ff, LBA 1, length.
    mbr[446..458].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&size.to_le_bytes());
    mbr[510..512].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
