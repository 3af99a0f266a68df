//! Kernel modules and their indexes.

use std::collections::BTreeMap;

use crate::layer::EntryPath;
use crate::lint::extension::name_of;
use crate::lint::{Code, Extension, FilesError, Findings};

/// What depmod(8) writes.
const INDEXES: [&[u8]; 9] = [
    b"modules.dep",
    b"modules.dep.bin",
    b"modules.alias",
    b"modules.alias.bin",
    b"modules.symbols",
    b"modules.symbols.bin",
    b"modules.softdep",
    b"modules.devname",
    b"modules.weakdep",
];
const MODULES: [&[u8]; 4] = [b".ko", b".ko.xz", b".ko.gz", b".ko.zst"];

/// What lies in the folder of one version of the kernel.
#[derive(Default)]
struct Found {
    indexes: u64,
    modules: u64,
}

pub(super) fn check(extension: &Extension<'_>, findings: &mut Findings) -> Result<(), FilesError> {
    let unbound = extension.release.as_ref().is_some_and(|release| {
        let any = release.get("ID") == Some("_any");
        let version = release.get("VERSION_ID").or(release.get("SYSEXT_LEVEL"));
        any || version.is_none()
    });
    for (folder, found) in versions(extension) {
        if found.indexes > 0 {
            let message = format!(
                "has {} indexes of depmod, which hide the host's",
                found.indexes
            );
            findings.add(Code::ModulesIndex, &folder, message);
        }
        if found.modules > 0 && unbound {
            let message = format!(
                "has {} kernel modules, but the extension is merged on every version of the host",
                found.modules
            );
            findings.add(Code::ModulesUnbound, &folder, message);
        }
    }
    Ok(())
}

fn versions(extension: &Extension<'_>) -> BTreeMap<EntryPath, Found> {
    let mut versions: BTreeMap<EntryPath, Found> = BTreeMap::new();
    let mut version: Option<EntryPath> = None;
    for entry in extension.below("usr/lib/modules") {
        if entry.path.components().count() == 4 {
            version = Some(entry.path.clone());
            continue;
        }
        let Some(folder) = &version else { continue };
        let name = name_of(&entry.path);
        let found = versions.entry(folder.clone()).or_default();
        found.indexes += u64::from(INDEXES.contains(&name));
        found.modules += u64::from(MODULES.iter().any(|suffix| name.ends_with(suffix)));
    }
    versions
}
