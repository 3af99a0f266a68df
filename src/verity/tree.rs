//! The hash tree over the digests of data blocks.

use super::geometry::DIGESTS_PER_BLOCK;
use super::sha256::hash_blocks;
use super::{BLOCK_SIZE, BlockDigest, Geometry, RootHash, Salt};

/// All levels of a hash tree, and its root hash.
#[derive(Debug)]
pub struct HashTree {
    geometry: Geometry,
    root_hash: RootHash,
    /// Whole blocks, the level right above the data first.
    levels: Vec<Vec<u8>>,
}

impl HashTree {
    /// The tree over data blocks with the digests `leaves`; `None` if there are none.
    pub fn from_leaves(salt: &Salt, leaves: Vec<BlockDigest>) -> Option<HashTree> {
        let geometry = Geometry::new(leaves.len() as u64)?;
        let mut levels = Vec::with_capacity(geometry.levels().len());
        let mut digests = leaves;
        while digests.len() > 1 {
            digests.resize(digests.len().next_multiple_of(DIGESTS_PER_BLOCK), [0; 32]);
            let level = digests.into_flattened();
            digests = vec![[0; 32]; level.len() / BLOCK_SIZE];
            hash_blocks(salt.as_bytes(), &level, &mut digests);
            levels.push(level);
        }
        Some(HashTree {
            geometry,
            root_hash: RootHash(*digests.first()?),
            levels,
        })
    }

    /// The digest of the top block, or of the data block where there is only one.
    pub fn root_hash(&self) -> RootHash {
        self.root_hash
    }

    /// Its shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The levels as they follow the superblock on disk: whole blocks, the top one first.
    pub fn levels_on_disk(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().rev().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use openssl::sha::sha256;

    use super::*;

    #[test]
    fn the_root_hash_of_one_block_is_its_digest() {
        let salt = Salt::from([1; 32]);
        let tree = HashTree::from_leaves(&salt, vec![[9; 32]]).unwrap();
        assert_eq!(tree.root_hash(), RootHash([9; 32]));
        assert_eq!(tree.levels_on_disk().count(), 0);
        assert!(HashTree::from_leaves(&salt, Vec::new()).is_none());
    }

    #[test]
    fn levels_are_padded_with_zeros_and_hashed_upwards() {
        let salt = Salt::from([1; 32]);
        let digest = |block: &[u8]| sha256(&[salt.as_bytes(), block].concat());
        let leaves: Vec<BlockDigest> = (0..129u8).map(|n| [n; 32]).collect();
        let tree = HashTree::from_leaves(&salt, leaves.clone()).unwrap();

        let mut bottom = leaves.concat();
        bottom.resize(2 * BLOCK_SIZE, 0);
        let mut top: Vec<u8> = bottom.chunks(BLOCK_SIZE).flat_map(digest).collect();
        top.resize(BLOCK_SIZE, 0);
        assert_eq!(tree.root_hash(), RootHash(digest(&top)));
        let on_disk: Vec<&[u8]> = tree.levels_on_disk().collect();
        assert_eq!(on_disk, [&top[..], &bottom[..]]);
        assert_eq!(tree.geometry().levels(), [2, 1]);
    }
}
