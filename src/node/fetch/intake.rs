//! Takes in the bytes of an artefact as they come: keeps them, hashes them, unpacks them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::FetchError;
use super::compression::{Compression, Decoder, MAGIC_BYTES};
use super::resume::Identity;
use super::staging::{Room, Slot};
use crate::digest::{Digest, Hasher};

/// A download in its slot.
pub(super) struct Intake {
    slot: Slot,
    room: Room,
    /// For messages.
    url: String,
    /// Bytes that may come, and that they may unpack to.
    limit: u64,
    identity: Option<Identity>,
    /// Bytes that came so far, all of them in the partial file.
    received: u64,
    hasher: Hasher,
    /// The first bytes, until they are enough to tell the compression.
    head: Vec<u8>,
    form: Form,
}

enum Form {
    Unknown,
    Plain,
    Packed(Compression, Decoder<Unpacked>),
}

/// A complete download.
#[derive(Debug)]
pub(super) struct Received {
    pub slot: Slot,
    /// The artefact, in the slot.
    pub path: PathBuf,
    /// Bytes of the artefact.
    pub size: u64,
    pub sha256: Digest,
    /// Digest of the bytes as they came.
    pub download_sha256: Digest,
}

impl Intake {
    /// An intake into `slot`. What lies there of an earlier download is taken up if it is known
    /// what it is a part of.
    pub fn new(slot: Slot, url: String, limit: u64) -> Result<Intake, FetchError> {
        let room = Room::in_folder(slot.folder());
        let mut intake = Intake {
            identity: slot.identity(),
            slot,
            room,
            url,
            limit,
            received: 0,
            hasher: Hasher::new(),
            head: Vec::new(),
            form: Form::Unknown,
        };
        let is_known = intake.identity.is_some();
        // What lies there damaged is fetched anew.
        if !is_known || intake.replay().is_err() || intake.is_too_long() {
            intake.restart(None)?;
        }
        Ok(intake)
    }

    /// What the bytes so far are a part of, where that is known.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    fn is_too_long(&self) -> bool {
        let length = self.identity.as_ref().and_then(|identity| identity.length);
        length.is_some_and(|length| self.received > length)
    }

    /// The file that holds the bytes as they came.
    pub fn partial(&self) -> &File {
        self.slot.partial()
    }

    /// Forgets all that came, and begins with something that `identity` describes.
    pub fn restart(&mut self, identity: Option<Identity>) -> Result<(), FetchError> {
        self.form = Form::Unknown;
        self.head.clear();
        self.hasher = Hasher::new();
        self.received = 0;
        // In this order no crash leaves bytes with the description of others.
        let restarted = (|| {
            self.slot.describe(None)?;
            self.slot.partial().set_len(0)?;
            self.slot.partial().rewind()?;
            self.slot.describe(identity.as_ref())
        })();
        restarted.map_err(|error| self.write_error(error))?;
        self.identity = identity;
        Ok(())
    }

    /// Takes up what already lies in the partial file.
    pub fn replay(&mut self) -> Result<(), FetchError> {
        let mut buffer = vec![0; 256 << 10];
        let mut partial = self.slot.partial();
        partial.rewind().map_err(|error| self.write_error(error))?;
        loop {
            let mut partial = self.slot.partial();
            let count = partial
                .read(&mut buffer)
                .map_err(|error| self.write_error(error))?;
            if count == 0 {
                return Ok(());
            }
            self.process(buffer.get(..count).unwrap_or_default())?;
        }
    }

    /// Makes sure that `bytes` more are allowed and find room.
    pub fn expect(&self, bytes: u64) -> Result<(), FetchError> {
        if self.received.saturating_add(bytes) > self.limit {
            return Err(self.too_large());
        }
        self.room.demand(bytes)
    }

    /// Takes in `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.room.allow(bytes.len() as u64)?;
        let mut partial = self.slot.partial();
        partial
            .write_all(bytes)
            .map_err(|error| self.write_error(error))?;
        self.process(bytes)
    }

    fn process(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.received += bytes.len() as u64;
        if self.received > self.limit {
            return Err(self.too_large());
        }
        self.hasher.update(bytes);
        match &mut self.form {
            Form::Plain => Ok(()),
            Form::Packed(compression, decoder) => {
                let compression = *compression;
                let unpacked = decoder.write(bytes);
                unpacked.map_err(|error| self.unpack_error(compression, error))
            }
            Form::Unknown => {
                self.head.extend_from_slice(bytes);
                match self.head.len() >= MAGIC_BYTES {
                    true => self.begin(),
                    false => Ok(()),
                }
            }
        }
    }

    /// Finds out what the content is, and deals with its first bytes.
    fn begin(&mut self) -> Result<(), FetchError> {
        let head = std::mem::take(&mut self.head);
        let compression = Compression::of(&head);
        if let Compression::Other(format) = compression {
            return Err(FetchError::UnknownCompression {
                url: self.url.clone(),
                format,
            });
        }
        if compression == Compression::None {
            self.form = Form::Plain;
            return Ok(());
        }
        let file = self.slot.create_unpacked();
        let output = Unpacked {
            file: file.map_err(|error| self.write_error(error))?,
            hasher: Hasher::new(),
            size: 0,
            limit: self.limit,
            room: self.room.clone(),
            url: self.url.clone(),
        };
        let started = Decoder::new(compression, output).and_then(|decoder| match decoder {
            Some(mut decoder) => decoder.write(&head).map(|()| Some(decoder)),
            None => Ok(None),
        });
        match started {
            Ok(Some(decoder)) => self.form = Form::Packed(compression, decoder),
            Ok(None) => self.form = Form::Plain,
            Err(error) => return Err(self.unpack_error(compression, error)),
        }
        Ok(())
    }

    /// All came.
    pub fn finish(mut self) -> Result<Received, FetchError> {
        if matches!(self.form, Form::Unknown) {
            self.begin()?;
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new());
        let download_sha256 = hasher.finish();
        let form = std::mem::replace(&mut self.form, Form::Plain);
        let (path, size, sha256) = match form {
            Form::Packed(compression, decoder) => {
                let output = decoder
                    .finish()
                    .map_err(|error| self.unpack_error(compression, error))?;
                (
                    self.slot.unpacked_path(),
                    output.size,
                    output.hasher.finish(),
                )
            }
            Form::Plain | Form::Unknown => {
                (self.slot.partial_path(), self.received, download_sha256)
            }
        };
        Ok(Received {
            slot: self.slot,
            path,
            size,
            sha256,
            download_sha256,
        })
    }

    /// The download was given up: what came stays for a later one, if `useful` and if it can be
    /// told then what it is a part of.
    pub fn give_up(mut self, useful: bool) {
        if useful && self.identity.is_some() && self.received > 0 {
            self.slot.stay();
        }
    }

    fn too_large(&self) -> FetchError {
        FetchError::TooLarge {
            url: self.url.clone(),
            limit: self.limit,
        }
    }

    fn write_error(&self, source: io::Error) -> FetchError {
        self.room.write_error(&self.slot.partial_path(), source)
    }

    /// What an error of a decoder means: one of its output comes as it is.
    fn unpack_error(&self, compression: Compression, error: io::Error) -> FetchError {
        match error.downcast::<FetchError>() {
            Ok(error) => error,
            Err(source) if is_of_the_disk(&source) => {
                self.room.write_error(&self.slot.unpacked_path(), source)
            }
            Err(source) => FetchError::Unpack {
                url: self.url.clone(),
                format: compression.name(),
                source,
            },
        }
    }
}

fn is_of_the_disk(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

/// What compressed content unpacks to.
struct Unpacked {
    file: File,
    hasher: Hasher,
    size: u64,
    limit: u64,
    room: Room,
    url: String,
}

impl Write for Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size.saturating_add(bytes.len() as u64) > self.limit {
            return Err(io::Error::other(FetchError::TooLarge {
                url: self.url.clone(),
                limit: self.limit,
            }));
        }
        let room = self.room.allow(bytes.len() as u64);
        room.map_err(io::Error::other)?;
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Received {
    /// Stores the artefact's content, so that it survives a loss of power.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Gives the artefact its name.
    pub fn place(self, target: &Path) -> io::Result<()> {
        self.slot.place(&self.path, target)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::resume::Validator;
    use super::*;

    fn intake(folder: &Path, limit: u64) -> Intake {
        let slot = Slot::claim(folder, Digest::of(b"test")).unwrap();
        Intake::new(slot, "u".to_owned(), limit).unwrap()
    }

    fn identity() -> Option<Identity> {
        Some(Identity {
            validator: Validator("\"a\"".to_owned()),
            length: None,
        })
    }

    fn content() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect()
    }

    #[test]
    fn plain_and_packed_content_arrive_with_both_digests() {
        let packed = zstd::encode_all(content().as_slice(), 3).unwrap();
        for stored in [content(), packed] {
            let folder = tempfile::tempdir().unwrap();
            let mut intake = intake(folder.path(), 1 << 20);
            for piece in stored.chunks(5) {
                intake.write(piece).unwrap();
            }
            let received = intake.finish().unwrap();
            assert_eq!(received.sha256, Digest::of(&content()));
            assert_eq!(received.download_sha256, Digest::of(&stored));
            assert_eq!(received.size, content().len() as u64);
            assert!(fs::read(&received.path).unwrap() == content());
            drop(received);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_was_given_up_is_taken_up_again() {
        let stored = zstd::encode_all(content().as_slice(), 3).unwrap();
        let (first, second) = stored.split_at(stored.len() / 2);
        let folder = tempfile::tempdir().unwrap();
        let mut broken = intake(folder.path(), 1 << 20);
        broken.restart(identity()).unwrap();
        broken.write(first).unwrap();
        broken.give_up(true);
        let mut resumed = intake(folder.path(), 1 << 20);
        assert_eq!(resumed.received(), first.len() as u64);
        assert_eq!(resumed.identity(), identity().as_ref());
        resumed.write(second).unwrap();
        assert_eq!(resumed.finish().unwrap().sha256, Digest::of(&content()));
    }

    #[test]
    fn what_nobody_can_go_on_with_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (known, useful) in [(None, true), (identity(), false)] {
            let mut intake = intake(folder.path(), 1 << 20);
            intake.restart(known).unwrap();
            intake.write(b"some bytes").unwrap();
            intake.give_up(useful);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let bomb = zstd::encode_all(io::repeat(0).take(8 << 20), 3).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut intake = intake(folder.path(), 1 << 20);
        let error = intake.write(&bomb).unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
        assert!(fs::metadata(intake.slot.unpacked_path()).unwrap().len() <= 1 << 20);
    }

    #[test]
    fn short_content_is_content_too() {
        for stored in [&b""[..], b"abc"] {
            let folder = tempfile::tempdir().unwrap();
            let mut intake = intake(folder.path(), 1 << 20);
            intake.write(stored).unwrap();
            assert_eq!(intake.finish().unwrap().size, stored.len() as u64);
        }
    }

    #[test]
    fn other_compressions_and_damaged_data_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut bzip2 = intake(folder.path(), 1 << 20);
        let error = bzip2.write(b"BZh91AY&SY").unwrap_err();
        assert!(error.to_string().contains("bzip2"), "{error}");
        drop(bzip2);
        let mut gzip = intake(folder.path(), 1 << 20);
        gzip.write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let error = gzip.finish().unwrap_err();
        assert!(
            matches!(error, FetchError::Unpack { format: "gzip", .. }),
            "{error}"
        );
    }
}
