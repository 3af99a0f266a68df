//! Stands in until the real room comes.
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Node;
use crate::extension::{ExtensionKind, ExtensionName};

/// x
#[derive(Clone, Debug)]
pub struct LiveLink {
    /// x
    pub name: ExtensionName,
    /// x
    pub target: PathBuf,
}
/// x
#[derive(Clone, Debug)]
pub struct Activated;
/// x
#[derive(Debug, thiserror::Error)]
#[error("not there yet")]
pub struct ActivationError;
/// x
pub fn change(
    _: &Node,
    _: ExtensionKind,
    _: &[LiveLink],
    _: &[ExtensionName],
    _: &dyn Fn(&str),
) -> Result<Activated, ActivationError> {
    Err(ActivationError)
}
/// x
pub fn merged(_: &Node, _: ExtensionKind) -> BTreeSet<String> {
    BTreeSet::new()
}
