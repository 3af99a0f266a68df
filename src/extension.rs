//! What an extension is called and what it extends.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which part of the host an extension merges into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtensionKind {
    /// `/usr` (and `/opt`), merged by systemd-sysext.
    Sysext,
    /// `/etc`, merged by systemd-confext.
    Confext,
}

impl ExtensionKind {
    /// Both of them.
    pub const ALL: [ExtensionKind; 2] = [ExtensionKind::Sysext, ExtensionKind::Confext];

    /// `sysext` or `confext`: the infix of file names and of systemd's option names.
    pub fn as_str(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "sysext",
            ExtensionKind::Confext => "confext",
        }
    }

    /// Where the release file lies in the extension, without a leading slash (UAPI.4).
    pub fn release_directory(self) -> &'static str {
        match self {
            ExtensionKind::Sysext => "usr/lib/extension-release.d",
            ExtensionKind::Confext => "etc/extension-release.d",
        }
    }

    /// The release file of the extension `name`, without a leading slash.
    pub fn release_path(self, name: &ExtensionName) -> String {
        format!("{}/extension-release.{name}", self.release_directory())
    }

    /// The name of the image file: `NAME.sysext.raw` or `NAME.confext.raw`.
    pub fn file_name(self, name: &ExtensionName) -> String {
        format!("{name}.{self}.raw")
    }
}

impl fmt::Display for ExtensionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name under which systemd finds an extension's image and its release file.
///
/// One path component of at most 200 bytes out of `A-Z a-z 0-9 . _ + ~ ^ @ : -`, which neither
/// starts with a dot nor ends in a suffix that systemd strips from file names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtensionName(String);

/// Why a text cannot name an extension.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("extension name {name:?} {reason}")]
pub struct InvalidName {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A longer name would not leave room in a 255 byte file name for `extension-release.` and the
/// suffixes.
const MAX_NAME_BYTES: usize = 200;

impl ExtensionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExtensionName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._+~^@:-".contains(c);
        let reason = if name.is_empty() {
            "is empty"
        } else if name.len() > MAX_NAME_BYTES {
            "is longer than 200 bytes"
        } else if name.starts_with('.') {
            "starts with a dot"
        } else if !name.chars().all(allowed) {
            "has a character other than letters, digits and . _ + ~ ^ @ : -"
        } else if [".raw", ".sysext", ".confext", ".v"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            "ends in a suffix that systemd takes off file names (.raw, .sysext, .confext, .v)"
        } else {
            return Ok(ExtensionName(name.to_owned()));
        };
        Err(InvalidName {
            name: name.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for ExtensionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_extensions_are_taken() {
        for name in ["k3s", "k3s-v1.29.2+k3s1", "docker_27.0~rc1", "a"] {
            assert_eq!(
                name.parse::<ExtensionName>().map(|n| n.to_string()),
                Ok(name.to_owned())
            );
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_or_confuse_systemd_are_refused() {
        let long = "a".repeat(201);
        for name in [
            "", ".", "..", ".#x", "a/b", "../a", "a b", "a\n", "ä", "a.raw", "a.sysext", &long,
        ] {
            assert!(name.parse::<ExtensionName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn file_names_and_release_paths_follow_the_kind() {
        let name: ExtensionName = "hello".parse().unwrap();
        assert_eq!(ExtensionKind::Sysext.file_name(&name), "hello.sysext.raw");
        assert_eq!(
            ExtensionKind::Confext.release_path(&name),
            "etc/extension-release.d/extension-release.hello"
        );
    }
}
