//! Extensions on a node: what is stored, enabled and merged, and every way to change that.
//!
//! The room stands above all others: it proves images with [`verification`](crate::verification)
//! and brings them in with [`source`](crate::source). State on disk is that of kairos-agent, so that
//! either program may be used on a node.

pub mod activation;
pub mod apply;
pub mod artefact;
pub mod boot;
pub mod boot_state;
pub mod configuration;
pub mod enable;
pub mod explain;
pub mod fetch;
pub mod firmware;
pub mod gc;
pub mod health;
pub mod host;
pub mod install;
pub mod judgement;
pub mod kernel;
pub mod layout;
mod placing;
pub mod policy;
pub mod profile;
mod released_name;
pub mod remove;
pub mod rollback;
pub mod select;
pub mod status;
pub mod store;
pub mod transaction;
pub mod upgrade;
pub mod verify;
pub use crate::version;

use boot_state::BootState;
use configuration::Configuration;
use host::SystemdVersion;
use layout::Layout;

/// One node: this host, or a tree of files.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where things lie.
    pub layout: Layout,
    /// How it is to be treated.
    pub configuration: Configuration,
    /// The systemd that merges its extensions; `None` where there is none.
    pub systemd: Option<SystemdVersion>,
    /// What was booted.
    pub boot_state: BootState,
}
