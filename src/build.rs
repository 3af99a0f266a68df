//! The whole job: a layer of a container image becomes a signed extension under its final name.
//!
//! The layer flows once through memory. While its entries are read, file content goes straight to
//! its final place in the image and is hashed on the way; metadata, hash tree, signature and
//! partition tables follow when the layer has ended and its digests have held. A failure at any
//! moment leaves nothing behind.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::architecture::Architecture;
use crate::erofs::mkfs::{MkfsErofs, MkfsError, MkfsProgram};
use crate::erofs::{self, ChunkSize, Compression, TailPacking};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::image::{self, Output, PartitionType, Role, SignRequest};
use crate::layer::{self, EntryPath, EntryStream, Expected, InvalidPath, LayerError};
use crate::lint::{self, Files, FilesError, Findings, Packed, Policy, Subject};
use crate::read_at::FileWindow;
use crate::release::ReleaseFile;
use crate::seed::Seed;
use crate::signature::{Signing, SigningCertificate};
use crate::source::{Layer, LayerBytes, SourceError};
use crate::timestamp::Timestamp;
use crate::tree::{InodeSink, Report, Selection, Tree, TreeBuilder, TreeError};
use crate::verity::{HashedData, HashedDataWriter, RootHash};

/// What is to be built, and from what.
pub struct Request<'a> {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// Name of the extension.
    pub name: &'a ExtensionName,
    /// Architecture of the partitions' types; the release file has its own.
    pub architecture: Architecture,
    /// Where the content comes from.
    pub layer: &'a Layer,
    /// Whether a sysext keeps `/opt` too.
    pub with_opt: bool,
    /// The release file to put into the extension.
    pub release: &'a ReleaseFile,
    /// Identity of the extension.
    pub seed: Seed,
    /// Latest time, in seconds since the epoch, that any file may carry (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
    /// Who makes the file system.
    pub packer: Packer,
    /// How file content is compressed.
    pub compression: Compression,
    /// How much content is compressed together.
    pub chunk_size: ChunkSize,
    /// Where the ends of compressed files lie.
    pub tail_packing: TailPacking,
    /// How many threads compress, and as many hash and write; the result does not depend on it.
    pub jobs: NonZeroUsize,
    /// How the files are judged before they are signed.
    pub lint: Lint<'a>,
    /// Who signs the root hash, and when.
    pub signing: Signing<'a>,
    /// Folder in which the image appears under [`ExtensionKind::file_name`].
    pub folder: &'a Path,
}

/// How the files of an extension are judged.
#[derive(Clone, Copy)]
pub struct Lint<'a> {
    /// What may be found.
    pub policy: &'a Policy,
    /// The system that is to be extended, where there is one to compare with.
    pub base: Option<&'a dyn Files>,
}

/// Who makes the file system of an image.
#[derive(Clone, Debug)]
pub enum Packer {
    /// This library, in one pass.
    Native,
    /// mkfs.erofs, which needs room for two copies of the content beside the image.
    MkfsErofs(MkfsProgram),
}

/// An image that lies under its final name.
pub struct Built {
    /// Where.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// What the signature is over, and what the partition UUIDs say.
    pub root_hash: RootHash,
    /// What was kept of the layer and what was not.
    pub report: Report,
    /// What lint found, and the policy lets pass.
    pub findings: Findings,
    /// Where the request for its signature lies, if it is to be signed later.
    pub sign_request: Option<PathBuf>,
}

/// Where the job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The layer is read, packed and hashed.
    Extracting,
    /// Metadata, hash tree, signature and partition tables are written.
    Packing,
    /// The complete image is read for the request that it be signed.
    Requesting,
}

/// Is told how the job goes on.
pub trait Progress: Send + Sync {
    /// A stage begins.
    fn stage(&self, stage: Stage);
    /// So many more bytes of the layer, as stored, were read.
    fn read(&self, bytes: u64);
}

/// There is no image, and what was there under its name is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {output}")]
pub struct BuildError {
    /// What was to be made.
    pub output: PathBuf,
    /// Why not.
    pub source: Problem,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The layer could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The layer is broken or not what its digests say.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An entry does not fit into a tree, or could not be packed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The file system could not be written.
    #[error(transparent)]
    FileSystem(#[from] erofs::WriteError),
    /// mkfs.erofs made no file system.
    #[error(transparent)]
    Mkfs(#[from] MkfsError),
    /// Lint could not read the finished file system, or the base.
    #[error("the files cannot be judged")]
    Files(#[from] FilesError),
    /// Lint found what the policy does not let pass.
    #[error(
        "{objections} findings of lint forbid it: mend them, or pass over them with --allow CODE"
    )]
    Refused {
        /// All that was found.
        findings: Findings,
        /// How many of it.
        objections: u64,
    },
    /// Hash tree, signature or partition tables could not be written.
    #[error(transparent)]
    Image(#[from] image::AssembleError),
    /// The request for a signature could not be made.
    #[error(transparent)]
    SignRequest(#[from] image::RequestError),
    /// The output file could not be made or put into its place.
    #[error(transparent)]
    Output(#[from] image::OutputError),
    /// The extension's name gives a path that no file system takes.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// Writing into the output file failed.
    #[error("the output could not be written")]
    Write(#[from] io::Error),
}

/// Builds the image that `request` describes.
///
/// # Errors
/// See [`BuildError`].
pub fn build(request: &Request<'_>, progress: &Arc<dyn Progress>) -> Result<Built, BuildError> {
    let file_name = request.kind.file_name(request.name);
    build_as(&file_name, request, progress).map_err(|source| BuildError {
        output: request.folder.join(file_name),
        source,
    })
}

fn build_as(
    file_name: &str,
    request: &Request<'_>,
    progress: &Arc<dyn Progress>,
) -> Result<Built, Problem> {
    progress.stage(Stage::Extracting);
    let output = Output::create(request.folder, file_name)?;
    let sink = HashedDataWriter::new(
        output.file().try_clone()?,
        image::DATA_OFFSET,
        request.seed.verity_salt().into(),
        request.jobs,
    )?;
    let options = file_system_options(request);
    let (sink, report) = match &request.packer {
        Packer::Native => {
            let writer = erofs::Writer::new(sink, options)?;
            let (tree, report, writer) = fill_tree(request, writer, progress)?;
            (writer.finish(&tree)?.0, report)
        }
        Packer::MkfsErofs(program) => {
            // Never put into their place, hence gone with their last user.
            let scratch = || -> Result<File, Problem> {
                let file = Output::create(request.folder, file_name)?;
                Ok(file.file().try_clone()?)
            };
            let packer = MkfsErofs::new(program, sink, [scratch()?, scratch()?], options);
            let (tree, report, packer) = fill_tree(request, packer, progress)?;
            (packer.finish(&tree)?, report)
        }
    };
    let data = sink.finish()?;
    let findings = judge(request, &data)?;
    let assembled = image::assemble(data, request.seed, request.architecture, request.signing)?;
    let sign_request = match request.signing {
        Signing::Later { certificate } => {
            progress.stage(Stage::Requesting);
            Some(write_sign_request(request, &output, certificate)?)
        }
        Signing::Never | Signing::Now(_) => None,
    };
    Ok(Built {
        path: output.commit()?,
        size: assembled.size,
        root_hash: assembled.root_hash,
        report,
        findings,
        sign_request: sign_request.map(Output::commit).transpose()?,
    })
}

/// Looks into the file system that will be signed.
fn judge(request: &Request<'_>, data: &HashedData) -> Result<Findings, Problem> {
    let size = data.blocks() * erofs::BLOCK_SIZE as u64;
    let files = Packed::open(FileWindow::new(data.file.try_clone()?, data.offset, size))?;
    let Lint { policy, base } = request.lint;
    let subject = Subject {
        kind: request.kind,
        architecture: Some(request.architecture),
        files: &files,
        complete: true,
        base,
    };
    let findings = lint::lint(subject, policy)?;
    match policy.objections(&findings) {
        0 => Ok(findings),
        objections => Err(Problem::Refused {
            findings,
            objections,
        }),
    }
}

/// The file `NAME.sign-request.json`, complete but for its name.
fn write_sign_request(
    request: &Request<'_>,
    image: &Output,
    certificate: Option<&SigningCertificate>,
) -> Result<Output, Problem> {
    let sign_request = SignRequest::of_output(image, certificate)?;
    let output = Output::create(request.folder, SignRequest::file_name_of(request.name))?;
    output.file().write_all(sign_request.render().as_bytes())?;
    Ok(output)
}

/// Reads the layer into a tree, whose leaves go to `sink`.
fn fill_tree<S: InodeSink>(
    request: &Request<'_>,
    sink: S,
    progress: &Arc<dyn Progress>,
) -> Result<(Tree, Report, S), Problem> {
    let mut entries = open_entries(request.layer, progress)?;
    let selection = Selection {
        kind: request.kind,
        name: request.name.clone(),
        with_opt: request.with_opt,
        clamp_mtime: request.clamp_mtime,
    };
    let mut tree = TreeBuilder::new(selection, sink);
    tree.add_layer(entries.as_mut())?;
    // What was packed counts only now that the digests have held.
    entries.finish()?;

    progress.stage(Stage::Packing);
    let release_path = EntryPath::from_archive(request.kind.release_path(request.name).as_bytes())?;
    tree.add_file(&release_path, 0o644, request.release.render().as_bytes())?;
    Ok(tree.finish()?)
}

fn file_system_options(request: &Request<'_>) -> erofs::Options {
    let data_type = PartitionType::root(request.architecture, Role::Data);
    erofs::Options {
        uuid: request.seed.file_system_uuid(data_type.uuid()),
        epoch: request.clamp_mtime.map(Timestamp::from_seconds),
        compression: request.compression,
        chunk_size: request.chunk_size,
        tail_packing: request.tail_packing,
        jobs: request.jobs,
    }
}

fn open_entries(
    layer: &Layer,
    progress: &Arc<dyn Progress>,
) -> Result<Box<dyn EntryStream>, Problem> {
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
    progress: Arc<dyn Progress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stored.read(buffer)?;
        self.progress.read(length as u64);
        Ok(length)
    }
}
