//! The commands of docs/container.md and docs/quick-start.md with a real dockerd. The image is put together of the programs under
//! test; `make image-check` does the same with the one that the Dockerfile makes.

#[path = "support/container_engine.rs"]
mod container_engine;
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use container_engine::Engine;

const TEST: &str = "the commands of docs/container.md";

fn run(engine: &Engine, command: &mut Command) {
    let output = command
        .env("DOCKER_HOST", engine.address())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn the_commands_of_the_document_work_and_files_belong_to_the_caller() {
    if !Path::new("target/erofs-utils/root").is_dir() {
        return support::skip(TEST, "no mkfs.erofs of Debian 13 in target/erofs-utils");
    }
    let engine = match Engine::dockerd() {
        Ok(engine) => engine,
        Err(reason) => return support::skip(TEST, &reason),
    };
    // The commands are a user's.
    fs::set_permissions(engine.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(engine.path("engine.sock"), Permissions::from_mode(0o666)).unwrap();
    run(
        &engine,
        Command::new("tests/container/small-image").args([
            env!("CARGO_BIN_EXE_sysgraft"),
            env!("CARGO_BIN_EXE_sysgraft-agent"),
        ]),
    );
    run(&engine, &mut Command::new("tests/container/commands"));
}
