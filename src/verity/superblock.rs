//! The first block of a hash partition (cryptsetup `lib/verity/verity.c`, `struct verity_sb`).

use std::fmt;

use uuid::Uuid;

use super::{BLOCK_SIZE, Geometry};
use crate::digest::hex;

/// `signature` at offset 0.
const MAGIC: &[u8; 8] = b"verity\0\0";
/// `version` at 8, the only one there is.
const VERSION: u32 = 1;
/// `hash_type` at 12: salt in front of the block. (0 is Chrome OS's, salt behind it.)
const HASH_TYPE: u32 = 1;
/// `algorithm` at 32, NUL-padded to 32 bytes.
const ALGORITHM: &[u8] = b"sha256";
/// `data_block_size` at 64 and `hash_block_size` at 68, in bytes.
const BLOCK_SIZE_FIELD: u32 = 4096;
const _: () = assert!(BLOCK_SIZE_FIELD as usize == BLOCK_SIZE);
/// Bytes of the superblock; the rest of its block is not looked at by anyone.
const SUPERBLOCK_SIZE: usize = 512;
/// Bytes of `salt` at 88.
const MAX_SALT_SIZE: usize = 256;

/// What is hashed in front of every block: 0 to 256 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(Vec<u8>);

impl Salt {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for Salt {
    fn from(bytes: [u8; 32]) -> Salt {
        Salt(bytes.to_vec())
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a hash partition says about its tree. Algorithm and block sizes are always SHA-256 and
/// 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Identifies the tree; protected by nothing.
    pub uuid: Uuid,
    /// What is hashed in front of every block.
    pub salt: Salt,
    /// The shape of the tree.
    pub geometry: Geometry,
}

/// Why the first block of a hash partition cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSuperblock {
    /// Fewer bytes than a superblock has.
    #[error("the verity superblock is cut short after {bytes} bytes")]
    Short {
        /// What is there.
        bytes: usize,
    },
    /// It does not begin with `verity`.
    #[error("no verity superblock: the hash partition does not begin with 'verity'")]
    Magic,
    /// A version or hash type other than 1.
    #[error(
        "verity superblock of version {version}, hash type {hash_type}; only 1 and 1 are known"
    )]
    Version {
        /// Version of the superblock.
        version: u32,
        /// How salt and block are joined.
        hash_type: u32,
    },
    /// Not SHA-256.
    #[error("the hash tree uses {algorithm:?}; only sha256 is supported")]
    Algorithm {
        /// What the superblock names, made printable.
        algorithm: String,
    },
    /// Blocks of another size than 4096 bytes.
    #[error(
        "the hash tree has data blocks of {data} and hash blocks of {hash} bytes; only 4096 is supported"
    )]
    BlockSize {
        /// Bytes of a data block.
        data: u32,
        /// Bytes of a hash block.
        hash: u32,
    },
    /// None, or more than a device can have.
    #[error("the verity superblock claims {blocks} data blocks")]
    DataBlocks {
        /// What it claims.
        blocks: u64,
    },
    /// More than fit.
    #[error("the verity superblock claims a salt of {bytes} bytes; at most 256 are possible")]
    SaltSize {
        /// What it claims.
        bytes: u16,
    },
}

impl Superblock {
    /// The block as it lies on disk.
    pub fn encode(&self) -> [u8; BLOCK_SIZE] {
        let mut block = [0; BLOCK_SIZE];
        let mut put = |offset: usize, bytes: &[u8]| {
            block[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        let block_size = BLOCK_SIZE_FIELD.to_le_bytes();
        let salt = self.salt.as_bytes();
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &HASH_TYPE.to_le_bytes());
        put(16, self.uuid.as_bytes());
        put(32, ALGORITHM);
        put(64, &block_size);
        put(68, &block_size);
        put(72, &self.geometry.data_blocks().to_le_bytes());
        // A salt has 256 bytes at most.
        put(80, &u16::try_from(salt.len()).unwrap_or(0).to_le_bytes());
        put(88, salt);
        block
    }

    /// Reads the superblock at the start of `bytes`.
    ///
    /// # Errors
    /// [`InvalidSuperblock`] for whatever this program, or the kernel, could not verify with.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, InvalidSuperblock> {
        let block: &[u8; SUPERBLOCK_SIZE] = bytes
            .first_chunk()
            .ok_or(InvalidSuperblock::Short { bytes: bytes.len() })?;
        if !block.starts_with(MAGIC) {
            return Err(InvalidSuperblock::Magic);
        }
        let (version, hash_type) = (u32_at(block, 8), u32_at(block, 12));
        if (version, hash_type) != (VERSION, HASH_TYPE) {
            return Err(InvalidSuperblock::Version { version, hash_type });
        }
        let algorithm = block[32..64].split(|&byte| byte == 0).next().unwrap_or(&[]);
        if algorithm != ALGORITHM {
            return Err(InvalidSuperblock::Algorithm {
                algorithm: algorithm.escape_ascii().to_string(),
            });
        }
        let (data, hash) = (u32_at(block, 64), u32_at(block, 68));
        if (data, hash) != (BLOCK_SIZE_FIELD, BLOCK_SIZE_FIELD) {
            return Err(InvalidSuperblock::BlockSize { data, hash });
        }
        let blocks = u64::from(u32_at(block, 72)) | u64::from(u32_at(block, 76)) << 32;
        let geometry = Geometry::new(blocks).ok_or(InvalidSuperblock::DataBlocks { blocks })?;
        let salt_size = u16::from_le_bytes([block[80], block[81]]);
        let salt = block[88..88 + MAX_SALT_SIZE]
            .get(..usize::from(salt_size))
            .ok_or(InvalidSuperblock::SaltSize { bytes: salt_size })?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[16..32]);
        Ok(Superblock {
            uuid: Uuid::from_bytes(uuid),
            salt: Salt(salt.to_vec()),
            geometry,
        })
    }
}

fn u32_at(block: &[u8; SUPERBLOCK_SIZE], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&block[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            salt: Salt::from([7; 32]),
            geometry: Geometry::new(300).unwrap(),
        }
    }

    #[test]
    fn a_superblock_reads_back_what_it_writes() {
        assert_eq!(Superblock::parse(&superblock().encode()), Ok(superblock()));
    }

    #[test]
    fn each_field_is_checked() {
        let refuse = |offset: usize, bytes: &[u8]| {
            let mut block = superblock().encode();
            block[offset..offset + bytes.len()].copy_from_slice(bytes);
            Superblock::parse(&block).unwrap_err()
        };
        assert_eq!(refuse(0, b"V"), InvalidSuperblock::Magic);
        let version = |version, hash_type| InvalidSuperblock::Version { version, hash_type };
        assert_eq!(refuse(8, &[2]), version(2, 1));
        assert_eq!(refuse(12, &[0]), version(1, 0));
        let algorithm = "sha512".to_owned();
        assert_eq!(
            refuse(32, b"sha512"),
            InvalidSuperblock::Algorithm { algorithm }
        );
        let size = |data, hash| InvalidSuperblock::BlockSize { data, hash };
        assert_eq!(refuse(64, &512u32.to_le_bytes()), size(512, 4096));
        assert_eq!(refuse(68, &0u32.to_le_bytes()), size(4096, 0));
        for blocks in [0, u64::MAX] {
            let error = InvalidSuperblock::DataBlocks { blocks };
            assert_eq!(refuse(72, &blocks.to_le_bytes()), error);
        }
        let error = InvalidSuperblock::SaltSize { bytes: 257 };
        assert_eq!(refuse(80, &257u16.to_le_bytes()), error);
        let short = Superblock::parse(&superblock().encode()[..511]);
        assert_eq!(short, Err(InvalidSuperblock::Short { bytes: 511 }));
    }

    proptest! {
        #[test]
        fn mutated_superblocks_never_panic(
            changes in prop::collection::vec((0usize..512, any::<u8>()), 0..8),
            length in 0usize..4097,
        ) {
            let mut block = superblock().encode();
            for (offset, byte) in changes {
                block[offset] = byte;
            }
            if let Ok(parsed) = Superblock::parse(&block[..length]) {
                prop_assert_eq!(Superblock::parse(&parsed.encode()), Ok(parsed));
            }
        }
    }
}
