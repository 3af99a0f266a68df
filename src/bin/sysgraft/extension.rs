//! `sysgraft sysext` and `sysgraft confext`: from a container image to a signed extension.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use sysgraft::build::{self, Progress, Request};
use sysgraft::erofs::{ChunkSize, Compression, TailPacking};
use sysgraft::extension::{ExtensionKind, ExtensionName};
use sysgraft::release::ReleaseFile;
use sysgraft::seed::Seed;
use sysgraft::signature::Signing;
use sysgraft::source::{self, FindOptions, Image, ImageReference, Platform, Pull};
use sysgraft::terminal::text::{self, log};

use crate::jobs;
use crate::outcome;
use crate::packer::PackerArguments;
use crate::progress::Reporter;
use crate::registry_arguments::RegistryArguments;
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
    /// Make systemd reload its units after the extension is merged (EXTENSION_RELOAD_MANAGER=1)
    #[arg(long, visible_alias = "service-load")]
    pub service_reload: bool,
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
    /// Name of the extension: the file becomes NAME.sysext.raw or NAME.confext.raw
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
    /// Name every entry of the layer that was dropped
    #[arg(long)]
    debug: bool,
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

/// Builds one extension and says what became of it.
pub fn run(
    kind: ExtensionKind,
    arguments: &CommonArguments,
    service_reload: bool,
    with_opt: bool,
) -> Result<()> {
    let registry = arguments.registry.options(&arguments.image)?;
    log(&format!("🚀 Start {kind} creation"));
    let signer = arguments.signing.load_signer()?;
    let certificate = match arguments.sign_later {
        true => arguments.signing.load_certificate()?,
        false => None,
    };
    let signing = match &signer {
        Some(signer) => Signing::Now(signer.as_ref()),
        None if arguments.sign_later => Signing::Later {
            certificate: certificate.as_ref(),
        },
        None => {
            text::warning(
                "the image will not be signed; hosts that demand signed extensions will refuse it \
                 (sign it with --private-key and --certificate)",
            );
            Signing::Never
        }
    };
    let tail_packing = tail_packing(arguments)?;
    let packer = arguments.packer.find()?;
    let clamp_mtime = source_date_epoch()?;
    let platform = match &arguments.platform {
        Some(platform) => platform.clone(),
        None => {
            Platform::host().context("say --platform: this machine's has no name in systemd")?
        }
    };

    log("💿 Getting image info");
    let options = FindOptions {
        pull: arguments.pull.into(),
        registry,
        ..FindOptions::default()
    };
    let image = source::find(&arguments.image, &platform, &options)?;
    let Some(layer) = image.layers.last() else {
        bail!("{} has no layers", image.location);
    };
    log(&describe(&image));

    let architecture = image.architecture.unwrap_or(platform.architecture);
    let seed = arguments
        .seed
        .unwrap_or_else(|| Seed::of_extension(kind, &arguments.name, architecture));
    let reporter: Arc<dyn Progress> = Arc::new(Reporter::new(kind, layer.size));
    let built = build::build(
        &Request {
            kind,
            name: &arguments.name,
            architecture,
            layer,
            with_opt,
            release: &ReleaseFile::for_extension(architecture, service_reload),
            seed,
            clamp_mtime,
            packer,
            compression: arguments.compression,
            chunk_size: arguments.chunk_size,
            tail_packing,
            jobs: arguments.jobs.unwrap_or_else(jobs::all_cores),
            signing,
            folder: &arguments.output,
        },
        &reporter,
    )?;
    drop(reporter);
    outcome::report(&built.report, arguments.debug);
    log(&format!(
        "🎉 Done {kind} creation output={}",
        built.path.display()
    ));
    outcome::print(&built, &image, signer.as_deref(), arguments.json).context(text::STDOUT_FAILED)
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

fn describe(image: &Image) -> String {
    let mut line = format!("   {}", image.location);
    if let Some(digest) = image.digest {
        line += &format!(" {digest}");
    }
    line += &match image.layers.len() {
        1 => ", its only layer".to_owned(),
        count => format!(", last of {count} layers"),
    };
    if let Some(layer) = image.layers.last() {
        if let Some(digest) = layer.blob.or(layer.diff_id) {
            line += &format!(" {digest}");
        }
        if let Some(size) = layer.size {
            line += &format!(" ({})", text::size(size));
        }
    }
    line
}
