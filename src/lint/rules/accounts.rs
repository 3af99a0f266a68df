//! Files that belong to one host: accounts, identity, configuration that hosts write.

use crate::layer::{Entry, EntryKind};
use crate::lint::{Code, Extension, FilesError, Findings};

/// Where copies of `/etc` lie.
const ETC: [&[u8]; 3] = [b"etc/", b"usr/etc/", b"usr/share/factory/etc/"];
const ACCOUNTS: [&[u8]; 8] = [
    b"passwd",
    b"shadow",
    b"group",
    b"gshadow",
    b"passwd-",
    b"shadow-",
    b"group-",
    b"gshadow-",
];
const CONFIGURATION: [&[u8]; 9] = [
    b"resolv.conf",
    b"hostname",
    b"hosts",
    b"fstab",
    b"mtab",
    b"adjtime",
    b"ld.so.cache",
    b"crypttab",
    b"machine-info",
];

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    for entry in extension.leaves() {
        let path = entry.path.as_bytes();
        if let Some(name) = ETC.iter().find_map(|etc| path.strip_prefix(*etc)) {
            check_entry(entry, name, path.starts_with(b"etc/"), findings);
        } else if path.ends_with(b"/random-seed") {
            findings.add(
                Code::HostIdentity,
                &entry.path,
                "gives all hosts the same randomness",
            );
        }
    }
    Ok(())
}

/// `name` is the path within `/etc`, or within a copy of it that is not `in_use`.
fn check_entry(entry: &Entry, name: &[u8], in_use: bool, findings: &mut Findings) {
    let path = &entry.path;
    let is_file = matches!(entry.kind, EntryKind::File { .. });
    if ACCOUNTS.contains(&name) && in_use {
        let message = "takes the place of the host's users and groups";
        findings.add(Code::AccountDatabase, path, message);
    } else if is_file && name.windows(6).any(|part| part == b"shadow") && ACCOUNTS.contains(&name) {
        findings.add(Code::CredentialFile, path, "publishes hashes of passwords");
    } else if name == b"machine-id" && in_use {
        findings.add(
            Code::HostIdentity,
            path,
            "gives all hosts the same machine-id",
        );
    } else if is_host_key(name) {
        findings.add(Code::HostIdentity, path, "gives all hosts the same SSH key");
    } else if CONFIGURATION.contains(&name) && in_use {
        let message = "takes the place of a file that hosts write";
        findings.add(Code::HostConfiguration, path, message);
    }
}

fn is_host_key(name: &[u8]) -> bool {
    name.strip_prefix(b"ssh/ssh_host_")
        .is_some_and(|rest| rest.ends_with(b"_key"))
}
