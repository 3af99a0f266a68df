//! The superblock, `struct erofs_super_block`.

use uuid::Uuid;

use super::format::{Nid, field, set_field};
use crate::timestamp::Timestamp;

/// Where the superblock lies in the file system; `EROFS_SUPER_OFFSET`.
pub(super) const OFFSET: usize = 1024;
/// Bytes of the superblock without extensions.
pub(super) const SIZE: usize = 128;

/// `EROFS_SUPER_MAGIC_V1` of `include/uapi/linux/magic.h`.
const MAGIC: u32 = 0xe0f5_e1e2;
/// The checksum field is valid; `EROFS_FEATURE_COMPAT_SB_CHKSUM`.
const COMPAT_CHECKSUM: u32 = 0x1;
/// Extended inodes hold the time of last modification, not of last change;
/// `EROFS_FEATURE_COMPAT_MTIME`.
const COMPAT_MTIME: u32 = 0x2;

/// Name of each bit of `feature_incompat`, from the lowest; some bits have two meanings.
const INCOMPAT_NAMES: [&str; 9] = [
    "zero padding",
    "compression settings",
    "chunked files",
    "device table or second compression head",
    "inlined compressed tails",
    "fragments or deduplication",
    "long extended attribute prefixes",
    "48-bit block addresses",
    "compressed metadata",
];
/// The bits of `feature_incompat` of which the reader knows what they change.
const INCOMPAT_KNOWN: u32 = 0x7f;
/// `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`; the same bit as a second compression head.
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

mod offset {
    pub const MAGIC: usize = 0;
    pub const CHECKSUM: usize = 4;
    pub const FEATURE_COMPAT: usize = 8;
    pub const BLOCK_SIZE_BITS: usize = 12;
    pub const ROOT_NID: usize = 14;
    pub const INODES: usize = 16;
    pub const BUILD_TIME: usize = 24;
    pub const BUILD_TIME_NANOSECONDS: usize = 32;
    pub const BLOCKS: usize = 36;
    pub const META_BLOCK: usize = 40;
    pub const XATTR_BLOCK: usize = 44;
    pub const UUID: usize = 48;
    pub const VOLUME_NAME: usize = 64;
    pub const FEATURE_INCOMPAT: usize = 80;
    pub const EXTRA_DEVICES: usize = 86;
    pub const DIRECTORY_BLOCK_BITS: usize = 90;
}

/// What the superblock says of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Logarithm of the block size: 9 to 16.
    pub block_size_bits: u8,
    /// The root directory.
    pub root: Nid,
    /// How many inodes there are.
    pub inodes: u64,
    /// The time of last modification of all inodes that store none.
    pub epoch: Timestamp,
    /// How many blocks there are.
    pub blocks: u32,
    /// The block from which inodes are numbered.
    pub meta_block: u32,
    /// The block at which shared extended attributes start.
    pub xattr_block: u32,
    /// Identity of the file system.
    pub uuid: Uuid,
    /// The label, zeros behind it cut off.
    pub volume_name: Vec<u8>,
}

/// Why the bytes of a superblock are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SuperblockError {
    /// There is some other file system, or none.
    #[error("there is no EROFS file system: the magic number is {0:#010x}")]
    Magic(u32),
    /// No kernel reads such blocks.
    #[error("the block size, 2 to the power of {0}, is none of 512 bytes to 64 KiB")]
    BlockSize(u8),
    /// The superblock is damaged.
    #[error(
        "the superblock is damaged: its checksum should be {computed:#010x} and is {stored:#010x}"
    )]
    Checksum {
        /// As the superblock says.
        stored: u32,
        /// As it would be right.
        computed: u32,
    },
    /// The file system needs a newer reader.
    #[error("the file system uses {0}, which this program does not read")]
    Feature(String),
    /// The content of the file system lies elsewhere.
    #[error("the file system is spread over {0} further devices")]
    Devices(u16),
}

impl Superblock {
    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        1 << self.block_size_bits
    }

    /// Writes the superblock into `block`, which is the first and holds all its other content
    /// already: the checksum covers that too.
    pub(super) fn encode(&self, block: &mut super::Block) {
        let superblock = &mut block[OFFSET..];
        superblock[..SIZE].fill(0);
        set_field(superblock, offset::MAGIC, MAGIC.to_le_bytes());
        let compat = COMPAT_CHECKSUM | COMPAT_MTIME;
        set_field(superblock, offset::FEATURE_COMPAT, compat.to_le_bytes());
        superblock[offset::BLOCK_SIZE_BITS] = self.block_size_bits;
        let [low, high, ..] = self.root.0.to_le_bytes();
        set_field(superblock, offset::ROOT_NID, [low, high]);
        set_field(superblock, offset::INODES, self.inodes.to_le_bytes());
        let Timestamp {
            seconds,
            nanoseconds,
        } = self.epoch;
        set_field(superblock, offset::BUILD_TIME, seconds.to_le_bytes());
        set_field(
            superblock,
            offset::BUILD_TIME_NANOSECONDS,
            nanoseconds.to_le_bytes(),
        );
        set_field(superblock, offset::BLOCKS, self.blocks.to_le_bytes());
        set_field(
            superblock,
            offset::META_BLOCK,
            self.meta_block.to_le_bytes(),
        );
        set_field(
            superblock,
            offset::XATTR_BLOCK,
            self.xattr_block.to_le_bytes(),
        );
        set_field(superblock, offset::UUID, self.uuid.into_bytes());
        let name = self.volume_name.iter().take(15);
        for (byte, name) in superblock[offset::VOLUME_NAME..].iter_mut().zip(name) {
            *byte = *name;
        }
        let checksum = checksum(superblock);
        set_field(superblock, offset::CHECKSUM, checksum.to_le_bytes());
    }

    /// Reads a superblock; `rest_of_block` yields what follows it in its block, of which it is told
    /// the size, and is called only if there is a checksum to verify.
    pub(super) fn decode<E: From<SuperblockError>>(
        bytes: &[u8; SIZE],
        rest_of_block: impl FnOnce(usize) -> Result<Vec<u8>, E>,
    ) -> Result<Superblock, E> {
        let magic = u32::from_le_bytes(field(bytes, offset::MAGIC));
        if magic != MAGIC {
            return Err(SuperblockError::Magic(magic).into());
        }
        let block_size_bits = bytes[offset::BLOCK_SIZE_BITS];
        if !(9..=16).contains(&block_size_bits) {
            return Err(SuperblockError::BlockSize(block_size_bits).into());
        }
        let compat = u32::from_le_bytes(field(bytes, offset::FEATURE_COMPAT));
        if compat & COMPAT_CHECKSUM != 0 {
            let covered = checksummed_bytes(1 << block_size_bits);
            let mut content = bytes.to_vec();
            content.extend(rest_of_block(covered - SIZE)?);
            let stored = u32::from_le_bytes(field(bytes, offset::CHECKSUM));
            let computed = checksum(&mut content);
            if stored != computed {
                return Err(SuperblockError::Checksum { stored, computed }.into());
            }
        }
        check_features(bytes)?;
        let name: [u8; 16] = field(bytes, offset::VOLUME_NAME);
        Ok(Superblock {
            block_size_bits,
            root: Nid(u16::from_le_bytes(field(bytes, offset::ROOT_NID)).into()),
            inodes: u64::from_le_bytes(field(bytes, offset::INODES)),
            epoch: Timestamp {
                seconds: i64::from_le_bytes(field(bytes, offset::BUILD_TIME)),
                nanoseconds: u32::from_le_bytes(field(bytes, offset::BUILD_TIME_NANOSECONDS)),
            },
            blocks: u32::from_le_bytes(field(bytes, offset::BLOCKS)),
            meta_block: u32::from_le_bytes(field(bytes, offset::META_BLOCK)),
            xattr_block: u32::from_le_bytes(field(bytes, offset::XATTR_BLOCK)),
            uuid: Uuid::from_bytes(field(bytes, offset::UUID)),
            volume_name: name.into_iter().take_while(|&byte| byte != 0).collect(),
        })
    }
}

/// Refuses what the reader would get wrong.
fn check_features(bytes: &[u8; SIZE]) -> Result<(), SuperblockError> {
    let incompat = u32::from_le_bytes(field(bytes, offset::FEATURE_INCOMPAT));
    let unknown: Vec<_> = (0..32)
        .filter(|bit| (incompat & !INCOMPAT_KNOWN) >> bit & 1 == 1)
        .map(|bit| match INCOMPAT_NAMES.get(bit) {
            Some(name) => (*name).to_owned(),
            None => format!("feature {:#x}", 1_u32 << bit),
        })
        .collect();
    if !unknown.is_empty() {
        return Err(SuperblockError::Feature(unknown.join(", ")));
    }
    if bytes[offset::DIRECTORY_BLOCK_BITS] != 0 {
        let feature = "directory blocks of another size".to_owned();
        return Err(SuperblockError::Feature(feature));
    }
    let devices = u16::from_le_bytes(field(bytes, offset::EXTRA_DEVICES));
    if incompat & INCOMPAT_DEVICE_TABLE != 0 && devices != 0 {
        return Err(SuperblockError::Devices(devices));
    }
    Ok(())
}

/// How much the checksum covers, from the start of the superblock
/// (`erofs_superblock_csum_verify()`, `fs/erofs/super.c`).
fn checksummed_bytes(block_size: usize) -> usize {
    match block_size.checked_sub(OFFSET) {
        Some(0) | None => block_size,
        Some(rest) => rest,
    }
}

/// The checksum over `content`, whose checksum field it sets to zero. It is the complement of what
/// others call CRC-32C, as the kernel leaves out the last step.
fn checksum(content: &mut [u8]) -> u32 {
    set_field(content, offset::CHECKSUM, [0; 4]);
    !crc32c::crc32c(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Superblock {
        Superblock {
            block_size_bits: 12,
            root: Nid(36),
            inodes: 7,
            epoch: Timestamp {
                seconds: -5,
                nanoseconds: 6,
            },
            blocks: 8,
            meta_block: 9,
            xattr_block: 10,
            uuid: Uuid::from_bytes([11; 16]),
            volume_name: b"name".to_vec(),
        }
    }

    fn decode(block: &crate::erofs::Block) -> Result<Superblock, SuperblockError> {
        Superblock::decode(&field(block, OFFSET), |size| {
            Ok(block[OFFSET + SIZE..][..size].to_vec())
        })
    }

    fn encoded(superblock: &Superblock) -> crate::erofs::Block {
        let mut block = [0x55; 4096];
        superblock.encode(&mut block);
        block
    }

    #[test]
    fn a_superblock_reads_back_what_was_written() {
        assert_eq!(decode(&encoded(&example())), Ok(example()));
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let block = encoded(&example());
        for position in OFFSET..block.len() {
            let mut changed = block;
            changed[position] ^= 0x10;
            assert!(decode(&changed).is_err(), "byte {position}");
        }
    }

    #[test]
    fn unknown_features_are_named() {
        let mut block = encoded(&example());
        set_field(
            &mut block[OFFSET..],
            offset::FEATURE_INCOMPAT,
            0x8000_0081_u32.to_le_bytes(),
        );
        let right = checksum(&mut block[OFFSET..]);
        set_field(&mut block[OFFSET..], offset::CHECKSUM, right.to_le_bytes());
        assert_eq!(
            decode(&block),
            Err(SuperblockError::Feature(
                "48-bit block addresses, feature 0x80000000".to_owned()
            ))
        );
    }
}
