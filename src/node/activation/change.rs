//! Changing what is merged.

use std::collections::BTreeSet;

use super::identity::{self, Identities};
use super::links::{self, Links, Live};
use super::units::{self, Named};
use super::{
    Activated, ActivationError, Afterwards, LiveLink, manager_runs, merged, refresh, search,
};
use crate::extension::{ExtensionKind, ExtensionName};
use crate::node::Node;
use crate::node::boot::relax_image_policy;
use crate::node::host::SystemdVersion;
use crate::node::store::{Lock, Proof, Record, Store, View};
use crate::unit_name::UnitName;

/// The first systemd-sysext that restarts units by itself.
const RESTARTS_UNITS: SystemdVersion = SystemdVersion(262);
/// The first that reloads the manager if an extension asks for it.
const RELOADS_MANAGER: SystemdVersion = SystemdVersion(255);

/// Merges the extensions of `add` and takes out those of `remove`, which systemd is only asked to
/// do if it makes a difference.
///
/// What else is merged stays as it is. `notify` is told what happens, a sentence at a time.
///
/// # Errors
/// [`ActivationError`]. The links are then as they were, and what was merged is merged again, unless
/// the error says otherwise.
pub fn change(
    node: &Node,
    kind: ExtensionKind,
    add: &[LiveLink],
    remove: &[ExtensionName],
    notify: &dyn Fn(&str),
) -> Result<Activated, ActivationError> {
    make(node, kind, (add, remove), None, notify)
}

/// The same on the way back to a version with which the units of `again` ran: exactly these are to
/// run again, whatever became of them meanwhile.
///
/// # Errors
/// As of [`change`].
pub(in crate::node) fn change_back(
    node: &Node,
    kind: ExtensionKind,
    add: &[LiveLink],
    remove: &[ExtensionName],
    again: &Named,
    notify: &dyn Fn(&str),
) -> Result<Activated, ActivationError> {
    make(node, kind, (add, remove), Some(again), notify)
}

fn make(
    node: &Node,
    kind: ExtensionKind,
    (add, remove): (&[LiveLink], &[ExtensionName]),
    again: Option<&Named>,
    notify: &dyn Fn(&str),
) -> Result<Activated, ActivationError> {
    links::create(&node.layout.run())?;
    let _lock = Lock::take(&node.layout.run().join("activation.lock"))?;
    let view = Store::new(node.layout.clone(), kind).view()?;
    let change = Change::plan(node, kind, &view, add, remove)?;
    change.make(again, notify)
}

/// A change from some links to others.
struct Change<'a> {
    node: &'a Node,
    kind: ExtensionKind,
    view: &'a View,
    /// The links at the start, as they are in the folder.
    found: Links,
    /// Those to go back to.
    before: Links,
    /// Those to come.
    after: Links,
    /// The links among `after` that were asked for.
    asked: BTreeSet<String>,
    /// The names that were asked to go.
    removed: BTreeSet<String>,
    /// What is merged at the start.
    merged: BTreeSet<String>,
    /// The names that systemd finds elsewhere.
    foreign: BTreeSet<String>,
}

impl<'a> Change<'a> {
    fn plan(
        node: &'a Node,
        kind: ExtensionKind,
        view: &'a View,
        add: &[LiveLink],
        remove: &[ExtensionName],
    ) -> Result<Change<'a>, ActivationError> {
        let live = links::of_view(node, kind, view)?;
        let ours: BTreeSet<&str> = live.iter().map(|live| live.link.as_str()).collect();
        let before = links::mended(node, kind, &live, view);
        let mut after = before.clone();
        let touched = |live: &&Live| {
            remove.contains(&live.name) || add.iter().any(|link| link.name == live.name)
        };
        let mut removed: BTreeSet<String> = remove.iter().map(ExtensionName::to_string).collect();
        for live in live.iter().filter(touched) {
            after.remove(&live.link);
            removed.extend(search::image_name(node.systemd, kind, &live.link, false));
        }
        let mut asked = BTreeSet::new();
        for link in add {
            if let Some(path) = search::in_the_way(node, kind, &ours, &link.name) {
                let name = link.name.clone();
                return Err(ActivationError::InTheWay { name, path });
            }
            let file = links::link_name(node.systemd, kind, &link.name);
            after.insert(file.clone(), link.target.clone());
            asked.insert(file);
        }
        let found = live
            .iter()
            .map(|live| (live.link.clone(), live.target.clone()));
        let change = Change {
            node,
            kind,
            view,
            found: found.collect(),
            before,
            after,
            asked,
            removed,
            merged: merged(node, kind),
            foreign: search::foreign(node, kind, &ours),
        };
        let images = change.identities(&change.after);
        let missing = add
            .iter()
            .find(|link| !images.contains_key(&links::link_name(node.systemd, kind, &link.name)));
        match missing {
            Some(link) => Err(ActivationError::Missing {
                name: link.name.clone(),
                target: link.target.clone(),
            }),
            None => Ok(change),
        }
    }

    fn make(
        &self,
        again: Option<&Named>,
        notify: &dyn Fn(&str),
    ) -> Result<Activated, ActivationError> {
        let noted = identity::noted(&self.node.layout, self.kind);
        let images = self.identities(&self.after);
        let changed: Vec<&String> = self
            .asked
            .iter()
            .filter(|link| noted.get(*link) != images.get(*link) || !self.is_merged(link))
            .collect();
        let folder = self.node.layout.live(self.kind);
        if let Err(error) = links::put(&folder, &self.found, &self.after) {
            // What can be put back is; the error tells of the first failure.
            let _ = links::put(&folder, &self.after, &self.before);
            return Err(error.into());
        }
        let is_so = self
            .complaint(&self.after, &self.asked, &self.merged)
            .is_none();
        if changed.is_empty() && is_so {
            self.note(&self.after, &self.merged)?;
            let (units, problems) = match again {
                Some(units) => self.run_again(&changed, units, notify),
                None => (Vec::new(), Vec::new()),
            };
            return Ok(Activated {
                refreshed: false,
                merged: self.merged.clone(),
                units,
                problems,
            });
        }
        if self.adds_unsigned()
            && let Err(problem) = relax_image_policy(self.node, self.kind)
        {
            notify(&problem);
        }
        let merged = match self.refresh_to(&self.after, &self.asked, notify) {
            Ok(merged) => merged,
            Err(said) => return Err(self.go_back(said, notify)?),
        };
        self.note(&self.after, &merged)?;
        let (units, problems) = match again {
            Some(units) => self.run_again(&changed, units, notify),
            None => self.restart_units(&changed, notify),
        };
        Ok(Activated {
            refreshed: true,
            merged,
            units,
            problems,
        })
    }

    /// Lets systemd merge these links, and tells what is merged then; or what is wrong with that.
    fn refresh_to(
        &self,
        links: &Links,
        asked: &BTreeSet<String>,
        notify: &dyn Fn(&str),
    ) -> Result<BTreeSet<String>, String> {
        let nothing_left = links.is_empty() && self.foreign.is_empty();
        let refresh = || refresh::refresh(self.node, self.kind, nothing_left, notify);
        // systemd 257 sometimes fails the first time only (systemd issue 36409).
        refresh().or_else(|_| refresh())?;
        let merged = merged(self.node, self.kind);
        match self.complaint(links, asked, &merged) {
            Some(said) => Err(said),
            None => Ok(merged),
        }
    }

    /// What keeps `merged` from being what these links were to bring, if anything: that is what was
    /// asked for, and what was merged before.
    fn complaint(
        &self,
        links: &Links,
        asked: &BTreeSet<String>,
        merged: &BTreeSet<String>,
    ) -> Option<String> {
        let mut expected = self.lasting(links);
        expected.extend(asked.iter().filter_map(|link| self.image(link)));
        let missing: Vec<&str> = expected.difference(merged).map(String::as_str).collect();
        if let Some(first) = missing.first() {
            return Some(format!(
                "it ignored {}, as it does with what was not made for this host (`sysgraft-agent {} explain {first}` tells why)",
                missing.join(", "),
                self.kind,
            ));
        }
        let kept = self.images(links);
        let left: Vec<&str> = self
            .removed
            .iter()
            .filter(|&name| {
                merged.contains(name) && !kept.contains(name) && !self.foreign.contains(name)
            })
            .map(String::as_str)
            .collect();
        (!left.is_empty()).then(|| format!("{} is still merged", left.join(", ")))
    }

    /// The names that were merged at the start and are still to be found, with these links.
    fn lasting(&self, links: &Links) -> BTreeSet<String> {
        let images = self.images(links);
        let is_found = |name: &&String| images.contains(*name) || self.foreign.contains(*name);
        self.merged.iter().filter(is_found).cloned().collect()
    }

    /// Whether an image comes that systemd would not merge if it demanded signatures.
    fn adds_unsigned(&self) -> bool {
        let mut asked = self.asked.iter().filter_map(|link| self.after.get(link));
        asked.any(|target| {
            let artefact = links::artefact_at(self.node, self.kind, target, self.view);
            let record = artefact.and_then(|artefact| artefact.record.as_ref());
            record.is_some_and(|record| !matches!(record.proof, Proof::Signed { .. }))
        })
    }

    /// Back to the links that were there, because of what systemd `said`.
    fn go_back(
        &self,
        said: String,
        notify: &dyn Fn(&str),
    ) -> Result<ActivationError, ActivationError> {
        notify("Going back to what was merged before");
        let folder = self.node.layout.live(self.kind);
        links::put(&folder, &self.after, &self.before)?;
        let nothing = BTreeSet::new();
        let lasting = self.lasting(&self.before);
        // What counts is what is merged in the end: a refresh that fails early leaves it alone.
        let _ = self.refresh_to(&self.before, &nothing, notify);
        let mut now = merged(self.node, self.kind);
        if !lasting.is_subset(&now) {
            let _ = self.refresh_to(&self.before, &nothing, notify);
            now = merged(self.node, self.kind);
        }
        self.note(&self.before, &now)?;
        let missing: Vec<String> = lasting.difference(&now).cloned().collect();
        Ok(ActivationError::Refused {
            kind: self.kind,
            said,
            afterwards: if missing.is_empty() {
                Afterwards::AsBefore
            } else {
                Afterwards::Without(missing)
            },
        })
    }

    /// Restarts what the changed extensions name and runs, where systemd does not do it; which
    /// units, and what went wrong.
    fn restart_units(
        &self,
        changed: &[&String],
        notify: &dyn Fn(&str),
    ) -> (Vec<UnitName>, Vec<String>) {
        if !manager_runs(&self.node.layout) || !self.is_before(RESTARTS_UNITS) {
            return (Vec::new(), Vec::new());
        }
        let records: Vec<&Record> = changed
            .iter()
            .filter_map(|link| self.after.get(*link))
            .filter_map(|target| links::artefact_at(self.node, self.kind, target, self.view))
            .filter_map(|artefact| artefact.record.as_ref())
            .collect();
        let (named, mut problems) = Named::by(&records);
        let units = named.all();
        if self.is_before(RELOADS_MANAGER) || !units.is_empty() {
            problems.extend(units::reload_manager().err());
        }
        if !units.is_empty() {
            notify(&format!("Restarting what runs of {}", names(&units)));
        }
        problems.extend(named.restart_running());
        (units, problems)
    }

    /// Lets units run that ran before. Those that nothing touched go on, and where systemd restarts
    /// what runs by itself, only the others are left.
    fn run_again(
        &self,
        changed: &[&String],
        units: &Named,
        notify: &dyn Fn(&str),
    ) -> (Vec<UnitName>, Vec<String>) {
        let mut named = units.clone();
        if !manager_runs(&self.node.layout) {
            return (Vec::new(), Vec::new());
        }
        if changed.is_empty() || !self.is_before(RESTARTS_UNITS) {
            let running = units::running(&named.all());
            named.retain(|unit| !running.contains(unit));
        }
        let units = named.all();
        let mut problems = Vec::new();
        if !changed.is_empty() && self.is_before(RELOADS_MANAGER) || !units.is_empty() {
            problems.extend(units::reload_manager().err());
        }
        if !units.is_empty() {
            notify(&format!("Starting {} again", names(&units)));
        }
        problems.extend(named.run_again());
        (units, problems)
    }

    fn is_before(&self, first: SystemdVersion) -> bool {
        self.node.systemd.is_some_and(|version| version < first)
    }

    fn identities(&self, links: &Links) -> Identities {
        identity::of_links(self.node, self.kind, links, self.view)
    }

    /// Notes which images the links lead to that are merged.
    fn note(&self, links: &Links, merged: &BTreeSet<String>) -> Result<(), ActivationError> {
        let mut images = self.identities(links);
        images.retain(|link, _| self.image(link).is_some_and(|name| merged.contains(&name)));
        Ok(identity::note(&self.node.layout, self.kind, &images)?)
    }

    fn is_merged(&self, link: &str) -> bool {
        self.image(link)
            .is_some_and(|name| self.merged.contains(&name))
    }

    fn image(&self, link: &str) -> Option<String> {
        search::image_name(self.node.systemd, self.kind, link, false)
    }

    fn images(&self, links: &Links) -> BTreeSet<String> {
        links.keys().filter_map(|link| self.image(link)).collect()
    }
}

fn names(units: &[UnitName]) -> String {
    let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
    names.join(", ")
}
