//! Bringing built images to where nodes look for them: sysupdate feeds, registries, catalogs, and the
//! snippets with which machines are provisioned.
//!
//! The room stands above [`image`](crate::image) and [`verification`](crate::verification): what is
//! published was proved first. Every publication can be repeated; what is there already stays as it is.

pub mod attestation;
pub mod base_url;
pub mod catalog;
pub mod edition;
mod folder_lock;
pub mod provisioning;
pub mod registry;
pub mod sysupdate;
