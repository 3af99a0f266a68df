//! What a name in a registry stands for, be it an image or any other artefact, and its blobs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::content_store;
use super::error::SourceError;
use super::manifest::{Descriptor, Manifest};
use super::platform::Platform;
use super::reference::ImageName;
use super::registry::{Registry, RegistryOptions};
use crate::digest::Digest;

/// Media types of the configuration of an image, OCI's and Docker's.
const IMAGE_CONFIGURATIONS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// Annotation with the file name of a blob. Source: OCI image specification, `annotations.md`.
const TITLE: &str = "org.opencontainers.image.title";

/// A manifest in a registry, with what it names.
#[derive(Debug)]
pub struct Stored {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Whether it is a container image, so that its blobs are layers of a file system.
    pub is_image: bool,
    /// What it is, where it is no image and says so: `artifactType`, or else the media type of its
    /// configuration.
    pub artifact_type: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Its blobs, lowest layer first.
    pub blobs: Vec<Blob>,
}

/// A blob that was not read yet.
#[derive(Clone)]
pub struct Blob {
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Bytes as stored.
    pub size: u64,
    /// Digest of the uncompressed layer, where the configuration of an image names one.
    pub diff_id: Option<Digest>,
    /// The file name that an annotation gives it.
    pub title: Option<String>,
    registry: Arc<Registry>,
    descriptor: Descriptor,
}

impl Blob {
    /// Whether it is a layer that can be read: an error that says why not, otherwise.
    ///
    /// # Errors
    /// [`SourceError::LayerMediaType`].
    pub fn check_layer_type(&self) -> Result<(), SourceError> {
        self.descriptor.check_layer_type()
    }

    /// Reads it from byte `offset` on, which must not lie behind its end. Nothing is verified; it
    /// ends early only with an error, a [`SourceError`] in an [`std::io::Error`].
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn read_from(&self, offset: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.registry.blob(self.digest, self.size, offset)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

/// Finds what `name` stands for on `platform`.
///
/// # Errors
/// See [`SourceError`].
pub fn find_stored(
    name: &ImageName,
    platform: &Platform,
    options: &RegistryOptions,
) -> Result<Stored, SourceError> {
    let registry = Registry::open(name, options)?;
    let (digest, manifest) = registry.manifest_for(platform)?;
    let is_image = is_image(&manifest);
    let diff_ids = if is_image {
        let location = format!("docker://{}", name.canonical());
        content_store::configuration_and_diff_ids(&registry, &location, &manifest, platform)?.1
    } else {
        vec![None; manifest.layers.len()]
    };
    let registry = Arc::new(registry);
    let blobs = manifest.layers.into_iter().zip(diff_ids);
    let blobs = blobs.map(|(descriptor, diff_id)| {
        Ok(Blob {
            digest: descriptor.digest()?,
            size: descriptor.size,
            diff_id,
            title: descriptor.annotation(TITLE).map(str::to_owned),
            registry: Arc::clone(&registry),
            descriptor,
        })
    });
    Ok(Stored {
        digest,
        is_image,
        artifact_type: (!is_image)
            .then(|| manifest.artifact_type.unwrap_or(manifest.config.media_type)),
        annotations: manifest.annotations,
        blobs: blobs.collect::<Result<_, SourceError>>()?,
    })
}

fn is_image(manifest: &Manifest) -> bool {
    let configuration = manifest.config.media_type.as_str();
    manifest.artifact_type.is_none() && IMAGE_CONFIGURATIONS.contains(&configuration)
}
