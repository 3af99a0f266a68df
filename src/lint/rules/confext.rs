//! What does not work in a configuration extension, or only after a step on the host.

use std::collections::HashSet;

use crate::extension::ExtensionKind;
use crate::layer::EntryKind;
use crate::lint::{Code, Extension, FilesError, Findings};

/// Folders whose files are read before an extension is merged, and what reads them again.
const STEPS: [(&str, &str); 10] = [
    ("usr/share/dbus-1/system.d", "systemctl reload dbus"),
    ("etc/dbus-1/system.d", "systemctl reload dbus"),
    ("usr/lib/udev/rules.d", "udevadm control --reload"),
    ("etc/udev/rules.d", "udevadm control --reload"),
    ("usr/lib/sysusers.d", "systemd-sysusers"),
    ("usr/lib/tmpfiles.d", "systemd-tmpfiles --create"),
    ("usr/lib/sysctl.d", "systemctl restart systemd-sysctl"),
    ("etc/sysctl.d", "systemctl restart systemd-sysctl"),
    (
        "usr/lib/modules-load.d",
        "systemctl restart systemd-modules-load",
    ),
    ("etc/ld.so.conf.d", "ldconfig"),
];

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let mut told = HashSet::new();
    for (folder, step) in STEPS {
        let mut files = extension.below(folder);
        let Some(file) = files.find(|entry| entry.kind != EntryKind::Directory) else {
            continue;
        };
        if told.insert(folder) {
            let message = format!("takes effect with `{step}`, unless it is merged early at boot");
            findings.add(Code::HostStepNeeded, &file.path, message);
        }
    }
    if extension.subject.kind == ExtensionKind::Confext {
        for entry in extension.leaves() {
            if matches!(entry.kind, EntryKind::File { .. }) && entry.mode & 0o111 != 0 {
                let message = format!("has mode {:04o}, but cannot be run", entry.mode);
                findings.add(Code::ExecutableInConfext, &entry.path, message);
            }
        }
    }
    Ok(())
}
