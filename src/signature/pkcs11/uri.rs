//! URIs that name keys and certificates in tokens (RFC 7512).

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::signature::Passphrase;

/// A `pkcs11:` URI: which token, which object in it, and how to get there.
///
/// It is shown without its query, where the PIN may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Uri {
    attributes: Vec<(PathAttribute, Vec<u8>)>,
    pin: Option<PinSource>,
    module_path: Option<PathBuf>,
}

/// Where the PIN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// In the URI itself (`pin-value`).
    Value(Passphrase),
    /// The first line of a file (`pin-source`).
    File(PathBuf),
}

/// What a URI can say about token, slot, library and object (RFC 7512, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAttribute {
    /// Label of the token.
    Token,
    /// Who made the token.
    Manufacturer,
    /// The token's serial number.
    Serial,
    /// The token's model.
    Model,
    /// Description of the slot.
    SlotDescription,
    /// Number of the slot.
    SlotId,
    /// Who made the slot.
    SlotManufacturer,
    /// Who wrote the library.
    LibraryManufacturer,
    /// Description of the library.
    LibraryDescription,
    /// Version of the library: `2` or `2.6`.
    LibraryVersion,
    /// Label of the object (`CKA_LABEL`).
    Object,
    /// Identifier of the object (`CKA_ID`).
    Id,
    /// Class of the object: `private`, `cert` and others.
    Type,
}

/// Why a text is no usable URI. It repeats nothing of the text but attribute names, since a PIN may
/// stand in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUri {
    /// Something else.
    #[error("it does not begin with pkcs11:")]
    Scheme,
    /// A part that is not `name=value`.
    #[error("part {0} is not of the form name=value")]
    NoValue(usize),
    /// `%` without two hexadecimal digits.
    #[error("the value of {0} has a % that two hexadecimal digits do not follow")]
    Encoding(&'static str),
    /// An attribute that RFC 7512 does not know, or that is not supported.
    #[error("part {0} has an unknown attribute; known are {known}", known = known())]
    Unknown(usize),
    /// An attribute that stands twice, or both ways to give a PIN.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// An unusable value.
    #[error("{0} {1}")]
    Value(&'static str, &'static str),
}

const NAMES: [(&str, PathAttribute); 13] = [
    ("token", PathAttribute::Token),
    ("manufacturer", PathAttribute::Manufacturer),
    ("serial", PathAttribute::Serial),
    ("model", PathAttribute::Model),
    ("slot-description", PathAttribute::SlotDescription),
    ("slot-id", PathAttribute::SlotId),
    ("slot-manufacturer", PathAttribute::SlotManufacturer),
    ("library-manufacturer", PathAttribute::LibraryManufacturer),
    ("library-description", PathAttribute::LibraryDescription),
    ("library-version", PathAttribute::LibraryVersion),
    ("object", PathAttribute::Object),
    ("id", PathAttribute::Id),
    ("type", PathAttribute::Type),
];
const PIN_VALUE: &str = "pin-value";
const PIN_SOURCE: &str = "pin-source";
const MODULE_PATH: &str = "module-path";
const SCHEME: &str = "pkcs11:";

fn known() -> String {
    let mut names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    names.extend([PIN_VALUE, PIN_SOURCE, MODULE_PATH]);
    names.join(", ")
}

impl Pkcs11Uri {
    /// Whether a text is meant to be such a URI.
    pub fn is_meant_by(text: &str) -> bool {
        text.get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
    }

    /// What the URI demands of an attribute.
    pub fn get(&self, wanted: PathAttribute) -> Option<&[u8]> {
        self.attributes
            .iter()
            .find(|(attribute, _)| *attribute == wanted)
            .map(|(_, value)| value.as_slice())
    }

    /// Where the PIN is, if the URI says so.
    pub fn pin(&self) -> Option<&PinSource> {
        self.pin.as_ref()
    }

    /// The library that speaks with the token, if the URI names it.
    pub fn module_path(&self) -> Option<&PathBuf> {
        self.module_path.as_ref()
    }

    fn add_path_attribute(&mut self, number: usize, part: &str) -> Result<(), InvalidUri> {
        let (name, value) = part.split_once('=').ok_or(InvalidUri::NoValue(number))?;
        let &(name, attribute) = NAMES
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .ok_or(InvalidUri::Unknown(number))?;
        if self.get(attribute).is_some() {
            return Err(InvalidUri::Twice(name));
        }
        let value = decode(value).ok_or(InvalidUri::Encoding(name))?;
        let text = std::str::from_utf8(&value).ok();
        if attribute == PathAttribute::SlotId && text.is_none_or(|t| t.parse::<u64>().is_err()) {
            return Err(InvalidUri::Value(name, "is not a number"));
        }
        if text.is_none() && attribute != PathAttribute::Id {
            return Err(InvalidUri::Value(name, "is not UTF-8"));
        }
        self.attributes.push((attribute, value));
        Ok(())
    }

    fn add_query_attribute(&mut self, number: usize, part: &str) -> Result<(), InvalidUri> {
        let (name, value) = part.split_once('=').ok_or(InvalidUri::NoValue(number))?;
        let decoded = |name| decode(value).ok_or(InvalidUri::Encoding(name));
        match name {
            PIN_VALUE | PIN_SOURCE if self.pin.is_some() => {
                Err(InvalidUri::Twice("the PIN (pin-value, pin-source)"))
            }
            PIN_VALUE => {
                let value = String::from_utf8(decoded(PIN_VALUE)?)
                    .map_err(|_| InvalidUri::Value(PIN_VALUE, "is not UTF-8"))?;
                self.pin = Some(PinSource::Value(Passphrase::new(&value)));
                Ok(())
            }
            PIN_SOURCE => {
                self.pin = Some(PinSource::File(pin_file(decoded(PIN_SOURCE)?)?));
                Ok(())
            }
            MODULE_PATH if self.module_path.is_some() => Err(InvalidUri::Twice(MODULE_PATH)),
            MODULE_PATH => {
                let path = PathBuf::from(OsString::from_vec(decoded(MODULE_PATH)?));
                if !path.is_absolute() {
                    return Err(InvalidUri::Value(MODULE_PATH, "is not an absolute path"));
                }
                self.module_path = Some(path);
                Ok(())
            }
            _ => Err(InvalidUri::Unknown(number)),
        }
    }
}

/// The file that `pin-source` names, as `file:/path`, `file:///path` or a path.
fn pin_file(value: Vec<u8>) -> Result<PathBuf, InvalidUri> {
    let path = value.strip_prefix(b"file:").unwrap_or(&value);
    let path = match path.strip_prefix(b"//") {
        // What stands between the second and the third slash is a host.
        Some(rest) if rest.starts_with(b"/") => rest,
        Some(_) => return Err(InvalidUri::Value(PIN_SOURCE, "names a host")),
        None => path,
    };
    if path.is_empty() || path.starts_with(b"|") {
        return Err(InvalidUri::Value(PIN_SOURCE, "is not a file"));
    }
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// Undoes percent-encoding; `None` where it is broken.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digit = |place: usize| char::from(*after.get(place)?).to_digit(16);
            bytes.push(u8::try_from(digit(0)? << 4 | digit(1)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    Some(bytes)
}

impl FromStr for Pkcs11Uri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !Pkcs11Uri::is_meant_by(text) {
            return Err(InvalidUri::Scheme);
        }
        let text = &text[SCHEME.len()..];
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut uri = Pkcs11Uri {
            attributes: Vec::new(),
            pin: None,
            module_path: None,
        };
        let mut number = 0;
        for part in path.split(';').filter(|part| !part.is_empty()) {
            number += 1;
            uri.add_path_attribute(number, part)?;
        }
        for part in query.split('&').filter(|part| !part.is_empty()) {
            number += 1;
            uri.add_query_attribute(number, part)?;
        }
        Ok(uri)
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        for (place, (attribute, value)) in self.attributes.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            let name = NAMES
                .iter()
                .find(|(_, candidate)| candidate == attribute)
                .map_or("", |(name, _)| name);
            write!(f, "{separator}{name}=")?;
            for &byte in value {
                // The characters that RFC 3986 leaves alone everywhere.
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Pkcs11Uri, InvalidUri> {
        text.parse()
    }

    #[test]
    fn every_part_of_a_uri_is_read() {
        let uri = parse(
            "pkcs11:token=The%20Software;serial=4711;id=%01%ff;object=db key;type=private\
             ?pin-value=12%2634&module-path=/usr/lib/x.so",
        )
        .unwrap();
        assert_eq!(uri.get(PathAttribute::Token), Some(&b"The Software"[..]));
        assert_eq!(uri.get(PathAttribute::Id), Some(&[1, 0xff][..]));
        assert_eq!(uri.get(PathAttribute::Object), Some(&b"db key"[..]));
        assert_eq!(uri.get(PathAttribute::Model), None);
        assert_eq!(uri.pin(), Some(&PinSource::Value(Passphrase::new("12&34"))));
        assert_eq!(uri.module_path(), Some(&PathBuf::from("/usr/lib/x.so")));
        for (source, path) in [
            ("file:/run/pin", "/run/pin"),
            ("file:///run/pin", "/run/pin"),
            ("/run/a%20pin", "/run/a pin"),
            ("pin", "pin"),
        ] {
            let uri = parse(&format!("PKCS11:?pin-source={source}")).unwrap();
            assert_eq!(uri.pin(), Some(&PinSource::File(path.into())), "{source}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_uri_is_said_without_a_value_of_it() {
        for (text, reason) in [
            ("pkcs12:token=s3cret", InvalidUri::Scheme),
            ("pkcs11:object=a;s3cret", InvalidUri::NoValue(2)),
            ("pkcs11:s3cret=s3cret", InvalidUri::Unknown(1)),
            ("pkcs11:object=a?pin-vaule=s3cret", InvalidUri::Unknown(2)),
            ("pkcs11:token=s3cret%4", InvalidUri::Encoding("token")),
            ("pkcs11:token=s3cret%+1", InvalidUri::Encoding("token")),
            (
                "pkcs11:?pin-value=s3cret%zz",
                InvalidUri::Encoding(PIN_VALUE),
            ),
            ("pkcs11:id=1;id=s3cret", InvalidUri::Twice("id")),
            (
                "pkcs11:?pin-value=s3cret&pin-source=s3cret",
                InvalidUri::Twice("the PIN (pin-value, pin-source)"),
            ),
            (
                "pkcs11:slot-id=s3cret",
                InvalidUri::Value("slot-id", "is not a number"),
            ),
            (
                "pkcs11:token=%ff;object=s3cret",
                InvalidUri::Value("token", "is not UTF-8"),
            ),
            (
                "pkcs11:?pin-source=|s3cret",
                InvalidUri::Value(PIN_SOURCE, "is not a file"),
            ),
            (
                "pkcs11:?pin-source=file://s3cret/x",
                InvalidUri::Value(PIN_SOURCE, "names a host"),
            ),
            (
                "pkcs11:?module-path=s3cret.so",
                InvalidUri::Value(MODULE_PATH, "is not an absolute path"),
            ),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(!refusal.to_string().contains("s3cret"), "{refusal}");
            assert_eq!(refusal, reason, "{text}");
        }
    }

    #[test]
    fn the_pin_does_not_show() {
        let uri = parse("pkcs11:object=a%20b?pin-value=s3cret").unwrap();
        assert_eq!(uri.to_string(), "pkcs11:object=a%20b");
        assert!(!format!("{uri:?}").contains("s3cret"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*", attributes in "[a-z%=;?&0-9-]{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("pkcs11:{attributes}"));
            let _ = parse(&format!("pkcs11:object={text}"));
        }

        #[test]
        fn a_uri_reads_back_what_it_shows(
            token in "\\PC{0,20}",
            id in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let uri = Pkcs11Uri {
                attributes: vec![
                    (PathAttribute::Token, token.into_bytes()),
                    (PathAttribute::Id, id),
                ],
                pin: None,
                module_path: None,
            };
            prop_assert_eq!(parse(&uri.to_string()), Ok(uri));
        }
    }
}
