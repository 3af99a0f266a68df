//! What this program notes of the artefacts in a store: where they came from, that they were
//! proved, and what was linked before.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::as_text;
use crate::digest::Digest;
use crate::extension::ExtensionName;
use crate::node::profile::Profile;
use crate::node::version::Version;
use crate::verity::RootHash;

/// Everything that is noted of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Records {
    /// How many changes there were. Whoever reads without the lock sees by it that something changed.
    #[serde(default)]
    pub changes: u64,
    /// By file name.
    #[serde(default)]
    pub artefacts: BTreeMap<String, Record>,
    /// What was linked before each upgrade, the last one last, by the extension's name.
    #[serde(default)]
    pub history: BTreeMap<String, Vec<Step>>,
    /// An upgrade that has not been found good yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Versions that were not found good, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rejected: BTreeMap<String, Rejection>,
}

/// What is noted of one artefact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The extension that its release file names.
    #[serde(with = "as_text")]
    pub name: ExtensionName,
    /// Its version, by file name, command line or release file.
    #[serde(default, with = "as_text::optional")]
    pub version: Option<Version>,
    /// Which file this is about.
    pub file: FileIdentity,
    /// Of the whole file.
    #[serde(with = "as_text")]
    pub digest: Digest,
    /// Of its data, where there is a hash tree.
    #[serde(default, with = "as_text::optional")]
    pub root_hash: Option<RootHash>,
    /// Where it came from, without credentials and query.
    pub source: String,
    /// When it was installed.
    pub installed: Moment,
    /// What vouches for it.
    pub proof: Proof,
    /// Units to restart when the extension has changed (`EXTENSION_RESTART_UNITS=`).
    #[serde(default)]
    pub restart_units: Vec<String>,
    /// Units to reload, or restart if they cannot (`EXTENSION_RELOAD_OR_RESTART_UNITS=`).
    #[serde(default)]
    pub reload_or_restart_units: Vec<String>,
    /// The declared set that brought it, so that leaving that set removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_by: Option<String>,
    /// Why the last attempt to prove it failed, if it did. The proof is the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
}

/// An attempt to prove an artefact that found something wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// When that was found out.
    pub found: Moment,
    /// What is wrong, in one sentence.
    pub reason: String,
}

/// What tells a file from another one that took its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Bytes.
    pub size: u64,
    /// Its inode.
    pub inode: u64,
    /// Nanoseconds since 1970 at which its content was last changed.
    pub modified: i64,
}

/// What vouches for an artefact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Proof {
    /// Every block is what the signed root hash stands for.
    #[serde(rename_all = "camelCase")]
    Signed {
        /// The subject of the trusted certificate.
        signer: String,
        /// The SHA-256 of that certificate.
        #[serde(with = "as_text")]
        fingerprint: Digest,
        /// Where that certificate lies.
        trusted_by: String,
        /// When that was found out.
        verified: Moment,
    },
    /// Every block is what the root hash stands for, if there is one, but nobody vouches for that.
    Unsigned {
        /// When that was found out.
        verified: Moment,
    },
    /// Nobody looked (`--insecure-skip-verify`).
    Skipped,
}

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

/// What was linked before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it was changed.
    pub until: Moment,
    /// The artefact of the extension that each profile linked.
    pub linked: BTreeMap<Profile, String>,
    /// The units that ran, of those that the versions before and after name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub running: Vec<String>,
}

/// That an upgrade to a version was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Which file had the name.
    pub file: FileIdentity,
    /// When.
    pub at: Moment,
    /// What was wrong, in one sentence.
    pub why: String,
}

/// An upgrade whose outcome is not known yet. Whoever finds one without the upgrade running goes
/// back to what was linked before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The extension.
    #[serde(with = "as_text")]
    pub name: ExtensionName,
    /// What was linked before.
    pub before: Step,
}

impl Record {
    /// Whether somebody let the artefact in although nobody signed it.
    pub fn allows_unsigned(&self) -> bool {
        !matches!(self.proof, Proof::Signed { .. })
    }
}

impl FileIdentity {
    /// The identity of the file that has this metadata.
    pub fn of(metadata: &Metadata) -> FileIdentity {
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        FileIdentity {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: seconds.saturating_add(metadata.mtime_nsec()),
        }
    }
}

impl Moment {
    /// Now, by the clock of the node.
    pub fn now() -> Moment {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Moment(since.map_or(0, |elapsed| elapsed.as_secs()))
    }
}
