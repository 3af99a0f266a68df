//! No profile links what nobody proved, or what changed since; what is known of an image survives a
//! verification that fails; and an extension is called what its release file says.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use agent::{Agent, Ran};
use extension_image::{By, Extension, OS_RELEASE};

const REQUIRED: &str = "signatures = \"required\"\n";
const DAY: u64 = 24 * 60 * 60;

fn require_signatures(agent: &Agent) {
    agent.write("etc/sysgraft/agent.toml", REQUIRED);
}

/// Makes `a_1.raw` and `a_2.raw` and installs them.
fn two_versions() -> Agent {
    let agent = Agent::new();
    for version in ["1", "2"] {
        let more = format!("SYSEXT_VERSION_ID={version}\n");
        let image = agent.image("images", &format!("a_{version}.raw"), "a", &more);
        agent.ok(&["install", image.to_str().unwrap()]);
    }
    agent
}

/// Changes one bit of the data of a stored image.
fn damage(agent: &Agent, file: &str) {
    let path = agent.store().join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(1 << 20) + 4096] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// An image that nobody signed, outside of the store.
fn unsigned(agent: &Agent, file: &str, name: &str) -> String {
    let folder = agent.tree.path("images");
    fs::create_dir_all(&folder).unwrap();
    let image = Extension::sysext(name, OS_RELEASE).image(&folder.join(file), By::Nobody);
    image.to_str().unwrap().to_owned()
}

fn apply(agent: &Agent, text: &str) -> Ran {
    agent.write("extensions.toml", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgraft-agent"));
    command.arg("--root").arg(agent.tree.0.path()).arg("apply");
    command.arg(agent.tree.path("extensions.toml"));
    agent.with_environment(&mut command);
    Ran::of(command.output().unwrap(), &["apply"])
}

#[test]
fn what_changed_since_it_was_proved_is_not_linked() {
    for required in [false, true] {
        let agent = two_versions();
        if required {
            require_signatures(&agent);
        }
        agent.ok(&["enable", "a_1", "--now"]);
        damage(&agent, "a_2.raw");
        let before = (agent.state(), agent.below("run"), agent.asked());
        for words in [
            &["enable", "a_2"][..],
            &["enable", "a_2", "--now"],
            &["enable", "a_2", "--passive"],
            &["enable", "a_2", "--dry-run"],
            &["upgrade", "a"],
            &["upgrade", "a", "--dry-run"],
        ] {
            let said = agent.fails(1, words);
            assert!(said.contains("a_2.raw is damaged: "), "{words:?}: {said}");
            let now = (agent.state(), agent.below("run"), agent.asked());
            assert_eq!(now, before, "{words:?}");
        }
        // What is enabled already is not merged once more.
        damage(&agent, "a_1.raw");
        let said = agent.fails(1, &["enable", "a_1", "--now"]);
        assert!(said.contains("a_1.raw is damaged: "), "{said}");
        agent.ok(&["disable", "a", "--now"]);
        agent.ok(&["remove", "a_1"]);
    }
}

#[test]
fn a_declared_set_does_not_link_what_changed() {
    let agent = two_versions();
    // What nobody noted anything of, and has the right name and version.
    let records = agent.store().join(".sysgraft/records.json");
    fs::remove_file(records).unwrap();
    let declared = "[[sysext]]\nname = \"a\"\nversion = \"1\"\nsource = \"/nowhere/a_1.raw\"\n";
    damage(&agent, "a_1.raw");
    let ran = apply(&agent, declared);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("a_1.raw is damaged: "),
        "{}",
        ran.stderr
    );
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw"]);
    damage(&agent, "a_1.raw");
    assert_eq!(apply(&agent, declared).code, Some(0));
    assert_eq!(agent.state(), ["a_1.raw common", "a_2.raw"]);
}

#[test]
fn a_step_back_leads_to_no_image_that_changed() {
    let agent = two_versions();
    agent.ok(&["enable", "a_1", "--now"]);
    agent.ok(&["upgrade", "a"]);
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw common*"]);
    damage(&agent, "a_1.raw");
    for words in [&["rollback", "a", "--dry-run"][..], &["rollback", "a"]] {
        let said = agent.fails(1, words);
        assert!(said.contains("a_1.raw is damaged: "), "{said}");
    }
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw common*"]);
    damage(&agent, "a_1.raw");
    agent.ok(&["rollback", "a"]);
    assert_eq!(agent.state(), ["a_1.raw common*", "a_2.raw"]);
}

#[test]
fn what_was_put_into_the_store_by_hand_is_judged_as_at_boot() {
    let agent = Agent::new();
    agent.put("good.raw");
    fs::write(agent.store().join("junk.raw"), "just a text\n").unwrap();
    fs::copy(unsigned(&agent, "u.raw", "u"), agent.store().join("u.raw")).unwrap();
    agent.ok(&["enable", "good", "--now"]);
    let said = agent.fails(1, &["enable", "junk", "--now"]);
    assert!(
        said.contains("junk.raw is no extension image") && said.contains("build it with"),
        "{said}"
    );
    let said = agent.fails(1, &["enable", "u", "--now"]);
    let advice = format!(
        "u.raw is not signed, and nobody let it in; sign it with `sysgraft sign`, or let it in with \
         `sysgraft-agent sysext install --allow-unsigned {}`",
        agent.store().join("u.raw").display()
    );
    assert!(said.contains(&advice), "{said}");
    let stored = agent.store().join("u.raw");
    let stored = stored.to_str().unwrap();
    assert_eq!(agent.state(), ["good.raw common*", "junk.raw", "u.raw"]);
    // The advice works, and only as long as the file stays the same.
    agent.ok(&["install", "--allow-unsigned", stored]);
    agent.ok(&["enable", "u", "--now"]);
    agent.ok(&["disable", "u", "--now"]);
    fs::copy(unsigned(&agent, "u.raw", "u"), stored).unwrap();
    let said = agent.fails(1, &["enable", "u"]);
    assert!(said.contains("not the file that was installed"), "{said}");
}

#[test]
fn what_was_let_in_once_is_held_to_what_is_demanded_now() {
    let agent = Agent::new();
    let image = unsigned(&agent, "u.raw", "u");
    agent.ok(&["install", &image, "--allow-unsigned"]);
    let skipped = agent.image("images", "s.raw", "s", "");
    let skipped = skipped.to_str().unwrap();
    agent.ok(&["install", skipped, "--insecure-skip-verify"]);
    let signed = agent.image("images", "a.raw", "a", "");
    agent.ok(&["install", signed.to_str().unwrap()]);
    for name in ["u", "s", "a"] {
        agent.ok(&["enable", name]);
        agent.ok(&["disable", name]);
    }
    require_signatures(&agent);
    let said = agent.fails(1, &["enable", "u", "--now"]);
    assert!(
        said.contains("u.raw is not signed, and the configuration"),
        "{said}"
    );
    // Nobody looked at it, but it is signed.
    agent.ok(&["enable", "s", "--now"]);
    agent.ok(&["enable", "a", "--now"]);
    // Nobody is trusted any more.
    fs::remove_file(agent.tree.path("etc/verity.d/db.crt")).unwrap();
    let said = agent.fails(1, &["enable", "a", "--passive"]);
    assert!(said.contains("this node trusts nobody"), "{said}");
    agent.ok(&["disable", "a", "--now"]);
    agent.ok(&["remove", "s", "--now"]);
}

#[test]
fn what_comes_after_something_that_is_disabled_has_to_be_good() {
    let agent = Agent::booted("active");
    agent.put("a_1.raw");
    agent.put("a_2.raw");
    agent.ok(&["enable", "a_2", "--common"]);
    agent.ok(&["enable", "a_1", "--active", "--now"]);
    damage(&agent, "a_2.raw");
    agent.ok(&["disable", "a", "--active", "--now"]);
    assert_eq!(agent.state(), ["a_1.raw", "a_2.raw common"]);
    assert_eq!(agent.live("a.sysext.raw"), None);
    // A boot leaves out what is bad, and so does this.
    agent.ok(&["enable", "a_1", "--common", "--now"]);
    assert_eq!(agent.state(), ["a_1.raw common*", "a_2.raw"]);
}

#[test]
fn an_extension_is_called_what_its_release_file_says() {
    let agent = Agent::new();
    for (file, name) in [
        ("my_a.raw", "my_a"),
        ("my_b.raw", "my_b"),
        ("k3s_1.raw", "k3s"),
    ] {
        let image = agent.image("images", file, name, "");
        fs::create_dir_all(agent.store()).unwrap();
        fs::copy(image, agent.store().join(file)).unwrap();
    }
    agent.ok(&["enable", "my_a", "--now"]);
    agent.ok(&["enable", "my_b", "--now"]);
    for name in ["my_a", "my_b"] {
        let target = agent.live(&format!("{name}.sysext.raw")).unwrap();
        assert!(target.ends_with(format!("common/{name}.raw")), "{target:?}");
    }
    assert_eq!(
        agent.state(),
        ["k3s_1.raw", "my_a.raw common*", "my_b.raw common*"]
    );
    let listed = agent.json(&["list", "--json"]);
    let facts = |index: usize| {
        let entry = &listed[index];
        (entry["name"].clone(), entry["version"].clone())
    };
    assert_eq!(facts(0), ("k3s".into(), "1".into()));
    assert_eq!(facts(1), ("my_a".into(), serde_json::Value::Null));
    // The same holds once somebody proved them, and for what is installed.
    agent.ok(&["verify"]);
    let proved = agent.json(&["list", "--json"]);
    for index in 0..3 {
        assert_eq!(proved[index]["name"], listed[index]["name"]);
        assert_eq!(proved[index]["version"], listed[index]["version"]);
    }
    agent.ok(&["disable", "my_a", "--now"]);
    assert_eq!(agent.live("my_a.sysext.raw"), None);
    assert!(agent.live("my_b.sysext.raw").is_some());
}

#[test]
fn images_that_cannot_be_read_are_called_like_their_files() {
    let agent = Agent::new();
    agent.put("k3s_1.raw");
    let good = fs::read(agent.store().join("k3s_1.raw")).unwrap();
    let mut bent = good.clone();
    // The root directory's inode, and whatever else lies in the first block.
    bent[(1 << 20) + 1024..(1 << 20) + 4096].reverse();
    for (file, content) in [
        ("text_1.raw", &b"text"[..]),
        ("empty_1.raw", b""),
        ("cut_1.raw", &good[..good.len() / 2]),
        ("bent_1.raw", &bent),
    ] {
        fs::write(agent.store().join(file), content).unwrap();
    }
    // Terabytes of nothing.
    let huge = fs::File::create(agent.store().join("huge_1.raw")).unwrap();
    huge.set_len(1 << 42).unwrap();
    let started = Instant::now();
    let listed = agent.json(&["list", "--json"]);
    assert!(started.elapsed() < Duration::from_secs(10));
    let names = listed.as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|entry| entry["name"].as_str().unwrap()).collect();
    let expected = ["bent_1", "cut_1", "empty_1", "huge_1", "k3s", "text_1"];
    assert_eq!(names, expected);
    for file in ["bent_1", "cut_1", "empty_1", "huge_1", "text_1"] {
        agent.fails(1, &["enable", file]);
        agent.ok(&["remove", file]);
    }
}

#[test]
fn a_verification_that_fails_is_noted_and_forgets_nothing() {
    let agent = Agent::new();
    let image = unsigned(&agent, "u.raw", "u");
    agent.ok(&["install", &image, "--allow-unsigned"]);
    let signed = agent.image("images", "a.raw", "a", "");
    agent.ok(&["install", signed.to_str().unwrap()]);
    let proofs = || {
        let listed = agent.json(&["list", "--json"]);
        [&listed[0]["proof"]["is"], &listed[1]["proof"]["is"]].map(|is| is.clone())
    };
    assert_eq!(proofs(), ["signed", "unsigned"]);
    // Something that a verification finds and that goes away again: the host is another one.
    agent.write("etc/os-release", "ID=other\nVERSION_ID=1\n");
    assert_eq!(agent.run(&["verify"]).code, Some(3));
    assert_eq!(proofs(), ["signed", "unsigned"]);
    let listed = agent.run(&["list"]).stdout;
    assert_eq!(listed.matches("failed").count(), 2, "{listed}");
    let status = agent.run(&["status"]).stdout;
    let failed = status.lines().filter(|line| line.contains("  failed"));
    assert_eq!(
        failed
            .filter(|line| line.contains("is not for this node"))
            .count(),
        2,
        "{status}"
    );
    agent.write("etc/os-release", OS_RELEASE);
    for name in ["u", "a"] {
        let said = agent.fails(1, &["enable", name]);
        assert!(
            said.contains("was not proved when it was verified last")
                && said.contains(&format!("sysgraft-agent sysext verify {name}.raw")),
            "{said}"
        );
    }
    agent.ok(&["verify"]);
    assert_eq!(proofs(), ["signed", "unsigned"]);
    let listed = agent.json(&["list", "--json"]);
    assert!(listed[0]["failed"].is_null() && listed[1]["failed"].is_null());
    agent.ok(&["enable", "u"]);
    agent.ok(&["enable", "a"]);
}

#[test]
fn what_could_not_be_read_says_nothing() {
    let test = "what_could_not_be_read_says_nothing";
    if Command::new("strace").arg("-V").output().is_err() {
        return support::skip(test, "strace is missing");
    }
    let agent = Agent::new();
    let image = unsigned(&agent, "u.raw", "u");
    agent.ok(&["install", &image, "--allow-unsigned"]);
    let records = agent.store().join(".sysgraft/records.json");
    let before = fs::read(&records).unwrap();
    for number in [2, 20] {
        let plain = agent.command(&["verify", "u"]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-P"]);
        command.arg(agent.store().join("u.raw")).arg("-e");
        command.arg(format!("inject=pread64:error=EIO:when={number}+"));
        command.arg(plain.get_program()).args(plain.get_args());
        agent.with_environment(&mut command);
        let ran = Ran::of(command.output().unwrap(), &["verify"]);
        assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
        let sentence = "cannot read u.raw: Input/output error";
        assert!(ran.stdout.contains(sentence), "{}", ran.stdout);
        assert_eq!(noted(&fs::read(&records).unwrap()), noted(&before));
    }
    agent.ok(&["enable", "u"]);
}

/// What is noted of artefacts.
fn noted(records: &[u8]) -> serde_json::Value {
    let mut records: serde_json::Value = serde_json::from_slice(records).unwrap();
    records["artefacts"].take()
}

#[test]
fn notes_of_earlier_versions_are_read() {
    let agent = Agent::new();
    let image = unsigned(&agent, "u.raw", "u");
    agent.ok(&["install", &image, "--allow-unsigned"]);
    let path = agent.store().join(".sysgraft/records.json");
    let mut records: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let record = &mut records["artefacts"]["u.raw"];
    // A verification that failed left this behind.
    record["proof"] = serde_json::json!({"is": "skipped"});
    record["installed"] = DAY.into();
    fs::write(&path, records.to_string()).unwrap();
    agent.ok(&["verify", "u"]);
    assert_eq!(
        agent.json(&["list", "--json"])[0]["proof"]["is"],
        "unsigned"
    );
}
