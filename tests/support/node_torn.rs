//! A proxy that cuts connections, and servers that lie.

#![allow(dead_code)] // each test program uses a part of it

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Passes connections on to a port, cuts them, and counts the bytes that come back.
pub struct Torn {
    pub port: u16,
    bytes: Arc<AtomicU64>,
    piece: Arc<AtomicU64>,
}

impl Torn {
    /// Cuts each connection to `port` after `piece` bytes of answers.
    pub fn before(port: u16, piece: u64) -> Torn {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let torn = Torn {
            port: listener.local_addr().unwrap().port(),
            bytes: Arc::default(),
            piece: Arc::new(AtomicU64::new(piece)),
        };
        let (bytes, piece) = (Arc::clone(&torn.bytes), Arc::clone(&torn.piece));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)));
                let (bytes, piece) = (Arc::clone(&bytes), piece.load(Ordering::SeqCst));
                // The server may be gone by the end of a test.
                if let Ok(server) = server {
                    thread::spawn(move || pass(client, server, piece, &bytes));
                }
            }
        });
        torn
    }

    /// Passes everything from now on.
    pub fn mend(&self) {
        self.piece.store(u64::MAX, Ordering::SeqCst);
    }

    /// Bytes of answers so far, headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

fn pass(client: TcpStream, server: TcpStream, piece: u64, bytes: &AtomicU64) {
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut client, mut server) = (client, server);
    let (mut left, mut buffer) = (piece, vec![0; 4096]);
    while left > 0 {
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = server.read(&mut buffer[..wanted]).unwrap_or(0);
        if count == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
        bytes.fetch_add(count as u64, Ordering::SeqCst);
        left -= count as u64;
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// Answers the requests that come with these bytes, one after another, and the last one again and
/// again; then it is silent for `silence` and hangs up. The result is the port.
pub fn liar(answers: Vec<Vec<u8>>, silence: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let mut client = client.unwrap();
            let answer = answers[number.min(answers.len() - 1)].clone();
            thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    if client.read(&mut byte).unwrap_or(0) == 0 {
                        return;
                    }
                    request.push(byte[0]);
                }
                let _ = client.write_all(&answer);
                thread::sleep(silence);
            });
        }
    });
    port
}
