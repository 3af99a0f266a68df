//! Extensions on a node: what is stored, enabled and merged, and every way to change that.
//!
//! The room stands above all others: it proves images with [`verification`](crate::verification)
//! and brings them in with [`source`](crate::source). State on disk is that of kairos-agent, so that
//! either program may be used on a node.

pub mod artefact;
pub mod layout;
pub mod profile;
pub mod store;
pub mod version;
