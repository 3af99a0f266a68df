//! What machines are provisioned with, so that they begin with the published images: fragments for the
//! programs that do that.

mod cloud_config;
mod ignition;
mod image_builders;
mod machine;
mod plan;
mod yaml;

use std::path::Path;

use self::machine::TextFile;
use super::base_url::BaseUrl;
use super::edition::Edition;
use super::registry;
use crate::signature::Certificate;

/// Who reads a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Butane, for Flatcar (and Fedora CoreOS).
    Butane,
    /// Ignition, for the same.
    Ignition,
    /// Kairos.
    CloudConfig,
    /// Azure Linux Image Customizer.
    Prism,
    /// mkosi.
    Mkosi,
    /// Rancher's system-upgrade-controller.
    K8sPlan,
}

/// What a fragment is about.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The images.
    pub editions: &'a [Edition],
    /// Where the feed with them is served.
    pub base_url: Option<&'a BaseUrl>,
    /// Whether the feed's list is signed.
    pub signed_feed: bool,
    /// The repository with them: registry and path.
    pub repository: Option<&'a str>,
    /// The certificate that machines are to trust.
    pub certificate: Option<&'a Certificate>,
    /// Where that lies now.
    pub certificate_path: Option<&'a Path>,
}

/// Why there is no fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisioningError {
    /// A feed is needed.
    #[error("say with --base-url where the machine gets the images from")]
    NoBaseUrl,
    /// A feed or a registry is needed.
    #[error("say with --registry or --base-url where the machine gets the images from")]
    NoLocation,
    /// One machine cannot have both.
    #[error("{first} and {second} are the same extension, of which a machine has one")]
    Several {
        /// One of them.
        first: String,
        /// Another one.
        second: String,
    },
    /// The signer is somebody else.
    #[error("{file} is signed by {signer}, not by the certificate {certificate}")]
    OtherSigner {
        /// The image.
        file: String,
        /// Who signed it, or `nobody`.
        signer: String,
        /// The certificate.
        certificate: String,
    },
}

/// The fragment in this format.
///
/// # Errors
/// [`ProvisioningError`].
pub fn render(format: Format, material: &Material<'_>) -> Result<String, ProvisioningError> {
    material.check(format)?;
    match format {
        Format::Butane => ignition::butane(material),
        Format::Ignition => ignition::ignition(material),
        Format::CloudConfig => cloud_config::cloud_config(material),
        Format::Prism => Ok(image_builders::prism(material)),
        Format::Mkosi => Ok(image_builders::mkosi(material)),
        Format::K8sPlan => plan::plans(material),
    }
}

impl Material<'_> {
    fn check(&self, format: Format) -> Result<(), ProvisioningError> {
        for (index, one) in self.editions.iter().enumerate() {
            let is_it = |other: &&Edition| (other.kind, &other.name) == (one.kind, &one.name);
            let other = self.editions[..index].iter().find(is_it);
            // A plan picks the nodes that it is for.
            if let (Some(other), true) = (other, format != Format::K8sPlan) {
                return Err(ProvisioningError::Several {
                    first: other.file_name(),
                    second: one.file_name(),
                });
            }
            let is_signer = |signer: &&Certificate| {
                Some(signer.der()) == self.certificate.map(Certificate::der)
            };
            if let (Some(certificate), None) =
                (self.certificate, one.signer.as_ref().filter(is_signer))
            {
                let signer = one.signer.as_ref().map(Certificate::subject);
                return Err(ProvisioningError::OtherSigner {
                    file: one.file_name(),
                    signer: signer.unwrap_or_else(|| "nobody".to_owned()),
                    certificate: certificate.subject(),
                });
            }
        }
        Ok(())
    }

    /// The image in the registry, pinned by digest.
    fn pinned(&self, edition: &Edition) -> Option<String> {
        let digest = registry::manifest_digest(edition);
        self.repository
            .map(|repository| format!("{repository}@{digest}"))
    }

    /// The certificate where systemd looks for it: it reads `*.crt` alone, in PEM form.
    fn certificate_file(&self) -> Option<TextFile> {
        let certificate = self.certificate?;
        let fingerprint = certificate.fingerprint().hex();
        let short = fingerprint.get(..12).unwrap_or(&fingerprint);
        Some(TextFile {
            path: format!("/etc/verity.d/extensions-{short}.crt"),
            text: certificate.pem()?,
        })
    }

    /// What stands above every fragment.
    fn comment(&self) -> Vec<String> {
        let lines = self.editions.iter().map(|edition| {
            format!(
                "{} {} ({}, {}), sha256 {}",
                edition.name,
                edition.version,
                edition.kind,
                edition.architecture,
                edition.digest.hex()
            )
        });
        lines.collect()
    }
}
