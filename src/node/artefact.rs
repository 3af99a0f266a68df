//! What the name of a stored image says.

use std::fmt;

use super::version::Version;
use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, ExtensionName};

/// The file name of an artefact: `NAME[_VERSION[_ARCHITECTURE]][.sysext|.confext].raw`.
///
/// Only a name out of which nothing can lead is one: a single path component of the characters
/// that [`ExtensionName`] takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtefactName {
    file: String,
    name: ExtensionName,
    version: Option<Version>,
    architecture: Option<Architecture>,
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
        // All of it, for the characters of the version are those of a name.
        stem.parse::<ExtensionName>()
            .map_err(|error| invalid(error.reason))?;
        let (name, rest) = match stem.split_once('_') {
            Some((name, rest)) => (name, Some(rest)),
            None => (stem, None),
        };
        let name = name
            .parse()
            .map_err(|_| invalid("it has no name before the version"))?;
        let (version, architecture) = rest.map_or((None, None), split_architecture);
        Ok(ArtefactName {
            file: file.to_owned(),
            name,
            version: version.map(Version::from),
            architecture,
        })
    }

    /// The file name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The extension that the file name names. The release file in the image has the last word.
    pub fn name(&self) -> &ExtensionName {
        &self.name
    }

    /// The version in the file name.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The architecture in the file name.
    pub fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }
}

impl fmt::Display for ArtefactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)
    }
}

/// Takes `1.2_x86-64` apart (systemd.v(7)).
fn split_architecture(rest: &str) -> (Option<&str>, Option<Architecture>) {
    let (version, architecture) = match rest.rsplit_once('_') {
        Some((version, last)) => {
            match Architecture::all().find(|known| known.systemd_name() == last) {
                Some(architecture) => (version, Some(architecture)),
                None => (rest, None),
            }
        }
        None => (rest, None),
    };
    (Some(version).filter(|text| !text.is_empty()), architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_conventions_are_taken_apart() {
        let cases = [
            ("k3s.sysext.raw", "k3s", None, None),
            ("k3s.raw", "k3s", None, None),
            (
                "k3s-v1.29.2+k3s1.sysext.raw",
                "k3s-v1.29.2+k3s1",
                None,
                None,
            ),
            (
                "k3s_1.29.2+k3s1.sysext.raw",
                "k3s",
                Some("1.29.2+k3s1"),
                None,
            ),
            (
                "k3s_1.2_x86-64.raw",
                "k3s",
                Some("1.2"),
                Some(Architecture::X86_64),
            ),
            ("k3s_1.2_3.raw", "k3s", Some("1.2_3"), None),
        ];
        for (file, name, version, architecture) in cases {
            let parsed = ArtefactName::parse(file, ExtensionKind::Sysext).unwrap();
            assert_eq!(parsed.name().as_str(), name);
            assert_eq!(parsed.version().map(Version::as_str), version);
            assert_eq!(parsed.architecture(), architecture);
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
