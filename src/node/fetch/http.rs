//! Content from `http:` and `https:` servers.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread;

use openssl::x509::X509;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode};
use tokio::runtime::{Builder, Runtime};

use super::download::{Answer, Body, Origin, Tries, Wanted};
use super::location::WebAddress;
use super::resume::{Identity, Judgement, Validator, content_length, judge};
use super::{FetchError, Patience, Progress};
use crate::https::{distrust, follow};
use crate::source::root_cause;

/// Bytes that a file of authorities may have; Debian's whole bundle has 220 KiB.
const MAX_AUTHORITIES_BYTES: u64 = 4 << 20;

/// Asks servers, one question at a time, on the calling thread.
pub(super) struct HttpClient {
    runtime: Runtime,
    client: Client,
}

impl HttpClient {
    /// A client that trusts the system's authorities and those in `ca_file`, and goes through the
    /// proxies that the environment names.
    pub fn new(ca_file: Option<&Path>, patience: &Patience) -> Result<HttpClient, FetchError> {
        let failed = |error: &(dyn Error + 'static)| FetchError::Client {
            cause: root_cause(error),
        };
        // An encoding would be part of the content here, for it is kept as it comes.
        let identity = HeaderValue::from_static("identity");
        let mut builder = Client::builder()
            .user_agent(concat!("sysgraft-agent/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, identity)]))
            .redirect(Policy::custom(follow))
            .referer(false)
            .connect_timeout(patience.connect)
            .read_timeout(patience.silence);
        for certificate in authorities_der(ca_file)? {
            let certificate =
                Certificate::from_der(&certificate).map_err(|error| failed(&error))?;
            builder = builder.add_root_certificate(certificate);
        }
        Ok(HttpClient {
            client: builder.build().map_err(|error| failed(&error))?,
            runtime: Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| failed(&error))?,
        })
    }

    /// The answer to a question, whatever its status is.
    fn get(&self, address: &WebAddress, headers: HeaderMap) -> Result<Response, FetchError> {
        let request = self.client.get(address.url().clone()).headers(headers);
        // The request starts its timers when it is made: within the runtime.
        self.runtime
            .block_on(async { request.send().await })
            .map_err(|error| request_error(error.without_url(), address))
    }

    /// The next bytes of an answer.
    fn chunk(&self, response: &mut Response) -> Result<Option<impl AsRef<[u8]>>, String> {
        self.runtime
            .block_on(response.chunk())
            .map_err(|error| root_cause(&error.without_url()))
    }

    /// All of a document that has at most `limit` bytes.
    pub fn document(
        &self,
        address: &WebAddress,
        limit: u64,
        patience: &Patience,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, FetchError> {
        let mut tries = Tries::new(patience);
        loop {
            match self.document_at_once(address, limit) {
                Ok(document) => return Ok(document),
                Err(error) => match tries.wait_after(&error, 0) {
                    Some(wait) => {
                        progress.interrupted(&error, wait);
                        thread::sleep(wait);
                    }
                    None => return Err(error),
                },
            }
        }
    }

    fn document_at_once(&self, address: &WebAddress, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut response = accepted(self.get(address, HeaderMap::new())?, address)?;
        let mut document = Vec::new();
        loop {
            let chunk = self.chunk(&mut response);
            match chunk.map_err(|cause| broken(address, document.len() as u64, cause))? {
                Some(bytes) => document.extend_from_slice(bytes.as_ref()),
                None => return Ok(document),
            }
            if document.len() as u64 > limit {
                return Err(FetchError::TooLarge {
                    url: address.to_string(),
                    limit,
                });
            }
        }
    }
}

/// The certificates (DER) in the file of authorities, if one is named.
fn authorities_der(ca_file: Option<&Path>) -> Result<Vec<Vec<u8>>, FetchError> {
    let Some(path) = ca_file else {
        return Ok(Vec::new());
    };
    let unusable = |problem: String| FetchError::Authorities {
        path: path.to_path_buf(),
        problem,
    };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_AUTHORITIES_BYTES).read_to_end(&mut pem))
        .map_err(|error| unusable(error.to_string()))?;
    let certificates = X509::stack_from_pem(&pem).map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    let der = certificates.iter().map(|certificate| certificate.to_der());
    der.collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))
}

fn request_error(error: reqwest::Error, address: &WebAddress) -> FetchError {
    let url = address.to_string();
    let cause = root_cause(&error);
    if error.is_redirect() {
        return FetchError::Redirect {
            url,
            problem: cause,
        };
    }
    match distrust(&error) {
        Some(cause) => FetchError::Untrusted { url, cause },
        None => FetchError::Unreachable { url, cause },
    }
}

fn broken(address: &WebAddress, received: u64, cause: String) -> FetchError {
    FetchError::Broken {
        url: address.to_string(),
        received,
        cause,
    }
}

/// `response`, if it brings the content.
fn accepted(response: Response, address: &WebAddress) -> Result<Response, FetchError> {
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(refusal(status, address)),
    }
}

/// The error for an answer that does not bring the content.
fn refusal(status: StatusCode, address: &WebAddress) -> FetchError {
    let (url, status) = (address.to_string(), status.as_u16());
    match status {
        401 | 403 | 407 => FetchError::Denied { url, status },
        404 | 410 => FetchError::NotFound { url, status },
        _ => FetchError::Status { url, status },
    }
}

/// A file on a server.
pub(super) struct WebFile<'a> {
    pub client: &'a HttpClient,
    pub address: &'a WebAddress,
}

impl<'a> WebFile<'a> {
    /// The answer to the request for a part, if it is of use.
    fn part(&self, wanted: &Wanted) -> Result<Option<Answer<WebBody<'a>>>, FetchError> {
        let Ok(validator) = HeaderValue::from_str(&wanted.identity.validator.0) else {
            return Ok(None);
        };
        let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", wanted.offset)) else {
            return Ok(None);
        };
        let headers = HeaderMap::from_iter([(RANGE, range), (IF_RANGE, validator)]);
        let response = self.client.get(self.address, headers)?;
        let offset = wanted.offset;
        match judge(
            response.status(),
            response.headers(),
            offset,
            &wanted.identity,
        ) {
            Judgement::Rest => Ok(Some(Answer {
                start: offset,
                remaining: match wanted.identity.length {
                    Some(length) => Some(length.saturating_sub(offset)),
                    None => content_length(response.headers()),
                },
                identity: Some(wanted.identity.clone()),
                body: self.body(offset, response),
            })),
            Judgement::Whole => self.whole(response).map(Some),
            Judgement::Unusable => Ok(None),
            Judgement::Refused => Err(refusal(response.status(), self.address)),
        }
    }

    fn whole(&self, response: Response) -> Result<Answer<WebBody<'a>>, FetchError> {
        let response = accepted(response, self.address)?;
        let length = content_length(response.headers());
        let identity =
            Validator::of(response.headers()).map(|validator| Identity { validator, length });
        Ok(Answer {
            start: 0,
            remaining: length,
            identity,
            body: self.body(0, response),
        })
    }

    fn body(&self, start: u64, response: Response) -> WebBody<'a> {
        WebBody {
            client: self.client,
            address: self.address,
            response,
            received: start,
        }
    }
}

impl<'a> Origin for WebFile<'a> {
    type Body = WebBody<'a>;

    fn open(&self, wanted: Option<&Wanted>) -> Result<Answer<WebBody<'a>>, FetchError> {
        let part = wanted.map(|wanted| self.part(wanted)).transpose()?;
        match part.flatten() {
            Some(answer) => Ok(answer),
            None => self.whole(self.client.get(self.address, HeaderMap::new())?),
        }
    }
}

/// The bytes of an answer.
pub(super) struct WebBody<'a> {
    client: &'a HttpClient,
    address: &'a WebAddress,
    response: Response,
    /// Offset of the next byte in the content.
    received: u64,
}

impl Body for WebBody<'_> {
    fn next(&mut self) -> Result<Option<impl AsRef<[u8]>>, FetchError> {
        let chunk = self.client.chunk(&mut self.response);
        let chunk = chunk.map_err(|cause| broken(self.address, self.received, cause))?;
        let count = chunk.as_ref().map_or(0, |bytes| bytes.as_ref().len());
        self.received += count as u64;
        Ok(chunk)
    }
}
