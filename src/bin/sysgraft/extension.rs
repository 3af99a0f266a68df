//! `sysgraft sysext` and `sysgraft confext`: from a container image to a signed extension.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use sysgraft::architecture::Architecture;
use sysgraft::build::{self, BuildError, Built, Packer, Progress, Request};
use sysgraft::erofs::{ChunkSize, Compression, TailPacking};
use sysgraft::extension::{ExtensionKind, ExtensionName};
use sysgraft::release::ReleaseFile;
use sysgraft::seed::Seed;
use sysgraft::signature::{Signer, Signing, SigningCertificate};
use sysgraft::source::{
    self, FindOptions, Image, ImageReference, Layer, LayerChoice, NumberedLayer, Platform, Pull,
};
use sysgraft::terminal::text::{self, log};
use sysgraft::tree::ContentRules;

use crate::content_arguments::{ContentArguments, HEADING};
use crate::jobs;
use crate::outcome;
use crate::packer::PackerArguments;
use crate::progress::Reporter;
use crate::report_file;
use crate::signing_arguments::{KEY_HOLDER, SigningArguments};
use crate::survey;

/// Arguments of `sysgraft sysext`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft sysext --private-key db.key --certificate db.pem --output build k3s docker.io/me/k3s:1.29
  sysgraft sysext --private-key 'pkcs11:token=release;object=db?pin-source=file:/run/pin' \\
      --certificate db.pem k3s docker.io/me/k3s:1.29
  sysgraft sysext --sign-later --certificate db.pem hello oci-archive:hello.tar
  sysgraft sysext hello oci-archive:hello.tar          (not signed)
  sysgraft sysext --layers 2..3 --exclude '*.pyc' tool docker.io/me/tool:1
  sysgraft sysext --base docker.io/library/debian:13 tool docker.io/me/tool:1
  sysgraft sysext --layers all --remap /etc=/usr/share/factory/etc tool docker.io/me/tool:1
  sysgraft sysext --packer mkfs.erofs --mkfs-option -zlzma hello oci-archive:hello.tar

IMAGE is one of docker-daemon:REF, docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:REF], dir:ROOT, tar:FILE, - (a tar archive from standard input), or a bare REF:
the local engine's image if it has one for the platform, else the registry's.")]
pub struct SysextArguments {
    #[command(flatten)]
    pub common: CommonArguments,
    /// Make systemd reload its units after the extension is merged (EXTENSION_RELOAD_MANAGER=1)
    #[arg(long, visible_alias = "service-load")]
    pub service_reload: bool,
    /// Keep /opt as well as /usr
    #[arg(long, help_heading = HEADING)]
    pub with_opt: bool,
}

/// Arguments of `sysgraft confext`.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  sysgraft confext --private-key db.key --certificate db.pem --output build site tar:site.tar

IMAGE is written as for `sysgraft sysext`.")]
pub struct ConfextArguments {
    #[command(flatten)]
    pub common: CommonArguments,
}

/// What both kinds of extension take.
#[derive(Args)]
pub struct CommonArguments {
    /// Name of the extension: the file becomes NAME.sysext.raw or NAME.confext.raw
    name: ExtensionName,
    /// Container image whose last layer, or whatever layers are chosen, becomes the extension
    image: ImageReference,
    #[command(flatten)]
    signing: SigningArguments,
    /// Leave the signature partition empty, and write NAME.sign-request.json beside the image: see
    /// `sysgraft sign`
    #[arg(long, group = KEY_HOLDER)]
    sign_later: bool,
    /// Existing folder in which the image is put
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Platform of the image, as linux/arm64/v8 or just arm64 [default: this machine's]
    #[arg(long, visible_alias = "arch", value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// For a bare REF: ask the registry if the engine lacks the image, always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Missing)]
    pull: When,
    /// Identity from which all UUIDs and the salt derive [default: from kind, name, architecture]
    #[arg(long, value_name = "UUID")]
    seed: Option<Seed>,
    #[command(flatten)]
    packer: PackerArguments,
    /// How to compress file content: none (read by Linux 5.4 and later), lz4 or lz4hc[:3..12] (5.13),
    /// or zstd[:1..22] (6.10; smallest)
    #[arg(long, value_name = "HOW", default_value_t)]
    compression: Compression,
    /// Content that is compressed together: a power of two from 8K to 1M; more is smaller, but slower
    /// to read at random
    #[arg(long, value_name = "SIZE", default_value_t)]
    chunk_size: ChunkSize,
    /// Where the ends of compressed files lie: none (in blocks of their own), inline (behind their
    /// inodes; Linux 5.17), or fragments (together, each different one once; Linux 6.1) [default:
    /// fragments with zstd, else none]
    #[arg(long, value_name = "HOW")]
    tail_packing: Option<TailPacking>,
    /// Threads that compress, and as many that hash and write, at most 256; the image does not depend on it [default:
    /// one per core]
    #[arg(long, value_name = "N", value_parser = jobs::parse)]
    jobs: Option<NonZeroUsize>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Name every entry of the layers that was dropped
    #[arg(long, short, visible_alias = "debug")]
    verbose: bool,
    #[command(flatten)]
    content: ContentArguments,
}

/// When to ask the registry for a bare reference.
#[derive(Clone, Copy, ValueEnum)]
pub enum When {
    /// If the engine lacks the image
    Missing,
    /// Even if the engine has it
    Always,
    /// Not even if the engine lacks it
    Never,
}

impl From<When> for Pull {
    fn from(when: When) -> Pull {
        match when {
            When::Missing => Pull::Missing,
            When::Always => Pull::Always,
            When::Never => Pull::Never,
        }
    }
}

/// Builds the extension and says what became of it.
pub fn run(
    kind: ExtensionKind,
    arguments: &CommonArguments,
    service_reload: bool,
    with_opt: bool,
) -> Result<()> {
    log(&format!("🚀 Start {kind} creation"));
    let job = Job::prepare(kind, arguments, service_reload, with_opt)?;
    job.run(&platform_or_host(arguments.platform.as_ref())?)
}

/// The platform, or else this machine's.
pub fn platform_or_host(platform: Option<&Platform>) -> Result<Platform> {
    match platform {
        Some(platform) => Ok(platform.clone()),
        None => Platform::host().context("say --platform: this machine's has no name in systemd"),
    }
}

/// What is the same for every platform.
struct Job<'a> {
    kind: ExtensionKind,
    arguments: &'a CommonArguments,
    service_reload: bool,
    rules: ContentRules,
    signer: Option<Box<dyn Signer>>,
    /// The certificate of a later signature.
    certificate: Option<SigningCertificate>,
    packer: Packer,
    tail_packing: TailPacking,
}

impl<'a> Job<'a> {
    /// Loads and checks whatever can be before the image is looked for.
    fn prepare(
        kind: ExtensionKind,
        arguments: &'a CommonArguments,
        service_reload: bool,
        with_opt: bool,
    ) -> Result<Job<'a>> {
        let signer = arguments.signing.load_signer()?;
        let certificate = match arguments.sign_later {
            true => arguments.signing.load_certificate()?,
            false => None,
        };
        if signer.is_none() && !arguments.sign_later {
            text::warning(
                "the image will not be signed; hosts that demand signed extensions will refuse it \
                 (sign it with --private-key and --certificate)",
            );
        }
        Ok(Job {
            kind,
            arguments,
            service_reload,
            rules: arguments.content.rules(kind, with_opt)?,
            signer,
            certificate,
            packer: arguments.packer.find()?,
            tail_packing: tail_packing(arguments)?,
        })
    }

    /// From the image for one platform to one extension.
    fn run(&self, platform: &Platform) -> Result<()> {
        log("💿 Getting image info");
        let image = self.find_image(&self.arguments.image, platform)?;
        let layers = self.choose_layers(&image, platform)?;
        log(&describe(&image, &layers));
        let architecture = image.architecture.unwrap_or(platform.architecture);
        let built = self
            .build(&layers, architecture)
            .map_err(|error| survey::advise(error, self.kind, &image, &layers))?;
        outcome::report(&built.report, self.arguments.verbose);
        if let Some(path) = &self.arguments.content.report {
            report_file::write(path, &built, &image, &layers)?;
        }
        log(&format!(
            "🎉 Done {} creation output={}",
            self.kind,
            built.path.display()
        ));
        outcome::print(&built, &image, self.signer.as_deref(), self.arguments.json)
            .context(text::STDOUT_FAILED)
    }

    fn find_image(&self, reference: &ImageReference, platform: &Platform) -> Result<Image> {
        let options = FindOptions {
            pull: self.arguments.pull.into(),
            ..FindOptions::default()
        };
        Ok(source::find(reference, platform, &options)?)
    }

    /// The layers that become the extension, lowest first.
    fn choose_layers<'i>(
        &self,
        image: &'i Image,
        platform: &Platform,
    ) -> Result<Vec<NumberedLayer<'i>>> {
        let content = &self.arguments.content;
        if let Some(base) = &content.base {
            let base = self
                .find_image(base, platform)
                .context("cannot find the image that --base names")?;
            return Ok(source::above_base(image, &base)?);
        }
        let last = LayerChoice::last();
        Ok(content.layers.as_ref().unwrap_or(&last).choose(image)?)
    }

    /// Makes one extension of `layers`.
    fn build(
        &self,
        layers: &[NumberedLayer<'_>],
        architecture: Architecture,
    ) -> Result<Built, BuildError> {
        let arguments = self.arguments;
        let layers: Vec<&Layer> = layers.iter().map(|numbered| numbered.layer).collect();
        let seed = arguments
            .seed
            .unwrap_or_else(|| Seed::of_extension(self.kind, &arguments.name, architecture));
        let reporter: Arc<dyn Progress> = Arc::new(Reporter::new(self.kind, stored_bytes(&layers)));
        let request = Request {
            kind: self.kind,
            name: &arguments.name,
            architecture,
            layers: &layers,
            rules: self.rules.clone(),
            release: &ReleaseFile::for_extension(architecture, self.service_reload),
            seed,
            packer: self.packer.clone(),
            compression: arguments.compression,
            chunk_size: arguments.chunk_size,
            tail_packing: self.tail_packing,
            jobs: arguments.jobs.unwrap_or_else(jobs::all_cores),
            signing: self.signing(),
            folder: &arguments.output,
        };
        build::build(&request, &reporter)
    }

    fn signing(&self) -> Signing<'_> {
        match &self.signer {
            Some(signer) => Signing::Now(signer.as_ref()),
            None if self.arguments.sign_later => Signing::Later {
                certificate: self.certificate.as_ref(),
            },
            None => Signing::Never,
        }
    }
}

/// How much will be read, if that is known.
fn stored_bytes(layers: &[&Layer]) -> Option<u64> {
    layers.iter().map(|layer| layer.size).sum()
}

fn tail_packing(arguments: &CommonArguments) -> Result<TailPacking> {
    let compression = arguments.compression;
    match arguments.tail_packing {
        None => Ok(TailPacking::best_for(compression)),
        Some(packing) => {
            ensure!(
                packing == TailPacking::None || compression != Compression::None,
                "--tail-packing {packing} is for compressed files: leave it out, or choose another \
                 --compression than none"
            );
            Ok(packing)
        }
    }
}

/// What will be read.
fn describe(image: &Image, layers: &[NumberedLayer<'_>]) -> String {
    let mut line = format!("   {}", image.location);
    if let Some(digest) = image.digest {
        line += &format!(" {digest}");
    }
    let numbers: Vec<usize> = layers.iter().map(|numbered| numbered.number).collect();
    line += &match (numbers.as_slice(), image.layers.len()) {
        (_, 1) => ", its only layer".to_owned(),
        ([number], count) if *number == count => format!(", last of {count} layers"),
        (numbers, count) if numbers.len() == count => format!(", all of its {count} layers"),
        ([number], count) => format!(", layer {number} of {count}"),
        (numbers, count) => format!(", layers {} of {count}", source::ranges(numbers)),
    };
    if let [NumberedLayer { layer, .. }] = layers
        && let Some(digest) = layer.blob.or(layer.diff_id)
    {
        line += &format!(" {digest}");
    }
    let size: Option<u64> = layers.iter().map(|numbered| numbered.layer.size).sum();
    if let Some(size) = size {
        line += &format!(" ({})", text::size(size));
    }
    line
}
