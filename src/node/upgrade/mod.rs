//! Changing to another version of an extension, on trial.
//!
//! The profiles get their new links in one transaction that also notes what was linked before. Then
//! systemd merges the new version, and the node has to be found healthy; else, and if the program
//! dies before, everything goes back ([`undo_unfinished`]). Until then the lock of the store is held.

mod trial;

use std::collections::BTreeMap;

pub(super) use trial::{Switch, linked};
pub use trial::{Undone, undo_unfinished};

use super::Node;
use super::activation::Activated;
use super::health::Health;
use super::judgement::JudgementError;
use super::profile::Profile;
use super::store::{Artefact, Store, StoreError, View};
use super::transaction::booted;
use super::version::Version;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::printable::printable;

/// How many steps can be taken back.
const MAX_HISTORY: usize = 10;

/// What to change to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The newest version in the store.
    Newest,
    /// This version in the store.
    Version(Version),
    /// This file in the store.
    File(String),
}

/// A change to another version.
#[derive(Debug)]
pub struct Request<'a> {
    /// Of which extension.
    pub name: &'a ExtensionName,
    /// To what.
    pub goal: Goal,
    /// In which profiles; `None` means those of the running system.
    pub profile: Option<Profile>,
    /// Whether it may be an older one than before.
    pub allow_downgrade: bool,
    /// What must hold with the new version. Only asked where it is merged.
    pub health: Health,
    /// Whether only to say what would be done.
    pub dry_run: bool,
}

/// What became of an upgrade or a rollback.
#[derive(Debug)]
pub struct Upgraded {
    /// The extension.
    pub name: ExtensionName,
    /// What each profile linked before, and what it links now. Nothing if that was so before.
    pub changed: BTreeMap<Profile, (String, String)>,
    /// What systemd did; `None` where the extension is not merged now, and in a dry run.
    pub activated: Option<Activated>,
    /// What a program that died had left, and was taken back first.
    pub undone: Option<Undone>,
}

/// Why there is no other version now.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to change.
    #[error(
        "{name} is not enabled for {profiles}, so that nothing can be upgraded; enable it first"
    )]
    NotEnabled {
        /// The extension.
        name: ExtensionName,
        /// Where it was looked for.
        profiles: String,
    },
    /// It has not been installed.
    #[error(
        "the store has no {goal} of {name}; install it first, or name where it comes from instead"
    )]
    NotStored {
        /// The extension.
        name: ExtensionName,
        /// What was asked for.
        goal: String,
    },
    /// It would be a step back.
    #[error(
        "{to} is older than {from}, which is enabled; go back with `rollback`, or insist with --allow-downgrade"
    )]
    Downgrade {
        /// What is enabled.
        from: String,
        /// What was asked for.
        to: String,
    },
    /// There is no step to take back.
    #[error("{0} was not upgraded here, so that there is no version to go back to")]
    NoHistory(ExtensionName),
    /// The version to go back to is no longer there.
    #[error("{file}, which was enabled before, is no longer in the store; install it again")]
    Gone {
        /// The file.
        file: String,
    },
    /// The version to change to is not to be merged.
    #[error(transparent)]
    Judgement(#[from] Box<JudgementError>),
    /// The new version was not found good.
    #[error("{file} was not kept, because {why}; {back}")]
    NotKept {
        /// The new version.
        file: String,
        /// What was wrong, in one sentence.
        why: String,
        /// How far everything is as before.
        back: Box<Undone>,
    },
    /// The new version was not found good, and the store could not be brought back.
    #[error(
        "{file} was not found good, because {why}; the next command goes back to the version before"
    )]
    NotUndone {
        /// The new version.
        file: String,
        /// What was wrong, in one sentence.
        why: String,
        /// Why it could not be undone now.
        source: StoreError,
    },
}

/// Changes to another version, if there is one that is newer, and goes back if it is not good.
///
/// # Errors
/// [`UpgradeError`]. What was enabled and merged before is so again, unless the error says otherwise.
pub fn upgrade(
    node: &Node,
    kind: ExtensionKind,
    request: &Request<'_>,
    notify: &dyn Fn(&str),
) -> Result<Upgraded, UpgradeError> {
    let store = Store::new(node.layout.clone(), kind);
    if request.dry_run {
        let to = plan(node, &store.view()?, request)?;
        return Switch::new(node, kind, request.name, to).preview(&store.view()?);
    }
    store.may_change()?;
    let mut locked = store.lock()?;
    let undone = undo_unfinished(node, &mut locked, notify)?;
    let to = plan(node, &locked.view()?, request)?;
    let switch = Switch::new(node, kind, request.name, to);
    let remember = |history: &mut Vec<_>, step| {
        history.push(step);
        let excess = history.len().saturating_sub(MAX_HISTORY);
        history.drain(..excess);
    };
    let upgraded = switch.make(&mut locked, &request.health, remember, notify)?;
    Ok(Upgraded { undone, ..upgraded })
}

/// What each profile is to link.
fn plan(
    node: &Node,
    view: &View,
    request: &Request<'_>,
) -> Result<BTreeMap<Profile, String>, UpgradeError> {
    let profiles: Vec<Profile> = match request.profile {
        Some(profile) => vec![profile],
        None => booted(node).to_vec(),
    };
    let linked = linked(view, request.name, &profiles);
    if linked.is_empty() {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.as_str()).collect();
        return Err(UpgradeError::NotEnabled {
            name: request.name.clone(),
            profiles: names.join(" and "),
        });
    }
    let goal = find(view, request)?;
    let mut to = BTreeMap::new();
    for (profile, from) in linked {
        if is_older(goal, from) {
            if request.goal == Goal::Newest {
                continue;
            }
            if !request.allow_downgrade {
                return Err(UpgradeError::Downgrade {
                    from: from.file.to_string(),
                    to: goal.file.to_string(),
                });
            }
        }
        to.insert(profile, goal.file.to_string());
    }
    Ok(to)
}

/// Whether both have a version, and that of `a` is the older one.
fn is_older(a: &Artefact, b: &Artefact) -> bool {
    matches!((a.version(), b.version()), (Some(a), Some(b)) if a < b)
}

fn find<'v>(view: &'v View, request: &Request<'_>) -> Result<&'v Artefact, UpgradeError> {
    let versions = view.versions_of(request.name);
    let found = match &request.goal {
        Goal::Newest => versions.first(),
        Goal::Version(wanted) => versions
            .iter()
            .find(|artefact| artefact.version() == Some(wanted)),
        Goal::File(file) => versions
            .iter()
            .find(|artefact| artefact.file.file() == file),
    };
    let goal = || match &request.goal {
        Goal::Newest => "image".to_owned(),
        Goal::Version(version) => format!("version {}", printable(version.as_str().as_bytes())),
        Goal::File(file) => format!("file {}", printable(file.as_bytes())),
    };
    found.copied().ok_or_else(|| UpgradeError::NotStored {
        name: request.name.clone(),
        goal: goal(),
    })
}
