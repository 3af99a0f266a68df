//! The superblock, `struct erofs_super_block`.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use uuid::Uuid;

use super::compression::{Algorithm, ChunkSize};
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
/// `EROFS_FEATURE_INCOMPAT_ZERO_PADDING`.
const INCOMPAT_ZERO_PADDING: u32 = 0x1;
/// `EROFS_FEATURE_INCOMPAT_COMPR_CFGS`; the same bit as `EROFS_FEATURE_INCOMPAT_BIG_PCLUSTER`.
const INCOMPAT_COMPRESSION_SETTINGS: u32 = 0x2;
/// `EROFS_FEATURE_INCOMPAT_DEVICE_TABLE`; the same bit as a second compression head.
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;
/// `EROFS_FEATURE_INCOMPAT_ZTAILPACKING`.
const INCOMPAT_INLINE_TAILS: u32 = 0x10;
/// `EROFS_FEATURE_INCOMPAT_FRAGMENTS`; the same bit as deduplication.
const INCOMPAT_FRAGMENTS: u32 = 0x20;

/// The first Linux that reads what is written without features.
const FIRST_KERNEL: KernelVersion = KernelVersion(5, 4);
/// For each feature, from the lowest bit, the first Linux that knows it, and the name that it has in
/// `/sys/fs/erofs/features` (`fs/erofs/sysfs.c`). Of a bit with two meanings it is the first one's.
const FEATURES: [(KernelVersion, Option<&str>); 7] = [
    (FIRST_KERNEL, Some("zero_padding")),
    (KernelVersion(5, 13), Some("compr_cfgs")),
    (KernelVersion(5, 15), Some("chunked_file")),
    (KernelVersion(5, 16), Some("device_table")),
    (KernelVersion(5, 17), Some("ztailpacking")),
    (KernelVersion(6, 1), Some("fragments")),
    (KernelVersion(6, 4), None),
];

/// A version of Linux, major and minor, as in 5.13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for KernelVersion {
    type Err = ParseIntError;

    /// Reads the beginning of what `uname -r` prints: `6.12.107+deb13-amd64`.
    fn from_str(release: &str) -> Result<KernelVersion, Self::Err> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().unwrap_or_default().parse();
        Ok(KernelVersion(next()?, next()?))
    }
}

/// Something that a kernel must know to read a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What it is, for people.
    pub what: &'static str,
    /// The first Linux that has it, if it was built with it.
    pub kernel: KernelVersion,
    /// Its name in `/sys/fs/erofs/features`, if it has one.
    pub feature: Option<&'static str>,
    /// The option of the kernel's configuration that turns it on, if it can be left out.
    pub option: Option<&'static str>,
}

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
    /// `u1.available_compr_algs`.
    pub const ALGORITHMS: usize = 84;
    pub const EXTRA_DEVICES: usize = 86;
    pub const DIRECTORY_BLOCK_BITS: usize = 90;
    pub const PACKED_NID: usize = 96;
}

/// What the compression of a file system demands of its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompressionSettings {
    pub algorithm: Algorithm,
    pub chunk_size: ChunkSize,
    /// The ends of some files lie behind their inodes.
    pub inline_tails: bool,
    /// The inode in which the ends of files lie, if any do.
    pub packed: Option<Nid>,
}

/// Bytes behind the superblock that the settings of any algorithm take with their length.
pub(super) const MAX_SETTINGS_SIZE: usize = 16;

impl CompressionSettings {
    /// `struct z_erofs_lz4_cfgs` or `struct z_erofs_zstd_cfgs`, their length in front.
    fn encode(self) -> Vec<u8> {
        match self.algorithm {
            Algorithm::Zstd => {
                // counted from the smallest window, ZSTD_WINDOWLOG_ABSOLUTEMIN
                let window = self.chunk_size.bits() - 10;
                vec![6, 0, 0, window, 0, 0, 0, 0]
            }
            _ => {
                let mut bytes = vec![0; MAX_SETTINGS_SIZE];
                bytes[0] = 14;
                set_field(&mut bytes, 2, u16::MAX.to_le_bytes());
                let blocks = self.chunk_size.max_compressed_blocks();
                set_field(&mut bytes, 4, blocks.to_le_bytes());
                bytes
            }
        }
    }
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
    /// What files may be compressed with.
    pub algorithms: Vec<Algorithm>,
    /// The inode that holds the ends of files packed together, if there is one.
    pub packed: Option<Nid>,
    /// `feature_incompat`.
    pub(super) incompat: u32,
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

impl Algorithm {
    fn demand(self) -> Demand {
        let (what, kernel, option) = match self {
            Algorithm::Lz4 => ("LZ4", FIRST_KERNEL, "CONFIG_EROFS_FS_ZIP"),
            Algorithm::Lzma => ("LZMA", KernelVersion(5, 16), "CONFIG_EROFS_FS_ZIP_LZMA"),
            Algorithm::Deflate => (
                "DEFLATE",
                KernelVersion(6, 6),
                "CONFIG_EROFS_FS_ZIP_DEFLATE",
            ),
            Algorithm::Zstd => (
                "Zstandard",
                KernelVersion(6, 10),
                "CONFIG_EROFS_FS_ZIP_ZSTD",
            ),
        };
        Demand {
            what,
            kernel,
            feature: None,
            option: Some(option),
        }
    }
}

impl Superblock {
    /// Bytes of a block.
    pub fn block_size(&self) -> u64 {
        1 << self.block_size_bits
    }

    /// The first version of Linux that reads the file system, if it was built with all algorithms
    /// that this version has.
    pub fn minimum_kernel(&self) -> KernelVersion {
        let versions = self.demands().map(|demand| demand.kernel);
        versions.fold(FIRST_KERNEL, Ord::max)
    }

    /// All that a kernel must know to read the file system.
    pub fn demands(&self) -> impl Iterator<Item = Demand> {
        let features = FEATURES.iter().zip(INCOMPAT_NAMES).enumerate();
        let features = features.filter(|(bit, _)| self.incompat >> bit & 1 == 1);
        let features = features.map(|(_, (&(kernel, feature), what))| Demand {
            what,
            kernel,
            feature,
            option: None,
        });
        features.chain(self.algorithms.iter().map(|algorithm| algorithm.demand()))
    }

    /// Whether LZ4 data has zeros in front of it, not behind it, as other data has always.
    pub(super) fn zero_padding(&self) -> bool {
        self.incompat & INCOMPAT_ZERO_PADDING != 0
    }

    /// Sets what readers must know of a file system that is compressed so.
    pub(super) fn declare(&mut self, settings: CompressionSettings) {
        self.incompat |= INCOMPAT_ZERO_PADDING | INCOMPAT_COMPRESSION_SETTINGS;
        if settings.inline_tails {
            self.incompat |= INCOMPAT_INLINE_TAILS;
        }
        if settings.packed.is_some() {
            self.incompat |= INCOMPAT_FRAGMENTS;
        }
        self.algorithms = vec![settings.algorithm];
        self.packed = settings.packed;
    }

    /// Writes the superblock and the settings of the compression behind it into `block`, which is
    /// the first and holds all its other content already: the checksum covers that too.
    pub(super) fn encode(
        &self,
        compression: Option<CompressionSettings>,
        block: &mut super::Block,
    ) {
        let superblock = &mut block[OFFSET..];
        superblock[..SIZE].fill(0);
        if let Some(settings) = compression {
            let settings = settings.encode();
            superblock[SIZE..SIZE + settings.len()].copy_from_slice(&settings);
        }
        set_field(
            superblock,
            offset::FEATURE_INCOMPAT,
            self.incompat.to_le_bytes(),
        );
        let algorithms = self.algorithms.iter();
        let algorithms = algorithms.fold(0_u16, |bits, algorithm| bits | 1 << algorithm.code());
        set_field(superblock, offset::ALGORITHMS, algorithms.to_le_bytes());
        let packed = self.packed.map_or(0, |Nid(nid)| nid);
        set_field(superblock, offset::PACKED_NID, packed.to_le_bytes());
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
        let incompat = u32::from_le_bytes(field(bytes, offset::FEATURE_INCOMPAT));
        let packed = Nid(u64::from_le_bytes(field(bytes, offset::PACKED_NID)));
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
            algorithms: algorithms_of(incompat, bytes),
            packed: (incompat & INCOMPAT_FRAGMENTS != 0 && packed != Nid(0)).then_some(packed),
            incompat,
        })
    }
}

/// What files may be compressed with.
fn algorithms_of(incompat: u32, bytes: &[u8; SIZE]) -> Vec<Algorithm> {
    if incompat & INCOMPAT_COMPRESSION_SETTINGS != 0 {
        let bits = u16::from_le_bytes(field(bytes, offset::ALGORITHMS));
        let there = |algorithm: &Algorithm| bits >> algorithm.code() & 1 == 1;
        Algorithm::ALL.into_iter().filter(there).collect()
    } else if incompat & INCOMPAT_ZERO_PADDING != 0 {
        vec![Algorithm::Lz4]
    } else {
        Vec::new()
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

/// Makes the checksum of the superblock in `block`, the first, right again, if it has one.
pub(super) fn renew_checksum(block: &mut super::Block) {
    let superblock = &mut block[OFFSET..];
    let compat = u32::from_le_bytes(field(superblock, offset::FEATURE_COMPAT));
    if compat & COMPAT_CHECKSUM != 0 {
        let checksum = checksum(superblock);
        set_field(superblock, offset::CHECKSUM, checksum.to_le_bytes());
    }
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
            algorithms: Vec::new(),
            packed: None,
            incompat: 0,
        }
    }

    fn decode(block: &crate::erofs::Block) -> Result<Superblock, SuperblockError> {
        Superblock::decode(&field(block, OFFSET), |size| {
            Ok(block[OFFSET + SIZE..][..size].to_vec())
        })
    }

    fn encoded(superblock: &Superblock) -> crate::erofs::Block {
        let mut block = [0x55; 4096];
        superblock.encode(None, &mut block);
        block
    }

    #[test]
    fn a_superblock_reads_back_what_was_written() {
        assert_eq!(decode(&encoded(&example())), Ok(example()));
    }

    #[test]
    fn compression_and_the_kernel_that_it_needs_are_declared() {
        let lz4 = [14, 0, 0xff, 0xff, 63, 0];
        let zstd = [6, 0, 0, 8, 0, 0];
        for (algorithm, inline_tails, packed, kernel, window_or_blocks) in [
            (Algorithm::Lz4, false, None, "5.13", lz4),
            (Algorithm::Lz4, true, None, "5.17", lz4),
            (Algorithm::Lz4, false, Some(Nid(9)), "6.1", lz4),
            (Algorithm::Zstd, false, Some(Nid(9)), "6.10", zstd),
        ] {
            let settings = CompressionSettings {
                algorithm,
                chunk_size: ChunkSize::default(),
                inline_tails,
                packed,
            };
            let mut superblock = example();
            superblock.declare(settings);
            assert_eq!(superblock.minimum_kernel().to_string(), kernel);
            let mut block = [0x55; 4096];
            superblock.encode(Some(settings), &mut block);
            assert_eq!(block[OFFSET + SIZE..][..6], window_or_blocks);
            assert_eq!(decode(&block), Ok(superblock));
        }
        assert_eq!(example().minimum_kernel(), FIRST_KERNEL);
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
