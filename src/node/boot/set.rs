//! Which set of extensions a boot is tried with.

use std::collections::BTreeMap;

use super::candidates::{self, Candidate};
use super::counting::{BootCount, Member, identity};
use super::report::{Counting, Report};
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::policy::Policy;
use crate::node::store::Store;
use crate::printable::sentence;

/// What is enabled and good, unless the node did not come up with it, and then what it last came up
/// with.
pub fn choose(node: &Node, policy: &Policy, report: &mut Report) -> Vec<Candidate> {
    let enabled: Vec<Candidate> = ExtensionKind::ALL
        .into_iter()
        .flat_map(|kind| candidates::enabled(node, kind, policy, report))
        .collect();
    let mut count = BootCount::read(&node.layout).unwrap_or_else(|error| {
        report.note(format!(
            "what is known of earlier boots cannot be used: {error}"
        ));
        BootCount::default()
    });
    let boot_id = report.boot_id.clone();
    let limit = node.configuration.boot.tries;
    let members = |set: &[Candidate]| set.iter().map(Candidate::member).collect::<Vec<_>>();
    let failed = |count: &BootCount, set: &[Member]| {
        limit > 0 && count.tries(set, boot_id.as_deref()) >= limit
    };
    let wanted = members(&enabled);
    let (set, left_out_set) = if failed(&count, &wanted) {
        let good = count.good(node.boot_state).to_vec();
        let usable = identity(&good) != identity(&wanted) && !failed(&count, &good);
        let mut instead = if usable {
            stand_in(node, policy, &good, report)
        } else {
            Vec::new()
        };
        // Without a member that is gone it is another set, which may have failed by itself.
        if failed(&count, &members(&instead)) {
            instead.clear();
        }
        leave_set_out(&enabled, &instead, limit, report);
        (instead, Some(identity(&wanted)))
    } else {
        (enabled, None)
    };
    let linked = members(&set);
    if linked.is_empty() && count == BootCount::default() {
        // On a node without extensions nothing is written.
        return set;
    }
    let tries = count.begin(boot_id.as_deref(), node.boot_state, &linked);
    match count.write(&node.layout) {
        Ok(()) => {
            report.counting = Some(Counting {
                set: identity(&linked),
                tries,
                left_out_set,
            });
        }
        Err(error) => report.note(format!("this boot is not counted: {}", sentence(&error))),
    }
    set
}

/// What is still there of the set that the node came up with last.
fn stand_in(node: &Node, policy: &Policy, good: &[Member], report: &mut Report) -> Vec<Candidate> {
    let records = ExtensionKind::ALL.map(|kind| {
        let view = Store::new(node.layout.clone(), kind).view();
        // Why there is none was noted when it was looked at for what is enabled.
        (kind, view.map(|view| view.records).unwrap_or_default())
    });
    let records = BTreeMap::from(records);
    let mut set = Vec::new();
    for member in good {
        let records = records.get(&member.kind);
        let record = records.and_then(|records| records.artefacts.get(&member.file));
        let found = candidates::stored(node, member.kind, policy, &member.file, record);
        let reason = match found {
            Ok(candidate) if candidate.member() == *member => {
                set.push(candidate);
                continue;
            }
            Ok(_) => "it is no longer what it was".to_owned(),
            Err(reason) => reason,
        };
        report.note(format!(
            "{} is missing from the last set of extensions that the node came up with, which stands in: {reason}",
            member.file
        ));
    }
    set
}

fn leave_set_out(enabled: &[Candidate], instead: &[Candidate], limit: u32, report: &mut Report) {
    for candidate in enabled {
        let member = candidate.member();
        if instead.iter().any(|other| other.member() == member) {
            continue;
        }
        report.leave_out(
            candidate.kind,
            candidate.file.file(),
            Some(member.name),
            format!(
                "the node did not come up with this set of extensions {limit} times in a row; change the set, or let it be tried again with `sysgraft-agent boot --retry`"
            ),
        );
    }
}
