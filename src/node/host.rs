//! What the node is, as far as extensions have to know.

use std::fmt;
use std::process::Command;

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

    /// What `systemctl --version` prints: `systemd 257 (257.13-1)` and a line of features.
    pub fn parse(output: &str) -> Option<SystemdVersion> {
        let number = output.strip_prefix("systemd ")?.split_whitespace().next()?;
        let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().map(SystemdVersion)
    }
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
