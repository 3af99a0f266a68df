//! `/etc/sysgraft/agent.toml`: how a node is to be treated.

use std::path::PathBuf;

use super::layout::DEFAULT_STATE_DIR;

/// Where the configuration of a node lies.
pub const DEFAULT_PATH: &str = "/etc/sysgraft/agent.toml";

/// How a node is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Where artefacts and profiles lie, of the node.
    pub state_dir: PathBuf,
    /// Whether every extension must be signed.
    pub signatures: Signatures,
    /// How many versions of an extension are kept beside those that are enabled.
    pub keep: usize,
}

/// Which extensions may be installed and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Signed ones must be by somebody trusted; unsigned ones must be allowed one by one.
    WhenPresent,
    /// Only signed ones.
    Required,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            state_dir: DEFAULT_STATE_DIR.into(),
            signatures: Signatures::WhenPresent,
            keep: 1,
        }
    }
}
