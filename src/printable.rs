//! Text from outside that is safe to show, and errors as one sentence.

use std::error::Error;

/// Bytes from a layer, an image or a registry as text that no terminal acts upon.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// An error with its causes in one sentence. Nothing is said twice: some errors name their cause
/// themselves.
pub fn sentence(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !sentence.ends_with(&words) {
            sentence = format!("{sentence}: {words}");
        }
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read a")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("nothing was changed: {0}")]
    struct Telling(#[source] Outer);

    #[test]
    fn causes_are_told_once() {
        let error = Telling(Outer(io::Error::other("it is gone")));
        assert_eq!(
            sentence(&error),
            "nothing was changed: cannot read a: it is gone"
        );
    }

    #[test]
    fn terminals_are_safe_from_names() {
        assert_eq!(
            printable(b"a\x1b[31m\xff\xc3\xa4"),
            "a\\u{1b}[31m\\xff\u{e4}"
        );
    }
}
