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
    /// A hard link leads to something that none of the layers has.
    #[error(
        "{path} is a hard link to {target}, but the layers that were read have no such file; choose the layer that has it, too"
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
    /// Two things would have one path.
    #[error(
        "both {first} and {second} of the image would become {to}; move one of them elsewhere, or exclude it"
    )]
    RemapConflict {
        /// The path.
        to: EntryPath,
        /// Where one of them lies in the image.
        first: EntryPath,
        /// Where the other one does.
        second: EntryPath,
    },
    /// The new path of something would be longer than kernels take.
    #[error("{from} cannot be moved: its new path would be longer than 4095 bytes")]
    RemapTooLong {
        /// Where it lies.
        from: EntryPath,
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
    #[error(
        "the layers have nothing under {}{}{}",
        list(kept),
        left_out(kept, dropped),
        others(kept, dropped)
    )]
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

/// ` that is wanted (3 entries match an --exclude or no --include)`, if they have something there.
fn left_out(kept: &[&str], dropped: &DroppedEntries) -> String {
    let filtered = dropped.count(Cause::Excluded) + dropped.count(Cause::NotIncluded);
    let there: u64 = tops(kept, dropped, true).map(|(_, count)| count).sum();
    match (filtered, there) {
        (0, 0) => String::new(),
        (0, 1) => " that an extension can have (1 entry is left out)".to_owned(),
        (0, count) => format!(" that an extension can have ({count} entries are left out)"),
        (1, _) => " that is wanted (1 entry matches an --exclude or no --include)".to_owned(),
        (count, _) => {
            format!(" that is wanted ({count} entries match an --exclude or no --include)")
        }
    }
}

/// `, only /etc (3 entries), /var (1 entry)`, the first few of them.
fn others(kept: &[&str], dropped: &DroppedEntries) -> String {
    const NAMED: usize = 8;
    let named: Vec<String> = tops(kept, dropped, false)
        .take(NAMED)
        .map(|(top, count)| {
            let entries = if count == 1 { "entry" } else { "entries" };
            format!("/{} ({count} {entries})", printable(top))
        })
        .collect();
    match tops(kept, dropped, false).count() {
        0 if dropped.total() == 0 => "; they are empty".to_owned(),
        0 => String::new(),
        all if all > NAMED => format!(", only {} and {} more", named.join(", "), all - NAMED),
        _ => format!(", only {}", named.join(", ")),
    }
}

/// The directories of the root that the extension could hold, or those that it could not, with the
/// number of their entries.
fn tops<'a>(
    kept: &'a [&str],
    dropped: &'a DroppedEntries,
    could_hold: bool,
) -> impl Iterator<Item = (&'a [u8], u64)> {
    let is_kept = |top: &[u8]| kept.iter().any(|kept| kept.as_bytes() == top);
    let tops = dropped.by_top().iter();
    tops.map(|(top, count)| (&**top, *count))
        .filter(move |(top, _)| is_kept(top) == could_hold)
}
