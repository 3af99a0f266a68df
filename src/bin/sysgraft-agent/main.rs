//! Installs and activates signed systemd extensions on a node.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boot;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Installs and activates signed systemd extensions on a node
#[derive(Parser)]
#[command(
    name = "sysgraft-agent",
    version,
    after_help = "Example:\n  sysgraft-agent boot"
)]
struct Arguments {
    /// Work on the node whose root folder this is
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where the node keeps its extensions [default: /var/lib/kairos]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Links what is enabled and good where systemd looks; run at boot by sysgraft-boot.service
    Boot(boot::Arguments),
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Command::Boot(of_boot) => {
            boot::run(&arguments.root, arguments.state_dir.as_deref(), of_boot)
        }
    }
}
