//! What becomes of the ends of files.

use std::fmt;
use std::str::FromStr;

use super::compression::Compression;

/// Where the end of a compressed file lies: what remains behind its last full chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailPacking {
    /// In blocks of its own, as any other chunk; needs nothing of Linux that compression does not.
    None,
    /// Behind the inode, if it compresses to a block at most and fits; Linux 5.17 reads it.
    Inline,
    /// In an inode that holds all ends, and so all files smaller than a chunk, and is compressed as
    /// if it were one file; Linux 6.1 reads it.
    Fragments,
}

impl TailPacking {
    /// The packing that saves most among those that need no newer Linux than the compression does.
    pub fn best_for(compression: Compression) -> TailPacking {
        match compression {
            Compression::Zstd(_) => TailPacking::Fragments,
            Compression::None | Compression::Lz4 | Compression::Lz4Hc(_) => TailPacking::None,
        }
    }
}

/// Why the name of a packing is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no packing of tails: there are none, inline and fragments")]
pub struct UnknownTailPacking(String);

impl FromStr for TailPacking {
    type Err = UnknownTailPacking;

    fn from_str(text: &str) -> Result<TailPacking, UnknownTailPacking> {
        match text {
            "none" => Ok(TailPacking::None),
            "inline" => Ok(TailPacking::Inline),
            "fragments" => Ok(TailPacking::Fragments),
            _ => Err(UnknownTailPacking(text.to_owned())),
        }
    }
}

impl fmt::Display for TailPacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TailPacking::None => "none",
            TailPacking::Inline => "inline",
            TailPacking::Fragments => "fragments",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_have_names() {
        for packing in [
            TailPacking::None,
            TailPacking::Inline,
            TailPacking::Fragments,
        ] {
            assert_eq!(packing.to_string().parse(), Ok(packing));
        }
        for text in ["", "None", "packed"] {
            assert!(text.parse::<TailPacking>().is_err(), "{text}");
        }
    }
}
