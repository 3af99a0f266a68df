//! Checking every block of a data partition against its hash tree.

use std::io;
use std::num::NonZero;

use super::chunks::{CHUNK_BLOCKS, all_cores, hash_chunks};
use super::geometry::DIGESTS_PER_BLOCK;
use super::sha256::hash_blocks;
use super::{BLOCK_SIZE, BlockDigest, InvalidSuperblock, RootHash, Superblock};
use crate::read_at::ReadAt;

/// A hash tree, all of whose blocks and data blocks are as its root hash says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedGeometry {
    /// The root hash: the one that was asked for, if one was.
    pub root_hash: RootHash,
    /// What the hash partition says.
    pub superblock: Superblock,
}

/// The first thing that is wrong with a data partition or its hash tree.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The hash partition does not begin with a usable superblock.
    #[error(transparent)]
    Superblock(#[from] InvalidSuperblock),
    /// Fewer blocks than the superblock claims.
    #[error("the {part} has {found} bytes, but its verity superblock speaks of {needed}")]
    Short {
        /// `data partition` or `hash partition`.
        part: &'static str,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// The tree is another one.
    #[error("the hash tree has the root hash {found}, not {expected}")]
    RootHash {
        /// What was asked for.
        expected: RootHash,
        /// Digest of the top block.
        found: RootHash,
    },
    /// A block of the tree is not what the level above says.
    #[error("hash block {block} of the hash partition is damaged")]
    HashBlock {
        /// Counted from the superblock, which is block 0.
        block: u64,
    },
    /// A block of the data is not what the tree says.
    #[error("data block {block} is damaged (4096 bytes at offset {} of the data partition)", block * 4096)]
    DataBlock {
        /// Counted from 0.
        block: u64,
    },
    /// Reading failed.
    #[error("cannot read block {block} of the {part}: {source}")]
    Read {
        /// `data partition` or `hash partition`.
        part: &'static str,
        /// Counted from 0.
        block: u64,
        /// What reading gave.
        source: io::Error,
    },
}

pub(super) const DATA: &str = "data partition";
pub(super) const HASH: &str = "hash partition";

/// Verifies the tree in the hash partition `hash` from its top down, and then every block of
/// `data`, on all cores. Without `root`, only that both agree with each other is proved.
///
/// # Errors
/// The lowest damaged block of the highest damaged level.
pub fn verify<D: ReadAt + ?Sized, H: ReadAt + ?Sized>(
    data: &D,
    hash: &H,
    root: Option<&RootHash>,
) -> Result<VerifiedGeometry, Damage> {
    verify_with(data, hash, root, all_cores(), &|_| ())
}

/// [`verify`] with a given number of workers, each of which takes 1 MiB. `verified` is told how many
/// more bytes of data were found intact.
///
/// # Errors
/// As [`verify`].
pub fn verify_with<D: ReadAt + ?Sized, H: ReadAt + ?Sized>(
    data: &D,
    hash: &H,
    root: Option<&RootHash>,
    workers: NonZero<usize>,
    verified: &(dyn Fn(u64) + Sync),
) -> Result<VerifiedGeometry, Damage> {
    let (data, hash): (&dyn ReadAt, &dyn ReadAt) = (&data, &hash);
    let superblock = read_superblock(hash)?;
    let geometry = &superblock.geometry;
    require(DATA, data.size(), geometry.data_size())?;
    require(HASH, hash.size(), geometry.hash_size())?;

    let verifier = Verifier {
        hash,
        salt: superblock.salt.as_bytes(),
        workers,
        verified,
    };
    let found = match geometry.levels().len().checked_sub(1) {
        Some(top) => verifier.digest(HASH, hash, geometry.level_start(top))?,
        None => verifier.digest(DATA, data, 0)?,
    };
    let found = RootHash(found);
    if let Some(&expected) = root.filter(|&root| *root != found) {
        return Err(Damage::RootHash { expected, found });
    }

    for (level, &blocks) in geometry.levels().iter().enumerate().rev().skip(1) {
        let start = geometry.level_start(level);
        let parent = geometry.level_start(level + 1);
        verifier.level(HASH, hash, start, blocks, parent)?;
    }
    if geometry.levels().is_empty() {
        verified(geometry.data_size());
    } else {
        let parent = geometry.level_start(0);
        verifier.level(DATA, data, 0, geometry.data_blocks(), parent)?;
    }
    Ok(VerifiedGeometry {
        root_hash: found,
        superblock,
    })
}

pub(super) fn read_superblock(hash: &dyn ReadAt) -> Result<Superblock, Damage> {
    let mut block = [0; BLOCK_SIZE];
    let bytes = usize::try_from(hash.size()).map_or(BLOCK_SIZE, |size| size.min(BLOCK_SIZE));
    hash.read_exact_at(&mut block[..bytes], 0)
        .map_err(|source| read_error(HASH, 0, source))?;
    Ok(Superblock::parse(&block[..bytes])?)
}

pub(super) fn require(part: &'static str, found: u64, needed: u64) -> Result<(), Damage> {
    if found < needed {
        return Err(Damage::Short {
            part,
            found,
            needed,
        });
    }
    Ok(())
}

pub(super) fn read_error(part: &'static str, block: u64, source: io::Error) -> Damage {
    Damage::Read {
        part,
        block,
        source,
    }
}

struct Verifier<'a> {
    hash: &'a dyn ReadAt,
    salt: &'a [u8],
    workers: NonZero<usize>,
    verified: &'a (dyn Fn(u64) + Sync),
}

impl Verifier<'_> {
    fn digest(
        &self,
        part: &'static str,
        blocks: &dyn ReadAt,
        block: u64,
    ) -> Result<BlockDigest, Damage> {
        let mut bytes = [0; BLOCK_SIZE];
        blocks
            .read_exact_at(&mut bytes, block * BLOCK_SIZE as u64)
            .map_err(|source| read_error(part, block, source))?;
        let mut digest = [[0; 32]];
        hash_blocks(self.salt, &bytes, &mut digest);
        Ok(digest[0])
    }

    /// Compares `count` blocks of `part` with the digests in the verified level that begins at
    /// block `parent` of the hash partition.
    fn level(
        &self,
        part: &'static str,
        blocks: &dyn ReadAt,
        first: u64,
        count: u64,
        parent: u64,
    ) -> Result<(), Damage> {
        let compare = |start: u64, found: &[BlockDigest]| {
            let mut expected = [[0; 32]; CHUNK_BLOCKS];
            let expected = &mut expected[..found.len()];
            let parent = parent + start / DIGESTS_PER_BLOCK as u64;
            self.hash
                .read_exact_at(expected.as_flattened_mut(), parent * BLOCK_SIZE as u64)
                .map_err(|source| read_error(HASH, parent, source))?;
            match (0..)
                .zip(found.iter().zip(expected))
                .find(|(_, (a, b))| a != b)
            {
                Some((offset, _)) => {
                    let block = first + start + offset;
                    Err(if part == DATA {
                        Damage::DataBlock { block }
                    } else {
                        Damage::HashBlock { block }
                    })
                }
                None => {
                    if part == DATA {
                        (self.verified)((found.len() * BLOCK_SIZE) as u64);
                    }
                    Ok(())
                }
            }
        };
        let unreadable = |start, source| read_error(part, first + start, source);
        hash_chunks(
            blocks,
            first,
            count,
            self.salt,
            self.workers,
            compare,
            unreadable,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::verity::{HashTree, Salt};

    /// Data and hash partition of `blocks` blocks, no two of which are equal.
    fn partitions(blocks: usize) -> (Vec<u8>, Vec<u8>, RootHash) {
        let mut data = vec![0; blocks * BLOCK_SIZE];
        for (number, block) in data.chunks_exact_mut(BLOCK_SIZE).enumerate() {
            block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        let salt = Salt::from([3; 32]);
        let mut leaves = vec![[0; 32]; blocks];
        hash_blocks(salt.as_bytes(), &data, &mut leaves);
        let tree = HashTree::from_leaves(&salt, leaves).unwrap();
        let superblock = Superblock {
            uuid: Uuid::nil(),
            salt,
            geometry: tree.geometry().clone(),
        };
        let mut hash = superblock.encode().to_vec();
        tree.levels_on_disk().for_each(|level| hash.extend(level));
        (data, hash, tree.root_hash())
    }

    fn workers(count: usize) -> NonZero<usize> {
        NonZero::new(count).unwrap()
    }

    #[test]
    fn intact_partitions_verify_whatever_their_size() {
        for blocks in [1, 2, 127, 128, 129, 255, 256, 257, 700] {
            let (data, hash, root) = partitions(blocks);
            let verified = verify(&data[..], &hash[..], Some(&root)).unwrap();
            assert_eq!(verified.root_hash, root);
            assert_eq!(verified.superblock.geometry.data_blocks(), blocks as u64);
            assert_eq!(verify(&data[..], &hash[..], None).unwrap(), verified);
        }
    }

    #[test]
    fn whoever_waits_is_told_of_every_byte() {
        for blocks in [1, 700] {
            let (data, hash, root) = partitions(blocks);
            let sum = AtomicU64::new(0);
            let add = |bytes| {
                sum.fetch_add(bytes, Ordering::Relaxed);
            };
            verify_with(&data[..], &hash[..], Some(&root), workers(2), &add).unwrap();
            assert_eq!(sum.into_inner(), data.len() as u64);
        }
    }

    #[test]
    fn the_first_damaged_data_block_is_named_by_any_number_of_workers() {
        let (mut data, hash, root) = partitions(1500);
        for block in [1499, 777, 600, 601] {
            data[block * BLOCK_SIZE + 4095] ^= 1;
            for count in [1, 2, 8] {
                let damage =
                    verify_with(&data[..], &hash[..], Some(&root), workers(count), &|_| ());
                let Err(Damage::DataBlock { block: found }) = damage else {
                    panic!("{damage:?}");
                };
                assert_eq!(found, if block == 601 { 600 } else { block as u64 });
            }
        }
    }

    #[test]
    fn a_damaged_tree_is_told_from_damaged_data() {
        // Superblock, top block, three leaf-level blocks.
        let (data, mut hash, root) = partitions(300);
        hash[4 * BLOCK_SIZE] ^= 1;
        let damage = verify(&data[..], &hash[..], Some(&root));
        assert!(
            matches!(damage, Err(Damage::HashBlock { block: 4 })),
            "{damage:?}"
        );
        hash[BLOCK_SIZE] ^= 1;
        let damage = verify(&data[..], &hash[..], Some(&root));
        assert!(matches!(damage, Err(Damage::RootHash { .. })), "{damage:?}");
        let damage = verify(&data[..], &hash[..], None);
        assert!(
            matches!(damage, Err(Damage::HashBlock { block: 2 })),
            "{damage:?}"
        );
    }

    #[test]
    fn partitions_shorter_than_the_superblock_claims_are_refused() {
        let (data, hash, root) = partitions(300);
        let cut = |data: &[u8], hash: &[u8]| verify(data, hash, Some(&root)).unwrap_err();
        let damage = cut(&data[..data.len() - 1], &hash);
        assert!(
            matches!(damage, Damage::Short { part: DATA, .. }),
            "{damage}"
        );
        let damage = cut(&data, &hash[..hash.len() - 1]);
        assert!(
            matches!(damage, Damage::Short { part: HASH, .. }),
            "{damage}"
        );
        let damage = cut(&data, &[]);
        assert!(matches!(damage, Damage::Superblock(_)), "{damage}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_change_to_a_small_image_is_found(byte in 0usize..3 * BLOCK_SIZE, flip in 1u8..) {
            let (mut data, mut hash, root) = partitions(2);
            // Data, then the only hash block.
            match byte.checked_sub(data.len()) {
                Some(offset) => hash[BLOCK_SIZE + offset] ^= flip,
                None => data[byte] ^= flip,
            }
            prop_assert!(verify(&data[..], &hash[..], Some(&root)).is_err());
        }

        #[test]
        fn hostile_superblocks_never_panic(
            changes in prop::collection::vec((0usize..512, any::<u8>()), 1..6),
        ) {
            let (data, mut hash, root) = partitions(3);
            for (offset, byte) in changes {
                hash[offset] = byte;
            }
            let _ = verify(&data[..], &hash[..], Some(&root));
        }
    }
}
