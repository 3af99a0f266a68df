//! What systemd-sysext.service and systemd-confext.service are told until the next boot.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use crate::extension::ExtensionKind;
use crate::image::{Output, OutputError};
use crate::node::Node;
use crate::read_at::read_file;

const FILE: &str = "sysgraft.conf";
const MAX_BYTES: u64 = 1 << 20;

/// Switches that would let an image pass whose signature does not hold (systemd's
/// `docs/ENVIRONMENT.md`).
const SWITCHES: &str = "SYSTEMD_DISSECT_VERITY_SIGNATURE SYSTEMD_DISSECT_VERITY_EMBEDDED \
    SYSTEMD_DISSECT_VERITY_GUESS SYSTEMD_DISSECT_VERITY_SIDECAR";

/// What Kairos merges, so that the rest of `/usr` stays as it is (Kairos documentation, "System
/// extensions"), and `/opt`, which extensions may have too.
const KAIROS_HIERARCHIES: &str = "/usr/local/bin:/usr/local/sbin:/usr/local/include:\
    /usr/local/lib:/usr/local/share:/usr/local/src:/usr/bin:/usr/share:/usr/lib:/usr/include:\
    /usr/src:/usr/sbin:/opt";

/// Kairos gives up after ten seconds, in which a slow disk has not read three images.
const KAIROS_TIMEOUT: &str = "10min";

/// What a service is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The image policy.
    pub policy: Option<String>,
    /// Whether to merge what Kairos merges, and to take the time for it.
    pub kairos: bool,
}

/// Why a service could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DropInError {
    /// A file or folder could not be used.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be stored.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Orders {
    fn text(&self, kind: ExtensionKind) -> Option<String> {
        if *self == Orders::default() {
            return None;
        }
        let mut text =
            "# Made by sysgraft-agent for this boot; see /run/sysgraft/boot.json.\n".to_owned();
        if self.kairos {
            text.push_str("[Unit]\nJobRunningTimeoutSec=infinity\n");
        }
        text.push_str("[Service]\n");
        if let Some(policy) = &self.policy {
            let command = format!("systemd-{kind} refresh --image-policy={policy}");
            for key in ["ExecStart", "ExecReload"] {
                text.push_str(&format!("{key}=\n{key}={command}\n"));
            }
            text.push_str(&format!("UnsetEnvironment={SWITCHES}\n"));
        }
        if self.kairos {
            text.push_str(&format!("TimeoutStartSec={KAIROS_TIMEOUT}\n"));
            if kind == ExtensionKind::Sysext {
                text.push_str(&format!(
                    "Environment=SYSTEMD_SYSEXT_HIERARCHIES={KAIROS_HIERARCHIES}\n"
                ));
            }
        }
        Some(text)
    }

    /// Puts the orders where systemd reads them, and says whether they are others than before.
    ///
    /// # Errors
    /// [`DropInError`].
    pub fn give(&self, node: &Node, kind: ExtensionKind) -> Result<bool, DropInError> {
        let folder = node
            .layout
            .open_path(format!("/run/systemd/system/systemd-{kind}.service.d"));
        let path = folder.join(FILE);
        let io = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| DropInError::Io {
                action,
                path,
                source,
            }
        };
        let before = match read_file(&path, MAX_BYTES) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("read", &path)(error)),
        };
        let text = self.text(kind);
        if before.as_deref() == text.as_ref().map(String::as_bytes) {
            return Ok(false);
        }
        match text {
            None => fs::remove_file(&path).map_err(io("remove", &path))?,
            Some(text) => {
                fs::create_dir_all(&folder).map_err(io("create", &folder))?;
                let output = Output::create(&folder, FILE)?;
                let written = output.file().write_all(text.as_bytes());
                written.map_err(io("write", &path))?;
                output.commit()?;
            }
        }
        Ok(true)
    }
}

/// Lets systemd read its units anew. Jobs that wait are done with what it reads.
///
/// # Errors
/// One sentence.
pub fn reload_manager() -> Result<(), String> {
    let failed = |problem: String| {
        format!("systemd did not read the new image policy (systemctl daemon-reload: {problem})")
    };
    let output = Command::new("systemctl")
        .arg("daemon-reload")
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_replaces_both_commands_and_closes_the_switches() {
        let orders = Orders {
            policy: Some("root=signed+absent".to_owned()),
            kairos: false,
        };
        let text = orders.text(ExtensionKind::Confext).unwrap();
        for line in [
            "ExecStart=\nExecStart=systemd-confext refresh --image-policy=root=signed+absent\n",
            "ExecReload=\nExecReload=systemd-confext refresh --image-policy=root=signed+absent\n",
            "UnsetEnvironment=SYSTEMD_DISSECT_VERITY_SIGNATURE ",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("HIERARCHIES") && !text.contains("Timeout"));
    }

    #[test]
    fn kairos_gets_time_and_opt() {
        let orders = Orders {
            policy: None,
            kairos: true,
        };
        let text = orders.text(ExtensionKind::Sysext).unwrap();
        assert!(
            text.contains("/usr/bin:") && text.contains(":/opt\n"),
            "{text}"
        );
        assert!(text.contains("TimeoutStartSec=10min\n"), "{text}");
        assert!(text.contains("[Unit]\nJobRunningTimeoutSec=infinity\n"));
        assert!(!text.contains("ExecStart"));
        let confext = orders.text(ExtensionKind::Confext).unwrap();
        assert!(!confext.contains("HIERARCHIES"));
        assert_eq!(Orders::default().text(ExtensionKind::Sysext), None);
    }
}
