//! One layer out of the stream that a container engine exports an image as.
//!
//! The engines agree that the stream is a tar archive, and on nothing else:
//!
//! | engine | layers are called | order |
//! |---|---|---|
//! | Docker ≥ 25 | `blobs/sha256/DIFF_ID` | by name, `manifest.json` behind them |
//! | Docker with containerd's store | `blobs/sha256/DIGEST` of the compressed layer | the same |
//! | Docker ≤ 24 | `ID/layer.tar`, or a symbolic link to another one | by ID, `manifest.json` behind them |
//! | Podman | `DIFF_ID.tar` | lowest first, `manifest.json` last |
//!
//! So a layer that is called by its diff id is streamed. Of the others, whose names say nothing,
//! one after the other is kept in a temporary file and hashed until the diff id is found.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::compression::{Compression, MAGIC_SIZE};
use super::error::SourceError;
use super::outer_tar::{Member, MemberKind, Members, Sequential};
use super::spool;
use super::window::{ExactReader, Window};
use crate::digest::{Digest, Hasher};

/// Finds the layer `diff_id` in the export of `image`, as it is stored there.
pub(super) fn find_layer(
    export: impl Read + Send + 'static,
    diff_id: Digest,
    image: &str,
) -> Result<Box<dyn Read + Send>, SourceError> {
    let name = format!("layer {diff_id} in the export of {image}");
    let failed = |error: io::Error| {
        SourceError::from_read(error, |source| SourceError::Malformed {
            object: format!("the container engine's export of {image}"),
            problem: source.to_string(),
        })
    };
    let mut members = Members::new(Sequential(export));
    while let Some(member) = members.next_member().map_err(failed)? {
        if member.kind != MemberKind::File {
            continue;
        }
        if is_called(&member, diff_id) {
            let content = members.into_source().0;
            return Ok(Box::new(ExactReader::new(content, member.size, name)));
        }
        if may_be_a_layer(&member.name) {
            let content = ExactReader::new(members.source(), member.size, name.clone());
            let spooled = spool_member(content).map_err(failed)?;
            members.advance(member.size);
            if spooled.diff_id == Some(diff_id) {
                let window = Window {
                    file: Arc::new(spooled.file),
                    offset: 0,
                    size: member.size,
                    name,
                };
                return Ok(window.reader());
            }
        }
    }
    Err(SourceError::NotInExport {
        image: image.to_owned(),
        diff_id,
    })
}

/// Whether the member is named after the layer's diff id, so that no search is needed. That its
/// content is the right one is for the reader to check, as always.
fn is_called(member: &Member, diff_id: Digest) -> bool {
    let hex = diff_id.hex();
    member.name.strip_prefix("blobs/sha256/") == Some(&hex)
        || member.name.strip_suffix(".tar") == Some(&hex)
}

fn may_be_a_layer(name: &str) -> bool {
    name.starts_with("blobs/sha256/") || name.ends_with(".tar")
}

struct Spooled {
    file: File,
    /// `None` where the content is called compressed, but is not.
    diff_id: Option<Digest>,
}

/// Copies a member into a temporary file while its uncompressed content is hashed.
fn spool_member(mut content: impl Read) -> io::Result<Spooled> {
    let mut file = spool::temporary_file()?;
    let mut buffer = vec![0; 1 << 18];
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(filled..MAGIC_SIZE) {
        match content.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    let mut hasher = DiffIdHasher::new(buffer.get(..filled).unwrap_or_default())?;
    while filled > 0 {
        let bytes = buffer.get(..filled).unwrap_or_default();
        file.write_all(bytes).map_err(spool::write_failed)?;
        hasher.update(bytes);
        filled = content.read(&mut buffer)?;
    }
    Ok(Spooled {
        file,
        diff_id: hasher.finish(),
    })
}

/// Hashes the uncompressed content of what it is given.
enum DiffIdHasher {
    Plain(HashWriter),
    Gzip(Box<flate2::write::MultiGzDecoder<HashWriter>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, HashWriter>>),
    /// The decompressor refused: some other blob, no layer.
    Broken,
}

impl DiffIdHasher {
    fn new(magic: &[u8]) -> io::Result<DiffIdHasher> {
        let hash = HashWriter(Hasher::new());
        Ok(match Compression::of(magic) {
            Compression::None => DiffIdHasher::Plain(hash),
            Compression::Gzip => {
                DiffIdHasher::Gzip(Box::new(flate2::write::MultiGzDecoder::new(hash)))
            }
            Compression::Zstd => {
                DiffIdHasher::Zstd(Box::new(zstd::stream::write::Decoder::new(hash)?))
            }
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        let written = match self {
            DiffIdHasher::Plain(hash) => hash.write_all(bytes),
            DiffIdHasher::Gzip(decoder) => decoder.write_all(bytes),
            DiffIdHasher::Zstd(decoder) => decoder.write_all(bytes),
            DiffIdHasher::Broken => Ok(()),
        };
        if written.is_err() {
            *self = DiffIdHasher::Broken;
        }
    }

    fn finish(self) -> Option<Digest> {
        let hash = match self {
            DiffIdHasher::Plain(hash) => hash,
            DiffIdHasher::Gzip(decoder) => decoder.finish().ok()?,
            DiffIdHasher::Zstd(mut decoder) => {
                decoder.flush().ok()?;
                decoder.into_inner()
            }
            DiffIdHasher::Broken => return None,
        };
        Some(hash.0.finish())
    }
}

struct HashWriter(Hasher);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three layers; the middle one is wanted.
    fn layers() -> [Vec<u8>; 3] {
        [1u8, 2, 3].map(|byte| vec![byte; 300_000 + usize::from(byte)])
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn export(members: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            builder
                .append_data(&mut header, name, content.as_slice())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Counts what was read of it.
    struct Counted(io::Cursor<Vec<u8>>, Arc<std::sync::atomic::AtomicUsize>);

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
            Ok(count)
        }
    }

    fn find(bytes: Vec<u8>, wanted: &[u8]) -> Result<(Vec<u8>, usize), SourceError> {
        let read = Arc::default();
        let source = Counted(io::Cursor::new(bytes), Arc::clone(&read));
        let mut layer = find_layer(source, Digest::of(wanted), "x")?;
        let mut content = Vec::new();
        layer
            .read_to_end(&mut content)
            .map_err(|error| SourceError::from_read(error, |_| unreachable!()))?;
        Ok((content, read.load(std::sync::atomic::Ordering::SeqCst)))
    }

    #[test]
    fn layers_called_by_their_diff_id_are_streamed_and_the_rest_is_not_read() {
        for pattern in ["blobs/sha256/HEX", "HEX.tar"] {
            let members: Vec<_> = layers()
                .map(|layer| (pattern.replace("HEX", &Digest::of(&layer).hex()), layer))
                .into();
            let bytes = export(&members);
            let (content, read) = find(bytes.clone(), &members[1].1).unwrap();
            assert!(content == members[1].1);
            assert!(read < bytes.len() - 250_000);
        }
    }

    #[test]
    fn layers_of_unknown_names_are_found_by_their_content() {
        let [first, second, third] = layers();
        let (start, end) = second.split_at(100_000);
        let two_members = [gzip(start), gzip(end)].concat();
        // As zstd:chunked has it: several frames, and one that is to be skipped.
        let mut frames = zstd::encode_all(start, 1).unwrap();
        frames.extend(b"\x50\x2a\x4d\x18\x03\0\0\0abc");
        frames.extend(zstd::encode_all(end, 1).unwrap());
        for stored in [second.clone(), gzip(&second), two_members, frames] {
            let members = [
                ("blobs/sha256/0a".to_owned(), b"{\"a json\": 1}".to_vec()),
                ("1/layer.tar".to_owned(), first.clone()),
                ("2/layer.tar".to_owned(), stored.clone()),
                ("3/layer.tar".to_owned(), gzip(&third)),
                ("manifest.json".to_owned(), b"[]".to_vec()),
            ];
            let (content, _) = find(export(&members), &second).unwrap();
            assert!(content == stored);
        }
    }

    #[test]
    fn blobs_that_only_look_compressed_do_not_stop_the_search() {
        let [first, second, _] = layers();
        let mut damaged = gzip(&first);
        damaged[100] ^= 0xff;
        let members = [
            ("blobs/sha256/a".to_owned(), vec![0x1f, 0x8b, 0, 0, 0]),
            (
                "blobs/sha256/b".to_owned(),
                vec![0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff],
            ),
            ("blobs/sha256/c".to_owned(), damaged),
            ("blobs/sha256/d".to_owned(), Vec::new()),
            ("blobs/sha256/e".to_owned(), gzip(&second)),
        ];
        let (content, _) = find(export(&members), &second).unwrap();
        assert!(content == gzip(&second));
    }

    #[test]
    fn a_missing_layer_and_a_broken_stream_are_different_errors() {
        let [first, second, third] = layers();
        let name = format!("{}.tar", Digest::of(&second).hex());
        let bytes = export(&[("1/layer.tar".to_owned(), first), (name, second.clone())]);
        assert!(matches!(
            find(bytes.clone(), &third),
            Err(SourceError::NotInExport { .. })
        ));
        for end in [600, 200_000, 300_545, bytes.len() - 100_000] {
            let result = find(bytes[..end].to_vec(), &second);
            assert!(
                matches!(
                    result,
                    Err(SourceError::Truncated { .. } | SourceError::Malformed { .. })
                ),
                "{end}: {result:?}"
            );
        }
    }
}
