//! From the documents of an OCI image to an [`Image`], wherever the documents lie.

use super::error::SourceError;
use super::manifest::{Configuration, Descriptor, Document, INDEX_TYPES, Manifest, verified};
use super::platform::{Offer, Platform};
use super::{Image, Layer, OpenLayer};
use crate::digest::Digest;

/// How deep indexes may lie in one another.
const DEPTH_LIMIT: usize = 4;

/// Entries that all indexes of one image may have together.
const ENTRY_LIMIT: usize = 1000;

/// Where the documents and layers of OCI images lie: a registry, a layout.
pub(super) trait ContentStore {
    /// The bytes of an index or manifest, within a bounded size; their digest is not yet checked.
    fn manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError>;

    /// The bytes of a configuration, likewise.
    fn configuration(&self, digest: Digest) -> Result<Vec<u8>, SourceError>;

    /// How to get at a layer.
    fn layer(&self, descriptor: &Descriptor) -> Result<Box<dyn OpenLayer>, SourceError>;
}

/// A manifest that an index offers.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub digest: Digest,
    pub offer: Offer,
    /// `org.opencontainers.image.ref.name` of the entry in the outermost index.
    pub name: Option<String>,
}

/// Annotation with an image's tag. Source: OCI image specification, `annotations.md`.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// All image manifests that `entries` offer, those of inner indexes included.
pub(super) fn candidates(
    store: &dyn ContentStore,
    entries: &[Descriptor],
) -> Result<Vec<Candidate>, SourceError> {
    let mut found = Vec::new();
    let mut budget = ENTRY_LIMIT;
    for entry in entries {
        let name = entry.annotation(REF_NAME).map(str::to_owned);
        collect(store, entry, &name, DEPTH_LIMIT, &mut budget, &mut found)?;
    }
    Ok(found)
}

fn collect(
    store: &dyn ContentStore,
    entry: &Descriptor,
    name: &Option<String>,
    depth: usize,
    budget: &mut usize,
    found: &mut Vec<Candidate>,
) -> Result<(), SourceError> {
    let too_much = || SourceError::Malformed {
        object: "the image index".to_owned(),
        problem: format!("it has more than {ENTRY_LIMIT} entries or {DEPTH_LIMIT} levels"),
    };
    *budget = budget.checked_sub(1).ok_or_else(too_much)?;
    // Attestations are stored as manifests of no platform; they are no images.
    if entry.annotation("vnd.docker.reference.type").is_some() {
        return Ok(());
    }
    let digest = entry.digest()?;
    let is_index = INDEX_TYPES.contains(&entry.media_type.as_str());
    let offer = match &entry.platform {
        Some(platform) if !is_index => platform.clone(),
        _ => match document(store, digest)? {
            Document::Index(inner) => {
                let depth = depth.checked_sub(1).ok_or_else(too_much)?;
                return inner
                    .iter()
                    .try_for_each(|entry| collect(store, entry, name, depth, budget, found));
            }
            Document::Manifest(manifest) => offer(store, &manifest)?,
        },
    };
    found.push(Candidate {
        digest,
        offer,
        name: name.clone(),
    });
    Ok(())
}

/// The candidate that fits `platform` best, and all others that fit as well.
pub(super) fn best<'a>(candidates: &'a [Candidate], platform: &Platform) -> Vec<&'a Candidate> {
    let ranked: Vec<(u8, &Candidate)> = candidates
        .iter()
        .filter_map(|candidate| Some((platform.rank(&candidate.offer)?, candidate)))
        .collect();
    let best = ranked.iter().map(|(rank, _)| *rank).min();
    let mut fitting: Vec<&Candidate> = Vec::new();
    for (rank, candidate) in ranked {
        let known = fitting.iter().any(|other| other.digest == candidate.digest);
        if Some(rank) == best && !known {
            fitting.push(candidate);
        }
    }
    fitting
}

/// The error for an image that is not there for `platform`.
pub(super) fn no_such_platform<'a>(
    location: &str,
    platform: &Platform,
    offers: impl IntoIterator<Item = &'a Offer>,
) -> SourceError {
    let mut available: Vec<String> = Vec::new();
    for offer in offers {
        let text = offer.to_string();
        if !available.contains(&text) {
            available.push(text);
        }
    }
    SourceError::NoSuchPlatform {
        location: location.to_owned(),
        platform: platform.clone(),
        available,
    }
}

/// The verified document of this digest.
pub(super) fn document(store: &dyn ContentStore, digest: Digest) -> Result<Document, SourceError> {
    let name = format!("manifest {digest}");
    Document::parse(&verified(store.manifest(digest)?, digest, &name)?, &name)
}

fn configuration(
    store: &dyn ContentStore,
    manifest: &Manifest,
) -> Result<Configuration, SourceError> {
    let digest = manifest.config.digest()?;
    let name = format!("image configuration {digest}");
    Configuration::parse(
        &verified(store.configuration(digest)?, digest, &name)?,
        &name,
    )
}

/// What the image of a manifest is for.
pub(super) fn offer(store: &dyn ContentStore, manifest: &Manifest) -> Result<Offer, SourceError> {
    Ok(configuration(store, manifest)?.platform)
}

/// The configuration of an image, whose platform has to be the wanted one, and the diff id of each
/// layer.
pub(super) fn configuration_and_diff_ids(
    store: &dyn ContentStore,
    location: &str,
    manifest: &Manifest,
    platform: &Platform,
) -> Result<(Configuration, Vec<Option<Digest>>), SourceError> {
    let configuration = configuration(store, manifest)?;
    if platform.rank(&configuration.platform).is_none() {
        let offer = &configuration.platform;
        return Err(no_such_platform(location, platform, [offer]));
    }
    let name = format!("image configuration {}", manifest.config.digest()?);
    let diff_ids = configuration.diff_ids(manifest.layers.len(), &name)?;
    Ok((configuration, diff_ids))
}

/// The image of a verified manifest.
pub(super) fn image(
    store: &dyn ContentStore,
    location: String,
    digest: Digest,
    manifest: &Manifest,
    platform: &Platform,
) -> Result<Image, SourceError> {
    let (configuration, diff_ids) =
        configuration_and_diff_ids(store, &location, manifest, platform)?;
    let history = configuration.history(manifest.layers.len());
    let mut layers = Vec::new();
    for ((descriptor, diff_id), history) in manifest.layers.iter().zip(diff_ids).zip(history) {
        layers.push(Layer {
            blob: Some(descriptor.digest()?),
            diff_id,
            size: Some(descriptor.size),
            history,
            content: store.layer(descriptor)?,
        });
    }
    if layers.is_empty() {
        return Err(SourceError::Malformed {
            object: location,
            problem: "it has no layers".to_owned(),
        });
    }
    Ok(Image {
        location,
        digest: Some(digest),
        architecture: configuration.platform.architecture.parse().ok(),
        layers,
    })
}
