//! Changing to another version of an extension, on trial.
//!
//! The profiles get their new links in one transaction that also notes what was linked before. Then
//! systemd merges the new version, and the node has to be found healthy; else, and if the program
//! dies before, everything goes back ([`undo_unfinished`]). Until then the lock of the store is held.

mod offer;
mod trial;

use std::collections::BTreeMap;

pub use offer::{Offer, Sources, offer};
pub(super) use trial::{Aim, Switch, linked};
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
    /// The newest version in the store, except for those that were not found good before.
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
    /// What must hold with the new version. Only asked if systemd merges it now.
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
    /// Newer versions in the store that were not taken.
    pub passed_over: Vec<PassedOver>,
}

/// A version that is newer, but was not found good before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its file.
    pub file: String,
    /// What was wrong, in one sentence.
    pub why: String,
}

/// Why there is no other version now.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to change.
    #[error("{name} is not enabled for {profiles}{}", advice(name, others))]
    NotEnabled {
        /// The extension.
        name: ExtensionName,
        /// Where it was looked for.
        profiles: String,
        /// Extensions there whose names differ from it in a version.
        others: Vec<ExtensionName>,
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
        let view = store.view()?;
        let (to, passed_over) = plan(node, &view, request)?;
        let preview = Switch::new(node, kind, request.name, to).preview(&view)?;
        return Ok(Upgraded {
            passed_over,
            ..preview
        });
    }
    store.may_change()?;
    let mut locked = store.lock()?;
    let undone = undo_unfinished(node, &mut locked, notify)?;
    let (to, passed_over) = plan(node, &locked.view()?, request)?;
    let switch = Switch::new(node, kind, request.name, to);
    let remember = |history: &mut Vec<_>, step| {
        history.push(step);
        let excess = history.len().saturating_sub(MAX_HISTORY);
        history.drain(..excess);
    };
    let aim = Aim::Forward(&request.health);
    let upgraded = switch.make(&mut locked, aim, remember, notify)?;
    Ok(Upgraded {
        undone,
        passed_over,
        ..upgraded
    })
}

/// The profiles that are meant: those of the running system, unless one is named.
fn profiles(node: &Node, profile: Option<Profile>) -> Vec<Profile> {
    match profile {
        Some(profile) => vec![profile],
        None => booted(node).to_vec(),
    }
}

/// What each profile is to link, and newer versions that were not found good before.
fn plan(
    node: &Node,
    view: &View,
    request: &Request<'_>,
) -> Result<(BTreeMap<Profile, String>, Vec<PassedOver>), UpgradeError> {
    let profiles = profiles(node, request.profile);
    let linked = linked(view, request.name, &profiles);
    if linked.is_empty() {
        return Err(not_enabled(view, request.name, &profiles));
    }
    let (goal, passed_over) = find(view, request, &linked)?;
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
    Ok((to, passed_over))
}

fn not_enabled(view: &View, name: &ExtensionName, profiles: &[Profile]) -> UpgradeError {
    let enabled = profiles.iter().flat_map(|&profile| view.linked(profile));
    let mut others: Vec<ExtensionName> = enabled
        .map(|artefact| artefact.name().clone())
        .filter(|other| stem(other) == stem(name))
        .collect();
    others.sort();
    others.dedup();
    let profiles: Vec<&str> = profiles.iter().map(|profile| profile.as_str()).collect();
    UpgradeError::NotEnabled {
        name: name.clone(),
        profiles: profiles.join(" and "),
        others,
    }
}

/// A name without a version that is a part of it, as in `k3s-v1.29.2+k3s1`.
fn stem(name: &ExtensionName) -> &str {
    let name = name.as_str();
    let begins_version = |rest: &str| {
        let rest = rest.strip_prefix('v').unwrap_or(rest);
        rest.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut dashes = name.match_indices('-').map(|(dash, _)| dash);
    let end = dashes.find(|dash| name.get(dash + 1..).is_some_and(begins_version));
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

fn advice(name: &ExtensionName, others: &[ExtensionName]) -> String {
    let others: Vec<&str> = others.iter().map(ExtensionName::as_str).collect();
    if others.is_empty() {
        return ", so that nothing can be upgraded; enable it first".to_owned();
    }
    let others = others.join(" and ");
    format!(
        ", but {others} is, which is another extension, for there a version is a part of the name: `enable` {name} and `disable` {others}"
    )
}

/// Whether both have a version, and that of `a` is the older one.
fn is_older(a: &Artefact, b: &Artefact) -> bool {
    matches!((a.version(), b.version()), (Some(a), Some(b)) if a < b)
}

/// The artefact to change to, and newer ones that were not found good before.
fn find<'v>(
    view: &'v View,
    request: &Request<'_>,
    linked: &BTreeMap<Profile, &Artefact>,
) -> Result<(&'v Artefact, Vec<PassedOver>), UpgradeError> {
    let versions = view.versions_of(request.name);
    let mut passed_over = Vec::new();
    let is_linked = |artefact: &Artefact| linked.values().any(|it| it.file == artefact.file);
    let found = match &request.goal {
        Goal::Newest => versions.iter().find(|artefact| {
            let rejection = view.rejection(artefact).filter(|_| !is_linked(artefact));
            passed_over.extend(rejection.map(|rejection| PassedOver {
                file: artefact.file.to_string(),
                why: rejection.why.clone(),
            }));
            rejection.is_none()
        }),
        Goal::Version(wanted) => versions.iter().find(|artefact| {
            artefact
                .version()
                .is_some_and(|known| known.is_same(wanted))
        }),
        Goal::File(file) => versions
            .iter()
            .find(|artefact| artefact.file.file() == file),
    };
    let goal = || match &request.goal {
        Goal::Newest => "image".to_owned(),
        Goal::Version(version) => format!("version {}", printable(version.as_str().as_bytes())),
        Goal::File(file) => format!("file {}", printable(file.as_bytes())),
    };
    match found {
        Some(found) => Ok((found, passed_over)),
        None => Err(UpgradeError::NotStored {
            name: request.name.clone(),
            goal: goal(),
        }),
    }
}
