//! Installs and activates signed systemd extensions on a node.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;

/// Installs and activates signed systemd extensions on a node
///
/// The node side comes with a later release; this one only answers --version and --help.
#[derive(Parser)]
#[command(
    name = "sysgraft-agent",
    version,
    after_help = "Example:\n  sysgraft-agent --version"
)]
struct Arguments {}

fn main() {
    let Arguments {} = Arguments::parse();
}
