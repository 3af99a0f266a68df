//! A download that survives broken connections: it goes on where it was, or begins anew.

use std::thread;
use std::time::Duration;

use super::intake::{Intake, Received};
use super::resume::Identity;
use super::{FetchError, Patience, Progress};

/// Something that can be asked for content, from its start or from an offset on.
pub(super) trait Origin {
    type Body: Body;

    /// Asks for all of the content, or for what `wanted` says; the answer may always begin at 0.
    fn open(&self, wanted: Option<&Wanted>) -> Result<Answer<Self::Body>, FetchError>;
}

/// What is wanted of content of which a part is here.
pub(super) struct Wanted {
    /// Bytes from the start; never 0.
    pub offset: u64,
    pub identity: Identity,
}

/// Content on its way.
pub(super) struct Answer<B> {
    /// Offset of the first byte: the wanted one, or 0.
    pub start: u64,
    /// Bytes from there on, where known.
    pub remaining: Option<u64>,
    /// What tells the content from other content, where there is such a thing.
    pub identity: Option<Identity>,
    pub body: B,
}

/// The bytes of an answer.
pub(super) trait Body {
    /// The next ones, of any number; `None` at the proper end.
    fn next(&mut self) -> Result<Option<impl AsRef<[u8]>>, FetchError>;
}

/// Brings all of `origin` into `intake`.
pub(super) fn download(
    origin: &impl Origin,
    mut intake: Intake,
    patience: &Patience,
    progress: &dyn Progress,
) -> Result<Received, FetchError> {
    let mut tries = Tries::new(patience);
    loop {
        let Err(error) = attempt(origin, &mut intake, progress) else {
            return intake.finish();
        };
        match tries.wait_after(&error, intake.received()) {
            Some(wait) => {
                progress.interrupted(&error, wait);
                thread::sleep(wait);
            }
            None => {
                intake.give_up(!error.condemns_content());
                return Err(error);
            }
        }
    }
}

fn attempt<O: Origin>(
    origin: &O,
    intake: &mut Intake,
    progress: &dyn Progress,
) -> Result<(), FetchError> {
    let mut answer = origin.open(wanted(intake).as_ref())?;
    if answer.start == 0 {
        intake.restart(answer.identity)?;
    }
    let mut surplus = intake.received().saturating_sub(answer.start);
    let total = answer
        .remaining
        .map(|remaining| answer.start.saturating_add(remaining));
    if let Some(total) = total {
        intake.expect(total.saturating_sub(intake.received()))?;
    }
    progress.received(intake.received(), total);
    while let Some(chunk) = answer.body.next()? {
        let bytes = chunk.as_ref();
        let known = usize::try_from(surplus).map_or(bytes.len(), |known| known.min(bytes.len()));
        surplus -= known as u64;
        intake.write(bytes.get(known..).unwrap_or_default())?;
        progress.received(intake.received(), total);
    }
    Ok(())
}

/// What to ask for. Of content that seems to be complete it is the last byte, which proves that the
/// content is still the same.
fn wanted(intake: &Intake) -> Option<Wanted> {
    let identity = intake.identity()?.clone();
    let offset = match identity.length {
        Some(length) if length == intake.received() => length.saturating_sub(1),
        _ => intake.received(),
    };
    (offset > 0).then_some(Wanted { offset, identity })
}

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// How many more attempts are worth it. An attempt that brings new bytes starts the count again.
pub(super) struct Tries<'a> {
    patience: &'a Patience,
    failed: u32,
    best: u64,
}

impl<'a> Tries<'a> {
    pub fn new(patience: &'a Patience) -> Tries<'a> {
        Tries {
            patience,
            failed: 0,
            best: 0,
        }
    }

    /// How long to wait before the next attempt, if there is to be one after `error` with so many
    /// bytes received.
    pub fn wait_after(&mut self, error: &FetchError, received: u64) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        if received > self.best {
            self.best = received;
            self.failed = 0;
        }
        if self.failed >= self.patience.retries {
            return None;
        }
        let factor = 2_u32.saturating_pow(self.failed);
        self.failed += 1;
        Some(LONGEST_WAIT.min(self.patience.first_wait.saturating_mul(factor)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use super::super::resume::Validator;
    use super::super::staging::Slot;
    use super::*;
    use crate::digest::Digest;

    /// Hands out `content` in pieces that break off after so many bytes each.
    struct Flaky {
        content: Vec<u8>,
        breaks_after: usize,
        /// Whether the content can be told from other content.
        is_identified: bool,
        asked: RefCell<Vec<u64>>,
    }

    struct Piece {
        bytes: Vec<u8>,
        is_broken: bool,
    }

    impl Body for Piece {
        fn next(&mut self) -> Result<Option<impl AsRef<[u8]>>, FetchError> {
            let bytes = std::mem::take(&mut self.bytes);
            match (bytes.is_empty(), self.is_broken) {
                (false, _) => Ok(Some(bytes)),
                (true, false) => Ok(None),
                (true, true) => Err(FetchError::Broken {
                    url: "u".to_owned(),
                    received: 0,
                    cause: "test".to_owned(),
                }),
            }
        }
    }

    impl Origin for Flaky {
        type Body = Piece;

        fn open(&self, wanted: Option<&Wanted>) -> Result<Answer<Piece>, FetchError> {
            let start = wanted.map_or(0, |wanted| wanted.offset);
            self.asked.borrow_mut().push(start);
            let rest = &self.content[usize::try_from(start).unwrap()..];
            let length = Some(self.content.len() as u64);
            let identity = Identity {
                validator: Validator("\"a\"".to_owned()),
                length,
            };
            Ok(Answer {
                start,
                remaining: Some(rest.len() as u64),
                identity: self.is_identified.then_some(identity),
                body: Piece {
                    bytes: rest[..rest.len().min(self.breaks_after)].to_vec(),
                    is_broken: rest.len() > self.breaks_after,
                },
            })
        }
    }

    fn flaky(is_identified: bool) -> Flaky {
        Flaky {
            content: (0..1000u16).flat_map(u16::to_le_bytes).collect(),
            breaks_after: 300,
            is_identified,
            asked: RefCell::default(),
        }
    }

    const PATIENCE: Patience = Patience {
        connect: Duration::ZERO,
        silence: Duration::ZERO,
        retries: 2,
        first_wait: Duration::ZERO,
    };

    fn fetch(origin: &Flaky, folder: &Path) -> Result<Received, FetchError> {
        let slot = Slot::claim(folder, Digest::of(b"test")).unwrap();
        let intake = Intake::new(slot, "u".to_owned(), 1 << 20).unwrap();
        download(origin, intake, &PATIENCE, &())
    }

    #[test]
    fn progress_renews_the_patience() {
        let folder = tempfile::tempdir().unwrap();
        let origin = flaky(true);
        let received = fetch(&origin, folder.path()).unwrap();
        assert_eq!(received.sha256, Digest::of(&origin.content));
        assert_eq!(*origin.asked.borrow(), [0, 300, 600, 900, 1200, 1500, 1800]);
    }

    #[test]
    fn content_without_identity_begins_anew_until_the_patience_ends() {
        let folder = tempfile::tempdir().unwrap();
        let origin = flaky(false);
        assert!(fetch(&origin, folder.path()).is_err());
        assert_eq!(*origin.asked.borrow(), [0, 0, 0]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn complete_content_is_asked_for_its_last_byte_only() {
        let folder = tempfile::tempdir().unwrap();
        let origin = flaky(true);
        let mut received = fetch(&origin, folder.path()).unwrap();
        received.slot.stay();
        drop(received);
        origin.asked.borrow_mut().clear();
        let again = fetch(&origin, folder.path()).unwrap();
        assert_eq!(*origin.asked.borrow(), [1999]);
        assert_eq!(again.sha256, Digest::of(&origin.content));
    }

    #[test]
    fn waits_grow_and_end() {
        let patience = Patience {
            retries: 6,
            first_wait: Duration::from_secs(1),
            ..PATIENCE
        };
        let mut tries = Tries::new(&patience);
        let error = FetchError::Status {
            url: "u".to_owned(),
            status: 503,
        };
        let waits: Vec<u64> = std::iter::from_fn(|| tries.wait_after(&error, 0))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        assert_eq!(tries.wait_after(&error, 1), Some(Duration::from_secs(1)));
        let hopeless = FetchError::NotFound {
            url: "u".to_owned(),
            status: 404,
        };
        assert_eq!(tries.wait_after(&hopeless, 2), None);
    }
}
