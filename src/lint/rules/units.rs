//! Units that systemd does not read, or that nobody starts.

use std::collections::BTreeMap;

use crate::extension::ExtensionKind;
use crate::layer::{Entry, EntryKind, EntryPath};
use crate::lint::extension::{known, name_of};
use crate::lint::files::read_start;
use crate::lint::{Code, Extension, FilesError, Findings};

/// Types of units that are files (systemd.unit(5)).
const UNIT_TYPES: [&str; 10] = [
    "service",
    "socket",
    "timer",
    "path",
    "target",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
];
/// Units that start a service of the same name.
const TRIGGERS: [&str; 3] = [".socket", ".timer", ".path"];
/// A larger unit is read to here.
const MAX_UNIT_BYTES: usize = 256 * 1024;
/// What systemd takes for true (`parse_boolean()`).
const TRUE: [&str; 6] = ["1", "yes", "y", "true", "t", "on"];

/// How a unit is started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// When a unit of the host is started that may be running already.
    Wanted,
    /// Whenever it is needed.
    Sure,
}

/// Who is started, by name.
#[derive(Default)]
struct Starts(BTreeMap<String, Start>);

impl Starts {
    fn add(&mut self, name: &str, start: Start) {
        let known = self.0.entry(name.to_owned()).or_insert(start);
        *known = start.max(*known);
    }

    /// An instance starts its template.
    fn of(&self, name: &str) -> Option<Start> {
        let Some((template, suffix)) = name.split_once("@.") else {
            return self.0.get(name).copied();
        };
        let prefix = format!("{template}@");
        let instances = self.0.range(prefix.clone()..);
        let instances = instances
            .take_while(|(instance, _)| instance.starts_with(&prefix))
            .filter(|(instance, _)| instance.ends_with(suffix));
        instances.map(|(_, start)| *start).max()
    }
}

/// A unit of the extension.
struct Unit {
    path: EntryPath,
    name: String,
    settings: Vec<Setting>,
}

/// A line `KEY=VALUE` of a unit.
struct Setting {
    section: String,
    key: String,
    value: String,
}

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let folder = match extension.subject.kind {
        ExtensionKind::Sysext => "usr/lib/systemd/system",
        ExtensionKind::Confext => "etc/systemd/system",
    };
    let mut units = Vec::new();
    let mut starts = Starts::default();
    let mut first = None;
    for entry in extension.below(folder) {
        if entry.kind == EntryKind::Directory {
            continue;
        }
        first = first.or(Some(&entry.path));
        read_entry(extension, folder, entry, &mut units, &mut starts)?;
    }
    started_by_units(&units, &mut starts);
    started_by_others(extension, &mut starts)?;
    if let (Some(path), Some(release)) = (first, &extension.release) {
        let reload = release.get("EXTENSION_RELOAD_MANAGER").unwrap_or_default();
        if !TRUE.contains(&reload.to_ascii_lowercase().as_str()) {
            let message = "is for systemd, which is not told to read it";
            findings.add(Code::ReloadMissing, path, message);
        }
    }
    for unit in &units {
        if !unit
            .settings
            .iter()
            .any(|setting| setting.section == "Install")
        {
            continue;
        }
        match starts.of(&unit.name) {
            None => {
                let message = "has [Install], but merging enables nothing and no link starts it";
                findings.add(Code::UnitNotStarted, &unit.path, message);
            }
            Some(Start::Wanted) => {
                let message = "is started only when its target is, which may have been before";
                findings.add(Code::UnitOnlyWanted, &unit.path, message);
            }
            Some(Start::Sure) => {}
        }
    }
    Ok(())
}

/// A unit, a drop-in for one, or a link that starts one.
fn read_entry(
    extension: &Extension<'_>,
    folder: &str,
    entry: &Entry,
    units: &mut Vec<Unit>,
    starts: &mut Starts,
) -> Result<(), FilesError> {
    let name = String::from_utf8_lossy(name_of(&entry.path)).into_owned();
    let parent = entry.path.split_last().map(|(parent, _)| parent);
    let parent = parent.filter(|parent| *parent != known(folder));
    let within = parent
        .as_ref()
        .map(|parent| String::from_utf8_lossy(name_of(parent)));
    match (&entry.kind, within.as_deref()) {
        (_, Some(within)) if within.ends_with(".upholds") => starts.add(&name, Start::Sure),
        (_, Some(within)) if within.ends_with(".wants") || within.ends_with(".requires") => {
            starts.add(&name, Start::Wanted);
        }
        (EntryKind::File { .. }, Some(within)) if within.ends_with(".d") => {
            for setting in read_settings(extension, &entry.path)? {
                match setting.key.as_str() {
                    "Upholds" => starts.add(&setting.value, Start::Sure),
                    "Wants" | "Requires" | "BindsTo" => starts.add(&setting.value, Start::Wanted),
                    _ => {}
                }
            }
        }
        // An alias, by which D-Bus or another unit starts it.
        (EntryKind::Symlink { target }, None) => {
            let target = target
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            starts.add(&String::from_utf8_lossy(target), Start::Sure);
        }
        (EntryKind::File { .. }, None) if is_unit(&name) => units.push(Unit {
            settings: read_settings(extension, &entry.path)?,
            path: entry.path.clone(),
            name,
        }),
        _ => {}
    }
    Ok(())
}

fn is_unit(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, suffix)| UNIT_TYPES.contains(&suffix))
}

/// Units of the extension that start each other; the others are judged themselves.
fn started_by_units(units: &[Unit], starts: &mut Starts) {
    for unit in units {
        for setting in &unit.settings {
            let starting = ["Upholds", "Wants", "Requires", "BindsTo", "Unit", "Service"];
            if starting.contains(&setting.key.as_str()) {
                starts.add(&setting.value, Start::Sure);
            }
        }
        for trigger in TRIGGERS {
            if let Some(stem) = unit.name.strip_suffix(trigger) {
                starts.add(&format!("{stem}.service"), Start::Sure);
                // A socket with Accept=yes starts instances.
                starts.add(&format!("{stem}@.service"), Start::Sure);
                starts.add(&format!("{stem}@any.service"), Start::Sure);
            }
        }
    }
}

/// What the release file and D-Bus start.
fn started_by_others(extension: &Extension<'_>, starts: &mut Starts) -> Result<(), FilesError> {
    for key in [
        "EXTENSION_RESTART_UNITS",
        "EXTENSION_RELOAD_OR_RESTART_UNITS",
    ] {
        let release = extension.release.as_ref();
        let units = release
            .and_then(|release| release.get(key))
            .unwrap_or_default();
        for unit in units.split_whitespace() {
            starts.add(unit, Start::Sure);
        }
    }
    for entry in extension.below("usr/share/dbus-1/system-services") {
        if matches!(entry.kind, EntryKind::File { .. }) {
            for setting in read_settings(extension, &entry.path)? {
                if setting.key == "SystemdService" {
                    starts.add(&setting.value, Start::Sure);
                }
            }
        }
    }
    Ok(())
}

/// The settings of a unit, one for each word of their values.
fn read_settings(extension: &Extension<'_>, path: &EntryPath) -> Result<Vec<Setting>, FilesError> {
    let bytes = match read_start(extension.subject.files, path, MAX_UNIT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_out_of_reach() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes).replace("\\\n", " ");
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
        {
            settings.extend(value.split_whitespace().map(|word| Setting {
                section: section.clone(),
                key: key.trim_end().to_owned(),
                value: word.to_owned(),
            }));
        }
    }
    Ok(settings)
}
