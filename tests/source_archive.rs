//! Images in OCI layouts and in the archives of `docker save`.

#[path = "support/registry_image.rs"]
mod registry_image;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use registry_image::{
    Blobs, GZIP_LAYER, INDEX, configuration, content, digest, gzip, index, tarball,
};
use serde_json::{Value, json};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::source::{FindOptions, Image, SourceError, find};
use tempfile::TempDir;

const BASE: &[u8] = &[1; 5000];
const TOP: &[u8] = &[2; 7000];

fn look(reference: &str, platform: &str) -> Result<Image, SourceError> {
    find(
        &reference.parse().unwrap(),
        &platform.parse().unwrap(),
        &FindOptions::default(),
    )
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

fn without_platform(mut descriptor: Value) -> Value {
    descriptor.as_object_mut().unwrap().remove("platform");
    descriptor
}

/// Writes a layout as a directory and as an archive, plain and compressed.
struct Layout {
    directory: TempDir,
}

impl Layout {
    fn write(blobs: &Blobs, manifests: &[Value]) -> Layout {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("layout");
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("index.json"), index(manifests)).unwrap();
        fs::write(
            root.join("oci-layout"),
            r#"{"imageLayoutVersion": "1.0.0"}"#,
        )
        .unwrap();
        for (digest, content) in &blobs.0 {
            fs::write(root.join("blobs/sha256").join(digest.hex()), content).unwrap();
        }
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.append_dir_all(".", &root).unwrap();
        let archive = builder.into_inner().unwrap();
        fs::write(directory.path().join("gz.tar"), gzip(&archive)).unwrap();
        fs::write(directory.path().join("plain.tar"), archive).unwrap();
        Layout { directory }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("layout")
    }

    /// All references to the layout.
    fn references(&self, suffix: &str) -> [String; 3] {
        let path = self.directory.path().display();
        [
            format!("oci:{path}/layout{suffix}"),
            format!("oci-archive:{path}/plain.tar{suffix}"),
            format!("oci-archive:{path}/gz.tar{suffix}"),
        ]
    }
}

#[test]
fn the_only_image_of_a_layout_needs_no_name() {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[BASE, TOP]);
    let layout = Layout::write(&blobs, &[without_platform(manifest.clone())]);
    for reference in layout.references("") {
        let image = look(&reference, "amd64").unwrap();
        assert_eq!(image.location, reference);
        assert_eq!(image.digest, Some(digest(&manifest)));
        assert_eq!(image.architecture, Some(Architecture::X86_64));
        assert_eq!(image.layers.len(), 2);
        let stored = gzip(TOP);
        assert_eq!(image.layers[1].blob, Some(Digest::of(&stored)));
        assert_eq!(image.layers[1].diff_id, Some(Digest::of(TOP)));
        assert_eq!(image.layers[1].size, Some(stored.len() as u64));
        assert_eq!(content(&image, 1).unwrap(), stored);
        assert_eq!(content(&image, 0).unwrap(), gzip(BASE));
    }
}

#[test]
fn a_layout_is_searched_by_name_and_platform() {
    let mut blobs = Blobs::default();
    let amd64 = blobs.add_image("linux/amd64", &[BASE]);
    let arm64 = blobs.add_image("linux/arm64/v8", &[TOP]);
    let inner = blobs.add(INDEX, index(&[amd64.clone(), arm64.clone()]));
    let other = without_platform(blobs.add_image("linux/amd64", &[BASE, TOP]));
    let layout = Layout::write(&blobs, &[named(inner, "many"), named(other.clone(), "one")]);
    for reference in layout.references(":many") {
        let image = look(&reference, "arm64").unwrap();
        assert_eq!(image.digest, Some(digest(&arm64)));
        assert_eq!(image.location, reference);
        assert_eq!(
            look(&reference, "amd64").unwrap().digest,
            Some(digest(&amd64))
        );
        let Err(SourceError::NoSuchPlatform { available, .. }) = look(&reference, "riscv64") else {
            panic!("found");
        };
        assert_eq!(available, ["linux/amd64", "linux/arm64/v8"]);
    }
    for reference in layout.references(":one") {
        assert_eq!(
            look(&reference, "amd64").unwrap().digest,
            Some(digest(&other))
        );
    }
    for reference in layout.references("") {
        assert_eq!(
            look(&reference, "arm64").unwrap().digest,
            Some(digest(&arm64))
        );
        let Err(SourceError::Ambiguous { available, .. }) = look(&reference, "amd64") else {
            panic!("found");
        };
        assert_eq!(available, ["many", "one"]);
    }
    for reference in layout.references(":absent") {
        let Err(SourceError::NoSuchImage { available, .. }) = look(&reference, "amd64") else {
            panic!("found");
        };
        assert_eq!(available, ["many", "one"]);
    }
}

#[test]
fn attestations_are_not_taken_for_images() {
    let mut blobs = Blobs::default();
    let image = blobs.add_image("linux/amd64", &[BASE]);
    let mut attestation = blobs.add_image("unknown/unknown", &[TOP]);
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let layout = Layout::write(&blobs, &[attestation, image.clone()]);
    for reference in layout.references("") {
        assert_eq!(
            look(&reference, "amd64").unwrap().digest,
            Some(digest(&image))
        );
    }
}

#[test]
fn changed_manifests_and_configurations_are_refused() {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[BASE]);
    let json: Value = serde_json::from_slice(&blobs.0[&digest(&manifest)]).unwrap();
    for victim in [digest(&manifest), digest(&json["config"])] {
        let mut changed = blobs.clone();
        changed.0.get_mut(&victim).unwrap().push(b' ');
        let layout = Layout::write(&changed, std::slice::from_ref(&manifest));
        for reference in layout.references("") {
            let result = look(&reference, "amd64");
            assert!(
                matches!(&result, Err(SourceError::WrongDigest { expected, .. }) if *expected == victim),
                "{result:?}"
            );
        }
    }
}

#[test]
fn missing_oversized_and_short_blobs_are_named() {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[BASE]);
    let layer = Digest::of(&gzip(BASE));
    let manifests = [manifest.clone()];

    let mut short = blobs.clone();
    short.0.get_mut(&layer).unwrap().pop();
    let layout = Layout::write(&short, &manifests);
    for reference in layout.references("") {
        let image = look(&reference, "amd64").unwrap();
        assert!(matches!(
            content(&image, 0),
            Err(SourceError::Malformed { .. })
        ));
    }

    let mut absent = blobs.clone();
    absent.0.remove(&layer);
    let layout = Layout::write(&absent, &manifests);
    for reference in layout.references("") {
        let image = look(&reference, "amd64").unwrap();
        let Err(SourceError::Missing { member, .. }) = content(&image, 0) else {
            panic!("opened");
        };
        assert!(member.contains(&layer.hex()));
    }

    let mut huge = blobs;
    let configuration = huge.add("x", vec![b' '; (4 << 20) + 1]);
    let manifest = huge.add_manifest(configuration, Vec::new());
    let layout = Layout::write(&huge, &[manifest]);
    for reference in layout.references("") {
        assert!(matches!(
            look(&reference, "amd64"),
            Err(SourceError::TooLarge { .. })
        ));
    }
}

#[test]
fn endless_nesting_of_indexes_is_refused() {
    let mut blobs = Blobs::default();
    let mut entry = blobs.add_image("linux/amd64", &[BASE]);
    for _ in 0..8 {
        entry = blobs.add(INDEX, index(&[entry]));
    }
    let deep = Layout::write(&blobs, &[entry]);
    let mut blobs = Blobs::default();
    let image = blobs.add_image("linux/amd64", &[BASE]);
    let mut wide = blobs.add(INDEX, index(&vec![image; 50]));
    for _ in 0..3 {
        wide = blobs.add(INDEX, index(&vec![wide; 50]));
    }
    let wide = Layout::write(&blobs, &[wide]);
    for layout in [deep, wide] {
        for reference in layout.references("") {
            assert!(matches!(
                look(&reference, "amd64"),
                Err(SourceError::Malformed { .. })
            ));
        }
    }
}

#[test]
fn symbolic_links_in_a_layout_directory_are_not_followed() {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[BASE]);
    let layer = Digest::of(&gzip(BASE));
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), gzip(BASE)).unwrap();

    let layout = Layout::write(&blobs, std::slice::from_ref(&manifest));
    let blob = layout.root().join("blobs/sha256").join(layer.hex());
    fs::remove_file(&blob).unwrap();
    symlink(secret.path(), &blob).unwrap();
    let image = look(&layout.references("")[0], "amd64").unwrap();
    assert!(matches!(content(&image, 0), Err(SourceError::File { .. })));

    let layout = Layout::write(&blobs, &[manifest]);
    let elsewhere = layout.directory.path().join("elsewhere");
    fs::rename(layout.root().join("blobs"), &elsewhere).unwrap();
    symlink(&elsewhere, layout.root().join("blobs")).unwrap();
    assert!(matches!(
        look(&layout.references("")[0], "amd64"),
        Err(SourceError::File { .. })
    ));
}

#[test]
fn foreign_layers_are_refused_when_they_are_opened_and_not_before() {
    let mut blobs = Blobs::default();
    let foreign = blobs.add(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        gzip(BASE),
    );
    let top = blobs.add(GZIP_LAYER, gzip(TOP));
    let diff_ids = [Digest::of(BASE), Digest::of(TOP)].into_iter();
    let configuration = configuration("linux/amd64", diff_ids).to_string();
    let configuration = blobs.add("x", configuration.into_bytes());
    let manifest = blobs.add_manifest(configuration, vec![foreign, top]);
    let layout = Layout::write(&blobs, &[manifest]);
    for reference in layout.references("") {
        let image = look(&reference, "amd64").unwrap();
        assert!(matches!(
            content(&image, 0),
            Err(SourceError::LayerMediaType { .. })
        ));
        assert_eq!(content(&image, 1).unwrap(), gzip(TOP));
    }
}

#[test]
fn something_else_than_a_layout_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let file = directory.path().join("file.tar");
    fs::write(&file, tarball(&[("a", b"b")])).unwrap();
    let kind = |reference: String| look(&reference, "amd64").unwrap_err();
    assert!(matches!(
        kind(format!("oci:{path}")),
        SourceError::Missing { .. }
    ));
    assert!(matches!(
        kind(format!("oci:{path}/no")),
        SourceError::File { .. }
    ));
    assert!(matches!(
        kind(format!("oci:{path}/file.tar")),
        SourceError::NotDirectory { .. }
    ));
    for transport in ["oci-archive", "docker-archive"] {
        assert!(matches!(
            kind(format!("{transport}:{path}/file.tar")),
            SourceError::Missing { .. }
        ));
        assert!(matches!(
            kind(format!("{transport}:{path}")),
            SourceError::IsDirectory { .. }
        ));
    }
}

/// An archive as `docker save` of Docker 20.10 writes it.
fn docker_archive(path: &Path, images: &[(&str, &str, &[&str])], members: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    };
    let mut list = Vec::new();
    for (name, content) in members {
        add(name, content);
    }
    for (tag, platform, layers) in images {
        let diff_ids = layers.iter().map(|layer| match *layer {
            "1/layer.tar" | "2/layer.tar" => Digest::of(BASE),
            _ => Digest::of(TOP),
        });
        let configuration = configuration(platform, diff_ids).to_string();
        let name = format!("{}.json", Digest::of(configuration.as_bytes()).hex());
        add(&name, configuration.as_bytes());
        list.push(json!({"Config": name, "RepoTags": [tag], "Layers": layers}));
    }
    add("manifest.json", Value::from(list).to_string().as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "2/layer.tar", "../1/layer.tar")
        .unwrap();
    fs::write(path, builder.into_inner().unwrap()).unwrap();
}

#[test]
fn a_saved_image_is_found_with_its_linked_layers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    docker_archive(
        &path,
        &[(
            "app:1",
            "linux/amd64",
            &["1/layer.tar", "3/layer.tar", "2/layer.tar"],
        )],
        &[("1/layer.tar", BASE), ("3/layer.tar", TOP)],
    );
    let reference = format!("docker-archive:{}", path.display());
    let image = look(&reference, "amd64").unwrap();
    assert_eq!(image.location, format!("{reference}:app:1"));
    assert_eq!(image.architecture, Some(Architecture::X86_64));
    for (layer, expected) in [BASE, TOP, BASE].into_iter().enumerate() {
        assert_eq!(image.layers[layer].diff_id, Some(Digest::of(expected)));
        assert_eq!(content(&image, layer).unwrap(), expected);
    }
}

#[test]
fn saved_images_are_chosen_by_name_and_platform() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    docker_archive(
        &path,
        &[
            ("app:1", "linux/amd64", &["1/layer.tar"]),
            ("docker.io/library/app:2", "linux/amd64", &["3/layer.tar"]),
            ("app:arm", "linux/arm64", &["3/layer.tar"]),
        ],
        &[("1/layer.tar", BASE), ("3/layer.tar", TOP)],
    );
    let reference = format!("docker-archive:{}", path.display());
    let image = look(&format!("{reference}:app:2"), "amd64").unwrap();
    assert_eq!(content(&image, 0).unwrap(), TOP);
    let image = look(&reference, "arm64").unwrap();
    assert_eq!(image.location, format!("{reference}:app:arm"));
    assert!(matches!(
        look(&reference, "amd64"),
        Err(SourceError::Ambiguous { .. })
    ));
    assert!(matches!(
        look(&format!("{reference}:app:3"), "amd64"),
        Err(SourceError::NoSuchImage { available, .. }) if available.len() == 3
    ));
    assert!(matches!(
        look(&format!("{reference}:app:arm"), "amd64"),
        Err(SourceError::NoSuchPlatform { available, .. }) if available == ["linux/arm64"]
    ));
}

#[test]
fn a_saved_image_whose_configuration_was_changed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    let name = format!("{}.json", Digest::of(b"something else").hex());
    let list = json!([{"Config": name, "RepoTags": null, "Layers": ["a.tar"]}]).to_string();
    let configuration = configuration("linux/amd64", [Digest::of(b"x")].into_iter()).to_string();
    let files: [(&str, &[u8]); 3] = [
        ("a.tar", b"x"),
        (&name, configuration.as_bytes()),
        ("manifest.json", list.as_bytes()),
    ];
    fs::write(&path, tarball(&files)).unwrap();
    let reference = format!("docker-archive:{}", path.display());
    assert!(matches!(
        look(&reference, "amd64"),
        Err(SourceError::WrongDigest { .. })
    ));
}

#[test]
fn a_saved_image_with_fewer_diff_ids_than_layers_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.tar");
    let list = json!([{"Config": "c", "RepoTags": [], "Layers": ["a.tar", "a.tar"]}]).to_string();
    let configuration = configuration("linux/amd64", [Digest::of(b"x")].into_iter()).to_string();
    let files: [(&str, &[u8]); 3] = [
        ("a.tar", b"x"),
        ("c", configuration.as_bytes()),
        ("manifest.json", list.as_bytes()),
    ];
    fs::write(&path, tarball(&files)).unwrap();
    let reference = format!("docker-archive:{}", path.display());
    assert!(matches!(
        look(&reference, "amd64"),
        Err(SourceError::Malformed { .. })
    ));
}
