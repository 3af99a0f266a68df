//! Where container images come from: engines, registries, archives, layouts, directories.
//!
//! Every source answers with an [`Image`]: what is known of it, and its layers, lowest first. No
//! layer's bytes are read before [`Layer::open`], and they come out as they are stored, not yet
//! decompressed and not yet verified: that is the [`layer`](crate::layer) room's work.
//!
//! An [`ImageReference`] says where to look, and [`find`] looks there.

mod archive_file;
mod choice;
mod compression;
mod content_store;
mod docker_archive;
mod engine;
mod error;
mod history;
mod manifest;
mod oci_layout;
mod outer_tar;
mod platform;
mod platforms;
mod reference;
mod registry;
mod root_tree;
mod runtime;
mod spool;
mod stored;
mod window;

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use crate::architecture::Architecture;
use crate::digest::Digest;

pub use choice::{ChoiceError, InvalidLayerChoice, LayerChoice, NumberedLayer, above_base, ranges};
pub use error::SourceError;
pub(crate) use error::root_cause;
pub use history::History;
pub use platform::{InvalidPlatform, Platform};
pub use platforms::{Offered, OnePerArchitecture, offered};
pub use reference::{EngineImage, ImageName, ImageReference, InvalidReference};
pub(crate) use registry::{BlobContent, OnSent, PushTarget};
pub use registry::{
    ClientCertificate, Credentials, OnWarning, Patience, PushError, PushObject, RegistryOptions,
};
pub use stored::{Blob, Stored, find_stored};

/// A container image (or root tree) that was found.
#[derive(Debug)]
pub struct Image {
    /// Where it was found, in the notation of containers-transports(5).
    pub location: String,
    /// Digest of its manifest, where the source has one.
    pub digest: Option<Digest>,
    /// What its configuration says, where it has one and systemd has a name for it.
    pub architecture: Option<Architecture>,
    /// Its layers, lowest first; at least one.
    pub layers: Vec<Layer>,
}

/// One layer of an image, not read yet.
pub struct Layer {
    /// Digest of the layer as stored, where the source names one.
    pub blob: Option<Digest>,
    /// Digest of the uncompressed tar archive, where the image's configuration names one.
    pub diff_id: Option<Digest>,
    /// Bytes as stored, where known before reading.
    pub size: Option<u64>,
    /// How it came about.
    pub history: History,
    /// How to get at the bytes.
    pub content: Box<dyn OpenLayer>,
}

/// Gets at the bytes of one layer.
pub trait OpenLayer: Send {
    /// This layer will be opened. Whoever opens several layers says so of all of them before opening
    /// the first: a source that can be read in one order only then finds all of them on one way.
    fn announce(&self) {}

    /// Starts reading the layer from its beginning.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn open(&self) -> Result<LayerBytes, SourceError>;
}

/// The content of an opened layer.
pub enum LayerBytes {
    /// A tar archive, plain or compressed, exactly as stored.
    Archive(Box<dyn Read + Send>),
    /// A root tree on the local file system.
    Directory(PathBuf),
}

impl Layer {
    /// Starts reading the layer.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn open(&self) -> Result<LayerBytes, SourceError> {
        self.content.open()
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("blob", &self.blob)
            .field("diff_id", &self.diff_id)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Where a reference without a transport is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// In the container engine, and if it is not there for the wanted platform, in the registry.
    #[default]
    Missing,
    /// In the registry only.
    Always,
    /// In the container engine only.
    Never,
}

/// How to look for an image.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    /// Where a reference without a transport is looked for.
    pub pull: Pull,
    /// Where the container engine listens, in the notation of `DOCKER_HOST`. `None` means: what
    /// that variable, `DOCKER_CONTEXT`, `CONTAINER_HOST` or Docker's current context says, else the
    /// first usable one of Docker's and Podman's usual sockets.
    pub engine: Option<String>,
    /// How to get at images in registries, and what to demand of images.
    pub registry: RegistryOptions,
}

/// Finds the image that `reference` names, for `platform`. Root trees ([`ImageReference::Tar`] and
/// the like) are for any platform.
///
/// It talks to engines and registries on a thread of its own, which lives as long as the image.
///
/// # Errors
/// See [`SourceError`].
pub fn find(
    reference: &ImageReference,
    platform: &Platform,
    options: &FindOptions,
) -> Result<Image, SourceError> {
    demand(reference, options)?;
    let in_engine = |image: &EngineImage| engine::find(image, platform, options.engine.as_deref());
    let in_registry = |name: &ImageName| registry::find(name, platform, &options.registry);
    match reference {
        ImageReference::Engine(image) => in_engine(image),
        ImageReference::Registry(name) => in_registry(name),
        ImageReference::Anywhere(name) => match options.pull {
            // Engines keep no signatures.
            _ if options.registry.verify_key.is_some() => in_registry(name),
            Pull::Never => in_engine(&EngineImage::Name(name.clone())),
            Pull::Always => in_registry(name),
            Pull::Missing => in_engine(&EngineImage::Name(name.clone())).or_else(|engine| {
                in_registry(name).map_err(|registry| SourceError::Nowhere {
                    image: name.to_string(),
                    engine: Box::new(engine),
                    registry: Box::new(registry),
                })
            }),
        },
        ImageReference::OciLayout { path, tag } => {
            oci_layout::find_in_directory(path, tag.as_deref(), platform)
        }
        ImageReference::OciArchive { path, tag } => {
            oci_layout::find_in_archive(path, tag.as_deref(), platform)
        }
        ImageReference::DockerArchive { path, name } => {
            docker_archive::find(path, name.as_ref(), platform)
        }
        ImageReference::Directory(path) => root_tree::directory(path),
        ImageReference::Tar(path) => root_tree::archive(path),
        ImageReference::StandardInput => Ok(root_tree::standard_input()),
    }
}

/// Refuses references to images that could not meet what is demanded of them, before anybody is
/// asked.
fn demand(reference: &ImageReference, options: &FindOptions) -> Result<(), SourceError> {
    if options.registry.require_digest && !reference.is_pinned() {
        return Err(SourceError::NoDigest {
            reference: reference.to_string(),
        });
    }
    let may_be_signed = match reference {
        ImageReference::Registry(_) => true,
        ImageReference::Anywhere(_) => options.pull != Pull::Never,
        _ => false,
    };
    if options.registry.verify_key.is_some() && !may_be_signed {
        return Err(SourceError::NoPlaceOfSignatures {
            reference: reference.to_string(),
        });
    }
    Ok(())
}
