//! How many files a layer has, and where.

use super::whiteout::{Meaning, meaning};
use crate::layer::{EntryKind, EntryStream, LayerError};

/// How many files of a layer lie where. Files are whatever is no directory and hides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Below `/usr`.
    pub usr: u64,
    /// Below `/opt`.
    pub opt: u64,
    /// Below `/etc`.
    pub etc: u64,
    /// Anywhere else.
    pub elsewhere: u64,
    /// Whiteouts and opaque directories, which hide files of the layers below.
    pub whiteouts: u64,
}

impl Census {
    /// Counts a layer to its end, digests included.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn of(entries: &mut dyn EntryStream) -> Result<Census, LayerError> {
        let mut census = Census::default();
        while let Some(entry) = entries.next_entry()? {
            match meaning(&entry.path) {
                Meaning::Entry if entry.kind == EntryKind::Directory => {}
                Meaning::Entry => match entry.path.components().next() {
                    Some(b"usr") => census.usr += 1,
                    Some(b"opt") => census.opt += 1,
                    Some(b"etc") => census.etc += 1,
                    _ => census.elsewhere += 1,
                },
                Meaning::Hides(_) => census.whiteouts += 1,
                Meaning::Metadata | Meaning::Invalid => {}
            }
        }
        entries.finish()?;
        Ok(census)
    }
}
