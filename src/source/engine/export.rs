//! Layers out of the stream that a container engine exports an image as.
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
//! So a layer that is called by its diff id is streamed, or passed if nobody wants it. Of the others,
//! whose names say nothing, one after the other is kept in a temporary file and hashed until the diff
//! id is found.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::{Digest, Hasher};
use crate::source::compression::{Compression, MAGIC_SIZE};
use crate::source::error::SourceError;
use crate::source::outer_tar::{Member, MemberKind, Members, Sequential};
use crate::source::spool;
use crate::source::window::{ExactReader, Window};

/// Bytes from an engine.
type Bytes = Box<dyn Read + Send>;

/// An export that is being read.
type Export = Members<Sequential<Bytes>>;

/// The export of one image, out of which all of its layers come.
///
/// Wanted layers that are passed on the way to another one are kept in temporary files. The stream
/// is closed as soon as the last wanted one is out.
pub(super) struct SharedExport {
    /// For messages.
    image: String,
    /// The diff ids of the image's layers.
    layers: Vec<Digest>,
    start: Box<dyn Fn() -> Result<Bytes, SourceError> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often each layer is still to be opened.
    wanted: HashMap<Digest, usize>,
    /// Wanted layers that the export is past.
    passed: HashMap<Digest, Window>,
    /// The stream, unless a reader has it.
    running: Option<Export>,
}

impl State {
    /// Whether the stream must still bring a layer.
    fn is_waiting(&self) -> bool {
        self.wanted.keys().any(|id| !self.passed.contains_key(id))
    }

    /// Whether another one than `diff_id` is to be kept on the way to that.
    fn wants(&self, diff_id: Digest) -> bool {
        self.wanted.contains_key(&diff_id) && !self.passed.contains_key(&diff_id)
    }

    /// The layer was opened once.
    fn is_served(&mut self, diff_id: Digest) {
        let Some(count) = self.wanted.get_mut(&diff_id) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.wanted.remove(&diff_id);
            self.passed.remove(&diff_id);
        }
    }
}

/// What became of the search for a layer.
enum Found {
    /// The stream stands at its content, of so many bytes.
    Ahead(u64),
    /// It was passed, and kept.
    Kept,
    /// It is not in the rest of the stream.
    Nowhere,
}

impl SharedExport {
    /// The export that `start` begins, of an image with these diff ids.
    pub fn new(
        image: String,
        layers: Vec<Digest>,
        start: Box<dyn Fn() -> Result<Bytes, SourceError> + Send + Sync>,
    ) -> SharedExport {
        SharedExport {
            image,
            layers,
            start,
            state: Mutex::default(),
        }
    }

    /// The layer will be opened, once more than was said before.
    pub fn announce(&self, diff_id: Digest) {
        *self.state().wanted.entry(diff_id).or_default() += 1;
    }

    /// The content of the layer, as it is stored in the export.
    pub fn open(self: &Arc<Self>, diff_id: Digest) -> Result<Bytes, SourceError> {
        let mut state = self.state();
        state.wanted.entry(diff_id).or_insert(1);
        let opened = self.open_wanted(diff_id, &mut state);
        state.is_served(diff_id);
        if !state.is_waiting() {
            state.running = None;
        }
        opened
    }

    fn open_wanted(
        self: &Arc<Self>,
        diff_id: Digest,
        state: &mut State,
    ) -> Result<Bytes, SourceError> {
        loop {
            if let Some(kept) = state.passed.get(&diff_id) {
                return Ok(kept.reader());
            }
            // A stream that is behind the layer already is followed by one that is not.
            let running = state.running.take();
            let may_be_behind = running.is_some();
            let mut export = match running {
                Some(export) => export,
                None => Members::new(Sequential((self.start)()?)),
            };
            match self.search(diff_id, &mut export, state)? {
                Found::Ahead(size) => {
                    let reader = LayerReader {
                        shared: Arc::clone(self),
                        export: Some(export),
                        missing: size,
                        diff_id,
                    };
                    return Ok(Box::new(reader));
                }
                Found::Kept => state.running = Some(export),
                Found::Nowhere if may_be_behind => {}
                Found::Nowhere => {
                    return Err(SourceError::NotInExport {
                        image: self.image.clone(),
                        diff_id,
                    });
                }
            }
        }
    }

    /// Reads `export` up to the layer `diff_id`, and keeps the other wanted ones on the way.
    fn search(
        &self,
        diff_id: Digest,
        export: &mut Export,
        state: &mut State,
    ) -> Result<Found, SourceError> {
        let failed = |error: io::Error| {
            SourceError::from_read(error, |source| SourceError::Malformed {
                object: format!("the container engine's export of {}", self.image),
                problem: source.to_string(),
            })
        };
        while let Some(member) = export.next_member().map_err(failed)? {
            if member.kind != MemberKind::File {
                continue;
            }
            let named = self.layers.iter().find(|id| is_called(&member, **id));
            let is_to_be_read = match named {
                // Whoever opens it a second time must find it again.
                Some(id) if *id == diff_id && state.wanted.get(id) == Some(&1) => {
                    return Ok(Found::Ahead(member.size));
                }
                Some(id) => state.wants(*id),
                None => may_be_a_layer(&member.name),
            };
            if !is_to_be_read {
                continue;
            }
            let name = self.name_of(named.copied().unwrap_or(diff_id));
            let content = ExactReader::new(export.source(), member.size, name);
            let spooled = spool_member(content, named.copied()).map_err(failed)?;
            export.advance(member.size);
            let Some(id) = spooled.diff_id.filter(|id| state.wants(*id)) else {
                continue;
            };
            let window = Window {
                file: Arc::new(spooled.file),
                offset: 0,
                size: member.size,
                name: self.name_of(id),
            };
            state.passed.insert(id, window);
            if id == diff_id {
                return Ok(Found::Kept);
            }
        }
        Ok(Found::Nowhere)
    }

    /// What the layer is called in messages.
    fn name_of(&self, diff_id: Digest) -> String {
        format!("layer {diff_id} in the export of {}", self.image)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a layer while it comes, and then gives the stream back to who waits for other layers.
struct LayerReader {
    shared: Arc<SharedExport>,
    export: Option<Export>,
    missing: u64,
    diff_id: Digest,
}

impl LayerReader {
    fn give_back(&mut self) {
        let Some(export) = self.export.take() else {
            return;
        };
        let mut state = self.shared.state();
        if state.is_waiting() && state.running.is_none() {
            state.running = Some(export);
        }
    }
}

impl Read for LayerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Gone for good if anything fails: what is behind a gap is of no use to the others.
        let Some(mut export) = self.export.take() else {
            return Ok(0);
        };
        let count = export.source().take(self.missing).read(buffer)?;
        if count == 0 && self.missing > 0 && !buffer.is_empty() {
            return Err(SourceError::Truncated {
                object: self.shared.name_of(self.diff_id),
                missing: self.missing,
            }
            .into());
        }
        export.advance(count as u64);
        self.missing -= count as u64;
        self.export = Some(export);
        if self.missing == 0 {
            self.give_back();
        }
        Ok(count)
    }
}

impl Drop for LayerReader {
    fn drop(&mut self) {
        self.give_back();
    }
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

/// Copies a member into a temporary file. Its uncompressed content is hashed on the way, unless its
/// diff id is `known`.
fn spool_member(mut content: impl Read, known: Option<Digest>) -> io::Result<Spooled> {
    let mut file = spool::temporary_file()?;
    let mut buffer = vec![0; 1 << 18];
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(filled..MAGIC_SIZE) {
        match content.read(rest)? {
            0 => break,
            count => filled += count,
        }
    }
    let mut hasher = match known {
        Some(diff_id) => DiffIdHasher::Known(diff_id),
        None => DiffIdHasher::new(buffer.get(..filled).unwrap_or_default())?,
    };
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
    /// The archive says what it is; the layer's reader checks that.
    Known(Digest),
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
            DiffIdHasher::Broken | DiffIdHasher::Known(_) => Ok(()),
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
            DiffIdHasher::Known(diff_id) => return Some(diff_id),
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    struct Counted(io::Cursor<Vec<u8>>, Arc<AtomicUsize>);

    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.fetch_add(count, Ordering::SeqCst);
            Ok(count)
        }
    }

    /// An export of the three layers that is `bytes`; how often it was started, and how much of it
    /// was read.
    fn shared(bytes: Vec<u8>) -> (Arc<SharedExport>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (starts, read) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (counter, reader) = (Arc::clone(&starts), Arc::clone(&read));
        let start = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            let source = Counted(io::Cursor::new(bytes.clone()), Arc::clone(&reader));
            Ok(Box::new(source) as Bytes)
        };
        let layers = layers().iter().map(|layer| Digest::of(layer)).collect();
        let export = SharedExport::new("x".to_owned(), layers, Box::new(start));
        (Arc::new(export), starts, read)
    }

    fn content(export: &Arc<SharedExport>, wanted: &[u8]) -> Result<Vec<u8>, SourceError> {
        let mut content = Vec::new();
        export
            .open(Digest::of(wanted))?
            .read_to_end(&mut content)
            .map_err(|error| SourceError::from_read(error, |_| unreachable!()))?;
        Ok(content)
    }

    fn find(bytes: Vec<u8>, wanted: &[u8]) -> Result<(Vec<u8>, usize), SourceError> {
        let (export, _, read) = shared(bytes);
        let content = content(&export, wanted)?;
        Ok((content, read.load(Ordering::SeqCst)))
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

    /// How the layers may be called, each with what is stored under the name.
    fn forms() -> [Vec<(String, Vec<u8>)>; 3] {
        let hex = |layer: &[u8]| Digest::of(layer).hex();
        let named = layers().map(|layer| (format!("blobs/sha256/{}", hex(&layer)), layer));
        let stored = layers().map(|layer| {
            let stored = gzip(&layer);
            (format!("blobs/sha256/{}", hex(&stored)), stored)
        });
        let nameless = layers().map(|layer| (format!("{}/layer.tar", layer[0]), layer));
        [named.into(), stored.into(), nameless.into()]
    }

    #[test]
    fn all_announced_layers_come_out_of_one_export_in_whatever_order_it_has() {
        for members in forms() {
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
                let ordered: Vec<_> = order.map(|i: usize| members[i].clone()).into();
                let (export, starts, _) = shared(export(&ordered));
                for layer in &layers() {
                    export.announce(Digest::of(layer));
                }
                for i in [2, 1, 0] {
                    assert!(content(&export, &layers()[i]).unwrap() == members[i].1);
                }
                assert_eq!(starts.load(Ordering::SeqCst), 1);
                let state = export.state();
                assert!(state.passed.is_empty() && state.running.is_none());
            }
        }
    }

    #[test]
    fn the_stream_is_closed_with_the_last_announced_layer() {
        let [named, ..] = forms();
        let bytes = export(&named);
        let (export, starts, read) = shared(bytes.clone());
        let [first, second, third] = layers();
        export.announce(Digest::of(&first));
        export.announce(Digest::of(&second));
        assert!(content(&export, &second).unwrap() == second);
        assert!(content(&export, &first).unwrap() == first);
        assert!(export.state().running.is_none());
        assert!(read.load(Ordering::SeqCst) < bytes.len() - 250_000);
        // Who comes without being announced has another export.
        assert!(content(&export, &third).unwrap() == third);
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_layer_that_the_image_has_twice_is_there_twice() {
        for members in forms() {
            let (export, starts, _) = shared(export(&members));
            let [first, second, _] = layers();
            for layer in [&first, &second, &second] {
                export.announce(Digest::of(layer));
            }
            for layer in [&second, &first, &second] {
                let layer_content = content(&export, layer).unwrap();
                assert!(members.iter().any(|(_, stored)| *stored == layer_content));
            }
            assert_eq!(starts.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn readers_that_are_left_or_overlap_do_not_disturb_others() {
        let [named, ..] = forms();
        let (export, starts, _) = shared(export(&named));
        let [first, second, third] = layers();
        for layer in [&first, &second, &third] {
            export.announce(Digest::of(layer));
        }
        let mut begun = export.open(Digest::of(&first)).unwrap();
        begun.read_exact(&mut [0; 1000]).unwrap();
        drop(begun);
        let mut open = export.open(Digest::of(&second)).unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        assert!(content(&export, &third).unwrap() == third);
        let mut rest = Vec::new();
        open.read_to_end(&mut rest).unwrap();
        assert!(rest == second);
    }
}
