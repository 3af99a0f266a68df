//! Packing inodes, with what lies behind them, into blocks.

use super::BLOCK_SIZE;
use super::format::{Nid, SLOT_SIZE};

/// Slots of a block.
const SLOTS: usize = BLOCK_SIZE / SLOT_SIZE;

/// Blocks of metadata on their way into the file system. They are filled side by side, and their
/// place in the file system is only known when they are written.
#[derive(Debug)]
pub(super) struct MetadataBatch {
    bytes: Vec<u8>,
    /// The blocks that have so many free slots, at their ends.
    by_free_slots: [Vec<usize>; SLOTS],
    /// Bit N is set if there is a block with N free slots.
    free: u128,
}

/// Distance in slots from the start of a [`MetadataBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub u64);

impl Slot {
    /// The number that the inode at this slot has if its batch is written at `block`, and inodes are
    /// numbered from block 0.
    pub fn nid(self, block: u64) -> Nid {
        Nid(block * SLOTS as u64 + self.0)
    }
}

impl Nid {
    /// The block in which the inode starts, and where in it, if inodes are numbered from block 0.
    pub(super) fn position(self) -> (u64, usize) {
        #[allow(clippy::cast_possible_truncation)] // less than 128
        let slot = (self.0 % SLOTS as u64) as usize;
        (self.0 / SLOTS as u64, slot * SLOT_SIZE)
    }
}

impl MetadataBatch {
    pub fn new() -> MetadataBatch {
        MetadataBatch {
            bytes: Vec::new(),
            by_free_slots: [const { Vec::new() }; SLOTS],
            free: 0,
        }
    }

    /// Finds a place for `size` bytes, 1 at least, in the block that they fill best. What is larger
    /// than a block starts one; what is not does not cross into another.
    pub fn reserve(&mut self, size: usize) -> Slot {
        let slots = size.div_ceil(SLOT_SIZE);
        let (block, used) = self.take_block_with(slots).unwrap_or_else(|| {
            let block = self.bytes.len() / BLOCK_SIZE;
            let blocks = size.div_ceil(BLOCK_SIZE);
            self.bytes.resize(self.bytes.len() + blocks * BLOCK_SIZE, 0);
            (block, 0)
        });
        let end = used + slots;
        let free = end.next_multiple_of(SLOTS) - end;
        if free > 0 {
            self.by_free_slots[free].push(block + end / SLOTS);
            self.free |= 1 << free;
        }
        Slot((block * SLOTS + used) as u64)
    }

    /// The block with the fewest free slots among those with at least `slots`, and how many of its
    /// slots are in use.
    fn take_block_with(&mut self, slots: usize) -> Option<(usize, usize)> {
        let mask = u32::try_from(slots)
            .ok()
            .and_then(|slots| u128::MAX.checked_shl(slots))?;
        let free = (self.free & mask).trailing_zeros() as usize;
        let blocks = self.by_free_slots.get_mut(free)?;
        let block = blocks.pop()?;
        if blocks.is_empty() {
            self.free &= !(1 << free);
        }
        Some((block, SLOTS - free))
    }

    /// All bytes from `slot` on.
    pub fn bytes_at(&mut self, slot: Slot) -> &mut [u8] {
        #[allow(clippy::cast_possible_truncation)] // it lies in this memory
        let offset = slot.0 as usize * SLOT_SIZE;
        &mut self.bytes[offset..]
    }

    /// All blocks so far, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all blocks, but keeps their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.by_free_slots.iter_mut().for_each(Vec::clear);
        self.free = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots_of(batch: &mut MetadataBatch, sizes: &[usize]) -> Vec<u64> {
        sizes.iter().map(|&size| batch.reserve(size).0).collect()
    }

    #[test]
    fn the_fullest_block_that_fits_is_chosen() {
        let mut batch = MetadataBatch::new();
        let sizes = [3000, 2000, 3500, 500, 1000, 2000, 4096];
        assert_eq!(
            slots_of(&mut batch, &sizes),
            [0, 128, 256, 256 + 110, 94, 128 + 63, 384]
        );
    }

    #[test]
    fn what_follows_something_large_uses_the_rest_of_its_last_block() {
        let mut batch = MetadataBatch::new();
        assert_eq!(
            slots_of(&mut batch, &[32, 10_000, 2000]),
            [0, 128, 128 + 313]
        );
        assert_eq!(batch.bytes().len(), 4 * BLOCK_SIZE);
    }

    proptest! {
        #[test]
        fn nothing_overlaps_or_crosses_blocks_without_need(
            sizes in prop::collection::vec(1_usize..6000, 1..300),
        ) {
            let mut batch = MetadataBatch::new();
            let mut taken = std::collections::BTreeMap::new();
            for size in sizes {
                let start = usize::try_from(batch.reserve(size).0).unwrap() * SLOT_SIZE;
                if size > BLOCK_SIZE {
                    prop_assert_eq!(start % BLOCK_SIZE, 0);
                } else {
                    prop_assert!(start % BLOCK_SIZE + size <= BLOCK_SIZE);
                }
                prop_assert!(taken.insert(start, start + size).is_none());
            }
            let ends = taken.values();
            for (end, next) in ends.zip(taken.keys().skip(1)) {
                prop_assert!(end <= next);
            }
            prop_assert!(taken.values().all(|&end| end <= batch.bytes().len()));
        }
    }
}
