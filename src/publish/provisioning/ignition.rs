//! Ignition's JSON, and Butane's YAML, which says the same in other words.
//!
//! Formats: Ignition configuration specification 3.3.0, which Ignition 2.12 and later read; Butane's
//! Flatcar variant 1.0.0, which is translated to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::machine::{MODE, Machine};
use super::{Material, ProvisioningError, yaml};

const IGNITION: &str = "3.3.0";
const VARIANT: &str = "flatcar";
const VARIANT_VERSION: &str = "1.0.0";

/// An Ignition configuration.
pub fn ignition(material: &Material<'_>) -> Result<String, ProvisioningError> {
    let machine = Machine::fetching(material)?;
    let inline = |text: &str| json!({"source": format!("data:;base64,{}", STANDARD.encode(text))});
    let mut config = configuration(&machine, &inline);
    config["ignition"] = json!({"version": IGNITION});
    Ok(format!("{config:#}\n"))
}

/// A Butane configuration.
pub fn butane(material: &Material<'_>) -> Result<String, ProvisioningError> {
    let machine = Machine::fetching(material)?;
    let mut config = configuration(&machine, &|text| json!({"inline": text}));
    config["variant"] = VARIANT.into();
    config["version"] = VARIANT_VERSION.into();
    Ok(yaml::render(&material.comment(), &config))
}

fn configuration(machine: &Machine, inline: &dyn Fn(&str) -> Value) -> Value {
    let remote = machine.remote_files.iter().map(|file| {
        let verification = json!({"hash": format!("sha256-{}", file.sha256)});
        json!({
            "path": file.path,
            "mode": MODE,
            "contents": {"source": file.url, "verification": verification},
        })
    });
    let text = machine
        .text_files
        .iter()
        .map(|file| json!({"path": file.path, "mode": MODE, "contents": inline(&file.text)}));
    let links = machine
        .links
        .iter()
        .map(|link| json!({"path": link.path, "target": link.target, "hard": false}));
    let units = machine.units.iter().map(|unit| {
        let mut value = json!({"name": unit.name, "enabled": unit.enabled});
        if let Some(text) = &unit.text {
            value["contents"] = text.as_str().into();
        }
        value
    });
    json!({
        "storage": {
            "files": remote.chain(text).collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
        },
        "systemd": {"units": units.collect::<Vec<_>>()},
    })
}
