//! What systemd says of units.

use std::path::PathBuf;
use std::process::Command;

use crate::support::skip;

/// Has `systemd-analyze verify` judge these files, for `test`: it must find nothing to object to.
pub fn systemd_takes(test: &str, units: &[PathBuf]) {
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(units)
        .output();
    let Ok(output) = verified else {
        return skip(test, "there is no systemd-analyze");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
