//! `sysgraft completions`: what shells complete.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;
use sysgraft::terminal::{documents, text};

/// Arguments of `sysgraft completions`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft completions bash >~/.local/share/bash-completion/completions/sysgraft
  sysgraft completions zsh >\"${fpath[1]}/_sysgraft\"
  sysgraft completions fish >~/.config/fish/completions/sysgraft.fish")]
pub struct Arguments {
    /// Which shell
    shell: Shell,
}

/// Prints the completions of a shell.
pub fn run(arguments: &Arguments, command: &clap::Command) -> Result<()> {
    let script = documents::completions(command, arguments.shell);
    let written = io::stdout().write_all(&script);
    written.context(text::STDOUT_FAILED)
}
