//! Units that systemd does not read, or that nobody starts.

use std::borrow::Cow;
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
/// So much text is read in the time of a step.
const BYTES_OF_A_STEP: usize = 64;
/// Names of units are no longer (`UNIT_NAME_MAX`), those of sections and keys far shorter.
const MAX_NAME_BYTES: usize = 255;
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

/// How each unit of the extension is started; of others nothing is kept.
struct Starts(BTreeMap<String, Option<Start>>);

impl Starts {
    fn add(&mut self, name: &str, start: Start) {
        self.raise(name, start);
        // An instance starts its template.
        if let (Some((template, _)), Some((_, suffix))) =
            (name.split_once('@'), name.rsplit_once('.'))
        {
            self.raise(&format!("{template}@.{suffix}"), start);
        }
    }

    fn raise(&mut self, name: &str, start: Start) {
        if let Some(known) = self.0.get_mut(name) {
            *known = (*known).max(Some(start));
        }
    }
}

/// A line `KEY=VALUE` of a unit.
struct Setting<'t> {
    section: &'t str,
    key: &'t str,
    value: &'t str,
}

impl<'t> Setting<'t> {
    fn words(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let words = self.value.split_whitespace();
        words.filter(|word| word.len() <= MAX_NAME_BYTES)
    }
}

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let folder = match extension.subject.kind {
        ExtensionKind::Sysext => "usr/lib/systemd/system",
        ExtensionKind::Confext => "etc/systemd/system",
    };
    let mut starts = Starts(names_of_units(extension, folder));
    let mut enabled = Vec::new();
    let mut first = None;
    for entry in extension.below(folder) {
        if entry.kind == EntryKind::Directory {
            continue;
        }
        first = first.or(Some(&entry.path));
        if read_entry(extension, folder, entry, &mut starts)? {
            enabled.push(&entry.path);
        }
    }
    started_by_others(extension, &mut starts)?;
    if let (Some(path), Some(release)) = (first, &extension.release) {
        let reload = release.get("EXTENSION_RELOAD_MANAGER").unwrap_or_default();
        if !TRUE.contains(&reload.to_ascii_lowercase().as_str()) {
            let message = "is for systemd, which is not told to read it";
            findings.add(Code::ReloadMissing, path, message);
        }
    }
    // What starts a unit may not have been read.
    if extension.reach.is_cut_short() {
        return Ok(());
    }
    for path in enabled {
        match starts.0.get(lossy_name(path).as_ref()).copied().flatten() {
            None => {
                let message = "has [Install], but merging enables nothing and no link starts it";
                findings.add(Code::UnitNotStarted, path, message);
            }
            Some(Start::Wanted) => {
                let message = "is started only when its target is, which may have been before";
                findings.add(Code::UnitOnlyWanted, path, message);
            }
            Some(Start::Sure) => {}
        }
    }
    Ok(())
}

fn lossy_name(path: &EntryPath) -> Cow<'_, str> {
    String::from_utf8_lossy(name_of(path))
}

fn names_of_units(extension: &Extension<'_>, folder: &str) -> BTreeMap<String, Option<Start>> {
    let depth = folder.split('/').count() + 1;
    let names = extension
        .below(folder)
        .filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
        .filter(|entry| entry.path.components().count() == depth)
        .map(|entry| lossy_name(&entry.path).into_owned());
    names
        .filter(|name| is_unit(name))
        .map(|name| (name, None))
        .collect()
}

/// Reads a unit, a drop-in for one, or a link that starts one; whether it is a unit that is to be
/// enabled.
fn read_entry(
    extension: &Extension<'_>,
    folder: &str,
    entry: &Entry,
    starts: &mut Starts,
) -> Result<bool, FilesError> {
    let name = lossy_name(&entry.path);
    let parent = entry.path.split_last().map(|(parent, _)| parent);
    let parent = parent.filter(|parent| *parent != known(folder));
    let within = parent.as_ref().map(lossy_name);
    match (&entry.kind, within.as_deref()) {
        (_, Some(within)) if within.ends_with(".upholds") => starts.add(&name, Start::Sure),
        (_, Some(within)) if within.ends_with(".wants") || within.ends_with(".requires") => {
            starts.add(&name, Start::Wanted);
        }
        (EntryKind::File { .. }, Some(within)) if within.ends_with(".d") => {
            let text = read_text(extension, &entry.path)?;
            each_setting(&text, |setting| {
                let start = match setting.key {
                    "Upholds" => Start::Sure,
                    "Wants" | "Requires" | "BindsTo" => Start::Wanted,
                    _ => return,
                };
                setting.words().for_each(|unit| starts.add(unit, start));
            });
        }
        // An alias, by which D-Bus or another unit starts it.
        (EntryKind::Symlink { target }, None) => {
            let target = target
                .rsplit(|&byte| byte == b'/')
                .next()
                .unwrap_or_default();
            starts.add(&String::from_utf8_lossy(target), Start::Sure);
        }
        (EntryKind::File { .. }, None) if is_unit(&name) => {
            let text = read_text(extension, &entry.path)?;
            return Ok(read_unit(&name, &text, starts));
        }
        _ => {}
    }
    Ok(false)
}

/// Notes what a unit of the extension starts, for that is judged itself; whether it has `[Install]`.
fn read_unit(name: &str, text: &str, starts: &mut Starts) -> bool {
    let mut has_install = false;
    each_setting(text, |setting| {
        has_install |= setting.section == "Install" && setting.words().next().is_some();
        let starting = ["Upholds", "Wants", "Requires", "BindsTo", "Unit", "Service"];
        if starting.contains(&setting.key) {
            setting
                .words()
                .for_each(|unit| starts.add(unit, Start::Sure));
        }
    });
    for trigger in TRIGGERS {
        if let Some(stem) = name.strip_suffix(trigger) {
            starts.add(&format!("{stem}.service"), Start::Sure);
            // A socket with Accept=yes starts instances.
            starts.add(&format!("{stem}@.service"), Start::Sure);
        }
    }
    has_install
}

fn is_unit(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, suffix)| UNIT_TYPES.contains(&suffix))
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
            let text = read_text(extension, &entry.path)?;
            each_setting(&text, |setting| {
                if setting.key == "SystemdService" {
                    setting
                        .words()
                        .for_each(|unit| starts.add(unit, Start::Sure));
                }
            });
        }
    }
    Ok(())
}

fn read_text(extension: &Extension<'_>, path: &EntryPath) -> Result<String, FilesError> {
    let read = read_start(extension.subject.files, path, MAX_UNIT_BYTES).and_then(|bytes| {
        extension.reach.spend(bytes.len() / BYTES_OF_A_STEP)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_out_of_reach() => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Hands out the settings of a unit, one after the other. Lines that end in a backslash go on in the
/// next that is no comment, as in systemd's `config_parse()`.
fn each_setting(text: &str, mut act: impl FnMut(Setting<'_>)) {
    let mut section = String::new();
    let mut whole = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            whole += begun;
            whole.push(' ');
            continue;
        }
        whole += line;
        act_on(whole.trim(), &mut section, &mut act);
        whole.clear();
    }
    act_on(whole.trim(), &mut section, &mut act);
}

fn act_on(line: &str, section: &mut String, act: &mut impl FnMut(Setting<'_>)) {
    let name = line
        .strip_prefix('[')
        .and_then(|line| line.strip_suffix(']'));
    if let Some(name) = name {
        section.clear();
        if name.len() <= MAX_NAME_BYTES {
            section.push_str(name);
        }
    } else if let Some((key, value)) = line.split_once('=') {
        let key = key.trim_end();
        act(Setting {
            section,
            key,
            value,
        });
    }
}
