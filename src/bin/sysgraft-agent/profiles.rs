//! The flags that name a profile.

use clap::Args;
use clap::error::ErrorKind;
use sysgraft::node::Node;
use sysgraft::node::boot_state::BootState;
use sysgraft::node::profile::Profile;

use crate::usage;

/// At most one of them.
#[derive(Args, Clone, Copy)]
pub struct ProfileArguments {
    /// The system that is in use
    #[arg(long)]
    active: bool,
    /// The system to fall back to
    #[arg(long)]
    passive: bool,
    /// The system for repairs
    #[arg(long)]
    recovery: bool,
    /// Every system; what is meant on hosts that know no boot states
    #[arg(long)]
    common: bool,
}

impl ProfileArguments {
    /// The profile, if one is named.
    pub fn optional(self) -> Option<Profile> {
        let flags = [
            (self.active, Profile::Active),
            (self.passive, Profile::Passive),
            (self.recovery, Profile::Recovery),
            (self.common, Profile::Common),
        ];
        let mut named = flags.into_iter().filter(|(is_set, _)| *is_set);
        let profile = named.next().map(|(_, profile)| profile);
        if named.next().is_some() {
            usage::refuse(
                ErrorKind::ArgumentConflict,
                "only one of --active, --passive, --recovery or --common can be set",
            );
        }
        profile
    }

    /// The profile, which has to be named on nodes that know more than one.
    pub fn required(self, node: &Node) -> Profile {
        match self.optional() {
            Some(profile) => profile,
            None if is_kairos(node) => usage::refuse(
                ErrorKind::MissingRequiredArgument,
                "either --active, --passive, --recovery or --common must be set",
            ),
            None => Profile::Common,
        }
    }
}

/// Whether the node knows several boot states.
fn is_kairos(node: &Node) -> bool {
    let release = node.layout.open_path("/etc/kairos-release");
    node.boot_state != BootState::Plain || release.exists()
}
