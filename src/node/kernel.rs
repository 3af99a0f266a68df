//! Whether the kernel of a node can read a file system.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use flate2::read::GzDecoder;

use super::layout::Layout;
use crate::erofs::{Demand, KernelVersion, Superblock};

/// Larger files are none of the kernel's.
const MAX_BYTES: u64 = 4 << 20;
/// With what the options of EROFS begin.
const OPTIONS: &str = "CONFIG_EROFS_FS";

/// What is known of the kernel of a node. What is not known is no obstacle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: Option<String>,
    /// Whether it has EROFS at all.
    pub erofs: Option<bool>,
    /// The names in `/sys/fs/erofs/features`.
    pub features: Option<BTreeSet<String>>,
    /// The options of EROFS with which it was built.
    pub options: Option<BTreeSet<String>>,
}

/// Why a kernel cannot read a file system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It has no EROFS.
    #[error("{0} has no EROFS; build it with CONFIG_EROFS_FS, or install the module erofs")]
    NoErofs(String),
    /// It is too old for something in it.
    #[error("it uses {what}, for which Linux {needed} is needed, and {kernel} lacks it")]
    Feature {
        /// What it lacks.
        what: &'static str,
        /// The first version that has it.
        needed: KernelVersion,
        /// The kernel.
        kernel: String,
    },
    /// It was built without an algorithm.
    #[error("it is compressed with {what}, and {kernel} was built without {option}")]
    Option {
        /// The algorithm.
        what: &'static str,
        /// What turns it on.
        option: &'static str,
        /// The kernel.
        kernel: String,
    },
}

impl Kernel {
    /// The kernel that runs on a node; nothing is known of that of a tree of files.
    pub fn of(layout: &Layout) -> Kernel {
        let read = |path: &str| read(layout, path).ok();
        let release = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        let features = layout.open_path("/sys/fs/erofs/features").read_dir().ok();
        let features = features.map(|entries| {
            let names = entries.flatten().map(|entry| entry.file_name());
            names.filter_map(|name| name.into_string().ok()).collect()
        });
        Kernel {
            erofs: has_erofs(layout, release.as_deref()),
            options: options(layout, release.as_deref()),
            release,
            features,
        }
    }

    /// Its version.
    pub fn version(&self) -> Option<KernelVersion> {
        self.release.as_deref()?.parse().ok()
    }

    /// Why it cannot read a file system, as far as that is known.
    pub fn obstacle(&self, superblock: &Superblock) -> Option<Obstacle> {
        if self.erofs == Some(false) {
            return Some(Obstacle::NoErofs(self.to_string()));
        }
        superblock.demands().find_map(|demand| self.lacks(&demand))
    }

    fn lacks(&self, demand: &Demand) -> Option<Obstacle> {
        // Distributions bring features to older kernels, so what the kernel says goes before its
        // version.
        let has = match (demand.feature, &self.features) {
            (Some(feature), Some(features)) => Some(features.contains(feature)),
            _ => self.version().map(|version| version >= demand.kernel),
        };
        if has == Some(false) {
            return Some(Obstacle::Feature {
                what: demand.what,
                needed: demand.kernel,
                kernel: self.to_string(),
            });
        }
        let option = demand.option?;
        let built = self.options.as_ref()?.contains(option);
        (!built).then(|| Obstacle::Option {
            what: demand.what,
            option,
            kernel: self.to_string(),
        })
    }
}

/// Whether EROFS is there: in use, built in, or as a module. `None` where the modules are not to be
/// seen, as in a container.
fn has_erofs(layout: &Layout, release: Option<&str>) -> Option<bool> {
    let filesystems = read(layout, "/proc/filesystems").ok()?;
    if filesystems.split_whitespace().any(|word| word == "erofs") {
        return Some(true);
    }
    let folder = format!("/lib/modules/{}", release?);
    let lists =
        ["modules.dep", "modules.builtin"].map(|list| read(layout, &format!("{folder}/{list}")));
    let known = lists.iter().any(Result::is_ok);
    let found = lists
        .iter()
        .flatten()
        .any(|list| list.contains("/erofs.ko"));
    known.then_some(found)
}

/// The options of EROFS in the configuration of the kernel, which lies in one of several places.
fn options(layout: &Layout, release: Option<&str>) -> Option<BTreeSet<String>> {
    let compressed = open(layout, "/proc/config.gz").map(GzDecoder::new);
    let text = match (compressed.and_then(bounded), release) {
        (Ok(text), _) => text,
        (Err(_), Some(release)) => [
            format!("/boot/config-{release}"),
            format!("/lib/modules/{release}/config"),
        ]
        .iter()
        .find_map(|path| read(layout, path).ok())?,
        (Err(_), None) => return None,
    };
    let set = text.lines().filter_map(|line| {
        let (option, value) = line.split_once('=')?;
        (option.starts_with(OPTIONS) && matches!(value, "y" | "m")).then(|| option.to_owned())
    });
    let set: BTreeSet<String> = set.collect();
    // Without any it is the configuration of something else.
    (!set.is_empty()).then_some(set)
}

fn open(layout: &Layout, path: &str) -> io::Result<File> {
    File::open(layout.open_path(path))
}

fn read(layout: &Layout, path: &str) -> io::Result<String> {
    bounded(open(layout, path)?)
}

fn bounded(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    reader.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.release {
            Some(release) => write!(f, "Linux {release}"),
            None => f.write_str("the kernel"),
        }
    }
}
