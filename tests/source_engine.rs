//! Images in a container engine, which is played by a thread of the test: all forms of exports,
//! and what happens when the engine does not have the image.

#[path = "support/engine_server.rs"]
mod engine_server;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/request_head.rs"]
mod request_head;
mod support;

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use engine_server::{EngineServer, Taken, answers};
use registry_image::{Blobs, digest, gzip, tarball};
use registry_server::{Behaviour, RegistryServer};
use rustix::process::geteuid;
use serde_json::Value;
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::source::{FindOptions, Image, LayerBytes, Pull, SourceError, find};

const BASE: &[u8] = &[1; 300_000];
const TOP: &[u8] = &[2; 700_000];

fn look(reference: &str, engine: &str, pull: Pull) -> Result<Image, SourceError> {
    let options = FindOptions {
        engine: Some(engine.to_owned()),
        pull,
        ..FindOptions::default()
    };
    find(
        &reference.parse().unwrap(),
        &"amd64".parse().unwrap(),
        &options,
    )
}

fn open(image: &Image, layer: usize) -> Result<Box<dyn Read + Send>, SourceError> {
    match image.layers[layer].open()? {
        LayerBytes::Archive(bytes) => Ok(bytes),
        LayerBytes::Directory(_) => panic!("no archive"),
    }
}

fn content(image: &Image, layer: usize) -> Vec<u8> {
    let mut content = Vec::new();
    open(image, layer)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    content
}

fn diff_ids() -> [Digest; 2] {
    [Digest::of(BASE), Digest::of(TOP)]
}

#[test]
fn every_layer_comes_out_of_every_form_of_export() {
    let [base, top] = diff_ids().map(|id| id.hex());
    let (base_blob, top_blob) = (gzip(BASE), zstd::encode_all(TOP, 1).unwrap());
    let hex = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let docker_20 = tarball(&[
        ("0000.json", b"{}"),
        ("aaaa/json", b"{}"),
        ("aaaa/layer.tar", TOP),
        ("bbbb/layer.tar", BASE),
        ("manifest.json", b"[]"),
    ]);
    let docker_25 = tarball(&[
        (&format!("blobs/sha256/{top}"), TOP),
        (&format!("blobs/sha256/{base}"), BASE),
        ("index.json", b"{}"),
        ("manifest.json", b"[]"),
    ]);
    let containerd = tarball(&[
        (&hex(b"{}"), b"{}"),
        (&hex(&top_blob), &top_blob),
        (&hex(&base_blob), &base_blob),
        ("index.json", b"{}"),
    ]);
    let podman = tarball(&[
        (&format!("{base}.tar"), BASE),
        (&format!("{top}.tar"), TOP),
        ("manifest.json", b"[]"),
    ]);
    for (export, stored) in [
        (docker_20, [BASE, TOP]),
        (docker_25, [BASE, TOP]),
        (containerd, [base_blob.as_slice(), &top_blob]),
        (podman, [BASE, TOP]),
    ] {
        let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), export));
        let image = look("docker-daemon:app", &server.address(), Pull::Missing).unwrap();
        assert_eq!(image.location, "docker-daemon:docker.io/library/app:latest");
        assert_eq!(image.architecture, Some(Architecture::X86_64));
        let found: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(found, diff_ids().map(Some));
        for (layer, stored) in stored.into_iter().enumerate() {
            assert!(content(&image, layer) == stored);
        }
    }
}

#[test]
fn an_image_is_found_by_its_id() {
    let id = Digest::of(b"app");
    let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), Vec::new()));
    let reference = format!("docker-daemon:{id}");
    let image = look(&reference, &server.address(), Pull::Missing).unwrap();
    assert_eq!(image.location, reference);
}

/// What was taken of the export, once the engine has noticed that the client is gone.
fn taken_of_export(server: &EngineServer) -> Taken {
    loop {
        let (path, taken) = server.log.recv_timeout(Duration::from_secs(20)).unwrap();
        if path.ends_with("/get") {
            return taken;
        }
    }
}

/// What the client has not read yet may be under way: 8 MiB in sysgraft, the rest in the socket.
const UNDER_WAY: usize = 10 << 20;

#[test]
fn the_connection_is_closed_once_the_layer_was_read() {
    let behind = vec![0; 64 << 20];
    let export = tarball(&[
        (&format!("blobs/sha256/{}", Digest::of(TOP).hex()), TOP),
        ("blobs/sha256/behind", &behind),
    ]);
    let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), export));
    let image = look("docker-daemon:app", &server.address(), Pull::Missing).unwrap();
    assert!(content(&image, 1) == TOP);
    let taken = taken_of_export(&server);
    assert!(
        !taken.is_whole && taken.bytes < TOP.len() + UNDER_WAY,
        "{taken:?}"
    );
}

#[test]
fn several_layers_come_out_of_one_export_that_is_closed_behind_the_last() {
    let behind = vec![0; 64 << 20];
    let name = |layer: &[u8]| format!("{}.tar", Digest::of(layer).hex());
    // As Podman has it: the layer that is opened first comes last.
    let export = tarball(&[
        (&name(BASE), BASE),
        (&name(TOP), TOP),
        ("behind.tar", &behind),
    ]);
    let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), export));
    let image = look("docker-daemon:app", &server.address(), Pull::Missing).unwrap();
    for layer in &image.layers {
        layer.content.announce();
    }
    assert!(content(&image, 1) == TOP);
    assert!(content(&image, 0) == BASE);
    let taken = taken_of_export(&server);
    let wanted = BASE.len() + TOP.len();
    assert!(
        !taken.is_whole && taken.bytes < wanted + UNDER_WAY,
        "{taken:?}"
    );
    let another = server.log.recv_timeout(Duration::from_millis(200));
    assert!(another.is_err(), "asked again: {another:?}");
}

#[test]
fn a_broken_export_is_an_error_and_no_short_layer() {
    let name = format!("{}.tar", Digest::of(TOP).hex());
    let mut export = tarball(&[(&name, TOP)]);
    export.truncate(400_000);
    let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), export));
    let image = look("docker-daemon:app", &server.address(), Pull::Missing).unwrap();
    let error = open(&image, 1)
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap_err();
    let error = SourceError::from_read(error, |error| panic!("{error}"));
    assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
    assert!(open(&image, 0).is_err());
}

#[test]
fn the_engines_errors_are_told_apart() {
    let mut answers = answers("app", "linux/arm64", &diff_ids(), Vec::new());
    let broken = br#"{"message": "disk on fire"}"#.to_vec();
    answers.insert("/images/broken/json".to_owned(), (500, broken));
    let server = EngineServer::start(answers);
    let kind = |reference: &str| look(reference, &server.address(), Pull::Missing).unwrap_err();
    assert!(matches!(
        kind("docker-daemon:absent"),
        SourceError::NotInEngine { .. }
    ));
    let error = kind("docker-daemon:broken");
    assert!(matches!(error, SourceError::EngineRefused { .. }));
    assert!(error.to_string().contains("disk on fire"), "{error}");
    let SourceError::NoSuchPlatform { available, .. } = kind("docker-daemon:app") else {
        panic!("another error");
    };
    assert_eq!(available, ["linux/arm64"]);

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("dead.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let address = format!("unix://{}", socket.display());
    let error = look("docker-daemon:app", &address, Pull::Missing).unwrap_err();
    assert!(matches!(error, SourceError::EngineUnreachable { .. }));
    assert!(error.to_string().contains("onnection refused"), "{error}");
}

/// A registry with `app:1`, for amd64.
fn registry() -> (RegistryServer, Value) {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[BASE]);
    let document = blobs.0[&digest(&manifest)].clone();
    (
        RegistryServer::start(Behaviour::new(blobs, "1", document)),
        manifest,
    )
}

#[test]
fn a_bare_name_is_looked_for_in_the_engine_then_in_the_registry() {
    let (registry, manifest) = registry();
    let name = format!("{}/app:1", registry.host());
    let with = |platform| EngineServer::start(answers(&name, platform, &diff_ids(), Vec::new()));
    let in_engine = format!("docker-daemon:{name}");
    let in_registry = format!("docker://{name}");
    let nowhere = "unix:///does/not/exist.sock".to_owned();
    let location = |engine: &str, pull| look(&name, engine, pull).unwrap().location;

    let engine = with("linux/amd64");
    assert_eq!(location(&engine.address(), Pull::Missing), in_engine);
    assert_eq!(location(&engine.address(), Pull::Never), in_engine);
    assert_eq!(registry.requests(), [""; 0]);
    assert_eq!(location(&engine.address(), Pull::Always), in_registry);

    let other = with("linux/arm64");
    let empty = EngineServer::start(HashMap::new());
    for engine in [other.address(), empty.address(), nowhere] {
        let image = look(&name, &engine, Pull::Missing).unwrap();
        assert_eq!(image.location, in_registry);
        assert_eq!(image.digest, Some(digest(&manifest)));
        assert!(look(&name, &engine, Pull::Never).is_err());
    }
}

#[test]
fn if_a_bare_name_is_nowhere_both_reasons_are_given() {
    let (registry, _) = registry();
    let name = format!("{}/app:2", registry.host());
    let error = look(&name, "unix:///does/not/exist.sock", Pull::Missing).unwrap_err();
    assert!(matches!(error, SourceError::Nowhere { .. }));
    let text = error.to_string();
    assert!(text.contains("/does/not/exist.sock"), "{text}");
    assert!(text.contains("does not exist in its registry"), "{text}");
}

/// Runs sysgraft as a user who owns nothing, with its engine at `server`.
fn build_as_nobody(server: &EngineServer) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    // Where it lies now, nobody may perhaps not go.
    let program = folder.path().join("sysgraft");
    fs::copy(env!("CARGO_BIN_EXE_sysgraft"), &program).unwrap();
    let output = Command::new(program)
        .args(["sysext", "app", "docker-daemon:app", "--engine"])
        .arg(server.address())
        .current_dir(&folder)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_forbidden_socket_says_who_may_use_it() {
    if !geteuid().is_root() {
        return support::skip("a_forbidden_socket_says_who_may_use_it", "needs root");
    }
    let server = EngineServer::start(answers("app", "linux/amd64", &diff_ids(), Vec::new()));
    let socket = server.socket();
    let folder = socket.parent().unwrap();
    let permit =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();

    permit(folder, 0o700);
    let closed = build_as_nobody(&server);
    assert!(closed.contains("Permission denied"), "{closed}");
    assert!(closed.contains("only its owner may use it"), "{closed}");

    permit(folder, 0o755);
    permit(&socket, 0o600);
    let own = build_as_nobody(&server);
    assert!(own.contains("Permission denied"), "{own}");
    assert!(own.contains("only the user root may use it"), "{own}");

    // As Docker's packages have it, with another group that every system has.
    chown(&socket, Some(0), Some(1)).unwrap();
    permit(&socket, 0o660);
    let groups = build_as_nobody(&server);
    assert!(groups.contains("usermod -aG daemon USER"), "{groups}");
}
