//! `SHA256SUMS`, the list of digests beside artefacts.

use super::FetchError;
use crate::digest::Digest;
pub(super) use crate::sha256sums::FILE_NAME;
use crate::sha256sums::parse_line;

/// Bytes that a list may have: some ten thousand artefacts.
pub(super) const LIMIT: u64 = 1 << 20;

/// What the list at `url` says of the artefact `name`.
///
/// # Errors
/// [`FetchError::MalformedChecksums`] for anything that is no such list as a whole, or says two
/// things of the artefact; [`FetchError::NotListed`].
pub(super) fn expected(list: &[u8], name: &[u8], url: &str) -> Result<Digest, FetchError> {
    let mut found = None;
    let lines = list.split_inclusive(|&byte| byte == b'\n');
    for (number, line) in lines.enumerate() {
        let malformed = |problem| FetchError::MalformedChecksums {
            url: url.to_owned(),
            line: number + 1,
            problem,
        };
        let line = std::str::from_utf8(line).map_err(|_| malformed("is no text"))?;
        let (digest, listed) = parse_line(line).map_err(malformed)?;
        if listed.as_bytes() != name {
            continue;
        }
        if found.is_some_and(|found| found != digest) {
            return Err(malformed("gives the artefact a second digest"));
        }
        found = Some(digest);
    }
    found.ok_or_else(|| FetchError::NotListed {
        url: url.to_owned(),
        name: crate::printable::printable(name),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(content: &str, separator: &str, name: &str) -> String {
        format!(
            "{}{separator}{name}\n",
            Digest::of(content.as_bytes()).hex()
        )
    }

    fn look(list: &str, name: &str) -> Result<Digest, FetchError> {
        expected(list.as_bytes(), name.as_bytes(), "u")
    }

    #[test]
    fn both_marks_and_both_cases_are_read() {
        let list = [
            line("a", "  ", "a.raw"),
            line("b", " *", "b.raw.xz"),
            line("c", "  ", "c d.raw")
                .to_uppercase()
                .replace("C D.RAW", "c d.raw"),
        ]
        .concat();
        for (content, name) in [("a", "a.raw"), ("b", "b.raw.xz"), ("c", "c d.raw")] {
            assert_eq!(look(&list, name).unwrap(), Digest::of(content.as_bytes()));
        }
        let absent = look(&list, "e.raw");
        assert!(matches!(absent, Err(FetchError::NotListed { .. })));
    }

    #[test]
    fn anything_else_is_refused_as_a_whole() {
        let good = line("a", "  ", "a.raw");
        for (bad, number) in [
            (format!("{good}<html>\n"), 2),
            (line("a", " ", "a.raw"), 1),
            (line("a", "  ", "../a.raw"), 1),
            (line("a", "  ", ""), 1),
            (format!("\\{good}"), 1),
            (good.trim_end().to_owned(), 1),
            (format!("{good}{}", line("b", "  ", "a.raw")), 2),
            (format!("{}\r\n", good.trim_end()), 1),
        ] {
            match look(&bad, "a.raw") {
                Err(FetchError::MalformedChecksums { line, .. }) => assert_eq!(line, number),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn lists_read_back_what_they_say(
            names in prop::collection::btree_set("[A-Za-z0-9._+ ~-]{1,30}", 1..20),
            star: bool,
        ) {
            let mark = if star { " *" } else { "  " };
            let list: String = names.iter().map(|name| line(name, mark, name)).collect();
            for name in &names {
                prop_assert_eq!(look(&list, name).unwrap(), Digest::of(name.as_bytes()));
            }
        }

        #[test]
        fn reading_never_panics(list in prop::collection::vec(any::<u8>(), 0..300), name: Vec<u8>) {
            let _ = expected(&list, &name, "u");
        }
    }
}
