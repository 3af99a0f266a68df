//! What all talk over HTTPS holds to, with registries and with whatever nodes fetch from.

use std::error::Error;

use reqwest::Response;
use reqwest::redirect::{Action, Attempt};

/// As many as curl and browsers follow, about.
const MAX_REDIRECTS: usize = 20;

/// Follows redirections, but never from https to where anyone can listen in.
pub(crate) fn follow(attempt: Attempt<'_>) -> Action {
    let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("from https to http");
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("in circles, or over too many stations");
    }
    attempt.follow()
}

/// All of an answer, or its first `limit` bytes.
///
/// # Errors
/// If the connection breaks.
pub(crate) async fn bounded_body(mut answer: Response, limit: usize) -> reqwest::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        match answer.chunk().await? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => break,
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// OpenSSL's verdict on the server's certificate, if that is what `error` comes from: the text that
/// native-tls puts behind the code of the error, in parentheses.
pub(crate) fn distrust(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("certificate verify failed") {
            let verdict = text.rsplit_once('(').map(|(_, verdict)| verdict);
            let verdict = verdict.map_or(text.as_str(), |v| v.trim_end_matches(')'));
            return Some(verdict.to_owned());
        }
        cause = error.source();
    }
    None
}
