//! The names on certificates.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::x509::{X509Name, X509NameBuilder};

/// What a key set is called: the first part of its certificates' common names.
///
/// At most 54 letters, digits, spaces and ASCII punctuation, neither first nor last a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonName(String);

/// Who the keys belong to: what stands on every certificate of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    attributes: Vec<(Attribute, String)>,
    common_name: CommonName,
}

/// A subject that may still lack its common name.
///
/// Its text form is that of OpenSSL, `/C=DE/O=Example/CN=name`, or the same with commas,
/// `C=DE,O=Example,CN=name`. A backslash takes the meaning from the character behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSubject {
    attributes: Vec<(Attribute, String)>,
    /// The common name, if the text had one.
    pub common_name: Option<CommonName>,
}

/// Why a text cannot stand on certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {reason}")]
pub struct InvalidSubject {
    /// The name, or the part of the subject.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Certificates take 64 characters, and `-extension` is appended (RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 54;

/// Attributes beside the common name that every verifier knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attribute {
    Country,
    State,
    Locality,
    Organization,
    Unit,
}

impl Attribute {
    fn from_key(key: &str) -> Option<Attribute> {
        Some(match key {
            "C" => Attribute::Country,
            "ST" => Attribute::State,
            "L" => Attribute::Locality,
            "O" => Attribute::Organization,
            "OU" => Attribute::Unit,
            _ => return None,
        })
    }

    fn nid(self) -> Nid {
        match self {
            Attribute::Country => Nid::COUNTRYNAME,
            Attribute::State => Nid::STATEORPROVINCENAME,
            Attribute::Locality => Nid::LOCALITYNAME,
            Attribute::Organization => Nid::ORGANIZATIONNAME,
            Attribute::Unit => Nid::ORGANIZATIONALUNITNAME,
        }
    }

    /// RFC 5280, appendix A.1.
    fn takes(self, value: &str) -> bool {
        let most = match self {
            Attribute::Country => {
                return value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase());
            }
            Attribute::State | Attribute::Locality => 128,
            Attribute::Organization | Attribute::Unit => 64,
        };
        value.chars().count() <= most
    }
}

/// Letters, digits and punctuation that look like themselves wherever a certificate is shown.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || c.is_ascii_punctuation();
    !text.is_empty() && text.trim() == text && text.chars().all(plain)
}

impl FromStr for CommonName {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reason = if !is_plain(text) {
            "is no name for keys: it takes letters, digits, punctuation, and spaces between them"
        } else if text.chars().count() > MAX_COMMON_NAME {
            "is too long a name for keys; 54 characters fit on a certificate"
        } else {
            return Ok(CommonName(text.to_owned()));
        };
        Err(InvalidSubject {
            text: text.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for CommonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PartialSubject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (separator, text) = match text.strip_prefix('/') {
            Some(rest) => ('/', rest),
            None => (',', text),
        };
        let mut subject = PartialSubject::default();
        for part in split(text, separator) {
            subject.add(part.trim_matches(' '))?;
        }
        Ok(subject)
    }
}

/// The parts between separators, with backslashes taken off.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c == separator {
            parts.push(String::new());
            continue;
        }
        let literal = if c == '\\' {
            characters.next()
        } else {
            Some(c)
        };
        if let Some(part) = parts.last_mut() {
            part.extend(literal);
        }
    }
    parts
}

impl PartialSubject {
    /// Adds `KEY=value`.
    fn add(&mut self, part: &str) -> Result<(), InvalidSubject> {
        let refuse = |reason| InvalidSubject {
            text: part.to_owned(),
            reason,
        };
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| refuse("is no part of a subject; write it as /C=DE/O=Example"))?;
        if key == "CN" {
            if self.common_name.is_some() {
                return Err(refuse("is a second common name"));
            }
            self.common_name = Some(value.parse()?);
            return Ok(());
        }
        let attribute = Attribute::from_key(key)
            .ok_or_else(|| refuse("has another key than C, ST, L, O, OU and CN"))?;
        if !is_plain(value) || !attribute.takes(value) {
            return Err(refuse(
                "does not fit on a certificate: C takes two capitals, O and OU 64 characters, ST \
                 and L 128",
            ));
        }
        self.attributes.push((attribute, value.to_owned()));
        Ok(())
    }

    /// The subject with this common name, whatever it had.
    pub fn named(self, common_name: CommonName) -> Subject {
        Subject {
            attributes: self.attributes,
            common_name,
        }
    }
}

impl Subject {
    /// The name on the certificate of one key: `NAME-suffix` behind the other attributes.
    pub(super) fn on_certificate(&self, suffix: &str) -> Result<X509Name, ErrorStack> {
        let mut name = X509NameBuilder::new()?;
        for (attribute, value) in &self.attributes {
            name.append_entry_by_nid(attribute.nid(), value)?;
        }
        let common_name = format!("{}-{suffix}", self.common_name);
        name.append_entry_by_nid(Nid::COMMONNAME, &common_name)?;
        Ok(name.build())
    }

    /// The name of the set.
    pub fn common_name(&self) -> &CommonName {
        &self.common_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_certificate(subject: &str, name: &str) -> String {
        let partial: PartialSubject = subject.parse().unwrap();
        let subject = partial.named(name.parse().unwrap());
        let name = subject.on_certificate("PK").unwrap();
        let entries = name.entries().map(|entry| {
            let key = entry.object().nid().short_name().unwrap();
            format!("{key}={}", entry.data().to_string().unwrap())
        });
        entries.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn subjects_are_written_as_for_openssl_or_with_commas() {
        let expected = "C=DE|O=Example|CN=fleet-PK";
        assert_eq!(on_certificate("/C=DE/O=Example", "fleet"), expected);
        assert_eq!(on_certificate("C=DE, O=Example", "fleet"), expected);
        assert_eq!(
            on_certificate(r"/O=A\/B, C\\D/OU=x=y", "müller & söhne"),
            r"O=A/B, C\D|OU=x=y|CN=müller & söhne-PK"
        );
        let partial: PartialSubject = "O=a,CN=b".parse().unwrap();
        assert_eq!(partial.common_name, Some(CommonName("b".to_owned())));
    }

    #[test]
    fn the_longest_names_fit_on_certificates() {
        let name: CommonName = "ä".repeat(54).parse().unwrap();
        let subject = format!("/O={}/L={}", "o".repeat(64), "l".repeat(128));
        let partial: PartialSubject = subject.parse().unwrap();
        let subject = partial.named(name);
        for suffix in ["PK", "KEK", "db", "extension"] {
            subject.on_certificate(suffix).unwrap();
        }
    }

    #[test]
    fn names_that_would_mislead_are_refused() {
        let long = "a".repeat(55);
        for name in [
            "",
            " ",
            " a",
            "a ",
            "a\n",
            "a\tb",
            "\u{202e}evil",
            "a\0",
            "\x1b[1m",
            &long,
        ] {
            assert!(name.parse::<CommonName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn other_subjects_are_refused() {
        for subject in [
            "",
            "/",
            "//O=x",
            "Example",
            "/O=",
            "/O=x/",
            "/C=Germany",
            "/C=d1",
            "/UID=1",
            "/CN=a/CN=b",
            "/CN=\u{7}",
            "/O=x\n",
            "/o=x",
        ] {
            assert!(subject.parse::<PartialSubject>().is_err(), "{subject:?}");
        }
        let long = format!("/O={}", "o".repeat(65));
        assert!(long.parse::<PartialSubject>().is_err());
    }
}
