//! Why layers give no tree.

use super::{Cause, DroppedEntries};
use crate::layer::{EntryPath, LayerError};
use crate::printable::printable;

/// Why layers give no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A layer is damaged, or refused.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The file system could not take a leaf.
    #[error("cannot store {path}")]
    Sink {
        /// The leaf.
        path: EntryPath,
        /// What the sink said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry lies below something that is no directory.
    #[error("entry {path} is refused: {parent} above it is no directory in the same layer")]
    ParentIsNotADirectory {
        /// The entry.
        path: EntryPath,
        /// What is no directory.
        parent: EntryPath,
    },
    /// One of the directories that systemd merges is none.
    #[error(
        "{path} is no directory in the layer, so nothing of it could be merged into the host's; install the files below a true directory"
    )]
    HierarchyIsNotADirectory {
        /// `usr`, `opt` or `etc`.
        path: EntryPath,
    },
    /// A whiteout hides something without a name.
    #[error("whiteout {path} is refused: it does not say what it deletes")]
    InvalidWhiteout {
        /// The whiteout.
        path: EntryPath,
    },
    /// A layer says that something is a directory and that it is none, and there is no telling
    /// which of the files below it are meant.
    #[error("entry {path} is refused: the same layer has it as a directory, too")]
    Contradiction {
        /// The entry.
        path: EntryPath,
    },
    /// A hard link leads to something that is not in the extension.
    #[error("{path} is a hard link to {target}, which is left out ({cause}); {}", advice(.cause))]
    LinkTargetDropped {
        /// The link.
        path: EntryPath,
        /// What it should be.
        target: EntryPath,
        /// Why that is left out.
        cause: Cause,
    },
    /// A hard link leads to something that no layer has, or that an upper layer hides.
    #[error(
        "{path} is a hard link to {target}, but the layers that were read have no such file, or it is deleted or replaced above; select the layer that has it, too"
    )]
    LinkTargetMissing {
        /// The link.
        path: EntryPath,
        /// What it should be.
        target: EntryPath,
    },
    /// A hard link leads to a directory.
    #[error("{path} is refused: it is a hard link to the directory {target}")]
    LinkToDirectory {
        /// The link.
        path: EntryPath,
        /// The directory.
        target: EntryPath,
    },
    /// The names of a tree would need too much memory.
    #[error("entry {path} breaks a limit: {what} must not exceed {limit}")]
    TooLarge {
        /// The entry.
        path: EntryPath,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Nothing of the layers belongs into the extension.
    #[error("the layers have nothing under {}{}", list(kept), tops(dropped))]
    Empty {
        /// What the extension could hold.
        kept: &'static [&'static str],
        /// What they have instead.
        dropped: Box<DroppedEntries>,
    },
}

/// `/usr or /opt`.
fn list(hierarchies: &[&str]) -> String {
    let paths: Vec<String> = hierarchies.iter().map(|top| format!("/{top}")).collect();
    paths.join(" or ")
}

/// `, only /etc (3 entries), /var (1 entry)`, the first few of them.
fn tops(dropped: &DroppedEntries) -> String {
    const NAMED: usize = 8;
    let tops: Vec<String> = dropped
        .by_top()
        .iter()
        .take(NAMED)
        .map(|(top, count)| {
            let entries = if *count == 1 { "entry" } else { "entries" };
            format!("/{} ({count} {entries})", printable(top))
        })
        .collect();
    match dropped.by_top().len() {
        0 => "; they are empty".to_owned(),
        all if all > NAMED => format!(", only {} and {} more", tops.join(", "), all - NAMED),
        _ => format!(", only {}", tops.join(", ")),
    }
}

fn advice(cause: &Cause) -> &'static str {
    match cause {
        Cause::Outside => {
            "make it a copy when building the image, or keep that directory too (--with-opt keeps /opt in a sysext)"
        }
        _ => "make it a copy when building the image",
    }
}
