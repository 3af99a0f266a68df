//! Data that is compared with its hash tree as it is read, as dm-verity does it.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::geometry::DIGESTS_PER_BLOCK;
use super::sha256::hash_blocks;
use super::verify::{DATA, Damage, HASH, read_error, read_superblock, require};
use super::{BLOCK_SIZE, BlockDigest, RootHash, Superblock};
use crate::read_at::ReadAt;

/// The data of a data partition, no block of which is given out unless it is intact.
pub struct VerifiedData<D, H> {
    data: D,
    hash: H,
    superblock: Superblock,
    root_hash: RootHash,
    /// Hash blocks that are intact, by their place in the hash partition.
    intact: Mutex<HashMap<u64, Digests>>,
}

type Digests = [BlockDigest; DIGESTS_PER_BLOCK];

impl<D: ReadAt, H: ReadAt> VerifiedData<D, H> {
    /// Takes a data partition and its hash partition. The top of the tree is compared at once.
    ///
    /// # Errors
    /// [`Damage`], but of no block below the top.
    pub fn new(data: D, hash: H, root_hash: RootHash) -> Result<VerifiedData<D, H>, Damage> {
        let superblock = read_superblock(&hash)?;
        require(DATA, data.size(), superblock.geometry.data_size())?;
        require(HASH, hash.size(), superblock.geometry.hash_size())?;
        let verified = VerifiedData {
            data,
            hash,
            superblock,
            root_hash,
            intact: Mutex::default(),
        };
        match verified.superblock.geometry.levels().len().checked_sub(1) {
            Some(top) => verified.digests(top, 0).map(drop)?,
            None => verified.block(0).map(drop)?,
        }
        Ok(verified)
    }

    /// A block of the data, which is intact.
    ///
    /// # Errors
    /// [`Damage`] of this block, or of one above it in the tree.
    pub fn block(&self, block: u64) -> Result<[u8; BLOCK_SIZE], Damage> {
        let expected = if self.superblock.geometry.levels().is_empty() {
            self.root_hash.0
        } else {
            let (parent, place) = parent_of(block);
            self.digests(0, parent)?[place]
        };
        let (bytes, digest) = self.read(DATA, &self.data, block)?;
        if digest != expected {
            return Err(Damage::DataBlock { block });
        }
        Ok(bytes)
    }

    /// What is in a block of a level of the tree, which is intact.
    fn digests(&self, level: usize, index: u64) -> Result<Digests, Damage> {
        let geometry = &self.superblock.geometry;
        let block = geometry.level_start(level) + index;
        let known = || self.intact.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digests) = known().get(&block) {
            return Ok(*digests);
        }
        let (bytes, digest) = self.read(HASH, &self.hash, block)?;
        if level + 1 == geometry.levels().len() {
            let (found, expected) = (RootHash(digest), self.root_hash);
            if found != expected {
                return Err(Damage::RootHash { expected, found });
            }
        } else {
            let (parent, place) = parent_of(index);
            if self.digests(level + 1, parent)?[place] != digest {
                return Err(Damage::HashBlock { block });
            }
        }
        let mut digests = [[0; 32]; DIGESTS_PER_BLOCK];
        digests.as_flattened_mut().copy_from_slice(&bytes);
        known().insert(block, digests);
        Ok(digests)
    }

    fn read(
        &self,
        part: &'static str,
        blocks: &impl ReadAt,
        block: u64,
    ) -> Result<([u8; BLOCK_SIZE], BlockDigest), Damage> {
        let mut bytes = [0; BLOCK_SIZE];
        blocks
            .read_exact_at(&mut bytes, block * BLOCK_SIZE as u64)
            .map_err(|source| read_error(part, block, source))?;
        let mut digest = [[0; 32]];
        hash_blocks(self.superblock.salt.as_bytes(), &bytes, &mut digest);
        Ok((bytes, digest[0]))
    }
}

impl<D: ReadAt, H: ReadAt> ReadAt for VerifiedData<D, H> {
    /// Bytes that the tree is over.
    fn size(&self) -> u64 {
        self.superblock.geometry.data_size()
    }

    /// A damaged block is an error of the kind [`io::ErrorKind::InvalidData`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let damaged = |damage| io::Error::new(io::ErrorKind::InvalidData, damage);
            let block = self.block(offset / BLOCK_SIZE as u64).map_err(damaged)?;
            #[allow(clippy::cast_possible_truncation)] // less than a block
            let part = &block[(offset % BLOCK_SIZE as u64) as usize..];
            let length = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            now.copy_from_slice(&part[..length]);
            rest = later;
            offset += length as u64;
        }
        Ok(())
    }
}

/// The block of the level above that has the digest of a block, and its place in there.
fn parent_of(block: u64) -> (u64, usize) {
    let digests = DIGESTS_PER_BLOCK as u64;
    #[allow(clippy::cast_possible_truncation)] // less than 128
    let place = (block % digests) as usize;
    (block / digests, place)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::verity::{HashTree, Salt};

    fn partitions(blocks: usize) -> (Vec<u8>, Vec<u8>, RootHash) {
        let data: Vec<u8> = (0..251_u8).cycle().take(blocks * BLOCK_SIZE).collect();
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

    fn read(
        data: &[u8],
        hash: &[u8],
        root: RootHash,
        at: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, String> {
        let verified = VerifiedData::new(data, hash, root).map_err(|damage| damage.to_string())?;
        let mut buffer = vec![0; bytes];
        let result = verified.read_exact_at(&mut buffer, at);
        result.map(|()| buffer).map_err(|error| error.to_string())
    }

    #[test]
    fn intact_data_is_read_whatever_its_size() {
        for blocks in [1, 2, 128, 129, 300, 16_500] {
            let (data, hash, root) = partitions(blocks);
            for (at, bytes) in [
                (0, 1),
                (4090, 6),
                (0, data.len()),
                (data.len() - 5000.min(data.len()), 900),
            ] {
                let found = read(&data, &hash, root, at as u64, bytes).unwrap();
                assert!(found == data[at..at + bytes], "{blocks} blocks");
            }
            assert!(read(&data, &hash, root, data.len() as u64, 1).is_err());
        }
    }

    #[test]
    fn only_reads_that_need_what_is_damaged_fail() {
        let (mut data, mut hash, root) = partitions(300);
        data[200 * BLOCK_SIZE] ^= 1;
        assert!(read(&data, &hash, root, 0, 200 * BLOCK_SIZE).is_ok());
        let error = read(&data, &hash, root, 199 * 4096 + 4095, 2).unwrap_err();
        assert!(error.contains("data block 200 is damaged"), "{error}");
        // The superblock, the top, then three blocks of digests.
        hash[4 * BLOCK_SIZE] ^= 1;
        assert!(read(&data, &hash, root, 0, BLOCK_SIZE).is_ok());
        let error = read(&data, &hash, root, 299 * 4096, 1).unwrap_err();
        assert!(error.contains("hash block 4"), "{error}");
        hash[BLOCK_SIZE] ^= 1;
        let error = read(&data, &hash, root, 0, 0).unwrap_err();
        assert!(error.contains("root hash"), "{error}");
        let (_, hash, root) = partitions(300);
        assert!(read(&data[1..], &hash, root, 0, 0).is_err());
        assert!(read(&data, &hash[1..], root, 0, 0).is_err());
    }
}
