//! What has to be on a machine that begins with extensions: files, links, units.

use super::{Material, ProvisioningError};
use crate::extension::ExtensionKind;
use crate::publish::base_url::BaseUrl;
use crate::publish::edition::Edition;
use crate::publish::sysupdate::Transfer;

/// Plain files: read and write for root, read for all.
pub const MODE: u32 = 0o644;

/// A file with its content at hand.
pub struct TextFile {
    pub path: String,
    pub text: String,
}

/// A file that is fetched.
pub struct RemoteFile {
    pub path: String,
    pub url: String,
    /// Hexadecimal.
    pub sha256: String,
}

pub struct Link {
    pub path: String,
    pub target: String,
}

pub struct Unit {
    pub name: String,
    pub enabled: bool,
    /// `None` for one that the system has.
    pub text: Option<String>,
}

/// Everything that a machine begins with.
#[derive(Default)]
pub struct Machine {
    pub remote_files: Vec<RemoteFile>,
    pub text_files: Vec<TextFile>,
    pub links: Vec<Link>,
    pub units: Vec<Unit>,
}

impl Machine {
    /// A machine that fetches its images from a feed and follows that.
    pub fn fetching(material: &Material<'_>) -> Result<Machine, ProvisioningError> {
        let base_url = material.base_url.ok_or(ProvisioningError::NoBaseUrl)?;
        let mut machine = Machine::default();
        for edition in material.editions {
            machine.add(edition, base_url, material.signed_feed);
        }
        machine.text_files.extend(material.certificate_file());
        machine.units.extend(merging_units(material.editions));
        Ok(machine)
    }

    fn add(&mut self, edition: &Edition, base_url: &BaseUrl, signed: bool) {
        let transfer = Transfer {
            name: &edition.name,
            kind: edition.kind,
            base_url,
            signed,
            optional: false,
        };
        let file_name = edition.file_name();
        let path = format!("{}/{file_name}", transfer.store());
        let component = format!("{}.{}", edition.name, edition.kind);
        self.links.push(Link {
            path: transfer.link(),
            target: path.clone(),
        });
        self.remote_files.push(RemoteFile {
            path,
            url: base_url.join(&file_name),
            sha256: edition.digest.hex(),
        });
        self.text_files.push(TextFile {
            path: format!("/etc/sysupdate.{component}.d/{}", transfer.file_name()),
            text: transfer.render(),
        });
        self.units.extend(updating_units(&component));
    }
}

/// What merges the images at boot.
pub fn merging_units(editions: &[Edition]) -> Vec<Unit> {
    let units = ExtensionKind::ALL.into_iter().filter_map(|kind| {
        let mut kinds = editions.iter().map(|edition| edition.kind);
        kinds.any(|other| other == kind).then(|| Unit {
            name: format!("systemd-{kind}.service"),
            enabled: true,
            text: None,
        })
    });
    units.collect()
}

/// systemd's own update service looks at its default component alone.
fn updating_units(component: &str) -> [Unit; 2] {
    let service = format!(
        "[Unit]\nDescription=Fetch the newest {component}\n\
         Wants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\n\
         ExecStart=/usr/lib/systemd/systemd-sysupdate --component={component} update\n"
    );
    let timer = format!(
        "[Unit]\nDescription=Fetch the newest {component} every day\n\n\
         [Timer]\nOnCalendar=daily\nRandomizedDelaySec=4h\nPersistent=yes\n\n\
         [Install]\nWantedBy=timers.target\n"
    );
    let name = component.replace('.', "-");
    [
        Unit {
            name: format!("sysupdate-{name}.service"),
            enabled: false,
            text: Some(service),
        },
        Unit {
            name: format!("sysupdate-{name}.timer"),
            enabled: true,
            text: Some(timer),
        },
    ]
}
