//! What the name of a stored image says.

use std::fmt;

use super::version::Version;
use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, ExtensionName};

/// The file name of an artefact: `NAME[_VERSION][_ARCHITECTURE][.sysext|.confext].raw`.
///
/// Only a name out of which nothing can lead is one: a single path component of the characters
/// that [`ExtensionName`] takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtefactName {
    file: String,
    /// Without suffixes.
    stem: ExtensionName,
}

/// Why a file name is not that of an artefact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file:?} cannot be the file name of a {kind}: {reason}; name it NAME.{kind}.raw")]
pub struct InvalidArtefactName {
    /// The file name.
    pub file: String,
    /// What it was to be.
    pub kind: ExtensionKind,
    /// What is wrong with it.
    pub reason: String,
}

impl ArtefactName {
    /// Takes a file name apart.
    ///
    /// # Errors
    /// [`InvalidArtefactName`], which says what is wrong.
    pub fn parse(file: &str, kind: ExtensionKind) -> Result<ArtefactName, InvalidArtefactName> {
        let invalid = |reason: &str| InvalidArtefactName {
            file: file.to_owned(),
            kind,
            reason: reason.to_owned(),
        };
        let stem = file
            .strip_suffix(".raw")
            .ok_or_else(|| invalid("it does not end in .raw"))?;
        let stem = match stem.rsplit_once('.') {
            Some((stem, infix)) if infix == kind.as_str() => stem,
            Some((_, "sysext" | "confext")) => return Err(invalid("it is of the other kind")),
            _ => stem,
        };
        if stem.starts_with('_') {
            return Err(invalid("it has no name before the version"));
        }
        // All of it, for the characters of the version are those of a name.
        let parsed = stem.parse::<ExtensionName>();
        Ok(ArtefactName {
            file: file.to_owned(),
            stem: parsed.map_err(|error| invalid(error.reason))?,
        })
    }

    /// The file name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All of it but the suffixes. Where a version begins in it is only known with the extension's
    /// name, which the release file in the image tells.
    pub fn stem(&self) -> &ExtensionName {
        &self.stem
    }

    /// The version that stands behind the name of the extension.
    pub fn version_of(&self, name: &ExtensionName) -> Option<Version> {
        let rest = self.stem.as_str().strip_prefix(name.as_str())?;
        let version = without_architecture(rest.strip_prefix('_')?);
        (!version.is_empty()).then(|| Version::from(version))
    }
}

impl fmt::Display for ArtefactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)
    }
}

/// `1.2` of `1.2_x86-64` (systemd.v(7)), and nothing of `x86-64`.
fn without_architecture(rest: &str) -> &str {
    let is_one = |text: &str| Architecture::all().any(|known| known.systemd_name() == text);
    match rest.rsplit_once('_') {
        Some((version, last)) if is_one(last) => version,
        None if is_one(rest) => "",
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_conventions_are_taken_apart() {
        let cases = [
            ("k3s.sysext.raw", "k3s", None),
            ("k3s.raw", "k3s", None),
            ("k3s-v1.29.2+k3s1.sysext.raw", "k3s-v1.29.2+k3s1", None),
            ("k3s_1.29.2+k3s1.sysext.raw", "k3s", Some("1.29.2+k3s1")),
            ("k3s_1.2_x86-64.raw", "k3s", Some("1.2")),
            ("k3s_1.2_3.raw", "k3s", Some("1.2_3")),
            ("k3s_arm64.sysext.raw", "k3s", None),
            ("k3s_.raw", "k3s", None),
            ("my_a.raw", "my_a", None),
            ("my_a_1.2_arm64.raw", "my_a", Some("1.2")),
            ("k3s-agent_1.raw", "k3s", None),
        ];
        for (file, name, version) in cases {
            let parsed = ArtefactName::parse(file, ExtensionKind::Sysext).unwrap();
            let found = parsed.version_of(&name.parse().unwrap());
            assert_eq!(found, version.map(Version::from), "{file}");
        }
    }

    #[test]
    fn hostile_and_foreign_names_are_refused() {
        for file in [
            "",
            ".raw",
            "a",
            "a.img",
            "../a.raw",
            "a/b.raw",
            ".#a.raw",
            "a b.raw",
            "a;b.raw",
            "_1.raw",
            "a.confext.raw",
            "a.raw.raw",
            "-\n.raw",
        ] {
            assert!(
                ArtefactName::parse(file, ExtensionKind::Sysext).is_err(),
                "{file:?}"
            );
        }
    }
}
