//! `sysgraft` itself, as the program that users run.

use std::path::Path;
use std::process::Command;

use super::measure::{Output, Way};
use super::session::Session;

/// `sysgraft sysext` of a layer on this file system. The compression is always said, as its default
/// may change; more options may follow it, behind spaces.
pub fn sysext(session: &Session, compression: &str, layer: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft"));
    command
        .args(["sysext", "--compression"])
        .args(compression.split_whitespace())
        .arg("--output")
        .arg(session.path("out"))
        .arg("bench")
        .arg(format!("tar:{}", layer.display()));
    command
}

/// The same, signed with an example key.
pub fn signed_sysext(session: &Session, compression: &str, layer: &Path) -> Command {
    let mut command = sysext(session, compression, layer);
    command.args(["--private-key", PRIVATE_KEY, "--certificate", CERTIFICATE]);
    command
}

pub const PRIVATE_KEY: &str = "keys-example/db.key";
pub const CERTIFICATE: &str = "keys-example/db.pem";

/// A way to the image that `command` makes.
pub fn way(session: &Session, name: impl Into<String>, command: Command) -> Way {
    let image = session.output("bench.sysext.raw");
    Way::ours(name, command, Output::FileSystemIn(image))
}
