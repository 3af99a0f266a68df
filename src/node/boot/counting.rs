//! Which sets of extensions a node came up with, so that one that keeps it from coming up is not
//! tried for ever. No clock is asked.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::report::write_json;
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::image::OutputError;
use crate::node::boot_state::BootState;
use crate::node::layout::Layout;
use crate::read_at::read_file;

const FILE: &str = "boot-count.json";
/// More than is ever noted.
const MAX_BYTES: u64 = 16 << 20;
/// Of so many sets failures are remembered, the latest ones.
const MAX_SETS: usize = 32;

/// One extension of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// What it extends.
    pub kind: ExtensionKind,
    /// The extension.
    pub name: String,
    /// Its content: the root hash, or the identity of a file that has none.
    pub content: String,
    /// The file in the store.
    pub file: String,
}

/// What is known of earlier boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootCount {
    /// The boot that was counted last, by the kernel's `boot_id`.
    #[serde(default)]
    boot_id: Option<String>,
    /// What was booted then.
    #[serde(default)]
    boot_state: Option<BootState>,
    /// What was linked then.
    #[serde(default)]
    linked: Vec<Member>,
    /// Whether it reached boot-complete.target.
    #[serde(default)]
    completed: bool,
    /// Sets that were linked since they last completed, the latest one last.
    #[serde(default)]
    tried: Vec<Tried>,
    /// The last set that completed in each boot state.
    #[serde(default)]
    good: BTreeMap<BootState, Vec<Member>>,
}

/// A set, and how often it was linked since it last completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tried {
    set: String,
    tries: u32,
}

/// What stands for a set: the same names with the same content are the same set.
pub fn identity(members: &[Member]) -> String {
    let mut lines: Vec<String> = members
        .iter()
        .map(|member| format!("{}\0{}\0{}\n", member.kind, member.name, member.content))
        .collect();
    lines.sort();
    Digest::of(lines.concat().as_bytes()).to_string()
}

impl BootCount {
    /// What is known. A file that cannot be understood says nothing, and why.
    ///
    /// # Errors
    /// What reading it gave, other than that it is missing.
    pub fn read(layout: &Layout) -> io::Result<BootCount> {
        match read_file(&layout.node_notes().join(FILE), MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BootCount::default()),
            Err(error) => Err(error),
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        }
    }

    /// Stores it durably.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn write(&self, layout: &Layout) -> Result<(), OutputError> {
        write_json(&layout.node_notes(), FILE, self).map(|_| ())
    }

    /// How often a set was linked in earlier boots since it last completed.
    pub fn tries(&self, members: &[Member], boot_id: Option<&str>) -> u32 {
        let set = identity(members);
        let tried = self.tried.iter().find(|tried| tried.set == set);
        let tries = tried.map_or(0, |tried| tried.tries);
        // This boot is not an earlier one.
        let now = self.is_of(boot_id) && identity(&self.linked) == set && !self.completed;
        tries.saturating_sub(u32::from(now))
    }

    /// The set that completed last when `state` was booted.
    pub fn good(&self, state: BootState) -> &[Member] {
        self.good.get(&state).map_or(&[], Vec::as_slice)
    }

    /// Notes that a set is about to be linked, and says how often it now was. The initrd and the
    /// host may both say so of one boot; then what the host links is what counts.
    pub fn begin(&mut self, boot_id: Option<&str>, state: BootState, members: &[Member]) -> u32 {
        let set = identity(members);
        if self.is_of(boot_id) {
            if !self.completed {
                self.count(&identity(&self.linked), |tries| tries.saturating_sub(1));
            }
        } else {
            self.completed = false;
        }
        let step = u32::from(!self.completed && !members.is_empty());
        let tries = self.count(&set, |tries| tries.saturating_add(step));
        self.boot_id = boot_id.map(str::to_owned);
        self.boot_state = Some(state);
        self.linked = members.to_vec();
        tries
    }

    /// Changes the count of a set, and says what it is then.
    fn count(&mut self, set: &str, change: impl FnOnce(u32) -> u32) -> u32 {
        let tries = match self.tried.iter().position(|tried| tried.set == set) {
            Some(position) => self.tried.remove(position).tries,
            None => 0,
        };
        let tries = change(tries);
        if tries > 0 {
            let set = set.to_owned();
            self.tried.push(Tried { set, tries });
            let surplus = self.tried.len().saturating_sub(MAX_SETS);
            self.tried.drain(..surplus);
        }
        tries
    }

    /// Notes that the boot that was counted last reached its end.
    pub fn complete(&mut self) {
        let set = identity(&self.linked);
        self.tried.retain(|tried| tried.set != set);
        self.completed = true;
        if let Some(state) = self.boot_state {
            self.good.insert(state, self.linked.clone());
        }
    }

    /// The files of all sets that completed last, and of the one that is linked now.
    pub fn files(&self) -> impl Iterator<Item = (ExtensionKind, &str)> {
        let good = self.good.values().flatten();
        let members = good.chain(&self.linked);
        members.map(|member| (member.kind, member.file.as_str()))
    }

    /// Gives every set that failed another chance.
    pub fn forget_failures(&mut self) {
        self.tried.clear();
    }

    /// What was linked at the boot that was counted last, if it is this one.
    pub fn linked(&self, boot_id: Option<&str>) -> Option<&[Member]> {
        self.is_of(boot_id).then_some(self.linked.as_slice())
    }

    fn is_of(&self, boot_id: Option<&str>) -> bool {
        boot_id.is_some() && self.boot_id.as_deref() == boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Vec<Member> {
        let members = names.iter().map(|name| Member {
            kind: ExtensionKind::Sysext,
            name: (*name).to_owned(),
            content: "00".to_owned(),
            file: format!("{name}.raw"),
        });
        members.collect()
    }

    const STATE: BootState = BootState::Plain;

    #[test]
    fn a_set_is_its_names_and_contents_in_any_order() {
        assert_eq!(identity(&set(&["a", "b"])), identity(&set(&["b", "a"])));
        assert_ne!(identity(&set(&["a"])), identity(&set(&["a", "b"])));
        let mut other = set(&["a"]);
        other[0].content = "01".to_owned();
        assert_ne!(identity(&set(&["a"])), identity(&other));
    }

    #[test]
    fn boots_without_an_end_are_counted_until_one_completes() {
        let mut count = BootCount::default();
        let a = set(&["a"]);
        assert_eq!(count.begin(Some("1"), STATE, &a), 1);
        assert_eq!(count.tries(&a, Some("2")), 1);
        assert_eq!(count.begin(Some("2"), STATE, &a), 2);
        assert_eq!(count.tries(&a, Some("3")), 2);
        count.complete();
        assert_eq!(count.tries(&a, Some("3")), 0);
        assert_eq!(count.good(STATE), a);
        assert_eq!(count.good(BootState::Passive), []);
    }

    #[test]
    fn the_initrd_and_the_host_count_one_boot_once() {
        let mut count = BootCount::default();
        let a = set(&["a"]);
        assert_eq!(count.begin(Some("1"), STATE, &a), 1);
        assert_eq!(count.tries(&a, Some("1")), 0);
        assert_eq!(count.begin(Some("1"), STATE, &a), 1);
        count.complete();
        assert_eq!(count.begin(Some("1"), STATE, &a), 0);
        assert_eq!(count.tries(&a, Some("2")), 0);
        // The initrd sees less than the host does, boot after boot.
        for boot in ["3", "4", "5"] {
            assert_eq!(count.begin(Some(boot), STATE, &a), 1);
            assert_eq!(count.begin(Some(boot), STATE, &set(&["a", "b"])), 1);
            count.complete();
        }
    }

    #[test]
    fn nothing_is_never_found_bad_and_memory_is_bounded() {
        let mut count = BootCount::default();
        for boot in 0..5 {
            count.begin(Some(&boot.to_string()), STATE, &[]);
        }
        assert_eq!(count.tries(&[], Some("x")), 0);
        for boot in 0..100 {
            let name = format!("n{boot}");
            count.begin(Some(&name), STATE, &set(&[&name]));
        }
        assert_eq!(count.tried.len(), MAX_SETS);
        assert_eq!(count.tries(&set(&["n99"]), Some("x")), 1);
    }
}
