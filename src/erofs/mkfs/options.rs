//! Options that go through to mkfs.erofs, and those that would cost content.

use super::{MkfsError, Version};
use crate::erofs::TailPacking;

/// Short options that take a value; without it they would swallow the next argument.
const SHORT_WITH_VALUE: &str = "CELTUbdmxz";
/// Since this version fragments of archives can be whole files, and be shared. In 1.8.6 either gives
/// files wrong content, although both are right there for directories.
const FRAGMENTS_SINCE: Version = Version::new(1, 9, 0);
/// What makes fragments right before.
const WITHOUT_SHARED_FRAGMENTS: &str = "-E^fragdedupe";
/// Since this version -Ededupe is right for large images (ChangeLog of erofs-utils).
const LARGE_DEDUPE_SINCE: Version = Version::new(1, 8, 10);
/// The largest image for which it was right before.
const LARGE_IMAGE: u64 = 4 << 30;

/// Since this version extents that are not limited to more than a physical cluster have been stored
/// damaged (1.9.3, with several threads).
const SHORT_EXTENTS_SINCE: Version = Version::new(1, 9, 0);

/// Passes if mkfs.erofs of a version gets the sizes in `arguments`, all that it is given, right.
///
/// # Errors
/// [`MkfsError::Option`], which tells why not.
pub(super) fn check_extents(version: Version, arguments: &[String]) -> Result<(), MkfsError> {
    let cluster = arguments
        .iter()
        .rev()
        .find_map(|option| option.strip_prefix("-C"));
    let cluster = cluster.and_then(|value| value.parse::<u64>().ok());
    // getopt takes any beginning that fits no other option
    let extent = arguments.iter().rev().find_map(|option| {
        let (name, value) = option.split_once('=')?;
        let is_meant = name.len() > 4 && "--max-extent-bytes".starts_with(name);
        is_meant.then(|| value.parse::<u64>().ok()).flatten()
    });
    if let (Some(extent), Some(cluster)) = (extent, cluster)
        && extent <= cluster
        && version >= SHORT_EXTENTS_SINCE
    {
        return Err(refuse(
            "--max-extent-bytes",
            "has let mkfs.erofs since 1.9 store damaged content unless it is larger than -C, which \
             --chunk-size sets; make it larger",
        ));
    }
    Ok(())
}

/// The extended features (`-E`) in which mkfs.erofs or kernels have been wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    all_fragments: bool,
    fragdedupe: bool,
    ztailpacking: bool,
    dedupe: bool,
}

impl Features {
    /// What `options` switch on, later ones overruling earlier ones.
    ///
    /// # Errors
    /// [`MkfsError::Option`] for what is not one whole option.
    pub fn of(options: &[String]) -> Result<Features, MkfsError> {
        let mut features = Features::default();
        for option in options {
            check_form(option)?;
            let tokens = option.strip_prefix("-E").unwrap_or_default();
            for token in tokens.split(',') {
                features.switch(token);
            }
        }
        Ok(features)
    }

    fn switch(&mut self, token: &str) {
        let (name, on) = match token.strip_prefix('^') {
            Some(name) => (name, false),
            None => (token, true),
        };
        match name.split('=').next() {
            Some("all-fragments") => self.all_fragments = on,
            Some("fragdedupe") => self.fragdedupe = on,
            Some("ztailpacking") => self.ztailpacking = on,
            Some("dedupe") => self.dedupe = on,
            _ => {}
        }
    }

    /// Passes if mkfs.erofs of a version gets the features right.
    ///
    /// # Errors
    /// [`MkfsError::Option`], which tells why not.
    pub fn check(self, version: Version) -> Result<(), MkfsError> {
        if self.all_fragments && self.ztailpacking {
            return Err(refuse(
                "-Eall-fragments,ztailpacking",
                "makes images of which kernels have read wrong content; leave one of them out",
            ));
        }
        for (is_on, option) in [
            (self.all_fragments, "-Eall-fragments"),
            (self.fragdedupe, "-Efragdedupe"),
        ] {
            if is_on && version < FRAGMENTS_SINCE {
                return Err(refuse(
                    option,
                    "stores wrong content if mkfs.erofs is older than 1.9; use -Efragments alone",
                ));
            }
        }
        Ok(())
    }

    /// The option that keeps mkfs.erofs of a version from a feature that it gets wrong and has on.
    pub fn precaution(version: Version) -> Option<String> {
        (version < FRAGMENTS_SINCE).then(|| WITHOUT_SHARED_FRAGMENTS.to_owned())
    }

    /// The option for what becomes of the ends of files. Whole files as fragments have none.
    pub fn tail_packing(self, packing: TailPacking) -> Option<String> {
        match packing {
            TailPacking::Inline if !self.all_fragments => Some("-Eztailpacking".to_owned()),
            TailPacking::Fragments => Some("-Efragments".to_owned()),
            TailPacking::None | TailPacking::Inline => None,
        }
    }

    /// Passes if mkfs.erofs of a version gets the features right in an image of `size` bytes.
    ///
    /// # Errors
    /// [`MkfsError::Option`], which tells why not.
    pub fn check_size(self, version: Version, size: u64) -> Result<(), MkfsError> {
        if self.dedupe && version < LARGE_DEDUPE_SINCE && size > LARGE_IMAGE {
            return Err(refuse(
                "-Ededupe",
                "damages images of more than 4 GiB if mkfs.erofs is older than 1.8.10; leave it out",
            ));
        }
        Ok(())
    }
}

/// Passes if `option` is one option with its value, if it has one.
fn check_form(option: &str) -> Result<(), MkfsError> {
    let is_whole = match option.strip_prefix('-') {
        None | Some("" | "-") => false,
        Some(short) => short.len() > 1 || !SHORT_WITH_VALUE.contains(short),
    };
    if !is_whole {
        return Err(refuse(
            option,
            "is not one whole option: write it with its value in one word, as in -Efragments",
        ));
    }
    // Features by their numbers; --zD is another option.
    if option.starts_with("--z") && !option.starts_with("--zD") {
        return Err(refuse(
            option,
            "names features by number; name them with -E",
        ));
    }
    Ok(())
}

fn refuse(option: &str, reason: &'static str) -> MkfsError {
    MkfsError::Option {
        option: option.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN_13: Version = Version::new(1, 8, 6);
    const NEWEST: Version = Version::new(1, 9, 4);

    fn check(options: &[&str], version: Version) -> Result<Features, MkfsError> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let features = Features::of(&options)?;
        features.check(version)?;
        Ok(features)
    }

    #[test]
    fn options_are_whole() {
        for option in [
            "-Efragments",
            "-zlzma,level=9",
            "--max-extent-bytes=8192",
            "--zD",
            "--workers=1",
            "-C65536",
        ] {
            assert!(check(&[option], DEBIAN_13).is_ok(), "{option}");
        }
        for option in [
            "",
            "-",
            "--",
            "fragments",
            "/tmp/x",
            "-E",
            "-z",
            "--zfeature-bits=10",
            "--zf=10",
        ] {
            assert!(check(&[option], DEBIAN_13).is_err(), "{option}");
        }
    }

    #[test]
    fn features_that_lose_content_are_refused_wherever_they_stand() {
        for options in [
            &["-Eall-fragments,ztailpacking"][..],
            &["-Eztailpacking", "-zlz4", "-Eall-fragments=65536"],
            &["-Eall-fragments", "-Ededupe,ztailpacking"],
            &["-E^ztailpacking,all-fragments", "-Eztailpacking"],
        ] {
            assert!(check(options, DEBIAN_13).is_err(), "{options:?}");
            assert!(check(options, NEWEST).is_err(), "{options:?}");
        }
        for option in ["-Eall-fragments", "-Efragments,fragdedupe=inode"] {
            assert!(check(&[option], DEBIAN_13).is_err());
            assert!(check(&[option], NEWEST).is_ok());
        }
        for options in [
            &["-Efragments,ztailpacking,^fragdedupe"][..],
            &["-Eztailpacking", "-E^ztailpacking,fragments"],
            &["-Eall-fragments", "-E^all-fragments,ztailpacking"],
        ] {
            assert!(check(options, DEBIAN_13).is_ok(), "{options:?}");
        }
    }

    #[test]
    fn extents_no_longer_than_physical_clusters_are_refused_where_they_do_harm() {
        for (options, is_right) in [
            (&["-C262144", "--max-extent-bytes=262145"][..], true),
            (&["-C262144", "--max-extent-bytes=131073"], false),
            (&["-C262144", "--max-ext=262144"], false),
            (&["-C262144", "-C65536", "--max-extent-bytes=131073"], true),
            (&["-C262144", "--zD=1"], true),
        ] {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            assert_eq!(
                check_extents(NEWEST, &options).is_ok(),
                is_right,
                "{options:?}"
            );
            assert!(check_extents(DEBIAN_13, &options).is_ok());
        }
    }

    #[test]
    fn deduplication_of_large_images_needs_a_version_that_can() {
        let dedupe = check(&["-Efragments,dedupe"], DEBIAN_13).unwrap();
        assert!(dedupe.check_size(DEBIAN_13, 4 << 30).is_ok());
        assert!(dedupe.check_size(DEBIAN_13, (4 << 30) + 1).is_err());
        assert!(dedupe.check_size(NEWEST, 8 << 30).is_ok());
        assert!(Features::default().check_size(DEBIAN_13, 8 << 30).is_ok());
    }
}
