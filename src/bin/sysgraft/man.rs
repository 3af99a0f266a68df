//! `sysgraft man`: manual pages.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use sysgraft::terminal::{documents, text};

/// Arguments of `sysgraft man`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft man | man -l -
  sysgraft man /usr/local/share/man/man1")]
pub struct Arguments {
    /// Existing folder for the pages of all commands: sysgraft.1, sysgraft-sysext.1, … [default: the
    /// page of sysgraft alone goes to standard output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes manual pages.
pub fn run(arguments: &Arguments, command: &clap::Command) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let Some(folder) = &arguments.folder else {
        let page = documents::manual_page(command);
        return stdout.write_all(&page).context(text::STDOUT_FAILED);
    };
    for path in documents::write_manual(command, folder)? {
        writeln!(stdout, "{}", path.display()).context(text::STDOUT_FAILED)?;
    }
    Ok(())
}
