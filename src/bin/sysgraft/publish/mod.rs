//! `sysgraft publish`: built images go to where nodes look for them.

mod show;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use sysgraft::publish::base_url::BaseUrl;
use sysgraft::publish::edition::{Edition, refuse_twins};
use sysgraft::publish::sysupdate::{Change, Feed, OpenPgpKey, Plan};
use sysgraft::terminal::{Bar, text};
use sysgraft::verification::Progress;
use sysgraft::version::Version;

use crate::jobs;

/// Arguments of `sysgraft publish`.
#[derive(Args)]
#[command(
    group(ArgGroup::new("where").required(true).multiple(true)),
    after_long_help = "\
Examples:
  sysgraft publish --sysupdate feed --base-url https://example.org/feed --keep 3 build/hello.sysext.raw
  sysgraft publish --version 1.2 --sysupdate feed --gpg-key release@example.org build/*.raw

Every image is proved first, but for whom its signature is by. Its name, kind, version and architecture
are those in its release file. A version that is published stays as it is, so a publication can be
repeated: what is there already is left alone, and another content is refused.

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
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Threads that hash, at most 256 [default: one per core]
    #[arg(long, value_name = "N", value_parser = jobs::parse)]
    jobs: Option<NonZeroUsize>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
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
    /// Sign SHA256SUMS with this key of gpg's
    #[arg(long, value_name = "ID", requires = "sysupdate")]
    gpg_key: Option<String>,
    /// Keep the newest N versions of the extension for its architecture, and remove older ones
    #[arg(long, value_name = "N", requires = "sysupdate")]
    keep: Option<NonZeroUsize>,
    /// Let nodes get the extension only after its feature was switched on (NAME.KIND.feature)
    #[arg(long, requires = "sysupdate", requires = "base_url")]
    feature: bool,
    /// Replace a version that is published with another content; nodes that have it do not get it
    #[arg(long, requires = "sysupdate")]
    replace: bool,
}

/// What became of everything.
struct Published<'a> {
    editions: &'a [Edition],
    feed: Option<(&'a PathBuf, Change)>,
    dry_run: bool,
}

/// Proves all images, then publishes them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let editions = open_all(arguments)?;
    let feed = match &arguments.feed.sysupdate {
        Some(folder) => Some((folder, feed(arguments, folder, &editions)?)),
        None => None,
    };
    let published = Published {
        editions: &editions,
        feed,
        dry_run: arguments.dry_run,
    };
    show::print(&published, arguments.json).context(text::STDOUT_FAILED)
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

fn feed(arguments: &Arguments, folder: &PathBuf, editions: &[Edition]) -> Result<Change> {
    let options = &arguments.feed;
    let key = options.gpg_key.clone().map(OpenPgpKey);
    let feed = Feed {
        folder,
        base_url: options.base_url.as_ref(),
        key: key.as_ref(),
        keep: options.keep,
        optional: options.feature,
        replace: options.replace,
    };
    let plan = Plan::make(feed, editions)?;
    if arguments.dry_run {
        return Ok(plan.change().clone());
    }
    let bar = Bar::new("Copying", editions.iter().map(|edition| edition.size).sum());
    Ok(plan.carry_out(&|bytes| bar.advance(bytes))?)
}

struct Proving(Bar);

impl Progress for Proving {
    fn begin(&self, _bytes: u64) {}

    fn verified(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}
