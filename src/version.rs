//! Versions, ordered as systemd orders them (UAPI.10, `strverscmp_improved()` in systemd's
//! `src/fundamental/string-util-fundamental.c`).

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A version of an extension, as written.
///
/// A `v` in front of a number counts for nothing. Two texts that [`compare`] finds equal but that differ
/// are ordered by their bytes, so that sorting has one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both mean the same version: tags often begin with a `v`, and cannot have a `+`.
    pub fn is_same(&self, other: &Version) -> bool {
        compare(without_v(&self.0), without_v(&other.0)).is_eq()
    }
}

fn without_v(version: &str) -> &str {
    let bare = version.strip_prefix('v');
    bare.filter(|bare| bare.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or(version)
}

impl From<&str> for Version {
    fn from(text: &str) -> Version {
        Version(text.to_owned())
    }
}

impl FromStr for Version {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Version, Infallible> {
        Ok(Version::from(text))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        compare(without_v(&self.0), without_v(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Which of two versions is the newer one.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        a = skip_separators(a);
        b = skip_separators(b);
        // A tilde makes older than the end does: 1.0~rc1 comes before 1.0.
        if let Some(order) = drop_mark(&mut a, &mut b, b'~') {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for mark in [b'-', b'^', b'.'] {
            if let Some(order) = drop_mark(&mut a, &mut b, mark) {
                return order;
            }
        }
        let is_number = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if is_number(a) || is_number(b) {
            let (of_a, of_b) = (
                take(&mut a, u8::is_ascii_digit),
                take(&mut b, u8::is_ascii_digit),
            );
            // The specification calls a missing number zero; systemd finds any number newer.
            of_a.is_empty()
                .cmp(&of_b.is_empty())
                .reverse()
                .then_with(|| {
                    let (of_a, of_b) = (strip_zeros(of_a), strip_zeros(of_b));
                    of_a.len().cmp(&of_b.len()).then_with(|| of_a.cmp(of_b))
                })
        } else {
            let is_letter = u8::is_ascii_alphabetic;
            take(&mut a, is_letter).cmp(take(&mut b, is_letter))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes `mark` off both; decides if only one has it, for then that one is older.
fn drop_mark(a: &mut &[u8], b: &mut &[u8], mark: u8) -> Option<Ordering> {
    match (a.first() == Some(&mark), b.first() == Some(&mark)) {
        (true, true) => {
            *a = &a[1..];
            *b = &b[1..];
            None
        }
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
        (false, false) => None,
    }
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let counts = |byte: &u8| byte.is_ascii_alphanumeric() || b"~^.-".contains(byte);
    &text[text.iter().position(counts).unwrap_or(text.len())..]
}

fn take<'a>(text: &mut &'a [u8], belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !belongs(byte));
    let (taken, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    taken
}

fn strip_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits
        .iter()
        .position(|&digit| digit != b'0')
        .unwrap_or(digits.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// systemd's own test of the function (`src/test/test-string-util.c`): each is older than all
    /// that follow.
    const CHAIN: [&str; 24] = [
        "~1",
        "",
        "ab",
        "abb",
        "abc",
        "0001",
        "002",
        "12",
        "122",
        "122.9",
        "123~rc1",
        "123",
        "123-a",
        "123-a.1",
        "123-a1",
        "123-a1.1",
        "123-3",
        "123-3.1",
        "123^patch1",
        "123^1",
        "123.a-1",
        "123.1-1",
        "123a-1",
        "124",
    ];

    const OLDER_AND_NEWER: &str = "123.45-67.88<123.45-67.89 123.45-67.89<123.45-67.89a \
        123.45-67.ab<123.45-67.89 123.45-67.9<123.45-67.89 123.45-67<123.45-67.89 \
        123.45-66.89<123.45-67.89 123.45-9.99<123.45-67.89 123.42-99.99<123.45-67.89 \
        123-99.99<123.45-67.89 123~rc1-99.99<123.45-67.89 123~rc1-99.99<123-45.67.89 \
        123~rc1-99.99<123~rc2-67.89 123~rc1-99.99<123^aa2-67.89 123~rc1-99.99<123aa2-67.89 \
        123-99.99<123^aa2-67.89 123-99.99<123aa2-67.89 123^45-67.89<123.45-67.89 \
        123^aa1-99.99<123^aa2-67.89 123^aa2-67.89<123aa2-67.89 123.aa2-67.89<123aa2-67.89 \
        123.aa2-67.89<123.ab2-67.89 123<123. 12_3<123 12<12_3 12.3<12_3 123<123.0 123<123_0 \
        123..0<123.0 B<a bar-123<foo-123 123.a<123.b 1_<1.2 1+<1.2";

    const EQUAL: [(&str, &str); 8] = [
        ("123_aa2-67.89", "123aa+2-67.89"),
        ("0_", "0"),
        ("_0_", "0"),
        ("", "_"),
        ("~", "~"),
        ("1٠١٢", "1"),
        ("11α", "11β"),
        ("1+", "1"),
    ];

    #[test]
    fn tags_name_the_same_version() {
        let is_same = |a: &str, b: &str| Version::from(a).is_same(&Version::from(b));
        assert!(is_same("v1.30", "1.30") && is_same("1.30+k3s1", "v1.30_k3s1"));
        assert!(!is_same("1.30", "1.31") && !is_same("v", "") && !is_same("1.30", "1.30.0"));
    }

    #[test]
    fn systemds_own_vectors_hold() {
        for (index, newer) in CHAIN.iter().enumerate() {
            assert_eq!(compare(newer, newer), Ordering::Equal);
            for older in &CHAIN[..index] {
                assert_eq!(compare(older, newer), Ordering::Less, "{older} {newer}");
                assert_eq!(compare(newer, older), Ordering::Greater, "{newer} {older}");
            }
        }
        for pair in OLDER_AND_NEWER.split_whitespace() {
            let (older, newer) = pair.split_once('<').unwrap();
            assert_eq!(compare(older, newer), Ordering::Less, "{pair}");
            assert_eq!(compare(newer, older), Ordering::Greater, "{pair}");
        }
        for (one, other) in EQUAL {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
        }
    }

    #[test]
    fn what_compares_equal_but_differs_has_an_order_of_its_own() {
        let (one, other) = (Version::from("1_"), Version::from("1"));
        assert_ne!(one.cmp(&other), Ordering::Equal);
        assert_eq!(one.cmp(&other), other.cmp(&one).reverse());
    }
}
