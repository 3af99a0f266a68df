//! The bytes of a blob, which go on where they stopped when a connection breaks.

use std::sync::Arc;

use futures_util::{Stream, stream};
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Response, StatusCode};

use super::super::error::SourceError;
use super::failure::Failure;
use super::retry::Retries;
use super::session::Session;
use crate::digest::Digest;

/// A blob on its way.
pub(super) struct BlobDownload {
    session: Arc<Session>,
    digest: Digest,
    size: u64,
    /// Offset of the first byte that is wanted.
    start: u64,
    /// Offset of the next byte that is wanted.
    offset: u64,
    /// The answer that brings it, with the number of bytes that have to be skipped first.
    answer: Option<(Response, u64)>,
    retries: Retries,
    /// Whether to ask for the rest when the connection breaks.
    resumes: bool,
}

impl BlobDownload {
    /// All of a blob of `size` bytes, whatever becomes of connections.
    pub fn whole(session: &Arc<Session>, digest: Digest, size: u64) -> BlobDownload {
        BlobDownload {
            session: Arc::clone(session),
            digest,
            size,
            start: 0,
            offset: 0,
            answer: None,
            retries: Retries::new(&session.patience),
            resumes: true,
        }
    }

    /// A blob from `offset` on, as far as the first connection that brings some of it goes.
    pub fn rest(session: &Arc<Session>, digest: Digest, size: u64, offset: u64) -> BlobDownload {
        BlobDownload {
            start: offset,
            offset,
            retries: Retries::for_documents(&session.patience),
            resumes: false,
            ..BlobDownload::whole(session, digest, size)
        }
    }

    /// Its bytes, not verified. It has as many as were announced, or ends with an error.
    pub fn bytes(
        self,
    ) -> impl Stream<Item = Result<impl AsRef<[u8]> + Send + 'static, SourceError>> + Send + 'static
    {
        stream::try_unfold(self, |mut download| async move {
            let chunk = download.next().await?;
            Ok(chunk.map(|chunk| (chunk, download)))
        })
    }

    async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + Send + use<>>, SourceError> {
        let before = self.offset;
        while self.offset < self.size {
            let failure = match self.attempt().await {
                Ok(chunk) => {
                    if self.offset > before {
                        self.retries.progress();
                        return Ok(Some(chunk));
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            self.answer = None;
            match self.retries.wait_after(&failure) {
                Some(wait) if self.resumes || self.offset == self.start => {
                    tokio::time::sleep(wait).await;
                }
                _ => {
                    let object = format!("docker://{}@{}", self.name(), self.digest);
                    return Err(self.session.error(object, failure));
                }
            }
        }
        Ok(None)
    }

    fn name(&self) -> String {
        self.session.endpoint().name()
    }

    /// The next bytes that are wanted, which may be none.
    async fn attempt(&mut self) -> Result<impl AsRef<[u8]> + Send + use<>, Failure> {
        let (answer, surplus) = match &mut self.answer {
            Some(answer) => answer,
            none => none.insert(open(&self.session, self.digest, self.offset).await?),
        };
        let chunk = answer.chunk().await.map_err(Failure::of)?;
        let Some(mut chunk) = chunk else {
            let missing = self.size - self.offset;
            return Err(Failure::Ended { missing });
        };
        let skipped = usize::try_from(*surplus).map_or(chunk.len(), |n| n.min(chunk.len()));
        *surplus -= skipped as u64;
        let mut wanted = chunk.split_off(skipped);
        let missing = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
        wanted.truncate(missing);
        self.offset += wanted.len() as u64;
        Ok(wanted)
    }
}

/// Asks for a blob from `offset` on. The result is the answer and how many bytes of it come before
/// that.
async fn open(session: &Session, digest: Digest, offset: u64) -> Result<(Response, u64), Failure> {
    let answer = session.blob(&format!("blobs/{digest}"), offset).await?;
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        // A registry that knows no ranges sends all of it.
        return Ok((answer, offset));
    }
    match first_byte(answer.headers()) {
        Some(first) if first <= offset => {
            let surplus = offset - first;
            Ok((answer, surplus))
        }
        _ => Err(Failure::Nonsense {
            problem: format!("it was asked for the bytes from {offset} on and answers with others"),
        }),
    }
}

/// The offset of the first byte that comes: `bytes 5-9/10` (RFC 9110, section 14.4).
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = text.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_answers_are_read() {
        let read = |text: &str| {
            let value = text.parse().unwrap();
            first_byte(&HeaderMap::from_iter([(CONTENT_RANGE, value)]))
        };
        assert_eq!(read("bytes 5-9/10"), Some(5));
        assert_eq!(read("bytes 0-9/*"), Some(0));
        assert_eq!(read("bytes */10"), None);
        assert_eq!(read("lines 5-9/10"), None);
        assert_eq!(first_byte(&HeaderMap::new()), None);
    }
}
