//! What systemd is told of the images that it may merge (systemd.image-policy(7)).
//!
//! systemd's own defaults let anything in. What a term is worth depends on its version:
//!
//! - up to 253 systemd-sysext takes no policy;
//! - up to 257 `root=verity` is met by an image with a hash tree, which systemd then does not use:
//!   only `root=signed` activates dm-verity. A `usr` partition is never activated, but meets
//!   `usr=signed`, so `usr=absent` keeps such images out;
//! - from 259 on `verity+signed` lets an image in whose signature nobody trusts, as if it had none.

use crate::extension::ExtensionKind;
use crate::node::host::SystemdVersion;

/// The first whose systemd-sysext and systemd-confext know `--image-policy=`.
const FIRST: SystemdVersion = SystemdVersion(254);
/// Nothing but what somebody signed who is trusted.
const STRICT: &str = "root=signed+absent:usr=absent";
/// Anything that systemd would merge, but no `usr` partition.
const OPEN: &str = "root=verity+signed+unprotected+absent:usr=absent";

/// The policy that lets in nothing but what is signed and trusted; `None` for a systemd that takes
/// none.
pub fn strict_image_policy(systemd: SystemdVersion, kind: ExtensionKind) -> Option<&'static str> {
    image_policy(systemd, kind, true)
}

/// The policy for a node that requires signatures, or for one that does not. The latter relies on
/// every image having been proved before it is linked.
pub fn image_policy(
    systemd: SystemdVersion,
    kind: ExtensionKind,
    signed: bool,
) -> Option<&'static str> {
    match kind {
        ExtensionKind::Sysext | ExtensionKind::Confext if systemd < FIRST => None,
        ExtensionKind::Sysext | ExtensionKind::Confext if signed => Some(STRICT),
        ExtensionKind::Sysext | ExtensionKind::Confext => Some(OPEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the first two columns was run (systemd 252, 257 and 262), the rest read in the
    /// sources.
    #[test]
    fn every_version_gets_the_strictest_policy_that_it_enforces() {
        for (version, signed, open) in [
            (252, None, None),
            (253, None, None),
            (254, Some(STRICT), Some(OPEN)),
            (255, Some(STRICT), Some(OPEN)),
            (257, Some(STRICT), Some(OPEN)),
            (258, Some(STRICT), Some(OPEN)),
            (262, Some(STRICT), Some(OPEN)),
        ] {
            let systemd = SystemdVersion(version);
            for kind in [ExtensionKind::Sysext, ExtensionKind::Confext] {
                assert_eq!(strict_image_policy(systemd, kind), signed, "{version}");
                assert_eq!(image_policy(systemd, kind, false), open, "{version}");
            }
        }
    }

    #[test]
    fn usr_partitions_are_kept_out_by_either() {
        for policy in [STRICT, OPEN] {
            assert!(policy.split(':').any(|term| term == "usr=absent"));
        }
    }
}
