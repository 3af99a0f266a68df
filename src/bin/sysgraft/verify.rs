//! `sysgraft verify`: whether images can be trusted.

mod show;

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use sysgraft::architecture::Architecture;
use sysgraft::release::ReleaseFile;
use sysgraft::signature::trust::{TrustStore, Verifier};
use sysgraft::source::Platform;
use sysgraft::terminal::{Bar, text};
use sysgraft::verification::{Blocks, Host, Progress, Report, Request, Trust, verify};

use crate::jobs;

/// Arguments of `sysgraft verify`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft verify --certificate keys/db.pem build/hello.sysext.raw
  sysgraft verify --trust /etc/verity.d --os-release /etc/os-release /var/lib/extensions/*.raw
  sysgraft verify --ignore-signature --json build/*.raw | jq '.[] | {path, proved}'

What is checked, and what makes a check fail:
  partition table  one of the two copies is missing, damaged or different, or the file is cut short
  partitions       there is not exactly one data partition, or it is a usr partition, or others do not
                   belong to it, or one is marked as not to be used
  root hash        partition UUIDs and signature partition name different ones
  blocks           a block of data or hash tree is not what the root hash stands for
  signature        there is none, or systemd or the kernel would refuse it with these certificates;
                   without any certificate it is not judged, and nothing is proved; an image that
                   awaits its signature (--sign-later) is refused also with --ignore-signature
  release          there is no release file for the image's name, or systemd would pass it over
  host             systemd would not merge the extension on the host that --os-release describes

Exit codes: 0 every image is proved; 1 a check of an image failed, or something could not be read;
2 wrong usage; 130 and 143 interrupted.")]
pub struct Arguments {
    /// Images to verify
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Trust the certificate in this file: PEM (its first one), DER, an EFI signature list (.esl) or
    /// a variable in efivarfs (db-...)
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Trust what systemd would take from this folder if it were one of its verity.d folders: the
    /// first certificate of every *.crt, in PEM form. The first of several folders has precedence
    #[arg(long, value_name = "DIR")]
    trust: Vec<PathBuf>,
    /// Who has to take the signature. systemd alone is enough for hosts that have the certificate in
    /// verity.d, the kernel alone for hosts that have it in a keyring of the kernel
    #[arg(long, value_name = "WHO", value_enum, default_value_t = Who::Both)]
    verifier: Who,
    /// Do not judge the signature: an image is proved if all else holds
    #[arg(long, conflicts_with_all = ["certificate", "trust", "verifier"])]
    ignore_signature: bool,
    /// Check as well whether systemd would merge the extension on the host with this os-release file
    #[arg(long, value_name = "FILE")]
    os_release: Option<PathBuf>,
    /// Architecture of that host [default: ARCHITECTURE in its os-release, else this machine's]
    #[arg(
        long,
        visible_alias = "arch",
        value_name = "ARCH",
        requires = "os_release"
    )]
    architecture: Option<Architecture>,
    /// Threads that hash, at most 256 [default: one per core]
    #[arg(long, value_name = "N", value_parser = jobs::parse)]
    jobs: Option<NonZeroUsize>,
    /// Print everything as a JSON array, with an object for each image
    #[arg(long)]
    json: bool,
}

/// Who has to take a signature.
#[derive(Clone, Copy, ValueEnum)]
enum Who {
    Both,
    Systemd,
    Kernel,
}

impl Who {
    fn verifiers(self) -> &'static [Verifier] {
        match self {
            Who::Both => &[Verifier::Systemd, Verifier::Kernel],
            Who::Systemd => &[Verifier::Systemd],
            Who::Kernel => &[Verifier::Kernel],
        }
    }
}

/// A larger os-release is none.
const MAX_RELEASE_BYTES: u64 = 1 << 20;

/// Verifies all images; fails unless every one is proved.
pub fn run(arguments: &Arguments) -> Result<()> {
    let store = load_trust(arguments)?;
    let host = arguments
        .os_release
        .as_deref()
        .map(|path| load_host(path, arguments.architecture))
        .transpose()?;
    let trust = if arguments.ignore_signature {
        Trust::Ignored
    } else {
        Trust::Signed {
            store: &store,
            verifiers: arguments.verifier.verifiers(),
        }
    };
    let mut output = Output::new(arguments.json);
    let mut unproved = 0;
    for path in &arguments.files {
        let request = Request {
            path,
            known_as: None,
            trust,
            host: host.as_ref(),
            blocks: Blocks::All,
            jobs: arguments.jobs.unwrap_or_else(jobs::all_cores),
        };
        let report = verify(&request, &Hashing::default());
        unproved += usize::from(!report.is_proved());
        output.add(&report)?;
    }
    output.finish()?;
    match (unproved, arguments.files.as_slice()) {
        (0, _) => Ok(()),
        (_, [only]) => bail!("{} is not proved", only.display()),
        (_, all) => bail!("{unproved} of {} images are not proved", all.len()),
    }
}

/// Shows how far hashing is.
#[derive(Default)]
struct Hashing(OnceLock<Bar>);

impl Progress for Hashing {
    fn begin(&self, bytes: u64) {
        self.0.get_or_init(|| Bar::new("Verifying", bytes));
    }

    fn verified(&self, bytes: u64) {
        if let Some(bar) = self.0.get() {
            bar.advance(bytes);
        }
    }
}

fn load_trust(arguments: &Arguments) -> Result<TrustStore> {
    let mut store = TrustStore::new();
    for path in &arguments.certificate {
        store.load_file(path)?;
    }
    store.load_folders(&arguments.trust)?;
    for note in store.passed_over() {
        text::warning(&note.to_string());
    }
    Ok(store)
}

fn load_host(path: &Path, architecture: Option<Architecture>) -> Result<Host> {
    let unusable = || format!("cannot use {} as os-release", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_RELEASE_BYTES + 1).read_to_end(&mut bytes))
        .with_context(unusable)?;
    let release = ReleaseFile::parse(&bytes).with_context(unusable)?;
    let architecture = match (architecture, release.get("ARCHITECTURE")) {
        (Some(architecture), _) => architecture,
        (None, Some(own)) => own.parse().with_context(unusable)?,
        (None, None) => {
            let host = Platform::host();
            let host = host.context("say --architecture: this machine's has no name in systemd")?;
            host.architecture
        }
    };
    Ok(Host {
        release,
        architecture,
    })
}

/// Reports on stdout: for people as they come, for programs all in one array.
struct Output {
    facts: Option<Vec<show::Facts>>,
    first: bool,
    /// Whether nobody reads it any more. That must not hide what is not proved.
    closed: bool,
}

impl Output {
    fn new(as_json: bool) -> Output {
        Output {
            facts: as_json.then(Vec::new),
            first: true,
            closed: false,
        }
    }

    fn add(&mut self, report: &Report) -> Result<()> {
        if let Some(facts) = &mut self.facts {
            facts.push(show::Facts::of(report));
            return Ok(());
        }
        let between = if std::mem::take(&mut self.first) {
            ""
        } else {
            "\n"
        };
        self.print(|out| {
            write!(out, "{between}")?;
            show::table(out, report)
        })
    }

    fn finish(&mut self) -> Result<()> {
        let Some(facts) = self.facts.take() else {
            return Ok(());
        };
        self.print(|out| {
            serde_json::to_writer_pretty(&mut *out, &facts)?;
            writeln!(out)
        })
    }

    fn print(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match write(&mut stdout).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            result => result.context(text::STDOUT_FAILED),
        }
    }
}
