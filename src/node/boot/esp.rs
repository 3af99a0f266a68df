//! Extensions that an installer left beside a unified kernel image on the EFI system partition.
//!
//! They are installed like others: proved, put into the store, enabled for the profile of their
//! image, and only then, when all of that is durable, removed. What was taken over once is not taken
//! over again, even where it cannot be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::candidates::sentence;
use super::report::{Report, TakenOver, write_json};
use crate::digest::{Digest, Hasher};
use crate::extension::ExtensionKind;
use crate::image::Output;
use crate::node::Node;
use crate::node::artefact::ArtefactName;
use crate::node::layout::Layout;
use crate::node::policy::{Allowed, Policy};
use crate::node::profile::Profile;
use crate::node::store::{
    Change, FileIdentity, LinkChange, LockedStore, Moment, Placement, Record, Store,
};
use crate::printable::printable;
use crate::read_at::read_file;
use crate::verification::Progress;

/// Where the EFI system partition may be mounted.
const MOUNT_POINTS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];
/// The folders that systemd-stub reads, and kairos-agent and AuroraBoot fill.
const FOLDERS: [(&str, Profile); 2] = [
    ("EFI/kairos/active.efi.extra.d", Profile::Active),
    ("EFI/kairos/passive.efi.extra.d", Profile::Passive),
];
/// What was taken over and could not be removed.
const NOTES: &str = "taken-over.json";
const MAX_NOTES_BYTES: u64 = 1 << 20;
const MAX_MOUNTS_BYTES: u64 = 16 << 20;

/// Digests by the paths of the node.
type Kept = BTreeMap<String, String>;

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
    let found = find(&node.layout, report);
    let before = read_notes(&node.layout);
    let mut kept = Kept::new();
    for kind in ExtensionKind::ALL {
        let of_kind: Vec<&Found> = found.iter().filter(|found| found.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let store = Store::new(node.layout.clone(), kind);
        let mut locked = match store.lock() {
            Ok(locked) => locked,
            Err(error) => {
                report.note(format!(
                    "nothing was taken over from the EFI system partition: {}",
                    sentence(&error)
                ));
                // What is there was not looked at, and stays known.
                kept.extend(before.clone());
                continue;
            }
        };
        for found in of_kind {
            let path = printable(found.path.as_os_str().as_encoded_bytes());
            match take(&mut locked, found, policy, before.get(&path), report) {
                Ok(None) => {}
                Ok(Some(digest)) => {
                    kept.insert(path, digest.to_string());
                }
                Err(reason) => {
                    let name = Some(found.file.stem().to_string());
                    report.leave_out(kind, path, name, reason);
                }
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

/// Takes one over. Returns its digest if it stays where it is.
fn take(
    store: &mut LockedStore,
    found: &Found,
    policy: &Policy,
    known: Option<&String>,
    report: &mut Report,
) -> Result<Option<Digest>, String> {
    let staged = format!("esp-{}", found.file);
    let staging = store.store().staging();
    let digest = copy(&found.open, &staging, &staged)
        .map_err(|problem| format!("it cannot be copied into the store: {problem}"))?;
    let outcome = if known == Some(&digest.to_string()) {
        Ok(())
    } else {
        install(
            store,
            found,
            policy,
            &staging.join(&staged),
            &staged,
            digest,
        )
        .map(|()| {
            report.taken_over.push(TakenOver {
                kind: found.kind,
                file: found.file.to_string(),
                profile: found.profile,
                from: found.path.clone(),
            });
        })
    };
    // It is in its place, or of no use.
    let _ = fs::remove_file(staging.join(&staged));
    outcome?;
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
                printable(found.path.as_os_str().as_encoded_bytes())
            ));
            Ok(Some(digest))
        }
    }
}

fn install(
    locked: &mut LockedStore,
    found: &Found,
    policy: &Policy,
    path: &Path,
    staged: &str,
    digest: Digest,
) -> Result<(), String> {
    let view = locked.view().map_err(|error| sentence(&error))?;
    let mut change = Change {
        records: view.records.clone(),
        ..Change::default()
    };
    let file = found.file.file();
    let stored = view.artefact(file);
    let same = stored
        .and_then(|artefact| artefact.record.as_ref())
        .is_some_and(|record| record.digest == digest);
    if !same {
        let source = format!("esp:{}", found.path.display());
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        let proved = policy
            .prove(path, &found.file, found.kind, Allowed::default(), &Silent)
            .map_err(|error| sentence(&error))?;
        let record = Record {
            name: proved.name,
            version: proved.version,
            file: FileIdentity::of(&metadata),
            digest: proved.digest,
            root_hash: proved.root_hash,
            source,
            installed: Moment::now(),
            proof: proved.proof,
            restart_units: proved.restart_units,
            reload_or_restart_units: proved.reload_or_restart_units,
            declared: false,
            failed: None,
        };
        change.records.artefacts.insert(file.to_owned(), record);
        change.placed.push(Placement {
            staged: staged.to_owned(),
            file: file.to_owned(),
        });
    }
    change.links.push(LinkChange {
        profile: found.profile,
        link: file.to_owned(),
        target: Some(file.to_owned()),
    });
    locked.commit(&change).map_err(|error| sentence(&error))
}

/// Copies a file durably into the staging folder, and says what its digest is.
fn copy(from: &Path, staging: &Path, name: &str) -> Result<Digest, String> {
    let failed = |error: io::Error| error.to_string();
    // Neither a link that leads elsewhere, nor a pipe that never ends.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut source = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(from)
        .map_err(failed)?;
    if !source.metadata().map_err(failed)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let output = Output::create(staging, name).map_err(|error| sentence(&error))?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        output.file().write_all(&buffer[..read]).map_err(failed)?;
    }
    output.commit().map_err(|error| sentence(&error))?;
    Ok(hasher.finish())
}

/// What lies on EFI system partitions that are mounted.
fn find(layout: &Layout, report: &mut Report) -> Vec<Found> {
    let mounts = mounts(layout);
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for mount_point in MOUNT_POINTS {
        let Some(read_only) = mounts.get(&layout.open_path(mount_point)) else {
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
                let shown = printable(of_node.join(&name).as_os_str().as_encoded_bytes());
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
                                read_only: *read_only,
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

/// The mount points of this process, and whether they are read-only (proc_pid_mountinfo(5)). One that
/// waits for somebody to look into it is not mounted.
fn mounts(layout: &Layout) -> BTreeMap<PathBuf, bool> {
    let path = layout.open_path("/proc/self/mountinfo");
    let text = read_file(&path, MAX_MOUNTS_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let mut fields = mount.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mut fields = file_system.split(' ');
        let (kind, of_disk) = (fields.next(), fields.nth(1).unwrap_or_default());
        let point = PathBuf::from(point.replace("\\040", " "));
        if kind == Some("autofs") {
            mounts.remove(&point);
            continue;
        }
        let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
        mounts.insert(point, is_read_only(options) || is_read_only(of_disk));
    }
    mounts
}

fn read_notes(layout: &Layout) -> Kept {
    let bytes = read_file(&layout.node_notes().join(NOTES), MAX_NOTES_BYTES);
    // Without them something is copied once more.
    bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}
