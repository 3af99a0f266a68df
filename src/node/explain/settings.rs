//! How systemd is told to merge extensions on a node: the image policy and the hierarchies in its
//! units and configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::extension::ExtensionKind;
use crate::node::host::SystemdVersion;
use crate::node::layout::Layout;
use crate::read_at::read_file;

/// Where drop-ins lie, those with precedence first (systemd.unit(5)).
const FOLDERS: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];
/// A larger file is none of systemd's.
const MAX_BYTES: u64 = 1 << 20;
/// The first that has `ImagePolicy=` in a configuration file.
const CONFIGURED: SystemdVersion = SystemdVersion(259);
/// The first that takes `--image-policy=`.
const FIRST_POLICY: SystemdVersion = SystemdVersion(254);

/// How systemd is told to merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image policy; `None` for a systemd that takes none.
    pub policy: Option<Setting>,
    /// The folders that it overlays.
    pub hierarchies: Setting,
}

/// A value, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// The file, of the node; `None` for systemd's own default.
    pub origin: Option<PathBuf>,
}

impl Settings {
    /// What units and configuration of a node say; what cannot be read says nothing.
    pub fn read(layout: &Layout, kind: ExtensionKind, systemd: SystemdVersion) -> Settings {
        let (default_policy, default_hierarchies) = match kind {
            ExtensionKind::Sysext => (
                "root=verity+signed+encrypted+unprotected+absent:usr=verity+signed+encrypted+unprotected+absent",
                "/usr:/opt",
            ),
            ExtensionKind::Confext => ("root=verity+signed+encrypted+unprotected+absent", "/etc"),
        };
        let standard = |value: &str| Setting {
            value: value.to_owned(),
            origin: None,
        };
        let mut policy = standard(default_policy);
        let mut hierarchies = standard(default_hierarchies);
        if systemd >= CONFIGURED {
            let files = files(
                layout,
                &format!("systemd/{kind}.conf.d"),
                Some(&format!("systemd/{kind}.conf")),
            );
            read_assignments(layout, files, |key, value, origin| {
                if key == "ImagePolicy" {
                    policy = found(value, origin);
                }
            });
        }
        let unit = format!("systemd/system/systemd-{kind}.service");
        let variable = format!("SYSTEMD_{}_HIERARCHIES=", kind.as_str().to_uppercase());
        let files = files(layout, &format!("{unit}.d"), Some(&unit));
        let mut commanded = None;
        read_assignments(layout, files, |key, value, origin| match key {
            // The last command has the last word, and an empty value is none.
            "ExecStart" => commanded = policy_of(value).map(|policy| found(&policy, origin)),
            "Environment" if value.is_empty() => hierarchies = standard(default_hierarchies),
            "Environment" => {
                for word in words(value) {
                    if let Some(value) = word.strip_prefix(&variable) {
                        hierarchies = found(value, origin);
                    }
                }
            }
            _ => {}
        });
        let policy = commanded.unwrap_or(policy);
        Settings {
            policy: (systemd >= FIRST_POLICY).then_some(policy),
            hierarchies,
        }
    }

    /// The folders that are overlaid, without slashes around them.
    pub fn hierarchies(&self) -> Vec<&str> {
        let all = self.hierarchies.value.split(':');
        let all = all.map(|hierarchy| hierarchy.trim_matches('/'));
        all.filter(|hierarchy| !hierarchy.is_empty()).collect()
    }
}

/// The policy that a command names.
fn policy_of(command: &str) -> Option<String> {
    let words = words(command);
    let after = |(at, word): (usize, &String)| match word.strip_prefix("--image-policy")? {
        "" => words.get(at + 1).cloned(),
        value => value.strip_prefix('=').map(str::to_owned),
    };
    words.iter().enumerate().rev().find_map(after)
}

/// The words of a value, without quotes (systemd.syntax(7)).
fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in value.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn found(value: &str, origin: &std::path::Path) -> Setting {
    Setting {
        value: value.to_owned(),
        origin: Some(origin.to_path_buf()),
    }
}

/// The files that make up a unit or configuration, the one that has the last word last.
fn files(layout: &Layout, drop_ins: &str, main: Option<&str>) -> Vec<PathBuf> {
    let mut by_name: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for base in FOLDERS {
        let folder = PathBuf::from(base).join(drop_ins);
        let entries = layout.open_path(&folder).read_dir();
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let path = folder.join(&name);
            if path.extension().is_some_and(|suffix| suffix == "conf") {
                by_name.entry(name).or_insert(path);
            }
        }
    }
    let main = main.and_then(|main| {
        let mut candidates = FOLDERS.iter().map(|base| PathBuf::from(base).join(main));
        candidates.find(|path| layout.open_path(path).exists())
    });
    main.into_iter().chain(by_name.into_values()).collect()
}

fn read_assignments(
    layout: &Layout,
    files: Vec<PathBuf>,
    mut take: impl FnMut(&str, &str, &std::path::Path),
) {
    for file in files {
        let bytes = read_file(&layout.open_path(&file), MAX_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            take(key.trim(), value.trim(), &file);
        }
    }
}
