//! Whether a node is under Trusted Boot: whether it runs a unified kernel image that its firmware has
//! verified.

use crate::efi::Guid;
use crate::node::configuration::TrustedBoot;
use crate::node::firmware;
use crate::node::layout::Layout;
use crate::read_at::read_file;
use crate::secureboot::Variable;

/// What immucore leaves where it booted a unified kernel image.
const SENTINEL: &str = "/run/cos/uki_boot_mode";
/// The word by which Kairos tells immucore that it is in a unified kernel image.
const WORD: &str = "rd.immucore.uki";
/// The vendor of systemd's variables (`src/boot/vmm.h`: the Boot Loader Interface).
const LOADER: Guid = Guid::from_u128(0x4a67b082_0a4c_41cf_b6c7_440b29bb8c4f);
/// A longer command line has no kernel.
const MAX_BYTES: u64 = 1 << 16;

/// Whether a node is under Trusted Boot: as its configuration says, or as the node says of itself.
pub fn is_trusted_boot(layout: &Layout, configured: TrustedBoot) -> bool {
    match configured {
        TrustedBoot::Yes => true,
        TrustedBoot::No => false,
        TrustedBoot::Auto => {
            layout.open_path(SENTINEL).exists() || names_unified_image(layout) || verified(layout)
        }
    }
}

fn names_unified_image(layout: &Layout) -> bool {
    let command_line = read_file(&layout.open_path("/proc/cmdline"), MAX_BYTES).unwrap_or_default();
    let command_line = String::from_utf8_lossy(&command_line);
    command_line.split_whitespace().any(|word| {
        word == WORD
            || word
                .strip_prefix(WORD)
                .is_some_and(|rest| rest.starts_with('='))
    })
}

/// Secure Boot is on, and systemd-stub, with which unified kernel images begin, was there.
fn verified(layout: &Layout) -> bool {
    firmware::is_set(layout, "SecureBoot", Variable::Pk.vendor())
        && firmware::exists(layout, "StubInfo", LOADER)
}
