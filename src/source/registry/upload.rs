//! A blob on its way to a registry: in one request, whose content is never in memory as a whole.
//!
//! Source: OCI distribution specification 1.1, "POST then PUT".

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::failure::Failure;
use super::retry::Retries;
use super::session::{STEP_TIMEOUT, Session, resolved};
use crate::digest::Digest;

/// Bytes that are in memory at a time, about.
const PIECE_BYTES: usize = 256 << 10;

/// How long a registry may be silent once it has everything: it may have to hash and move it.
const STORING_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a registry may take to forget an upload that was given up.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a blob is sent to yet another place.
const MAX_REDIRECTS: usize = 5;

/// What becomes a blob.
#[derive(Clone)]
pub(crate) enum BlobContent {
    Bytes(Arc<[u8]>),
    /// The first `size` bytes of a file.
    File {
        path: PathBuf,
        size: u64,
    },
}

impl BlobContent {
    pub fn size(&self) -> u64 {
        match self {
            BlobContent::Bytes(bytes) => bytes.len() as u64,
            BlobContent::File { size, .. } => *size,
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            BlobContent::Bytes(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
            BlobContent::File { path, size } => Box::new(File::open(path)?.take(*size)),
        })
    }
}

/// Is told how many more bytes were sent.
pub(crate) type OnSent = Arc<dyn Fn(u64) + Send + Sync>;

/// Why a blob was not stored.
pub(super) enum UploadFailure {
    /// It cannot be read.
    Content(io::Error),
    Registry(Failure),
}

/// One blob, and how much of it was sent.
pub(super) struct Upload {
    session: Arc<Session>,
    digest: Digest,
    content: BlobContent,
    sent: Arc<Sent>,
}

/// What is known of the blob's way.
struct Sent {
    on_sent: OnSent,
    /// Bytes in the present attempt.
    now: AtomicU64,
    /// Bytes in the best attempt so far, of which `on_sent` was told.
    most: AtomicU64,
    /// What kept the content from being read.
    unreadable: Mutex<Option<io::Error>>,
}

impl Sent {
    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let most = self.most.fetch_max(now, Ordering::Relaxed);
        (self.on_sent)(now.saturating_sub(most));
    }

    fn fail(&self, error: io::Error) -> io::Error {
        let copy = io::Error::new(error.kind(), error.to_string());
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *unreadable = Some(error);
        copy
    }

    fn failure(&self) -> Option<io::Error> {
        let mut unreadable = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        unreadable.take()
    }
}

impl Upload {
    pub fn new(
        session: &Arc<Session>,
        digest: Digest,
        content: BlobContent,
        on_sent: OnSent,
    ) -> Upload {
        Upload {
            session: Arc::clone(session),
            digest,
            content,
            sent: Arc::new(Sent {
                on_sent,
                now: AtomicU64::new(0),
                most: AtomicU64::new(0),
                unreadable: Mutex::new(None),
            }),
        }
    }

    /// Sends all of it, again from its beginning when a connection breaks.
    pub async fn run(&self) -> Result<(), UploadFailure> {
        let mut retries = Retries::new(&self.session.patience);
        loop {
            let Err(failure) = self.attempt().await else {
                return Ok(());
            };
            if let Some(error) = self.sent.failure() {
                return Err(UploadFailure::Content(error));
            }
            match retries.wait_after(&failure) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(UploadFailure::Registry(failure)),
            }
        }
    }

    async fn attempt(&self) -> Result<(), Failure> {
        let session = &self.session;
        let start = session.url("blobs/uploads/")?;
        let begin = || {
            let request = session.request(Method::POST, start.clone());
            request.header(CONTENT_LENGTH, 0)
        };
        let begun = success(session.exchange(STEP_TIMEOUT, begin).await?).await?;
        let place = place(&begun)?;
        let filled = self.fill(place.clone()).await;
        if filled.is_err() {
            self.cancel(&place).await;
        }
        filled
    }

    /// Sends the content to `place`, or to where that leads.
    async fn fill(&self, mut place: Url) -> Result<(), Failure> {
        place
            .query_pairs_mut()
            .append_pair("digest", &self.digest.to_string());
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send(&place).await?;
            match answer.status() {
                // The content is gone by then, so that the client cannot send it again by itself.
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    place = self::place(&answer)?;
                }
                // Registries of several servers do that now and then.
                StatusCode::NOT_FOUND => {
                    return Err(Failure::Connection {
                        cause: "it no longer knows of the upload that it began".to_owned(),
                    });
                }
                _ => return stored(answer).await.map(drop),
            }
        }
        Err(Failure::Nonsense {
            problem: "it redirects a blob again and again".to_owned(),
        })
    }

    /// Has the registry forget the upload, lest it keep what came of it; many forget it some day anyway.
    /// Source: distribution's HTTP API V2, "Canceling an Upload".
    async fn cancel(&self, place: &Url) {
        if !self.session.is_own(place) {
            return;
        }
        let cancel = || self.session.request(Method::DELETE, place.clone());
        let cancelled = self.session.exchange(CANCEL_TIMEOUT, cancel);
        // Why it was given up is what has to be told, not what became of the rest.
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancelled).await;
    }

    /// Sends the content to `place`.
    async fn send(&self, place: &Url) -> Result<Response, Failure> {
        let send = || {
            let request = self.session.request(Method::PUT, place.clone());
            request
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, self.content.size())
                .body(self.body())
        };
        let answer = self.session.exchange(Duration::MAX, send);
        self.unless_silent(answer).await
    }

    /// The content, from its beginning.
    fn body(&self) -> Body {
        let (size, sent) = (self.content.size(), Arc::clone(&self.sent));
        sent.now.store(0, Ordering::Relaxed);
        let opened = self.content.open().map_err(|error| sent.fail(error));
        let pieces = stream::try_unfold((opened, size), move |(content, left)| {
            let sent = Arc::clone(&sent);
            async move {
                let mut content = content?;
                if left == 0 {
                    return Ok(None);
                }
                let piece = read_piece(&mut content, left).map_err(|error| sent.fail(error))?;
                let bytes = piece.len() as u64;
                sent.add(bytes);
                Ok::<_, io::Error>(Some((piece, (Ok(content), left - bytes))))
            }
        });
        Body::wrap_stream(pieces)
    }

    /// What `attempt` brings, unless nothing goes on for too long.
    async fn unless_silent<T>(
        &self,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut attempt = pin!(attempt);
        loop {
            let before = self.sent.now.load(Ordering::Relaxed);
            let limit = match before < self.content.size() {
                true => self.session.patience.silence,
                false => STORING_TIMEOUT.max(self.session.patience.silence),
            };
            match tokio::time::timeout(limit, attempt.as_mut()).await {
                Ok(result) => return result,
                Err(_) if self.sent.now.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    return Err(Failure::Connection {
                        cause: "it was silent for too long".to_owned(),
                    });
                }
            }
        }
    }
}

/// The next bytes; at least one, of `left`.
fn read_piece(content: &mut impl Read, left: u64) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let wanted = left.min(PIECE_BYTES as u64);
    match content.take(wanted).read_to_end(&mut piece)? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it became shorter while it was sent",
        )),
        _ => Ok(piece),
    }
}

/// An answer that is no error.
pub(super) async fn success(answer: Response) -> Result<Response, Failure> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(Failure::of_answer(answer).await),
    }
}

/// An answer by which something is stored. The specification wants 201; 202 says that it may be some day.
pub(super) async fn stored(answer: Response) -> Result<Response, Failure> {
    let answer = success(answer).await?;
    match answer.status() {
        StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(answer),
        status => Err(Failure::Nonsense {
            problem: format!("it answers {status}, which does not say that it is stored"),
        }),
    }
}

/// Where the content is wanted.
fn place(answer: &Response) -> Result<Url, Failure> {
    let location = answer.headers().get(LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let nonsense = |problem: &str| Failure::Nonsense {
        problem: format!("asked where to send a blob, it {problem}"),
    };
    let location = location.ok_or_else(|| nonsense("names no place"))?;
    let asked = answer.url();
    let place =
        resolved(asked, location).ok_or_else(|| nonsense("names a place that is no address"))?;
    if asked.scheme() == "https" && place.scheme() != "https" {
        return Err(nonsense("wants it in plain text"));
    }
    Ok(place)
}
