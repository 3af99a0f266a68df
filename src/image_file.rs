//! How the file of an image is called: `NAME[_VERSION][_ARCHITECTURE].sysext.raw`.
//!
//! Source: systemd.v(7); systemd's `src/shared/vpick.c` and `version_is_valid()` in
//! `src/basic/string-util.c`, which systemd-sysupdate applies too.

use std::fmt;
use std::str::FromStr;

use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, ExtensionName};

/// A version of an extension, such that systemd finds it in the name of an image file.
///
/// At most 64 letters, digits and `. - +`, beginning with a letter or a digit, and not ending in
/// what would be a count of boot attempts (`+3`, `+3-0`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExtensionVersion(String);

/// Why a text cannot be the version of an extension.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("extension version {version:?} {reason}")]
pub struct InvalidVersion {
    /// The text.
    pub version: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Bytes that a version may have.
const MAX_VERSION_BYTES: usize = 64;

/// Bytes that Linux allows a file name.
const MAX_FILE_NAME_BYTES: usize = 255;

impl ExtensionVersion {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ExtensionVersion {
    type Err = InvalidVersion;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        let reason = if version.is_empty() {
            "is empty"
        } else if version.len() > MAX_VERSION_BYTES {
            "is longer than 64 bytes"
        } else if version.contains(['~', '^']) {
            "has a ~ or ^, which systemd passes over in names of files; write 1.0-rc1 for 1.0~rc1, and \
             mind that systemd takes it for newer than 1.0"
        } else if version.contains('_') {
            "has a _, behind which systemd looks for the architecture"
        } else if !version.chars().all(allowed) {
            "has a character other than letters, digits and . - +"
        } else if !version.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            "does not begin with a letter or a digit"
        } else if ends_in_tries(version) {
            "ends in what systemd takes for a count of attempts (+LEFT or +LEFT-DONE)"
        } else {
            return Ok(ExtensionVersion(version.to_owned()));
        };
        Err(InvalidVersion {
            version: version.to_owned(),
            reason,
        })
    }
}

/// Whether the end is `+LEFT` or `+LEFT-DONE`, which systemd cuts off.
fn ends_in_tries(version: &str) -> bool {
    let Some((_, tries)) = version.rsplit_once('+') else {
        return false;
    };
    let mut numbers = tries.splitn(2, '-');
    numbers.all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for ExtensionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands before the suffixes in the name of an image file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageFileStem(String);

/// Why the file of an image cannot be called so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidStem {
    /// systemd would not know where the name ends.
    #[error(
        "the extension name {0} has a _ or +, where systemd cuts the name off a file name with \
         version or architecture; choose a name without them"
    )]
    Name(ExtensionName),
    /// No file can have such a long name.
    #[error("{0}… is too long for the name of a file; shorten name or version")]
    TooLong(String),
}

impl ImageFileStem {
    /// `NAME`, `NAME_VERSION`, `NAME_ARCHITECTURE` or `NAME_VERSION_ARCHITECTURE`.
    ///
    /// # Errors
    /// See [`InvalidStem`].
    pub fn new(
        name: &ExtensionName,
        version: Option<&ExtensionVersion>,
        architecture: Option<Architecture>,
    ) -> Result<ImageFileStem, InvalidStem> {
        let parts = [
            version.map(ExtensionVersion::as_str),
            architecture.map(Architecture::systemd_name),
        ];
        let mut stem = name.to_string();
        for part in parts.into_iter().flatten() {
            if name.as_str().contains(['_', '+']) {
                return Err(InvalidStem::Name(name.clone()));
            }
            stem += &format!("_{part}");
        }
        // The longest name is that of a request for a signature.
        if stem.len() + ".sign-request.json".len() > MAX_FILE_NAME_BYTES {
            stem.truncate(40);
            return Err(InvalidStem::TooLong(stem));
        }
        Ok(ImageFileStem(stem))
    }

    /// `STEM.sysext.raw` or `STEM.confext.raw`.
    pub fn file_name(&self, kind: ExtensionKind) -> String {
        format!("{self}.{kind}.raw")
    }
}

impl fmt::Display for ImageFileStem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_systemd_reads_are_taken() {
        for version in [
            "1",
            "1.29.2+k3s1",
            "2026-11-21",
            "v1.0-rc1",
            "1.0+3a",
            "1+a-2",
        ] {
            assert!(version.parse::<ExtensionVersion>().is_ok(), "{version}");
        }
    }

    #[test]
    fn versions_that_systemd_would_misread_are_refused() {
        let long = "1".repeat(65);
        for version in [
            "", "1_2", "1/2", "../1", "1~rc1", "1^2", ".1", "-1", "+1", "1+3", "1+3-0", "1 2",
            "1\n", "ü", &long,
        ] {
            assert!(version.parse::<ExtensionVersion>().is_err(), "{version:?}");
        }
    }

    #[test]
    fn names_are_put_together_as_systemd_takes_them_apart() {
        let name: ExtensionName = "k3s".parse().unwrap();
        let version: ExtensionVersion = "1.2".parse().unwrap();
        let file = |version, architecture| {
            let stem = ImageFileStem::new(&name, version, architecture).unwrap();
            stem.file_name(ExtensionKind::Sysext)
        };
        let arm = Some(Architecture::Arm64);
        assert_eq!(file(None, None), "k3s.sysext.raw");
        assert_eq!(file(Some(&version), None), "k3s_1.2.sysext.raw");
        assert_eq!(file(None, arm), "k3s_arm64.sysext.raw");
        assert_eq!(file(Some(&version), arm), "k3s_1.2_arm64.sysext.raw");
    }

    #[test]
    fn names_whose_end_systemd_would_not_find_are_refused() {
        let version: ExtensionVersion = "1.2".parse().unwrap();
        for name in ["my_app", "app+x"] {
            let name: ExtensionName = name.parse().unwrap();
            assert!(ImageFileStem::new(&name, None, None).is_ok());
            let refused = ImageFileStem::new(&name, Some(&version), None);
            assert_eq!(refused, Err(InvalidStem::Name(name)));
        }
        let long: ExtensionName = "a".repeat(200).parse().unwrap();
        let version: ExtensionVersion = "1".repeat(60).parse().unwrap();
        let refused = ImageFileStem::new(&long, Some(&version), None);
        assert!(matches!(refused, Err(InvalidStem::TooLong(_))));
    }
}
