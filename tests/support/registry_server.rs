//! A registry that only knows how to hand out, on a port of the loopback interface.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sysgraft::digest::Digest;

use crate::registry_image::{Blobs, INDEX, MANIFEST};
use crate::request_head::RequestHead;

/// Who may pull.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Everyone,
    /// Whoever sends `alice:secret` with every request.
    Basic,
    /// Whoever sends a token, which everyone gets.
    AnonymousToken,
    /// Whoever sends a token, which `alice:secret` gets.
    Token,
    /// Whoever sends a token, which [`IDENTITY_TOKEN`] gets.
    IdentityToken,
}

/// What `docker login` stores where registries do not want passwords to be kept.
pub const IDENTITY_TOKEN: &str = "identity/1";

/// "alice:secret" in Base64.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";

/// What the registry has and does.
pub struct Behaviour {
    pub blobs: Blobs,
    pub tags: HashMap<String, Vec<u8>>,
    /// Where tags move once they were asked for.
    pub moves: HashMap<String, Vec<u8>>,
    /// Indexes of what refers to a manifest.
    pub referrers: HashMap<Digest, Vec<u8>>,
    pub access: Access,
    /// Whether it answers ranges with ranges.
    pub ranges: bool,
    /// How many requests are answered with an error first.
    pub failures: usize,
    /// Its status, headers and body.
    pub failure: (u16, &'static str, &'static str),
    /// A header, with the end of its line, that comes with every answer.
    pub warning: &'static str,
    /// For how many requests a token is good.
    pub token_uses: usize,
    /// Where blobs are, if not here.
    pub elsewhere: Option<String>,
    /// Where tokens are, if not here.
    pub token_elsewhere: Option<String>,
    /// Tokens so far, and how often the last one was used.
    tokens: (usize, usize),
    /// A blob whose connection breaks after half of what should come.
    pub truncated: Option<Digest>,
    /// How often it breaks.
    pub cuts: usize,
}

impl Behaviour {
    pub fn new(blobs: Blobs, tag: &str, document: Vec<u8>) -> Behaviour {
        Behaviour {
            blobs,
            tags: HashMap::from([(tag.to_owned(), document)]),
            moves: HashMap::new(),
            referrers: HashMap::new(),
            access: Access::Everyone,
            ranges: true,
            failures: 0,
            failure: (503, "", "come back later"),
            warning: "",
            token_uses: usize::MAX,
            elsewhere: None,
            token_elsewhere: None,
            tokens: (0, 0),
            truncated: None,
            cuts: usize::MAX,
        }
    }
}

/// Serves until the program ends.
pub struct RegistryServer {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl RegistryServer {
    pub fn start(behaviour: Behaviour) -> RegistryServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let server = RegistryServer {
            port,
            log: Arc::clone(&log),
            logins: Arc::default(),
            bodies: Arc::default(),
        };
        let (logins, bodies) = (Arc::clone(&server.logins), Arc::clone(&server.bodies));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log) = (stream.unwrap(), Arc::clone(&log));
                let (behaviour, logins) = (Arc::clone(&behaviour), Arc::clone(&logins));
                let bodies = Arc::clone(&bodies);
                thread::spawn(move || {
                    let Some(request) = Request::read(&stream) else {
                        return;
                    };
                    log.lock().unwrap().push(request.path.clone());
                    bodies.lock().unwrap().push(request.body.clone());
                    let login = request.headers.get("authorization").cloned();
                    logins.lock().unwrap().extend(login);
                    let mut behaviour = behaviour.lock().unwrap();
                    let mut answer = request.answer(&mut behaviour, port);
                    answer.headers.push_str(behaviour.warning);
                    drop(behaviour);
                    answer.write(&stream);
                });
            }
        });
        server
    }

    /// The registry's name in references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that came in `Authorization` so far.
    pub fn logins(&self) -> Vec<String> {
        self.logins.lock().unwrap().clone()
    }

    /// The bodies of all requests so far.
    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    /// The paths of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Bytes that are announced but not sent.
    missing: usize,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Request> {
        let mut reader = BufReader::new(stream);
        let head = RequestHead::read(&mut reader)?;
        let length = head.content_length() as u64;
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body).unwrap();
        Some(Request {
            path: head.path,
            headers: head.headers,
            body,
        })
    }

    fn sends(&self, authorization: &str) -> bool {
        self.headers
            .get("authorization")
            .is_some_and(|sent| sent == authorization)
    }

    /// The first byte that is asked for.
    fn range(&self) -> Option<usize> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    fn answer(&self, behaviour: &mut Behaviour, port: u16) -> Answer {
        if behaviour.failures > 0 {
            behaviour.failures -= 1;
            let (status, headers, body) = behaviour.failure;
            let mut answer = Answer::plain(status, body.as_bytes().to_vec());
            answer.headers = headers.to_owned();
            return answer;
        }
        if let (true, Some(elsewhere)) = (
            self.path.starts_with("/token"),
            &behaviour.token_elsewhere.clone(),
        ) {
            // The server that was asked redirects to itself but once.
            if elsewhere.starts_with('/') {
                behaviour.token_elsewhere = None;
            }
            let mut answer = Answer::plain(307, Vec::new());
            answer.headers = format!("Location: {elsewhere}\r\n");
            return answer;
        }
        if self.path.starts_with("/token") {
            return self.token(behaviour);
        }
        let (is_allowed, challenge) = match behaviour.access {
            Access::Everyone => (true, String::new()),
            Access::Basic => (self.sends(ALICE), "Basic realm=\"x\"".to_owned()),
            Access::AnonymousToken | Access::Token | Access::IdentityToken => (
                self.has_token(behaviour),
                format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"x\""),
            ),
        };
        if !is_allowed {
            let mut answer = Answer::plain(401, Vec::new());
            answer.headers = format!("WWW-Authenticate: {challenge}\r\n");
            return answer;
        }
        self.content(behaviour).unwrap_or_else(|| {
            let error = br#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no"}]}"#;
            Answer::plain(404, error.to_vec())
        })
    }

    /// A new token, for whoever may have one.
    fn token(&self, behaviour: &mut Behaviour) -> Answer {
        let is_allowed = match behaviour.access {
            Access::Token => self.sends(ALICE),
            Access::IdentityToken => {
                self.body.contains("grant_type=refresh_token")
                    && self.body.contains("refresh_token=identity%2F1")
            }
            _ => true,
        };
        if !is_allowed {
            return Answer::plain(401, Vec::new());
        }
        behaviour.tokens = (behaviour.tokens.0 + 1, 0);
        // The two names that tokens have.
        let name = if self.body.is_empty() {
            "token"
        } else {
            "access_token"
        };
        let answer = format!(r#"{{"{name}": "t{}"}}"#, behaviour.tokens.0);
        Answer::plain(200, answer.into_bytes())
    }

    fn has_token(&self, behaviour: &mut Behaviour) -> bool {
        let (number, uses) = &mut behaviour.tokens;
        let is_good = self.sends(&format!("Bearer t{number}")) && *uses < behaviour.token_uses;
        *uses += usize::from(is_good);
        is_good
    }

    fn content(&self, behaviour: &mut Behaviour) -> Option<Answer> {
        if self.path == "/v2/" {
            return Some(Answer::plain(200, b"{}".to_vec()));
        }
        if let Some(name) = self.path.strip_prefix("/v2/app/manifests/") {
            let by_digest = || {
                let digest = name.parse().ok()?;
                let mut tagged = behaviour.tags.values();
                let known = tagged.find(|document| Digest::of(document) == digest);
                known.or_else(|| behaviour.blobs.0.get(&digest))
            };
            let document = behaviour.tags.get(name).or_else(by_digest)?.clone();
            if let Some(next) = behaviour.moves.remove(name) {
                behaviour.tags.insert(name.to_owned(), next);
            }
            let media_type = match String::from_utf8_lossy(&document).contains("\"manifests\"") {
                true => INDEX,
                false => MANIFEST,
            };
            let mut answer = Answer::plain(200, document);
            answer.headers = format!("Content-Type: {media_type}\r\n");
            return Some(answer);
        }
        if let Some(name) = self.path.strip_prefix("/v2/app/referrers/") {
            let document = behaviour.referrers.get(&name.parse().ok()?)?;
            return Some(Answer::plain(200, document.clone()));
        }
        let digest = self.path.strip_prefix("/v2/app/blobs/")?.parse().ok()?;
        let blob = behaviour.blobs.0.get(&digest)?;
        if let Some(elsewhere) = &behaviour.elsewhere {
            let mut answer = Answer::plain(307, Vec::new());
            answer.headers = format!("Location: {elsewhere}{}\r\n", self.path);
            return Some(answer);
        }
        let mut answer = match self.range().filter(|_| behaviour.ranges) {
            None => Answer::plain(200, blob.clone()),
            Some(start) => {
                let mut answer = Answer::plain(206, blob[start..].to_vec());
                let (last, size) = (blob.len() - 1, blob.len());
                answer.headers = format!("Content-Range: bytes {start}-{last}/{size}\r\n");
                answer
            }
        };
        if behaviour.truncated == Some(digest) && behaviour.cuts > 0 {
            behaviour.cuts -= 1;
            answer.missing = answer.body.len() / 2;
        }
        Some(answer)
    }
}

impl Answer {
    fn plain(status: u16, body: Vec<u8>) -> Answer {
        Answer {
            status,
            headers: String::new(),
            body,
            missing: 0,
        }
    }

    fn write(&self, mut stream: &TcpStream) {
        let length = self.body.len();
        let head = format!(
            "HTTP/1.1 {} X\r\nContent-Length: {length}\r\n{}Connection: close\r\n\r\n",
            self.status, self.headers
        );
        // Clients may hang up at any time.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&self.body[..length - self.missing]);
    }
}
