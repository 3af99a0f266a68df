//! The SHA-NI kernel: two streams, so that the rounds of one fill the time in which those of the
//! other wait for their results.
#![allow(unsafe_code)]

use super::lanes::{Compress, Messages, State};
use super::rounds::{K, MESSAGE_BLOCK, sixteen_times};
use std::arch::x86_64::*;

const LANES: usize = 2;

/// Proof that this CPU has the SHA extensions, SSSE3 and SSE4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShaNi(());

impl ShaNi {
    /// The proof, where the CPU has them.
    pub fn detect() -> Option<ShaNi> {
        (is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1"))
        .then_some(ShaNi(()))
    }
}

impl Compress<LANES> for ShaNi {
    fn compress(self, state: &mut State<LANES>, messages: Messages<'_, LANES>) {
        // SAFETY: only `detect` makes this value, and only on a CPU with the features.
        unsafe { compress(state, messages) }
    }
}

/// The state of one stream, in the order that the instructions want: the first letter in the highest
/// element.
#[derive(Clone, Copy)]
struct Hash {
    abef: __m128i,
    cdgh: __m128i,
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress(state: &mut State<LANES>, messages: Messages<'_, LANES>) {
    let mut hashes = [load_state(state, 0), load_state(state, 1)];
    for (first, second) in messages[0].iter().zip(messages[1]) {
        let after = rounds(hashes, [load_message(first), load_message(second)]);
        for (hash, after) in hashes.iter_mut().zip(after) {
            hash.abef = _mm_add_epi32(hash.abef, after.abef);
            hash.cdgh = _mm_add_epi32(hash.cdgh, after.cdgh);
        }
    }
    for (lane, hash) in hashes.into_iter().enumerate() {
        store_state(state, lane, hash);
    }
}

/// The 64 rounds, in 16 steps of four.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn rounds(mut hashes: [Hash; LANES], mut w: [[__m128i; 4]; LANES]) -> [Hash; LANES] {
    macro_rules! four_rounds {
        ($i:literal) => {
            let k = load_constants(&K.as_chunks().0[$i]);
            for (hash, w) in hashes.iter_mut().zip(&mut w) {
                let wk = _mm_add_epi32(w[$i % 4], k);
                hash.cdgh = _mm_sha256rnds2_epu32(hash.cdgh, hash.abef, wk);
                let wk = _mm_shuffle_epi32::<0b11_10>(wk);
                hash.abef = _mm_sha256rnds2_epu32(hash.abef, hash.cdgh, wk);
                if $i < 12 {
                    let [w0, w1, w2, w3] = [$i, $i + 1, $i + 2, $i + 3].map(|i| w[i % 4]);
                    let older = _mm_sha256msg1_epu32(w0, w1);
                    let recent = _mm_add_epi32(older, _mm_alignr_epi8::<4>(w3, w2));
                    w[$i % 4] = _mm_sha256msg2_epu32(recent, w3);
                }
            }
        };
    }
    sixteen_times!(four_rounds);
    hashes
}

/// The 16 big-endian words of a message block.
#[inline]
#[target_feature(enable = "ssse3")]
fn load_message(message: &[u8; MESSAGE_BLOCK]) -> [__m128i; 4] {
    let swap = _mm_set_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mut words = [_mm_setzero_si128(); 4];
    for (vector, bytes) in words.iter_mut().zip(message.as_chunks::<16>().0) {
        // SAFETY: the reference covers the 16 bytes that are read, and they need no alignment.
        let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        *vector = _mm_shuffle_epi8(bytes, swap);
    }
    words
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_constants(constants: &[u32; 4]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that are read, and they need no alignment.
    unsafe { _mm_loadu_si128(constants.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_state(state: &State<LANES>, lane: usize) -> Hash {
    let [a, b, c, d, e, f, g, h] = state.map(|word| word[lane].cast_signed());
    Hash {
        abef: _mm_set_epi32(a, b, e, f),
        cdgh: _mm_set_epi32(c, d, g, h),
    }
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn store_state(state: &mut State<LANES>, lane: usize, Hash { abef, cdgh }: Hash) {
    let words = [
        _mm_extract_epi32::<3>(abef),
        _mm_extract_epi32::<2>(abef),
        _mm_extract_epi32::<3>(cdgh),
        _mm_extract_epi32::<2>(cdgh),
        _mm_extract_epi32::<1>(abef),
        _mm_extract_epi32::<0>(abef),
        _mm_extract_epi32::<1>(cdgh),
        _mm_extract_epi32::<0>(cdgh),
    ];
    for (lanes, word) in state.iter_mut().zip(words) {
        lanes[lane] = word.cast_unsigned();
    }
}
