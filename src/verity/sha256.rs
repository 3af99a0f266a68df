//! Salted SHA-256 of many blocks.

use openssl::sha::Sha256;

use super::{BLOCK_SIZE, BlockDigest};

/// Computes SHA-256 of `salt` and block for each block of `blocks`.
///
/// # Panics
/// If `blocks` is not `digests.len()` blocks long.
pub fn hash_blocks(salt: &[u8], blocks: &[u8], digests: &mut [BlockDigest]) {
    assert_eq!(blocks.len(), digests.len() * BLOCK_SIZE);
    let mut salted = Sha256::new();
    salted.update(salt);
    for (block, digest) in blocks.chunks_exact(BLOCK_SIZE).zip(digests) {
        let mut hasher = salted.clone();
        hasher.update(block);
        *digest = hasher.finish();
    }
}
