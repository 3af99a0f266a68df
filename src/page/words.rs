//! Text and numbers as a page shows them.

use crate::printable::printable;

/// Longer text is cut; no path is longer.
const MAX_CHARS: usize = 4096;

/// Text from outside with nothing in it that acts instead of being seen: control characters, and those
/// that change the direction of writing or have no width. Bounded.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, c) in printable(text.as_bytes()).chars().enumerate() {
        if number == MAX_CHARS {
            shown.push('…');
            break;
        }
        if is_unseen(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Marks of direction, joiners, soft hyphens and the like (Unicode's general category Cf, as far as it
/// can deceive).
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes in the largest binary unit that leaves a number of at least one.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// By how much something grew, or shrank.
pub fn growth(was: u64, is: u64) -> String {
    match is.cmp(&was) {
        std::cmp::Ordering::Less => format!("−{}", size(was - is)),
        std::cmp::Ordering::Equal => "±0".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", size(is - was)),
    }
}

/// A number with commas between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, which are one or several.
pub fn things(number: u64, one: &str, several: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {several}", count(number)),
    }
}

/// How many hundredths of `whole` a part is.
pub fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// The last component of a path.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_made_visible() {
        assert_eq!(visible("a\u{202e}gpj.exe"), "a\\u{202e}gpj.exe");
        assert_eq!(visible("käse\n"), "käse\\n");
        assert_eq!(visible(&"x".repeat(5000)).chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(things(1, "file", "files"), "1 file");
        assert_eq!(things(2000, "file", "files"), "2,000 files");
        assert_eq!(growth(2048, 1024), "−1.00 KiB");
    }
}
