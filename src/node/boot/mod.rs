//! What is done for extensions while a node boots, in its initrd or early afterwards.
//!
//! Nothing that is wrong with one image, folder, variable or store costs the others: each step does
//! what it can, and the [`Report`] tells the rest.

mod candidates;
mod certificates;
mod completing;
mod counting;
mod drop_in;
mod esp;
mod image_policy;
mod live;
mod masks;
mod mounts;
mod report;
mod search_path;
mod set;

use std::collections::BTreeSet;
use std::path::PathBuf;

use candidates::Candidate;
use counting::BootCount;
use live::LiveLink;

pub use completing::{complete, was_started};
pub use image_policy::relax as relax_image_policy;
pub use report::{Counting, ImagePolicy, LeftOut, Linked, Report, TakenOver};

use super::Node;
use super::activation::link_name;
use super::layout::Layout;
use super::policy::{Policy, PolicyError};
use super::store::{Store, StoreError};
use super::upgrade::undo_unfinished;
use crate::extension::ExtensionKind;
use crate::image::OutputError;
use crate::printable::sentence;
use crate::read_at::read_file;
use crate::signature::trust::TrustStore;

/// A number that the kernel makes up at every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const MAX_ID_BYTES: u64 = 1024;

/// Why nothing at all could be done, or not be told.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Nothing can be linked for systemd.
    #[error(
        "there is no folder {0}, in which systemd would look for extensions; mount it, or name another tree with --root"
    )]
    NoRun(PathBuf),
    /// The node has no sysroot.
    #[error(
        "there is no folder {0}; --sysroot names the folder at which the initrd mounts the root file system"
    )]
    NoRoot(PathBuf),
    /// It is not known what the node lets in.
    #[error("no extension can be judged, and none is linked")]
    Policy(#[source] PolicyError),
    /// The report could not be stored.
    #[error("the extensions are linked, but what was done cannot be told")]
    Report(#[source] OutputError),
    /// What is known of earlier boots could not be read or stored.
    #[error("boots cannot be counted: {0}")]
    Counting(String),
    /// What was linked is not merged.
    #[error(
        "this boot does not count as complete, because systemd did not merge {0}; see `systemctl status systemd-sysext systemd-confext`"
    )]
    NotMerged(String),
}

/// Links what is enabled for what was booted, as far as it is good, and prepares systemd for it.
///
/// # Errors
/// [`BootError`] where nothing could be done or told. All else is in the report.
pub fn run(node: &Node) -> Result<Report, BootError> {
    let mut report = Report::new(node.boot_state);
    report.boot_id = check_tree(node)?;
    masks::remove(node, &mut report);
    for kind in ExtensionKind::ALL {
        if let Err(error) = settle(node, kind, &mut report) {
            report.note(sentence(&error));
        }
    }
    certificates::withdraw(node, &mut report);
    let outcome = match load_policy(node, &mut report) {
        Ok(mut policy) => {
            certificates::publish(node, &mut policy, &mut report);
            report.trusted_boot = policy.trusted_boot();
            report.signatures_required = policy.requires_signatures();
            report.notes.extend_from_slice(policy.notes());
            esp::take_over(node, &policy, &mut report);
            let set = set::choose(node, &policy, &mut report);
            link(node, &set, &mut report);
            image_policy::set(node, &policy, &mut report);
            Ok(())
        }
        Err(error) => {
            report.note(sentence(&error));
            Err(BootError::Policy(error))
        }
    };
    report.write(&node.layout).map_err(BootError::Report)?;
    outcome.map(|()| report)
}

/// Finishes what is decided of a store, and goes back where an upgrade was not found good in time.
fn settle(node: &Node, kind: ExtensionKind, report: &mut Report) -> Result<(), StoreError> {
    let store = Store::new(node.layout.clone(), kind);
    if !store.path().is_dir() {
        return Ok(());
    }
    let mut locked = store.lock()?;
    if let Some(undone) = undo_unfinished(node, &mut locked, &|_| {})? {
        report.note(format!(
            "the upgrade of {} was not finished, and what was enabled before is so again",
            undone.name
        ));
    }
    Ok(())
}

/// What the node lets in. A certificate of the configuration that cannot be read costs itself alone.
fn load_policy(node: &Node, report: &mut Report) -> Result<Policy, PolicyError> {
    let mut node = node.clone();
    let layout = node.layout.clone();
    node.configuration.trust.certificates.retain(|path| {
        let loaded = TrustStore::new().load_file(&layout.open_path(path));
        loaded
            .map_err(|error| report.note(sentence(&error)))
            .is_ok()
    });
    Policy::load(&node, &[])
}

/// Gives every set of extensions that was left out because of failed boots another chance.
///
/// # Errors
/// [`BootError::Counting`].
pub fn retry(node: &Node) -> Result<(), BootError> {
    let failed = |problem: String| BootError::Counting(problem);
    let mut count = BootCount::read(&node.layout).map_err(|error| failed(error.to_string()))?;
    count.forget_failures();
    let written = count.write(&node.layout);
    written.map_err(|error| failed(sentence(&error)))
}

/// The files with which the node came up last in each boot state, and those that are linked now. Where
/// boots cannot be counted there are none.
pub fn came_up_with(layout: &Layout) -> BTreeSet<(ExtensionKind, String)> {
    let count = BootCount::read(layout).unwrap_or_default();
    let files = count.files().map(|(kind, file)| (kind, file.to_owned()));
    files.collect()
}

/// Looks whether there is anything to work on, and which boot this is.
fn check_tree(node: &Node) -> Result<Option<String>, BootError> {
    let run = node.layout.open_path("/run");
    if !run.is_dir() {
        return Err(BootError::NoRun(run));
    }
    if !node.layout.root().is_dir() {
        return Err(BootError::NoRoot(node.layout.root().to_path_buf()));
    }
    let id = read_file(&node.layout.open_path(BOOT_ID), MAX_ID_BYTES).ok();
    let id = id.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(id.map(|id| id.trim().to_owned()))
}

/// Links a set where systemd looks, and nothing else of the store.
fn link(node: &Node, set: &[Candidate], report: &mut Report) {
    for kind in ExtensionKind::ALL {
        if let Err(error) = live::folder(node, kind) {
            let folder = node.layout.live(kind);
            report.note(format!("cannot create {}: {error}", folder.display()));
            continue;
        }
        let mut names = BTreeSet::new();
        for candidate in set.iter().filter(|candidate| candidate.kind == kind) {
            let link = LiveLink {
                name: link_name(node.systemd, kind, &candidate.recognised.name),
                target: candidate.target.clone(),
            };
            match live::link(node, kind, &link) {
                Ok(()) => {
                    report.linked.push(linked(kind, candidate, &link));
                    names.insert(link.name);
                }
                Err(error) => report.leave_out(
                    kind,
                    candidate.file.file(),
                    Some(candidate.recognised.name.to_string()),
                    error,
                ),
            }
        }
        report.notes.extend(live::remove_stale(node, kind, &names));
    }
}

fn linked(kind: ExtensionKind, candidate: &Candidate, link: &LiveLink) -> Linked {
    let folder = match kind {
        ExtensionKind::Sysext => "/run/extensions",
        ExtensionKind::Confext => "/run/confexts",
    };
    Linked {
        kind,
        name: candidate.recognised.name.to_string(),
        file: candidate.file.to_string(),
        profile: candidate.profile,
        link: PathBuf::from(folder).join(&link.name),
        root_hash: candidate.recognised.root_hash.map(|hash| hash.to_string()),
        signer: candidate.signer().map(str::to_owned),
    }
}
