//! A registry in memory that takes what it is sent, and has the habits of some that are on the
//! Internet.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sysgraft::digest::Digest;

use crate::request_head::RequestHead;

/// What it has and does.
#[derive(Default)]
pub struct Store {
    /// Manifests and indexes by tag and digest.
    pub documents: HashMap<String, Vec<u8>>,
    pub blobs: HashMap<String, usize>,
    /// Whether it keeps a list of what refers to a manifest.
    pub lists_referrers: bool,
    /// Whether it wants a token with the right to write, although it only says that it wants one with
    /// that to read. Each is good for so many requests.
    pub token_uses: Option<usize>,
    /// How many connections break after half of a blob.
    pub breaks: usize,
    /// How often a blob is wanted elsewhere, once all of it is here.
    pub redirects: usize,
    /// The answer to each request of this method whose path has this in it.
    pub refusal: Option<(&'static str, &'static str, &'static str)>,
    /// A header, with the end of its line, that comes with every answer.
    pub warning: &'static str,
    /// How many tags it lists at a time; all, if none.
    pub tags_per_page: usize,
    /// Where it says that the next page is, with the number of the request behind it, instead of where it
    /// is.
    pub next_page: Option<String>,
    /// Whether of that answer only the head comes; after a minute the connection ends.
    pub stalls: bool,
    /// What another one puts in the place of a document, right after it is stored.
    pub overwritten: HashMap<String, Vec<u8>>,
    /// Method and path of all requests.
    pub log: Vec<String>,
    /// Tokens so far, and how often the last one was used.
    pub tokens: (usize, usize),
}

/// Serves until the program ends.
pub struct WritableRegistry {
    pub port: u16,
    store: Arc<Mutex<Store>>,
}

impl WritableRegistry {
    pub fn start(store: Store) -> WritableRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = WritableRegistry {
            port: listener.local_addr().unwrap().port(),
            store: Arc::new(Mutex::new(store)),
        };
        let (store, port) = (Arc::clone(&registry.store), registry.port);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, store) = (stream.unwrap(), Arc::clone(&store));
                thread::spawn(move || serve(&stream, port, &store));
            }
        });
        registry
    }

    pub fn repository(&self) -> String {
        format!("127.0.0.1:{}/hello", self.port)
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

/// Answers one request; `None` where the client hung up.
fn serve(stream: &TcpStream, port: u16, store: &Mutex<Store>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let head = RequestHead::read(&mut reader)?;
    let (method, path) = (head.method.as_str(), head.path.as_str());
    let length = head.content_length();
    let is_blob = method == "PUT" && path.contains("/uploads/");
    if is_blob && store.lock().unwrap().breaks > 0 {
        store.lock().unwrap().breaks -= 1;
        reader.read_exact(&mut vec![0; length / 2]).ok()?;
        return stream.shutdown(Shutdown::Both).ok();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let token = head.headers.get("authorization").map(String::as_str);
    let mut store = store.lock().unwrap();
    store.log.push(format!("{method} {path}"));
    let mut answer = store.answer(method, path, token, body, port);
    if let Some(end) = answer.find("\r\n") {
        answer.insert_str(end + 2, store.warning);
    }
    let answer = match method {
        "HEAD" => answer.split("\r\n\r\n").next()?.to_owned() + "\r\n\r\n",
        _ => answer,
    };
    if store.stalls && store.is_refused(method, path) {
        drop(store);
        let head = answer.split_inclusive("\r\n\r\n").next()?;
        (&mut &*stream).write_all(head.as_bytes()).ok()?;
        thread::sleep(Duration::from_secs(60));
        return None;
    }
    (&mut &*stream).write_all(answer.as_bytes()).ok()
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

impl Store {
    fn is_refused(&self, method: &str, path: &str) -> bool {
        self.refusal
            .is_some_and(|(refused, part, _)| method == refused && path.contains(part))
    }

    fn answer(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
        port: u16,
    ) -> String {
        if path.starts_with("/token") {
            let is_for_writing = path.contains("scope=repository%3Ahello%3Apull%2Cpush");
            assert!(is_for_writing, "{path}");
            self.tokens = (self.tokens.0 + 1, 0);
            return reply(
                "200 OK",
                "",
                &format!(r#"{{"token": "t{}"}}"#, self.tokens.0),
            );
        }
        if let Some(uses) = self.token_uses {
            let (number, used) = &mut self.tokens;
            *used += 1;
            if token != Some(&format!("Bearer t{number}")) || *used > uses {
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"x\",\
                     scope=\"repository:hello:pull\"\r\n"
                );
                return reply("401 Unauthorized", &challenge, "");
            }
        }
        if let Some((.., answer)) = self.refusal
            && self.is_refused(method, path)
        {
            let (status, body) = answer.split_once('|').unwrap();
            return reply(status, "", body);
        }
        let absent = reply("404 Not Found", "", "");
        let Some(path) = path.strip_prefix("/v2/hello/") else {
            return reply("200 OK", "", "{}");
        };
        if let Some(upload) = path.strip_prefix("blobs/uploads/") {
            if method == "POST" {
                // From the root of the host on, and with something in it already.
                return reply(
                    "202 Accepted",
                    "Location: /v2/hello/blobs/uploads/1?state=a%2Fb\r\n",
                    "",
                );
            }
            if method == "DELETE" {
                return reply("204 No Content", "", "");
            }
            let digest = Digest::of(&body).to_string();
            let named = upload.split_once("?state=a%2Fb&digest=").unwrap().1;
            if named.replace("%3A", ":") != digest {
                let error = r#"{"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}"#;
                return reply("400 Bad Request", "", error);
            }
            if self.redirects > 0 {
                self.redirects -= 1;
                let elsewhere = format!("Location: /v2/hello/blobs/uploads/2{}\r\n", &upload[1..]);
                return reply("307 Temporary Redirect", &elsewhere, "");
            }
            self.blobs.insert(digest, body.len());
            return reply("201 Created", "", "");
        }
        if let Some(digest) = path.strip_prefix("blobs/") {
            return match self.blobs.contains_key(digest) {
                true => reply("200 OK", "", ""),
                false => absent,
            };
        }
        if let Some(name) = path.strip_prefix("manifests/") {
            if method == "GET" {
                let document = self.documents.get(name);
                let document = document.map(|document| String::from_utf8_lossy(document));
                return document.map_or(absent, |document| reply("200 OK", "", &document));
            }
            let is_statement = String::from_utf8_lossy(&body).contains("\"subject\"");
            self.documents
                .insert(Digest::of(&body).to_string(), body.clone());
            let kept = self.overwritten.remove(name).unwrap_or(body);
            self.documents.insert(name.to_owned(), kept);
            return match is_statement && self.lists_referrers {
                true => reply("201 Created", "OCI-Subject: sha256:x\r\n", ""),
                false => reply("201 Created", "", ""),
            };
        }
        if let Some(query) = path.strip_prefix("tags/list") {
            return self.tags(query);
        }
        match path.starts_with("referrers/") && self.lists_referrers {
            true => reply("200 OK", "", r#"{"schemaVersion": 2, "manifests": []}"#),
            false => absent,
        }
    }

    /// The tags behind the last one of the page before.
    fn tags(&self, query: &str) -> String {
        let last = query.split_once("&last=").map_or("", |(_, last)| last);
        let names = self.documents.keys().map(String::as_str);
        let mut tags: Vec<&str> = names
            .filter(|name| !name.contains(':') && *name > last)
            .collect();
        tags.sort_unstable();
        let mut link = String::new();
        if (1..tags.len()).contains(&self.tags_per_page) {
            tags.truncate(self.tags_per_page);
            link = format!("/v2/hello/tags/list?n=1000&last={}", tags[tags.len() - 1]);
        }
        if let Some(next) = &self.next_page {
            link = format!("{next}{}", self.log.len());
        }
        let header = match link.as_str() {
            "" => String::new(),
            link => format!("Link: <{link}>; rel=\"next\"\r\n"),
        };
        let list = serde_json::json!({"name": "hello", "tags": tags});
        reply("200 OK", &header, &list.to_string())
    }
}
