//! Where the partitions of an image lie.

use super::gpt::SECTOR_SIZE;
use crate::signature::PARTITION_BYTES as SIGNATURE_BYTES;
use crate::verity::Geometry;

/// Bytes before the data partition: what libfdisk leaves for the first partition.
pub const DATA_OFFSET: u64 = 1 << 20;
/// What systemd-repart up to 260 adds to the partitions and the first mebibyte
/// (`determine_auto_size()`): room for the backup table, rounded up to its grain.
const TAIL_BYTES: u64 = 20_480;

/// A run of bytes in an image, a whole number of 4096-byte blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the image's start.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Extent {
    /// Sector at which it starts.
    pub fn first_sector(self) -> u64 {
        self.offset / SECTOR_SIZE
    }

    /// Last sector that belongs to it.
    pub fn last_sector(self) -> u64 {
        (self.offset + self.size) / SECTOR_SIZE - 1
    }

    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.offset + self.size
    }
}

/// The places of all parts of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The file system.
    pub data: Extent,
    /// Verity superblock and hash tree.
    pub hash: Extent,
    /// The signature, where there is one.
    pub signature: Option<Extent>,
    /// Bytes of the whole image.
    pub size: u64,
}

impl Layout {
    /// The layout around a file system and its hash tree.
    pub fn new(geometry: &Geometry, signed: bool) -> Layout {
        let data = Extent {
            offset: DATA_OFFSET,
            size: geometry.data_size(),
        };
        let hash = Extent {
            offset: data.end(),
            size: geometry.hash_size(),
        };
        let signature = signed.then(|| Extent {
            offset: hash.end(),
            size: SIGNATURE_BYTES as u64,
        });
        Layout {
            data,
            hash,
            signature,
            size: signature.unwrap_or(hash).end() + TAIL_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sectors as sfdisk prints them of an image that systemd-repart 257 made.
    #[test]
    fn the_layout_is_that_of_systemd_repart() {
        let layout = Layout::new(&Geometry::new(2945).unwrap(), true);
        assert_eq!(
            (layout.data.first_sector(), layout.data.last_sector()),
            (2048, 25_607)
        );
        assert_eq!(
            (layout.hash.first_sector(), layout.hash.size),
            (25_608, 208 * 512)
        );
        let signature = layout.signature.unwrap();
        assert_eq!(
            (signature.first_sector(), signature.size),
            (25_816, 32 * 512)
        );
        assert_eq!(layout.size, (25_854 + 34) * 512);
    }
}
