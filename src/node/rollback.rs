//! One step back in the history of an extension.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use super::health::Health;
use super::profile::Profile;
use super::store::{Step, Store, View};
use super::upgrade::{Switch, UpgradeError, Upgraded, linked, undo_unfinished};
use crate::extension::{ExtensionKind, ExtensionName};

/// Goes back to what was enabled before the last upgrade, in the profiles that enable the extension
/// still. Steps that would change nothing, because somebody went back by hand, are passed over.
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
        let (_, to) = last_step(&view, name)?;
        return Switch::new(node, kind, name, to).preview(&view);
    }
    store.may_change()?;
    let mut locked = store.lock()?;
    let undone = undo_unfinished(node, &mut locked, notify)?;
    let (index, to) = last_step(&locked.view()?, name)?;
    let forget = |history: &mut Vec<Step>, _| history.truncate(index);
    let nothing_to_check = Health {
        command: None,
        units: Vec::new(),
        timeout: Duration::ZERO,
    };
    let switch = Switch::new(node, kind, name, to);
    let upgraded = switch.make(&mut locked, &nothing_to_check, forget, notify)?;
    Ok(Upgraded { undone, ..upgraded })
}

/// The last step that would change something, and what each profile is to link after it.
fn last_step(
    view: &View,
    name: &ExtensionName,
) -> Result<(usize, BTreeMap<Profile, String>), UpgradeError> {
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
        .map(|(index, step)| (index, changes(step)))
        .find(|(_, changed)| !changed.is_empty());
    let (index, to) = found.ok_or_else(|| UpgradeError::NoHistory(name.clone()))?;
    match to.values().find(|file| view.artefact(file).is_none()) {
        Some(file) => Err(UpgradeError::Gone { file: file.clone() }),
        None => Ok((index, to)),
    }
}
