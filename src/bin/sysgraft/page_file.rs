//! Pages for browsers, written to where `--html` says.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sysgraft::image::Output;
use sysgraft::terminal::text;

/// Stores a page and says so.
pub fn write(path: &Path, page: &str) -> Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("{} is no name of a file", path.display()))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let output = Output::create(folder, name)?;
    let stored = output.file().write_all(page.as_bytes());
    stored.with_context(|| format!("cannot write {}", path.display()))?;
    output.commit()?;
    let size = text::size(page.len() as u64);
    writeln!(io::stdout(), "{}  {size}", path.display()).context(text::STDOUT_FAILED)
}
