//! Why a request brought nothing, before it is known what was asked for.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::super::error::{SourceError, root_cause};
use super::retry::retry_after;
use crate::https::distrust;
use crate::printable::printable;

/// Bytes of an error's body that are read.
const BODY_LIMIT: usize = 64 << 10;

/// How long they may take. The status alone says the most important thing.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters of a registry's message that are shown.
const MESSAGE_LIMIT: usize = 500;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or one that broke or fell silent.
    Connection { cause: String },
    /// The server's certificate is not trusted.
    Untrusted { cause: String },
    /// The answer is an error.
    Refused {
        status: u16,
        /// Codes of the OCI distribution specification.
        codes: Vec<String>,
        message: String,
        retry_after: Option<Duration>,
    },
    /// The registry wants a login, or another one.
    Unauthorized,
    /// The answer ended before its end.
    Ended { missing: u64 },
    /// The answer is not one that a registry may give.
    Nonsense { problem: String },
}

/// The body of an error. Source: OCI distribution specification, "Error Codes".
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// What became of a request without an answer.
    pub fn of(error: reqwest::Error) -> Failure {
        // Redirections lead to addresses with signatures in them, which nobody needs to see.
        let error = error.without_url();
        match distrust(&error) {
            Some(cause) => Failure::Untrusted { cause },
            None if error.is_redirect() => Failure::Nonsense {
                problem: format!("it redirects {}", root_cause(&error)),
            },
            None if error.is_timeout() => Failure::Connection {
                cause: "it was silent for too long".to_owned(),
            },
            None => Failure::Connection {
                cause: root_cause(&error),
            },
        }
    }

    /// What an answer that is an error means.
    pub async fn of_answer(mut response: Response) -> Failure {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Failure::Unauthorized;
        }
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() > BODY_LIMIT {
                    break;
                }
            }
        };
        // What came until then will do.
        let _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
        let envelope: Envelope = serde_json::from_slice(&body).unwrap_or_default();
        let message = match envelope.errors.first() {
            Some(error) => format!("{}: {}", error.code, error.message),
            None => printable(&body).trim().to_owned(),
        };
        let message: String = printable(message.as_bytes())
            .chars()
            .take(MESSAGE_LIMIT)
            .collect();
        Failure::Refused {
            status: status.as_u16(),
            codes: envelope.errors.into_iter().map(|e| e.code).collect(),
            message: match message.as_str() {
                "" => status.to_string(),
                message => format!("{status}: {message}"),
            },
            retry_after,
        }
    }

    /// Whether it may be gone a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Failure::Connection { .. } | Failure::Ended { .. } => true,
            Failure::Refused { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502 | 503 | 504) || self.is_rate_limit()
            }
            Failure::Untrusted { .. } | Failure::Unauthorized | Failure::Nonsense { .. } => false,
        }
    }

    /// How long the registry asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the registry does not have what it was asked for.
    pub fn is_absence(&self) -> bool {
        let absent = [
            "MANIFEST_UNKNOWN",
            "NAME_UNKNOWN",
            "BLOB_UNKNOWN",
            "NOT_FOUND",
        ];
        matches!(self, Failure::Refused { status: 404, .. }) || self.has_code(&absent)
    }

    pub fn is_rate_limit(&self) -> bool {
        matches!(self, Failure::Refused { status: 429, .. }) || self.has_code(&["TOOMANYREQUESTS"])
    }

    pub fn has_code(&self, wanted: &[&str]) -> bool {
        match self {
            Failure::Refused { codes, .. } => {
                codes.iter().any(|code| wanted.contains(&code.as_str()))
            }
            _ => false,
        }
    }

    /// The error for `image`, which the login described as `login` did not get.
    pub fn into_error(self, image: String, login: String) -> SourceError {
        let unauthorized = |image| SourceError::Unauthorized {
            image,
            login: login.clone(),
        };
        if self.is_rate_limit() {
            return SourceError::RateLimited {
                image,
                login,
                wait: wait_text(self.retry_after()),
            };
        }
        if self.is_absence() {
            return SourceError::NotInRegistry { image };
        }
        let is_denied = self.has_code(&["UNAUTHORIZED", "DENIED"]);
        match self {
            Failure::Unauthorized => unauthorized(image),
            Failure::Refused { status: 403, .. } => unauthorized(image),
            Failure::Refused { .. } if is_denied => unauthorized(image),
            Failure::Refused {
                message,
                retry_after,
                ..
            } => SourceError::Registry {
                image,
                cause: match retry_after {
                    Some(wait) => format!("{message}; it asks to wait for {} s", wait.as_secs()),
                    None => message,
                },
            },
            Failure::Untrusted { cause } => SourceError::UntrustedRegistry { image, cause },
            Failure::Connection { cause } | Failure::Nonsense { problem: cause } => {
                SourceError::Registry { image, cause }
            }
            Failure::Ended { missing } => SourceError::Truncated {
                object: image,
                missing,
            },
        }
    }
}

pub(super) fn wait_text(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("wait for {} s", wait.as_secs()),
        None => "wait, at Docker Hub for up to six hours".to_owned(),
    }
}
