//! Manual pages and shell completions, made from the definition of a command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Generator, Shell};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::image::{Output, OutputError};

/// The section of programs (man(1)).
const SECTION: &str = "1";

/// Why a document could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file could not be made or put into its place.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The manual page of a program, without those of its commands.
pub fn manual_page(command: &Command) -> Vec<u8> {
    let mut command = command.clone();
    command.build();
    render(&command)
}

/// Writes the manual pages of a program and of all its commands into a folder: `sysgraft.1`,
/// `sysgraft-sysext.1`, … Returns where they are.
///
/// # Errors
/// [`DocumentError`].
pub fn write_manual(command: &Command, folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let mut command = command.clone();
    command.build();
    let mut written = Vec::new();
    let mut left = vec![&command];
    while let Some(command) = left.pop() {
        let name = format!("{}.{SECTION}", display_name(command));
        written.push(store(folder, &name, &render(command))?);
        left.extend(command.get_subcommands().filter(|one| !one.is_hide_set()));
    }
    written.sort();
    Ok(written)
}

/// What a shell is to read so that it completes the command line of a program.
pub fn completions(command: &Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command.clone(), name, &mut script);
    script
}

/// Writes the completions for `shells` into a folder, under the names that the shells look for.
///
/// # Errors
/// [`DocumentError`].
pub fn write_completions(
    command: &Command,
    shells: &[Shell],
    folder: &Path,
) -> Result<Vec<PathBuf>, DocumentError> {
    let written = shells.iter().map(|&shell| {
        let name = shell.file_name(command.get_name());
        store(folder, &name, &completions(command, shell))
    });
    written.collect()
}

fn store(folder: &Path, name: &str, content: &[u8]) -> Result<PathBuf, DocumentError> {
    let output = Output::create(folder, name)?;
    let written = output.file().write_all(content);
    written.map_err(|source| DocumentError::Write {
        path: output.target().to_path_buf(),
        source,
    })?;
    Ok(output.commit()?)
}

fn display_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn render(command: &Command) -> Vec<u8> {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = write_page(command, &mut page);
    page
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone())
        .section(SECTION)
        // No date, for equal sources are to give equal pages; an empty one would be no argument at all.
        .date(" ")
        .manual("sysgraft")
        .source(concat!("sysgraft ", env!("CARGO_PKG_VERSION")));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        write_more(&more.to_string(), page)?;
    }
    Ok(())
}

/// Writes what help prints behind everything, line by line: it has examples and tables.
fn write_more(more: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    roff.control("nf", []);
    for line in more.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(page)
}
