//! A proxy in front of a registry on which nobody can rely, and one for the way out of a company.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use tempfile::TempDir;

use crate::node_nginx::write_certificate;

/// What goes wrong with blobs of more than [`SMALL`] bytes.
#[derive(Clone, Default)]
pub struct Faults {
    /// Each connection breaks after so many bytes of the blob.
    pub cut_after: Option<u64>,
    /// Each connection falls silent after so many bytes of the blob, for a minute.
    pub stall_after: Option<u64>,
    /// The byte at this offset of each answer is another one.
    pub wrong_byte: Option<u64>,
    /// How many requests are answered with 503 and `Retry-After: 1`.
    pub busy: usize,
}

/// Smaller blobs pass unharmed: they are configurations.
const SMALL: u64 = 64 << 10;

/// The proxy. It speaks TLS to clients and plain HTTP to the registry.
pub struct Flaky {
    pub port: u16,
    folder: TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    /// Bytes that were sent of each blob, by path.
    sent: HashMap<String, u64>,
    /// How often each blob was asked for.
    requests: HashMap<String, usize>,
}

impl Flaky {
    pub fn before(registry: u16, faults: Faults) -> Flaky {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path());
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
        let key = folder.path().join("key.pem");
        acceptor
            .set_private_key_file(key, SslFiletype::PEM)
            .unwrap();
        acceptor
            .set_certificate_chain_file(folder.path().join("certificate.pem"))
            .unwrap();
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let flaky = Flaky {
            port: listener.local_addr().unwrap().port(),
            folder,
            state: Arc::default(),
        };
        flaky.state.lock().unwrap().faults = faults;
        let state = Arc::clone(&flaky.state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (acceptor, state) = (Arc::clone(&acceptor), Arc::clone(&state));
                thread::spawn(move || {
                    // Clients may try plain HTTP first, and hang up at any time.
                    if let Ok(mut client) = acceptor.accept(client.unwrap()) {
                        let _ = pass(&mut client, registry, &state);
                        let _ = client.get_ref().shutdown(Shutdown::Both);
                    }
                });
            }
        });
        flaky
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Bytes that were sent of the blob with these digits, and how often it was asked for.
    pub fn traffic(&self, digest: &str) -> (u64, usize) {
        let state = self.state.lock().unwrap();
        let blob = |path: &&String| path.ends_with(digest);
        let sent = state
            .sent
            .keys()
            .find(blob)
            .map_or(0, |key| state.sent[key]);
        let requests = state.requests.keys().find(blob);
        (sent, requests.map_or(0, |key| state.requests[key]))
    }
}

/// The lines of a head, the empty one included.
fn read_head(stream: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        lines.push(line.trim_end().to_owned());
        if line.trim_end().is_empty() {
            return Ok(lines);
        }
    }
}

/// Answers one request.
fn pass(
    client: &mut (impl Read + Write),
    registry: u16,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut head = read_head(&mut BufReader::with_capacity(1, &mut *client))?;
    let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
    let mut server =
        BufReader::with_capacity(256 << 10, TcpStream::connect(("127.0.0.1", registry))?);
    head.retain(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    head.insert(1, "Connection: close".to_owned());
    server
        .get_mut()
        .write_all((head.join("\r\n") + "\r\n").as_bytes())?;
    let answer = read_head(&mut server)?;
    let length = answer.iter().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<u64>().unwrap())
    });
    let is_content = answer[0].contains(" 200 ") || answer[0].contains(" 206 ");
    let is_large = path.contains("/blobs/") && is_content && length > Some(SMALL);
    let faults = match is_large {
        true => {
            let mut state = state.lock().unwrap();
            *state.requests.entry(path.clone()).or_default() += 1;
            if state.faults.busy > 0 {
                state.faults.busy -= 1;
                drop(state);
                return client.write_all(
                    b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
                      Connection: close\r\n\r\n",
                );
            }
            state.faults.clone()
        }
        false => Faults::default(),
    };
    client.write_all((answer.join("\r\n") + "\r\n").as_bytes())?;
    let (mut sent, mut buffer) = (0, vec![0; 256 << 10]);
    loop {
        let limits = [faults.cut_after, faults.stall_after];
        let left = limits.into_iter().flatten().map(|limit| limit - sent).min();
        let wanted = left.map_or(buffer.len(), |left| buffer.len().min(left as usize));
        if wanted == 0 {
            if faults.stall_after == Some(sent) {
                thread::sleep(Duration::from_secs(60));
            }
            return Ok(());
        }
        let count = server.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Ok(());
        }
        if let Some(wrong) = faults.wrong_byte
            && (sent..sent + count as u64).contains(&wrong)
        {
            buffer[(wrong - sent) as usize] ^= 1;
        }
        client.write_all(&buffer[..count])?;
        sent += count as u64;
        let mut state = state.lock().unwrap();
        *state.sent.entry(path.clone()).or_default() += count as u64;
    }
}

/// A proxy that passes on what goes through its tunnels, and notes where they lead.
pub struct Tunnel {
    pub port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    pub fn start() -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tunnel = Tunnel {
            port: listener.local_addr().unwrap().port(),
            log: Arc::default(),
        };
        let log = Arc::clone(&tunnel.log);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, log) = (client.unwrap(), Arc::clone(&log));
                thread::spawn(move || {
                    let head = read_head(&mut BufReader::with_capacity(1, &client)).unwrap();
                    log.lock().unwrap().push(head[0].clone());
                    let to = head[0].split(' ').nth(1).unwrap();
                    let Ok(server) = TcpStream::connect(to) else {
                        return;
                    };
                    let mut client = client;
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                    let (mut from, mut into) =
                        (client.try_clone().unwrap(), server.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Write);
                    });
                    let mut server = server;
                    let _ = std::io::copy(&mut server, &mut client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        tunnel
    }

    /// The first lines of all requests.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// A file that only this test reads.
pub fn write_script(path: &std::path::Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
