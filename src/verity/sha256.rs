//! SHA-256 of many salted 4096-byte blocks at once, the work that a dm-verity tree consists of.
//!
//! dm-verity hashes each block on its own, so the blocks need not wait for one another: a kernel
//! here puts several of them side by side ("lanes") into the registers of the CPU and hashes all in
//! the time of one. `lanes` cuts the messages, one file holds the kernel of each instruction set, and
//! OpenSSL does the work where none of them is present.
//!
//! | kernel | lanes | needs |
//! |---|---|---|
//! | AVX-512 | 16 | x86-64 with AVX-512F and AVX-512BW |
//! | SHA-NI | 2 | x86-64 with the SHA extensions |
//! | AVX2 | 8 | x86-64 with AVX2 |
//! | SHA2 | 2 | AArch64 with the SHA-256 instructions |
//! | OpenSSL | 1 | nothing |

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod lanes;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rounds;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

/// The size of a block, in bytes: the only one that this project gives a data or a hash block.
pub const BLOCK_SIZE: usize = 4096;

/// The longest salt, in bytes: the room that the dm-verity superblock has for it
/// (`struct verity_sb` in cryptsetup's lib/verity/verity.c).
pub const MAX_SALT: usize = 256;

/// A way to compute the digests. There is a value only of those that this CPU can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// 16 lanes in AVX-512 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// Two streams through the SHA extensions of x86-64.
    #[cfg(target_arch = "x86_64")]
    ShaNi(sha_ni::ShaNi),
    /// 8 lanes in AVX2 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// Two streams through the SHA-256 instructions of AArch64.
    #[cfg(target_arch = "aarch64")]
    Sha2(aarch64::Sha2),
    /// OpenSSL, one block after another.
    OpenSsl,
}

impl Kernel {
    /// The kernels that this CPU can run, the fastest first.
    pub fn available() -> Vec<Kernel> {
        [
            #[cfg(target_arch = "x86_64")]
            avx512::Avx512::detect().map(Kernel::Avx512),
            #[cfg(target_arch = "x86_64")]
            sha_ni::ShaNi::detect().map(Kernel::ShaNi),
            #[cfg(target_arch = "x86_64")]
            avx2::Avx2::detect().map(Kernel::Avx2),
            #[cfg(target_arch = "aarch64")]
            aarch64::Sha2::detect().map(Kernel::Sha2),
            Some(Kernel::OpenSsl),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The fastest kernel that this CPU can run.
    pub fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| {
            Kernel::available()
                .first()
                .copied()
                .unwrap_or(Kernel::OpenSsl)
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Kernel::ShaNi(_) => "SHA-NI",
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Kernel::Sha2(_) => "SHA2",
            Kernel::OpenSsl => "OpenSSL",
        })
    }
}

/// Writes the SHA-256 of `salt` followed by each 4096-byte block of `blocks` into `digests`.
///
/// # Panics
///
/// If `blocks` is not [`BLOCK_SIZE`] bytes for each of `digests`, or `salt` is longer than
/// [`MAX_SALT`].
pub fn hash_blocks(salt: &[u8], blocks: &[u8], digests: &mut [[u8; 32]]) {
    hash_blocks_with(Kernel::best(), salt, blocks, digests);
}

/// Does the work of [`hash_blocks`] with a kernel of the caller's choice.
///
/// # Panics
///
/// As [`hash_blocks`] does.
pub fn hash_blocks_with(kernel: Kernel, salt: &[u8], blocks: &[u8], digests: &mut [[u8; 32]]) {
    let (blocks, rest) = blocks.as_chunks::<BLOCK_SIZE>();
    assert!(
        rest.is_empty() && blocks.len() == digests.len(),
        "{} whole blocks and {} more bytes cannot fill {} digests",
        blocks.len(),
        rest.len(),
        digests.len()
    );
    assert!(
        salt.len() <= MAX_SALT,
        "a salt of {} bytes is longer than {MAX_SALT}",
        salt.len()
    );
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512(avx512) => lanes::hash(avx512, salt, blocks, digests),
        #[cfg(target_arch = "x86_64")]
        Kernel::ShaNi(sha_ni) => lanes::hash(sha_ni, salt, blocks, digests),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2(avx2) => lanes::hash(avx2, salt, blocks, digests),
        #[cfg(target_arch = "aarch64")]
        Kernel::Sha2(sha2) => lanes::hash(sha2, salt, blocks, digests),
        Kernel::OpenSsl => hash_one_by_one(salt, blocks, digests),
    }
}

fn hash_one_by_one(salt: &[u8], blocks: &[[u8; BLOCK_SIZE]], digests: &mut [[u8; 32]]) {
    for (block, digest) in blocks.iter().zip(digests) {
        let mut hasher = openssl::sha::Sha256::new();
        hasher.update(salt);
        hasher.update(block);
        *digest = hasher.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every kernel, and a word about those that this CPU cannot run.
    #[allow(clippy::print_stderr)]
    fn kernels() -> Vec<Kernel> {
        let kernels = Kernel::available();
        let names: Vec<String> = kernels.iter().map(Kernel::to_string).collect();
        for name in ["AVX-512", "SHA-NI", "AVX2", "SHA2"] {
            if !names.iter().any(|present| present == name) {
                eprintln!("skipped: the {name} kernel, which this CPU cannot run");
            }
        }
        kernels
    }

    /// Blocks of bytes that differ from one another, within a block and between blocks.
    fn noise(blocks: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        (0..blocks * BLOCK_SIZE / 8)
            .flat_map(|_| {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect()
    }

    fn assert_equals_openssl(kernel: Kernel, salt: &[u8], blocks: &[u8]) {
        let mut digests = vec![[0; 32]; blocks.len() / BLOCK_SIZE];
        hash_blocks_with(kernel, salt, blocks, &mut digests);
        for (index, block) in blocks.chunks(BLOCK_SIZE).enumerate() {
            let message = [salt, block].concat();
            assert_eq!(
                digests[index],
                openssl::sha::sha256(&message),
                "{kernel}, salt of {} bytes, block {index} of {}",
                salt.len(),
                digests.len()
            );
        }
    }

    #[test]
    fn every_kernel_agrees_with_openssl_for_every_length_of_salt() {
        let salt: Vec<u8> = (0..=255).collect();
        let blocks = noise(3, 7);
        for kernel in kernels() {
            for length in 0..=MAX_SALT {
                assert_equals_openssl(kernel, &salt[..length], &blocks);
            }
        }
    }

    #[test]
    fn every_kernel_agrees_with_openssl_for_every_number_of_idle_lanes() {
        let blocks = noise(40, 11);
        for kernel in kernels() {
            for count in 0..=40 {
                assert_equals_openssl(kernel, &[0x5a; 32], &blocks[..count * BLOCK_SIZE]);
            }
        }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    /// Puts the one-block and the two-block example of NIST into all lanes.
    fn assert_examples<const LANES: usize>(kernel: impl lanes::Compress<LANES>) {
        for (message, expected) in [
            (
                "abc",
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            let mut padded = message.as_bytes().to_vec();
            padded.push(0x80);
            padded.resize((message.len() + 9).next_multiple_of(64) - 8, 0);
            padded.extend((message.len() as u64 * 8).to_be_bytes());

            let mut state = rounds::INITIAL.map(|word| [word; LANES]);
            kernel.compress(&mut state, [padded.as_chunks().0; LANES]);
            for lane in 0..LANES {
                let digest: String = state
                    .iter()
                    .map(|word| format!("{:08x}", word[lane]))
                    .collect();
                assert_eq!(digest, expected, "lane {lane} of {LANES}");
            }
        }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn every_kernel_computes_the_examples_of_nist() {
        for kernel in kernels() {
            match kernel {
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx512(avx512) => assert_examples(avx512),
                #[cfg(target_arch = "x86_64")]
                Kernel::ShaNi(sha_ni) => assert_examples(sha_ni),
                #[cfg(target_arch = "x86_64")]
                Kernel::Avx2(avx2) => assert_examples(avx2),
                #[cfg(target_arch = "aarch64")]
                Kernel::Sha2(sha2) => assert_examples(sha2),
                Kernel::OpenSsl => {}
            }
        }
    }

    #[test]
    fn the_default_kernel_is_the_first_available() {
        assert_eq!(Some(&Kernel::best()), Kernel::available().first());
        let (salt, blocks) = ([1; 32], noise(5, 3));
        let (mut default, mut openssl) = ([[0; 32]; 5], [[0; 32]; 5]);
        hash_blocks(&salt, &blocks, &mut default);
        hash_blocks_with(Kernel::OpenSsl, &salt, &blocks, &mut openssl);
        assert_eq!(default, openssl);
    }

    #[test]
    #[should_panic(expected = "1 whole blocks and 1 more bytes cannot fill 1 digests")]
    fn a_partial_block_is_refused() {
        hash_blocks(&[], &[0; BLOCK_SIZE + 1], &mut [[0; 32]]);
    }

    #[test]
    #[should_panic(expected = "a salt of 257 bytes is longer than 256")]
    fn a_salt_that_the_superblock_cannot_hold_is_refused() {
        hash_blocks(&[0; 257], &[0; BLOCK_SIZE], &mut [[0; 32]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_kernel_agrees_with_openssl(
            salt in prop::collection::vec(any::<u8>(), 0..=MAX_SALT),
            count in 1_usize..=40,
            misalignment in 0_usize..64,
            seed in any::<u64>(),
        ) {
            let bytes = noise(count + 1, seed);
            let blocks = &bytes[misalignment..][..count * BLOCK_SIZE];
            for kernel in Kernel::available() {
                assert_equals_openssl(kernel, &salt, blocks);
            }
        }
    }
}
