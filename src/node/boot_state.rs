//! Which system of a Kairos node is running.

use super::layout::Layout;
use super::profile::Profile;

/// What was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootState {
    /// The system that is in use.
    Active,
    /// The one before.
    Passive,
    /// The one for repairs, which also resets a node.
    Recovery,
    /// An installation medium.
    Live,
    /// A host without boot states.
    Plain,
}

/// Where Kairos notes what was booted (kairos-sdk, `state/state.go`).
const SENTINELS: [(&str, BootState); 5] = [
    ("/run/cos/active_mode", BootState::Active),
    ("/run/cos/passive_mode", BootState::Passive),
    ("/run/cos/recovery_mode", BootState::Recovery),
    ("/run/cos/autoreset_mode", BootState::Recovery),
    ("/run/cos/live_mode", BootState::Live),
];

impl BootState {
    /// What the node notes that it booted.
    pub fn of(layout: &Layout) -> BootState {
        SENTINELS
            .into_iter()
            .find(|(path, _)| layout.open_path(path).exists())
            .map_or(BootState::Plain, |(_, state)| state)
    }

    /// The profiles whose extensions are merged, those of the boot state first.
    pub fn profiles(self) -> &'static [Profile] {
        match self {
            BootState::Active => &[Profile::Active, Profile::Common],
            BootState::Passive => &[Profile::Passive, Profile::Common],
            BootState::Recovery => &[Profile::Recovery, Profile::Common],
            BootState::Live => &[],
            BootState::Plain => &[Profile::Common],
        }
    }
}
