//! `SHA256SUMS`, the list by which systemd-sysupdate knows what a feed has.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::sha256sums::parse_line;

/// A list of file names with their digests, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// By file name: the digest, and the line as it was written.
    lines: BTreeMap<String, (Digest, String)>,
}

/// Why a list cannot be added to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChecksums {
    /// A line that systemd would not understand either.
    #[error("line {line} {problem}")]
    Line {
        /// Counted from one.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Not text.
    #[error("it is no text")]
    NotText,
}

impl Checksums {
    /// Reads a list.
    ///
    /// # Errors
    /// [`InvalidChecksums`] for anything that is no such list as a whole.
    pub fn parse(bytes: &[u8]) -> Result<Checksums, InvalidChecksums> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidChecksums::NotText)?;
        let mut lines = BTreeMap::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let invalid = |problem| InvalidChecksums::Line {
                line: index + 1,
                problem,
            };
            let (digest, name) = parse_line(line).map_err(invalid)?;
            let known = lines.insert(name.to_owned(), (digest, line.to_owned()));
            if known.is_some_and(|(known, _)| known != digest) {
                return Err(invalid("gives a file a second digest"));
            }
        }
        Ok(Checksums { lines })
    }

    /// The text of the list.
    pub fn render(&self) -> String {
        self.lines.values().map(|(_, line)| line.as_str()).collect()
    }

    /// The digest of a file, if the list has it.
    pub fn get(&self, name: &str) -> Option<Digest> {
        self.lines.get(name).map(|(digest, _)| *digest)
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().map(String::as_str)
    }

    /// Adds a file, or gives it another digest.
    pub fn set(&mut self, name: &str, digest: Digest) {
        if self.get(name) != Some(digest) {
            let line = format!("{}  {name}\n", digest.hex());
            self.lines.insert(name.to_owned(), (digest, line));
        }
    }

    /// Takes a file off the list.
    pub fn remove(&mut self, name: &str) {
        self.lines.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(content: &str, separator: &str, name: &str) -> String {
        let digest = Digest::of(content.as_bytes());
        format!("{}{separator}{name}\n", digest.hex())
    }

    #[test]
    fn lines_of_others_stay_as_they_are() {
        let others = [line("b", " *", "b.raw"), line("c", "  ", "c.img")];
        let mut list = Checksums::parse(others.concat().as_bytes()).unwrap();
        list.set("a.raw", Digest::of(b"a"));
        list.set("b.raw", Digest::of(b"b"));
        let expected = format!("{}{}{}", line("a", "  ", "a.raw"), others[0], others[1]);
        assert_eq!(list.render(), expected);
        list.set("b.raw", Digest::of(b"new"));
        list.remove("a.raw");
        assert_eq!(list.get("b.raw"), Some(Digest::of(b"new")));
        assert_eq!(
            list.render(),
            format!("{}{}", line("new", "  ", "b.raw"), others[1])
        );
    }

    #[test]
    fn what_systemd_would_not_read_is_refused() {
        let good = line("a", "  ", "a.raw");
        for (bad, number) in [
            (format!("{good}<html>\n"), 2),
            (line("a", " ", "a.raw"), 1),
            (line("a", "  ", ""), 1),
            (line("a", "  ", "sub/a.raw"), 1),
            (good.trim_end().to_owned(), 1),
            (format!("{good}{}", line("b", "  ", "a.raw")), 2),
        ] {
            match Checksums::parse(bad.as_bytes()) {
                Err(InvalidChecksums::Line { line, .. }) => assert_eq!(line, number, "{bad}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
        assert_eq!(Checksums::parse(b"\xff"), Err(InvalidChecksums::NotText));
    }

    proptest! {
        #[test]
        fn lists_read_back_what_they_say(names in prop::collection::btree_set("[A-Za-z0-9._+ ~-]{1,30}", 0..20)) {
            let mut list = Checksums::default();
            for name in &names {
                list.set(name, Digest::of(name.as_bytes()));
            }
            let read = Checksums::parse(list.render().as_bytes()).unwrap();
            prop_assert!(read.names().eq(names.iter().map(String::as_str)));
            prop_assert_eq!(read, list);
        }

        #[test]
        fn reading_never_panics(list in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Checksums::parse(&list);
        }
    }
}
