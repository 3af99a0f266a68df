//! The certificates that count, where systemd looks for those that it trusts.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::x509::X509;

use super::report::Report;
use crate::image::Output;
use crate::node::Node;
use crate::node::firmware::{Firmware, Standing};
use crate::node::policy::{COPIES as FOLDER, Policy, is_trusted_boot};
use crate::printable::{printable, sentence};
use crate::signature::Certificate;
use crate::signature::trust::TrustStore;

/// How the names of our files begin.
const PREFIX: &str = "sysgraft-";
const SUFFIX: &str = ".crt";
/// So many digits of the fingerprint make a name.
const DIGITS: usize = 32;

/// Removes from `/run/verity.d` what this program wrote there before, which may no longer count, and
/// under Trusted Boot what others copied out of the firmware that may not vouch for extensions.
pub fn withdraw(node: &Node, report: &mut Report) {
    let configuration = &node.configuration;
    let firmware = if is_trusted_boot(&node.layout, configuration.trusted_boot) {
        Firmware::read(&node.layout, &configuration.trust)
    } else {
        Firmware::default()
    };
    for path in files(&node.layout.open_path(FOLDER)) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let shown = format!("{FOLDER}/{}", printable(name));
        let objection = if name.starts_with(PREFIX.as_bytes()) {
            None
        } else {
            let Some(standing) = objection(&firmware, &path) else {
                continue;
            };
            Some(format!("{shown} is removed: the certificate {standing}"))
        };
        match fs::remove_file(&path) {
            Ok(()) => report.notes.extend(objection),
            Err(error) => report.note(format!("cannot remove {shown}: {error}")),
        }
    }
}

fn objection(firmware: &Firmware, path: &Path) -> Option<Standing> {
    let mut content = TrustStore::new();
    content.load_file(path).ok()?;
    firmware.objection(&content.certificates().first()?.certificate)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| {
            path.as_os_str()
                .as_encoded_bytes()
                .ends_with(SUFFIX.as_bytes())
        })
        .collect();
    paths.sort();
    paths
}

/// Writes every certificate that counts into `/run/verity.d` that systemd would not find otherwise,
/// each under a name that is always the same.
pub fn publish(node: &Node, policy: &mut Policy, report: &mut Report) {
    let folder = node.layout.open_path(FOLDER);
    let mut wanted = BTreeMap::new();
    for trusted in policy.trust().certificates() {
        let fingerprint = trusted.certificate.fingerprint();
        if !policy.is_seen_by_systemd(&fingerprint) {
            let digits = &fingerprint.hex()[..DIGITS];
            wanted.insert(format!("{PREFIX}{digits}{SUFFIX}"), &trusted.certificate);
        }
    }
    for (name, certificate) in wanted {
        match write(&folder, &name, certificate) {
            Ok(()) => report.certificates.push(format!("{FOLDER}/{name}")),
            Err(problem) => report.note(format!(
                "systemd cannot be given the certificate {}: {problem}",
                certificate.subject()
            )),
        }
    }
    policy.look_for_systemd(&node.layout);
}

fn write(folder: &Path, name: &str, certificate: &Certificate) -> Result<(), String> {
    let io = |error: io::Error| error.to_string();
    let pem = X509::from_der(certificate.der()).and_then(|certificate| certificate.to_pem());
    let pem = pem.map_err(|error| error.to_string())?;
    fs::create_dir_all(folder).map_err(io)?;
    let output = Output::create(folder, name).map_err(|error| sentence(&error))?;
    output.file().write_all(&pem).map_err(io)?;
    // systemd reads it as root, but others may want to check an image too.
    let readable = output.file().set_permissions(Permissions::from_mode(0o644));
    readable.map_err(io)?;
    output.commit().map_err(|error| sentence(&error))?;
    Ok(())
}
