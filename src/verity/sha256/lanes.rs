//! Cuts salted blocks into the 64-byte message blocks that a kernel compresses, lane by lane.
//!
//! The message of a lane is `salt ‖ block ‖ padding`. Its middle lies whole in the caller's block
//! and is read where it is; only the two ends, where salt and padding meet the block, are copied.

use super::rounds::{INITIAL, MESSAGE_BLOCK};
use super::{BLOCK_SIZE, MAX_SALT};
use std::array;

/// The eight words of the hash value of each lane, the lanes of a word side by side.
pub type State<const LANES: usize> = [[u32; LANES]; 8];

/// The same number of message blocks for each lane.
pub type Messages<'a, const LANES: usize> = [&'a [[u8; MESSAGE_BLOCK]]; LANES];

/// A kernel: the compression function of SHA-256, over several lanes.
pub trait Compress<const LANES: usize>: Copy {
    /// Compresses the message blocks of each lane, in order, into the state of that lane.
    fn compress(self, state: &mut State<LANES>, messages: Messages<'_, LANES>);
}

/// Writes the SHA-256 of `salt` and each block into `digests`. Lanes that the last blocks leave idle
/// repeat the work of the first.
pub fn hash<const LANES: usize>(
    kernel: impl Compress<LANES>,
    salt: &[u8],
    blocks: &[[u8; BLOCK_SIZE]],
    digests: &mut [[u8; 32]],
) {
    let cut = Cut::new(salt.len());
    let mut ends = [Ends::new(salt, &cut); LANES];
    for (blocks, digests) in blocks.chunks(LANES).zip(digests.chunks_mut(LANES)) {
        let lanes: [&[u8; BLOCK_SIZE]; LANES] =
            array::from_fn(|lane| blocks.get(lane).unwrap_or(&blocks[0]));
        for (ends, block) in ends.iter_mut().zip(lanes) {
            ends.take_from(block, &cut);
        }

        let mut state = INITIAL.map(|word| [word; LANES]);
        let heads = ends.each_ref().map(|ends| &ends.head[..cut.head_blocks]);
        kernel.compress(&mut state, heads);
        let middles = lanes.map(|block| block[cut.split..].as_chunks().0);
        kernel.compress(&mut state, middles);
        let tails = ends.each_ref().map(|ends| &ends.tail[..cut.tail_blocks]);
        kernel.compress(&mut state, tails);

        for (lane, digest) in digests.iter_mut().enumerate() {
            for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(&state) {
                *bytes = word[lane].to_be_bytes();
            }
        }
    }
}

/// Where the message of a lane is cut; the same for all, since their salt and length are.
struct Cut {
    salt: usize,
    /// The bytes of the block that fill up the last message block with salt in it.
    split: usize,
    /// The bytes of the block that are left for the message blocks with padding in them.
    rest: usize,
    head_blocks: usize,
    tail_blocks: usize,
}

impl Cut {
    fn new(salt: usize) -> Cut {
        let split = salt.next_multiple_of(MESSAGE_BLOCK) - salt;
        let rest = (BLOCK_SIZE - split) % MESSAGE_BLOCK;
        Cut {
            salt,
            split,
            rest,
            head_blocks: (salt + split) / MESSAGE_BLOCK,
            tail_blocks: (rest + PADDING).div_ceil(MESSAGE_BLOCK),
        }
    }
}

/// The least padding, in bytes: the bit that ends the message, and its length in 64 bits.
const PADDING: usize = 1 + 8;

/// The message blocks that the longest salt fills.
const HEAD_BLOCKS: usize = MAX_SALT.div_ceil(MESSAGE_BLOCK);

/// The message blocks of one lane that do not lie whole in the caller's block.
#[derive(Clone, Copy)]
struct Ends {
    /// The salt and the beginning of the block.
    head: [[u8; MESSAGE_BLOCK]; HEAD_BLOCKS],
    /// The end of the block and the padding.
    tail: [[u8; MESSAGE_BLOCK]; 2],
}

impl Ends {
    /// The ends of a message with its salt and its padding, but without its block.
    fn new(salt: &[u8], cut: &Cut) -> Ends {
        let mut head = [[0; MESSAGE_BLOCK]; HEAD_BLOCKS];
        head.as_flattened_mut()[..cut.salt].copy_from_slice(salt);
        let mut tail = [[0; MESSAGE_BLOCK]; 2];
        let padded = tail[..cut.tail_blocks].as_flattened_mut();
        padded[cut.rest] = 0x80;
        let bits = (cut.salt + BLOCK_SIZE) as u64 * 8;
        if let Some(length) = padded.last_chunk_mut() {
            *length = bits.to_be_bytes();
        }
        Ends { head, tail }
    }

    /// Copies in the two ends of `block`.
    fn take_from(&mut self, block: &[u8; BLOCK_SIZE], cut: &Cut) {
        self.head.as_flattened_mut()[cut.salt..][..cut.split].copy_from_slice(&block[..cut.split]);
        self.tail.as_flattened_mut()[..cut.rest].copy_from_slice(&block[BLOCK_SIZE - cut.rest..]);
    }
}
