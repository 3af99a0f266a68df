//! Kairos' cloud-config: extensions that the installer brings in.

use serde_json::json;

use super::machine::MODE;
use super::{Material, ProvisioningError, yaml};

/// A cloud-config. The images come from the registry, pinned by digest, or else from the feed.
pub fn cloud_config(material: &Material<'_>) -> Result<String, ProvisioningError> {
    let mut extensions = Vec::new();
    for edition in material.editions {
        extensions.push(match (material.pinned(edition), material.base_url) {
            (Some(image), _) => format!("oci://{image}"),
            (None, Some(base_url)) => base_url.join(&edition.file_name()),
            (None, None) => return Err(ProvisioningError::NoLocation),
        });
    }
    let mut config = json!({"install": {"extensions": extensions}});
    if let Some(file) = material.certificate_file() {
        let file = json!({"path": file.path, "permissions": MODE, "content": file.text});
        let stage = json!({"name": "Trust the signer of the extensions", "files": [file]});
        config["stages"] = json!({"initramfs": [stage]});
    }
    let text = yaml::render(&material.comment(), &config);
    Ok(format!("#cloud-config\n{text}"))
}
