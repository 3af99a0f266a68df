//! `sysgraft sysext` and `sysgraft confext`: from a container image to a signed extension.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use sysgraft::architecture::Architecture;
use sysgraft::build::{self, Built, Packer, Progress, Request};
use sysgraft::erofs::{ChunkSize, Compression, TailPacking};
use sysgraft::extension::{ExtensionKind, ExtensionName};
use sysgraft::image_file::{ImageFileStem, InvalidStem};
use sysgraft::provenance::Provenance;
use sysgraft::seed::Seed;
use sysgraft::signature::{Signer, Signing, SigningCertificate};
use sysgraft::source::{self, FindOptions, Image, ImageReference, Layer, Platform, Pull};
use sysgraft::terminal::text::{self, log};
use sysgraft::tree::ContentRules;

use crate::engine_arguments::EngineArguments;
use crate::jobs;
use crate::outcome::{self, Made, Results};
use crate::packer::PackerArguments;
use crate::platform_arguments::PlatformArguments;
use crate::progress::Reporter;
use crate::registry_arguments::RegistryArguments;
use crate::release_arguments::{ReleaseArguments, ReleasePlan};
use crate::signing_arguments::{KEY_HOLDER, SigningArguments};

/// Arguments of `sysgraft sysext`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft sysext --private-key db.key --certificate db.pem --output build k3s docker.io/me/k3s:1.29
  sysgraft sysext --private-key 'pkcs11:token=release;object=db?pin-source=file:/run/pin' \\
      --certificate db.pem k3s docker.io/me/k3s:1.29
  sysgraft sysext --sign-later --certificate db.pem hello oci-archive:hello.tar
  sysgraft sysext hello oci-archive:hello.tar          (not signed)
  sysgraft sysext --packer mkfs.erofs --mkfs-option -zlzma hello oci-archive:hello.tar

IMAGE is one of docker-daemon:REF, docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:REF], dir:ROOT, tar:FILE, - (a tar archive from standard input), or a bare REF:
the local engine's image if it has one for the platform, else the registry's.")]
pub struct SysextArguments {
    #[command(flatten)]
    pub common: CommonArguments,
    /// Keep /opt as well as /usr
    #[arg(long)]
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
    /// Name of the extension: the file becomes NAME.sysext.raw or NAME.confext.raw, with
    /// --extension-version NAME_V.sysext.raw, for several platforms NAME_V_ARCH.sysext.raw
    name: ExtensionName,
    /// Container image whose last layer becomes the extension
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
    #[command(flatten)]
    platform: PlatformArguments,
    /// For a bare REF: ask the registry if the engine lacks the image, always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Missing)]
    pull: When,
    #[command(flatten)]
    engine: EngineArguments,
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
    /// Name every entry of the layer that was dropped
    #[arg(long)]
    debug: bool,
    #[command(flatten)]
    release: ReleaseArguments,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// When to ask the registry for a bare reference.
#[derive(Clone, Copy, ValueEnum)]
enum When {
    Missing,
    Always,
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

/// Builds the extension for each platform and says what became of it. One that fails does not keep
/// the others from being built.
pub fn run(kind: ExtensionKind, arguments: &CommonArguments, with_opt: bool) -> Result<()> {
    log(&format!("🚀 Start {kind} creation"));
    let job = Job::prepare(kind, arguments, with_opt)?;
    // The longest name, so that no other one fails after all the work.
    job.file(Architecture::LoongArch64)?;
    let platforms = arguments.platform.choose(&arguments.image, &job.sources)?;
    let mut results = Results::new(arguments.json, job.is_for_several());
    let mut failures = Vec::new();
    for platform in &platforms {
        match job.run(platform) {
            Ok(made) => results.add(made).context(text::STDOUT_FAILED)?,
            Err(error) if job.is_for_several() => {
                failures.push(error.context(format!("no extension for {platform}")));
            }
            Err(error) => return Err(error),
        }
    }
    results.finish().context(text::STDOUT_FAILED)?;
    let last = failures.pop();
    failures.iter().for_each(text::error);
    last.map_or(Ok(()), Err)
}

/// What is the same for every platform.
struct Job<'a> {
    kind: ExtensionKind,
    arguments: &'a CommonArguments,
    release: ReleasePlan<'a>,
    /// How to look for the image.
    sources: FindOptions,
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
            release: arguments.release.plan(kind)?,
            sources: FindOptions {
                pull: arguments.pull.into(),
                engine: arguments.engine.engine.clone(),
                registry: arguments.registry.options(&arguments.image)?,
            },
            rules: ContentRules {
                with_opt,
                clamp_mtime: source_date_epoch()?,
            },
            signer,
            certificate,
            packer: arguments.packer.find()?,
            tail_packing: tail_packing(arguments)?,
        })
    }

    /// Whether there may be more than one extension.
    fn is_for_several(&self) -> bool {
        self.arguments.platform.is_for_several()
    }

    /// What the file for `architecture` is called.
    fn file(&self, architecture: Architecture) -> Result<ImageFileStem, InvalidStem> {
        ImageFileStem::new(
            &self.arguments.name,
            self.arguments.release.version(),
            self.is_for_several().then_some(architecture),
        )
    }

    /// From the image for one platform to one extension.
    fn run(&self, platform: &Platform) -> Result<Made> {
        let image = self.find_image(platform)?;
        let layers = choose_layers(&image)?;
        log(&describe(&image, &layers));
        let architecture = image.architecture.unwrap_or(platform.architecture);
        let built = self.build(&image, &layers, architecture)?;
        outcome::report(&built.report, self.arguments.debug);
        log(&format!(
            "🎉 Done {} creation output={}",
            self.kind,
            built.path.display()
        ));
        Ok(Made::of(&built, &image, platform, self.signer.as_deref()))
    }

    fn find_image(&self, platform: &Platform) -> Result<Image> {
        log("💿 Getting image info");
        Ok(source::find(
            &self.arguments.image,
            platform,
            &self.sources,
        )?)
    }

    /// Makes one extension of `layers`.
    fn build(&self, image: &Image, layers: &[&Layer], architecture: Architecture) -> Result<Built> {
        let arguments = self.arguments;
        let provenance = Provenance::of(&arguments.image, image, layers);
        let release = self.release.release(architecture, Some(provenance))?;
        let file = self.file(architecture)?;
        let seed = arguments
            .seed
            .unwrap_or_else(|| Seed::of_extension(self.kind, &arguments.name, architecture));
        let reporter: Arc<dyn Progress> = Arc::new(Reporter::new(self.kind, stored_bytes(layers)));
        let request = Request {
            kind: self.kind,
            name: &arguments.name,
            architecture,
            layers,
            rules: self.rules.clone(),
            release: &release,
            seed,
            packer: self.packer.clone(),
            compression: arguments.compression,
            chunk_size: arguments.chunk_size,
            tail_packing: self.tail_packing,
            jobs: arguments.jobs.unwrap_or_else(jobs::all_cores),
            signing: self.signing(),
            file: &file,
            folder: &arguments.output,
        };
        Ok(build::build(&request, &reporter)?)
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

/// The layers that become the extension, lowest first.
fn choose_layers(image: &Image) -> Result<Vec<&Layer>> {
    match image.layers.last() {
        Some(layer) => Ok(vec![layer]),
        None => bail!("{} has no layers", image.location),
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

pub fn source_date_epoch() -> Result<Option<i64>> {
    let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let seconds = value
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH={value} is no number of seconds"))?;
    Ok(Some(seconds))
}

fn describe(image: &Image, layers: &[&Layer]) -> String {
    let mut line = format!("   {}", image.location);
    if let Some(digest) = image.digest {
        line += &format!(" {digest}");
    }
    line += &match image.layers.len() {
        1 => ", its only layer".to_owned(),
        count => format!(", last of {count} layers"),
    };
    if let [layer] = layers {
        if let Some(digest) = layer.blob.or(layer.diff_id) {
            line += &format!(" {digest}");
        }
        if let Some(size) = layer.size {
            line += &format!(" ({})", text::size(size));
        }
    }
    line
}
