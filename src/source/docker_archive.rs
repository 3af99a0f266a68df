//! What `docker save` and `podman save` write: a tar archive with `manifest.json`, which names for
//! each image its configuration and its layers.
//!
//! Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::path::Path;

use serde::Deserialize;

use super::archive_file::ArchiveFile;
use super::content_store::no_such_platform;
use super::error::SourceError;
use super::manifest::{Configuration, parse_json, verified};
use super::platform::{Offer, Platform};
use super::reference::ImageName;
use super::window::Window;
use super::{Image, Layer, LayerBytes, OpenLayer};
use crate::digest::{Digest, unhex32};

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Entry {
    /// Whether `name` is one of its tags.
    fn has_tag(&self, name: &ImageName) -> bool {
        self.repo_tags.iter().flatten().any(|tag| {
            tag.parse::<ImageName>()
                .is_ok_and(|tag| tag.canonical() == name.canonical())
        })
    }

    /// What messages call it: its tags, or else its configuration.
    fn names(&self) -> Vec<String> {
        let tags = self.repo_tags.as_deref().unwrap_or_default();
        let names = if tags.is_empty() {
            std::slice::from_ref(&self.config)
        } else {
            tags
        };
        names
            .iter()
            .map(|name| name.escape_default().to_string())
            .collect()
    }
}

/// The images called `name`, or all, in `archive`.
fn entries(
    archive: &ArchiveFile,
    container: &str,
    name: Option<&ImageName>,
) -> Result<Vec<(Entry, Configuration)>, SourceError> {
    let list = archive.member("manifest.json")?;
    let entries: Vec<Entry> = parse_json(&list.document()?, &list.name)?;
    let is_named = |entry: &Entry| name.is_none_or(|name| entry.has_tag(name));
    if let (Some(name), false) = (name, entries.iter().any(is_named)) {
        return Err(SourceError::NoSuchImage {
            container: container.to_owned(),
            wanted: name.to_string(),
            available: entries.iter().flat_map(Entry::names).collect(),
        });
    }
    let named = entries.into_iter().filter(is_named);
    named
        .map(|entry| {
            let configuration = configuration(archive, &entry)?;
            Ok((entry, configuration))
        })
        .collect()
}

/// What the images called `name`, or all, in the archive `path` are for.
pub(super) fn offers(path: &Path, name: Option<&ImageName>) -> Result<Vec<Offer>, SourceError> {
    let container = format!("docker-archive:{}", path.display());
    let entries = entries(&ArchiveFile::open(path)?, &container, name)?;
    let offers = entries.into_iter();
    Ok(offers
        .map(|(_, configuration)| configuration.platform)
        .collect())
}

/// The image called `name`, or the only one for `platform`, in the archive `path`.
pub(super) fn find(
    path: &Path,
    name: Option<&ImageName>,
    platform: &Platform,
) -> Result<Image, SourceError> {
    let archive = ArchiveFile::open(path)?;
    let container = format!("docker-archive:{}", path.display());
    let entries = entries(&archive, &container, name)?;
    let fitting: Vec<&(Entry, Configuration)> = entries
        .iter()
        .filter(|(_, configuration)| platform.rank(&configuration.platform).is_some())
        .collect();
    match fitting.as_slice() {
        [] => {
            let offers = entries
                .iter()
                .map(|(_, configuration)| &configuration.platform);
            Err(no_such_platform(&container, platform, offers))
        }
        [(entry, configuration)] => image(&archive, container, entry, configuration),
        several => Err(SourceError::Ambiguous {
            container,
            platform: platform.clone(),
            available: several
                .iter()
                .flat_map(|(entry, _)| entry.names())
                .collect(),
        }),
    }
}

fn configuration(archive: &ArchiveFile, entry: &Entry) -> Result<Configuration, SourceError> {
    let window = archive.member(&entry.config)?;
    let mut bytes = window.document()?;
    if let Some(digest) = named_digest(&entry.config) {
        bytes = verified(bytes, digest, &window.name)?;
    }
    Configuration::parse(&bytes, &window.name)
}

/// The digest in a configuration's name: `HEX.json`, and `blobs/sha256/HEX` since Docker 25.
fn named_digest(name: &str) -> Option<Digest> {
    let hex = match name.strip_prefix("blobs/sha256/") {
        Some(hex) => hex,
        None => name.strip_suffix(".json")?,
    };
    unhex32(hex).map(Digest::from_bytes)
}

fn image(
    archive: &ArchiveFile,
    container: String,
    entry: &Entry,
    configuration: &Configuration,
) -> Result<Image, SourceError> {
    let name = format!("{}: {}", archive.name(), entry.config.escape_default());
    let diff_ids = configuration.diff_ids(entry.layers.len(), &name)?;
    let history = configuration.history(entry.layers.len());
    let mut layers = Vec::new();
    for ((member, diff_id), history) in entry.layers.iter().zip(diff_ids).zip(history) {
        let window = archive.member(member)?;
        layers.push(Layer {
            blob: None,
            diff_id,
            size: Some(window.size),
            history,
            content: Box::new(Member(window)),
        });
    }
    if layers.is_empty() {
        return Err(SourceError::Malformed {
            object: container,
            problem: "its image has no layers".to_owned(),
        });
    }
    let location = match entry.repo_tags.as_deref() {
        Some([tag, ..]) => format!("{container}:{}", tag.escape_default()),
        _ => container,
    };
    Ok(Image {
        location,
        digest: None,
        architecture: configuration.platform.architecture.parse().ok(),
        layers,
    })
}

struct Member(Window);

impl OpenLayer for Member {
    fn open(&self) -> Result<LayerBytes, SourceError> {
        Ok(LayerBytes::Archive(self.0.reader()))
    }
}
