//! What systemd is to demand of images, by all that it would find.

use std::collections::{BTreeMap, BTreeSet};

use super::drop_in::{self, Orders};
use super::masks;
use super::report::{ImagePolicy, Report};
use super::search_path::{self, Foreign, Form};
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::node::activation::{folders, manager_runs};
use crate::node::artefact::ArtefactName;
use crate::node::boot_state::BootState;
use crate::node::configuration::Signatures;
use crate::node::judgement::recognise;
use crate::node::policy::{Policy, image_policy, is_trusted_boot, strict_image_policy};
use crate::printable::sentence;

/// Tells the services what to demand, after a look at all that systemd finds.
pub fn set(node: &Node, policy: &Policy, report: &mut Report) {
    let orders = orders(node, policy, report);
    give(node, &orders, report);
}

/// Lets systemd merge unsigned images from now on, where boot has it demand signatures although the
/// node does not require them. For who is about to add such an image, which would block all others.
///
/// # Errors
/// One sentence.
pub fn relax(node: &Node, kind: ExtensionKind) -> Result<(), String> {
    let configuration = &node.configuration;
    let told = Report::read(&node.layout);
    let told = told.map_err(|error| format!("what was done at boot cannot be read: {error}"))?;
    let Some(mut report) = told else {
        return Ok(());
    };
    let open = open_policy(node, kind);
    let is_strict = report
        .image_policy
        .get(&kind)
        .is_some_and(|told| told.policy.is_some() && told.policy != open);
    let required = configuration.signatures == Signatures::Required
        || is_trusted_boot(&node.layout, configuration.trusted_boot);
    if !is_strict || required {
        return Ok(());
    }
    let orders = Orders {
        policy: open.clone(),
        kairos: is_kairos(node),
    };
    let changed = orders.give(node, kind).map_err(|error| sentence(&error))?;
    if changed && manager_runs(&node.layout) {
        drop_in::reload_manager()?;
    }
    let reason = "an unsigned extension was enabled".to_owned();
    let policy = open;
    report
        .image_policy
        .insert(kind, ImagePolicy { policy, reason });
    let written = report.write(&node.layout);
    written.map(|_| ()).map_err(|error| sentence(&error))
}

/// What the services are to be told.
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
        let policy = policy.or_else(|| open_policy(node, kind));
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
    let (mut blocked, mut before) = (None, BTreeSet::new());
    for foreign in found {
        let shown = foreign.shown();
        let is_ours = names.contains(&foreign.name);
        if is_ours {
            report.note(format!(
                "{shown} has the name of an extension that is enabled, and systemd merges only the first that it finds"
            ));
        }
        // systemd does not look at what it has found already.
        let is_hidden = is_ours && masks::is_after_ours(node, kind, &foreign);
        if is_hidden || !before.insert(foreign.name.clone()) {
            continue;
        }
        let Some(problem) = problem_of(&foreign, kind, policy) else {
            continue;
        };
        if foreign.form != Form::Folder {
            blocked = blocked.or(Some(shown.clone()));
        }
        if policy.requires_signatures() {
            let remedy = match masks::hide(node, kind, &foreign) {
                Ok(mask) => {
                    let remedy = format!(
                        "{} hides it from systemd until the next boot",
                        mask.display()
                    );
                    report.masks.push(mask);
                    remedy
                }
                Err(remedy) => remedy,
            };
            report.leave_out(
                kind,
                shown,
                Some(foreign.name),
                format!("{problem}; {remedy}"),
            );
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
        Form::Empty => None,
        Form::Folder => Some(
            "it is a folder, to which systemd applies no policy, and would be merged unsigned".to_owned(),
        ),
        Form::Unknown => Some(
            "it is no image of which the signature can be checked, and blocks all others if it has none"
                .to_owned(),
        ),
        Form::Image => {
            let file = ArtefactName::parse(&foreign.file, kind).map_err(|error| error.to_string());
            let recognised = file.and_then(|file| {
                recognise(policy, &foreign.open, &file, kind, None)
                    .map_err(|error| sentence(&error))
            });
            match recognised {
                Ok(_) => None,
                Err(reason) => Some(format!("it would block all others: {reason}")),
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

/// What systemd is given where not everything is signed: Kairos has a policy of its own, by which
/// images without a hash tree block all others.
fn open_policy(node: &Node, kind: ExtensionKind) -> Option<String> {
    let systemd = node.systemd.filter(|_| is_kairos(node))?;
    image_policy(systemd, kind, false).map(str::to_owned)
}

/// Whether the node runs Kairos, by what it booted or has installed.
fn is_kairos(node: &Node) -> bool {
    node.boot_state != BootState::Plain || node.layout.open_path("/etc/kairos-release").exists()
}
