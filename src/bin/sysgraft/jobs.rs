//! `--jobs`: how many threads work.

use std::num::NonZeroUsize;

use anyhow::{Result, ensure};

/// More threads cannot be fed by one image, and each needs memory.
const MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The value of `--jobs`.
pub fn parse(text: &str) -> Result<NonZeroUsize> {
    let jobs: NonZeroUsize = text.parse()?;
    ensure!(jobs <= MAX, "there can be {MAX} at most");
    Ok(jobs)
}

/// What is used without `--jobs`.
pub fn all_cores() -> NonZeroUsize {
    std::thread::available_parallelism()
        .unwrap_or(NonZeroUsize::MIN)
        .min(MAX)
}
