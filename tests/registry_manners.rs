//! What registries may expect: that users hear what they warn of, that nothing is left with them of
//! uploads that were given up, and that their lists are read to the end.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/published.rs"]
mod published;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_server.rs"]
mod registry_server;
#[path = "support/registry_writable.rs"]
mod registry_writable;
#[path = "support/request_head.rs"]
mod request_head;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::HashMap;
use std::path::PathBuf;

use published::{attempt, edition, publish, refused};
use registry_image::{Blobs, digest};
use registry_server::{Behaviour, RegistryServer};
use registry_writable::{Store, WritableRegistry};
use serde_json::Value;
use workplace::{Workplace, sysgraft, text};

const WARNING: &str = "Warning: 299 - \"Your token \u{9b}31m expires\", 299 - \"Move on\"\r\n";

/// The lines that say what `host` warns of.
fn warnings<'a>(said: &'a str, host: &str) -> Vec<&'a str> {
    let start = format!("warning: {host} says: ");
    said.lines()
        .filter_map(|line| line.strip_prefix(&start))
        .collect()
}

fn image(workplace: &Workplace) -> PathBuf {
    edition(&workplace.path(""), "hello", "1.2", "x86-64")
}

/// All requests of this method.
fn requests(store: &Store, method: &str) -> Vec<String> {
    let of_method = |line: &&String| line.split(' ').next() == Some(method);
    store.log.iter().filter(of_method).cloned().collect()
}

#[test]
fn what_a_registry_warns_of_is_said_once() {
    let mut blobs = Blobs::default();
    let manifest = blobs.add_image("linux/amd64", &[b"base", b"app"]);
    let document = blobs.0[&digest(&manifest)].clone();
    let mut behaviour = Behaviour::new(blobs, "1", document);
    behaviour.warning = WARNING;
    let server = RegistryServer::start(behaviour);
    let image = format!("docker://{}/app:1", server.host());
    let output = sysgraft(["lint", &image, "--base", &image])
        .output()
        .unwrap();
    let said = text(&output.stderr);
    let expected = ["Your token \\u{9b}31m expires", "Move on"];
    assert_eq!(warnings(&said, &server.host()), expected, "{said}");
    assert!(server.requests().len() > 2, "{:?}", server.requests());

    let workplace = Workplace::new();
    let registry = WritableRegistry::start(Store {
        warning: WARNING,
        ..Store::default()
    });
    let repository = registry.repository();
    let output = attempt(&["--registry", &repository], &[&self::image(&workplace)]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let host = format!("127.0.0.1:{}", registry.port);
    assert_eq!(warnings(&said, &host), expected, "{said}");
}

#[test]
fn uploads_that_are_given_up_are_cancelled() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let upload = "DELETE /v2/hello/blobs/uploads/1?state=a%2Fb";
    // Those that are begun anew, and those that are refused for good.
    let registry = WritableRegistry::start(Store {
        breaks: 2,
        ..Store::default()
    });
    publish(&["--registry", &registry.repository()], &[&image]);
    assert_eq!(requests(&registry.store(), "DELETE"), [upload; 2]);
    let registry = WritableRegistry::start(Store {
        refusal: Some(("PUT", "/uploads/", "413 Too Large|")),
        ..Store::default()
    });
    let said = refused(1, &["--registry", &registry.repository()], &[&image]);
    assert!(said.contains("raise the limit of the registry"), "{said}");
    assert_eq!(requests(&registry.store(), "DELETE"), [upload]);
    // None where all went well.
    let registry = WritableRegistry::start(Store::default());
    publish(&["--registry", &registry.repository()], &[&image]);
    assert_eq!(requests(&registry.store(), "DELETE"), [""; 0]);
}

#[test]
fn a_registry_that_cancels_no_uploads_disturbs_nothing() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    for stalls in [false, true] {
        let registry = WritableRegistry::start(Store {
            breaks: 1,
            refusal: Some(("DELETE", "/uploads/", "405 No|")),
            stalls,
            ..Store::default()
        });
        publish(&["--registry", &registry.repository()], &[&image]);
        assert_eq!(requests(&registry.store(), "DELETE").len(), 1);
    }
}

/// Documents of a registry in which the image of version 1.2 for arm64 is tagged, but in no index, among
/// many others.
fn crowded(workplace: &Workplace) -> HashMap<String, Vec<u8>> {
    let theirs = WritableRegistry::start(Store::default());
    let arm = edition(&workplace.path("arm"), "hello", "1.2", "arm64");
    publish(&["--registry", &theirs.repository()], &[&arm]);
    let mut documents = theirs.store().documents.clone();
    documents.remove("1.2");
    for number in 0..20 {
        documents.insert(format!("0.{number}-other"), b"{}".to_vec());
    }
    documents
}

fn platforms(store: &Store) -> Vec<String> {
    let index: Value = serde_json::from_slice(&store.documents["1.2"]).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let platform = |entry: &Value| {
        entry["platform"]["architecture"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    entries.map(platform).collect()
}

#[test]
fn tags_are_looked_for_on_all_pages() {
    let workplace = Workplace::new();
    let (image, documents) = (image(&workplace), crowded(&workplace));
    for tags_per_page in [0, 3] {
        let registry = WritableRegistry::start(Store {
            documents: documents.clone(),
            tags_per_page,
            ..Store::default()
        });
        publish(&["--registry", &registry.repository()], &[&image]);
        assert_eq!(platforms(&registry.store()), ["amd64", "arm64"]);
    }
}

#[test]
fn pages_elsewhere_and_pages_without_end_are_not_read() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let other = WritableRegistry::start(Store::default());
    let lists = |next_page: String| {
        let registry = WritableRegistry::start(Store {
            next_page: Some(next_page),
            ..Store::default()
        });
        publish(&["--registry", &registry.repository()], &[&image]);
        let lists = requests(&registry.store(), "GET");
        lists
            .iter()
            .filter(|line| line.contains("tags/list"))
            .count()
    };
    let elsewhere = lists(format!("http://{}/tags/list?page=", other.repository()));
    assert!(elsewhere > 0);
    assert_eq!(other.store().log, [""; 0]);
    let endless = lists("/v2/hello/tags/list?n=1000&page=".to_owned());
    assert_eq!(endless, 100 * elsewhere);
}
