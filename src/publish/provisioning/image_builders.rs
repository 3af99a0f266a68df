//! Fragments for programs that build whole operating systems: Prism (Azure Linux Image Customizer) and
//! mkosi. Both take the image from where it lies now.

use std::fmt::Write;

use serde_json::{Value, json};

use super::machine::{MODE, merging_units};
use super::{Material, yaml};
use crate::extension::ExtensionKind;
use crate::publish::edition::Edition;

/// Where the system finds the image, under the name that its release file demands.
fn destination(edition: &Edition) -> String {
    let folder = match edition.kind {
        ExtensionKind::Sysext => "/var/lib/extensions",
        ExtensionKind::Confext => "/var/lib/confexts",
    };
    format!("{folder}/{}.raw", edition.name)
}

/// A fragment of Prism's configuration.
pub fn prism(material: &Material<'_>) -> String {
    let permissions = format!("{MODE:o}");
    let images = material.editions.iter().map(|edition| {
        json!({
            "source": edition.path,
            "destination": destination(edition),
            "permissions": permissions,
        })
    });
    let certificate = material.certificate_file().map(|file| {
        json!({
            "content": file.text,
            "destination": file.path,
            "permissions": permissions,
        })
    });
    let files: Vec<Value> = images.chain(certificate).collect();
    let units = merging_units(material.editions);
    let units: Vec<&str> = units
        .iter()
        .map(|unit| unit.name.trim_end_matches(".service"))
        .collect();
    let config = json!({"os": {"additionalFiles": files, "services": {"enable": units}}});
    yaml::render(&material.comment(), &config)
}

/// A fragment of mkosi.conf, and the certificate as a comment, for mkosi takes files only.
pub fn mkosi(material: &Material<'_>) -> String {
    let mut text = String::new();
    for line in material.comment() {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# {line}");
    }
    text.push_str("[Content]\nExtraTrees=\n");
    for edition in material.editions {
        let _ = writeln!(
            text,
            "    {}:{}",
            edition.path.display(),
            destination(edition)
        );
    }
    if let (Some(file), Some(source)) = (material.certificate_file(), material.certificate_path) {
        let _ = writeln!(text, "    {}:{}", source.display(), file.path);
    }
    text
}
