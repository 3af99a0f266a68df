//! Layers of a container image as files to look into.

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::{FilesError, Packed};
use crate::erofs::{self, ChunkSize, Compression, TailPacking};
use crate::image::{Output, OutputError};
use crate::read_at::FileWindow;
use crate::source::Layer;
use crate::tree::{self, ReadLayersError, ReadProgress, Selection, TreeBuilder, TreeError};
use crate::verity::HashedDataWriter;

/// The name of the temporary file, where it has one.
const FILE_NAME: &str = "sysgraft-lint";

/// Why layers cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A layer could not be read, or not be merged with the others.
    #[error(transparent)]
    Layers(#[from] ReadLayersError),
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

/// Merges `layers`, lowest first, and keeps what `selection` says in a temporary file in `folder`,
/// which vanishes with the result.
///
/// # Errors
/// See [`PackError`].
pub fn pack(
    layers: &[&Layer],
    selection: Selection,
    folder: &Path,
    progress: &Arc<dyn ReadProgress>,
) -> Result<Packed<FileWindow>, PackError> {
    // Never put into its place, hence gone with its last user.
    let output = Output::create(folder, FILE_NAME)?;
    let file = output.file().try_clone()?;
    let sink = HashedDataWriter::new(file, 0, [0; 32].into(), NonZeroUsize::MIN)?;
    let mut tree = TreeBuilder::new(selection, erofs::Writer::new(sink, options())?);
    tree::read_layers(&mut tree, layers, progress)?;
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
