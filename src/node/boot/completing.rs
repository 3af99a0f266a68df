//! Noting that a node came up with what was linked at boot.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::counting::{BootCount, Member};
use super::{BootError, check_tree, search_path};
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::activation::folders;
use crate::printable::sentence;

/// What systemd has merged, by kind.
pub type Merged = BTreeMap<ExtensionKind, BTreeSet<String>>;

/// Notes that the node came up with what was linked at this boot, and says what of it is missing all
/// the same. Nothing is noted if nothing was linked.
///
/// One bad image keeps systemd from merging all of its kind. So where some are merged, those that are
/// missing were not kept out by the set; and where systemd was not to merge, as `was_started` says of
/// a kind, it cannot have failed.
///
/// # Errors
/// [`BootError::Counting`]; [`BootError::NotMerged`], where systemd merged nothing although it should.
pub fn complete(
    node: &Node,
    merged: &Merged,
    was_started: &dyn Fn(ExtensionKind) -> bool,
) -> Result<Vec<String>, BootError> {
    let boot_id = check_tree(node)?;
    let failed = |problem: String| BootError::Counting(problem);
    let mut count = BootCount::read(&node.layout).map_err(|error| failed(error.to_string()))?;
    let Some(linked) = count.linked(boot_id.as_deref()) else {
        return Ok(Vec::new());
    };
    let (mut notes, mut not_merged) = (Vec::new(), Vec::new());
    for kind in ExtensionKind::ALL {
        let merged = merged.get(&kind).cloned().unwrap_or_default();
        let is_missing = |member: &&Member| member.kind == kind && !merged.contains(&member.name);
        let missing = linked.iter().filter(is_missing);
        let mut missing: Vec<&str> = missing.map(|member| member.name.as_str()).collect();
        if missing.is_empty() {
            continue;
        }
        notes.push(format!(
            "the {kind} {} is linked, but not merged",
            missing.join(", ")
        ));
        let hidden = names_before_ours(node, kind);
        missing.retain(|name| !hidden.contains(*name));
        if merged.is_empty() && !missing.is_empty() && was_started(kind) {
            not_merged.extend(missing);
        }
    }
    if !not_merged.is_empty() {
        return Err(BootError::NotMerged(not_merged.join(", ")));
    }
    count.complete();
    let written = count.write(&node.layout);
    written.map_err(|error| failed(sentence(&error)))?;
    Ok(notes)
}

/// The names in folders that systemd searches before that of our links. An administrator puts an
/// empty folder there to switch an extension off.
fn names_before_ours(node: &Node, kind: ExtensionKind) -> BTreeSet<String> {
    let live = node.layout.live(kind);
    let before = folders(kind).iter().copied();
    let before: Vec<&str> = before
        .take_while(|folder| node.layout.open_path(folder) != live)
        .collect();
    let (found, _) = search_path::foreign(node, kind, &before, &BTreeSet::new());
    found.into_iter().map(|foreign| foreign.name).collect()
}

/// Whether systemd was to merge extensions of a kind at this boot. Its service is not started if it
/// is disabled or masked, or if the kernel's command line says `systemd.sysext=0`. Where nobody knows,
/// it was.
pub fn was_started(kind: ExtensionKind) -> bool {
    let unit = format!("systemd-{kind}.service");
    let output = Command::new("systemctl")
        .args(["is-active", &unit])
        .output();
    // Of one that failed it says so.
    !output.is_ok_and(|output| output.stdout.trim_ascii() == b"inactive")
}
