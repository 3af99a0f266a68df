//! Upgrades to what catalogs have.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/request_head.rs"]
mod request_head;

use std::fs;

use agent::Agent;
use registry_image::{Blobs, MANIFEST, digest};
use registry_server::{Behaviour, RegistryServer};
use serde_json::json;

const V1: &str = "k3s_1.sysext.raw common";
const V2: &str = "k3s_2.sysext.raw common";

/// A node with version 1, and a catalog with version 2, which a registry has.
struct Offered {
    agent: Agent,
    registry: RegistryServer,
    catalog: String,
}

impl Offered {
    fn new() -> Offered {
        Offered::with("# 2\n")
    }

    /// Where the release file of version 2 has this, too.
    fn with(more: &str) -> Offered {
        let agent = Agent::new();
        let first = agent.image("images", "k3s_1.sysext.raw", "k3s", "");
        agent.ok(&["install", first.to_str().unwrap(), "--common"]);
        let second = agent.image("images", "k3s_2.sysext.raw", "k3s", more);
        let mut blobs = Blobs::default();
        let kind = "application/vnd.kairos.sysext.raw";
        let mut layer = blobs.add(kind, fs::read(&second).unwrap());
        layer["annotations"] = json!({"org.opencontainers.image.title": "k3s_2.sysext.raw"});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": blobs.add("application/vnd.oci.empty.v1+json", b"{}".to_vec()),
            "layers": [layer],
        });
        let manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        let document = blobs.0[&digest(&manifest)].clone();
        let mut behaviour = Behaviour::new(blobs, "2", document);
        behaviour.warning = "Warning: 299 - \"Your token expires\"\r\n";
        let registry = RegistryServer::start(behaviour);
        let offered = Offered {
            catalog: agent.tree.path("releases.json").display().to_string(),
            agent,
            registry,
        };
        let image = format!("{}/app@{}", offered.registry.host(), digest(&manifest));
        let tags = json!([{"tag": "2", "sysext": {"amd64": {"oci": image}}}]);
        let catalog = json!({"layers": [{"name": "k3s", "latest": "2", "tags": tags}]});
        fs::write(&offered.catalog, catalog.to_string()).unwrap();
        offered
    }

    fn configure(&self, catalog: &str) {
        let text = format!("[fetch]\ncatalogs = [\"{catalog}\"]\n");
        self.agent.write("etc/sysgraft/agent.toml", &text);
    }
}

#[test]
fn what_a_catalog_has_is_installed_and_enabled_once() {
    let offered = Offered::new();
    let (agent, catalog) = (&offered.agent, offered.catalog.as_str());
    let words = ["upgrade", "k3s", "--catalog", catalog];
    let planned = agent.run(&[&words[..], &["--dry-run"]].concat());
    assert!(
        planned.stdout.contains("would fetch oci:"),
        "{}",
        planned.stdout
    );
    assert_eq!(agent.state(), [V1]);
    assert_eq!(offered.registry.requests(), [""; 0]);
    let said = agent.ok(&words);
    assert_eq!(
        said.matches("says: Your token expires").count(),
        1,
        "{said}"
    );
    assert_eq!(agent.state(), ["k3s_1.sysext.raw", V2]);
    let requests = offered.registry.requests().len();
    let said = agent.ok(&words);
    assert!(said.contains("k3s is up to date"), "{said}");
    assert_eq!(offered.registry.requests().len(), requests, "it is stored");
    // It is enabled where it is stored, too.
    agent.ok(&["rollback", "k3s"]);
    agent.ok(&["upgrade", "k3s", "--catalog", catalog, "--version", ">=2"]);
    assert_eq!(agent.state(), ["k3s_1.sysext.raw", V2]);
    assert_eq!(offered.registry.requests().len(), requests);
}

#[test]
fn an_old_image_does_not_become_a_new_one_by_what_others_call_it() {
    let offered = Offered::with("SYSEXT_VERSION_ID=0.9\n");
    let agent = &offered.agent;
    let words = ["upgrade", "k3s", "--catalog", &offered.catalog];
    let said = agent.fails(1, &words);
    assert!(
        said.contains("is version 0.9, as its release file says, and not 2"),
        "{said}"
    );
    assert_eq!(agent.state(), [V1]);
    // Neither by the user's word nor by its file's name.
    let file = agent.tree.path("images/k3s_2.sysext.raw");
    let file = file.to_str().unwrap();
    agent.fails(1, &["upgrade", file, "--version", "2"]);
    assert_eq!(agent.state(), [V1]);
    let said = agent.fails(1, &["upgrade", file]);
    assert!(said.contains("though its name says 2"), "{said}");
    assert!(said.contains("older"), "{said}");
    assert!(agent.state().contains(&V1.to_owned()));
}

#[test]
fn versions_are_the_same_with_and_without_what_tags_add_or_cannot_have() {
    let offered = Offered::with("SYSEXT_VERSION_ID=v2\n");
    let agent = &offered.agent;
    let words = ["upgrade", "k3s", "--catalog", &offered.catalog];
    agent.ok(&words);
    assert_eq!(agent.state(), ["k3s_1.sysext.raw", V2]);
    assert!(agent.ok(&words).contains("k3s is up to date"));
}

#[test]
fn a_catalog_of_the_configuration_counts() {
    let offered = Offered::new();
    offered.configure(&offered.catalog);
    offered.agent.ok(&["upgrade", "k3s", "--version", "2"]);
    assert_eq!(offered.agent.state(), ["k3s_1.sysext.raw", V2]);
}

#[test]
fn what_is_older_is_not_fetched() {
    let offered = Offered::new();
    let agent = &offered.agent;
    let third = agent.image("images", "k3s_3.sysext.raw", "k3s", "# 3\n");
    agent.ok(&["install", third.to_str().unwrap(), "--common"]);
    let said = agent.ok(&["upgrade", "k3s", "--catalog", &offered.catalog]);
    assert!(said.contains("k3s 2, which is not newer"), "{said}");
    assert_eq!(offered.registry.requests(), [""; 0]);
}

#[test]
fn a_catalog_that_is_no_help_is_told() {
    let offered = Offered::new();
    let agent = &offered.agent;
    let dead = "http://127.0.0.1:9/releases.json";
    let said = agent.fails(1, &["upgrade", "k3s", "--catalog", dead]);
    assert!(said.contains("releases.json cannot be read"), "{said}");
    let lacks = ["upgrade", "k3s", "--version", "7", "--catalog"];
    let said = agent.fails(1, &[&lacks[..], &[&offered.catalog]].concat());
    assert!(said.contains("has no k3s 7"), "{said}");
    // Nobody asked for that of the configuration, and a newer version is in the store.
    let second = agent.tree.path("images/k3s_2.sysext.raw");
    agent.ok(&["install", second.to_str().unwrap()]);
    offered.configure("/nowhere/releases.json");
    let said = agent.ok(&["upgrade", "k3s"]);
    assert!(said.contains("warning: no catalog has k3s"), "{said}");
    assert!(
        said.contains("going on with what is in the store"),
        "{said}"
    );
    assert_eq!(agent.state(), ["k3s_1.sysext.raw", V2]);
}

#[test]
fn flags_about_what_is_fetched_are_no_use_for_what_is_stored() {
    let offered = Offered::new();
    let agent = &offered.agent;
    let hash = "0".repeat(64);
    for flags in [
        &["--sha256", &hash][..],
        &["--certificate", "x.pem"],
        &["--ca-file", "x.pem"],
        &["--allow-unsigned"],
        &["--insecure-skip-verify"],
    ] {
        let said = agent.fails(2, &[&["upgrade", "k3s"], flags].concat());
        let expected = format!("{} is about what is fetched, but k3s is in", flags[0]);
        assert!(said.contains(&expected), "{said}");
    }
    let named = ["upgrade", "k3s_1", "--catalog", &offered.catalog];
    let said = agent.fails(2, &named);
    assert!(
        said.contains("--catalog is about what is fetched"),
        "{said}"
    );
    assert_eq!(agent.state(), [V1]);
}
