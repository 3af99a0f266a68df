//! Images in a real registry: what `sysgraft publish` puts there, agents, skopeo and ORAS can use.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/node_registry.rs"]
mod node_registry;
#[path = "support/peak_memory.rs"]
mod peak_memory;
#[path = "support/published.rs"]
mod published;
#[path = "support/registry_image.rs"]
mod registry_image;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::Agent;
use node_registry::NodeRegistry;
use peak_memory::watch;
use published::{edition, publish, refused};
use serde_json::{Value, json};
use sysgraft::architecture::Architecture;
use sysgraft::digest::Digest;
use workplace::{Workplace, run, sysgraft, text};

/// A registry, images, and somewhere to put things.
struct Shop {
    registry: NodeRegistry,
    workplace: Workplace,
}

impl Shop {
    fn open() -> Result<Shop, String> {
        Ok(Shop {
            registry: NodeRegistry::start()?,
            workplace: Workplace::new(),
        })
    }

    fn repository(&self) -> String {
        format!("127.0.0.1:{}/extensions/hello", self.registry.port)
    }

    fn edition(&self, version: &str, architecture: &str) -> PathBuf {
        edition(&self.workplace.path(""), "hello", version, architecture)
    }

    fn publish(&self, flags: &[&str], images: &[PathBuf]) -> Value {
        let repository = self.repository();
        let words = [&["--json", "--registry", &repository], flags].concat();
        serde_json::from_str(&publish(&words, images)).unwrap()
    }

    /// The manifest or index of a tag, as skopeo gives it.
    fn manifest(&self, tag: &str) -> Value {
        let output = Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{}:{tag}", self.repository()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A blob, as the registry keeps it.
    fn blob(&self, descriptor: &Value) -> Vec<u8> {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        fs::read(self.registry.blob_path(digest)).unwrap()
    }
}

/// A shop, or the word that the test cannot run.
macro_rules! shop {
    ($test:literal) => {
        match Shop::open() {
            Ok(shop) => shop,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

fn host() -> (&'static str, &'static str) {
    let host = Architecture::host().unwrap();
    (host.systemd_name(), host.oci_name().unwrap())
}

fn platforms(index: &Value) -> Vec<&str> {
    let manifests = index["manifests"].as_array().unwrap();
    let platform = |manifest: &'_ Value| manifest["platform"]["architecture"].as_str().is_some();
    assert!(manifests.iter().all(platform), "{index}");
    manifests
        .iter()
        .map(|manifest| manifest["platform"]["architecture"].as_str().unwrap())
        .collect()
}

#[test]
fn an_agent_installs_and_upgrades_what_was_published() {
    let shop = shop!("an_agent_installs_and_upgrades_what_was_published");
    let (own, _) = host();
    let first = shop.edition("1.9", own);
    let facts = shop.publish(&[], &[first.clone(), shop.edition("1.9", "riscv64")]);
    assert_eq!(facts["registry"][0]["tags"][1], "1.9");
    let agent = Agent::new();
    let image = format!("oci:{}", shop.repository());
    agent.ok(&["install", "--common", "--now", &image]);
    let stored = agent.store().join("hello.sysext.raw");
    assert!(fs::read(stored).unwrap() == fs::read(&first).unwrap());
    assert_eq!(agent.state(), ["hello.sysext.raw common*"]);
    shop.publish(&[], &[shop.edition("1.10", own)]);
    agent.ok(&["upgrade", &image]);
    let upgraded = ["hello.sysext.raw", "hello_1.10.sysext.raw common*"];
    assert_eq!(agent.state(), upgraded);
    // By the tag of the very image, too.
    let (_, name) = host();
    let other = Agent::new();
    other.ok(&["install", &format!("{image}:1.9-{name}")]);
}

#[test]
fn tags_lead_to_indexes_that_gather_architectures() {
    let shop = shop!("tags_lead_to_indexes_that_gather_architectures");
    shop.publish(&[], &[shop.edition("1.10", "x86-64")]);
    shop.publish(&[], &[shop.edition("1.10", "arm64")]);
    assert_eq!(platforms(&shop.manifest("1.10")), ["amd64", "arm64"]);
    // An older version that comes later is not the latest.
    shop.publish(&[], &[shop.edition("1.9+k3s1", "arm64")]);
    assert_eq!(platforms(&shop.manifest("1.9_k3s1")), ["arm64"]);
    assert_eq!(shop.manifest("latest"), shop.manifest("1.10"));
    let image = shop.manifest("1.10-arm64");
    assert_eq!(image["artifactType"], "application/vnd.kairos.sysext.raw");
    let layer = &image["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.kairos.sysext.raw");
    let title = &layer["annotations"]["org.opencontainers.image.title"];
    assert_eq!(title, "hello.sysext.raw");
    assert_eq!(
        image["annotations"]["org.opencontainers.image.version"],
        "1.10"
    );
}

#[test]
fn a_published_version_stays_and_publishing_can_be_repeated() {
    let shop = shop!("a_published_version_stays_and_publishing_can_be_repeated");
    let image = shop.edition("1.2", "x86-64");
    let facts = shop.publish(&["--dry-run"], std::slice::from_ref(&image));
    assert_eq!(facts["registry"][0]["unchanged"], false);
    let first = shop.publish(&[], std::slice::from_ref(&image));
    assert_eq!(
        facts["registry"][0]["manifest"],
        first["registry"][0]["manifest"]
    );
    let again = shop.publish(&[], std::slice::from_ref(&image));
    assert_eq!(again["registry"][0]["unchanged"], true);
    assert_eq!(again["registry"][0]["index"], first["registry"][0]["index"]);
    let digest = first["registry"][0]["manifest"].as_str().unwrap();
    let tag = digest.replace(':', "-");
    assert_eq!(
        shop.manifest(&tag)["manifests"].as_array().unwrap().len(),
        2
    );
    let other = shop.workplace.path("hello.sysext.raw");
    let release = "ID=_any\nARCHITECTURE=x86-64\nSYSEXT_VERSION_ID=1.2\n";
    let extension = extension_image::Extension::sysext("hello", release);
    extension.image(&other, extension_image::By::Example("db"));
    let repository = shop.repository();
    let said = refused(1, &["--registry", &repository], &[&other]);
    assert!(said.contains(":1.2-amd64 is published already"), "{said}");
    shop.publish(&["--replace"], &[other]);
    assert_ne!(shop.manifest("1.2-amd64")["layers"], Value::Null);
    let stranger = edition(&shop.workplace.path("s"), "stranger", "1", "x86-64");
    let said = refused(1, &["--registry", &repository], &[&image, &stranger]);
    assert!(said.contains("cannot share the repository"), "{said}");
}

#[test]
fn skopeo_copies_the_whole_index() {
    let shop = shop!("skopeo_copies_the_whole_index");
    let images = [shop.edition("1.2", "x86-64"), shop.edition("1.2", "arm64")];
    shop.publish(&[], &images);
    let copy = shop.workplace.path("copy");
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--all", "--src-tls-verify=false"])
        .arg(format!("docker://{}:1.2", shop.repository()))
        .arg(format!("oci:{}", copy.display())));
    for image in images {
        let content = fs::read(image).unwrap();
        let blob = copy.join("blobs/sha256").join(Digest::of(&content).hex());
        assert!(fs::read(blob).unwrap() == content);
    }
}

/// Python with the packages that `.ci/publish-judges` installs.
fn judges() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/publish-judges/bin");
    match folder.join("../oras/bin/oras").exists() {
        true => Ok(folder),
        false => Err("oras and spdx-tools are not installed (.ci/publish-judges)".to_owned()),
    }
}

#[test]
fn oras_pulls_the_image_under_its_name() {
    let test = "oras_pulls_the_image_under_its_name";
    let shop = shop!("oras_pulls_the_image_under_its_name");
    let judges = match judges() {
        Ok(judges) => judges,
        Err(reason) => return support::skip(test, &reason),
    };
    let image = shop.edition("1.2", "x86-64");
    shop.publish(&[], std::slice::from_ref(&image));
    let script = "import sys, oras.client\n\
                  oras.client.OrasClient(insecure=True).pull(target=sys.argv[1], outdir=sys.argv[2])";
    run(Command::new(judges.join("python3"))
        .args(["-c", script, &format!("{}:1.2-amd64", shop.repository())])
        .arg(shop.workplace.out()));
    let pulled = shop.workplace.out().join("hello.sysext.raw");
    assert!(fs::read(pulled).unwrap() == fs::read(image).unwrap());
}

/// `oras` of Debian 13.
fn oras(judges: &Path, arguments: &[&str], folder: &Path) -> String {
    let program = judges.join("../oras/bin/oras");
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn oras_finds_statements_and_copies_them_with_the_image() {
    let test = "oras_finds_statements_and_copies_them_with_the_image";
    let shop = shop!("oras_finds_statements_and_copies_them_with_the_image");
    let judges = match judges() {
        Ok(judges) => judges,
        Err(reason) => return support::skip(test, &reason),
    };
    let (amd, arm) = (shop.edition("1.2", "x86-64"), shop.edition("1.2", "arm64"));
    shop.publish(&[], &[amd, arm.clone()]);
    let repository = shop.repository();
    let out = shop.workplace.out();
    let index = format!("{repository}:1.2");
    oras(
        &judges,
        &["pull", "--plain-http", "--platform=linux/arm64", &index],
        &out,
    );
    let pulled = fs::read(out.join("hello.sysext.raw")).unwrap();
    assert!(pulled == fs::read(arm).unwrap());
    let (image, copy) = (format!("{index}-amd64"), format!("{repository}-copy:1.2"));
    let flags = ["copy", "-r", "--from-plain-http", "--to-plain-http"];
    oras(&judges, &[&flags[..], &[&image, &copy]].concat(), &out);
    for image in [image, copy] {
        let tree = oras(&judges, &["discover", "--plain-http", &image], &out);
        for statement in ["application/spdx+json", "application/vnd.in-toto+json"] {
            assert!(tree.contains(statement), "{tree}");
        }
    }
}

#[test]
fn statements_lie_beside_the_image() {
    let test = "statements_lie_beside_the_image";
    let shop = shop!("statements_lie_beside_the_image");
    let image = shop.edition("1.2", "x86-64");
    let facts = shop.publish(&[], std::slice::from_ref(&image));
    let subject = facts["registry"][0]["manifest"].as_str().unwrap();
    let list = shop.manifest(&subject.replace(':', "-"));
    let mut statements = Vec::new();
    for entry in list["manifests"].as_array().unwrap() {
        let manifest: Value = serde_json::from_slice(&shop.blob(entry)).unwrap();
        assert_eq!(manifest["subject"]["digest"], subject);
        assert_eq!(manifest["artifactType"], entry["artifactType"]);
        statements.push(shop.blob(&manifest["layers"][0]));
    }
    let [spdx, provenance] = statements.try_into().unwrap();
    let provenance: Value = serde_json::from_slice(&provenance).unwrap();
    let content = fs::read(&image).unwrap();
    assert_eq!(
        provenance["subject"][0]["digest"]["sha256"],
        Digest::of(&content).hex()
    );
    let sources = &provenance["predicate"]["buildDefinition"]["resolvedDependencies"];
    let uri = sources[0]["uri"].as_str().unwrap();
    assert!(uri.starts_with("pkg:oci/hello@sha256%3A111"), "{uri}");
    assert_eq!(sources.as_array().unwrap().len(), 3);
    let document: Value = serde_json::from_slice(&spdx).unwrap();
    let version = |file: &&Value| file["fileName"] == "./usr/share/version";
    let file = document["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(version)
        .unwrap();
    let sums = &file["checksums"];
    assert_eq!(sums[1]["checksumValue"], Digest::of(b"1.2").hex());
    let judges = match judges() {
        Ok(judges) => judges,
        Err(reason) => return support::skip(test, &reason),
    };
    let path = shop.workplace.path("hello.spdx.json");
    fs::write(&path, spdx).unwrap();
    run(Command::new(judges.join("pyspdxtools")).arg("-i").arg(path));
    shop.publish(&["--no-statements"], &[shop.edition("1.3", "x86-64")]);
}

#[test]
fn a_catalog_leads_agents_to_what_was_published() {
    let shop = shop!("a_catalog_leads_agents_to_what_was_published");
    let (own, name) = host();
    let catalog = shop.workplace.path("releases.json");
    fs::write(
        &catalog,
        r#"{"repo": "them", "layers": [{"name": "git", "tags": []}]}"#,
    )
    .unwrap();
    let catalog = catalog.to_str().unwrap();
    let facts = shop.publish(&["--catalog", catalog], &[shop.edition("1.9.0", own)]);
    assert_eq!(facts["catalog"]["changed"], true);
    let agent = Agent::new();
    agent.ok(&[
        "install",
        "hello",
        "--catalog",
        catalog,
        "--common",
        "--now",
    ]);
    assert_eq!(agent.state(), ["hello.sysext.raw common*"]);
    let both = [
        shop.edition("1.10.0", own),
        shop.edition("1.10.0", "riscv64"),
    ];
    shop.publish(&["--catalog", catalog], &both);
    let written: Value = serde_json::from_str(&fs::read_to_string(catalog).unwrap()).unwrap();
    assert_eq!(written["layers"][0]["name"], "git");
    let layer = &written["layers"][1];
    assert_eq!(layer["latest"], "1.10.0");
    let image = layer["tags"][1]["sysext"][name]["oci"].as_str().unwrap();
    assert!(
        image.starts_with(&format!("{}@sha256:", shop.repository())),
        "{image}"
    );
    agent.ok(&["upgrade", "hello", "--catalog", catalog]);
    let upgraded = ["hello.sysext.raw", "hello_1.10.0.sysext.raw common*"];
    assert_eq!(agent.state(), upgraded);
    let again = shop.publish(&["--catalog", catalog], &both);
    assert_eq!(again["catalog"]["changed"], false);
}

#[test]
fn a_private_registry_takes_images_from_who_is_logged_in() {
    let shop = match NodeRegistry::start_private() {
        Ok(registry) => Shop {
            registry,
            workplace: Workplace::new(),
        },
        Err(reason) => {
            let test = "a_private_registry_takes_images_from_who_is_logged_in";
            return support::skip(test, &reason);
        }
    };
    let image = shop.edition("1.2", "x86-64");
    let attempt = |login: &str| {
        let host = format!("127.0.0.1:{}", shop.registry.port);
        let auth = openssl::base64::encode_block(login.as_bytes());
        let logins = json!({"auths": {host: {"auth": auth}}});
        let file = shop.workplace.path("auth.json");
        fs::write(&file, logins.to_string()).unwrap();
        sysgraft(["publish", "--registry", &shop.repository()])
            .arg(&image)
            .env("REGISTRY_AUTH_FILE", file)
            .output()
            .unwrap()
    };
    let refused = attempt("alice:wrong");
    let said = text(&refused.stderr);
    assert!(said.contains("does not let you write to"), "{said}");
    assert!(said.contains("as alice"), "{said}");
    assert!(!said.contains("wrong"), "{said}");
    let taken = attempt("alice:secret");
    assert!(taken.status.success(), "{}", text(&taken.stderr));
}

#[test]
fn a_large_image_is_pushed_in_little_memory() {
    const IMAGE_BYTES: u64 = 512 << 20;
    const PEAK_BYTES: u64 = 96 << 20;
    let shop = shop!("a_large_image_is_pushed_in_little_memory");
    let root = shop.workplace.small_tree();
    let large = fs::File::create(root.join("usr/bin/large")).unwrap();
    let chunk: Vec<u8> = (0..1 << 20)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for index in 0..IMAGE_BYTES >> 20 {
        large.write_all_at(&chunk, index << 20).unwrap();
    }
    let source = format!("dir:{}", root.display());
    workplace::build(
        &shop.workplace,
        &["--compression", "none", "hello", &source],
    );
    let mut child = sysgraft([
        "publish",
        "--version",
        "1",
        "--registry",
        &shop.repository(),
    ])
    .arg(shop.workplace.out().join("hello.sysext.raw"))
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    watch(&mut child, PEAK_BYTES, || ());
    assert!(shop.manifest("1")["manifests"].is_array());
}
