//! How `sysgraft publish` gets at registries: logins, TLS, and what to do where they refuse, break off
//! or are busy.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/published.rs"]
mod published;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
#[path = "support/registry_writable.rs"]
mod registry_writable;
#[path = "support/request_head.rs"]
mod request_head;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use published::{edition, publish, refused};
use registry_real::{LOGIN, RealRegistry, Setup};
use registry_writable::{Store, WritableRegistry};
use serde_json::{Value, json};
use sysgraft::digest::Digest;
use workplace::{Workplace, run, sysgraft, text};

fn image(workplace: &Workplace) -> PathBuf {
    edition(&workplace.path(""), "hello", "1.2", "x86-64")
}

#[test]
fn a_registry_with_tls_logins_and_certificates_of_clients_takes_images() {
    let setup = Setup {
        tls: true,
        login: true,
        clients: true,
    };
    let registry = match RealRegistry::start(setup) {
        Ok(registry) => registry,
        Err(reason) => {
            let test = "a_registry_with_tls_logins_and_certificates_of_clients_takes_images";
            return support::skip(test, &reason);
        }
    };
    let workplace = Workplace::new();
    let image = image(&workplace);
    let repository = format!("{}/extensions/hello", registry.host());
    let (certificate, key) = (registry.certificate(), registry.key());
    let attempt = |flags: &[&str], creds: &str| -> Output {
        let mut command = sysgraft(["publish", "--registry", &repository]);
        let command = command.args(flags).arg(&image);
        command
            .env("SYSGRAFT_REGISTRY_CREDS", creds)
            .output()
            .unwrap()
    };
    let client = [
        "--client-cert",
        certificate.to_str().unwrap(),
        "--client-key",
        key.to_str().unwrap(),
    ];
    let trust = ["--ca-file", certificate.to_str().unwrap()];
    for (flags, creds, reason) in [
        (&client[..], LOGIN, "with --ca-file"),
        (&trust, LOGIN, "certificate"),
        (&[&client[..], &trust].concat(), "alice:wrong", "as alice"),
    ] {
        let output = attempt(flags, creds);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(!said.contains("wrong"), "{said}");
    }
    let settings = workplace.path("registries.conf");
    let insecure = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.host()
    );
    fs::write(&settings, insecure).unwrap();
    let settings = ["--registries-conf", settings.to_str().unwrap()];
    for flags in [&trust[..], &["--tls-verify=false"], &settings] {
        let output = attempt(&[&client[..], flags].concat(), LOGIN);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let folder = workplace.path("for-skopeo");
    fs::create_dir(&folder).unwrap();
    fs::copy(&certificate, folder.join("client.cert")).unwrap();
    fs::copy(&key, folder.join("client.key")).unwrap();
    fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    run(Command::new("skopeo")
        .stdout(Stdio::null())
        .args(["inspect", "--raw", "--creds", LOGIN, "--cert-dir"])
        .arg(folder)
        .arg(format!("docker://{repository}:1.2-amd64")));
}

#[test]
fn tokens_that_run_out_connections_that_break_and_busy_registries_are_borne_with() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    for store in [
        Store {
            token_uses: Some(2),
            ..Store::default()
        },
        Store {
            breaks: 2,
            ..Store::default()
        },
        Store {
            redirects: 3,
            ..Store::default()
        },
    ] {
        let registry = WritableRegistry::start(store);
        publish(&["--registry", &registry.repository()], &[&image]);
        let (content, store) = (fs::read(&image).unwrap(), registry.store());
        let digest = Digest::of(&content).to_string();
        assert_eq!(store.blobs[&digest], content.len());
        assert_eq!(store.breaks, 0);
        assert!(store.documents.contains_key("latest"));
    }
}

#[test]
fn a_list_of_statements_is_kept_only_for_registries_that_keep_none() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    for lists_referrers in [true, false] {
        let registry = WritableRegistry::start(Store {
            lists_referrers,
            ..Store::default()
        });
        publish(&["--registry", &registry.repository()], &[&image]);
        let store = registry.store();
        let tag = store
            .documents
            .keys()
            .find(|tag| tag.starts_with("sha256-"));
        assert_eq!(tag.is_some(), !lists_referrers);
        if let Some(tag) = tag {
            let list: Value = serde_json::from_slice(&store.documents[tag]).unwrap();
            assert_eq!(list["manifests"].as_array().unwrap().len(), 2);
        }
    }
}

#[test]
fn publishers_of_one_version_at_the_same_time_lose_nothing() {
    let workplace = Workplace::new();
    let arm = edition(&workplace.path("arm"), "hello", "1.2", "arm64");
    let theirs = WritableRegistry::start(Store::default());
    publish(&["--registry", &theirs.repository()], &[&arm]);
    let mut documents = theirs.store().documents.clone();
    // They have tagged their image. Then both store the index, we first.
    let overwritten = documents
        .remove("1.2")
        .map(|index| ("1.2".to_owned(), index));
    documents.remove("latest");
    let registry = WritableRegistry::start(Store {
        documents,
        overwritten: overwritten.into_iter().collect(),
        ..Store::default()
    });
    publish(
        &["--registry", &registry.repository()],
        &[&image(&workplace)],
    );
    let store = registry.store();
    let index: Value = serde_json::from_slice(&store.documents["1.2"]).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let platforms: Vec<&Value> = entries
        .map(|entry| &entry["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(store.documents["latest"], store.documents["1.2"]);
}

#[test]
fn nothing_is_published_before_all_places_would_take_it() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let feed = workplace.path("feed");
    fs::create_dir(&feed).unwrap();
    let names = || fs::read_dir(&feed).unwrap().count();
    // An image of somebody else has the tag of the version.
    let documents = [("1.2".to_owned(), b"{\"layers\": []}".to_vec())].into();
    let registry = WritableRegistry::start(Store {
        documents,
        ..Store::default()
    });
    let repository = registry.repository();
    let flags = [
        "--sysupdate",
        feed.to_str().unwrap(),
        "--registry",
        &repository,
    ];
    for dry_run in [&["--dry-run"][..], &[]] {
        let said = refused(1, &[&flags[..], dry_run].concat(), &[&image]);
        let wanted = "hello:1.2 is there, and not of the sysext hello";
        assert!(said.contains(wanted), "{said}");
        assert!(!feed.join("SHA256SUMS").exists());
    }
    let before = names();
    publish(&[&flags[..], &["--replace"]].concat(), &[&image]);
    assert!(names() > before);
    // What is done before a failure is told.
    let registry = WritableRegistry::start(Store {
        refusal: Some(("PUT", "manifests/latest", "403 No|")),
        ..Store::default()
    });
    let repository = registry.repository();
    let flags = [&flags[..3], &[repository.as_str()]].concat();
    let said = refused(1, &flags, &[&image]);
    assert!(said.contains("published until then"), "{said}");
    assert!(said.contains("feed/hello_1.2_x86-64.sysext.raw"), "{said}");
    registry.store().refusal = None;
    publish(&flags, &[&image]);
}

#[test]
fn container_images_and_other_extensions_keep_their_tags() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let entry = |architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "platform": platform,
               "digest": Digest::of(architecture.as_bytes()).to_string(), "size": 2})
    };
    let container = json!({"schemaVersion": 2, "manifests": [entry("amd64"), entry("arm64")]});
    let mut other = container.clone();
    other["artifactType"] = "application/vnd.kairos.sysext.raw".into();
    other["annotations"] = json!({"org.opencontainers.image.title": "world",
                                  "org.opencontainers.image.version": "1.0"});
    // Nothing but the tag of a version can be given up.
    for (tag, document, flags) in [
        ("1.2", &container, &[][..]),
        ("latest", &container, &[]),
        ("latest", &other, &[]),
        ("latest", &other, &["--replace"]),
    ] {
        let documents = [(tag.to_owned(), document.to_string().into_bytes())].into();
        let registry = WritableRegistry::start(Store {
            documents,
            ..Store::default()
        });
        let repository = registry.repository();
        for dry_run in [&["--dry-run"][..], &[]] {
            let arguments = [&["--registry", &repository], flags, dry_run].concat();
            let said = refused(1, &arguments, &[&image]);
            let wanted = format!("hello:{tag} is there, and not of the sysext hello");
            assert!(said.contains(&wanted), "{said}");
        }
        assert_eq!(registry.store().documents.len(), 1);
    }
    // What is given up is not taken over.
    let documents = [("1.2".to_owned(), container.to_string().into_bytes())].into();
    let registry = WritableRegistry::start(Store {
        documents,
        ..Store::default()
    });
    publish(
        &["--registry", &registry.repository(), "--replace"],
        &[&image],
    );
    let store = registry.store();
    let index: Value = serde_json::from_slice(&store.documents["1.2"]).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn a_registry_that_refuses_says_why_and_we_say_what_to_do() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    for (refusal, expected) in [
        (
            ("PUT", "/uploads/", "413 Too Large|"),
            "raise the limit of the registry",
        ),
        (
            (
                "PUT",
                "manifests/latest",
                "412 No|{\"errors\": [{\"code\": \"PRECONDITION\"}]}",
            ),
            "does not let the tag latest move",
        ),
        (
            (
                "POST",
                "/uploads/",
                "405 No|{\"errors\": [{\"code\": \"UNSUPPORTED\"}]}",
            ),
            "publish to the registry itself",
        ),
        (
            (
                "POST",
                "/uploads/",
                "404 No|{\"errors\": [{\"code\": \"NAME_UNKNOWN\"}]}",
            ),
            "create it in the registry first",
        ),
        (("HEAD", "/blobs/", "403 No|"), "does not let you write to"),
        (
            (
                "PUT",
                "manifests/sha256:",
                "400 No|{\"errors\": [{\"code\": \"\\u001b[31m\"}]}",
            ),
            "\\u{1b}[31m",
        ),
    ] {
        let registry = WritableRegistry::start(Store {
            refusal: Some(refusal),
            ..Store::default()
        });
        let repository = registry.repository();
        let said = refused(1, &["--registry", &repository], &[&image]);
        assert!(said.contains(expected), "{said}");
        assert!(said.contains(&repository), "{said}");
    }
}

#[test]
fn a_refusal_that_stalls_is_not_waited_for() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    for refusal in [
        ("GET", "manifests/1.2-amd64", "403 No|why"),
        ("POST", "/uploads/", "403 No|why"),
    ] {
        let registry = WritableRegistry::start(Store {
            refusal: Some(refusal),
            stalls: true,
            ..Store::default()
        });
        let begun = Instant::now();
        let said = refused(1, &["--registry", &registry.repository()], &[&image]);
        assert!(said.contains("does not let you"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(40));
    }
}

#[test]
fn latest_follows_the_newest_version_with_or_without_a_v() {
    let workplace = Workplace::new();
    let registry = WritableRegistry::start(Store::default());
    for (version, latest) in [("1.0", "1.0"), ("v2", "v2"), ("1.5", "v2"), ("3", "3")] {
        let image = edition(&workplace.path(""), "hello", version, "x86-64");
        publish(&["--registry", &registry.repository()], &[&image]);
        let store = registry.store();
        assert!(
            store.documents["latest"] == store.documents[latest],
            "{version}"
        );
    }
}

#[test]
fn the_version_latest_is_refused_before_the_registry_is_asked() {
    let workplace = Workplace::new();
    let folder = workplace.path("");
    let images = ["1.1", "latest"].map(|version| edition(&folder, "hello", version, "x86-64"));
    let registry = WritableRegistry::start(Store::default());
    let [image, latest] = &images;
    let said = refused(1, &["--registry", &registry.repository()], &[image, latest]);
    assert!(said.contains("is the tag of the newest version"), "{said}");
    assert_eq!(registry.store().log, [""; 0]);
}

#[test]
fn a_dry_run_says_all_that_will_be_done() {
    let workplace = Workplace::new();
    let registry = WritableRegistry::start(Store::default());
    let repository = registry.repository();
    let catalog = workplace.path("releases.json");
    let flags = [
        "--registry",
        &repository,
        "--catalog",
        catalog.to_str().unwrap(),
        "--json",
    ];
    let facts = |more: &[&str], image: &PathBuf| -> Value {
        let printed = publish(&[&flags[..], more].concat(), &[image]);
        serde_json::from_str(&printed).unwrap()
    };
    let folder = workplace.path("");
    for (version, is_latest) in [("1.2", true), ("1.1", false), ("1.3", true)] {
        let image = edition(&folder, "hello", version, "x86-64");
        let documents = registry.store().documents.clone();
        let foretold = facts(&["--dry-run"], &image);
        assert_eq!(registry.store().documents, documents);
        let done = facts(&[], &image);
        for key in ["registry", "catalog"] {
            assert_eq!(foretold[key], done[key], "{version}");
        }
        let pushed = &done["registry"][0];
        assert_eq!(pushed["statements"].as_array().unwrap().len(), 2);
        let tags = pushed["tags"].as_array().unwrap();
        assert_eq!(tags.contains(&"latest".into()), is_latest, "{tags:?}");
        assert_eq!(done["catalog"]["changed"], true);
        // Once more is no change, and that is known before, too.
        let again = facts(&["--dry-run"], &image);
        assert_eq!(again["catalog"]["changed"], false);
        assert_eq!(again["registry"][0]["unchanged"], true);
        let plain = publish(&[&flags[..4], &["--dry-run"]].concat(), &[&image]);
        assert!(plain.contains("unchanged  "), "{plain}");
        assert!(plain.contains("application/spdx+json"), "{plain}");
    }
}

#[test]
fn of_several_versions_the_newest_alone_is_the_latest() {
    let workplace = Workplace::new();
    let registry = WritableRegistry::start(Store::default());
    let folder = workplace.path("");
    let images = ["1.10", "1.9"].map(|version| edition(&folder, "hello", version, "x86-64"));
    let printed = publish(&["--registry", &registry.repository(), "--json"], &images);
    let facts: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        facts["registry"][0]["tags"],
        json!(["1.10-amd64", "1.10", "latest"])
    );
    assert_eq!(facts["registry"][1]["tags"], json!(["1.9-amd64", "1.9"]));
    let store = registry.store();
    assert_eq!(store.documents["latest"], store.documents["1.10"]);
}

#[test]
fn what_is_no_catalog_is_known_before_anything_is_pushed() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let registry = WritableRegistry::start(Store::default());
    let repository = registry.repository();
    let catalog = workplace.path("releases.json");
    for (content, problem) in [
        ("garbage", "is no catalog"),
        ("{\"layers\": 1}", "is no list"),
    ] {
        fs::write(&catalog, content).unwrap();
        let flags = [
            "--registry",
            &repository,
            "--catalog",
            catalog.to_str().unwrap(),
        ];
        for dry_run in [&["--dry-run"][..], &[]] {
            let said = refused(1, &[&flags[..], dry_run].concat(), &[&image]);
            assert!(said.contains(problem), "{said}");
        }
    }
    let store = registry.store();
    assert!(store.documents.is_empty() && store.blobs.is_empty());
}

#[test]
fn what_is_not_stored_is_not_taken_to_be() {
    let workplace = Workplace::new();
    let image = image(&workplace);
    let refusing = |refusal| Store {
        refusal: Some(refusal),
        ..Store::default()
    };
    let circles = Store {
        redirects: usize::MAX,
        ..Store::default()
    };
    for (store, problem) in [
        (
            refusing(("PUT", "/uploads/", "202 Accepted|")),
            "202 Accepted, which does not say",
        ),
        (
            refusing(("PUT", "/manifests/", "202 Accepted|")),
            "202 Accepted, which does not say",
        ),
        (
            refusing(("PUT", "/uploads/", "308 Permanent Redirect|")),
            "names no place",
        ),
        (circles, "it redirects a blob again and again"),
    ] {
        let registry = WritableRegistry::start(store);
        let said = refused(1, &["--registry", &registry.repository()], &[&image]);
        assert!(said.contains(problem), "{said}");
        assert!(!registry.store().documents.contains_key("latest"));
    }
}
