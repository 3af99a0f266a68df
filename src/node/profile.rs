//! The boot states that extensions are enabled for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of enabled extensions: those of one boot state of Kairos, or those of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The system that is in use.
    Active,
    /// The system before the last upgrade, to fall back to.
    Passive,
    /// The system that repairs the others.
    Recovery,
    /// Every one of them, and the only profile of hosts that know no boot states.
    Common,
}

/// A text that names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile {0:?}; there are active, passive, recovery and common")]
pub struct UnknownProfile(pub String);

impl Profile {
    /// All of them, in the order in which they are told.
    pub const ALL: [Profile; 4] = [
        Profile::Active,
        Profile::Passive,
        Profile::Recovery,
        Profile::Common,
    ];

    /// The name of its folder in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Active => "active",
            Profile::Passive => "passive",
            Profile::Recovery => "recovery",
            Profile::Common => "common",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.as_str() == text)
            .ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}
