//! What a node lets in: whose signatures count, and what else an image must hold to.

mod image_policy;
mod prove;
mod refusal;
mod trusted_boot;

use std::path::{Path, PathBuf};

pub use image_policy::{image_policy, strict_image_policy};
pub use prove::{Allowed, Proved, Recognised};
pub use refusal::{Demand, Refusal};
pub use trusted_boot::is_trusted_boot;

use super::Node;
use super::configuration::Signatures;
use super::firmware::Firmware;
use super::host::{self, HostError, SystemdVersion};
use super::kernel::Kernel;
use super::layout::Layout;
use crate::digest::Digest;
use crate::extension::ExtensionKind;
use crate::read_at::read_file;
use crate::signature::trust::{TrustError, TrustStore, TrustedCertificate, Verifier};
use crate::verification::Host;

/// Lets dm-verity take only what the kernel itself has verified (`drivers/md/dm-verity-verify-sig.c`).
const REQUIRE_SIGNATURES: &str = "/sys/module/dm_verity/parameters/require_signatures";
/// Lets systemd not verify signatures itself (systemd(1); from 257 on).
const NO_USERSPACE: [&str; 4] = ["0", "no", "off", "false"];
/// A longer command line has no kernel.
const MAX_BYTES: u64 = 1 << 16;

/// Where systemd looks for certificates (`CONF_PATHS("verity.d")`).
const SYSTEMD_FOLDERS: [&str; 4] = [
    "/etc/verity.d",
    COPIES,
    "/usr/local/lib/verity.d",
    "/usr/lib/verity.d",
];
/// The one of them that is made at each boot, by Kairos from all that the firmware has.
pub(super) const COPIES: &str = "/run/verity.d";

/// What a node lets in.
#[derive(Debug)]
pub struct Policy {
    trust: TrustStore,
    /// What lies where systemd looks for certificates.
    seen: TrustStore,
    verifiers: &'static [Verifier],
    demand: Option<Demand>,
    trusted_boot: bool,
    systemd: Option<SystemdVersion>,
    host: Host,
    kernel: Kernel,
    notes: Vec<String>,
}

/// Why it is not known what a node lets in.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not known what the node is.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A certificate that somebody asked for cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Policy {
    /// The policy of a node: certificates from its `verity.d` folders, from its configuration, from
    /// `extra` files, and under Trusted Boot from its firmware.
    ///
    /// # Errors
    /// [`PolicyError`]. What lies in a folder or in the firmware but cannot be used is no error, but
    /// noted.
    pub fn load(node: &Node, extra: &[PathBuf]) -> Result<Policy, PolicyError> {
        let Node {
            layout,
            configuration,
            ..
        } = node;
        let trusted_boot = is_trusted_boot(layout, configuration.trusted_boot);
        let demand = match (trusted_boot, configuration.signatures) {
            (true, _) => Some(Demand::TrustedBoot),
            (false, Signatures::Required) => Some(Demand::Configuration),
            (false, Signatures::WhenPresent) => None,
        };
        let mut notes = Vec::new();
        let mut trust = TrustStore::new();
        for path in extra {
            trust.load_file(path)?;
        }
        for path in &configuration.trust.certificates {
            trust.load_file(&layout.open_path(path))?;
        }
        let folders: Vec<PathBuf> = configuration
            .trust
            .folders
            .iter()
            .map(|folder| layout.open_path(folder))
            .collect();
        let firmware = if trusted_boot {
            Firmware::read(layout, &configuration.trust)
        } else {
            Firmware::default()
        };
        let copies = layout.open_path(COPIES);
        load_folders(&mut trust, &folders, &firmware, &copies, &mut notes);
        firmware.add_signers(&mut trust);
        notes.extend(firmware.notes);
        notes.extend(trust.passed_over().iter().map(ToString::to_string));
        let release = host::os_release(layout)?;
        let architecture = host::architecture(&release)?;
        Ok(Policy {
            trust,
            seen: seen_by_systemd(layout),
            verifiers: verifiers(layout),
            demand,
            trusted_boot,
            systemd: node.systemd,
            host: Host {
                release,
                architecture,
            },
            kernel: Kernel::of(layout),
            notes,
        })
    }

    /// Whether the node is under Trusted Boot.
    pub fn trusted_boot(&self) -> bool {
        self.trusted_boot
    }

    /// Whose signatures count.
    pub fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// Whether systemd finds a certificate, by its SHA-256. Where the kernel alone verifies, nobody asks
    /// systemd.
    pub fn is_seen_by_systemd(&self, fingerprint: &Digest) -> bool {
        let mut seen = self.seen.certificates().iter();
        !self.verifiers.contains(&Verifier::Systemd)
            || seen.any(|seen| seen.certificate.fingerprint() == *fingerprint)
    }

    /// Looks again at the folders in which systemd looks for certificates, after some were put there.
    pub fn look_for_systemd(&mut self, layout: &Layout) {
        self.seen = seen_by_systemd(layout);
    }

    /// Whether nothing unsigned may be installed or merged.
    pub fn requires_signatures(&self) -> bool {
        self.demand.is_some()
    }

    /// Who has to take a signature: systemd, or the kernel alone where it was told to insist.
    pub fn verifiers(&self) -> &'static [Verifier] {
        self.verifiers
    }

    /// The node, as extensions are matched with it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The image policy that systemd is to be given, if it knows of any.
    pub fn image_policy(&self, kind: ExtensionKind) -> Option<&'static str> {
        image_policy(self.systemd?, kind, self.requires_signatures())
    }

    /// What was found but does not count, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Trusts what lies in folders, but for what others copied out of the firmware that may not vouch.
fn load_folders(
    trust: &mut TrustStore,
    folders: &[PathBuf],
    firmware: &Firmware,
    copies: &Path,
    notes: &mut Vec<String>,
) {
    let found = read_folders(folders, notes);
    notes.extend(found.passed_over().iter().map(ToString::to_string));
    let lasting: Vec<PathBuf> = folders.iter().filter(|it| *it != copies).cloned().collect();
    let lasting = read_folders(&lasting, &mut Vec::new());
    for TrustedCertificate {
        certificate,
        origin,
    } in found.certificates()
    {
        let elsewhere = || {
            lasting
                .certificates()
                .iter()
                .find(|it| it.certificate.der() == certificate.der())
        };
        match firmware.objection(certificate) {
            Some(standing) if origin.path.parent() == Some(copies) => match elsewhere() {
                Some(other) => trust.add(other.certificate.clone(), other.origin.clone()),
                None => notes.push(format!(
                    "{} does not count: the certificate {standing}",
                    origin.path.display()
                )),
            },
            _ => trust.add(certificate.clone(), origin.clone()),
        }
    }
}

/// What lies in those folders that there are. One that cannot be read costs itself alone.
fn read_folders(folders: &[PathBuf], notes: &mut Vec<String>) -> TrustStore {
    let mut found = TrustStore::new();
    let mut readable: Vec<&Path> = Vec::new();
    for folder in folders {
        match folder.read_dir() {
            Ok(_) => readable.push(folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => notes.push(format!("{} cannot be read: {error}", folder.display())),
        }
    }
    if let Err(error) = found.load_folders(&readable) {
        notes.push(error.to_string());
    }
    found
}

fn seen_by_systemd(layout: &Layout) -> TrustStore {
    let folders = SYSTEMD_FOLDERS.map(|folder| layout.open_path(folder));
    // It may find less than what is noted of the folders that count.
    read_folders(&folders, &mut Vec::new())
}

/// The kernel must take a signature where dm-verity or systemd were told not to go by systemd's word.
fn verifiers(layout: &Layout) -> &'static [Verifier] {
    let read = |path: &str| {
        let bytes = read_file(&layout.open_path(path), MAX_BYTES).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let forbidden = |word: &str| {
        let value = word.strip_prefix("systemd.allow_userspace_verity=");
        value.is_some_and(|value| NO_USERSPACE.contains(&value))
    };
    let command_line = read("/proc/cmdline");
    if read(REQUIRE_SIGNATURES).trim() == "Y" || command_line.split_whitespace().any(forbidden) {
        &[Verifier::Kernel]
    } else {
        &[Verifier::Systemd]
    }
}
