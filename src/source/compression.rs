//! How archives and layers are compressed, told by their first bytes and never by their names.

use std::io::{self, BufRead, Read};

/// A compression that container images use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Bytes that suffice to tell the compressions apart.
pub(super) const MAGIC_SIZE: usize = 4;

impl Compression {
    /// The compression of content that starts with `bytes`. Sources: RFC 1952, section 2.3.1;
    /// RFC 8878, sections 3.1.1 and 3.1.2 (a skippable frame may come first, as zstd:chunked has it).
    pub fn of(bytes: &[u8]) -> Compression {
        match *bytes {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// Reads what `source` holds compressed.
    pub fn reader<'a>(self, source: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Compression::None => Box::new(source),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(source)?),
        })
    }
}
