//! Extensions that an installer left beside a unified kernel image on the EFI system partition.
//!
//! They are installed like others: proved, put into the store beside whatever else has their name,
//! enabled for the profile of their image, and only then, when all of that is durable, removed. What
//! was taken over or refused once is not copied again, even where it cannot be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::mounts::Mounts;
use super::report::{Report, TakenOver, write_json};
use crate::digest::{Digest, Hasher};
use crate::extension::ExtensionKind;
use crate::image::Output;
use crate::node::artefact::ArtefactName;
use crate::node::boot_state::BootState;
use crate::node::layout::Layout;
use crate::node::placing::{self, Place};
use crate::node::policy::{Allowed, Policy, Refusal};
use crate::node::profile::Profile;
use crate::node::store::{
    Artefact, Change, FileIdentity, LockedStore, Placement, Proof, Record, Store,
};
use crate::node::{Node, enable};
use crate::printable::{printable, sentence};
use crate::read_at::read_file;
use crate::verification::Progress;

/// Where the EFI system partition may be mounted.
const MOUNT_POINTS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];
/// The folders that systemd-stub reads, and kairos-agent and AuroraBoot fill.
const FOLDERS: [(&str, Profile); 2] = [
    ("EFI/kairos/active.efi.extra.d", Profile::Active),
    ("EFI/kairos/passive.efi.extra.d", Profile::Passive),
];
/// What was taken over and could not be removed, and what was refused.
const NOTES: &str = "taken-over.json";
const MAX_NOTES_BYTES: u64 = 1 << 20;
/// So many bytes stay free beside what is copied, for notes and for whoever else writes.
const SPARE_BYTES: u64 = 16 << 20;
/// File systems in memory, or with their changes there: what they get is gone after a reboot.
const VOLATILE: [&str; 3] = ["tmpfs", "ramfs", "overlay"];

/// What is known of the files that stay on the partition, by their paths of the node.
type Kept = BTreeMap<String, Known>;

/// A file that was looked at in an earlier boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    digest: String,
    /// Why it will never be good; nothing if it was taken over.
    #[serde(default)]
    refused: Option<String>,
}

/// Why a file was not taken over.
enum Failure {
    /// This content will never be good.
    Bad(Known),
    /// It may be, another time.
    Now(String),
}

/// An extension on the EFI system partition.
struct Found {
    kind: ExtensionKind,
    profile: Profile,
    file: ArtefactName,
    /// Of the node.
    path: PathBuf,
    open: PathBuf,
    read_only: bool,
}

/// Nobody watches a boot.
struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

/// Takes over what there is. Everything that does not work is told in the report.
pub fn take_over(node: &Node, policy: &Policy, report: &mut Report) {
    let mounts = Mounts::read(&node.layout);
    let found = find(&node.layout, &mounts, report);
    if found.is_empty() {
        // It may not be mounted this time, and nothing is forgotten.
        return;
    }
    let before = read_notes(&node.layout);
    let mut kept = Kept::new();
    for kind in ExtensionKind::ALL {
        let of_kind: Vec<&Found> = found.iter().filter(|found| found.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let locked = may_take(node, &mounts, kind).and_then(|()| {
            let store = Store::new(node.layout.clone(), kind);
            store.lock().map_err(|error| sentence(&error))
        });
        let mut locked = match locked {
            Ok(locked) => locked,
            Err(problem) => {
                report.note(format!(
                    "the {kind}s on the EFI system partition are not taken over: {problem}"
                ));
                // What is there was not looked at, and stays known.
                let paths = of_kind.iter().map(|found| shown(&found.path));
                kept.extend(
                    paths.filter_map(|path| Some((path.clone(), before.get(&path)?.clone()))),
                );
                continue;
            }
        };
        for found in of_kind {
            let path = shown(&found.path);
            let known = before.get(&path);
            let (stays, refused) = match take(&mut locked, found, policy, known, report) {
                Ok(stays) => (stays, None),
                Err(Failure::Bad(known)) => (Some(known.clone()), known.refused),
                Err(Failure::Now(reason)) => (known.cloned(), Some(reason)),
            };
            kept.extend(stays.map(|known| (path.clone(), known)));
            if let Some(reason) = refused {
                let name = Some(found.file.stem().to_string());
                report.leave_out(kind, path, name, reason);
            }
        }
    }
    if kept != before
        && let Err(error) = write_json(&node.layout.node_notes(), NOTES, &kept)
    {
        report.note(format!(
            "it cannot be noted what was taken over: {}",
            sentence(&error)
        ));
    }
}

/// Whether what is taken over would be there after a reboot. The system for repairs and the one of
/// an installation medium have no business with it, and often no store that lasts.
fn may_take(node: &Node, mounts: &Mounts, kind: ExtensionKind) -> Result<(), String> {
    match node.boot_state {
        BootState::Active | BootState::Passive | BootState::Plain => {}
        state @ (BootState::Recovery | BootState::Live) => {
            return Err(format!("this is the {} system", state.as_str()));
        }
    }
    let store = node.layout.store(kind);
    match mounts.file_system(&store) {
        Some(name) if VOLATILE.contains(&name) => Err(format!(
            "{} lies in a file system ({name}) that a reboot empties",
            node.layout.store_of_node(kind).display()
        )),
        _ => Ok(()),
    }
}

/// Takes one over. Returns what is known of it if it stays where it is.
fn take(
    store: &mut LockedStore,
    found: &Found,
    policy: &Policy,
    known: Option<&Known>,
    report: &mut Report,
) -> Result<Option<Known>, Failure> {
    let (mut source, size) = open(&found.open).map_err(not_copied)?;
    let digest = read(&mut source, &mut |_| Ok(())).map_err(not_copied)?;
    match known.filter(|known| known.digest == digest.to_string()) {
        Some(known) if known.refused.is_some() => return Err(Failure::Bad(known.clone())),
        Some(_) => {}
        None => {
            copy_and_install(store, found, policy, size, digest)?;
            report.taken_over.push(TakenOver {
                kind: found.kind,
                file: found.file.to_string(),
                profile: found.profile,
                from: found.path.clone(),
            });
        }
    }
    let removed = if found.read_only {
        Err("it is mounted read-only".to_owned())
    } else {
        fs::remove_file(&found.open).map_err(|error| error.to_string())
    };
    match removed {
        Ok(()) => Ok(None),
        Err(problem) => {
            report.note(format!(
                "{} is in the store, but stays on the EFI system partition: {problem}",
                shown(&found.path)
            ));
            Ok(Some(Known {
                digest: digest.to_string(),
                refused: None,
            }))
        }
    }
}

fn copy_and_install(
    store: &mut LockedStore,
    found: &Found,
    policy: &Policy,
    size: u64,
    digest: Digest,
) -> Result<(), Failure> {
    // What is not signed well needs no copy to be found out.
    policy
        .prove_quickly(&found.open, &found.file, found.kind, Allowed::default())
        .map_err(|error| Failure::Now(sentence(&error)))?;
    let staged = format!("esp-{}", found.file);
    let staging = store.store().staging();
    let copied = copy(&found.open, size, &staging, &staged);
    let path = staging.join(&staged);
    let outcome = copied.map_err(not_copied).and_then(|copied| {
        if copied == digest {
            install(store, found, policy, &path, &staged, digest)
        } else {
            Err(not_copied("it changes while it is read".to_owned()))
        }
    });
    // It is in its place, or of no use.
    let _ = fs::remove_file(path);
    outcome
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

fn not_copied(problem: String) -> Failure {
    Failure::Now(format!("it cannot be copied into the store: {problem}"))
}

fn install(
    locked: &mut LockedStore,
    found: &Found,
    policy: &Policy,
    path: &Path,
    staged: &str,
    digest: Digest,
) -> Result<(), Failure> {
    let now = |error: &dyn std::error::Error| Failure::Now(sentence(error));
    let proved = policy
        .prove(path, &found.file, found.kind, Allowed::default(), &Silent)
        .map_err(|error| match error {
            // What is damaged stays so, whoever is trusted by then.
            Refusal::Damaged { .. } => Failure::Bad(Known {
                digest: digest.to_string(),
                refused: Some(sentence(&error)),
            }),
            error => now(&error),
        })?;
    let view = locked.view().map_err(|error| now(&error))?;
    let mut change = Change {
        records: view.records.clone(),
        ..Change::default()
    };
    // Nobody said that this one is to replace another.
    let placed = placing::place(locked.store(), &view, &proved, &found.file, &|_| false);
    let (file, identity, record) = match placed.map_err(|error| now(&error))? {
        Place::Same(there) => (there.file, there.identity, there.record),
        Place::New(file) => {
            let metadata = fs::metadata(path).map_err(|error| now(&error))?;
            change.placed.push(Placement {
                staged: staged.to_owned(),
                file: file.to_string(),
            });
            (file, FileIdentity::of(&metadata), None)
        }
    };
    let is_signed = |record: &Record| matches!(record.proof, Proof::Signed { .. });
    let record = record.filter(is_signed).unwrap_or_else(|| {
        let source = format!("esp:{}", found.path.display());
        placing::record(&proved, identity, source)
    });
    let records = &mut change.records.artefacts;
    records.insert(file.to_string(), record.clone());
    let artefact = Artefact {
        file,
        identity,
        record: Some(record),
        named: None,
        was_changed: false,
    };
    enable::link(&view, &artefact, found.profile, &mut change);
    locked.commit(&change).map_err(|error| now(&error))
}

/// Opens a regular file, and says how many bytes it has.
fn open(path: &Path) -> Result<(File, u64), String> {
    // Neither a link that leads elsewhere, nor a pipe that never ends.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
        .map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err("it is not a regular file".to_owned())
    }
}

/// Reads a file to its end, hands it on, and says what its digest is.
fn read(file: &mut File, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<Digest, String> {
    let failed = |error: io::Error| error.to_string();
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
        take(&buffer[..read]).map_err(failed)?;
    }
}

/// Copies a file durably into the staging folder, and says what its digest is.
fn copy(from: &Path, size: u64, staging: &Path, name: &str) -> Result<Digest, String> {
    let file_system = rustix::fs::statvfs(staging).map_err(|error| error.to_string())?;
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    if free < size.saturating_add(SPARE_BYTES) {
        return Err(format!(
            "it has {size} bytes, and there only {free} are free; make room with `sysgraft-agent gc`"
        ));
    }
    let (mut source, _) = open(from)?;
    let output = Output::create(staging, name).map_err(|error| sentence(&error))?;
    let digest = read(&mut source, &mut |bytes| output.file().write_all(bytes))?;
    output.commit().map_err(|error| sentence(&error))?;
    Ok(digest)
}

/// What lies on EFI system partitions that are mounted.
fn find(layout: &Layout, mounts: &Mounts, report: &mut Report) -> Vec<Found> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for mount_point in MOUNT_POINTS {
        let Some(read_only) = mounts.is_read_only(&layout.open_path(mount_point)) else {
            continue;
        };
        for (folder, profile) in FOLDERS {
            let of_node = Path::new(mount_point).join(folder);
            let open = layout.open_path(&of_node);
            let entries = match fs::read_dir(&open) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    report.note(format!("cannot read {}: {error}", of_node.display()));
                    continue;
                }
            };
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            for name in names {
                let shown = shown(&of_node.join(&name));
                let bytes = name.as_encoded_bytes();
                let kind = ExtensionKind::ALL.into_iter().find(|kind| {
                    let suffix = format!(".{kind}.raw");
                    bytes.ends_with(suffix.as_bytes())
                });
                // Credentials and add-ons of the kernel image lie there too.
                let Some(kind) = kind else { continue };
                let file = ArtefactName::parse(&name.to_string_lossy(), kind);
                match file {
                    Ok(file) if name.to_str() == Some(file.file()) => {
                        if seen.insert(open.join(&name)) {
                            all.push(Found {
                                kind,
                                profile,
                                file,
                                path: of_node.join(&name),
                                open: open.join(&name),
                                read_only,
                            });
                        }
                    }
                    Ok(_) => report.leave_out(kind, shown, None, "its name is not text"),
                    Err(error) => report.leave_out(kind, shown, None, error),
                }
            }
        }
    }
    all
}

fn read_notes(layout: &Layout) -> Kept {
    let bytes = read_file(&layout.node_notes().join(NOTES), MAX_NOTES_BYTES);
    // Without them something is copied once more.
    bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}
