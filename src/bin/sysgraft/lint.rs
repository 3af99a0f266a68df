//! `sysgraft lint`: what would surprise a host.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use sysgraft::architecture::Architecture;
use sysgraft::extension::ExtensionKind;
use sysgraft::image::{Ddi, Role};
use sysgraft::layer::EntryPath;
use sysgraft::lint::{self, Code, Files, Findings, Folder, Packed, Rule, Severity, Subject};
use sysgraft::source::{self, FindOptions, Image, ImageReference, Layer, Platform};
use sysgraft::terminal::text;

use crate::compared;
use crate::content_arguments::LayerArguments;
use crate::lint_arguments::{LintArguments, NAMED, by_code};
use crate::platform_arguments::or_host;
use crate::source_arguments::SourceArguments;
use crate::survey;

/// Arguments of `sysgraft lint`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft lint build/hello.sysext.raw
  sysgraft lint --strict --allow usr-local docker://registry.example/hello:1
  sysgraft lint --host-root / build/hello.sysext.raw
  sysgraft lint --base docker://registry.example/host:42 --json rootfs | jq '.findings[].code'
  sysgraft lint --explain merged-usr-directory

TARGET is a finished image (FILE.raw), an existing folder with the files of an extension, or a container
image, written as for `sysgraft sysext`; of that the same layers are judged that a build would take.

Errors are what systemd refuses or what breaks a host, warnings what will not work as it seems, notes
what is worth knowing. Builds do the same on their own, and fail on errors.

Exit codes: 0 no errors, with --strict no warnings either; 1 there are some, or something could not be
read; 2 wrong usage; 130 and 143 interrupted.")]
pub struct Arguments {
    /// FILE.raw, folder or container image to judge
    #[arg(required_unless_present = "explain")]
    target: Option<String>,
    /// What the files are for [default: what their release file says, else sysext]
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// Of a container image keep /opt as well as /usr
    #[arg(long)]
    with_opt: bool,
    /// Platform of the container images [default: this machine's]
    #[arg(long, visible_alias = "arch", value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    layers: LayerArguments,
    #[command(flatten)]
    lint: LintArguments,
    #[command(flatten)]
    source: SourceArguments,
    /// Explain a code, or all of them, and judge nothing
    #[arg(long, value_name = "CODE", conflicts_with_all = ["target", "json"])]
    explain: Option<Explained>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Sysext,
    Confext,
}

impl From<Kind> for ExtensionKind {
    fn from(kind: Kind) -> ExtensionKind {
        match kind {
            Kind::Sysext => ExtensionKind::Sysext,
            Kind::Confext => ExtensionKind::Confext,
        }
    }
}

/// The codes to be explained.
#[derive(Clone)]
struct Explained(Vec<Code>);

impl std::str::FromStr for Explained {
    type Err = lint::UnknownCode;

    fn from_str(name: &str) -> Result<Explained, lint::UnknownCode> {
        match name {
            "all" => Ok(Explained(Code::ALL.to_vec())),
            _ => Ok(Explained(vec![name.parse()?])),
        }
    }
}

/// The files to be judged, and what is known of them.
struct Target {
    kind: ExtensionKind,
    architecture: Option<Architecture>,
    files: Box<dyn Files>,
    /// The finished image, with its whole path.
    image: Option<PathBuf>,
    /// Whether they are all that systemd will see.
    complete: bool,
}

/// Judges one target; fails unless it passes.
pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(Explained(codes)) = &arguments.explain {
        return explain(codes).context(text::STDOUT_FAILED);
    }
    let name = arguments.target.as_deref().unwrap_or_default();
    let image = image_named(name)?;
    let base_image = find_base(image.as_ref(), arguments)?;
    let target = open(name, image.as_ref(), base_image.as_ref(), arguments)?;
    let base: Option<Box<dyn Files>> = match &base_image {
        Some(base) => compared::files_of(base, target.kind)?,
        None => arguments
            .lint
            .open_host_root()?
            .map(|root| Box::new(root) as _),
    };
    let policy = arguments.lint.policy();
    let subject = Subject {
        kind: target.kind,
        architecture: target.architecture,
        files: target.files.as_ref(),
        image: target.image.as_deref(),
        complete: target.complete,
        base: base.as_deref(),
    };
    let findings = lint::lint(subject, &policy).with_context(|| format!("cannot judge {name}"))?;
    let printed = match arguments.json {
        true => print_json(name, target.kind, &findings),
        false => print(&findings),
    };
    match printed {
        // Nobody reads it any more; that must not hide what was found.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.context(text::STDOUT_FAILED)?,
    }
    match policy.objections(&findings) {
        0 => Ok(()),
        1 => bail!("{name} has 1 finding that must be mended, or passed over with --allow CODE"),
        count => {
            bail!(
                "{name} has {count} findings that must be mended, or passed over with --allow CODE"
            )
        }
    }
}

/// The container image that is to be judged, if it is neither an extension's image nor a folder.
fn image_named(name: &str) -> Result<Option<ImageReference>> {
    let path = Path::new(name);
    if is_raw(path) || path.is_dir() {
        return Ok(None);
    }
    let reference = name.parse().with_context(|| {
        format!("{name} is no FILE.raw, no existing folder and no container image")
    })?;
    Ok(Some(reference))
}

fn is_raw(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "raw")
}

fn open(
    name: &str,
    image: Option<&ImageReference>,
    base: Option<&Image>,
    arguments: &Arguments,
) -> Result<Target> {
    let path = Path::new(name);
    let Some(reference) = image else {
        if is_raw(path) {
            return open_image(path, arguments);
        }
        let files = Folder::open(path)?;
        return Ok(Target {
            kind: guess_kind(&files, None, arguments)?,
            architecture: arguments
                .platform
                .as_ref()
                .map(|platform| platform.architecture),
            files: Box::new(files),
            image: None,
            complete: false,
        });
    };
    let kind = arguments.kind.map_or(ExtensionKind::Sysext, Into::into);
    let image = find(reference, &arguments.source.options(reference)?, arguments)?;
    let architecture = image.architecture.or_else(|| {
        let platform = arguments.platform.clone().or_else(Platform::host);
        platform.map(|platform| platform.architecture)
    });
    let chosen = arguments.layers.choose(&image, base)?;
    let layers: Vec<&Layer> = chosen.iter().map(|numbered| numbered.layer).collect();
    Ok(Target {
        kind,
        architecture,
        files: compared::pack(&layers, kind, arguments.with_opt)
            .with_context(|| format!("cannot read {}", image.location))
            .map_err(|error| survey::advise(error, kind, &image, &chosen))?,
        image: None,
        complete: false,
    })
}

fn open_image(path: &Path, arguments: &Arguments) -> Result<Target> {
    let ddi = Ddi::open(path)?;
    let data = ddi
        .open_partition(Role::Data)?
        .with_context(|| format!("{} has no data partition", path.display()))?;
    let files = Packed::open(data).with_context(|| format!("cannot read {}", path.display()))?;
    let partition = ddi.partition(Role::Data);
    Ok(Target {
        kind: guess_kind(&files, Some(path), arguments)?,
        architecture: partition
            .and_then(|data| data.kind)
            .map(|kind| kind.architecture),
        files: Box::new(files),
        image: Some(std::path::absolute(path)?),
        complete: true,
    })
}

/// What the arguments say, else the release file, the name of the image, the folders that there are.
fn guess_kind(
    files: &dyn Files,
    image: Option<&Path>,
    arguments: &Arguments,
) -> Result<ExtensionKind> {
    if let Some(kind) = arguments.kind {
        return Ok(kind.into());
    }
    let has = |path: &str| -> Result<bool> {
        let path = EntryPath::from_archive(path.as_bytes())?;
        match files.entry(&path) {
            // What may not be read does not say what it is for.
            Err(error) if error.is_out_of_reach() => Ok(false),
            entry => Ok(entry?.is_some()),
        }
    };
    for kind in ExtensionKind::ALL {
        if has(kind.release_directory())? {
            return Ok(kind);
        }
    }
    let name = image.and_then(Path::file_name).unwrap_or_default();
    let is_confext = name.to_string_lossy().ends_with(".confext.raw");
    Ok(
        match is_confext || (has("etc")? && !has("usr")? && !has("opt")?) {
            true => ExtensionKind::Confext,
            false => ExtensionKind::Sysext,
        },
    )
}

/// The image that `--base` names. Where no other image is judged, login and key are meant for it.
fn find_base(image: Option<&ImageReference>, arguments: &Arguments) -> Result<Option<Image>> {
    let Some(base) = &arguments.layers.base else {
        return Ok(None);
    };
    let sources = match image {
        Some(image) => arguments.source.options_for_base(base, image)?,
        None => arguments.source.options(base)?,
    };
    let found = find(base, &sources, arguments);
    Ok(Some(
        found.context("cannot find the image that --base names")?,
    ))
}

fn find(reference: &ImageReference, sources: &FindOptions, arguments: &Arguments) -> Result<Image> {
    let platform = or_host(arguments.platform.as_ref())?;
    Ok(source::find(reference, &platform, sources)?)
}

fn print_json(name: &str, kind: ExtensionKind, findings: &Findings) -> io::Result<()> {
    let facts = json!({
        "target": name,
        "kind": kind,
        "errors": findings.count(Severity::Error),
        "warnings": findings.count(Severity::Warning),
        "notes": findings.count(Severity::Note),
        "findings": findings.kept(),
    });
    writeln!(io::stdout().lock(), "{facts:#}")
}

fn print(findings: &Findings) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (code, found, total) in by_code(findings) {
        writeln!(out, "{} {code}: {}", code.severity(), code.rule().what)?;
        for finding in found.iter().take(NAMED) {
            writeln!(out, "  {} {}", finding.path, finding.message)?;
        }
        let rest = total.saturating_sub(NAMED as u64);
        if rest > 0 {
            writeln!(out, "  and {rest} more (--json names them)")?;
        }
        writeln!(out, "  -> {}\n", code.rule().mend)?;
    }
    let count = |severity, word| match findings.count(severity) {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let errors = count(Severity::Error, "error");
    let warnings = count(Severity::Warning, "warning");
    writeln!(
        out,
        "{errors}, {warnings}, {}",
        count(Severity::Note, "note")
    )?;
    out.flush()
}

fn explain(codes: &[Code]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (index, code) in codes.iter().enumerate() {
        let Rule {
            name,
            severity,
            what,
            why,
            mend,
            incident,
        } = code.rule();
        let between = if index > 0 { "\n" } else { "" };
        writeln!(out, "{between}{name} ({severity}): {what}")?;
        writeln!(out, "  why   {why}")?;
        writeln!(out, "  mend  {mend}")?;
        writeln!(out, "  seen  {incident}")?;
    }
    out.flush()
}
