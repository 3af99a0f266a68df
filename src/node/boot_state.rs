//! Which system of a Kairos node is running.

use std::fs;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::profile::Profile;
use crate::read_at::read_file;

/// What was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootState {
    /// The system that is in use.
    Active,
    /// The one before.
    Passive,
    /// The one for repairs, which also resets a node.
    Recovery,
    /// An installation medium.
    Live,
    /// A host without boot states.
    Plain,
}

/// Where Kairos notes what was booted (kairos-sdk, `state/state.go`).
const SENTINELS: [(&str, BootState); 5] = [
    ("/run/cos/active_mode", BootState::Active),
    ("/run/cos/passive_mode", BootState::Passive),
    ("/run/cos/recovery_mode", BootState::Recovery),
    ("/run/cos/autoreset_mode", BootState::Recovery),
    ("/run/cos/live_mode", BootState::Live),
];

/// What a word of the kernel command line holds if that was booted, in the order in which Kairos
/// looks for them (kairos-sdk, `state/state.go`). A system in memory is an active one.
const PARTS_OF_WORDS: [(&str, BootState); 8] = [
    ("kairos.ram", BootState::Active),
    ("kairos.reset", BootState::Recovery),
    ("COS_ACTIVE", BootState::Active),
    ("COS_PASSIVE", BootState::Passive),
    ("COS_RECOVERY", BootState::Recovery),
    ("COS_SYSTEM", BootState::Recovery),
    ("live:LABEL", BootState::Live),
    ("live:CDLABEL", BootState::Live),
];

/// The same for whole words, which might be part of a host name.
const WORDS: [(&str, BootState); 2] = [
    ("recovery-mode", BootState::Recovery),
    ("netboot", BootState::Live),
];

/// The entry that systemd-boot started (systemd.io/BOOT_LOADER_INTERFACE).
const SELECTED_ENTRY: &str =
    "/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// How the entries of Kairos begin.
const ENTRIES: [(&str, BootState); 4] = [
    ("active", BootState::Active),
    ("passive", BootState::Passive),
    ("recovery", BootState::Recovery),
    ("statereset", BootState::Recovery),
];

/// More than any kernel takes as its command line, and than any name of an entry has.
const MAX_BYTES: u64 = 1 << 16;
/// The attributes, which efivarfs shows before the content of a variable.
const ATTRIBUTES_BYTES: usize = 4;

impl BootState {
    /// What was booted: what Kairos notes, else what the kernel command line says, else the boot
    /// loader's entry.
    pub fn of(layout: &Layout) -> BootState {
        SENTINELS
            .into_iter()
            .find(|(path, _)| layout.open_path(path).exists())
            .map(|(_, state)| state)
            .or_else(|| {
                let line = fs::read_to_string(layout.open_path("/proc/cmdline")).ok()?;
                BootState::of_command_line(&line)
            })
            .or_else(|| {
                let variable = read_file(&layout.open_path(SELECTED_ENTRY), MAX_BYTES).ok()?;
                BootState::of_entry(variable.get(ATTRIBUTES_BYTES..)?)
            })
            .unwrap_or(BootState::Plain)
    }

    fn of_command_line(line: &str) -> Option<BootState> {
        let has_part = |part: &str| line.split_whitespace().any(|word| word.contains(part));
        let has_word = |wanted: &str| line.split_whitespace().any(|word| word == wanted);
        let mut parts = PARTS_OF_WORDS.into_iter();
        parts
            .find(|(part, _)| has_part(part))
            .or_else(|| WORDS.into_iter().find(|(word, _)| has_word(word)))
            .map(|(_, state)| state)
    }

    /// By the entry's name, which is UTF-16 in little endian.
    fn of_entry(name: &[u8]) -> Option<BootState> {
        let units = name.chunks_exact(2).map(|unit| [unit[0], unit[1]]);
        let name: Vec<u16> = units.map(u16::from_le_bytes).collect();
        let name = String::from_utf16_lossy(&name).to_ascii_lowercase();
        let mut entries = ENTRIES.into_iter();
        entries
            .find(|(prefix, _)| name.starts_with(prefix))
            .map(|(_, state)| state)
    }

    /// As it stands in JSON and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            BootState::Active => "active",
            BootState::Passive => "passive",
            BootState::Recovery => "recovery",
            BootState::Live => "live",
            BootState::Plain => "plain",
        }
    }

    /// The profiles whose extensions are merged, those of the boot state first.
    pub fn profiles(self) -> &'static [Profile] {
        match self {
            BootState::Active => &[Profile::Active, Profile::Common],
            BootState::Passive => &[Profile::Passive, Profile::Common],
            BootState::Recovery => &[Profile::Recovery, Profile::Common],
            BootState::Live => &[],
            BootState::Plain => &[Profile::Common],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::node::layout::DEFAULT_STATE_DIR;

    fn state(files: &[(&str, &[u8])]) -> BootState {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(Path::new(path).strip_prefix("/").unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        BootState::of(&Layout::new(root.path(), DEFAULT_STATE_DIR))
    }

    fn entry(name: &str) -> Vec<u8> {
        let units = name.encode_utf16().chain([0]);
        let mut variable = vec![6, 0, 0, 0];
        variable.extend(units.flat_map(u16::to_le_bytes));
        variable
    }

    #[test]
    fn a_host_that_says_nothing_is_plain() {
        assert_eq!(state(&[]), BootState::Plain);
        let line = b"root=UUID=1 quiet systemd.hostname=netboot-recovery-mode";
        assert_eq!(state(&[("/proc/cmdline", line)]), BootState::Plain);
    }

    #[test]
    fn the_command_line_tells_the_state() {
        for (line, expected) in [
            (
                "root=LABEL=COS_ACTIVE cos-img/filename=/cOS/active.img",
                BootState::Active,
            ),
            ("root=LABEL=COS_PASSIVE", BootState::Passive),
            ("root=LABEL=COS_SYSTEM", BootState::Recovery),
            ("root=LABEL=COS_RECOVERY", BootState::Recovery),
            ("quiet recovery-mode", BootState::Recovery),
            ("root=LABEL=COS_RECOVERY kairos.reset", BootState::Recovery),
            ("root=live:CDLABEL=COS_LIVE rd.live.dir=/", BootState::Live),
            ("rd.neednet=1 netboot", BootState::Live),
            (
                "kairos.ram netboot root=live:LABEL=COS_LIVE",
                BootState::Active,
            ),
        ] {
            let found = state(&[("/proc/cmdline", line.as_bytes())]);
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn the_entry_of_the_boot_loader_tells_the_state() {
        for (name, expected) in [
            ("active.conf", BootState::Active),
            ("passive+2.conf", BootState::Passive),
            ("Recovery.efi", BootState::Recovery),
            ("statereset.conf", BootState::Recovery),
            ("debian-6.12.conf", BootState::Plain),
            ("", BootState::Plain),
        ] {
            assert_eq!(state(&[(SELECTED_ENTRY, &entry(name))]), expected, "{name}");
        }
        assert_eq!(state(&[(SELECTED_ENTRY, b"\x06\0")]), BootState::Plain);
    }

    #[test]
    fn what_kairos_notes_goes_before_the_rest() {
        let passive: (&str, &[u8]) = ("/run/cos/passive_mode", b"1");
        let line: (&str, &[u8]) = ("/proc/cmdline", b"COS_ACTIVE");
        let recovery = entry("recovery.conf");
        let loader: (&str, &[u8]) = (SELECTED_ENTRY, &recovery);
        assert_eq!(state(&[passive, line, loader]), BootState::Passive);
        assert_eq!(state(&[line, loader]), BootState::Active);
    }
}
