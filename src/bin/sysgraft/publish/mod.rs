//! `sysgraft publish`: built images go to where nodes look for them.

mod show;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, ValueEnum};
use sysgraft::publish::base_url::BaseUrl;
use sysgraft::publish::catalog::{self, Entry};
use sysgraft::publish::edition::{Edition, refuse_twins};
use sysgraft::publish::provisioning::{self, Format, Material};
use sysgraft::publish::registry::{self, Options, Pushed, Repository, RepositoryName};
use sysgraft::publish::sysupdate::{self, Change, Feed, OpenPgpKey, Plan};
use sysgraft::secureboot::EfiTime;
use sysgraft::signature::Certificate;
use sysgraft::terminal::text::log;
use sysgraft::terminal::{Bar, text};
use sysgraft::verification::Progress;
use sysgraft::version::Version;

use crate::content_arguments::source_date_epoch;
use crate::jobs;
use crate::registry_arguments::ConnectionArguments;

/// Arguments of `sysgraft publish`.
#[derive(Args)]
#[command(
    group(ArgGroup::new("where").required(true).multiple(true)),
    after_long_help = "\
Examples:
  sysgraft publish --sysupdate feed --base-url https://example.org/feed --keep 3 build/hello.sysext.raw
  sysgraft publish --version 1.2 --sysupdate feed --gpg-key release@example.org build/*.raw
  sysgraft publish --registry ghcr.io/me/hello --catalog releases.json build/amd64/*.raw build/arm64/*.raw
  sysgraft publish --emit butane --base-url https://example.org/feed --certificate db.pem build/hello.sysext.raw

Every image is proved first, but for whom its signature is by. Its name, kind, version and architecture
are those in its release file. A version that is published stays as it is, so a publication can be
repeated: what is there already is left alone, and another content is refused.

In a registry each image becomes an artefact of Kairos' types, tagged VERSION-ARCH; VERSION and latest are
indexes over all architectures. Beside each image lie a list of its files (SPDX) and, if it says what it was
made of, its provenance (in-toto, SLSA). Logins are those of docker and podman
login, or --creds; mirrors are for pulling and get nothing.

--emit alone publishes nothing. With it, only the fragment goes to standard output.

Exit codes: 0 everything is published; 1 something is not; 2 wrong usage; 130 and 143 interrupted."
)]
pub struct Arguments {
    /// Images to publish
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Version of the images, if they do not say it (SYSEXT_VERSION_ID, CONFEXT_VERSION_ID)
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    #[command(flatten)]
    feed: FeedArguments,
    #[command(flatten)]
    registry: RegistryArguments,
    #[command(flatten)]
    emit: EmitArguments,
    /// Replace a version that is published with another content; nodes that have it do not get it
    #[arg(long)]
    replace: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads that hash, at most 256 [default: one per core]
    #[arg(long, value_name = "N", value_parser = jobs::parse)]
    jobs: Option<NonZeroUsize>,
    /// Print the result as JSON
    #[arg(long, conflicts_with = "emit")]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// Feeds of systemd-sysupdate.
#[derive(Args)]
struct FeedArguments {
    /// Put the images into this folder as NAME_VERSION_ARCH.KIND.raw, and into its SHA256SUMS
    #[arg(long, value_name = "DIR", group = "where")]
    sysupdate: Option<PathBuf>,
    /// Where the folder is served: files NAME.KIND.transfer, with which nodes follow it, are put there
    #[arg(long, value_name = "URL")]
    base_url: Option<BaseUrl>,
    /// Sign SHA256SUMS with this key of gpg's; nodes then demand a signature
    #[arg(long, value_name = "ID", requires = "sysupdate")]
    gpg_key: Option<String>,
    /// With --emit alone: the feed is signed, so that the machine is to demand it
    #[arg(long, requires = "emit")]
    signed: bool,
    /// Keep the newest N versions of the extension for its architecture, and remove older ones
    #[arg(long, value_name = "N", requires = "sysupdate")]
    keep: Option<NonZeroUsize>,
    /// Let nodes get the extension only after its feature was switched on (NAME.KIND.feature)
    #[arg(long, requires = "sysupdate", requires = "base_url")]
    feature: bool,
}

impl FeedArguments {
    fn is_signed(&self) -> bool {
        let folder = self.sysupdate.as_deref();
        self.signed || self.gpg_key.is_some() || folder.is_some_and(sysupdate::is_signed)
    }
}

/// Registries, and catalogs of what is in them.
#[derive(Args)]
struct RegistryArguments {
    /// Push the images to this repository (registry and path, without tag)
    #[arg(long, value_name = "REPOSITORY", group = "where")]
    registry: Option<RepositoryName>,
    /// Push no lists of files and no provenance
    #[arg(long, requires = "registry")]
    no_statements: bool,
    /// Add the images to this catalog, as Kairos nodes read it (releases.json)
    #[arg(long, value_name = "FILE", requires = "registry")]
    catalog: Option<PathBuf>,
}

/// Fragments with which machines are provisioned.
#[derive(Args)]
struct EmitArguments {
    /// Print what gives a new machine the images from where --base-url or --registry says
    #[arg(long, value_name = "FORMAT", value_enum, group = "where")]
    emit: Option<EmitFormat>,
    /// Certificate that the machine is to trust; it must be the signer's
    #[arg(long, value_name = "FILE", requires = "emit")]
    certificate: Option<PathBuf>,
    /// With --emit, only name this repository: the images are in it already
    #[arg(
        long,
        value_name = "REPOSITORY",
        requires = "emit",
        conflicts_with = "registry"
    )]
    from_registry: Option<RepositoryName>,
}

/// Who reads a fragment.
#[derive(Clone, Copy, ValueEnum)]
enum EmitFormat {
    Butane,
    Ignition,
    CloudConfig,
    Prism,
    Mkosi,
    #[value(name = "k8s-plan")]
    K8sPlan,
}

impl From<EmitFormat> for Format {
    fn from(format: EmitFormat) -> Format {
        match format {
            EmitFormat::Butane => Format::Butane,
            EmitFormat::Ignition => Format::Ignition,
            EmitFormat::CloudConfig => Format::CloudConfig,
            EmitFormat::Prism => Format::Prism,
            EmitFormat::Mkosi => Format::Mkosi,
            EmitFormat::K8sPlan => Format::K8sPlan,
        }
    }
}

/// What became of everything.
struct Published<'a> {
    editions: &'a [Edition],
    feed: Option<(&'a PathBuf, Change)>,
    pushed: Vec<Pushed>,
    /// The catalog, and whether it changed.
    catalog: Option<(&'a PathBuf, bool)>,
    dry_run: bool,
}

impl Published<'_> {
    fn is_something(&self) -> bool {
        self.feed.is_some() || !self.pushed.is_empty()
    }
}

/// Proves all images, looks whether they may be published everywhere, then publishes them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let editions = open_all(arguments)?;
    // What cannot be rendered is known before anything is published.
    let fragment = fragment(arguments, &editions)?;
    if let Some(name) = &arguments.registry.registry {
        registry::refuse_unfit(&name.canonical(), &editions)?;
    }
    if arguments.registry.catalog.is_some() {
        catalog::refuse_confexts(&editions)?;
    }
    let mut published = Published {
        editions: &editions,
        feed: None,
        pushed: Vec::new(),
        catalog: None,
        dry_run: arguments.dry_run,
    };
    if let Err(error) = publish(arguments, &mut published) {
        if published.is_something() {
            log("published until then, which a repetition of the command leaves as it is:");
            show::lines(&published).iter().for_each(|line| log(line));
        }
        return Err(error);
    }
    match fragment {
        Some(fragment) => {
            for line in show::lines(&published) {
                log(&line);
            }
            show::text(&fragment)
        }
        None => show::print(&published, arguments.json),
    }
    .context(text::STDOUT_FAILED)
}

/// Publishes to a feed, to a registry and in a catalog, in this order, after all were asked.
fn publish<'a>(arguments: &'a Arguments, published: &mut Published<'a>) -> Result<()> {
    let editions = published.editions;
    let folder = arguments.feed.sysupdate.as_ref();
    let key = arguments.feed.gpg_key.clone().map(OpenPgpKey);
    let feed = folder.map(|folder| Feed {
        folder,
        base_url: arguments.feed.base_url.as_ref(),
        key: key.as_ref(),
        keep: arguments.feed.keep,
        optional: arguments.feed.feature,
        replace: arguments.replace,
    });
    let plan = feed.map(|feed| Plan::make(feed, editions)).transpose()?;
    let now = now()?;
    let options = Options {
        replace: arguments.replace,
        statements: !arguments.registry.no_statements,
        now: &now,
    };
    let repository = match &arguments.registry.registry {
        Some(name) => {
            let options = arguments.connection.options()?;
            Some(Repository::open(name.image_name(), &options)?)
        }
        None => None,
    };
    let preview = match &repository {
        Some(repository) => registry::preview(repository, editions, options)?,
        None => Vec::new(),
    };
    let catalog = arguments.registry.catalog.as_ref();
    let would_change = catalog.map(|path| {
        let entries = catalog_entries(editions, &preview);
        catalog::would_change(path, &entries, &now)
    });
    let would_change = would_change.transpose()?;
    if arguments.dry_run {
        let change = plan.map(|plan| plan.change().clone());
        published.feed = folder.zip(change);
        published.pushed = preview;
        published.catalog = catalog.zip(would_change);
        return Ok(());
    }
    let bytes = editions.iter().map(|edition| edition.size).sum();
    if let (Some(folder), Some(plan)) = (folder, plan) {
        let bar = Bar::new("Copying", bytes);
        published.feed = Some((folder, plan.carry_out(&|bytes| bar.advance(bytes))?));
    }
    if let Some(repository) = &repository {
        let bar = Bar::new("Pushing", bytes);
        let on_sent = move |bytes| bar.advance(bytes);
        published.pushed = registry::push(repository, editions, options, on_sent)?;
    }
    if let Some(path) = catalog {
        let entries = catalog_entries(editions, &published.pushed);
        published.catalog = Some((path, catalog::add(path, &entries, &now)?));
    }
    Ok(())
}

/// What was asked for with `--emit`.
fn fragment(arguments: &Arguments, editions: &[Edition]) -> Result<Option<String>> {
    let options = &arguments.emit;
    let Some(format) = options.emit else {
        return Ok(None);
    };
    let certificate = options.certificate.as_deref().map(Certificate::load);
    let certificate = certificate.transpose()?;
    let repository = arguments.registry.registry.as_ref();
    let repository = repository.or(options.from_registry.as_ref());
    let repository = repository.map(RepositoryName::canonical);
    let material = Material {
        editions,
        base_url: arguments.feed.base_url.as_ref(),
        signed_feed: arguments.feed.is_signed(),
        repository: repository.as_deref(),
        certificate: certificate.as_ref(),
        certificate_path: options.certificate.as_deref(),
    };
    Ok(Some(provisioning::render(format.into(), &material)?))
}

fn catalog_entries<'a>(editions: &'a [Edition], pushed: &'a [Pushed]) -> Vec<Entry<'a>> {
    let entry = |(edition, pushed): (&'a Edition, &'a Pushed)| Entry {
        edition,
        repository: &pushed.repository,
        manifest: pushed.manifest,
        index: pushed.index,
    };
    editions.iter().zip(pushed).map(entry).collect()
}

/// The time that documents say they were made at: `SOURCE_DATE_EPOCH`, else the clock's.
fn now() -> Result<String> {
    let seconds = match source_date_epoch()? {
        Some(seconds) => seconds,
        None => i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?,
    };
    Ok(EfiTime::from_unix(seconds)?.rfc3339())
}

fn open_all(arguments: &Arguments) -> Result<Vec<Edition>> {
    let jobs = arguments.jobs.unwrap_or_else(jobs::all_cores);
    let open = |path: &PathBuf| {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        let proving = Proving(Bar::new("Proving", size));
        let edition = Edition::open(path, arguments.version.as_ref(), jobs, &proving)?;
        if edition.signer.is_none() {
            text::warning(&format!(
                "{} is not signed; hosts that demand signed extensions will refuse it",
                path.display()
            ));
        }
        Ok(edition)
    };
    let editions: Vec<Edition> = arguments.images.iter().map(open).collect::<Result<_>>()?;
    refuse_twins(&editions)?;
    Ok(editions)
}

struct Proving(Bar);

impl Progress for Proving {
    fn begin(&self, _bytes: u64) {}

    fn verified(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}
