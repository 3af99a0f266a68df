//! How many hash blocks a hash tree has, and where they lie.

use super::{BLOCK_SIZE, BlockDigest};

/// Digests that fit into a hash block.
pub(super) const DIGESTS_PER_BLOCK: usize = BLOCK_SIZE / size_of::<BlockDigest>();

/// The kernel's offsets in a device are signed 64-bit numbers of bytes (`loff_t`).
const MAX_DATA_BLOCKS: u64 = i64::MAX as u64 / BLOCK_SIZE as u64;

/// The shape of the hash tree over a number of data blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    data_blocks: u64,
    /// Hash blocks of every level, the one right above the data first.
    levels: Vec<u64>,
}

impl Geometry {
    /// The tree over `data_blocks` data blocks; `None` for no block, or for more than a device can
    /// have.
    pub fn new(data_blocks: u64) -> Option<Geometry> {
        if data_blocks == 0 || data_blocks > MAX_DATA_BLOCKS {
            return None;
        }
        let mut levels = Vec::new();
        let mut blocks = data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(DIGESTS_PER_BLOCK as u64);
            levels.push(blocks);
        }
        Some(Geometry {
            data_blocks,
            levels,
        })
    }

    /// Data blocks, at least one.
    pub fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// Bytes of all data blocks.
    pub fn data_size(&self) -> u64 {
        self.data_blocks * BLOCK_SIZE as u64
    }

    /// Hash blocks of every level, the one right above the data first. Empty for a single data
    /// block, whose digest is the root hash.
    pub fn levels(&self) -> &[u64] {
        &self.levels
    }

    /// Hash blocks of all levels.
    pub fn tree_blocks(&self) -> u64 {
        self.levels.iter().sum()
    }

    /// Bytes of superblock and tree: the size of the hash partition.
    pub fn hash_size(&self) -> u64 {
        (1 + self.tree_blocks()) * BLOCK_SIZE as u64
    }

    /// Where `level` begins, in blocks from the superblock. The top level comes first.
    pub fn level_start(&self, level: usize) -> u64 {
        1 + self.levels.iter().skip(level + 1).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on images of systemd-repart 257, which `veritysetup verify` accepts.
    #[test]
    fn tree_sizes_equal_those_of_cryptsetup() {
        for (data, tree) in [
            (1, 0),
            (126, 1),
            (128, 1),
            (129, 3),
            (2269, 19),
            (16383, 129),
            (16384, 129),
            (16385, 132),
        ] {
            let geometry = Geometry::new(data).unwrap();
            assert_eq!(geometry.tree_blocks(), tree, "{data} data blocks");
            assert_eq!(geometry.hash_size(), (1 + tree) * 4096);
        }
    }

    #[test]
    fn levels_lie_behind_the_superblock_from_the_top_down() {
        let geometry = Geometry::new(16385).unwrap();
        assert_eq!(geometry.levels(), [129, 2, 1]);
        assert_eq!(geometry.level_start(2), 1);
        assert_eq!(geometry.level_start(1), 2);
        assert_eq!(geometry.level_start(0), 4);
    }

    #[test]
    fn no_size_overflows() {
        assert_eq!(Geometry::new(0), None);
        assert_eq!(Geometry::new(u64::MAX), None);
        assert_eq!(Geometry::new(MAX_DATA_BLOCKS + 1), None);
        let largest = Geometry::new(MAX_DATA_BLOCKS).unwrap();
        assert!(largest.hash_size() > largest.data_size() / 128);
    }
}
