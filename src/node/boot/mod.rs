//! What is done for extensions while a node boots, in its initrd or early afterwards.
//!
//! Nothing that is wrong with one image, folder, variable or store costs the others: each step does
//! what it can, and the [`Report`] tells the rest.

mod candidates;
mod certificates;
mod counting;
mod drop_in;
mod esp;
mod live;
mod report;
mod search_path;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use candidates::{Candidate, sentence};
use counting::{BootCount, Member, identity};
use drop_in::Orders;
use live::LiveLink;
use search_path::{Foreign, Form};

pub use report::{Counting, ImagePolicy, LeftOut, Linked, Report, TakenOver};

use super::Node;
use super::activation::{folders, link_name, manager_runs};
use super::artefact::ArtefactName;
use super::boot_state::BootState;
use super::firmware::Firmware;
use super::policy::{Policy, PolicyError, is_trusted_boot, strict_image_policy};
use super::store::{Store, StoreError};
use super::upgrade::undo_unfinished;
use crate::extension::ExtensionKind;
use crate::image::OutputError;
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
    for kind in ExtensionKind::ALL {
        if let Err(error) = settle(node, kind, &mut report) {
            report.note(sentence(&error));
        }
    }
    publish_certificates(node, &mut report);
    let outcome = match load_policy(node, &mut report) {
        Ok(policy) => {
            report.trusted_boot = policy.trusted_boot();
            report.signatures_required = policy.requires_signatures();
            report.notes.extend_from_slice(policy.notes());
            esp::take_over(node, &policy, &mut report);
            let set = choose(node, &policy, &mut report);
            link(node, &set, &mut report);
            let orders = orders(node, &policy, &mut report);
            give(node, &orders, &mut report);
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

/// Lets systemd trust those of the firmware that may vouch for extensions, where firmware counts.
fn publish_certificates(node: &Node, report: &mut Report) {
    let configuration = &node.configuration;
    let mut signers = Vec::new();
    if is_trusted_boot(&node.layout, configuration.trusted_boot) {
        let firmware = Firmware::read(&node.layout, &configuration.trust);
        let certificates = firmware.signers().map(|signer| signer.certificate.clone());
        signers.extend(certificates);
    }
    certificates::publish(node, &signers, report);
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

/// Notes that the node came up with what was linked at this boot. Nothing is noted if nothing was.
///
/// # Errors
/// [`BootError::Counting`]; [`BootError::NotMerged`], where `is_merged` denies that an extension is.
pub fn complete(
    node: &Node,
    is_merged: &dyn Fn(ExtensionKind, &str) -> bool,
) -> Result<(), BootError> {
    let boot_id = check_tree(node)?;
    let failed = |problem: String| BootError::Counting(problem);
    let mut count = BootCount::read(&node.layout).map_err(|error| failed(error.to_string()))?;
    let Some(linked) = count.linked(boot_id.as_deref()) else {
        return Ok(());
    };
    let missing: Vec<&str> = linked
        .iter()
        .filter(|member| !is_merged(member.kind, &member.name))
        .map(|member| member.name.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(BootError::NotMerged(missing.join(", ")));
    }
    count.complete();
    let written = count.write(&node.layout);
    written.map_err(|error| failed(sentence(&error)))
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

/// What is enabled and good, unless the node did not come up with it, and then what it last came up
/// with.
fn choose(node: &Node, policy: &Policy, report: &mut Report) -> Vec<Candidate> {
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
        let instead = if usable {
            stand_in(node, policy, &good, report)
        } else {
            Vec::new()
        };
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

/// The set that the node came up with last, if all of it is still there.
fn stand_in(node: &Node, policy: &Policy, good: &[Member], report: &mut Report) -> Vec<Candidate> {
    let mut set = Vec::new();
    for member in good {
        let found = candidates::stored(node, member.kind, policy, &member.file, None);
        match found {
            Ok(candidate) if candidate.member() == *member => set.push(candidate),
            _ => {
                report.note(format!(
                    "the last set of extensions that the node came up with cannot stand in, because {} is no longer what it was",
                    member.file
                ));
                return Vec::new();
            }
        }
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

/// What the services are to be told, after a look at all that systemd finds.
fn orders(node: &Node, policy: &Policy, report: &mut Report) -> BTreeMap<ExtensionKind, Orders> {
    let kairos = is_kairos(node);
    let mut all = BTreeMap::new();
    for kind in ExtensionKind::ALL {
        let blocked = survey(node, kind, policy, report);
        let of_kind = || report.linked.iter().filter(|linked| linked.kind == kind);
        let unsigned = of_kind().any(|linked| linked.signer.is_none());
        let anything = of_kind().next().is_some();
        let strict = node
            .systemd
            .and_then(|version| strict_image_policy(version, kind));
        let chosen = match (strict, node.systemd) {
            (None, Some(version)) => Err(format!("{version} takes no image policy")),
            (None, None) => Err("it is not known which systemd merges them".to_owned()),
            (Some(strict), _) if policy.requires_signatures() => {
                Ok((strict, "signatures are required"))
            }
            (Some(_), _) if unsigned => Err("not all that is linked is signed".to_owned()),
            (Some(_), _) if blocked.is_some() => Err(format!(
                "{} is found by systemd and would not pass, which would block all",
                blocked.as_deref().unwrap_or_default()
            )),
            (Some(_), _) if !anything => Err("nothing is linked".to_owned()),
            (Some(strict), _) => Ok((strict, "all that systemd finds is signed and trusted")),
        };
        let (policy, reason) = match chosen {
            Ok((strict, reason)) => (Some(strict.to_owned()), reason.to_owned()),
            Err(reason) => (None, reason),
        };
        let orders = Orders {
            policy: policy.clone(),
            kairos,
        };
        all.insert(kind, orders);
        report
            .image_policy
            .insert(kind, ImagePolicy { policy, reason });
    }
    all
}

/// Looks at what systemd finds beside our links, and tells of it. Returns the first thing that a
/// strict policy would stumble over.
fn survey(
    node: &Node,
    kind: ExtensionKind,
    policy: &Policy,
    report: &mut Report,
) -> Option<String> {
    let of_kind = report.linked.iter().filter(|linked| linked.kind == kind);
    let names: BTreeSet<String> = of_kind.clone().map(|linked| linked.name.clone()).collect();
    let ours: BTreeSet<String> = of_kind
        .filter_map(|linked| Some(linked.link.file_name()?.to_str()?.to_owned()))
        .collect();
    let folders = folders(kind);
    let (found, problems) = search_path::foreign(node, kind, folders, &ours);
    report.notes.extend(problems);
    let mut blocked = None;
    for foreign in found {
        let shown = foreign.shown();
        let problem = problem_of(&foreign, kind, policy);
        if names.contains(&foreign.name) {
            report.note(format!(
                "{shown} has the name of an extension that is enabled, and systemd merges only the first that it finds"
            ));
        }
        let Some(problem) = problem else { continue };
        if foreign.form != Form::Folder {
            blocked = blocked.or(Some(shown.clone()));
        }
        if policy.requires_signatures() {
            report.leave_out(kind, shown, Some(foreign.name), problem);
        }
    }
    let (found, problems) = search_path::foreign(
        node,
        kind,
        search_path::stub_folders(kind),
        &BTreeSet::new(),
    );
    report.notes.extend(problems);
    for foreign in found {
        report.note(format!(
            "{} came with the kernel image, and is merged in the initrd only",
            foreign.shown()
        ));
    }
    blocked
}

/// Why something that we did not link is no good where signatures are required.
fn problem_of(foreign: &Foreign, kind: ExtensionKind, policy: &Policy) -> Option<String> {
    match foreign.form {
        Form::Folder => Some(
            "it is a folder, to which systemd applies no policy, and is merged unsigned; remove it"
                .to_owned(),
        ),
        Form::Unknown => Some(
            "it is no image of which the signature can be checked, and blocks all others if it has none; remove it"
                .to_owned(),
        ),
        Form::Image => {
            let file = ArtefactName::parse(&foreign.file, kind).map_err(|error| error.to_string());
            let recognised = file.and_then(|file| {
                candidates::recognise(policy, &foreign.open, &file, kind, false)
                    .map_err(|error| sentence(&error))
            });
            match recognised {
                Ok(_) => None,
                Err(reason) => Some(format!("it may block all others: {reason}")),
            }
        }
    }
}

/// Tells the services, and the manager where it has read them already.
fn give(node: &Node, orders: &BTreeMap<ExtensionKind, Orders>, report: &mut Report) {
    let runs = manager_runs(&node.layout);
    let mut changed = false;
    for (kind, orders) in orders {
        match orders.give(node, *kind) {
            Ok(other) => changed |= other,
            Err(error) => {
                report.note(format!(
                    "systemd is not told what to demand: {}",
                    sentence(&error)
                ));
                if let Some(policy) = report.image_policy.get_mut(kind) {
                    policy.policy = None;
                    policy.reason = "systemd could not be told".to_owned();
                }
            }
        }
    }
    if changed
        && runs
        && let Err(problem) = drop_in::reload_manager()
    {
        report.note(problem);
    }
}

/// Whether the node runs Kairos, by what it booted or has installed.
fn is_kairos(node: &Node) -> bool {
    node.boot_state != BootState::Plain || node.layout.open_path("/etc/kairos-release").exists()
}
