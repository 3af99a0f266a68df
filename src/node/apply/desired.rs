//! The file that says what a node shall have.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use crate::architecture::Architecture;
use crate::digest::Digest;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::profile::Profile;
use crate::read_at::read_file;

/// A larger file is none that somebody wrote.
const MAX_BYTES: u64 = 1 << 20;

/// What a node shall have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// What the set is called, so that its files are known to be of the same set. Without one, the path
    /// of the file stands for it.
    #[serde(default, rename = "set")]
    name: Option<String>,
    /// Whether extensions go that the set declared once and does no longer: so if it is not said.
    prune: Option<bool>,
    /// System extensions.
    #[serde(default)]
    pub sysext: Vec<Entry>,
    /// Configuration extensions.
    #[serde(default)]
    pub confext: Vec<Entry>,
}

/// An extension that a node shall have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, which its release file must have too.
    #[serde(deserialize_with = "parsed")]
    pub name: ExtensionName,
    /// Where it comes from, as `install` takes it; `{version}` and `{architecture}` stand for
    /// those of the entry and of the node.
    pub source: String,
    /// Its version. Without one, and without a digest, whatever came from the source is the right
    /// one.
    pub version: Option<String>,
    /// The SHA-256 of the image, 64 hexadecimal digits.
    #[serde(default, deserialize_with = "digits")]
    pub sha256: Option<Digest>,
    /// The profiles that link it, and no others.
    #[serde(default = "common")]
    pub profiles: BTreeSet<Profile>,
    /// Whether it may be unsigned.
    #[serde(default)]
    pub allow_unsigned: bool,
}

/// Why a file does not say what a node shall have.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it says has no meaning.
    #[error("{path}: {problem}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and on which line.
        problem: String,
    },
}

impl Desired {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DesiredError`], which names the file and, where there is one, the line.
    pub fn load(path: &Path) -> Result<Desired, DesiredError> {
        let bytes = read_file(path, MAX_BYTES).map_err(|source| DesiredError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let invalid = |problem: String| DesiredError::Invalid {
            path: path.to_path_buf(),
            problem: problem.trim_end().to_owned(),
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| invalid(error.to_string()))?;
        let mut desired = Desired::parse(text).map_err(invalid)?;
        if desired.name.is_none() {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
            desired.name = Some(path.display().to_string());
        }
        Ok(desired)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Desired, String> {
        let desired: Desired = toml::from_str(text).map_err(|error| error.to_string())?;
        if desired.name.as_deref() == Some("") {
            return Err("`set` names no set".to_owned());
        }
        // What was cut off or emptied by accident must not empty the node.
        if desired.prune.is_none() && desired.sysext.is_empty() && desired.confext.is_empty() {
            return Err("it declares nothing; say `prune = true` if everything that it declared before is to be removed".to_owned());
        }
        for kind in ExtensionKind::ALL {
            let mut seen = BTreeSet::new();
            for entry in desired.of(kind) {
                if !seen.insert(&entry.name) {
                    return Err(format!("the {kind} {} is declared twice", entry.name));
                }
                if entry.version.is_none() && entry.source.contains("{version}") {
                    let name = &entry.name;
                    return Err(format!(
                        "the source of {name} has {{version}}, but {name} has no version"
                    ));
                }
            }
        }
        Ok(desired)
    }

    /// Whether what it declared once, and does no longer, is to be removed.
    pub fn prunes(&self) -> bool {
        self.prune.unwrap_or(true)
    }

    /// What stands for the set in records.
    pub fn set(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The extensions of a kind.
    pub fn of(&self, kind: ExtensionKind) -> &[Entry] {
        match kind {
            ExtensionKind::Sysext => &self.sysext,
            ExtensionKind::Confext => &self.confext,
        }
    }
}

impl Entry {
    /// Where it comes from, for a node of an architecture.
    pub fn source(&self, architecture: Architecture) -> String {
        self.source
            .replace("{version}", self.version.as_deref().unwrap_or_default())
            .replace("{architecture}", architecture.systemd_name())
    }
}

fn common() -> BTreeSet<Profile> {
    BTreeSet::from([Profile::Common])
}

fn parsed<'de, D: Deserializer<'de>>(from: D) -> Result<ExtensionName, D::Error> {
    String::deserialize(from)?
        .parse()
        .map_err(de::Error::custom)
}

/// The digits as other tools print them, without the algorithm's name.
fn digits<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Digest>, D::Error> {
    let text = String::deserialize(from)?;
    let digest = format!("sha256:{}", text.trim_start_matches("sha256:"));
    digest.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_needs_only_a_name_and_a_source() {
        let desired = Desired::parse("[[sysext]]\nname = \"k3s\"\nsource = \"/k3s.raw\"").unwrap();
        assert!(desired.prunes());
        assert_eq!(desired.sysext[0].profiles, common());
        assert_eq!(desired.of(ExtensionKind::Confext), []);
    }

    #[test]
    fn the_source_has_version_and_architecture_filled_in() {
        let text = "[[sysext]]\nname = \"k3s\"\nversion = \"1.2\"\n\
                    source = \"https://x/k3s_{version}_{architecture}.raw\"";
        let desired = Desired::parse(text).unwrap();
        assert_eq!(
            desired.sysext[0].source(Architecture::X86_64),
            "https://x/k3s_1.2_x86-64.raw"
        );
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_reason() {
        let entry = "[[sysext]]\nname = \"k3s\"\nsource = \"/k3s.raw\"\n";
        let cases = [
            (entry.replace("k3s\"", "../x\""), "extension name"),
            (format!("{entry}colour = 1"), "colour"),
            (format!("{entry}profiles = [\"actve\"]"), "actve"),
            (format!("{entry}sha256 = \"12\""), "SHA-256"),
            (format!("{entry}{entry}"), "declared twice"),
            (
                entry.replace("/k3s.raw", "/{version}.raw"),
                "has no version",
            ),
        ];
        for (text, named) in cases {
            let problem = Desired::parse(&text).unwrap_err();
            assert!(problem.contains(named), "{text}: {problem}");
        }
    }
}
