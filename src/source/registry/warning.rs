//! What registries warn of.
//!
//! Source: OCI distribution specification 1.1, "Warnings".

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{HeaderMap, WARNING};

use crate::printable::printable;

/// How a warning of a registry begins; others are those of caches (RFC 7234, section 5.5).
const REGISTRYS_OWN: &str = "299 -";

/// Characters of a warning that are shown.
const TEXT_LIMIT: usize = 500;

/// Different warnings that are told.
const COUNT_LIMIT: usize = 10;

/// Is told what registries warn of. Clones are one listener, which is told nothing twice, and no more
/// than ten things.
#[derive(Clone, Default)]
pub struct OnWarning(Option<Arc<Listener>>);

struct Listener {
    tell: Box<dyn Fn(&str) + Send + Sync>,
    told: Mutex<Vec<String>>,
}

impl OnWarning {
    /// A listener that hands each warning, with the registry's name, to `tell`: no more than a few
    /// hundred characters that no terminal acts upon.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> OnWarning {
        OnWarning(Some(Arc::new(Listener {
            tell: Box::new(tell),
            told: Mutex::default(),
        })))
    }

    /// Tells what `registry` warns of in the head of an answer.
    pub(super) fn hear(&self, registry: &str, headers: &HeaderMap) {
        let Some(listener) = &self.0 else {
            return;
        };
        let values = headers.get_all(WARNING).iter();
        for text in values.flat_map(|value| texts(value.as_bytes())) {
            listener.tell_once(format!("{registry} says: {}", shown(&text)));
        }
    }
}

impl Listener {
    fn tell_once(&self, message: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < COUNT_LIMIT && !told.contains(&message) {
            (self.tell)(&message);
            told.push(message);
        }
    }
}

impl fmt::Debug for OnWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnWarning").finish_non_exhaustive()
    }
}

/// The texts of `299 - "TEXT", 299 - "TEXT"`, as far as they are whole.
fn texts(value: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    let mut bytes = value.iter().copied();
    loop {
        let lead: Vec<u8> = bytes.by_ref().take_while(|byte| *byte != b'"').collect();
        let Some(text) = quoted(&mut bytes) else {
            return texts;
        };
        let lead = String::from_utf8_lossy(&lead);
        if lead.trim_matches([',', ' ', '\t']) == REGISTRYS_OWN && !text.is_empty() {
            texts.push(text);
        }
    }
}

/// The rest of a quoted string (RFC 9110, section 5.6.4), if it has an end.
fn quoted(bytes: &mut impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match bytes.next()? {
            b'"' => return Some(text),
            b'\\' => text.push(bytes.next()?),
            byte => text.push(byte),
        }
    }
}

fn shown(text: &[u8]) -> String {
    let text = printable(text);
    match text.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    /// What is told of answers with these headers.
    fn told(values: &[&str]) -> Vec<String> {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let hearer = Arc::clone(&told);
        let listener = OnWarning::new(move |text| hearer.lock().unwrap().push(text.to_owned()));
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(WARNING, value)]);
            listener.clone().hear("r.example", &headers);
        }
        std::mem::take(&mut *told.lock().unwrap())
    }

    #[test]
    fn each_warning_is_told_once() {
        let heard = told(&[
            r#"299 - "a \"b\" \\""#,
            r#"299 - "c, d", 110 cache "stale" "Wed, 21 Oct 2015 07:28:00 GMT",299 - "e""#,
            r#"299 - "e""#,
        ]);
        let wanted = [r#"a "b" \"#, "c, d", "e"].map(|text| format!("r.example says: {text}"));
        assert_eq!(heard, wanted);
    }

    #[test]
    fn what_is_no_warning_of_a_registry_is_not_told() {
        for value in [
            "",
            "299 -",
            "299 - \"",
            "299 - \"\"",
            "299 - \"open",
            "299 - \"open\\",
            "299 cache \"a\"",
            "199 - \"a\"",
            "a",
        ] {
            assert_eq!(told(&[value]), [""; 0], "{value}");
        }
    }

    #[test]
    fn warnings_are_short_few_and_harmless() {
        let heard = told(&["299 - \"a\u{9b}31m\tb\""]);
        assert_eq!(heard, ["r.example says: a\\u{9b}31m\\tb"]);
        let heard = told(&[&format!("299 - \"{}\"", "ä".repeat(4000))]);
        assert_eq!(heard[0].chars().count(), "r.example says: ".len() + 501);
        let many: Vec<String> = (0..30)
            .map(|number| format!("299 - \"{number}\""))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(told(&many).len(), 10);
    }
}
