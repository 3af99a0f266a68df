//! The AVX-512 kernel: 16 lanes, one in each 32-bit element of a 512-bit register.
#![allow(unsafe_code)]

use super::lanes::{Compress, Messages, State};
use super::rounds::{K, MESSAGE_BLOCK, define_rounds, sixteen_times};
use std::arch::x86_64::*;

const LANES: usize = 16;

/// Proof that this CPU has AVX-512F and AVX-512BW.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, where the CPU has them.
    pub fn detect() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Avx512(()))
    }
}

impl Compress<LANES> for Avx512 {
    fn compress(self, state: &mut State<LANES>, messages: Messages<'_, LANES>) {
        // SAFETY: only `detect` makes this value, and only on a CPU with the features.
        unsafe { compress(state, messages) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress(state: &mut State<LANES>, messages: Messages<'_, LANES>) {
    let mut hash = [_mm512_setzero_si512(); 8];
    for (vector, words) in hash.iter_mut().zip(&*state) {
        *vector = load_words(words);
    }
    for i in 0..messages[0].len() {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, message) in rows.iter_mut().zip(messages) {
            *row = load_message(&message[i]);
        }
        let after = rounds(hash, transpose(rows));
        for (vector, after) in hash.iter_mut().zip(after) {
            *vector = add(*vector, after);
        }
    }
    for (words, vector) in state.iter_mut().zip(hash) {
        store_words(words, vector);
    }
}

define_rounds!("avx512f,avx512bw", __m512i);

/// From a row for each lane, with its 16 words, to a row for each word, with its 16 lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; LANES]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // In quarter q of fours[i + j]: word 4q + j of lanes i to i + 3.
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut words = fours;
    for j in 0..4 {
        let low_0_1 = _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[j], fours[4 + j]);
        let high_0_1 = _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[j], fours[4 + j]);
        let low_2_3 = _mm512_shuffle_i32x4::<0b01_00_01_00>(fours[8 + j], fours[12 + j]);
        let high_2_3 = _mm512_shuffle_i32x4::<0b11_10_11_10>(fours[8 + j], fours[12 + j]);
        words[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low_0_1, low_2_3);
        words[4 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low_0_1, low_2_3);
        words[8 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high_0_1, high_2_3);
        words[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high_0_1, high_2_3);
    }
    words
}

/// The 16 big-endian words of a message block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_message(message: &[u8; MESSAGE_BLOCK]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes that are read, and they need no alignment.
    let bytes = unsafe { _mm512_loadu_si512(message.as_ptr().cast()) };
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(bytes, swap)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; LANES]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes that are read, and they need no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_words(words: &mut [u32; LANES], vector: __m512i) {
    // SAFETY: the reference covers the 64 bytes that are written, and they need no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi32(x, y)
}

// The immediate of the ternary logic is the truth table of the function: bit 4x + 2y + z is its value
// for the bits x, y, z.

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1001_0110>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1100_1010>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0b1110_1000>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_0(x: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi32::<2>(x),
        _mm512_ror_epi32::<13>(x),
        _mm512_ror_epi32::<22>(x),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma_1(x: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi32::<6>(x),
        _mm512_ror_epi32::<11>(x),
        _mm512_ror_epi32::<25>(x),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_0(x: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi32::<7>(x),
        _mm512_ror_epi32::<18>(x),
        _mm512_srli_epi32::<3>(x),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma_1(x: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi32::<17>(x),
        _mm512_ror_epi32::<19>(x),
        _mm512_srli_epi32::<10>(x),
    )
}
