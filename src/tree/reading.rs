//! Layers of an image are opened and read into a tree.

use std::io::{self, Read};
use std::sync::Arc;

use super::{InodeSink, MissingTarget, TreeBuilder, TreeError};
use crate::layer::{self, EntryPath, EntryStream, Expected, LayerError};
use crate::source::{Layer, LayerBytes, SourceError};

/// Why layers could not be read into a tree.
#[derive(Debug, thiserror::Error)]
pub enum ReadLayersError {
    /// A layer could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A layer is broken or not what its digests say.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An entry does not fit into the tree, or could not be packed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A layer would have to be read twice, and cannot.
    #[error(
        "{path} is a hard link to {target}, which is missing or not kept itself, and its content cannot be looked for in a second reading"
    )]
    LinkTarget {
        /// The link.
        path: EntryPath,
        /// What it should be.
        target: EntryPath,
        /// Why not.
        source: Box<SourceError>,
    },
}

/// Is told how the reading of layers goes on.
pub trait ReadProgress: Send + Sync {
    /// So many more bytes of the layers, as stored, were read.
    fn read(&self, bytes: u64);

    /// A layer is read once more, for what its hard links lead to. It has `size` bytes, if that is
    /// known.
    fn rereading(&self, size: Option<u64>);
}

/// Merges `layers`, lowest first, into `tree`: the top one is read first, each of them once. Only where
/// hard links lead to what is not kept, the layer is read a second time.
///
/// # Errors
/// See [`ReadLayersError`].
pub fn read_layers<S: InodeSink>(
    tree: &mut TreeBuilder<S>,
    layers: &[&Layer],
    progress: &Arc<dyn ReadProgress>,
) -> Result<(), ReadLayersError> {
    for layer in layers {
        layer.content.announce();
    }
    for layer in layers.iter().rev() {
        let mut entries = open_entries(layer, progress)?;
        tree.add_layer(entries.as_mut())?;
        // What was packed counts only now that the digests have held.
        entries.finish()?;
        if let Some(missing) = tree.missing_target() {
            progress.rereading(layer.size);
            let mut entries = open_again(layer, missing, progress)?;
            tree.add_targets(entries.as_mut())?;
            entries.finish()?;
        }
    }
    Ok(())
}

/// Opens a layer a second time, for what a hard link in it leads to.
fn open_again(
    layer: &Layer,
    missing: MissingTarget,
    progress: &Arc<dyn ReadProgress>,
) -> Result<Box<dyn EntryStream>, ReadLayersError> {
    open_entries(layer, progress).map_err(|error| match error {
        ReadLayersError::Source(
            source @ (SourceError::StandardInputGone | SourceError::PipeGone { .. }),
        ) => ReadLayersError::LinkTarget {
            path: missing.path,
            target: missing.target,
            source: Box::new(source),
        },
        other => other,
    })
}

/// Starts reading a layer, whose digests are compared when it is finished.
///
/// # Errors
/// See [`ReadLayersError`].
pub fn open_entries(
    layer: &Layer,
    progress: &Arc<dyn ReadProgress>,
) -> Result<Box<dyn EntryStream>, ReadLayersError> {
    let bytes = match layer.open()? {
        LayerBytes::Archive(stored) => LayerBytes::Archive(Box::new(Counted {
            stored,
            progress: Arc::clone(progress),
        })),
        directory @ LayerBytes::Directory(_) => directory,
    };
    let expected = Expected {
        blob: layer.blob,
        diff_id: layer.diff_id,
        size: layer.size,
    };
    Ok(layer::open(bytes, expected)?)
}

/// Reports every byte that is read through it.
struct Counted {
    stored: Box<dyn Read + Send>,
    progress: Arc<dyn ReadProgress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stored.read(buffer)?;
        self.progress.read(length as u64);
        Ok(length)
    }
}
