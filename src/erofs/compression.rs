//! Compressing and decompressing the content of files, a chunk at a time.

use std::fmt;
use std::str::FromStr;

use lz4::block::CompressionMode;

/// How the content of files is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all; Linux 5.4 reads it.
    None,
    /// LZ4 as fast as it goes; Linux 5.13 reads it.
    Lz4,
    /// LZ4 with a thorough search, level 3 to 12; read as fast as any LZ4, by Linux 5.13.
    Lz4Hc(u8),
    /// Zstandard, level 1 to 22; Linux 6.10 reads it.
    Zstd(u8),
}

/// The level of `lz4hc` without one: level 9 takes nearly twice as long and saves less than 1 %.
const LZ4HC_LEVEL: u8 = 5;
/// The level of `zstd` without one; zstd's own.
const ZSTD_LEVEL: u8 = 3;

impl Default for Compression {
    /// What saves most among what every supported node reads: Linux 5.13 is older than any of them.
    fn default() -> Compression {
        Compression::Lz4Hc(LZ4HC_LEVEL)
    }
}

/// Why the name of a compression is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no compression: there are none, lz4, lz4hc[:LEVEL] with levels 3 to 12, and \
     zstd[:LEVEL] with levels 1 to 22"
)]
pub struct UnknownCompression(String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Compression, UnknownCompression> {
        let unknown = || UnknownCompression(text.to_owned());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Compression::None),
            ("lz4", None) => Ok(Compression::Lz4),
            ("lz4hc", None) => Ok(Compression::Lz4Hc(LZ4HC_LEVEL)),
            ("lz4hc", Some(level @ 3..=12)) => Ok(Compression::Lz4Hc(level)),
            ("zstd", None) => Ok(Compression::Zstd(ZSTD_LEVEL)),
            ("zstd", Some(level @ 1..=22)) => Ok(Compression::Zstd(level)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Lz4Hc(level) => write!(f, "lz4hc:{level}"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

impl Compression {
    /// The algorithm that reads the result, if there is anything to read.
    pub fn algorithm(self) -> Option<Algorithm> {
        match self {
            Compression::None => None,
            Compression::Lz4 | Compression::Lz4Hc(_) => Some(Algorithm::Lz4),
            Compression::Zstd(_) => Some(Algorithm::Zstd),
        }
    }
}

/// How many bytes of a file are compressed together: a power of two, 8 KiB to 1 MiB.
///
/// A read of any byte decompresses its chunk; larger chunks compress better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize(u8);

/// Why a number of bytes is no chunk size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no chunk size: there are the powers of two from 8K to 1M")]
pub struct BadChunkSize(String);

impl ChunkSize {
    /// The chunk size of so many bytes.
    ///
    /// # Errors
    /// [`BadChunkSize`] if it is no power of two, less than 8 KiB or more than 1 MiB.
    pub fn new(bytes: usize) -> Result<ChunkSize, BadChunkSize> {
        match (bytes.is_power_of_two(), bytes.trailing_zeros()) {
            #[allow(clippy::cast_possible_truncation)] // 20 at most
            (true, bits @ 13..=20) => Ok(ChunkSize(bits as u8)),
            _ => Err(BadChunkSize(bytes.to_string())),
        }
    }

    /// Bytes.
    pub fn bytes(self) -> usize {
        1 << self.0
    }

    /// The logarithm of the bytes.
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// The most blocks that a compressed chunk takes: one less than if it were not.
    pub(super) fn max_compressed_blocks(self) -> u16 {
        (1 << (self.0 - 12)) - 1
    }
}

impl Default for ChunkSize {
    /// 256 KiB: reads at random cost no more than in images that mkfs.erofs makes with the same
    /// algorithm, about as large.
    fn default() -> ChunkSize {
        ChunkSize(18)
    }
}

impl FromStr for ChunkSize {
    type Err = BadChunkSize;

    /// Reads bytes, or KiB with the suffix `K`, or MiB with `M`.
    fn from_str(text: &str) -> Result<ChunkSize, BadChunkSize> {
        let (number, unit) = match text.as_bytes().last() {
            Some(b'K') => (&text[..text.len() - 1], 1 << 10),
            Some(b'M') => (&text[..text.len() - 1], 1 << 20),
            _ => (text, 1),
        };
        let bytes: Option<usize> = number.parse().ok();
        bytes
            .and_then(|bytes| bytes.checked_mul(unit))
            .and_then(|bytes| ChunkSize::new(bytes).ok())
            .ok_or_else(|| BadChunkSize(text.to_owned()))
    }
}

impl fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() >> 10 {
            1024 => f.write_str("1M"),
            kibibytes => write!(f, "{kibibytes}K"),
        }
    }
}

/// A format of compressed data; `Z_EROFS_COMPRESSION_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// LZ4 blocks, from the fast or the thorough compressor.
    Lz4,
    /// MicroLZMA, which this program does not read.
    Lzma,
    /// DEFLATE, which this program does not read.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

impl Algorithm {
    /// All there are, in the order of their numbers.
    pub(super) const ALL: [Algorithm; 4] = [
        Algorithm::Lz4,
        Algorithm::Lzma,
        Algorithm::Deflate,
        Algorithm::Zstd,
    ];

    /// The number that inodes have for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Algorithm::Lz4 => 0,
            Algorithm::Lzma => 1,
            Algorithm::Deflate => 2,
            Algorithm::Zstd => 3,
        }
    }

    /// The algorithm of a number.
    pub(super) fn from_code(code: u8) -> Option<Algorithm> {
        Algorithm::ALL.get(usize::from(code)).copied()
    }

    /// Decompresses `compressed`, of which nothing may remain, to exactly fill `content`; `false`
    /// if that cannot be done.
    #[must_use]
    pub(super) fn decompress(self, compressed: &[u8], content: &mut [u8]) -> bool {
        let expected = content.len();
        let length = match self {
            Algorithm::Lz4 => i32::try_from(expected).ok().and_then(|size| {
                lz4::block::decompress_to_buffer(compressed, Some(size), content).ok()
            }),
            Algorithm::Zstd => zstd::bulk::decompress_to_buffer(compressed, content).ok(),
            Algorithm::Lzma | Algorithm::Deflate => None,
        };
        length == Some(expected)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Lz4 => "LZ4",
            Algorithm::Lzma => "LZMA",
            Algorithm::Deflate => "DEFLATE",
            Algorithm::Zstd => "Zstandard",
        })
    }
}

/// Compresses chunks; each thread has its own.
pub(super) enum Compressor {
    Lz4(CompressionMode),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// The compressor for `compression`, unless that is none.
    pub fn new(compression: Compression) -> std::io::Result<Option<Compressor>> {
        Ok(match compression {
            Compression::None => None,
            Compression::Lz4 => Some(Compressor::Lz4(CompressionMode::DEFAULT)),
            Compression::Lz4Hc(level) => Some(Compressor::Lz4(CompressionMode::HIGHCOMPRESSION(
                level.into(),
            ))),
            Compression::Zstd(level) => {
                let compressor = zstd::bulk::Compressor::new(level.into())?;
                Some(Compressor::Zstd(Box::new(compressor)))
            }
        })
    }

    /// Compresses `content` into `compressed`, which then has as many bytes; `false` if it would
    /// have more than `limit`.
    #[must_use]
    pub fn compress(&mut self, content: &[u8], limit: usize, compressed: &mut Vec<u8>) -> bool {
        compressed.resize(limit, 0);
        let length = match self {
            Compressor::Lz4(mode) => {
                lz4::block::compress_to_buffer(content, Some(*mode), false, compressed)
            }
            Compressor::Zstd(compressor) => {
                compressor.compress_to_buffer(content, &mut compressed[..])
            }
        };
        compressed.truncate(*length.as_ref().unwrap_or(&0));
        length.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_have_names() {
        for (text, compression) in [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("lz4hc:3", Compression::Lz4Hc(3)),
            ("lz4hc:12", Compression::Lz4Hc(12)),
            ("zstd:1", Compression::Zstd(1)),
            ("zstd:22", Compression::Zstd(22)),
        ] {
            assert_eq!(text.parse(), Ok(compression));
            assert_eq!(compression.to_string(), text);
        }
        assert_eq!("lz4hc".parse(), Ok(Compression::Lz4Hc(LZ4HC_LEVEL)));
        assert_eq!("zstd".parse(), Ok(Compression::Zstd(ZSTD_LEVEL)));
        for text in [
            "", "gzip", "none:1", "lz4:1", "lz4hc:2", "lz4hc:13", "zstd:0", "zstd:23", "zstd:",
            "zstd:-1", "ZSTD", "zstd:300",
        ] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }

    #[test]
    fn chunk_sizes_are_powers_of_two_within_bounds() {
        for (text, bytes) in [
            ("8K", 8 << 10),
            ("128K", 128 << 10),
            ("1M", 1 << 20),
            ("65536", 65_536),
            ("1024K", 1 << 20),
        ] {
            let size: ChunkSize = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in [
            "",
            "K",
            "0",
            "4K",
            "2M",
            "100K",
            "-8K",
            "18446744073709551615M",
            "8k",
        ] {
            assert!(text.parse::<ChunkSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn content_is_compressed_if_it_fits_the_limit() {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let random: Vec<u8> = (0..100_000).map(|_| next()).collect();
        for name in ["lz4", "lz4hc", "zstd"] {
            let compression: Compression = name.parse().unwrap();
            let mut compressor = Compressor::new(compression).unwrap().unwrap();
            let mut compressed = Vec::new();
            for size in [4097, 8192, 8193, 100_000] {
                let zeros = vec![0; size];
                assert!(
                    compressor.compress(&zeros, 4096, &mut compressed),
                    "{name} {size}"
                );
                let length = compressed.len();
                assert!(!compressor.compress(&zeros, length - 1, &mut compressed));
                assert!(compressor.compress(&zeros, 4096, &mut compressed));
                assert_ne!(compressed[0], 0);
                let mut content = vec![1; size];
                let algorithm = compression.algorithm().unwrap();
                assert!(algorithm.decompress(&compressed, &mut content));
                assert_eq!(content, zeros);
                assert!(!algorithm.decompress(&compressed[1..], &mut content));
                assert!(!algorithm.decompress(&compressed, &mut content[1..]));
                assert!(!algorithm.decompress(&compressed, &mut vec![0; size + 1]));
            }
            for size in [0, 1, 4096] {
                assert!(!compressor.compress(&vec![0; size], 0, &mut compressed));
            }
            assert!(!compressor.compress(&random, 99_999, &mut compressed));
        }
    }
}
