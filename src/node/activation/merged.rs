//! What systemd has merged.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use super::command::run;
use super::{manager_runs, refresh};
use crate::extension::ExtensionKind;
use crate::node::Node;
use crate::read_at::read_file;

/// systemd only reads a few small files for its answer.
const LIMIT: Duration = Duration::from_secs(20);
/// Of a list of names, in bytes.
const MAX_MARKER: u64 = 1 << 20;

/// The extensions that are merged, by the names that systemd gives them. Needs no rights.
///
/// systemd is asked; where it does not answer, and in trees other than this host, the lists count
/// that it leaves in what it has merged.
pub fn merged(node: &Node, kind: ExtensionKind) -> BTreeSet<String> {
    let told = if node.layout.is_this_host() {
        status(node, kind)
    } else {
        None
    };
    told.unwrap_or_else(|| listed(node, kind))
}

/// What `systemd-sysext status` tells; `None` if it tells nothing.
fn status(node: &Node, kind: ExtensionKind) -> Option<BTreeSet<String>> {
    let mut command = Command::new(format!("systemd-{kind}"));
    command.args(["status", "--json=short"]);
    if manager_runs(&node.layout) {
        refresh::pass_hierarchies(&mut command, kind);
    }
    let ended = run(&mut command, LIMIT).ok()?;
    if ended.succeeded() {
        parse(&ended.stdout)
    } else {
        None
    }
}

/// One line of the status. `extensions` is a list, or up to systemd 261 the text `none`.
#[derive(Deserialize)]
struct Hierarchy {
    extensions: serde_json::Value,
}

fn parse(json: &[u8]) -> Option<BTreeSet<String>> {
    let hierarchies: Vec<Hierarchy> = serde_json::from_slice(json).ok()?;
    let names = hierarchies
        .iter()
        .filter_map(|hierarchy| hierarchy.extensions.as_array())
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned));
    Some(names.collect())
}

/// The lists in the merged folders: `.systemd-sysext/extensions`, one name per line
/// (systemd's `src/sysext/sysext.c`). Later versions call that of confexts `confexts`.
fn listed(node: &Node, kind: ExtensionKind) -> BTreeSet<String> {
    let hierarchies: &[&str] = match kind {
        ExtensionKind::Sysext => &["/usr", "/opt"],
        ExtensionKind::Confext => &["/etc"],
    };
    let mut names = BTreeSet::new();
    for hierarchy in hierarchies {
        for list in ["extensions", "confexts"] {
            let path = format!("{hierarchy}/.systemd-{kind}/{list}");
            let Ok(bytes) = read_file(&node.layout.open_path(path), MAX_MARKER) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            names.extend(text.lines().map(str::to_owned));
        }
    }
    names.remove("");
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_version_prints_is_understood() {
        let cases: [(&[u8], Option<&[&str]>); 5] = [
            (
                br#"[{"hierarchy":"/opt","extensions":"none","since":null},{"hierarchy":"/usr","extensions":["b","a"],"since":1700000000000000}]"#,
                Some(&["a", "b"]),
            ),
            (
                br#"[{"hierarchy":"/usr","extensions":[],"since":null}]"#,
                Some(&[]),
            ),
            (
                br#"[{"hierarchy":"/opt","extensions":["a"]},{"hierarchy":"/usr","extensions":["a"]}]"#,
                Some(&["a"]),
            ),
            (b"HIERARCHY EXTENSIONS SINCE", None),
            (b"", None),
        ];
        for (json, names) in cases {
            let expected = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
            assert_eq!(parse(json), expected);
        }
    }
}
