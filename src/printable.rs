//! Text from outside that is safe to show.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_safe_from_names() {
        assert_eq!(
            printable(b"a\x1b[31m\xff\xc3\xa4"),
            "a\\u{1b}[31m\\xff\u{e4}"
        );
    }
}
