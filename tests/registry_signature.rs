//! Images that must be signed with cosign. The signatures are made as cosign makes them, by OpenSSL.

#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_registry.rs"]
mod node_registry;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/request_head.rs"]
mod request_head;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use node_registry::NodeRegistry;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use registry_image::{Blobs, INDEX, MANIFEST, digest, index, tarball};
use registry_server::{Behaviour, RegistryServer};
use serde_json::{Value, json};
use sysgraft::digest::Digest;
use workplace::{Workplace, sysgraft, text};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const COSIGN: &str = "cosign container image signature";

type Key = PKey<Private>;

fn ec() -> Key {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn rsa() -> Key {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn sign(key: &Key, message: &[u8]) -> String {
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    STANDARD.encode(signer.sign_oneshot_to_vec(message).unwrap())
}

/// What cosign 2 signs.
fn payload(image: Digest, kind: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": {"docker-reference": "127.0.0.1/app"},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": kind,
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// What cosign 3 stores.
fn bundle(key: &Key, image: Digest, kind: &str) -> Vec<u8> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "", "digest": {"sha256": image.hex()}}],
        "predicateType": kind,
        "predicate": {},
    })
    .to_string();
    let media_type = "application/vnd.in-toto+json";
    let message = format!(
        "DSSEv1 {} {media_type} {} {statement}",
        media_type.len(),
        statement.len()
    );
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement),
            "payloadType": media_type,
            "signatures": [{"sig": sign(key, message.as_bytes()), "keyid": ""}],
        },
    })
    .to_string()
    .into_bytes()
}

/// The descriptors of manifests with bundles that refer to `image`.
fn referring(blobs: &mut Blobs, image: Digest, bundles: &[Vec<u8>]) -> Vec<Value> {
    let mut manifests = Vec::new();
    for bundle in bundles {
        let layer = blobs.add(BUNDLE, bundle.clone());
        let configuration = blobs.add("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": configuration,
            "layers": [layer],
            "subject": {"mediaType": INDEX, "digest": image.to_string(), "size": 1},
        });
        let mut entry = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        entry["artifactType"] = BUNDLE.into();
        manifests.push(entry);
    }
    manifests
}

/// A registry with an image for two platforms, and whoever wants it to be signed.
struct Scene {
    registry: NodeRegistry,
    workplace: Workplace,
    /// The digest of the index.
    image: Digest,
}

impl Scene {
    fn start() -> Result<Scene, String> {
        let registry = NodeRegistry::start()?;
        let mut blobs = Blobs::default();
        let layer = tarball(&[("usr/bin/hello", b"hello\n")]);
        let amd64 = blobs.add_image("linux/amd64", &[&layer]);
        let arm64 = blobs.add_image("linux/arm64", &[&layer]);
        let document = index(&[amd64.clone(), arm64.clone()]);
        registry.push(&blobs, &[&amd64, &arm64], "1", &document);
        Ok(Scene {
            registry,
            workplace: Workplace::new(),
            image: Digest::of(&document),
        })
    }

    /// Stores signatures as cosign 2 does: each is what is signed, and the signature.
    fn attach(&self, signatures: &[(Vec<u8>, String)]) {
        let mut blobs = Blobs::default();
        let layers: Vec<Value> = signatures
            .iter()
            .map(|(payload, signature)| {
                let mut layer = blobs.add(SIMPLE_SIGNING, payload.clone());
                layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
                layer
            })
            .collect();
        let configuration = blobs.add("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        let manifest = blobs.add_manifest(configuration, layers);
        let document = blobs.0[&digest(&manifest)].clone();
        let tag = format!("sha256-{}.sig", self.image.hex());
        self.registry.push(&blobs, &[], &tag, &document);
    }

    /// Stores bundles as cosign 3 does where a registry has no referrers API.
    fn refer(&self, bundles: &[Vec<u8>]) {
        let mut blobs = Blobs::default();
        let mut manifests = referring(&mut blobs, self.image, bundles);
        for manifest in &mut manifests {
            // As cosign 3.1 lists them, which is the type of their configuration.
            manifest["artifactType"] = "application/vnd.oci.empty.v1+json".into();
        }
        let document = index(&manifests);
        let named: Vec<&Value> = manifests.iter().collect();
        let tag = format!("sha256-{}", self.image.hex());
        self.registry.push(&blobs, &named, &tag, &document);
    }

    /// Builds from the image, which must be signed by `key`: what is said, if it fails.
    fn build(&self, key: &Key) -> Result<(), String> {
        self.build_from(
            key,
            &format!("docker://127.0.0.1:{}/app:1", self.registry.port),
        )
    }

    fn build_from(&self, key: &Key, image: &str) -> Result<(), String> {
        build(&self.workplace, key, image)
    }
}

/// Builds from an image, which must be signed by `key`: what is said, if it fails.
fn build(workplace: &Workplace, key: &Key, image: &str) -> Result<(), String> {
    let file = workplace.path("cosign.pub");
    fs::write(&file, key.public_key_to_pem().unwrap()).unwrap();
    let output = sysgraft(["sysext", "--platform", "amd64", "--output"])
        .arg(workplace.out())
        .arg("--verify-key")
        .arg(&file)
        .args(["hello", image])
        .env("HOME", workplace.path("home"))
        .output()
        .unwrap();
    let outputs = workplace.outputs();
    match output.status.success() {
        true => {
            assert_eq!(outputs, ["hello.sysext.raw"]);
            fs::remove_file(workplace.out().join("hello.sysext.raw")).unwrap();
            Ok(())
        }
        false => {
            assert_eq!(outputs, [""; 0]);
            Err(text(&output.stderr))
        }
    }
}

/// The scene, or the word that the test cannot run.
macro_rules! scene {
    ($test:literal) => {
        match Scene::start() {
            Ok(scene) => scene,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

#[test]
fn images_need_a_signature_by_the_key() {
    let scene = scene!("images_need_a_signature_by_the_key");
    for key in [ec(), rsa()] {
        let payload = payload(scene.image, COSIGN);
        scene.attach(&[(payload.clone(), sign(&key, &payload))]);
        assert_eq!(scene.build(&key), Ok(()));
        let message = scene.build(&ec()).unwrap_err();
        assert!(message.contains("is not to be trusted"), "{message}");
        assert!(message.contains("another key"), "{message}");
        assert!(message.contains(&scene.image.to_string()), "{message}");
    }
}

#[test]
fn images_without_a_signature_are_refused() {
    let scene = scene!("images_without_a_signature_are_refused");
    let message = scene.build(&ec()).unwrap_err();
    assert!(message.contains("has no cosign signature"), "{message}");
}

#[test]
fn one_good_signature_of_several_suffices() {
    let scene = scene!("one_good_signature_of_several_suffices");
    let (key, other) = (ec(), rsa());
    let payload = payload(scene.image, COSIGN);
    let by = |key: &Key| (payload.clone(), sign(key, &payload));
    let garbage = (payload.clone(), "no Base64!".to_owned());
    scene.attach(&[garbage, by(&other), by(&key)]);
    assert_eq!(scene.build(&key), Ok(()));
}

#[test]
fn signatures_of_something_else_do_not_count() {
    let scene = scene!("signatures_of_something_else_do_not_count");
    let key = ec();
    let other = Digest::of(b"another image");
    for (payload, words) in [
        (payload(other, COSIGN), "another image"),
        (payload(scene.image, "an invoice"), "which is no cosign"),
        (b"hello".to_vec(), "no simple signing document"),
    ] {
        scene.attach(&[(payload.clone(), sign(&key, &payload))]);
        let message = scene.build(&key).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn signed_documents_that_were_replaced_are_noticed() {
    let scene = scene!("signed_documents_that_were_replaced_are_noticed");
    let key = ec();
    let payload = payload(scene.image, COSIGN);
    scene.attach(&[(payload.clone(), sign(&key, &payload))]);
    let path = scene.registry.blob_path(Digest::of(&payload));
    fs::write(path, [payload.as_slice(), b" "].concat()).unwrap();
    let message = scene.build(&key).unwrap_err();
    assert!(
        message.contains("damaged or replaced") || message.contains("cannot get"),
        "{message}"
    );
}

#[test]
fn bundles_of_cosign_3_count_too() {
    let scene = scene!("bundles_of_cosign_3_count_too");
    let key = ec();
    let sbom = bundle(&key, scene.image, "https://spdx.dev/Document");
    let other = bundle(&key, Digest::of(b"x"), SIGNATURE);
    scene.refer(&[sbom, other, bundle(&rsa(), scene.image, SIGNATURE)]);
    let message = scene.build(&key).unwrap_err();
    for words in ["no signature of an image", "another image", "another key"] {
        assert!(message.contains(words), "{message}");
    }
    scene.refer(&[bundle(&key, scene.image, SIGNATURE)]);
    assert_eq!(scene.build(&key), Ok(()));
}

#[test]
fn registries_are_asked_for_what_refers_to_an_image() {
    let (key, mut blobs) = (ec(), Blobs::default());
    let layer = tarball(&[("usr/bin/hello", b"hello\n")]);
    let manifest = blobs.add_image("linux/amd64", &[&layer]);
    let image = digest(&manifest);
    let bundles = [
        bundle(&rsa(), image, SIGNATURE),
        bundle(&key, image, SIGNATURE),
    ];
    let referrers = index(&referring(&mut blobs, image, &bundles));
    let document = blobs.0[&image].clone();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.referrers.insert(image, referrers);
    let server = RegistryServer::start(behaviour);
    let workplace = Workplace::new();
    let reference = format!("docker://{}/app:1", server.host());
    assert_eq!(build(&workplace, &key, &reference), Ok(()));
    assert!(build(&workplace, &ec(), &reference).is_err());
}

#[test]
fn files_cannot_be_signed_with_cosign() {
    let scene = scene!("files_cannot_be_signed_with_cosign");
    let message = scene.build_from(&ec(), "dir:/nonexistent").unwrap_err();
    assert!(message.contains("write docker://NAME"), "{message}");
}
