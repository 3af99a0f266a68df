//! Artefacts from a real registry, in both shapes that are in use.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_registry.rs"]
mod node_registry;
#[path = "support/node_staging.rs"]
mod node_staging;
#[path = "support/node_torn.rs"]
mod node_torn;
#[path = "support/registry_image.rs"]
mod registry_image;
mod support;

use std::fs;

use node_nginx::Nginx;
use node_registry::NodeRegistry;
use node_staging::{Staging, noise};
use node_torn::Torn;
use registry_image::{Blobs, INDEX, digest, index, tarball};
use serde_json::{Value, json};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use sysgraft::node::fetch::{FetchError, Patience, Request, fetch};

const SYSEXT: &str = "application/vnd.kairos.sysext.raw";
const CONFEXT: &str = "application/vnd.kairos.confext.raw";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The registry, or the word that the test cannot run.
macro_rules! registry {
    ($test:literal) => {
        match NodeRegistry::start() {
            Ok(registry) => registry,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

fn location(port: u16, tag: &str) -> String {
    format!("oci:127.0.0.1:{port}/app:{tag}")
}

/// An artefact with these titles and contents; the result is its manifest's descriptor.
fn artefact(blobs: &mut Blobs, kind: &str, files: &[(Option<&str>, &[u8])]) -> Value {
    let layers: Vec<Value> = files
        .iter()
        .map(|(title, content)| {
            let mut layer = blobs.add(kind, content.to_vec());
            if let Some(title) = title {
                layer["annotations"] = json!({"org.opencontainers.image.title": title});
            }
            layer
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": registry_image::MANIFEST,
        "artifactType": kind,
        "config": blobs.add(EMPTY, b"{}".to_vec()),
        "layers": layers,
        "annotations": {"org.opencontainers.image.version": "1.2.3"},
    });
    blobs.add(registry_image::MANIFEST, manifest.to_string().into_bytes())
}

/// Stores one manifest under `tag`.
fn push(registry: &NodeRegistry, blobs: &Blobs, manifest: &Value, tag: &str) {
    let document = blobs.0[&digest(manifest)].clone();
    registry.push(blobs, &[], tag, &document);
}

#[test]
fn an_artefact_of_one_blob_comes_under_its_title() {
    let registry = registry!("an_artefact_of_one_blob_comes_under_its_title");
    let staging = Staging::new();
    let content = noise(1 << 20);
    let packed = zstd::encode_all(content.as_slice(), 1).unwrap();
    for (tag, title, stored, name) in [
        (
            "plain",
            Some("k3s_1.2.3.sysext.raw"),
            &content,
            "k3s_1.2.3.sysext.raw",
        ),
        ("packed", Some("k3s.raw.zst"), &packed, "k3s.raw"),
        ("v7", None, &content, "app_v7.sysext.raw"),
    ] {
        let mut blobs = Blobs::default();
        let manifest = artefact(&mut blobs, SYSEXT, &[(title, stored)]);
        push(&registry, &blobs, &manifest, tag);
        let fetched = staging.fetch(&location(registry.port, tag)).unwrap();
        assert_eq!(fetched.file_name, name);
        assert_eq!(fetched.sha256(), Digest::of(&content));
        assert_eq!(fetched.version.as_deref(), Some("1.2.3"));
        let expected = format!("{}@{}", location(registry.port, tag), digest(&manifest));
        assert_eq!(fetched.source, expected);
        assert!(fs::read(fetched.path()).unwrap() == content);
        // The record names the same thing again.
        assert_eq!(
            staging.fetch(&fetched.source).unwrap().source,
            fetched.source
        );
    }
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn artefacts_of_another_kind_or_shape_are_refused() {
    let registry = registry!("artefacts_of_another_kind_or_shape_are_refused");
    let staging = Staging::new();
    let refused = |tag: &str, kind: &str, files: &[(Option<&str>, &[u8])], words: &str| {
        let mut blobs = Blobs::default();
        let manifest = artefact(&mut blobs, kind, files);
        push(&registry, &blobs, &manifest, tag);
        let error = staging.fetch(&location(registry.port, tag)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(staging.names(), [""; 0]);
    };
    refused(
        "kind",
        CONFEXT,
        &[(Some("a.raw"), b"x")],
        "is a confext, not a sysext",
    );
    refused(
        "two",
        SYSEXT,
        &[(Some("a.raw"), b"x"), (Some("b.raw"), b"y")],
        "2 blobs",
    );
    refused("none", SYSEXT, &[], "0 blobs");
    for (number, title) in ["../../etc/x.raw", "/x.raw", ".x.raw", "a\u{1b}[2J.raw", ""]
        .into_iter()
        .enumerate()
    {
        refused(
            &format!("name{number}"),
            SYSEXT,
            &[(Some(title), b"x")],
            "the file name",
        );
    }
    // A text beside the image file is no obstacle.
    let mut blobs = Blobs::default();
    let files: [(Option<&str>, &[u8]); 2] = [(Some("README"), b"x"), (Some("a.raw"), b"y")];
    let manifest = artefact(&mut blobs, SYSEXT, &files);
    push(&registry, &blobs, &manifest, "readme");
    let fetched = staging.fetch(&location(registry.port, "readme")).unwrap();
    assert_eq!(fs::read(fetched.path()).unwrap(), b"y");
}

#[test]
fn an_image_holds_the_file_in_the_uppermost_layer_that_has_it() {
    let registry = registry!("an_image_holds_the_file_in_the_uppermost_layer_that_has_it");
    let staging = Staging::new();
    let content = noise(300_000);
    let raw = |path: &'static str| tarball(&[("etc/motd", b"x"), (path, &content)]);
    let old = |path: &'static str| tarball(&[(path, b"old")]);
    let images: [(&str, Vec<Vec<u8>>); 6] = [
        ("scratch", vec![raw("k3s.sysext.raw")]),
        ("deep", vec![raw("a/b/k3s.sysext.raw")]),
        (
            "replaced",
            vec![old("k3s.sysext.raw"), raw("k3s.sysext.raw")],
        ),
        (
            "deleted",
            vec![
                old("d/old.raw"),
                tarball(&[("d/.wh.old.raw", b"")]),
                raw("k3s.sysext.raw"),
            ],
        ),
        (
            "opaque",
            vec![
                old("d/old.raw"),
                tarball(&[("d/.wh..wh..opq", b"")]),
                raw("d/k3s.sysext.raw"),
            ],
        ),
        (
            "covered",
            vec![
                old("d/old.raw"),
                tarball(&[("d", b"now a file")]),
                raw("k3s.sysext.raw"),
            ],
        ),
    ];
    for (tag, layers) in images {
        let mut blobs = Blobs::default();
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let manifest = blobs.add_image("linux/amd64", &layers);
        push(&registry, &blobs, &manifest, tag);
        let fetched = staging.fetch(&location(registry.port, tag)).unwrap();
        assert_eq!(fetched.file_name, "k3s.sysext.raw", "{tag}");
        assert!(fs::read(fetched.path()).unwrap() == content, "{tag}");
        assert_eq!(fetched.sha256(), Digest::of(&content));
        drop(fetched);
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn images_without_or_with_several_files_are_refused_and_nothing_is_unpacked() {
    let registry =
        registry!("images_without_or_with_several_files_are_refused_and_nothing_is_unpacked");
    let staging = Staging::new();
    let images: [(&str, Vec<Vec<u8>>, &str); 4] = [
        (
            "none",
            vec![tarball(&[("etc/motd", b"x")])],
            "has no file *.raw",
        ),
        (
            "same",
            vec![tarball(&[("a.raw", b"x"), ("d/b.raw", b"y")])],
            "has 2 files *.raw (/a.raw, /d/b.raw)",
        ),
        (
            "lower",
            vec![tarball(&[("a.raw", b"x")]), tarball(&[("b.raw", b"y")])],
            "has 2 files",
        ),
        ("name", vec![tarball(&[("a b.raw", b"x")])], "the file name"),
    ];
    for (tag, layers, words) in images {
        let mut blobs = Blobs::default();
        let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
        let manifest = blobs.add_image("linux/amd64", &layers);
        push(&registry, &blobs, &manifest, tag);
        let error = staging.fetch(&location(registry.port, tag)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn an_image_full_of_files_is_refused_at_once() {
    let registry = registry!("an_image_full_of_files_is_refused_at_once");
    let staging = Staging::new();
    let names: Vec<String> = (0..40_000).map(|number| format!("{number}.raw")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"x"[..]))
        .collect();
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[&tarball(&files)]);
    push(&registry, &blobs, &manifest, "many");
    let error = staging.fetch(&location(registry.port, "many")).unwrap_err();
    let words = "has more than 1000 files *.raw (/0.raw, ";
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(staging.names(), [""; 0]);
}

#[test]
fn the_content_is_never_that_of_another_file_of_the_layer() {
    let registry = registry!("the_content_is_never_that_of_another_file_of_the_layer");
    let staging = Staging::new();
    let mut builder = tar::Builder::new(tarball(&[("a.raw", b"of a"), ("b.raw", b"of b")]));
    builder.get_mut().truncate(4 * 512);
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "a.raw", "b.raw").unwrap();
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[&builder.into_inner().unwrap()]);
    push(&registry, &blobs, &manifest, "replaced");
    let error = staging.fetch(&location(registry.port, "replaced"));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("another file *.raw before /b.raw"),
        "{error}"
    );
}

#[test]
fn of_an_index_the_image_for_the_host_is_taken() {
    let registry = registry!("of_an_index_the_image_for_the_host_is_taken");
    let staging = Staging::new();
    let mut blobs = Blobs::default();
    let amd64 = blobs.add_image("linux/amd64", &[&tarball(&[("a.raw", b"amd64")])]);
    // An artefact in an index has its platform there.
    let mut arm64 = artefact(&mut blobs, SYSEXT, &[(Some("a.raw"), b"arm64")]);
    arm64["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let document = index(&[amd64.clone(), arm64.clone()]);
    blobs.add(INDEX, document.clone());
    registry.push(&blobs, &[&amd64, &arm64], "both", &document);
    for architecture in [Architecture::X86_64, Architecture::Arm64] {
        let request = Request {
            architecture,
            ..staging.request()
        };
        let location = location(registry.port, "both").parse().unwrap();
        let fetched = fetch(&location, &request, &()).unwrap();
        let content = fs::read_to_string(fetched.path()).unwrap();
        assert_eq!(content, architecture.oci_name().unwrap());
    }
    let request = Request {
        architecture: Architecture::S390x,
        ..staging.request()
    };
    let location = location(registry.port, "both").parse().unwrap();
    let error = fetch(&location, &request, &()).unwrap_err().to_string();
    assert!(
        error.contains("linux/s390x") && error.contains("linux/amd64"),
        "{error}"
    );
}

#[test]
fn damaged_blobs_are_noticed_in_both_shapes() {
    let registry = registry!("damaged_blobs_are_noticed_in_both_shapes");
    let staging = Staging::new();
    let content = noise(400_000);
    let mut blobs = Blobs::default();
    let manifest = artefact(&mut blobs, SYSEXT, &[(Some("a.raw"), &content)]);
    push(&registry, &blobs, &manifest, "artefact");
    let mut other = Blobs::default();
    let image = other.add_image("linux/amd64", &[&tarball(&[("a.raw", &content)])]);
    push(&registry, &other, &image, "image");
    let layers = other.0.iter().filter(|(_, blob)| blob.len() > 300_000);
    let blobs = layers
        .map(|(digest, _)| *digest)
        .chain([Digest::of(&content)]);
    for blob in blobs {
        let path = registry.blob_path(blob);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    for tag in ["artefact", "image"] {
        let error = staging.fetch(&location(registry.port, tag)).unwrap_err();
        assert!(
            matches!(
                error,
                FetchError::WrongDigest { .. } | FetchError::Layer { .. }
            ),
            "{error}"
        );
        assert_eq!(staging.names(), [""; 0]);
    }
}

#[test]
fn torn_connections_to_a_registry_go_on_where_they_were() {
    let registry = registry!("torn_connections_to_a_registry_go_on_where_they_were");
    let staging = Staging::new();
    let content = noise(2 << 20);
    let mut blobs = Blobs::default();
    let manifest = artefact(&mut blobs, SYSEXT, &[(Some("a.raw"), &content)]);
    push(&registry, &blobs, &manifest, "artefact");
    let mut other = Blobs::default();
    let image = other.add_image("linux/amd64", &[&tarball(&[("a.raw", &content)])]);
    push(&registry, &other, &image, "image");
    // gzip makes noise longer.
    let largest = |blobs: &Blobs| blobs.0.values().map(Vec::len).max().unwrap() as u64;
    for (tag, size) in [("artefact", 2 << 20), ("image", largest(&other))] {
        let torn = Torn::before(registry.port, 300_000);
        let fetched = staging.fetch(&location(torn.port, tag)).unwrap();
        assert_eq!(fetched.sha256(), Digest::of(&content), "{tag}");
        let bytes = torn.bytes();
        assert!(bytes - size < 20_000, "{tag}: {bytes} for {size}");
    }
    // A later run goes on, too, and may ask another host for the same blob.
    let torn = Torn::before(registry.port, 1 << 20);
    let impatient = Request {
        patience: Patience {
            retries: 0,
            ..Patience::default()
        },
        ..staging.request()
    };
    let source = location(torn.port, "artefact").parse().unwrap();
    assert!(fetch(&source, &impatient, &()).is_err());
    assert_eq!(staging.names().len(), 2);
    let straight = Torn::before(registry.port, u64::MAX);
    let fetched = staging.fetch(&location(straight.port, "artefact")).unwrap();
    assert_eq!(fetched.sha256(), Digest::of(&content));
    assert!(
        straight.bytes() < (1 << 20) + 20_000,
        "{}",
        straight.bytes()
    );
}

#[test]
fn certificates_of_registries_need_a_trusted_authority() {
    let registry = registry!("certificates_of_registries_need_a_trusted_authority");
    let nginx = match Nginx::start_before(registry.port) {
        Ok(nginx) => nginx,
        Err(reason) => {
            let test = "certificates_of_registries_need_a_trusted_authority";
            return support::skip(test, &reason);
        }
    };
    let staging = Staging::new();
    let mut blobs = Blobs::default();
    let manifest = artefact(&mut blobs, SYSEXT, &[(Some("a.raw"), b"content")]);
    push(&registry, &blobs, &manifest, "1");
    // An address of this host that is not known for one, so that TLS is spoken.
    let source = format!("oci:0.0.0.0:{}/app:1", nginx.https);
    let error = staging.fetch(&source).unwrap_err();
    assert!(matches!(error, FetchError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("--ca-file"), "{error}");
    let authority = nginx.authority();
    let request = Request {
        ca_file: Some(&authority),
        ..staging.request()
    };
    let fetched = fetch(&source.parse().unwrap(), &request, &()).unwrap();
    assert_eq!(fs::read(fetched.path()).unwrap(), b"content");
}

#[test]
fn what_a_registry_does_not_have_is_said_so() {
    let registry = registry!("what_a_registry_does_not_have_is_said_so");
    let staging = Staging::new();
    let error = staging
        .fetch(&location(registry.port, "absent"))
        .unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}
