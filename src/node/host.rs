//! What the node is, as far as extensions have to know.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::layout::Layout;
use crate::architecture::Architecture;
use crate::release::{InvalidRelease, ReleaseFile};

/// Where a system describes itself; the first that there is counts (os-release(5)).
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// A larger os-release is none.
const MAX_RELEASE_BYTES: u64 = 1 << 20;

/// The major version of systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemdVersion(pub u32);

impl SystemdVersion {
    /// The first that takes `.sysext` and `.confext` off the names of images.
    pub const STRIPS_INFIX: SystemdVersion = SystemdVersion(255);

    /// The systemd of this host; `None` where there is none.
    pub fn of_this_host() -> Option<SystemdVersion> {
        let output = Command::new("systemctl").arg("--version").output().ok()?;
        SystemdVersion::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// The systemd in the tree of a node, by the name of its library; `None` where there is none.
    pub fn in_tree(layout: &Layout) -> Option<SystemdVersion> {
        let names_in = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        // Debian has a folder for each architecture.
        let libraries = layout.open_path("/usr/lib");
        let below = names_in(&libraries).into_iter();
        let folders = below
            .map(|name| libraries.join(name).join("systemd"))
            .chain([
                libraries.join("systemd"),
                layout.open_path("/usr/lib64/systemd"),
            ]);
        let mut libraries = folders.flat_map(|folder| names_in(&folder));
        libraries.find_map(|name| {
            let version = name.to_str()?.strip_prefix("libsystemd-shared-")?;
            let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok().map(SystemdVersion)
        })
    }

    /// What `systemctl --version` prints: `systemd 257 (257.13-1)` and a line of features.
    pub fn parse(output: &str) -> Option<SystemdVersion> {
        let number = output.strip_prefix("systemd ")?.split_whitespace().next()?;
        let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().map(SystemdVersion)
    }
}

/// Why it is not known what a node is.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its os-release cannot be read.
    #[error("cannot read {path} of the node: {source}")]
    Read {
        /// Of the node.
        path: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Its os-release is none.
    #[error("{path} of the node is unusable: {source}")]
    Release {
        /// Of the node.
        path: &'static str,
        /// Why.
        source: InvalidRelease,
    },
    /// systemd has no name for what it runs on.
    #[error("extensions cannot be matched with {0}, for which systemd has no name")]
    Architecture(&'static str),
}

/// The os-release of a node; empty where it has none.
///
/// # Errors
/// [`HostError::Read`], [`HostError::Release`].
pub fn os_release(layout: &Layout) -> Result<ReleaseFile, HostError> {
    for path in OS_RELEASE {
        let mut bytes = Vec::new();
        let read = open_inside(layout, path)
            .and_then(|file| file.take(MAX_RELEASE_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {
                return ReleaseFile::parse(&bytes)
                    .map_err(|source| HostError::Release { path, source });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HostError::Read { path, source }),
        }
    }
    Ok(ReleaseFile::default())
}

/// What a node runs on: by its os-release, as images say it (`ARCHITECTURE=`), or as this program.
///
/// # Errors
/// [`HostError::Architecture`].
pub fn architecture(release: &ReleaseFile) -> Result<Architecture, HostError> {
    let own = release.get("ARCHITECTURE").and_then(|own| own.parse().ok());
    own.or_else(Architecture::host)
        .ok_or(HostError::Architecture(std::env::consts::ARCH))
}

/// Opens a file of the node. Links lead where they would on the node, not on this host.
fn open_inside(layout: &Layout, of_node: &str) -> io::Result<File> {
    if layout.is_this_host() {
        return File::open(of_node);
    }
    let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
    let (none, inside) = (Mode::empty(), ResolveFlags::IN_ROOT);
    let root = rustix::fs::openat(CWD, layout.root(), read_only | OFlags::DIRECTORY, none)?;
    let file = rustix::fs::openat2(root, of_node, read_only, none, inside)?;
    Ok(File::from(file))
}

impl fmt::Display for SystemdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_number() {
        let parse = |text| SystemdVersion::parse(text).map(|version| version.0);
        assert_eq!(parse("systemd 257 (257.13-1~deb13u1)\n+PAM"), Some(257));
        assert_eq!(parse("systemd 252 (252.39-1)\n"), Some(252));
        assert_eq!(parse("systemd 261~devel (x)\n"), Some(261));
        assert_eq!(parse("busybox"), None);
    }
}
