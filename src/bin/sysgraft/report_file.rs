//! `--report`: what became of every entry of the layers, as JSON.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use sysgraft::build::Built;
use sysgraft::image::Output;
use sysgraft::source::{Image, NumberedLayer};
use sysgraft::tree::{PathList, Report};

use crate::layers;
use crate::outcome::{kept, unused};

/// The report of a build.
pub fn facts(built: &Built, image: &Image, layers: &[NumberedLayer<'_>]) -> Value {
    let report = &built.report;
    let layers: Vec<Value> = layers.iter().map(layers::facts).collect();
    json!({
        "image": image.location,
        "imageDigest": image.digest.map(|digest| digest.to_string()),
        "layers": layers,
        "output": built.path,
        "kept": kept(report),
        "dropped": dropped(report),
        "setuid": paths(&report.setuid),
        "capabilities": paths(&report.capabilities),
        "strippedPrivileges": paths(&report.stripped),
        "devices": paths(&report.devices),
        "brokenLinks": paths(&report.broken_links),
        "removedXattrs": {"overlay": report.overlay_xattrs, "unknown": report.unknown_xattrs},
        "unused": report.unused.iter().map(unused).collect::<Vec<String>>(),
    })
}

/// Where the report `path` will lie, its folder resolved.
///
/// # Errors
/// It could not be written there.
pub fn place(path: &Path) -> Result<PathBuf> {
    let place = || -> Result<PathBuf> {
        let (folder, name) = split(path)?;
        let is_special = |found: fs::Metadata| !found.is_file();
        ensure!(
            !fs::metadata(path).is_ok_and(is_special),
            "what is there is no file"
        );
        let folder = folder.canonicalize();
        Ok(folder.context("its folder cannot be found")?.join(name))
    };
    place().with_context(|| format!("cannot write the report {}", path.display()))
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let name = path.file_name().context("it has no name")?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    Ok((folder, name))
}

/// Writes the report of one build, or a list of them, to `path`, in the place of whatever is there.
pub fn write(path: &Path, facts: &Value) -> Result<()> {
    store(path, facts).with_context(|| format!("cannot write the report {}", path.display()))
}

fn store(path: &Path, facts: &Value) -> Result<()> {
    let (folder, name) = split(path)?;
    let output = Output::create(folder, name)?;
    let mut file = io::BufWriter::new(output.file());
    writeln!(file, "{facts:#}")?;
    file.flush()?;
    drop(file);
    output.commit()?;
    Ok(())
}

/// For each cause how many entries there are and what they are called, as far as names were kept.
fn dropped(report: &Report) -> Value {
    let dropped = &report.dropped;
    let by_cause = dropped.by_cause().iter().map(|(&cause, count)| {
        let named = dropped.named().iter().filter(|entry| entry.cause == cause);
        let paths: Vec<String> = named.map(|entry| entry.path.to_string()).collect();
        let facts = json!({"because": cause.to_string(), "count": count, "paths": paths});
        (cause.key().to_owned(), facts)
    });
    json!({
        "total": dropped.total(),
        "unnamed": dropped.total().saturating_sub(dropped.named().len() as u64),
        "byCause": by_cause.collect::<Map<String, Value>>(),
    })
}

fn paths(list: &PathList) -> Value {
    let paths: Vec<String> = list.named().iter().map(ToString::to_string).collect();
    json!({"total": list.total(), "paths": paths})
}
