//! Whether a download may go on where it broke off (RFC 9110, sections 8.8, 13.1.5 and 14).

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
};
use serde::{Deserialize, Serialize};

/// What a server says to tell one state of a file from another: a strong entity tag, quotes
/// included, or a date of last modification. It is sent back as it is, in `If-Range`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Validator(pub String);

/// Which content a partial download is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub validator: Validator,
    /// Bytes of the whole, where known.
    pub length: Option<u64>,
}

/// A longer validator is taken for none.
const MAX_VALIDATOR_BYTES: usize = 1024;

/// A date tells two states apart if it is at least so much older than the answer.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

impl Validator {
    /// The validator in an answer, if it is a strong one.
    pub fn of(headers: &HeaderMap) -> Option<Validator> {
        let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let tag = text(ETAG).filter(|tag| tag.starts_with('"'));
        let date = || {
            let modified = text(LAST_MODIFIED)?;
            let at = httpdate::parse_http_date(&modified).ok()?;
            let now = httpdate::parse_http_date(&text(DATE)?).ok()?;
            let age = now.duration_since(at).ok()?;
            (age >= DATE_RESOLUTION).then_some(modified)
        };
        tag.or_else(date)
            .filter(|text| text.len() <= MAX_VALIDATOR_BYTES)
            .map(Validator)
    }

    /// Whether an answer speaks of another state: a part need not say anything of it.
    fn is_contradicted(&self, headers: &HeaderMap) -> bool {
        let name = match self.0.starts_with('"') {
            true => ETAG,
            false => LAST_MODIFIED,
        };
        headers
            .get(name)
            .is_some_and(|said| said.as_bytes() != self.0.as_bytes())
    }
}

/// What an answer to the request for a part is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The rest of the content from the wanted offset on.
    Rest,
    /// All of the content from its start, since it changed or the server knows no parts.
    Whole,
    /// Nothing that fits: ask for all of it.
    Unusable,
    /// No content at all; the status says why.
    Refused,
}

/// Judges the answer to a request for what follows on `offset` bytes of `identity`.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    offset: u64,
    identity: &Identity,
) -> Judgement {
    match status {
        StatusCode::OK => Judgement::Whole,
        StatusCode::PARTIAL_CONTENT => {
            let fits = content_range(headers).is_some_and(|(start, end, length)| {
                start == offset
                    && length.is_none_or(|length| end.checked_add(1) == Some(length))
                    && (length.is_none() || identity.length.is_none() || length == identity.length)
                    && content_length(headers)
                        .is_none_or(|bytes| bytes == (end - start).saturating_add(1))
            });
            match fits && !identity.validator.is_contradicted(headers) {
                true => Judgement::Rest,
                false => Judgement::Unusable,
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Judgement::Unusable,
        _ => Judgement::Refused,
    }
}

/// Bytes of an answer's body, where it says so.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// First and last byte and, where known, the number of all bytes: `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, length) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    let length = match length {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    (start <= end).then_some((start, end, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn only_strong_validators_count() {
        for (all, expected) in [
            (vec![(ETAG, "\"a\"")], Some("\"a\"")),
            (vec![(ETAG, "W/\"a\"")], None),
            (vec![(LAST_MODIFIED, THEN)], None),
            (vec![(LAST_MODIFIED, THEN), (DATE, THEN)], None),
            (vec![(LAST_MODIFIED, THEN), (DATE, LATER)], Some(THEN)),
            (vec![(LAST_MODIFIED, LATER), (DATE, THEN)], None),
            (vec![(LAST_MODIFIED, "yesterday"), (DATE, LATER)], None),
            (
                vec![(ETAG, "W/\"a\""), (LAST_MODIFIED, THEN), (DATE, LATER)],
                Some(THEN),
            ),
            (vec![], None),
        ] {
            let validator = Validator::of(&headers(&all)).map(|validator| validator.0);
            assert_eq!(validator.as_deref(), expected, "{all:?}");
        }
        let long = format!("\"{}\"", "a".repeat(2000));
        assert_eq!(Validator::of(&headers(&[(ETAG, &long)])), None);
    }

    #[test]
    fn a_part_must_fit_in_every_respect() {
        use Judgement::{Refused, Rest, Unusable, Whole};
        let identity = Identity {
            validator: Validator("\"a\"".to_owned()),
            length: Some(10),
        };
        for (status, all, expected) in [
            (206, vec![(CONTENT_RANGE, "bytes 4-9/10")], Rest),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "\"a\"")],
                Rest,
            ),
            (206, vec![(CONTENT_RANGE, "bytes 4-9/*")], Rest),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "\"b\"")],
                Unusable,
            ),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "W/\"a\"")],
                Unusable,
            ),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 4-9/10"), (CONTENT_LENGTH, "5")],
                Unusable,
            ),
            (206, vec![(CONTENT_RANGE, "bytes 4-8/10")], Unusable),
            (206, vec![(CONTENT_RANGE, "bytes 3-9/10")], Unusable),
            (206, vec![(CONTENT_RANGE, "bytes 5-10/11")], Unusable),
            (206, vec![(CONTENT_RANGE, "bytes 4-10/11")], Unusable),
            (206, vec![(CONTENT_RANGE, "bytes 9-4/10")], Unusable),
            (
                206,
                vec![(CONTENT_RANGE, "bytes 4-18446744073709551615/*")],
                Rest,
            ),
            (206, vec![(CONTENT_RANGE, "lines 4-9/10")], Unusable),
            (206, vec![], Unusable),
            (200, vec![], Whole),
            (416, vec![(CONTENT_RANGE, "bytes */3")], Unusable),
            (404, vec![], Refused),
            (503, vec![], Refused),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let judgement = judge(status, &headers(&all), 4, &identity);
            assert_eq!(judgement, expected, "{status} {all:?}");
        }
    }

    #[test]
    fn dates_are_compared_with_dates() {
        let identity = Identity {
            validator: Validator(THEN.to_owned()),
            length: None,
        };
        let range = (CONTENT_RANGE, "bytes 4-9/10");
        for (modified, expected) in [(THEN, Judgement::Rest), (LATER, Judgement::Unusable)] {
            let all = headers(&[range.clone(), (LAST_MODIFIED, modified)]);
            assert_eq!(
                judge(StatusCode::PARTIAL_CONTENT, &all, 4, &identity),
                expected
            );
        }
    }
}
