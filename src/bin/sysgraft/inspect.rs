//! `sysgraft inspect`: what is in an extension image.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::text;

/// Arguments of `sysgraft inspect`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft inspect build/hello.sysext.raw
  sysgraft inspect --json build/hello.sysext.raw | jq -r .rootHash

Shows what the image says of itself and whether its signature is over its root hash. It does not read
every block: `veritysetup verify` does.")]
pub struct Arguments {
    /// Image to look into
    file: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}
