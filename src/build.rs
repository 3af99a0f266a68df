//! The whole job: layers of a container image become a signed extension under its final name.
//!
//! Each layer flows once through memory, the top one first. While its entries are read, file content
//! goes straight to its final place in the image and is hashed on the way; metadata, hash tree,
//! signature and partition tables follow when the last layer has ended and all digests have held. A
//! failure at any moment leaves nothing behind.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::architecture::Architecture;
use crate::erofs::mkfs::{MkfsErofs, MkfsError, MkfsProgram};
use crate::erofs::{self, ChunkSize, Compression, TailPacking};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::image::{self, Output, PartitionType, Role, SignRequest};
use crate::image_file::ImageFileStem;
use crate::layer::{EntryPath, InvalidPath};
use crate::lint::{self, Files, FilesError, Findings, Packed, Policy, Subject};
use crate::read_at::FileWindow;
use crate::release::ReleaseFile;
use crate::seed::Seed;
use crate::signature::{Signing, SigningCertificate};
use crate::source::Layer;
use crate::timestamp::Timestamp;
use crate::tree::{
    self, ContentRules, InodeSink, ReadLayersError, ReadProgress, Report, Selection, Tree,
    TreeBuilder, TreeError,
};
use crate::verity::{HashedData, HashedDataWriter, RootHash};

/// What is to be built, and from what.
pub struct Request<'a> {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// Name of the extension.
    pub name: &'a ExtensionName,
    /// Architecture of the partitions' types; the release file has its own.
    pub architecture: Architecture,
    /// Where the content comes from: layers of one image, lowest first. What an upper one hides or
    /// replaces is not in the extension.
    pub layers: &'a [&'a Layer],
    /// What of the content is wanted.
    pub rules: ContentRules,
    /// The release file to put into the extension.
    pub release: &'a ReleaseFile,
    /// Identity of the extension.
    pub seed: Seed,
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
    /// What the file of the image is called, without suffixes.
    pub file: &'a ImageFileStem,
    /// Folder in which it appears.
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
    /// What was kept of the layers and what was not.
    pub report: Report,
    /// What lint found, and the policy lets pass.
    pub findings: Findings,
    /// Where the request for its signature lies, if it is to be signed later.
    pub sign_request: Option<PathBuf>,
}

/// Where the job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The layers are read, packed and hashed.
    Extracting,
    /// Metadata, hash tree, signature and partition tables are written.
    Packing,
    /// The complete image is read for the request that it be signed.
    Requesting,
}

/// Is told how the job goes on.
pub trait Progress: ReadProgress {
    /// A stage begins.
    fn stage(&self, stage: Stage);
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
    /// A layer could not be read, or not be merged with the others.
    #[error(transparent)]
    Layers(#[from] ReadLayersError),
    /// The layers make no tree of an extension.
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
    let file_name = request.file.file_name(request.kind);
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
        image: None,
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

/// The file `STEM.sign-request.json`, complete but for its name.
fn write_sign_request(
    request: &Request<'_>,
    image: &Output,
    certificate: Option<&SigningCertificate>,
) -> Result<Output, Problem> {
    let sign_request = SignRequest::of_output(image, certificate)?;
    let output = Output::create(request.folder, SignRequest::file_name_of(request.file))?;
    output.file().write_all(sign_request.render().as_bytes())?;
    Ok(output)
}

/// Reads the layers into a tree, whose leaves go to `sink`.
fn fill_tree<S: InodeSink>(
    request: &Request<'_>,
    sink: S,
    progress: &Arc<dyn Progress>,
) -> Result<(Tree, Report, S), Problem> {
    let selection = Selection {
        kind: request.kind,
        name: request.name.clone(),
        rules: request.rules.clone(),
    };
    let mut tree = TreeBuilder::new(selection, sink);
    let reading: Arc<dyn ReadProgress> = Arc::clone(progress) as _;
    tree::read_layers(&mut tree, request.layers, &reading)?;

    progress.stage(Stage::Packing);
    let release_path = EntryPath::from_archive(request.kind.release_path(request.name).as_bytes())?;
    tree.add_file(&release_path, 0o644, request.release.render().as_bytes())?;
    Ok(tree.finish()?)
}

fn file_system_options(request: &Request<'_>) -> erofs::Options {
    let data_type = PartitionType::root(request.architecture, Role::Data);
    erofs::Options {
        uuid: request.seed.file_system_uuid(data_type.uuid()),
        epoch: request.rules.clamp_mtime.map(Timestamp::from_seconds),
        compression: request.compression,
        chunk_size: request.chunk_size,
        tail_packing: request.tail_packing,
        jobs: request.jobs,
    }
}
