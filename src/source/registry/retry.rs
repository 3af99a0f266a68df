//! When to ask again, and when to give up.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::failure::Failure;

/// How long to bear with a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it may be silent in the middle of an answer.
    pub silence: Duration,
    /// How often in a row the rest of a layer is asked for in vain.
    pub retries: u32,
    /// The wait before the first of them, about. It doubles each time, up to 20 seconds.
    pub first_wait: Duration,
    /// The longest wait that a registry may ask for; if it wants more, that is an error.
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            silence: Duration::from_secs(60),
            retries: 8,
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(120),
        }
    }
}

/// The longest wait between two tries that no registry asked for.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// How often in a row a document is asked for again.
const DOCUMENT_RETRIES: u32 = 3;

/// How many more tries are worth it.
#[derive(Clone, Debug)]
pub(super) struct Retries {
    patience: Patience,
    /// Tries in a row that brought nothing.
    fruitless: u32,
}

impl Retries {
    pub fn new(patience: &Patience) -> Retries {
        Retries {
            patience: patience.clone(),
            fruitless: 0,
        }
    }

    /// For what is not half here already: nobody should wait for a minute to hear that a registry is
    /// down.
    pub fn for_documents(patience: &Patience) -> Retries {
        Retries::new(&Patience {
            retries: patience.retries.min(DOCUMENT_RETRIES),
            ..patience.clone()
        })
    }

    /// For what may be had elsewhere.
    pub fn none(patience: &Patience) -> Retries {
        Retries::new(&Patience {
            retries: 0,
            ..patience.clone()
        })
    }

    /// What `attempt` brings, which is made again while that is worth it.
    pub async fn of<T, F>(mut self, attempt: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        loop {
            let failure = match attempt().await {
                Ok(brought) => return Ok(brought),
                Err(failure) => failure,
            };
            match self.wait_after(&failure) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failure),
            }
        }
    }

    /// Something came: the count begins anew.
    pub fn progress(&mut self) {
        self.fruitless = 0;
    }

    /// How long to wait before the next try, if there is to be one.
    pub fn wait_after(&mut self, failure: &Failure) -> Option<Duration> {
        if !failure.is_transient() || self.fruitless >= self.patience.retries {
            return None;
        }
        let wait = match failure.retry_after() {
            Some(wait) if wait > self.patience.longest_wait => return None,
            // A little more, lest all clients come back at once.
            Some(wait) => wait + jitter(self.patience.first_wait),
            None => {
                let factor = 2_u32.saturating_pow(self.fruitless);
                let whole = self.patience.first_wait.saturating_mul(factor);
                let half = whole.min(LONGEST_BACKOFF) / 2;
                half + jitter(half)
            }
        };
        self.fruitless += 1;
        Some(wait)
    }
}

/// Some part of `limit`, another one each time.
fn jitter(limit: Duration) -> Duration {
    // Every state has keys of its own, which std draws at random.
    let random = RandomState::new().build_hasher().finish();
    limit.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// What `Retry-After` says (RFC 9110, section 10.2.3): seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(
                date.duration_since(SystemTime::now())
                    .unwrap_or(Duration::ZERO),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(retry_after: Option<Duration>) -> Failure {
        Failure::Refused {
            status: 503,
            codes: Vec::new(),
            message: String::new(),
            retry_after,
        }
    }

    #[test]
    fn waits_grow_with_some_jitter_and_end_unless_there_is_progress() {
        let patience = Patience {
            retries: 3,
            first_wait: Duration::from_secs(8),
            ..Patience::default()
        };
        let mut retries = Retries::new(&patience);
        for longest in [8, 16, 20] {
            let wait = retries.wait_after(&busy(None)).unwrap().as_secs_f64();
            assert!(wait >= f64::from(longest) / 2.0 && wait <= f64::from(longest));
        }
        assert_eq!(retries.wait_after(&busy(None)), None);
        retries.progress();
        assert!(retries.wait_after(&busy(None)).is_some());
        assert_eq!(retries.wait_after(&Failure::Unauthorized), None);
    }

    #[test]
    fn a_registry_is_given_the_time_that_it_asks_for_within_bounds() {
        let mut retries = Retries::new(&Patience::default());
        let asked = Duration::from_secs(30);
        assert!(retries.wait_after(&busy(Some(asked))).unwrap() >= asked);
        let hours = Duration::from_secs(7200);
        assert_eq!(retries.wait_after(&busy(Some(hours))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let value = text.parse().unwrap();
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!(read(&later).unwrap() > Duration::from_secs(80));
        assert_eq!(read("soon"), None);
    }
}
