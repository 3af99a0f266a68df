//! Plans of Rancher's system-upgrade-controller, with which a cluster's nodes get a version one after
//! the other.

use serde_json::json;

use super::{Material, ProvisioningError, yaml};
use crate::publish::edition::Edition;
use crate::publish::registry::tag_of;

/// Something with nsenter; the work is done by the node's own sysgraft-agent.
const CONTAINER: &str = "docker.io/library/busybox:1.37.0";
/// Into the mounts of the node, whose processes the controller lets its pods see. A chroot to its root
/// folder would not do: what systemd merges there does not appear in the pod's copy of the mounts.
const ENTER: [&str; 5] = ["nsenter", "-t", "1", "-m", "--"];
const NAMESPACE: &str = "system-upgrade";
/// Before the name of an extension, the label of nodes that have it enabled: on others its upgrade fails,
/// which would stop the plan for all.
const LABEL: &str = "extensions/";
/// Longer names are no labels.
const MAX_NAME_BYTES: usize = 63;

/// A plan for each image.
pub fn plans(material: &Material<'_>) -> Result<String, ProvisioningError> {
    let plans: Vec<String> = material
        .editions
        .iter()
        .map(|edition| plan(material, edition))
        .collect::<Result<_, _>>()?;
    let comment: String = material
        .comment()
        .iter()
        .map(|line| format!("# {line}\n"))
        .collect();
    Ok(comment + &plans.join("---\n"))
}

fn plan(material: &Material<'_>, edition: &Edition) -> Result<String, ProvisioningError> {
    let kind = edition.kind.as_str();
    let mut arguments = vec![
        "sysgraft-agent".to_owned(),
        kind.to_owned(),
        "upgrade".to_owned(),
    ];
    match (material.pinned(edition), material.base_url) {
        (Some(image), _) => arguments.push(format!("oci:{image}")),
        (None, Some(base_url)) => arguments.extend([
            base_url.join(&edition.file_name()),
            "--sha256".to_owned(),
            edition.digest.hex(),
        ]),
        (None, None) => return Err(ProvisioningError::NoLocation),
    }
    arguments.extend(["--version".to_owned(), edition.version.to_string()]);
    let architecture = edition.architecture;
    let architecture = architecture
        .oci_name()
        .unwrap_or(architecture.systemd_name());
    let is = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    let plan = json!({
        "apiVersion": "upgrade.cattle.io/v1",
        "kind": "Plan",
        "metadata": {
            "name": label(&format!("{}-{kind}-{architecture}", edition.name)),
            "namespace": NAMESPACE,
        },
        "spec": {
            "concurrency": 1,
            "nodeSelector": {"matchExpressions": [
                is("kubernetes.io/os", "linux"),
                is("kubernetes.io/arch", architecture),
                {"key": format!("{LABEL}{}", label(edition.name.as_str())), "operator": "Exists"},
            ]},
            "serviceAccountName": NAMESPACE,
            "version": tag_of(&edition.version),
            "upgrade": {
                "image": CONTAINER,
                "command": ENTER,
                "args": arguments,
            },
        },
    });
    Ok(yaml::render(&[], &plan))
}

/// A name as Kubernetes takes it (RFC 1123).
fn label(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = text.to_ascii_lowercase().chars().map(allowed).collect();
    let name = name.trim_matches('-');
    let name = name.get(..MAX_NAME_BYTES).unwrap_or(name);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        assert_eq!(label("K3s.agent-sysext-amd64"), "k3s-agent-sysext-amd64");
        assert_eq!(label(&"a.".repeat(40)).len(), 63);
    }
}
