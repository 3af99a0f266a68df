//! The index over each version, and `latest`, which leads to that of the newest one.

use serde_json::Value;

use super::document::{self, Document, VERSION};
use super::repository::Repository;
use super::tag::tag_of;
use super::{Image, LATEST, Pushed, RegistryError, versions};
use crate::publish::edition::Edition;
use crate::version::Version;

/// How often an index is stored until it has all that is tagged.
const ROUNDS: usize = 5;

/// Whether indexes are stored, or only foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Preview,
    Push,
}

/// Adds `images` to the index over each version, and notes in `pushed` its digest and tags.
pub fn add(
    repository: &Repository,
    images: &[Image<'_>],
    pushed: &mut [Pushed],
    mode: Mode,
) -> Result<(), RegistryError> {
    let versions = versions(images.iter().map(|image| image.edition));
    for version in &versions {
        let of_version = || {
            images
                .iter()
                .filter(|image| image.edition.version == *version)
        };
        let Some(first) = of_version().next() else {
            continue;
        };
        let entries: Vec<Value> = of_version()
            .map(|image| document::entry(image.edition.architecture, &image.document))
            .collect();
        let index = add_to_version(repository, first.edition, &entries, mode)?;
        let mut tags = vec![tag_of(version)];
        if versions.last() == Some(version) && add_latest(repository, version, &index, mode)? {
            tags.push(LATEST.to_owned());
        }
        for (image, pushed) in images.iter().zip(&mut *pushed) {
            if image.edition.version == *version {
                pushed.index = Some(index.digest);
                pushed.tags.extend(tags.iter().cloned());
            }
        }
    }
    Ok(())
}

/// Puts `entries`, which are all of one version, into its index.
fn add_to_version(
    repository: &Repository,
    edition: &Edition,
    entries: &[Value],
    mode: Mode,
) -> Result<Document, RegistryError> {
    let tag = tag_of(&edition.version);
    // Whoever publishes for another architecture at the same time may put an index without these images in
    // the place of this one. But all tag their images before, so that the last one to look finds all of them.
    let mut rounds = match mode {
        Mode::Preview => 0,
        Mode::Push => ROUNDS,
    };
    loop {
        let known = repository.document(&tag)?;
        let content = known.as_ref().map(|known| &known.content);
        let content = content.filter(|content| is_index_of(edition, content));
        let others = others(repository, edition, content)?;
        let index = document::index(edition, content, &[others.as_slice(), entries].concat());
        if known.is_some_and(|known| known.digest == index.digest) || rounds == 0 {
            return Ok(index);
        }
        repository.put_document(&tag, &index)?;
        rounds -= 1;
    }
}

/// Lets `latest` lead to the index of this version, unless there is a newer one. The result is whether it
/// does.
fn add_latest(
    repository: &Repository,
    version: &Version,
    index: &Document,
    mode: Mode,
) -> Result<bool, RegistryError> {
    let latest = repository.document(LATEST)?;
    let known = latest
        .as_ref()
        .and_then(|latest| version_of(&latest.content));
    if known.is_some_and(|known| Version::from(known) > *version) {
        return Ok(false);
    }
    if mode == Mode::Push && latest.is_none_or(|latest| latest.digest != index.digest) {
        repository.put_document(LATEST, index)?;
    }
    Ok(true)
}

/// Whether it is an index over images of the extension that `edition` is one of.
pub fn is_index_of(edition: &Edition, document: &Value) -> bool {
    document::is_index(document) && document::is_of(edition, document)
}

/// The images of the same version that are tagged, but not in its index.
fn others(
    repository: &Repository,
    edition: &Edition,
    index: Option<&Value>,
) -> Result<Vec<Value>, RegistryError> {
    let prefix = format!("{}-", tag_of(&edition.version));
    let mut others = Vec::new();
    for tag in repository.tags() {
        let architecture = tag.strip_prefix(&prefix).and_then(|name| name.parse().ok());
        let Some(architecture) = architecture else {
            continue;
        };
        if index.is_some_and(|index| document::has(index, architecture)) {
            continue;
        }
        // Two versions may have the same tag.
        if let Some(known) = repository.document(&tag)?
            && document::is_of(edition, &known.content)
            && version_of(&known.content) == Some(edition.version.as_str())
        {
            others.extend(document::entry_of_known(architecture, &known));
        }
    }
    Ok(others)
}

fn version_of(document: &Value) -> Option<&str> {
    document["annotations"][VERSION].as_str()
}
