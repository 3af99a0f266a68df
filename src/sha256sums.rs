//! A line of `SHA256SUMS`, as feeds have them and nodes read them.
//!
//! The format is sha256sum(1)'s as systemd-sysupdate reads it (systemd `src/sysupdate/`
//! `sysupdate-resource.c`): 64 hexadecimal digits, a space, a space or `*`, a file name, a line
//! feed; no escapes, no folders.

use crate::digest::{Digest, unhex32};

/// The name of the list.
pub const FILE_NAME: &str = "SHA256SUMS";

/// The digest and the file name in a line with its line feed, or what is wrong with it.
///
/// # Errors
/// What is wrong, to be put behind the number of the line.
pub fn parse_line(line: &str) -> Result<(Digest, &str), &'static str> {
    let line = line
        .strip_suffix('\n')
        .ok_or("is cut off, it does not end in a line feed")?;
    let digest = line
        .get(..64)
        .and_then(unhex32)
        .ok_or("does not start with a SHA-256 digest")?;
    let name = line
        .get(64..)
        .and_then(|rest| rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *")))
        .ok_or("has no file name behind its digest")?;
    if name.is_empty() || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err("has a file name with a folder, an escape or a control character");
    }
    Ok((Digest::from_bytes(digest), name))
}
