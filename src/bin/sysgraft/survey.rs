//! Looking into layers that do not become part of anything, only to tell what they have.

use std::sync::Arc;

use anyhow::{Context, Result};
use sysgraft::build::{BuildError, Problem};
use sysgraft::extension::ExtensionKind;
use sysgraft::lint::PackError;
use sysgraft::source::{Image, NumberedLayer, ranges};
use sysgraft::terminal::Bar;
use sysgraft::terminal::text::log;
use sysgraft::tree::{self, Cause, Census, DroppedEntries, ReadProgress, TreeError};

/// A bar on a terminal, and no log lines.
pub struct Quiet(pub Bar);

impl ReadProgress for Quiet {
    fn read(&self, bytes: u64) {
        self.0.advance(bytes);
    }

    fn rereading(&self, size: Option<u64>) {
        self.0.extend(size);
    }
}

/// Counts the files of each of `layers`.
pub fn count(layers: &[NumberedLayer<'_>]) -> Result<Vec<Census>> {
    let size = layers.iter().map(|numbered| numbered.layer.size).sum();
    let bar = Bar::with_optional_size("Reading layers", size);
    let progress: Arc<dyn ReadProgress> = Arc::new(Quiet(bar));
    for numbered in layers {
        numbered.layer.content.announce();
    }
    layers
        .iter()
        .map(|numbered| {
            let mut entries = tree::open_entries(numbered.layer, &progress)?;
            Ok(Census::of(entries.as_mut())?)
        })
        .zip(layers)
        .map(|(census, numbered): (Result<Census>, _)| {
            census.with_context(|| format!("cannot count the files of layer {}", numbered.number))
        })
        .collect()
}

/// If `error` is that the chosen layers have nothing to keep, says where there is something, and
/// which flag takes it.
pub fn advise(
    error: anyhow::Error,
    kind: ExtensionKind,
    image: &Image,
    chosen: &[NumberedLayer<'_>],
) -> anyhow::Error {
    let advice = match tree_error(&error) {
        Some(TreeError::Empty { kept, dropped }) if !is_filtered(dropped) => {
            let mut advice = elsewhere(kind, kept, image, chosen);
            advice.extend(other_flags(kind, kept, dropped));
            advice
        }
        _ => Vec::new(),
    };
    match advice.is_empty() {
        true => error,
        // The whole story in one line, the advice last.
        false => anyhow::anyhow!("{error:#}; {}", advice.join("; ")),
    }
}

/// What was wrong with the layers, whether they were to be built or to be judged.
fn tree_error(error: &anyhow::Error) -> Option<&TreeError> {
    if let Some(PackError::Tree(error)) = error.downcast_ref() {
        return Some(error);
    }
    match error.downcast_ref() {
        Some(BuildError {
            source: Problem::Tree(error),
            ..
        }) => Some(error),
        _ => None,
    }
}

fn is_filtered(dropped: &DroppedEntries) -> bool {
    dropped.count(Cause::Excluded) + dropped.count(Cause::NotIncluded) > 0
}

/// What the layers that were not chosen have.
fn elsewhere(
    kind: ExtensionKind,
    kept: &[&str],
    image: &Image,
    chosen: &[NumberedLayer<'_>],
) -> Vec<String> {
    let others: Vec<NumberedLayer<'_>> = (1..)
        .zip(&image.layers)
        .map(|(number, layer)| NumberedLayer { number, layer })
        .filter(|other| chosen.iter().all(|layer| layer.number != other.number))
        .collect();
    if others.is_empty() {
        return Vec::new();
    }
    log(&format!(
        "🔍 Nothing to keep; looking into the other layers ({} of {})",
        others.len(),
        image.layers.len()
    ));
    let Ok(census) = count(&others) else {
        return vec!["the other layers cannot be read".to_owned()];
    };
    let found: Vec<(usize, u64)> = others
        .iter()
        .zip(census)
        .map(|(other, census)| (other.number, files(kind, kept, &census)))
        .filter(|(_, files)| *files > 0)
        .collect();
    if found.is_empty() {
        return vec!["neither have the other layers".to_owned()];
    }
    let counts: Vec<String> = found
        .iter()
        .map(|(number, files)| format!("layer {number} ({files} files)"))
        .collect();
    let numbers: Vec<usize> = found.iter().map(|(number, _)| *number).collect();
    vec![format!(
        "such files are in {}: take them with --layers {}, or everything with --layers all",
        counts.join(", "),
        ranges(&numbers)
    )]
}

fn files(kind: ExtensionKind, kept: &[&str], census: &Census) -> u64 {
    match kind {
        ExtensionKind::Confext => census.etc,
        ExtensionKind::Sysext if kept.contains(&"opt") => census.usr + census.opt,
        ExtensionKind::Sysext => census.usr,
    }
}

/// How to keep what the chosen layers have.
fn other_flags(kind: ExtensionKind, kept: &[&str], dropped: &DroppedEntries) -> Vec<String> {
    let has = |top: &str| dropped.by_top().contains_key(top.as_bytes()) && !kept.contains(&top);
    let mut advice = Vec::new();
    if kind == ExtensionKind::Sysext && has("opt") {
        advice.push("--with-opt keeps /opt".to_owned());
    }
    if kind == ExtensionKind::Sysext && has("etc") {
        advice.push("sysgraft confext makes an extension of /etc".to_owned());
    }
    if kind == ExtensionKind::Confext && has("usr") {
        advice.push("sysgraft sysext makes an extension of /usr".to_owned());
    }
    advice
}
