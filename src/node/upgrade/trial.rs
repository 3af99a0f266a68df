//! Links that are changed until something better is known.

use std::collections::BTreeMap;
use std::fmt;

use super::{UpgradeError, Upgraded};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::activation::{
    self, Activated, ActivationError, Named, enabled_link, manager_runs,
};
use crate::node::health::Health;
use crate::node::judgement::Judge;
use crate::node::profile::Profile;
use crate::node::store::{
    Artefact, Change, LinkChange, LockedStore, Moment, Record, Rejection, Step, StoreError, Trial,
    View,
};
use crate::node::transaction::booted;
use crate::unit_name::UnitName;

/// Profiles that are to link another version of an extension.
pub(in crate::node) struct Switch<'a> {
    node: &'a Node,
    kind: ExtensionKind,
    name: &'a ExtensionName,
    to: BTreeMap<Profile, String>,
}

/// Why profiles are to link another version.
#[derive(Clone, Copy)]
pub(in crate::node) enum Aim<'a> {
    /// It is newer, and has to be found good.
    Forward(&'a Health),
    /// It was good once: only if systemd does not merge it, things stay as they are.
    Back {
        /// The units that ran with it.
        running: &'a [String],
    },
}

/// What was taken back of a trial.
#[derive(Debug)]
pub struct Undone {
    /// The extension.
    pub name: ExtensionName,
    /// What each profile links again.
    pub linked: BTreeMap<Profile, String>,
    /// Why it is not merged as it was, if so.
    pub problem: Option<ActivationError>,
    /// What keeps units from running as they did, one sentence each.
    pub units: Vec<String>,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut files: Vec<&str> = self.linked.values().map(String::as_str).collect();
        files.dedup();
        let files = files.join(", ");
        match &self.problem {
            None => {
                write!(f, "{files} is enabled again, and merged as before")?;
                let all = self.units.iter();
                all.enumerate().try_for_each(|(index, problem)| {
                    let link = if index == 0 { ", but" } else { ";" };
                    write!(f, "{link} {problem}")
                })
            }
            Some(ActivationError::Refused { said, .. }) => {
                write!(f, "{files} is enabled again, but not merged: {said}")
            }
            Some(problem) => write!(f, "{files} is enabled again, but {problem}"),
        }
    }
}

/// The version of an extension that each of the profiles links; the newest if there are several.
pub(in crate::node) fn linked<'v>(
    view: &'v View,
    name: &ExtensionName,
    profiles: &[Profile],
) -> BTreeMap<Profile, &'v Artefact> {
    let newest = |profile: Profile| {
        let of_name = view.linked(profile).filter(|it| it.name() == name);
        of_name.max_by(|a, b| (a.version(), &a.file).cmp(&(b.version(), &b.file)))
    };
    profiles
        .iter()
        .filter_map(|&profile| Some((profile, newest(profile)?)))
        .collect()
}

impl<'a> Switch<'a> {
    /// Profiles that link nothing of the extension, or already what they shall, are left alone.
    pub(in crate::node) fn new(
        node: &'a Node,
        kind: ExtensionKind,
        name: &'a ExtensionName,
        to: BTreeMap<Profile, String>,
    ) -> Switch<'a> {
        Switch {
            node,
            kind,
            name,
            to,
        }
    }

    /// What would be changed, if what is linked then may be merged.
    pub(in crate::node) fn preview(&self, view: &View) -> Result<Upgraded, UpgradeError> {
        let profiles: Vec<Profile> = self.to.keys().copied().collect();
        let before = linked(view, self.name, &profiles).into_iter();
        let changed = before.filter_map(|(profile, from)| {
            let to = self.to.get(&profile)?;
            let from = from.file.to_string();
            (from != *to).then(|| (profile, (from, to.clone())))
        });
        let changed: BTreeMap<_, _> = changed.collect();
        self.judge(view, &changed)?;
        Ok(Upgraded {
            name: self.name.clone(),
            changed,
            activated: None,
            undone: None,
            passed_over: Vec::new(),
        })
    }

    fn judge(
        &self,
        view: &View,
        changed: &BTreeMap<Profile, (String, String)>,
    ) -> Result<(), UpgradeError> {
        let mut files: Vec<&str> = changed.values().map(|(_, to)| to.as_str()).collect();
        files.dedup();
        if files.is_empty() {
            return Ok(());
        }
        let judge = Judge::load(self.node, self.kind)?;
        for artefact in files.into_iter().filter_map(|file| view.artefact(file)) {
            judge.judge(artefact)?;
        }
        Ok(())
    }

    /// Changes the links, lets systemd merge, and looks whether all is well; goes back if not. If
    /// it is, `remember` adds to the history what was linked before.
    pub(in crate::node) fn make(
        &self,
        locked: &mut LockedStore,
        aim: Aim<'_>,
        remember: impl FnOnce(&mut Vec<Step>, Step),
        notify: &dyn Fn(&str),
    ) -> Result<Upgraded, UpgradeError> {
        let view = locked.view()?;
        let upgraded = self.preview(&view)?;
        if upgraded.changed.is_empty() {
            return Ok(upgraded);
        }
        let running = self.running(&view, &upgraded);
        let before = Step {
            until: Moment::now(),
            linked: files(&upgraded, |(from, _)| from),
            running: running.iter().map(UnitName::to_string).collect(),
        };
        let after = files(&upgraded, |(_, to)| to);
        let mut change = relink(&view, self.name, &after);
        change.records.trial = Some(Trial {
            name: self.name.clone(),
            before: before.clone(),
        });
        locked.commit(&change)?;
        let activated = match self.try_out(locked, &after, aim, &running, notify) {
            Ok(activated) => activated,
            Err(why) => return Err(self.give_up(locked, &after, aim, why, notify)),
        };
        let mut kept = Change {
            records: locked.view()?.records,
            ..Change::default()
        };
        kept.records.trial = None;
        let is_good = |file: &String| after.values().any(|good| good == file);
        kept.records.rejected.retain(|file, _| !is_good(file));
        remember(
            kept.records
                .history
                .entry(self.name.to_string())
                .or_default(),
            before,
        );
        kept.records.history.retain(|_, steps| !steps.is_empty());
        locked.commit(&kept)?;
        Ok(Upgraded {
            activated,
            ..upgraded
        })
    }

    /// Lets systemd merge what is linked now, where the extension is merged at all. The error is
    /// what is wrong with it, in one sentence.
    fn try_out(
        &self,
        locked: &LockedStore,
        after: &BTreeMap<Profile, String>,
        aim: Aim<'_>,
        running: &[UnitName],
        notify: &dyn Fn(&str),
    ) -> Result<Option<Activated>, String> {
        let (node, kind) = (self.node, self.kind);
        let is_booted = booted(node).iter().any(|it| after.contains_key(it));
        if !is_booted || !(manager_runs(&node.layout) || self.is_live()?) {
            notify("Nothing of it is merged now, so that the next boot merges what is enabled");
            return Ok(None);
        }
        let view = locked.view().map_err(|error| error.to_string())?;
        let add: Vec<_> = enabled_link(node, kind, &view, self.name)
            .into_iter()
            .collect();
        let outcome = match aim {
            Aim::Forward(_) => activation::change(node, kind, &add, &[], notify),
            Aim::Back { running: before } => {
                let ran = |unit: &UnitName| {
                    running.contains(unit) || before.iter().any(|name| name == unit.as_str())
                };
                let again = named(&view, self.name, ran);
                activation::change_back(node, kind, &add, &[], &again, notify)
            }
        };
        let activated = outcome.map_err(|error| match error {
            // What became of the old version is told when it is enabled again.
            ActivationError::Refused { said, .. } => {
                format!("systemd-{kind} did not merge it: {said}")
            }
            other => other.to_string(),
        })?;
        if let Aim::Forward(health) = aim {
            match activated.problems.first() {
                Some(problem) => return Err(problem.clone()),
                None => health.check(notify)?,
            }
        }
        Ok(Some(activated))
    }

    /// The units that run now, of those that the versions before and after name.
    fn running(&self, view: &View, upgraded: &Upgraded) -> Vec<UnitName> {
        if !manager_runs(&self.node.layout) {
            return Vec::new();
        }
        let files = upgraded.changed.values().flat_map(|(from, to)| [from, to]);
        let artefacts = files.filter_map(|file| view.artefact(file));
        let records: Vec<&Record> = artefacts.filter_map(|it| it.record.as_ref()).collect();
        // What is wrong with the names is told when the extension is merged.
        let (named, _) = Named::by(&records);
        let mut units = named.all();
        units.sort();
        units.dedup();
        activation::running(&units)
    }

    fn is_live(&self) -> Result<bool, String> {
        let live = activation::live(self.node, self.kind).map_err(|error| error.to_string())?;
        Ok(live.iter().any(|live| live.name == *self.name))
    }

    fn give_up(
        &self,
        locked: &mut LockedStore,
        after: &BTreeMap<Profile, String>,
        aim: Aim<'_>,
        why: String,
        notify: &dyn Fn(&str),
    ) -> UpgradeError {
        let mut files: Vec<&str> = after.values().map(String::as_str).collect();
        files.dedup();
        let file = files.join(", ");
        let rejected: &[&str] = match aim {
            Aim::Forward(_) => &files,
            Aim::Back { .. } => &[],
        };
        match undo(self.node, locked, rejected, &why, notify) {
            Ok(Some(back)) => UpgradeError::NotKept {
                file,
                why,
                back: Box::new(back),
            },
            // The trial is noted, for it was just begun.
            Ok(None) => UpgradeError::Store(StoreError::Damaged {
                path: locked.store().path(),
                problem: format!("the note of the upgrade to {file} is gone"),
            }),
            Err(source) => UpgradeError::NotUndone { file, why, source },
        }
    }
}

fn files(
    upgraded: &Upgraded,
    of: impl Fn(&(String, String)) -> &String,
) -> BTreeMap<Profile, String> {
    let changed = upgraded.changed.iter();
    changed
        .map(|(&profile, pair)| (profile, of(pair).clone()))
        .collect()
}

/// The change after which these profiles link exactly these files of an extension. A file that is
/// not there is not linked.
fn relink(view: &View, name: &ExtensionName, to: &BTreeMap<Profile, String>) -> Change {
    let mut change = Change {
        records: view.records.clone(),
        ..Change::default()
    };
    for (&profile, file) in to {
        let of_name = view.links_of(profile).filter(|link| {
            let target = link.target.as_deref();
            let artefact = target.and_then(|target| view.artefact(target));
            artefact.is_some_and(|artefact| artefact.name() == name)
        });
        change.links.extend(
            of_name
                .filter(|link| link.link != *file)
                .map(|link| LinkChange {
                    profile,
                    link: link.link.clone(),
                    target: None,
                }),
        );
        if view.artefact(file).is_some() {
            change.links.push(LinkChange {
                profile,
                link: file.clone(),
                target: Some(file.clone()),
            });
        }
    }
    change
}

/// Goes back to what was linked before an upgrade that neither succeeded nor failed, because the
/// program or the power went. Whoever takes the lock of a store calls this first; a boot also before
/// it links anything.
///
/// # Errors
/// [`StoreError`] if the links of the profiles could not be changed. That systemd could not merge
/// the old version is told in [`Undone`].
pub fn undo_unfinished(
    node: &Node,
    locked: &mut LockedStore,
    notify: &dyn Fn(&str),
) -> Result<Option<Undone>, StoreError> {
    undo(node, locked, &[], "", notify)
}

/// The same after it was found out that the files of `rejected` are not good, and `why`.
fn undo(
    node: &Node,
    locked: &mut LockedStore,
    rejected: &[&str],
    why: &str,
    notify: &dyn Fn(&str),
) -> Result<Option<Undone>, StoreError> {
    let view = locked.view()?;
    let Some(trial) = view.records.trial.clone() else {
        return Ok(None);
    };
    notify(&format!("Going back to what was enabled of {}", trial.name));
    let mut change = relink(&view, &trial.name, &trial.before.linked);
    let notes = &mut change.records.rejected;
    notes.retain(|file, _| view.artefact(file).is_some());
    let found = rejected.iter().filter_map(|file| view.artefact(file));
    notes.extend(found.map(|artefact| (artefact.file.to_string(), rejection(artefact, why))));
    locked.commit(&change)?;
    let (units, problem) = match settle(node, locked, &trial, notify) {
        Ok(units) => (units, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    // Only now, so that whoever comes after a program that died here goes back as well.
    let mut over = Change {
        records: locked.view()?.records,
        ..Change::default()
    };
    over.records.trial = None;
    locked.commit(&over)?;
    Ok(Some(Undone {
        name: trial.name,
        linked: trial.before.linked,
        problem,
        units,
    }))
}

fn rejection(artefact: &Artefact, why: &str) -> Rejection {
    Rejection {
        file: artefact.identity,
        at: Moment::now(),
        why: why.to_owned(),
    }
}

/// The units that ran, and what the versions of the extension that names them want for them.
fn named(view: &View, name: &ExtensionName, ran: impl Fn(&UnitName) -> bool) -> Named {
    let versions = view.versions_of(name).into_iter();
    let records: Vec<&Record> = versions.filter_map(|it| it.record.as_ref()).collect();
    let (mut named, _) = Named::by(&records);
    named.retain(ran);
    named
}

/// Brings what is merged of an extension, if anything, into line with what is enabled, and lets the
/// units run that ran before; what went wrong with those.
fn settle(
    node: &Node,
    locked: &LockedStore,
    trial: &Trial,
    notify: &dyn Fn(&str),
) -> Result<Vec<String>, ActivationError> {
    let kind = locked.store().kind();
    let name = &trial.name;
    let live = activation::live(node, kind)?;
    if !live.iter().any(|live| live.name == *name) {
        return Ok(Vec::new());
    }
    let view = locked.view()?;
    let again = named(&view, name, |unit| {
        trial.before.running.iter().any(|ran| ran == unit.as_str())
    });
    let link = enabled_link(node, kind, &view, name);
    let add: Vec<_> = link.into_iter().collect();
    let remove = if add.is_empty() {
        std::slice::from_ref(name)
    } else {
        &[]
    };
    let activated = activation::change_back(node, kind, &add, remove, &again, notify)?;
    Ok(activated.problems)
}
