//! How a registry says which login it wants: `WWW-Authenticate` (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A way to log in that is understood here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token, which another server gives.
    Bearer(TokenServer),
}

/// Source: distribution's "Token Authentication Specification".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenServer {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
}

/// The best of the ways that an answer offers.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let offers: Vec<Challenge> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let is_bearer = |offer: &&Challenge| matches!(offer, Challenge::Bearer(_));
    offers.iter().find(is_bearer).or(offers.first()).cloned()
}

/// All challenges of one header that are understood.
fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for part in split_outside_quotes(header) {
        let (scheme, parameter) = match part.split_once([' ', '=']) {
            // "Bearer realm=…": another challenge begins.
            Some((scheme, rest)) if part.as_bytes().get(scheme.len()) == Some(&b' ') => {
                (Some(scheme), rest)
            }
            None => (Some(part), ""),
            Some(_) => (None, part),
        };
        match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("basic") => challenges.push(Some(Challenge::Basic)),
            Some("bearer") => challenges.push(Some(Challenge::Bearer(TokenServer::default()))),
            Some(_) => challenges.push(None),
            None => {}
        }
        if let Some(Some(Challenge::Bearer(server))) = challenges.last_mut() {
            server.take(parameter);
        }
    }
    let usable = |challenge: &Challenge| match challenge {
        Challenge::Basic => true,
        Challenge::Bearer(server) => !server.realm.is_empty(),
    };
    challenges.into_iter().flatten().filter(usable).collect()
}

impl TokenServer {
    fn take(&mut self, parameter: &str) {
        let Some((key, value)) = parameter.split_once('=') else {
            return;
        };
        let value = value.trim().trim_matches('"').to_owned();
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => self.realm = value,
            "service" => self.service = Some(value),
            "scope" => self.scope = Some(value),
            _ => {}
        }
    }
}

/// The parts between commas, trimmed.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut is_quoted = false;
    text.split(|c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push""#;
        let Some(Challenge::Bearer(server)) = parse(hub).pop() else {
            panic!("no token server");
        };
        assert_eq!(server.realm, "https://auth.docker.io/token");
        assert_eq!(server.service.unwrap(), "registry.docker.io");
        assert_eq!(server.scope.unwrap(), "repository:library/alpine:pull,push");
        assert_eq!(parse("Basic realm=\"Registry, Realm\""), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(parse("Negotiate, NTLM, Digest realm=\"x\""), []);
        assert_eq!(parse("Bearer service=\"no realm\""), []);
    }

    #[test]
    fn of_several_challenges_the_token_is_preferred() {
        let both = r#"Basic realm="a", Bearer realm="https://b/c",service=d"#;
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, both.parse().unwrap())]);
        let Some(Challenge::Bearer(server)) = challenge(&headers) else {
            panic!("no token server");
        };
        assert_eq!(
            (server.realm.as_str(), server.service.as_deref()),
            ("https://b/c", Some("d"))
        );
        assert_eq!(challenge(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}|[a-zB,= \"]{0,40}") {
            parse(&text);
        }
    }
}
