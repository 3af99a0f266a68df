//! Where container images come from: engines, registries, archives, layouts, directories.
//!
//! Every source answers with an [`Image`]: what is known of it, and its layers, lowest first. No
//! layer's bytes are read before [`Layer::open`], and they come out as they are stored, not yet
//! decompressed and not yet verified: that is the [`layer`](crate::layer) room's work.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use crate::architecture::Architecture;
use crate::digest::Digest;

/// A container image (or root tree) that was found.
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
    /// How to get at the bytes.
    pub content: Box<dyn OpenLayer>,
}

/// Gets at the bytes of one layer.
pub trait OpenLayer: Send {
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

/// Why an image or a layer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {}
