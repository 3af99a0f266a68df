//! The head of a request, as the servers of tests read it.

#![allow(dead_code)] // each test program uses a part of it

use std::collections::HashMap;
use std::io::BufRead;

/// What a client asks for.
pub struct RequestHead {
    pub method: String,
    pub path: String,
    /// By names in small letters.
    pub headers: HashMap<String, String>,
}

impl RequestHead {
    /// Reads up to the empty line; `None` where the client hung up before it asked.
    pub fn read(stream: impl BufRead) -> Option<RequestHead> {
        let mut lines = stream.lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ').map(str::to_owned);
        Some(RequestHead {
            method: words.next()?,
            path: words.next()?,
            headers: lines
                .take_while(|line| !line.is_empty())
                .filter_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    Some((name.to_ascii_lowercase(), value.to_owned()))
                })
                .collect(),
        })
    }

    /// Bytes of the body.
    pub fn content_length(&self) -> usize {
        let length = self.headers.get("content-length");
        length.map_or(0, |length| length.parse().unwrap())
    }
}
