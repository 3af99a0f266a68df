//! Which images of a feed are more than enough.

use std::num::NonZero;

use super::Checksums;
use crate::publish::edition::Edition;
use crate::version::Version;

/// The listed images of the extensions of `editions`, for their architectures, that are older than the
/// `keep` newest ones. What is being published stays.
pub fn surplus(checksums: &Checksums, editions: &[Edition], keep: NonZero<usize>) -> Vec<String> {
    let mut surplus: Vec<String> = Vec::new();
    for edition in editions {
        let mut listed: Vec<(Version, &str)> = checksums
            .names()
            .filter_map(|name| Some((version_in(name, edition)?, name)))
            .collect();
        listed.sort_by(|one, other| other.cmp(one));
        for (_, name) in listed.into_iter().skip(keep.get()) {
            let is_published = editions.iter().any(|edition| edition.file_name() == name);
            if !is_published && !surplus.iter().any(|known| known == name) {
                surplus.push(name.to_owned());
            }
        }
    }
    surplus
}

/// The version in `name`, if that is the file name of the same extension for the same machines.
fn version_in(name: &str, edition: &Edition) -> Option<Version> {
    let suffix = format!("_{}.{}.raw", edition.architecture, edition.kind);
    let version = name
        .strip_prefix(edition.name.as_str())?
        .strip_prefix('_')?
        .strip_suffix(&suffix)?;
    // What has another _ may be of an extension with a longer name, which is nobody's to remove.
    let is_version = !version.is_empty() && !version.contains('_');
    is_version.then(|| Version::from(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::publish::edition::example;

    fn list(names: &[&str]) -> Checksums {
        let mut list = Checksums::default();
        for name in names {
            list.set(name, Digest::of(name.as_bytes()));
        }
        list
    }

    #[test]
    fn only_older_versions_of_the_same_extension_for_the_same_machines_go() {
        let list = list(&[
            "my_1.9_x86-64.sysext.raw",
            "my_1.10_x86-64.sysext.raw",
            "my_1.11_x86-64.sysext.raw",
            "my_1.1_arm64.sysext.raw",
            "my_1.1_x86-64.confext.raw",
            "my_a_1_x86-64.sysext.raw",
            "my-a_1_x86-64.sysext.raw",
            "my_1_x86-64.sysext.raw.xz",
            "other.raw",
        ]);
        let keep = |count| NonZero::new(count).unwrap();
        let published = [example("my", "1.11")];
        let gone = ["my_1.9_x86-64.sysext.raw"];
        assert_eq!(surplus(&list, &published, keep(2)), gone);
        assert_eq!(surplus(&list, &published, keep(3)), [""; 0]);
        // The one that is being published stays, though there are enough newer ones.
        let old = [example("my", "1.9")];
        let gone = ["my_1.10_x86-64.sysext.raw"];
        assert_eq!(surplus(&list, &old, keep(1)), gone);
    }
}
