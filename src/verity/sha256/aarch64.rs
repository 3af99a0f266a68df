//! The AArch64 kernel: the SHA-256 instructions, on two streams, so that the rounds of one fill the
//! time in which those of the other wait for their results.
#![allow(unsafe_code)]

use super::lanes::{Compress, Messages, State};
use super::rounds::{K, MESSAGE_BLOCK, sixteen_times};
use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

const LANES: usize = 2;

/// Proof that this CPU has the SHA-256 instructions (FEAT_SHA256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha2(());

impl Sha2 {
    /// The proof, where the CPU has them.
    pub fn detect() -> Option<Sha2> {
        (is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("sha2"))
            .then_some(Sha2(()))
    }
}

impl Compress<LANES> for Sha2 {
    fn compress(self, state: &mut State<LANES>, messages: Messages<'_, LANES>) {
        // SAFETY: only `detect` makes this value, and only on a CPU with the features.
        unsafe { compress(state, messages) }
    }
}

/// The state of one stream: the first letter in the lowest element.
#[derive(Clone, Copy)]
struct Hash {
    abcd: uint32x4_t,
    efgh: uint32x4_t,
}

#[target_feature(enable = "neon,sha2")]
fn compress(state: &mut State<LANES>, messages: Messages<'_, LANES>) {
    let mut hashes = [load_state(state, 0), load_state(state, 1)];
    for (first, second) in messages[0].iter().zip(messages[1]) {
        let after = rounds(hashes, [load_message(first), load_message(second)]);
        for (hash, after) in hashes.iter_mut().zip(after) {
            hash.abcd = vaddq_u32(hash.abcd, after.abcd);
            hash.efgh = vaddq_u32(hash.efgh, after.efgh);
        }
    }
    for (lane, hash) in hashes.into_iter().enumerate() {
        store_state(state, lane, hash);
    }
}

/// The 64 rounds, in 16 steps of four.
#[inline]
#[target_feature(enable = "neon,sha2")]
fn rounds(mut hashes: [Hash; LANES], mut w: [[uint32x4_t; 4]; LANES]) -> [Hash; LANES] {
    macro_rules! four_rounds {
        ($i:literal) => {
            let k = load_words(&K.as_chunks().0[$i]);
            for (hash, w) in hashes.iter_mut().zip(&mut w) {
                let wk = vaddq_u32(w[$i % 4], k);
                let Hash { abcd, efgh } = *hash;
                hash.abcd = vsha256hq_u32(abcd, efgh, wk);
                hash.efgh = vsha256h2q_u32(efgh, abcd, wk);
                if $i < 12 {
                    let [w0, w1, w2, w3] = [$i, $i + 1, $i + 2, $i + 3].map(|i| w[i % 4]);
                    w[$i % 4] = vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3);
                }
            }
        };
    }
    sixteen_times!(four_rounds);
    hashes
}

/// The 16 big-endian words of a message block.
#[inline]
#[target_feature(enable = "neon")]
fn load_message(message: &[u8; MESSAGE_BLOCK]) -> [uint32x4_t; 4] {
    let mut words = [vdupq_n_u32(0); 4];
    for (vector, bytes) in words.iter_mut().zip(message.as_chunks::<16>().0) {
        // SAFETY: the reference covers the 16 bytes that are read, and they need no alignment.
        let bytes = unsafe { vld1q_u8(bytes.as_ptr()) };
        *vector = vreinterpretq_u32_u8(vrev32q_u8(bytes));
    }
    words
}

#[inline]
#[target_feature(enable = "neon")]
fn load_words(words: &[u32; 4]) -> uint32x4_t {
    // SAFETY: the reference covers the 16 bytes that are read.
    unsafe { vld1q_u32(words.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_state(state: &State<LANES>, lane: usize) -> Hash {
    let [a, b, c, d, e, f, g, h] = state.map(|word| word[lane]);
    Hash {
        abcd: load_words(&[a, b, c, d]),
        efgh: load_words(&[e, f, g, h]),
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_state(state: &mut State<LANES>, lane: usize, Hash { abcd, efgh }: Hash) {
    let mut words = [[0; 4]; 2];
    for (words, vector) in words.iter_mut().zip([abcd, efgh]) {
        // SAFETY: the reference covers the 16 bytes that are written.
        unsafe { vst1q_u32(words.as_mut_ptr(), vector) }
    }
    for (lanes, word) in state.iter_mut().zip(words.as_flattened()) {
        lanes[lane] = *word;
    }
}
