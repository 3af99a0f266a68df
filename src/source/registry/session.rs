//! Requests to one registry, with the login that it asks for.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LINK, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::{OnceCell, RwLock};
use tokio::task;

use super::super::error::SourceError;
use super::super::manifest::{INDEX_TYPES, MANIFEST_TYPES};
use super::super::window::DOCUMENT_LIMIT;
use super::challenge::{Challenge, TokenServer, challenge};
use super::credentials::{Login, Secret};
use super::failure::Failure;
use super::mirrors::Endpoint;
use super::options::RegistryOptions;
use super::retry::{Patience, Retries};
use super::tls::{self, Purpose};
use super::token;
use crate::https::bounded_body;

/// How long each of these may take: the head of an answer, all of a document, a token.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A registry (or a mirror of it) that is spoken to.
pub(super) struct Session {
    client: Client,
    /// For token servers.
    token_client: Client,
    endpoint: Endpoint,
    scheme: &'static str,
    /// For the login, which is looked up when the registry first asks for one: who keeps it may ask
    /// the user.
    options: RegistryOptions,
    access: Access,
    login: OnceCell<Login>,
    /// What is sent with every request, once the registry has asked for it.
    authorization: RwLock<Option<HeaderValue>>,
    pub patience: Patience,
}

/// What is to be done in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// How a registry may be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Verified TLS.
    Tls,
    /// Plain HTTP, or verified TLS where the registry does not understand that: on this host, no one
    /// can listen in.
    PlainElseTls,
    /// TLS with any certificate, or else plain HTTP.
    Insecure,
}

impl Protocol {
    fn of(endpoint: &Endpoint, tls_verify: Option<bool>) -> Protocol {
        match tls_verify {
            Some(true) => Protocol::Tls,
            Some(false) => Protocol::Insecure,
            None if endpoint.is_insecure => Protocol::Insecure,
            None if endpoint.is_on_this_host() => Protocol::PlainElseTls,
            None => Protocol::Tls,
        }
    }

    /// The scheme of all addresses at `host`.
    async fn scheme(self, client: &Client, host: &str) -> &'static str {
        let ask = |scheme: &str| client.get(format!("{scheme}://{host}/v2/")).send();
        match self {
            Protocol::Tls => "https",
            Protocol::PlainElseTls => match ask("http").await {
                // What servers answer that expect TLS.
                Ok(answer) if answer.status() == StatusCode::BAD_REQUEST => "https",
                Err(error) if !error.is_connect() && !error.is_timeout() => "https",
                _ => "http",
            },
            Protocol::Insecure => match ask("https").await {
                Ok(_) => "https",
                Err(_) if ask("http").await.is_ok() => "http",
                Err(_) => "https",
            },
        }
    }
}

impl Session {
    pub async fn open(
        endpoint: Endpoint,
        options: &RegistryOptions,
        access: Access,
    ) -> Result<Session, SourceError> {
        let protocol = Protocol::of(&endpoint, options.tls_verify);
        let verify = protocol != Protocol::Insecure;
        let purpose = match access {
            Access::Read => Purpose::Content,
            Access::Write => Purpose::Uploads,
        };
        let client = tls::client(&endpoint, verify, purpose, options)?;
        let token_client = tls::client(&endpoint, verify, Purpose::Tokens, options)?;
        let scheme = protocol.scheme(&client, endpoint.host()).await;
        Ok(Session {
            client,
            token_client,
            scheme,
            endpoint,
            login: OnceCell::new(),
            authorization: RwLock::default(),
            patience: options.patience.clone(),
            options: options.clone(),
            access,
        })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The error for `object`, which `failure` kept from coming.
    pub fn error(&self, object: String, failure: Failure) -> SourceError {
        failure.into_error(object, self.login_description())
    }

    /// What to tell the user of the login.
    pub fn login_description(&self) -> String {
        match self.login.get() {
            Some(login) => login.description.clone(),
            None => format!("{} did not ask for one", self.endpoint.registry),
        }
    }

    /// The document at `path` of the repository, not verified; of one that is too long, one byte more
    /// than it may have.
    pub async fn document(&self, path: &str, tries: Tries) -> Result<Vec<u8>, Failure> {
        let accepted: Vec<&str> = INDEX_TYPES.into_iter().chain(MANIFEST_TYPES).collect();
        let mut headers = HeaderMap::new();
        if let (true, Ok(accepted)) = (
            path.starts_with("manifests/"),
            HeaderValue::from_str(&accepted.join(", ")),
        ) {
            headers.insert(ACCEPT, accepted);
        }
        let retries = match tries {
            Tries::One => Retries::none(&self.patience),
            Tries::Several => Retries::for_documents(&self.patience),
        };
        let url = self.url(path)?;
        let attempt = || async { body(self.get(&url, headers.clone()).await?).await };
        retries.of(attempt).await
    }

    /// A page of a list at `url`, likewise, and where the registry has the next one.
    pub async fn page(&self, url: &Url) -> Result<(Vec<u8>, Option<Url>), Failure> {
        let attempt = || async {
            let answer = self.get(url, HeaderMap::new()).await?;
            let next = next_page(answer.headers());
            let next = next.and_then(|next| resolved(answer.url(), next));
            let next = next.filter(|next| self.is_own(next));
            Ok((body(answer).await?, next))
        };
        Retries::for_documents(&self.patience).of(attempt).await
    }

    /// The answer to a request for a blob from byte `offset` on; the registry may send all of it
    /// nonetheless.
    pub async fn blob(&self, path: &str, offset: u64) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        if let (true, Ok(range)) = (
            offset > 0,
            HeaderValue::from_str(&format!("bytes={offset}-")),
        ) {
            headers.insert(RANGE, range);
        }
        self.get(&self.url(path)?, headers).await
    }

    async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, Failure> {
        let request = || {
            let request = self.request(Method::GET, url.clone());
            request.headers(headers.clone())
        };
        let answer = self.exchange(STEP_TIMEOUT, request).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(answer),
            _ => Err(Failure::of_answer(answer).await),
        }
    }

    /// The address of `path` of the repository.
    pub fn url(&self, path: &str) -> Result<Url, Failure> {
        let (host, repository) = (self.endpoint.host(), &self.endpoint.repository);
        let url = format!("{}://{host}/v2/{repository}/{path}", self.scheme);
        url.parse().map_err(|_| Failure::Nonsense {
            problem: format!("{url:?} is no address"),
        })
    }

    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// The answer to a request, whose head is to be here within `limit`; after a login if the registry
    /// wants one. Tokens may expire at any time; some live for a minute only.
    pub async fn exchange(
        &self,
        limit: Duration,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let answer = self.send(limit, request()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.is_own(answer.url()) {
            return Ok(answer);
        }
        self.log_in(&answer).await?;
        self.send(limit, request()).await
    }

    async fn send(&self, limit: Duration, request: RequestBuilder) -> Result<Response, Failure> {
        let mut request = request.build().map_err(Failure::of)?;
        // Registries may have blobs sent to other servers, which the login is not for.
        if let (true, Some(authorization)) = (
            self.is_own(request.url()),
            &*self.authorization.read().await,
        ) {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let answer = async { self.client.execute(request).await.map_err(Failure::of) };
        let answer = within(limit, answer).await?;
        if self.is_own(answer.url()) {
            let registry = &self.endpoint.registry;
            self.options.on_warning.hear(registry, answer.headers());
        }
        Ok(answer)
    }

    /// Whether an address is the registry's, not that of a server to which it redirects.
    pub fn is_own(&self, url: &Url) -> bool {
        is_at(url, self.scheme, self.endpoint.host())
    }

    /// The login for the registry. A helper may take its time, which is nobody else's.
    async fn login(&self) -> Result<&Login, Failure> {
        let find = || async {
            let (endpoint, options) = (self.endpoint.clone(), self.options.clone());
            let found = task::spawn_blocking(move || Login::find(&endpoint, &options)).await;
            found.map_err(|_| Failure::Nonsense {
                problem: "the login for it could not be looked up".to_owned(),
            })
        };
        self.login.get_or_try_init(find).await
    }

    /// What a token must be good for. Some registries only ever ask for one with which to read.
    fn scope(&self, server: &TokenServer) -> String {
        let repository = &self.endpoint.repository;
        match (self.access, &server.scope) {
            (Access::Read, Some(scope)) => scope.clone(),
            (Access::Read, None) => format!("repository:{repository}:pull"),
            (Access::Write, _) => format!("repository:{repository}:pull,push"),
        }
    }

    /// Gets what the registry asks for in `answer`.
    async fn log_in(&self, answer: &Response) -> Result<(), Failure> {
        let authorization = match challenge(answer.headers()) {
            Some(Challenge::Basic) => match &self.login().await?.secret {
                Secret::Password { user, password } => basic(user, password),
                Secret::Anonymous | Secret::IdentityToken(_) => return Err(Failure::Unauthorized),
            },
            Some(Challenge::Bearer(server)) => {
                let scope = self.scope(&server);
                let is_secure = self.scheme == "https";
                let (client, login) = (&self.token_client, self.login().await?);
                let token = token::fetch(client, &server, &scope, login, is_secure);
                let token = within(STEP_TIMEOUT, token).await?;
                format!("Bearer {token}")
            }
            None => return Err(Failure::Unauthorized),
        };
        let mut value = HeaderValue::from_str(&authorization).map_err(|_| Failure::Nonsense {
            problem: "the login or token has bytes that cannot be sent".to_owned(),
        })?;
        value.set_sensitive(true);
        *self.authorization.write().await = Some(value);
        Ok(())
    }
}

/// The body of a document; of one that is too long, one byte more than it may have.
async fn body(answer: Response) -> Result<Vec<u8>, Failure> {
    let limit = usize::try_from(DOCUMENT_LIMIT + 1).unwrap_or(usize::MAX);
    let body = async { bounded_body(answer, limit).await.map_err(Failure::of) };
    within(STEP_TIMEOUT, body).await
}

/// What comes behind a page of a list: `<ADDRESS>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(LINK).iter();
    let mut links = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split('<').skip(1))
        .filter_map(|link| link.split_once('>'));
    let is_next = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or_default();
        let value = value.trim_matches([' ', '"']);
        name.trim() == "rel" && value.eq_ignore_ascii_case("next")
    };
    let next = links.find(|(_, parameters)| parameters.split([';', ',']).any(is_next));
    next.map(|(address, _)| address)
}

/// What `reference` means in the answer from `asked`.
pub(super) fn resolved(asked: &Url, reference: &str) -> Option<Url> {
    let mut url = asked.join(reference).ok()?;
    // A registry behind a proxy that ends TLS may not know of it.
    let is_own = url.host() == asked.host() && url.port() == asked.port();
    if asked.scheme() == "https" && url.scheme() == "http" && is_own {
        // Both are special schemes, between which there is always a way.
        let _ = url.set_scheme("https");
    }
    Some(url)
}

/// Whether `url` belongs to `host` (`HOST[:PORT]`), however that is written.
fn is_at(url: &Url, scheme: &str, host: &str) -> bool {
    let own = Url::parse(&format!("{scheme}://{host}/"));
    own.is_ok_and(|own| own.origin() == url.origin())
}

/// What `attempt` brings, unless it takes too long.
async fn within<T>(
    limit: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Connection {
            cause: "it took too long".to_owned(),
        }),
    }
}

/// How often a document is worth asking for.
#[derive(Clone, Copy)]
pub(super) enum Tries {
    /// Once: there is another place to ask.
    One,
    Several,
}

/// The credentials of RFC 7617.
fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_known_however_they_are_written() {
        for (url, host, is_own) in [
            ("http://localhost/v2/", "localhost:80", true),
            ("https://example.org/v2/", "example.org:443", true),
            ("https://example.org:443/v2/", "example.org", true),
            ("https://example.org/v2/", "Example.ORG", true),
            ("http://example.org/v2/", "example.org:443", false),
            ("https://example.org:5000/v2/", "example.org", false),
            ("https://cdn.example.org/v2/", "example.org", false),
        ] {
            // The scheme of an answer may be another one, too.
            let scheme = if host.ends_with(":80") {
                "http"
            } else {
                "https"
            };
            assert_eq!(is_at(&url.parse().unwrap(), scheme, host), is_own, "{url}");
        }
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, next) in [
            (
                r#"</v2/x/tags/list?n=1&last=a>; rel="next""#,
                Some("/v2/x/tags/list?n=1&last=a"),
            ),
            (r#"<a>; rel=prev, <b,c>;rel=Next"#, Some("b,c")),
            (r#"<a>; title="x"; rel="next""#, Some("a")),
            ("<a>", None),
            ("<a; rel=next", None),
            ("rel=next", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LINK, value.parse().unwrap())]);
            assert_eq!(next_page(&headers), next, "{value}");
        }
    }

    #[test]
    fn only_registries_on_this_host_are_spoken_to_in_plain_text() {
        for (name, protocol) in [
            ("localhost:5000/x", Protocol::PlainElseTls),
            ("localhost/x", Protocol::PlainElseTls),
            ("127.0.0.1:5000/x", Protocol::PlainElseTls),
            ("127.1.2.3/x", Protocol::PlainElseTls),
            ("LOCALHOST:5000/x", Protocol::PlainElseTls),
            ("localhost.example.org/x", Protocol::Tls),
            ("128.0.0.1:5000/x", Protocol::Tls),
            ("docker.io/library/alpine", Protocol::Tls),
        ] {
            let mut endpoint = Endpoint::of_name(name);
            assert_eq!(Protocol::of(&endpoint, None), protocol, "{name}");
            assert_eq!(Protocol::of(&endpoint, Some(true)), Protocol::Tls);
            assert_eq!(Protocol::of(&endpoint, Some(false)), Protocol::Insecure);
            endpoint.is_insecure = true;
            assert_eq!(Protocol::of(&endpoint, None), Protocol::Insecure);
            assert_eq!(Protocol::of(&endpoint, Some(true)), Protocol::Tls);
        }
    }
}
