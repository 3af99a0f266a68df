//! What units of systemd are called.

use std::fmt;
use std::str::FromStr;

/// The name of a unit as systemd takes it (systemd.unit(5), `unit_name_is_valid()` in systemd's
/// `src/basic/unit-name.c`): a plain one or an instance, never a template or a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitName(String);

/// A text that names no unit which could be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a unit: {reason}")]
pub struct InvalidUnitName {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The longest name, in bytes (`UNIT_NAME_MAX` is 256 with the final zero).
const MAX_BYTES: usize = 255;

/// What units may be (systemd.unit(5)).
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "device",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "slice",
    "scope",
];

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = InvalidUnitName;

    fn from_str(text: &str) -> Result<UnitName, InvalidUnitName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let (stem, kind) = text.rsplit_once('.').unwrap_or((text, ""));
        let reason = if !stem.chars().all(allowed) {
            "it has a character other than letters, digits and : - _ . \\ @"
        } else if !TYPES.contains(&kind) {
            "it has no type at its end, as in hello.service"
        } else if text.len() > MAX_BYTES {
            "it is longer than 255 bytes"
        } else if stem.is_empty() || stem.starts_with('@') {
            "there is nothing before its type or instance"
        } else if stem.ends_with('@') {
            "it is a template, of which an instance has to be named"
        } else {
            return Ok(UnitName(text.to_owned()));
        };
        Err(InvalidUnitName {
            name: text.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
