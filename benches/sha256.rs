//! The speed of every SHA-256 kernel that this CPU can run, on one mebibyte of blocks that stay in
//! its cache: `cargo bench --bench sha256`.

mod support;

use std::hint::black_box;
use std::time::Instant;

use support::session::Session;
use support::table::Table;
use sysgraft::verity::sha256::{BLOCK_SIZE, Kernel, hash_blocks_with};

const BLOCKS: usize = 256;
const REPEATS: usize = 100;

fn main() {
    let session = Session::start("SHA-256", 0);
    let salt = [0x5a; 32];
    let blocks: Vec<u8> = (0..=250).cycle().take(BLOCKS * BLOCK_SIZE).collect();
    let mut digests = vec![[0; 32]; BLOCKS];
    let mut kernels: Vec<(Kernel, Vec<f64>)> = Kernel::available()
        .into_iter()
        .map(|kernel| (kernel, Vec::new()))
        .collect();
    for _ in 0..session.runs {
        for (kernel, rates) in &mut kernels {
            let start = Instant::now();
            for _ in 0..REPEATS {
                hash_blocks_with(*kernel, &salt, black_box(&blocks), &mut digests);
                black_box(&digests);
            }
            rates.push((REPEATS * blocks.len()) as f64 / 1e6 / start.elapsed().as_secs_f64());
        }
    }
    println!("Blocks of 4 KiB with a salt of 32 bytes, in cache, one core.\n");
    let mut table = Table::new(["", "MB/s", "best MB/s"]);
    for (kernel, mut rates) in kernels {
        rates.sort_by(f64::total_cmp);
        let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
        table.row([
            kernel.to_string(),
            format!("{median:.0}"),
            format!("{best:.0}"),
        ]);
    }
    println!("{table}");
}
