//! One step back in the history of an extension.

use std::collections::BTreeMap;

use super::Node;
use super::profile::Profile;
use super::store::{Step, Store, View};
use super::upgrade::{Aim, Switch, UpgradeError, Upgraded, linked, undo_unfinished};
use crate::extension::{ExtensionKind, ExtensionName};

/// Goes back to what was enabled before the last upgrade, in the profiles that enable the extension
/// still. Steps that would change nothing, because somebody went back by hand, are passed over.
///
/// Units that do not start again do not keep it from going back: they are told in
/// [`Activated::problems`](super::activation::Activated::problems).
///
/// # Errors
/// [`UpgradeError`]. What was enabled and merged before is so again, unless the error says otherwise.
pub fn rollback(
    node: &Node,
    kind: ExtensionKind,
    name: &ExtensionName,
    dry_run: bool,
    notify: &dyn Fn(&str),
) -> Result<Upgraded, UpgradeError> {
    let store = Store::new(node.layout.clone(), kind);
    if dry_run {
        let view = store.view()?;
        let step = last_step(&view, name)?;
        return Switch::new(node, kind, name, step.to).preview(&view);
    }
    store.may_change()?;
    let mut locked = store.lock()?;
    let undone = undo_unfinished(node, &mut locked, notify)?;
    let step = last_step(&locked.view()?, name)?;
    let forget = |history: &mut Vec<Step>, _| history.truncate(step.index);
    let switch = Switch::new(node, kind, name, step.to);
    let aim = Aim::Back {
        running: &step.running,
    };
    let upgraded = switch.make(&mut locked, aim, forget, notify)?;
    Ok(Upgraded { undone, ..upgraded })
}

/// A step that can be taken back.
struct StepBack {
    /// Its place in the history.
    index: usize,
    /// What each profile is to link.
    to: BTreeMap<Profile, String>,
    /// The units that ran before it.
    running: Vec<String>,
}

/// The last step that would change something.
fn last_step(view: &View, name: &ExtensionName) -> Result<StepBack, UpgradeError> {
    let steps = view.records.history.get(name.as_str());
    let steps = steps.map(Vec::as_slice).unwrap_or_default();
    let now = linked(view, name, &Profile::ALL);
    let changes = |step: &Step| {
        let mut changed = step.linked.clone();
        changed.retain(|profile, file| {
            now.get(profile)
                .is_some_and(|artefact| artefact.file.file() != file.as_str())
        });
        changed
    };
    let found = steps
        .iter()
        .enumerate()
        .rev()
        .map(|(index, step)| StepBack {
            index,
            to: changes(step),
            running: step.running.clone(),
        })
        .find(|step| !step.to.is_empty());
    let step = found.ok_or_else(|| UpgradeError::NoHistory(name.clone()))?;
    match step.to.values().find(|file| view.artefact(file).is_none()) {
        Some(file) => Err(UpgradeError::Gone { file: file.clone() }),
        None => Ok(step),
    }
}
