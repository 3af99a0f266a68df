//! Images in real container engines: Debian's `dockerd` and `podman`, started for the test on a
//! socket of their own, with all of their data in a temporary directory.

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;
use sysgraft::digest::Digest;
use sysgraft::source::{FindOptions, Image, LayerBytes, Platform, SourceError, find};
use tempfile::TempDir;

const SOCKET: &str = "engine.sock";

/// The engine, until the value is dropped.
struct Engine {
    process: Child,
    directory: TempDir,
}

impl Engine {
    fn dockerd() -> Result<Engine, String> {
        Engine::start("dockerd", |directory, command| {
            command
                .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
                // overlayfs cannot be had in every container that runs tests.
                .arg("--storage-driver=vfs")
                .arg("--host")
                .arg(format!("unix://{}", directory.join(SOCKET).display()))
                .arg("--data-root")
                .arg(directory.join("data"))
                .arg("--exec-root")
                .arg(directory.join("exec"))
                .arg("--pidfile")
                .arg(directory.join("pid"));
        })
    }

    fn podman() -> Result<Engine, String> {
        Engine::start("podman", |directory, command| {
            command
                .arg("--root")
                .arg(directory.join("data"))
                .arg("--runroot")
                .arg(directory.join("run"))
                .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
                .args(["system", "service", "--time=0"])
                .arg(format!("unix://{}", directory.join(SOCKET).display()));
        })
    }

    fn start(program: &str, arguments: impl Fn(&Path, &mut Command)) -> Result<Engine, String> {
        if !geteuid().is_root() {
            return Err(format!("{program} needs root"));
        }
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        arguments(directory.path(), &mut command);
        let process = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let mut engine = Engine { process, directory };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !engine.docker(&["version"])?.status.success() {
            let has_ended = engine.process.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > deadline {
                let log = fs::read_to_string(engine.path("log")).unwrap();
                let end: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("{program} does not work here: {}", end.join("; ")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(engine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.path(SOCKET).display())
    }

    fn docker(&self, arguments: &[&str]) -> Result<Output, String> {
        Command::new("docker")
            .arg("--host")
            .arg(self.address())
            .args(arguments)
            // The other builder needs a plugin that Debian does not have.
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CONFIG", self.directory.path())
            .output()
            .map_err(|error| format!("docker cannot be started: {error}"))
    }

    /// Runs `docker` and returns what it prints.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments).unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {message}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn find(&self, reference: &str) -> Result<Image, SourceError> {
        let options = FindOptions {
            engine: Some(self.address()),
            ..FindOptions::default()
        };
        find(
            &reference.parse().unwrap(),
            &Platform::host().unwrap(),
            &options,
        )
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Politely: dockerd takes its containerd with it.
        if let Some(pid) = Pid::from_raw(self.process.id().try_into().unwrap()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

fn tarball(path: &Path, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

fn content(image: &Image, layer: usize) -> Vec<u8> {
    let LayerBytes::Archive(mut bytes) = image.layers[layer].open().unwrap() else {
        panic!("no archive");
    };
    let mut content = Vec::new();
    bytes.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn images_of_docker_are_found_and_their_layers_are_theirs() {
    let test = "images_of_docker_are_found_and_their_layers_are_theirs";
    match Engine::dockerd() {
        Ok(engine) => {
            a_loaded_image_comes_back_byte_for_byte(&engine);
            an_imported_tarball_is_an_image(&engine);
            a_built_image_has_its_diff_ids(&engine);
            an_absent_image_is_absent(&engine);
        }
        Err(reason) => support::skip(test, &reason),
    }
}

#[test]
fn images_of_podman_are_found_and_their_layers_are_theirs() {
    let test = "images_of_podman_are_found_and_their_layers_are_theirs";
    match Engine::podman() {
        Ok(engine) => {
            a_loaded_image_comes_back_byte_for_byte(&engine);
            an_imported_tarball_is_an_image(&engine);
            an_absent_image_is_absent(&engine);
        }
        Err(reason) => support::skip(test, &reason),
    }
}

fn a_loaded_image_comes_back_byte_for_byte(engine: &Engine) {
    let big = vec![7; 5 << 20];
    let base = tarball(&engine.path("base.tar"), &[("usr/bin/base", b"base")]);
    let top = tarball(&engine.path("top.tar"), &[("usr/bin/top", &big)]);
    // The same layer twice, which Docker 20.10 saves as a symbolic link.
    let layers = [&base, &top, &base];
    let configuration = json!({
        "os": "linux",
        "architecture": Platform::host().unwrap().architecture.oci_name(),
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.map(|layer| Digest::of(layer).to_string()),
        },
    });
    let list = json!([{
        "Config": "config.json",
        "RepoTags": ["loaded:1"],
        "Layers": ["base.tar", "top.tar", "base.tar"],
    }]);
    let archive = engine.path("image.tar");
    tarball(
        &archive,
        &[
            ("config.json", configuration.to_string().as_bytes()),
            ("base.tar", &base),
            ("top.tar", &top),
            ("manifest.json", list.to_string().as_bytes()),
        ],
    );
    engine.run(&["load", "--input", archive.to_str().unwrap()]);
    let image = engine.find("docker-daemon:loaded:1").unwrap();
    assert_eq!(
        image.architecture,
        Some(Platform::host().unwrap().architecture)
    );
    assert_eq!(image.layers.len(), 3);
    for (layer, expected) in layers.into_iter().enumerate() {
        assert_eq!(image.layers[layer].diff_id, Some(Digest::of(expected)));
        assert!(content(&image, layer) == *expected);
    }
    // What the engine saves is an archive that is understood, too.
    let saved = engine.path("saved.tar");
    engine.run(&["save", "--output", saved.to_str().unwrap(), "loaded:1"]);
    let image = engine
        .find(&format!("docker-archive:{}", saved.display()))
        .unwrap();
    for (layer, expected) in layers.into_iter().enumerate() {
        assert!(content(&image, layer) == *expected);
    }
}

fn an_imported_tarball_is_an_image(engine: &Engine) {
    let file = engine.path("import.tar");
    let tree = tarball(&file, &[("usr/lib/x", b"imported")]);
    engine.run(&["import", file.to_str().unwrap(), "imported:1"]);
    let id = engine.run(&["inspect", "--format", "{{.Id}}", "imported:1"]);
    for reference in ["imported:1".to_owned(), format!("docker-daemon:{id}")] {
        let image = engine.find(&reference).unwrap();
        assert!(image.location.starts_with("docker-daemon:"));
        assert_eq!(Digest::of(&content(&image, 0)), Digest::of(&tree));
    }
}

fn a_built_image_has_its_diff_ids(engine: &Engine) {
    let context = engine.path("context");
    fs::create_dir(&context).unwrap();
    tarball(&context.join("a.tar"), &[("a", b"a")]);
    fs::write(context.join("b"), "b").unwrap();
    let dockerfile = "FROM scratch\nADD a.tar /\nADD b /\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    engine.run(&[
        "build",
        "--quiet",
        "--tag",
        "built:1",
        context.to_str().unwrap(),
    ]);
    let image = engine.find("docker-daemon:built:1").unwrap();
    assert_eq!(image.layers.len(), 2);
    for layer in 0..2 {
        let diff_id = image.layers[layer].diff_id;
        assert_eq!(diff_id, Some(Digest::of(&content(&image, layer))));
    }
}

fn an_absent_image_is_absent(engine: &Engine) {
    let error = engine.find("docker-daemon:absent:1").unwrap_err();
    assert!(matches!(error, SourceError::NotInEngine { .. }), "{error}");
}
