//! Questions to an engine, whose answers are bounded in size and time.
//!
//! Source: Docker Engine API, "Images".

use std::time::Duration;

use futures_util::{Stream, stream};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::https::bounded_body;

/// Bytes that a description of an image may have; a configuration in a registry may have 4 MiB.
const DOCUMENT_LIMIT: usize = 16 << 20;

/// Bytes of an error's body that are read.
const MESSAGE_LIMIT: usize = 64 << 10;

/// For answers out of the engine's memory.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// For the first byte of an export: Docker writes the whole archive to its disk before.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an export may be silent once it has begun.
const EXPORT_SILENCE: Duration = Duration::from_secs(10 * 60);

/// A way to an engine.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub client: reqwest::Client,
    /// Scheme and authority of all addresses.
    pub base: String,
    /// How long an export may be silent once it has begun.
    silence: Duration,
}

/// Why a question brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The answer is an error.
    Refused { status: u16, message: String },
    /// No connection, or one that broke.
    Connection(reqwest::Error),
    /// It took too long.
    Silence,
    /// The answer is not one that an engine may give.
    Nonsense(String),
}

/// What is known of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Description {
    pub id: Option<String>,
    pub os: Option<String>,
    pub architecture: Option<String>,
    pub variant: Option<String>,
    #[serde(rename = "RootFS")]
    pub root_fs: Option<RootFs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RootFs {
    pub layers: Option<Vec<String>>,
}

/// One step that made an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Step {
    pub created_by: Option<String>,
    pub comment: Option<String>,
    /// Bytes that it added.
    pub size: i64,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Api {
    pub fn new(client: reqwest::Client, base: String) -> Api {
        Api {
            client,
            base,
            silence: EXPORT_SILENCE,
        }
    }

    /// What the engine knows of `image`.
    pub async fn inspect(&self, image: &str) -> Result<Description, Failure> {
        self.document(&format!("{image}/json")).await
    }

    /// The steps that made `image`, highest first.
    pub async fn history(&self, image: &str) -> Result<Vec<Step>, Failure> {
        self.document(&format!("{image}/history")).await
    }

    async fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let document = async {
            let answer = self.get(path).await?;
            let body = bounded_body(answer, DOCUMENT_LIMIT + 1).await;
            let body = body.map_err(Failure::Connection)?;
            if body.len() > DOCUMENT_LIMIT {
                let problem = format!("its answer has more than {DOCUMENT_LIMIT} bytes");
                return Err(Failure::Nonsense(problem));
            }
            serde_json::from_slice(&body)
                .map_err(|error| Failure::Nonsense(format!("its answer makes no sense ({error})")))
        };
        let document = timeout(DOCUMENT_TIMEOUT, document).await;
        document.unwrap_or(Err(Failure::Silence))
    }

    /// All layers of `image` in one archive.
    pub fn export(
        self,
        image: String,
    ) -> impl Stream<Item = Result<impl AsRef<[u8]> + Send + 'static, Failure>> + Send + 'static
    {
        stream::try_unfold(None, move |running| {
            let (api, path) = (self.clone(), format!("{image}/get"));
            async move {
                let (mut answer, patience) = match running {
                    Some(answer) => (answer, api.silence),
                    None => {
                        let answer = timeout(EXPORT_TIMEOUT, api.get(&path)).await;
                        (answer.unwrap_or(Err(Failure::Silence))?, EXPORT_TIMEOUT)
                    }
                };
                let chunk = timeout(patience, Response::chunk(&mut answer)).await;
                let chunk = chunk.map_err(|_| Failure::Silence)?;
                let chunk = chunk.map_err(Failure::Connection)?;
                Ok(chunk.map(|chunk| (chunk, Some(answer))))
            }
        })
    }

    /// The answer to a question about images, unless it is an error.
    async fn get(&self, path: &str) -> Result<Response, Failure> {
        let asked = self.client.get(format!("{}/images/{path}", self.base));
        let answer = asked.send().await.map_err(Failure::Connection)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = timeout(DOCUMENT_TIMEOUT, bounded_body(answer, MESSAGE_LIMIT)).await;
        let body = body.map_err(|_| Failure::Silence)?;
        let body = body.map_err(Failure::Connection)?;
        let message = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(error) => error.message,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(Failure::Refused {
            status: status.as_u16(),
            message: match message.as_str() {
                "" => status.to_string(),
                _ => message,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use futures_util::TryStreamExt;

    use super::*;

    /// An engine that answers anything with `head`, and then with `piece` `times` over; then it is
    /// silent.
    fn engine(head: &'static str, piece: &'static [u8], times: usize) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let mut sent = stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
                for _ in 0..times {
                    sent = sent.and_then(|()| stream.write_all(piece));
                    if sent.is_err() {
                        break;
                    }
                }
                thread::sleep(Duration::from_secs(20));
            }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut api = Api::new(client, base);
        api.silence = Duration::from_millis(300);
        api
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn endless_answers_are_refused() {
        let blanks = &[b' '; 1 << 20];
        let api = engine("200 OK", blanks, usize::MAX);
        let said = run(api.inspect("x")).unwrap_err();
        assert!(matches!(said, Failure::Nonsense(_)), "{said:?}");
        let said = run(engine("200 OK", blanks, usize::MAX).history("x")).unwrap_err();
        assert!(matches!(said, Failure::Nonsense(_)), "{said:?}");
        let failing = engine("500 Oh", b"xxxxxxxxxxxxxxxx", usize::MAX);
        let Failure::Refused { message, .. } = run(failing.inspect("x")).unwrap_err() else {
            panic!("no refusal");
        };
        assert_eq!(message.len(), MESSAGE_LIMIT);
    }

    #[test]
    fn an_export_that_falls_silent_is_an_error() {
        let stalled = engine("200 OK", b"begin", 1).export("x".to_owned());
        let all = run(stalled.try_fold(
            0,
            |sum, chunk| async move { Ok(sum + chunk.as_ref().len()) },
        ));
        assert!(matches!(all, Err(Failure::Silence)), "{all:?}");
    }
}
