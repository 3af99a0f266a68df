//! Images in real container engines: Debian's `dockerd` and `podman`, started for the test on a
//! socket of their own, with all of their data in a temporary directory.

#[path = "support/container_engine.rs"]
mod container_engine;
mod support;

use std::fs;
use std::io::Read;
use std::path::Path;

use container_engine::Engine;
use serde_json::json;
use sysgraft::digest::Digest;
use sysgraft::source::{FindOptions, Image, LayerBytes, Platform, SourceError, find};

fn find_in(engine: &Engine, reference: &str) -> Result<Image, SourceError> {
    let options = FindOptions {
        engine: Some(engine.address()),
        ..FindOptions::default()
    };
    find(
        &reference.parse().unwrap(),
        &Platform::host().unwrap(),
        &options,
    )
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
    let image = find_in(engine, "docker-daemon:loaded:1").unwrap();
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
    let image = find_in(engine, &format!("docker-archive:{}", saved.display())).unwrap();
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
        let image = find_in(engine, &reference).unwrap();
        assert!(image.location.starts_with("docker-daemon:"));
        assert_eq!(Digest::of(&content(&image, 0)), Digest::of(&tree));
    }
}

fn a_built_image_has_its_diff_ids(engine: &Engine) {
    let context = engine.path("context");
    fs::create_dir(&context).unwrap();
    tarball(&context.join("a.tar"), &[("a", b"a")]);
    fs::write(context.join("b"), "b").unwrap();
    let dockerfile = "FROM scratch\nADD a.tar /\nENV x=y\nADD b /\nCOPY b /usr/share/b\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    engine.run(&[
        "build",
        "--quiet",
        "--tag",
        "built:1",
        context.to_str().unwrap(),
    ]);
    let image = find_in(engine, "docker-daemon:built:1").unwrap();
    assert_eq!(image.layers.len(), 3);
    let commands: Vec<_> = (image.layers.iter())
        .map(|layer| layer.history.created_by.as_deref().unwrap_or_default())
        .collect();
    for (command, said) in commands.iter().zip(["ADD", "ADD", "COPY"]) {
        assert!(command.contains(said), "{commands:?}");
    }
    for layer in &image.layers {
        layer.content.announce();
    }
    for layer in [2, 1, 0] {
        let diff_id = image.layers[layer].diff_id;
        assert_eq!(diff_id, Some(Digest::of(&content(&image, layer))));
    }
}

fn an_absent_image_is_absent(engine: &Engine) {
    let error = find_in(engine, "docker-daemon:absent:1").unwrap_err();
    assert!(matches!(error, SourceError::NotInEngine { .. }), "{error}");
}
