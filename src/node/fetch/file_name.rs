//! Under which name an artefact may enter the store.

use super::FetchError;
use crate::extension::ExtensionKind;
use crate::printable::printable;

/// `NAME_MAX` (`include/uapi/linux/limits.h`).
const MAX_BYTES: usize = 255;

const COMPRESSED: [&str; 3] = [".xz", ".gz", ".zst"];

/// The name for an artefact that `origin` calls `raw_name`: without the suffix of a compression, and
/// always with `.raw` at its end, without which neither systemd nor the store would see it.
///
/// # Errors
/// [`FetchError::Name`] for a name that is empty, hidden, too long, or has anything but letters,
/// digits and `._+~^@:-`, so that it could neither leave the folder nor confuse a terminal.
pub(super) fn stored_name(
    raw_name: &[u8],
    kind: ExtensionKind,
    origin: &str,
) -> Result<String, FetchError> {
    let refused = |reason| {
        Err(FetchError::Name {
            name: printable(raw_name.get(..MAX_BYTES).unwrap_or(raw_name)),
            origin: origin.to_owned(),
            reason,
        })
    };
    let name = match std::str::from_utf8(raw_name) {
        Ok(name) => name,
        Err(_) => return refused("is no text"),
    };
    let name = COMPRESSED
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    let stem = name.strip_suffix(".raw").unwrap_or(name);
    let name = match stem == name {
        true => format!("{name}.{kind}.raw"),
        false => name.to_owned(),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+~^@:-".contains(c);
    if stem.is_empty() {
        refused("is empty")
    } else if stem.starts_with('.') {
        refused("starts with a dot")
    } else if !stem.chars().all(allowed) {
        refused("has a character other than letters, digits and . _ + ~ ^ @ : -")
    } else if name.len() > MAX_BYTES {
        refused("is longer than 255 bytes")
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(name: &str) -> Result<String, FetchError> {
        stored_name(name.as_bytes(), ExtensionKind::Sysext, "a test")
    }

    #[test]
    fn every_name_ends_in_raw() {
        for (name, expected) in [
            ("k3s-v1.29.2+k3s1.raw", "k3s-v1.29.2+k3s1.raw"),
            ("k3s_1.2_x86-64.sysext.raw", "k3s_1.2_x86-64.sysext.raw"),
            ("a.raw.xz", "a.raw"),
            ("a.raw.zst", "a.raw"),
            ("a.gz", "a.sysext.raw"),
            ("download", "download.sysext.raw"),
            ("a.img", "a.img.sysext.raw"),
        ] {
            assert_eq!(stored(name).unwrap(), expected);
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = format!("{}.raw", "a".repeat(252));
        for name in [
            "",
            ".",
            "..",
            ".raw",
            ".raw.xz",
            ".hidden.raw",
            "../a.raw",
            "a/b.raw",
            "/etc/x.raw",
            "a b.raw",
            "a\n.raw",
            "a\0.raw",
            "\u{202e}war.raw",
            "ä.raw",
            "$(x).raw",
            "a;b.raw",
            "a\\b.raw",
            &long,
        ] {
            assert!(stored(name).is_err(), "{name:?}");
        }
        assert!(stored_name(b"\xff.raw", ExtensionKind::Sysext, "a test").is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_visible_component(name in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(name) = stored_name(&name, ExtensionKind::Confext, "a test") {
                prop_assert!(name.ends_with(".raw") && !name.starts_with('.'));
                prop_assert!(!name.contains(['/', '\0']) && name.len() <= 255);
            }
        }
    }
}
