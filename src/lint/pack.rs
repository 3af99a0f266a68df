//! Layers of a container image as files to look into.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::{FilesError, Packed};
use crate::erofs::{self, ChunkSize, Compression, TailPacking};
use crate::image::{Output, OutputError};
use crate::layer::{self, Expected, LayerError};
use crate::read_at::FileWindow;
use crate::source::{Layer, LayerBytes, SourceError};
use crate::tree::{Selection, TreeBuilder, TreeError};
use crate::verity::HashedDataWriter;

/// The name of the temporary file, where it has one.
const FILE_NAME: &str = "sysgraft-lint";

/// Why layers cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A layer could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A layer is broken or not what its digests say.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layers make no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The temporary file could not be made.
    #[error(transparent)]
    Temporary(#[from] OutputError),
    /// The temporary file could not be written.
    #[error(transparent)]
    Write(#[from] erofs::WriteError),
    /// The temporary file could not be written.
    #[error("the temporary file could not be written")]
    Io(#[from] io::Error),
    /// What was written cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// Is told how many more bytes of the layers, as stored, were read.
pub type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

/// Merges `layers`, the top one first, and keeps what `selection` says in a temporary file in `folder`,
/// which vanishes with the result.
///
/// # Errors
/// See [`PackError`].
pub fn pack<'l>(
    layers: impl IntoIterator<Item = &'l Layer>,
    selection: Selection,
    folder: &Path,
    on_read: &OnRead,
) -> Result<Packed<FileWindow>, PackError> {
    // Never put into its place, hence gone with its last user.
    let output = Output::create(folder, FILE_NAME)?;
    let file = output.file().try_clone()?;
    let sink = HashedDataWriter::new(file, 0, [0; 32].into(), NonZeroUsize::MIN)?;
    let mut tree = TreeBuilder::new(selection, erofs::Writer::new(sink, options())?);
    for layer in layers {
        let expected = Expected {
            blob: layer.blob,
            diff_id: layer.diff_id,
            size: layer.size,
        };
        let bytes = match layer.open()? {
            LayerBytes::Archive(stored) => LayerBytes::Archive(Box::new(Counted {
                stored,
                on_read: Arc::clone(on_read),
            })),
            directory @ LayerBytes::Directory(_) => directory,
        };
        let mut entries = layer::open(bytes, expected)?;
        tree.add_layer(entries.as_mut())?;
        entries.finish()?;
    }
    let (tree, _, writer) = tree.finish()?;
    writer.finish(&tree)?.0.finish()?;
    Ok(Packed::open(FileWindow::whole(
        output.file().try_clone()?,
    )?)?)
}

fn options() -> erofs::Options {
    erofs::Options {
        uuid: Uuid::nil(),
        epoch: None,
        compression: Compression::None,
        chunk_size: ChunkSize::default(),
        tail_packing: TailPacking::None,
        jobs: NonZeroUsize::MIN,
    }
}

/// Reports every byte that is read through it.
struct Counted {
    stored: Box<dyn Read + Send>,
    on_read: OnRead,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stored.read(buffer)?;
        (self.on_read)(length as u64);
        Ok(length)
    }
}
