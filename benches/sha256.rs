//! The speed of every SHA-256 kernel that this CPU can run, on one mebibyte of blocks that stay in
//! its cache: `cargo bench --bench sha256`.
use std::hint::black_box;
use std::time::Instant;
use sysgraft::verity::sha256::{BLOCK_SIZE, Kernel, hash_blocks_with};

const BLOCKS: usize = 256;
const ROUNDS: usize = 15;
const REPEATS: usize = 40;

fn main() {
    let salt = [0x5a; 32];
    let blocks: Vec<u8> = (0..=250).cycle().take(BLOCKS * BLOCK_SIZE).collect();
    let mut digests = vec![[0; 32]; BLOCKS];
    for kernel in Kernel::available() {
        let mut rates: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..REPEATS {
                    hash_blocks_with(kernel, &salt, black_box(&blocks), &mut digests);
                    black_box(&digests);
                }
                (REPEATS * blocks.len()) as f64 / 1e6 / start.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "{:8} {:5.0} MB/s median, {:5.0} best",
            kernel.to_string(),
            rates[ROUNDS / 2],
            rates[ROUNDS - 1]
        );
    }
}
