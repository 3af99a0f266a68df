//! Compressed artefacts: told by their first bytes, unpacked as the bytes arrive.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use liblzma::write::XzDecoder;
use zstd::stream::raw;
use zstd::stream::zio;

/// What a decoder of xz may take; the highest preset of xz(1) needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// Frames with a larger window need `zstd --long` to be read, too; 2²⁷ is zstd's own default limit.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Bytes that suffice to tell what content is.
pub(super) const MAGIC_BYTES: usize = 6;

/// How an artefact is stored where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Xz,
    Gzip,
    Zstd,
    /// Known, but not unpacked here.
    Other(&'static str),
}

impl Compression {
    /// The compression of content that starts with `head`. Sources: the .xz file format 1.2,
    /// section 2.1.1; RFC 1952, section 2.3.1; RFC 8878, section 3.1; the formats' own
    /// specifications.
    pub fn of(head: &[u8]) -> Compression {
        match head {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Compression::Other("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Other("lz4"),
            _ => Compression::None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Xz => "xz",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Other(name) => name,
        }
    }
}

/// Unpacks what is written to it into `W`.
pub(super) enum Decoder<W: Write> {
    Xz(Box<XzDecoder<W>>),
    Gzip(Box<MultiGzDecoder<W>>),
    Zstd(Box<zio::Writer<W, raw::Decoder<'static>>>),
}

impl<W: Write> Decoder<W> {
    /// A decoder into `output`; `None` where there is nothing to decode.
    pub fn new(compression: Compression, output: W) -> io::Result<Option<Decoder<W>>> {
        Ok(match compression {
            Compression::None | Compression::Other(_) => None,
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Some(Decoder::Xz(Box::new(XzDecoder::new_stream(output, stream))))
            }
            Compression::Gzip => Some(Decoder::Gzip(Box::new(MultiGzDecoder::new(output)))),
            Compression::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Some(Decoder::Zstd(Box::new(zio::Writer::new(output, decoder))))
            }
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Decoder::Xz(decoder) => decoder.write_all(bytes),
            Decoder::Gzip(decoder) => decoder.write_all(bytes),
            Decoder::Zstd(decoder) => decoder.write_all(bytes),
        }
    }

    /// The output, if the compressed data came to its proper end.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Decoder::Xz(decoder) => decoder.finish(),
            Decoder::Gzip(decoder) => decoder.finish(),
            Decoder::Zstd(mut decoder) => {
                decoder.finish()?;
                let (output, _) = decoder.into_inner();
                Ok(output)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(compression: Compression, content: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(content, 3).unwrap(),
            _ => content.to_vec(),
        }
    }

    fn unpacked(compression: Compression, stored: &[u8], step: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(compression, Vec::new())?.unwrap();
        for piece in stored.chunks(step) {
            decoder.write(piece)?;
        }
        decoder.finish()
    }

    const ALL: [Compression; 3] = [Compression::Xz, Compression::Gzip, Compression::Zstd];

    fn content() -> Vec<u8> {
        (0..300_000u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect()
    }

    #[test]
    fn content_comes_back_whatever_the_pieces_are() {
        for compression in ALL {
            let stored = packed(compression, &content());
            assert_eq!(Compression::of(&stored), compression);
            for step in [1, 1000, usize::MAX] {
                assert!(unpacked(compression, &stored, step).unwrap() == content());
            }
            // Several streams one after another, as pxz, pigz and pzstd write them.
            let twice = [stored.clone(), stored].concat();
            let result = unpacked(compression, &twice, 777).unwrap();
            assert!(result == [content(), content()].concat(), "{compression:?}");
        }
    }

    #[test]
    fn data_that_is_cut_off_damaged_or_followed_by_other_data_is_refused() {
        for compression in ALL {
            let stored = packed(compression, &content());
            for length in [8, stored.len() / 2, stored.len() - 1] {
                let result = unpacked(compression, &stored[..length], 1000);
                assert!(result.is_err(), "{compression:?} {length}");
            }
            let mut longer = stored.clone();
            longer.extend(b"something else");
            assert!(
                unpacked(compression, &longer, 1000).is_err(),
                "{compression:?}"
            );
            // Neither gzip's header nor a zstd frame without a checksum reveals each changed bit.
            let mut damaged = stored;
            let middle = damaged.len() / 2;
            damaged[middle..][..16].fill(0xa5);
            let result = unpacked(compression, &damaged, 1000);
            assert!(result.is_err() || compression == Compression::Zstd);
        }
    }

    #[test]
    fn other_formats_are_known_by_name() {
        assert_eq!(Compression::of(b"BZh91AY"), Compression::Other("bzip2"));
        assert_eq!(Compression::of(&[0; 6]), Compression::None);
        assert_eq!(Compression::of(b""), Compression::None);
    }
}
