//! `/etc/sysgraft/agent.toml`: how a node is to be treated.
//!
//! ```toml
//! state_dir = "/var/lib/kairos"       # where artefacts and profiles lie
//! signatures = "when-present"         # or "required": nothing unsigned is installed or merged
//! trusted_boot = "auto"               # or "yes", "no"; "auto" looks at what was booted
//!
//! [trust]
//! folders = ["/etc/verity.d", "/run/verity.d", "/usr/local/lib/verity.d", "/usr/lib/verity.d"]
//! certificates = []                   # further files: PEM, DER, .esl
//! firmware = ["db"]                   # under Trusted Boot; "KEK" and "PK" on request
//! firmware_owners = ["platform"]      # the owner of the PK entry; or GUIDs; or "any"
//!
//! [fetch]
//! catalogs = []                       # URLs of releases.json
//! ca_file = "/etc/ssl/private-ca.pem" # trusted for https beside the system's
//!
//! [upgrade]
//! health_timeout = 60                 # seconds that a health check may take
//! keep = 1                            # versions kept beside those that are enabled
//!
//! [boot]
//! tries = 2                           # boots that an extension set may spoil before it is left out
//! ```
//!
//! Every key may be missing, and so may the file: the values above are the defaults, except that
//! there is no `ca_file`.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::layout::DEFAULT_STATE_DIR;
use crate::efi::Guid;
use crate::read_at::read_file;
use crate::secureboot::Variable;

/// Where the configuration of a node lies.
pub const DEFAULT_PATH: &str = "/etc/sysgraft/agent.toml";
/// What a health check may take: a day is more than anybody waits for.
pub const TIMEOUT_SECONDS: RangeInclusive<u64> = 1..=86_400;
/// A larger file is none that somebody wrote.
const MAX_BYTES: u64 = 1 << 20;

/// How a node is to be treated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// Where artefacts and profiles lie, of the node.
    #[serde(deserialize_with = "absolute")]
    pub state_dir: PathBuf,
    /// Whether every extension must be signed.
    pub signatures: Signatures,
    /// Whether the node is under Trusted Boot.
    pub trusted_boot: TrustedBoot,
    /// Whose signatures count.
    pub trust: Trust,
    /// Where extensions come from.
    pub fetch: Fetch,
    /// How versions follow each other.
    pub upgrade: Upgrade,
    /// What happens at boot.
    pub boot: Boot,
}

/// Which extensions may be installed and merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signatures {
    /// Signed ones must be by somebody trusted; unsigned ones must be allowed one by one.
    #[default]
    WhenPresent,
    /// Only signed ones.
    Required,
}

/// Whether a node is under Trusted Boot, where firmware, kernel and extensions are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrustedBoot {
    /// As the node says of itself.
    #[default]
    Auto,
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// Folders of the node with `*.crt`, the first of which has precedence.
    pub folders: Vec<PathBuf>,
    /// Further files of the node.
    pub certificates: Vec<PathBuf>,
    /// Under Trusted Boot, variables of the firmware.
    #[serde(deserialize_with = "variables")]
    pub firmware: Vec<Variable>,
    /// Whose entries in them count.
    pub firmware_owners: Vec<Owner>,
}

/// Who put an entry into a variable of the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Whoever owns the platform key.
    Platform,
    /// Anybody, Microsoft included.
    Any,
    /// Somebody with this GUID.
    Guid(Guid),
}

/// Where extensions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    /// URLs of catalogs (`releases.json`).
    pub catalogs: Vec<String>,
    /// Certificates that servers may have beside those that the system trusts; a file of the node.
    pub ca_file: Option<PathBuf>,
}

/// How versions follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upgrade {
    /// How long a health check may take; in seconds in the file.
    #[serde(deserialize_with = "seconds")]
    pub health_timeout: Duration,
    /// How many versions of an extension are kept beside those that are enabled.
    pub keep: usize,
}

/// What happens at boot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// How many boots an extension set may spoil before it is left out; 0 for as many as it likes.
    pub tries: u32,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something that means nothing.
    #[error("{path}, line {line}{}: {problem}", key.as_ref().map_or(String::new(), |key| format!(", {key}")))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key in that line.
        key: Option<String>,
        /// What is wrong.
        problem: String,
    },
}

impl Configuration {
    /// Reads the file that a user named, or else that of the node, without which everything is as by
    /// default.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn find(named: Option<&Path>, of_node: &Path) -> Result<Self, ConfigurationError> {
        match Configuration::load(named.unwrap_or(of_node)) {
            Err(ConfigurationError::Read { source, .. })
                if named.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(Configuration::default())
            }
            outcome => outcome,
        }
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn load(path: &Path) -> Result<Configuration, ConfigurationError> {
        let read = |source| ConfigurationError::Read {
            path: path.to_path_buf(),
            source,
        };
        let bytes = read_file(path, MAX_BYTES).map_err(read)?;
        let text = String::from_utf8(bytes).map_err(|_| read(io::ErrorKind::InvalidData.into()))?;
        Self::parse(&text, path)
    }

    /// Reads the content of the file `path`.
    ///
    /// # Errors
    /// [`ConfigurationError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Configuration, ConfigurationError> {
        toml::from_str(text).map_err(|error| {
            let (line, key) = error.span().map_or((1, None), |span| place(text, &span));
            ConfigurationError::Invalid {
                path: path.to_path_buf(),
                line,
                key,
                problem: error.message().replace('\n', "; "),
            }
        })
    }
}

/// The line in which a part of `text` begins, and the key in it.
fn place(text: &str, span: &Range<usize>) -> (usize, Option<String>) {
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim().to_owned());
    (number + 1, key.filter(|key| !key.is_empty()))
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(D::Error::custom("it must begin with a slash"))
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if TIMEOUT_SECONDS.contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        let (least, most) = (TIMEOUT_SECONDS.start(), TIMEOUT_SECONDS.end());
        Err(D::Error::custom(format!(
            "{seconds} is not between {least} and {most} seconds"
        )))
    }
}

fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Variable>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let parse = |name: String| {
        let variable = Variable::ALL.into_iter().find(|known| known.name() == name);
        variable.ok_or_else(|| {
            D::Error::custom(format!(
                "unknown variable {name:?}; there are PK, KEK and db"
            ))
        })
    };
    names.into_iter().map(parse).collect()
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Owner, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "platform" => Ok(Owner::Platform),
            "any" => Ok(Owner::Any),
            guid => guid
                .parse()
                .map(Owner::Guid)
                .map_err(|error| D::Error::custom(format!("{error}, or \"platform\", or \"any\""))),
        }
    }
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            state_dir: DEFAULT_STATE_DIR.into(),
            signatures: Signatures::default(),
            trusted_boot: TrustedBoot::default(),
            trust: Trust::default(),
            fetch: Fetch::default(),
            upgrade: Upgrade::default(),
            boot: Boot::default(),
        }
    }
}

impl Default for Trust {
    /// Where systemd looks (`CONF_PATHS("verity.d")`), and what the firmware's owner put into db.
    fn default() -> Trust {
        Trust {
            folders: ["/etc", "/run", "/usr/local/lib", "/usr/lib"]
                .map(|folder| Path::new(folder).join("verity.d"))
                .into(),
            certificates: Vec::new(),
            firmware: vec![Variable::Db],
            firmware_owners: vec![Owner::Platform],
        }
    }
}

impl Default for Upgrade {
    fn default() -> Upgrade {
        Upgrade {
            health_timeout: Duration::from_secs(60),
            keep: 1,
        }
    }
}

impl Default for Boot {
    fn default() -> Boot {
        Boot { tries: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_or_missing_file_is_the_default() {
        assert_eq!(parse(""), Ok(Configuration::default()));
        let missing = Path::new("/nonexistent/agent.toml");
        let found = Configuration::find(None, missing);
        assert_eq!(found.unwrap(), Configuration::default());
        // Nobody names a file in vain.
        let error = Configuration::find(Some(missing), missing).unwrap_err();
        assert!(matches!(error, ConfigurationError::Read { .. }), "{error}");
    }

    /// The example at the head of this file is what users copy.
    #[test]
    fn the_documented_values_are_the_defaults() {
        let documentation = include_str!("configuration.rs").lines();
        let example: Vec<&str> = documentation
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!"))
            .collect();
        let mut documented = parse(&example.join("\n")).unwrap();
        assert!(documented.fetch.ca_file.take().is_some());
        assert_eq!(documented, Configuration::default());
    }

    #[test]
    fn every_key_is_read() {
        let read = parse(
            "state_dir = \"/s\"\nsignatures = \"required\"\ntrusted_boot = \"yes\"\n\
             [trust]\nfolders = [\"/f\"]\ncertificates = [\"/c.pem\"]\nfirmware = [\"KEK\", \"PK\"]\n\
             firmware_owners = [\"any\", \"88a69775-5ad7-45d9-9f34-cec43e1f1989\"]\n\
             [fetch]\ncatalogs = [\"https://x/releases.json\"]\nca_file = \"/ca.pem\"\n\
             [upgrade]\nhealth_timeout = 7\nkeep = 3\n[boot]\ntries = 0\n",
        );
        let guid = Guid::from_u128(0x88a69775_5ad7_45d9_9f34_cec43e1f1989);
        let expected = Configuration {
            state_dir: "/s".into(),
            signatures: Signatures::Required,
            trusted_boot: TrustedBoot::Yes,
            trust: Trust {
                folders: vec!["/f".into()],
                certificates: vec!["/c.pem".into()],
                firmware: vec![Variable::Kek, Variable::Pk],
                firmware_owners: vec![Owner::Any, Owner::Guid(guid)],
            },
            fetch: Fetch {
                catalogs: vec!["https://x/releases.json".to_owned()],
                ca_file: Some("/ca.pem".into()),
            },
            upgrade: Upgrade {
                health_timeout: Duration::from_secs(7),
                keep: 3,
            },
            boot: Boot { tries: 0 },
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn errors_name_line_and_key() {
        for (text, place, problem) in [
            (
                "\nsignature = \"x\"",
                "agent.toml, line 2, signature: ",
                "unknown field",
            ),
            (
                "signatures = \"always\"",
                "line 1, signatures: ",
                "unknown variant",
            ),
            (
                "[upgrade]\n\nkeep = \"two\"",
                "line 3, keep: ",
                "invalid type",
            ),
            ("[upgrade]\nkeep = -1", "line 2, keep: ", "invalid value"),
            (
                "[trust]\nfirmware = [\"dbx\"]",
                "line 2, firmware: ",
                "unknown variable",
            ),
            (
                "[trust]\nfirmware_owners = [\"me\"]",
                "line 2, firmware_owners: ",
                "no GUID",
            ),
            (
                "[upgrade]\nhealth_timeout = 0",
                "line 2, health_timeout: ",
                "not between 1 and 86400",
            ),
            (
                "[upgrade]\nhealth_timeout = 9223372036854775807",
                "line 2, health_timeout: ",
                "not between 1 and 86400",
            ),
            ("a = 1\n[boots]\n", "line 1, a: ", "unknown field"),
            ("state_dir = ", "line 1", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(place) && error.contains(problem),
                "{text:?}: {error}"
            );
        }
    }
}
