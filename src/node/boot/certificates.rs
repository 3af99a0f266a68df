//! The firmware's certificates, where systemd looks for those that it trusts.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use openssl::x509::X509;

use super::candidates::sentence;
use super::report::Report;
use crate::image::Output;
use crate::node::Node;
use crate::signature::Certificate;

const FOLDER: &str = "/run/verity.d";
/// How the names of our files begin.
const PREFIX: &str = "sysgraft-";
const SUFFIX: &str = ".crt";
/// So many digits of the fingerprint make a name.
const DIGITS: usize = 32;

/// Writes certificates into `/run/verity.d`, each under a name that is always the same, and removes
/// those that this program wrote before and that are no longer trusted.
pub fn publish(node: &Node, certificates: &[Certificate], report: &mut Report) {
    let folder = node.layout.open_path(FOLDER);
    let mut wanted = BTreeMap::new();
    for certificate in certificates {
        let digits = &certificate.fingerprint().hex()[..DIGITS];
        wanted.insert(format!("{PREFIX}{digits}{SUFFIX}"), certificate);
    }
    for name in stale(&folder, &wanted) {
        if let Err(error) = fs::remove_file(folder.join(&name)) {
            report.note(format!("cannot remove {FOLDER}/{name}: {error}"));
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
}

fn stale(folder: &Path, wanted: &BTreeMap<String, &Certificate>) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
        .filter(|name| !wanted.contains_key(name))
        .collect()
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
