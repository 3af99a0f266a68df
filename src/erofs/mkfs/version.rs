//! Which versions of mkfs.erofs can be trusted with an archive.

use std::fmt;

/// A version of erofs-utils, as in 1.8.6; what is left out counts as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The oldest that is used, and that tests have seen. Earlier ones that read archives at all exit
    /// with 0 after they wrote damaged file systems: the ChangeLog of erofs-utils names broken hard
    /// links (fixed in 1.7.1), content cut off (1.8.1), broken packed inodes (1.8.2), extended headers
    /// misread (1.8.4).
    pub const OLDEST: Version = Version::new(1, 8, 6);
    /// The first that has a tar mode.
    const FIRST_WITH_TAR: Version = Version::new(1, 7, 0);
    /// Both marked as obsolete in the ChangeLog: the first breaks whiteouts, the second small
    /// fragments.
    const WITHDRAWN: [Version; 2] = [Version::new(1, 8, 7), Version::new(1, 8, 8)];

    /// The version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Version {
        Version {
            major,
            minor,
            patch,
        }
    }

    /// Reads what `mkfs.erofs --version` prints: `mkfs.erofs (erofs-utils) 1.8.6` since 1.7,
    /// `mkfs.erofs 1.5` before; development versions have `-` and a commit behind the numbers.
    pub(super) fn parse(output: &str) -> Option<Version> {
        let line = output.lines().find(|line| line.contains("mkfs.erofs"))?;
        let version = line.split_whitespace().next_back()?;
        let mut numbers = version.split('-').next()?.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let patch = numbers.next().unwrap_or(Ok(0)).ok()?;
        Some(Version::new(major, minor, patch))
    }

    /// Why this version is not used, if so.
    pub(super) fn defect(self) -> Option<&'static str> {
        if self < Version::FIRST_WITH_TAR {
            Some("cannot read archives")
        } else if self < Version::OLDEST {
            Some("has faults in reading archives, not all of which it reports")
        } else if self == Version::WITHDRAWN[0] {
            Some("was withdrawn by its authors because it breaks whiteouts of archives")
        } else if self == Version::WITHDRAWN[1] {
            Some("was withdrawn by its authors because it damages small files (fragments)")
        } else {
            None
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.patch {
            0 => Ok(()),
            patch => write!(f, ".{patch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_output_is_read() {
        for (output, shown) in [
            (
                "mkfs.erofs (erofs-utils) 1.8.6\navailable compressors: lz4\n",
                "1.8.6",
            ),
            ("mkfs.erofs 1.5\nusage: mkfs.erofs [options]\n", "1.5"),
            ("mkfs.erofs (erofs-utils) 1.9.3-g7db78788\n", "1.9.3"),
            ("mkfs.erofs (erofs-utils) 1.10\n", "1.10"),
        ] {
            assert_eq!(Version::parse(output).unwrap().to_string(), shown);
        }
        for output in ["", "mkfs.ext4 1.47", "mkfs.erofs", "mkfs.erofs x.y"] {
            assert_eq!(Version::parse(output), None, "{output}");
        }
    }

    #[test]
    fn versions_that_lose_data_have_a_defect_and_no_others() {
        for (major, minor, patch, fit) in [
            (1, 5, 0, false),
            (1, 6, 0, false),
            (1, 7, 0, false),
            (1, 7, 1, false),
            (1, 8, 0, false),
            (1, 8, 1, false),
            (1, 8, 2, false),
            (1, 8, 5, false),
            (1, 8, 6, true),
            (1, 8, 7, false),
            (1, 8, 8, false),
            (1, 8, 9, true),
            (1, 8, 10, true),
            (1, 9, 0, true),
            (2, 0, 0, true),
        ] {
            let version = Version::new(major, minor, patch);
            assert_eq!(version.defect().is_none(), fit, "{version}");
        }
    }
}
