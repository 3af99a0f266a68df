//! `sysgraft sysext` and `sysgraft confext`: from a container image to a signed extension.

mod job;

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::architecture::Architecture;
use sysgraft::erofs::{ChunkSize, Compression, TailPacking};
use sysgraft::extension::{ExtensionKind, ExtensionName};
use sysgraft::seed::Seed;
use sysgraft::source::{ImageReference, Offered};
use sysgraft::terminal::text::{self, log};

use crate::content_arguments::{ContentArguments, HEADING};
use crate::jobs;
use crate::lint_arguments::LintArguments;
use crate::outcome::Results;
use crate::packer::PackerArguments;
use crate::platform_arguments::PlatformArguments;
use crate::release_arguments::ReleaseArguments;
use crate::signing_arguments::{KEY_HOLDER, SigningArguments};
use crate::source_arguments::SourceArguments;
use job::Job;

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
    /// Name of the extension: the file becomes NAME.sysext.raw or NAME.confext.raw, with
    /// --extension-version NAME_V.sysext.raw, for several platforms NAME_V_ARCH.sysext.raw
    name: ExtensionName,
    /// Container image whose last layer, or whatever layers are chosen, becomes the extension
    image: ImageReference,
    #[command(flatten)]
    signing: SigningArguments,
    /// Leave the signature partition empty, and write NAME.sign-request.json beside the image: see
    /// `sysgraft sign`
    #[arg(long, group = KEY_HOLDER)]
    sign_later: bool,
    /// Existing folder in which the image is put; what root puts there belongs to the folder's owner
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    platform: PlatformArguments,
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
    #[command(flatten)]
    lint: LintArguments,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Name every entry of the layers that was dropped
    #[arg(long, short, visible_alias = "debug")]
    verbose: bool,
    #[command(flatten)]
    content: ContentArguments,
    #[command(flatten)]
    release: ReleaseArguments,
    #[command(flatten)]
    source: SourceArguments,
}

/// Builds the extension for each platform and says what became of it. One that fails does not keep
/// the others from being built.
pub fn run(kind: ExtensionKind, arguments: &CommonArguments, with_opt: bool) -> Result<()> {
    if arguments.platform.is_for_several() && can_be_read_once(&arguments.image) {
        crate::usage_error(
            ErrorKind::ArgumentConflict,
            format!(
                "{} can be read once only, but several platforms need it each; name one --platform, or \
                 store it in a file",
                arguments.image
            ),
        );
    }
    let sources = arguments.source.options(&arguments.image)?;
    log(&format!("🚀 Start {kind} creation"));
    let job = Job::prepare(kind, arguments, sources, with_opt)?;
    // The longest name, so that no other one fails after all the work.
    if let Err(error) = job.file(Architecture::LoongArch64) {
        crate::usage_error(ErrorKind::ValueValidation, error);
    }
    let chosen = arguments.platform.choose(&arguments.image, &job.sources)?;
    let report = arguments.content.report.as_deref();
    if let Some(report) = report {
        job.check_report(report, &chosen)?;
    }
    let mut results = Results::new(arguments.json, report, job.is_for_several());
    let mut failures = Vec::new();
    for Offered { platform, image } in &chosen {
        match job.run(platform, image) {
            Ok(made) => results.add(made)?,
            Err(error) if job.is_for_several() => {
                failures.push(error.context(format!("no extension for {platform}")));
            }
            Err(error) => return Err(error),
        }
    }
    results.finish()?;
    let last = failures.pop();
    failures.iter().for_each(text::error);
    last.map_or(Ok(()), Err)
}

/// Whether the image comes through a pipe, which is empty when it has been read.
fn can_be_read_once(image: &ImageReference) -> bool {
    match image {
        ImageReference::StandardInput => true,
        ImageReference::Tar(path) => fs::metadata(path).is_ok_and(|found| {
            let kind = found.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_socket()
        }),
        _ => false,
    }
}
