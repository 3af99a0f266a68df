//! `/run/sysgraft/boot.json`: what was done at boot, and why not more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::extension::ExtensionKind;
use crate::image::{Output, OutputError};
use crate::node::boot_state::BootState;
use crate::node::layout::Layout;
use crate::node::profile::Profile;
use crate::read_at::read_file;

const FILE: &str = "boot.json";
/// Reports of real nodes have a few thousand bytes.
const MAX_BYTES: u64 = 16 << 20;

/// What was done at boot. Its JSON form is for people and programs to read; fields may be added.
///
/// ```json
/// {
///   "bootState": "active",
///   "bootId": "6e9b…",
///   "trustedBoot": true,
///   "signaturesRequired": true,
///   "linked": [{"kind": "sysext", "name": "k3s", "file": "k3s_1.30.sysext.raw", "profile": "active",
///               "link": "/run/extensions/k3s.sysext.raw", "rootHash": "41…", "signer": "CN=db"}],
///   "leftOut": [{"kind": "sysext", "file": "old.sysext.raw", "name": "old", "reason": "…"}],
///   "takenOver": [{"kind": "sysext", "file": "fw.sysext.raw", "profile": "active", "from": "/efi/…"}],
///   "certificates": ["/run/verity.d/sysgraft-0f….crt"],
///   "masks": ["/run/extensions/demo"],
///   "imagePolicy": {"sysext": {"policy": "root=signed+absent:usr=absent", "reason": "…"}},
///   "counting": {"set": "sha256:…", "tries": 1, "leftOutSet": null},
///   "notes": ["…"]
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was booted.
    pub boot_state: BootState,
    /// Which boot this is about, by the kernel's `boot_id`.
    pub boot_id: Option<String>,
    /// Whether firmware checks signatures, so that extensions need them too.
    pub trusted_boot: bool,
    /// Whether unsigned extensions are left out.
    pub signatures_required: bool,
    /// What systemd is given to merge.
    pub linked: Vec<Linked>,
    /// What it is not given, and what it had better not find.
    pub left_out: Vec<LeftOut>,
    /// What was brought in from the EFI system partition.
    pub taken_over: Vec<TakenOver>,
    /// Certificates that systemd was given, as paths of the node.
    pub certificates: Vec<String>,
    /// Empty folders that hide images which would block all others, as paths of the node.
    #[serde(default)]
    pub masks: Vec<PathBuf>,
    /// What systemd demands of images.
    pub image_policy: BTreeMap<ExtensionKind, ImagePolicy>,
    /// How often this set of extensions was booted; nothing where boots cannot be counted.
    pub counting: Option<Counting>,
    /// What went wrong otherwise, and what else should be known.
    pub notes: Vec<String>,
}

/// An image that is linked where systemd looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linked {
    /// What it extends.
    pub kind: ExtensionKind,
    /// The extension.
    pub name: String,
    /// The file in the store.
    pub file: String,
    /// The profile that asked for it; none where it stands in for a set that failed.
    pub profile: Option<Profile>,
    /// The link, as a path of the node.
    pub link: PathBuf,
    /// The hash that stands for its data.
    pub root_hash: Option<String>,
    /// The subject of the trusted certificate; nothing if it is unsigned.
    pub signer: Option<String>,
}

/// An image that is not merged, or stands in the way of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// What it would extend.
    pub kind: ExtensionKind,
    /// Its file name, or its path where it does not lie in the store. Printable.
    pub file: String,
    /// The extension, as far as it is known.
    pub name: Option<String>,
    /// One sentence.
    pub reason: String,
}

/// An image that was moved into the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakenOver {
    /// What it extends.
    pub kind: ExtensionKind,
    /// Its file name.
    pub file: String,
    /// The profile for which it was enabled.
    pub profile: Profile,
    /// Where it was found, as a path of the node.
    pub from: PathBuf,
}

/// What systemd demands of the images of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePolicy {
    /// The policy that it is given; nothing where its own stays.
    pub policy: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}

/// How often a set of extensions was booted without an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counting {
    /// The set that is linked.
    pub set: String,
    /// How often it was, this time included, since it last reached boot-complete.target.
    pub tries: u32,
    /// The set that was to be linked, if it failed too often.
    pub left_out_set: Option<String>,
}

impl Report {
    /// A report of nothing.
    pub fn new(boot_state: BootState) -> Report {
        Report {
            boot_state,
            boot_id: None,
            trusted_boot: false,
            signatures_required: false,
            linked: Vec::new(),
            left_out: Vec::new(),
            taken_over: Vec::new(),
            certificates: Vec::new(),
            masks: Vec::new(),
            image_policy: BTreeMap::new(),
            counting: None,
            notes: Vec::new(),
        }
    }

    /// What was done at the boot that is running; `None` if nothing was.
    ///
    /// # Errors
    /// Where the report cannot be read or is none.
    pub fn read(layout: &Layout) -> io::Result<Option<Report>> {
        match read_file(&layout.run().join(FILE), MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        }
    }

    /// Puts the report where people and programs look.
    ///
    /// # Errors
    /// [`OutputError`].
    pub(super) fn write(&self, layout: &Layout) -> Result<PathBuf, OutputError> {
        write_json(&layout.run(), FILE, self)
    }

    pub(super) fn leave_out(
        &mut self,
        kind: ExtensionKind,
        file: impl Into<String>,
        name: Option<String>,
        reason: impl ToString,
    ) {
        self.left_out.push(LeftOut {
            kind,
            file: file.into(),
            name,
            reason: reason.to_string(),
        });
    }

    pub(super) fn note(&mut self, note: impl ToString) {
        self.notes.push(note.to_string());
    }
}

/// Stores `value` as a file of JSON that appears only when it is complete.
pub(super) fn write_json<T: Serialize>(
    folder: &Path,
    name: &str,
    value: &T,
) -> Result<PathBuf, OutputError> {
    let failed = |source| OutputError::Create {
        path: folder.join(name),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    let output = Output::create(folder, name)?;
    output.file().write_all(&bytes).map_err(failed)?;
    output.commit()
}
