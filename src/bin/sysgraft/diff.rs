//! `sysgraft diff`: how two extension images differ.

mod show;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use sysgraft::inspection::{Difference, Facts, compare, inspect};
use sysgraft::page;
use sysgraft::terminal::{Bar, text};

use crate::page_file;

/// The images differ.
const DIFFERENT: u8 = 1;
/// They could not be compared.
const TROUBLE: u8 = 2;

/// Arguments of `sysgraft diff`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft diff build/k3s_1.29.sysext.raw build/k3s_1.30.sysext.raw
  sysgraft diff --html what-is-new.html old.raw new.raw
  sysgraft diff --json old.raw new.raw | jq -r '.files.added[].path'

Compared are fields of the release file, partitions, signature and signer, compression, and every file:
its content by reading it in both images, its type, mode, owner, extended attributes and time. What only
has another time is counted, and named by --json.

Exit codes, those of diff(1): 0 the images are equal, 1 they differ, 2 they could not be compared, or
wrong usage; 130 and 143 interrupted.")]
pub struct Arguments {
    /// Image to compare with, the older one as a rule
    a: PathBuf,
    /// Image to compare
    b: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page for browsers, complete in itself, to this file
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Compared<'a> {
    equal: bool,
    a: Side<'a>,
    b: Side<'a>,
    #[serde(flatten)]
    difference: &'a Difference,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Side<'a> {
    path: &'a str,
    /// Bytes.
    size: u64,
    root_hash: Option<&'a str>,
}

impl<'a> Side<'a> {
    fn of(facts: &'a Facts) -> Side<'a> {
        Side {
            path: &facts.path,
            size: facts.size,
            root_hash: facts.root_hash.as_deref(),
        }
    }
}

/// Compares two images. Its exit codes are its own.
pub fn run(arguments: &Arguments) -> ExitCode {
    match diff(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DIFFERENT),
        Err(error) => {
            text::error(&error);
            ExitCode::from(TROUBLE)
        }
    }
}

/// Whether the images are equal.
fn diff(arguments: &Arguments) -> Result<bool> {
    let a = inspect(&arguments.a)?;
    let b = inspect(&arguments.b)?;
    let bar = Bar::new("comparing", b.facts.content_bytes());
    let difference = compare(&a, &b, |bytes| bar.advance(bytes))?;
    bar.finish();
    if let Some(file) = &arguments.html {
        page_file::write(file, &page::of_difference(&a.facts, &b.facts, &difference))?;
    } else {
        let printed = print(&a.facts, &b.facts, &difference, arguments.json);
        match printed.context(text::STDOUT_FAILED) {
            Err(error) if text::is_broken_pipe(&error) => {}
            printed => printed?,
        }
    }
    Ok(difference.is_none())
}

fn print(a: &Facts, b: &Facts, difference: &Difference, as_json: bool) -> io::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if as_json {
        let compared = Compared {
            equal: difference.is_none(),
            a: Side::of(a),
            b: Side::of(b),
            difference,
        };
        serde_json::to_writer_pretty(&mut stdout, &compared)?;
        writeln!(stdout)?;
    } else {
        show::show(&mut stdout, a, b, difference)?;
    }
    stdout.flush()
}
