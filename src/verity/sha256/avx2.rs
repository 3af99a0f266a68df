//! The AVX2 kernel: 8 lanes, one in each 32-bit element of a 256-bit register.
#![allow(unsafe_code)]

use super::lanes::{Compress, Messages, State};
use super::rounds::{K, MESSAGE_BLOCK, define_rounds, sixteen_times};
use std::arch::x86_64::*;

const LANES: usize = 8;

/// Proof that this CPU has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where the CPU has it.
    pub fn detect() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }
}

impl Compress<LANES> for Avx2 {
    fn compress(self, state: &mut State<LANES>, messages: Messages<'_, LANES>) {
        // SAFETY: only `detect` makes this value, and only on a CPU with the feature.
        unsafe { compress(state, messages) }
    }
}

#[target_feature(enable = "avx2")]
fn compress(state: &mut State<LANES>, messages: Messages<'_, LANES>) {
    let mut hash = [_mm256_setzero_si256(); 8];
    for (vector, words) in hash.iter_mut().zip(&*state) {
        *vector = load_words(words);
    }
    for i in 0..messages[0].len() {
        let mut halves = [[_mm256_setzero_si256(); LANES]; 2];
        for (lane, message) in messages.iter().enumerate() {
            [halves[0][lane], halves[1][lane]] = load_message(&message[i]);
        }
        let mut words = [_mm256_setzero_si256(); 16];
        words[..8].copy_from_slice(&transpose(halves[0]));
        words[8..].copy_from_slice(&transpose(halves[1]));
        let after = rounds(hash, words);
        for (vector, after) in hash.iter_mut().zip(after) {
            *vector = add(*vector, after);
        }
    }
    for (words, vector) in state.iter_mut().zip(hash) {
        store_words(words, vector);
    }
}

define_rounds!("avx2", __m256i);

/// From a row for each lane, with 8 of its words, to a row for each word, with its 8 lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; LANES]) -> [__m256i; 8] {
    let mut pairs = rows;
    for i in (0..8).step_by(2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // In half q of fours[i + j]: word 4q + j of lanes i to i + 3.
    let mut fours = pairs;
    for i in (0..8).step_by(4) {
        fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut words = fours;
    for j in 0..4 {
        words[j] = _mm256_permute2x128_si256::<0x20>(fours[j], fours[4 + j]);
        words[4 + j] = _mm256_permute2x128_si256::<0x31>(fours[j], fours[4 + j]);
    }
    words
}

/// The 16 big-endian words of a message block, in two halves.
#[inline]
#[target_feature(enable = "avx2")]
fn load_message(message: &[u8; MESSAGE_BLOCK]) -> [__m256i; 2] {
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi32(
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
    ));
    let halves: *const __m256i = message.as_ptr().cast();
    // SAFETY: the reference covers the 64 bytes that are read, and they need no alignment.
    let (first, second) = unsafe {
        (
            _mm256_loadu_si256(halves),
            _mm256_loadu_si256(halves.add(1)),
        )
    };
    [
        _mm256_shuffle_epi8(first, swap),
        _mm256_shuffle_epi8(second, swap),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; LANES]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that are read, and they need no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_words(words: &mut [u32; LANES], vector: __m256i) {
    // SAFETY: the reference covers the 32 bytes that are written, and they need no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(x: __m256i, y: __m256i) -> __m256i {
    _mm256_add_epi32(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

/// AVX2 has no rotation: `RIGHT` and `LEFT` add up to 32.
#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
    const { assert!(RIGHT + LEFT == 32) };
    _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(y, z), x), z)
}

/// In this form because y ^ z is the x ^ y of the round before.
#[inline]
#[target_feature(enable = "avx2")]
fn majority(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    let differ = _mm256_and_si256(_mm256_xor_si256(x, y), _mm256_xor_si256(y, z));
    _mm256_xor_si256(differ, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma_0(x: __m256i) -> __m256i {
    xor(rotate::<2, 30>(x), rotate::<13, 19>(x), rotate::<22, 10>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma_1(x: __m256i) -> __m256i {
    xor(rotate::<6, 26>(x), rotate::<11, 21>(x), rotate::<25, 7>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma_0(x: __m256i) -> __m256i {
    xor(
        rotate::<7, 25>(x),
        rotate::<18, 14>(x),
        _mm256_srli_epi32::<3>(x),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma_1(x: __m256i) -> __m256i {
    xor(
        rotate::<17, 15>(x),
        rotate::<19, 13>(x),
        _mm256_srli_epi32::<10>(x),
    )
}
