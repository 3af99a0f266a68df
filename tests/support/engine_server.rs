//! A container engine that only knows how to inspect and to export, on a Unix socket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::json;
use sysgraft::digest::Digest;
use tempfile::TempDir;

/// An answer: status and body.
pub type Answers = HashMap<String, (u16, Vec<u8>)>;

/// What a client took of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that could be sent; some of them may still have been on their way.
    pub bytes: usize,
    /// Whether that was all.
    pub is_whole: bool,
}

/// Serves until the program ends.
pub struct EngineServer {
    directory: TempDir,
    /// For each answered request its path, and how much of the body the client took.
    pub log: Receiver<(String, Taken)>,
}

impl EngineServer {
    pub fn start(answers: Answers) -> EngineServer {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let (sender, log) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, answers, log) = (stream.unwrap(), answers.clone(), sender.clone());
                thread::spawn(move || answer(&stream, &answers, &log));
            }
        });
        EngineServer { directory, log }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// The value for `DOCKER_HOST`.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }
}

fn answer(stream: &UnixStream, answers: &Answers, log: &Sender<(String, Taken)>) {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap().unwrap();
    while !lines.next().unwrap().unwrap().is_empty() {}
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let not_found = (404, br#"{"message": "no such image"}"#.to_vec());
    let (status, body) = answers.get(&path).unwrap_or(&not_found);
    let mut stream = stream;
    // The length is left open, as engines leave it open for an export.
    let head = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut sent = stream.write_all(head.as_bytes());
    let mut bytes = 0;
    for chunk in body.chunks(32 << 10).chain([&[][..]]) {
        sent = sent
            .and_then(|()| write!(stream, "{:x}\r\n", chunk.len()))
            .and_then(|()| stream.write_all(chunk))
            .and_then(|()| stream.write_all(b"\r\n"));
        if sent.is_err() {
            break;
        }
        bytes += chunk.len();
    }
    let is_whole = sent.is_ok();
    let _ = log.send((path, Taken { bytes, is_whole }));
}

/// The answers for one image, by name and by its ID.
pub fn answers(name: &str, platform: &str, diff_ids: &[Digest], export: Vec<u8>) -> Answers {
    let id = Digest::of(name.as_bytes());
    let mut parts = platform.split('/');
    let inspected = json!({
        "Id": id.to_string(),
        "Os": parts.next(),
        "Architecture": parts.next(),
        "Variant": parts.next(),
        "RootFS": {
            "Type": "layers",
            "Layers": diff_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    });
    let inspected = inspected.to_string().into_bytes();
    HashMap::from([
        (format!("/images/{name}/json"), (200, inspected.clone())),
        (format!("/images/{id}/json"), (200, inspected)),
        (format!("/images/{id}/get"), (200, export)),
    ])
}
