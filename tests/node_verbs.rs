//! Every verb of `sysgraft-agent sysext|confext` on trees of files, in the words of kairos-agent where
//! those are true, and every error that kairos-agent has.
//!
//! Two of kairos-agent's errors are none here: a profile whose folder is missing enables nothing, so
//! that `disable` has nothing to do; and no verb but `--now` needs systemd.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use agent::{Agent, Ran};
use extension_image::{By, Extension, OS_RELEASE};

const K3S: &str = "k3s-v1.29.2+k3s1.sysext.raw";

#[test]
fn the_workflow_of_kairos_documentation_runs_verbatim() {
    let agent = Agent::booted("active");
    let image = agent.image("images", K3S, "k3s-v1.29.2+k3s1", "");
    let uri = format!("file:{}", image.display());
    let said = agent.ok(&["install", &uri]);
    assert!(
        said.contains(&format!("System extension {uri} installed")),
        "{said}"
    );
    let said = agent.ok(&["enable", "--active", "--now", "k3s"]);
    assert!(
        said.contains(&format!("Extension {K3S} enabled in active")),
        "{said}"
    );
    assert!(
        said.contains(&format!("Extension {K3S} merged by systemd-sysext")),
        "{said}"
    );
    let listed = agent.run(&["list", "--active"]).stdout;
    assert!(
        listed.contains("k3s-v1.29.2+k3s1") && listed.contains("active"),
        "{listed}"
    );
    assert_eq!(agent.state(), [format!("{K3S} active*")]);
    let said = agent.ok(&["remove", "--now", "k3s"]);
    assert!(said.contains("System extension k3s removed"), "{said}");
    assert_eq!(agent.state(), [""; 0]);
    assert_eq!(agent.live("k3s-v1.29.2+k3s1.sysext.raw"), None);
}

#[test]
fn confexts_are_called_configuration_extensions() {
    let agent = Agent::confext();
    let said = agent.run(&["list"]).stderr;
    assert_eq!(said, "No configuration extensions found\n");
    let image = agent.image("images", "site.confext.raw", "site", "");
    let said = agent.ok(&["install", image.to_str().unwrap()]);
    assert!(said.contains("Configuration extension file:"), "{said}");
    let said = agent.ok(&["enable", "site", "--now"]);
    assert!(said.contains("merged by systemd-confext"), "{said}");
    assert!(agent.live("site.confext.raw").is_some());
    let said = agent.ok(&["remove", "site", "--now"]);
    assert!(
        said.contains("Configuration extension site removed"),
        "{said}"
    );
    let error = agent.fails(1, &["remove", "site"]);
    assert_eq!(
        error,
        "error: failed removing configuration extension: extension site not found\n"
    );
}

#[test]
fn wrong_usage_is_told_in_the_words_of_kairos_agent() {
    let agent = Agent::booted("active");
    agent.put("a.raw");
    let only_one = "only one of --active, --passive, --recovery or --common can be set";
    let either = "either --active, --passive, --recovery or --common must be set";
    for (words, sentence) in [
        (&["enable"][..], "extension name required"),
        (&["enable", "--active"], "extension name required"),
        (&["disable"], "extension name required"),
        (&["enable", "a", "--active", "--passive"], only_one),
        (&["disable", "--recovery", "--common", "a"], only_one),
        (&["list", "--active", "--common"], only_one),
        (&["enable", "a"], either),
        (&["disable", "a"], either),
        (&["install"], "extension URI required"),
        (&["remove"], "extension required"),
    ] {
        let said = agent.fails(2, words);
        assert!(said.contains(sentence), "{words:?}: {said}");
    }
    assert_eq!(agent.state(), ["a.raw"]);
}

#[test]
fn hosts_without_boot_states_need_no_profile() {
    let agent = Agent::new();
    agent.put("a.raw");
    assert_eq!(
        agent.ok(&["enable", "a"]),
        "Extension a.raw enabled in common\n"
    );
    assert_eq!(
        agent.ok(&["disable", "a"]),
        "Extension a.raw disabled in common\n"
    );
}

#[test]
fn what_does_not_exist_is_an_error_and_what_is_not_enabled_is_none() {
    let agent = Agent::new();
    agent.put("a.raw");
    for (verb, doing) in [("enable", "enabling"), ("remove", "removing")] {
        let said = agent.fails(1, &[verb, "nothing"]);
        let expected =
            format!("error: failed {doing} system extension: extension nothing not found\n");
        assert_eq!(said, expected);
        let said = agent.fails(1, &[verb, "("]);
        assert!(
            said.contains("no regular expression either: unclosed group"),
            "{said}"
        );
    }
    for name in ["a", "nothing"] {
        let said = agent.ok(&["disable", "--passive", name]);
        assert_eq!(
            said,
            format!("Extension {name} is not enabled in passive\n")
        );
    }
    for uri in ["ftp://host/x.raw", "nonsense"] {
        let said = agent.fails(1, &["install", uri]);
        let sentence = format!("source {uri} does not match any of oci:, file: or http(s): ");
        assert!(said.contains(sentence.trim_end()), "{said}");
    }
    let said = agent.fails(1, &["install", "oci:UPPER/Case:tag"]);
    assert!(
        said.contains("the name of the image is malformed"),
        "{said}"
    );
    let said = agent.fails(1, &["install", "file:/nowhere/x.raw"]);
    assert!(said.contains("/nowhere/x.raw"), "{said}");
}

#[test]
fn only_root_changes_and_everybody_looks() {
    if !rustix::process::geteuid().is_root() {
        return support::skip(
            "only_root_changes_and_everybody_looks",
            "it takes root to become nobody",
        );
    }
    let agent = Agent::new();
    agent.put("a.raw");
    agent.ok(&["enable", "a"]);
    let root = agent.tree.0.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    // The tests' own program may lie where nobody else gets.
    let program = root.join("agent");
    fs::copy(env!("CARGO_BIN_EXE_sysgraft-agent"), &program).unwrap();
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--root").arg(root).arg("sysext").args(words);
        agent.with_environment(&mut command);
        Ran::of(command.uid(65534).gid(65534).output().unwrap(), words)
    };
    let before = agent.below("var");
    for words in [
        &["enable", "a", "--passive"][..],
        &["disable", "a"],
        &["remove", "a"],
        &["install", "/nowhere/a.raw"],
    ] {
        let ran = as_nobody(words);
        assert_eq!(ran.code, Some(1), "{words:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("this command requires root privileges"),
            "{}",
            ran.stderr
        );
    }
    for words in [
        &["list"][..],
        &["status"],
        &["remove", "a", "--dry-run"],
        &["disable", "a", "--dry-run"],
    ] {
        let ran = as_nobody(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.stderr);
    }
    assert_eq!(agent.below("var"), before);
}

#[test]
fn looking_and_trying_create_nothing() {
    let agent = Agent::new();
    for words in [
        &["list"][..],
        &["list", "--active", "--json"],
        &["status"],
        &["status", "--json"],
        &["install", "--dry-run", "https://example.com/x.raw"],
        &["disable", "--dry-run", "x"],
        &["verify"],
    ] {
        agent.ok(words);
    }
    agent.fails(1, &["enable", "--dry-run", "x"]);
    assert!(!agent.tree.path("var").exists() && !agent.tree.path("run").exists());
    let said = agent.run(&[
        "install",
        "--dry-run",
        "https://alice:secret@example.com/x.raw?token=1",
    ]);
    assert_eq!(said.stdout, "would fetch https://example.com/x.raw?…\n");
}

#[test]
fn a_dry_run_says_what_the_real_one_does() {
    let agent = Agent::new();
    for file in ["a_1.raw", "a_2.raw"] {
        agent.put(file);
    }
    agent.ok(&["enable", "a_1", "--now"]);
    for words in [
        &["enable", "a", "--now"][..],
        &["disable", "a"],
        &["remove", "a_2", "--now"],
    ] {
        let before = (agent.state(), agent.below(""));
        let mut dry = words.to_vec();
        dry.extend(["--dry-run", "--json"]);
        let planned = agent.json(&dry);
        assert_eq!((agent.state(), agent.below("")), before);
        let mut real = words.to_vec();
        real.push("--json");
        assert_eq!(
            agent.json(&real)["actions"],
            planned["actions"],
            "{words:?}"
        );
    }
    let said = agent.run(&["disable", "a", "--dry-run"]).stdout;
    assert_eq!(said, "nothing to do\n");
}

#[test]
fn a_dry_run_of_an_installation_says_what_is_known_of_it() {
    let agent = Agent::new();
    let image = agent.image("images", "hello_1.2.raw", "hello", "");
    let image = image.display().to_string();
    let planned = |uri: &str| {
        agent
            .run(&["install", "--dry-run", "--common", "--now", uri])
            .stdout
    };
    assert_eq!(
        planned(&image),
        format!(
            "would fetch file:{image}\nwould link common/hello_1.2.raw to hello_1.2.raw\n\
             would merge hello\n"
        )
    );
    assert_eq!(
        planned("https://example.com/x.raw.xz"),
        "would fetch https://example.com/x.raw.xz\nwould link common/x.raw to x.raw\n\
         would merge x.raw\n"
    );
    let oci = planned("oci:127.0.0.1:1/app:1");
    assert!(
        oci.ends_with("would merge oci:127.0.0.1:1/app:1\n"),
        "{oci}"
    );
    let missing = format!("{image}.gone.raw");
    let said = agent.fails(1, &["install", "--dry-run", &missing]);
    assert!(said.contains("gone.raw"), "{said}");
}

#[test]
fn what_is_never_let_in_is_refused_before_it_is_fetched() {
    let agent = Agent::new();
    agent.write("etc/sysgraft/agent.toml", "signatures = \"required\"\n");
    for option in ["--insecure-skip-verify", "--allow-unsigned"] {
        for dry in [&["--dry-run"][..], &[]] {
            // Nobody listens there.
            let mut words = vec!["install", option, "http://127.0.0.1:1/x.raw"];
            words.extend(dry);
            let said = agent.fails(1, &words);
            assert!(said.contains(&format!("{option} is refused")), "{said}");
            assert!(!said.contains("nobody looks"), "{said}");
        }
    }
}

#[test]
fn another_version_takes_the_place_of_the_one_before() {
    let agent = Agent::new();
    for file in ["a_1.9.raw", "a_1.10.raw", "b.raw"] {
        agent.put(file);
    }
    agent.ok(&["enable", "b"]);
    agent.ok(&["enable", "a_1.9", "--now"]);
    let target = agent.live("a.sysext.raw").unwrap();
    assert!(target.ends_with("common/a_1.9.raw"), "{target:?}");
    let said = agent.ok(&["enable", "a", "--now"]);
    assert!(
        said.contains("Extension a_1.9.raw disabled in common"),
        "{said}"
    );
    assert_eq!(
        agent.state(),
        ["a_1.10.raw common*", "a_1.9.raw", "b.raw common"]
    );
    let said = agent.fails(1, &["remove", "a"]);
    assert!(
        said.contains("a may be any of a_1.10.raw, a_1.9.raw; name one of them"),
        "{said}"
    );
    agent.ok(&["disable", "a"]);
    assert_eq!(
        agent.state()[0],
        "a_1.10.raw *",
        "merged until the next boot"
    );
}

#[test]
fn what_is_installed_is_proved_and_never_overwrites_what_is_enabled() {
    let agent = Agent::new();
    let first = agent.image("1", "a.sysext.raw", "a", "");
    let second = agent.image("2", "a.sysext.raw", "a", "SYSEXT_VERSION_ID=2\n");
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let installed = agent.json(&["install", first, "--common", "--json"]);
    assert_eq!(installed["proof"]["is"], "signed");
    let inode = |file: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(agent.store().join(file)).unwrap().ino()
    };
    let before = inode("a.sysext.raw");
    let said = agent.ok(&["install", first]);
    assert!(
        said.contains("System extension a.sysext.raw is already installed"),
        "{said}"
    );
    let said = agent.ok(&["install", second]);
    assert!(said.contains("stored as a_2.sysext.raw"), "{said}");
    assert_eq!(inode("a.sysext.raw"), before);
    assert_eq!(agent.state(), ["a.sysext.raw common", "a_2.sysext.raw"]);
    agent.ok(&["enable", "a_2"]);
    // Nobody uses the first one any more.
    let third = agent.image("3", "a.sysext.raw", "a", "SYSEXT_VERSION_ID=3\n");
    agent.ok(&["install", third.to_str().unwrap()]);
    assert_ne!(inode("a.sysext.raw"), before);
    assert_eq!(agent.state(), ["a.sysext.raw", "a_2.sysext.raw common"]);
    let listed = agent.json(&["list", "--json"]);
    assert_eq!(
        (&listed[0]["version"], &listed[1]["version"]),
        (&"3".into(), &"2".into())
    );
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let agent = Agent::new();
    agent.put("seen.raw");
    let folder = agent.tree.path("images");
    fs::create_dir_all(&folder).unwrap();
    let unsigned = Extension::sysext("u", OS_RELEASE).image(&folder.join("u.raw"), By::Nobody);
    let stranger =
        Extension::sysext("s", OS_RELEASE).image(&folder.join("s.raw"), By::Example("ec"));
    let foreign =
        Extension::sysext("f", "ID=other\n").image(&folder.join("f.raw"), By::Example("db"));
    let renamed =
        Extension::sysext("n", OS_RELEASE).image(&folder.join("other.raw"), By::Example("db"));
    let damaged =
        Extension::sysext("d", OS_RELEASE).image(&folder.join("d.raw"), By::Example("db"));
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let junk = folder.join("junk.raw");
    fs::write(&junk, "junk").unwrap();
    for image in [&unsigned, &stranger, &foreign, &renamed, &damaged, &junk] {
        let said = agent.fails(1, &["install", image.to_str().unwrap()]);
        assert_eq!(
            said.lines()
                .filter(|line| line.starts_with("error:"))
                .count(),
            1,
            "{said}"
        );
        assert_eq!(agent.state(), ["seen.raw"], "{said}");
    }
    let wrong = "0".repeat(64);
    agent.fails(
        1,
        &["install", unsigned.to_str().unwrap(), "--sha256", &wrong],
    );
    let staging = agent.below("var/lib/kairos/extensions/.sysgraft/staging");
    assert_eq!(staging, [""; 0]);
    agent.ok(&["install", unsigned.to_str().unwrap(), "--allow-unsigned"]);
    agent.ok(&[
        "install",
        stranger.to_str().unwrap(),
        "--insecure-skip-verify",
    ]);
    let said = agent.run(&["verify", "--json"]);
    assert_eq!(said.code, Some(3));
    let proved: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let proved = proved
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["proved"]);
    assert_eq!(proved.collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn verify_notes_what_it_finds_and_status_shows_it() {
    let agent = Agent::new();
    let image = agent.image("images", "a.raw", "a", "");
    agent.ok(&["install", image.to_str().unwrap()]);
    assert!(
        agent
            .run(&["status", "a"])
            .stdout
            .contains("signed by  CN=sysgraft example RSA")
    );
    let stored = agent.store().join("a.raw");
    let mut bytes = fs::read(&stored).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&stored, &bytes).unwrap();
    assert!(
        agent
            .run(&["status"])
            .stdout
            .contains("changed since it was proved")
    );
    let ran = agent.run(&["verify", "a"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stdout.contains("is damaged"), "{}", ran.stdout);
    bytes[1 << 20] ^= 1;
    fs::write(&stored, &bytes).unwrap();
    agent.ok(&["verify"]);
    assert_eq!(agent.json(&["list", "--json"])[0]["proof"]["is"], "signed");
}

#[test]
fn status_tells_what_is_wrong() {
    let agent = Agent::new();
    agent.put("a.raw");
    fs::create_dir(agent.store().join("common")).unwrap();
    symlink("../gone.raw", agent.store().join("common/gone.raw")).unwrap();
    fs::create_dir(agent.store().join("folder.raw")).unwrap();
    let boot = r#"{"leftOut":[{"kind":"sysext","file":"a.raw","name":"a","reason":"it is too old"},
        {"kind":"confext","file":"a.raw","reason":"another one"}],"later":1}"#;
    agent.write("run/sysgraft/boot.json", boot);
    let said = agent.run(&["status"]).stdout;
    for sentence in [
        "left out   it is too old",
        "! common/gone.raw leads to no extension in the store",
        "folder.raw is passed over: it is not a regular file",
    ] {
        assert!(said.contains(sentence), "{said}");
    }
    assert_eq!(
        agent.ok(&["disable", "gone"]),
        "Extension gone.raw disabled in common\n"
    );
    agent.write("run/sysgraft/boot.json", "nonsense");
    assert_eq!(
        agent.json(&["status", "--json"])["artefacts"][0]["file"],
        "a.raw"
    );
}

#[test]
fn hostile_names_cost_nothing_and_lead_nowhere() {
    let agent = Agent::new();
    for file in [
        "good.raw",
        "with space.raw",
        "new\nline.raw",
        "esc\x1b[31m.raw",
        ".#x.raw",
        "-rf.raw",
    ] {
        agent.put(file);
    }
    symlink("/etc/passwd", agent.store().join("out.raw")).unwrap();
    fs::create_dir(agent.store().join("x.raw")).unwrap();
    let pipe = agent.store().join("pipe.raw");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    agent.run(&["status"]);
    assert_eq!(agent.state(), ["-rf.raw", "good.raw"]);
    for name in ["out", "x.raw", "pipe"] {
        let said = agent.fails(1, &["enable", name]);
        assert!(
            said.contains("cannot be used: it is not a regular file"),
            "{said}"
        );
        agent.fails(1, &["remove", name]);
    }
    for name in ["../../../etc/passwd", "a/b", "\x1b[2J", "", "."] {
        agent.fails(1, &["enable", "--", name]);
        agent.fails(1, &["remove", "--", name]);
    }
    agent.ok(&["enable", "--", "-rf"]);
    agent.fails(1, &["install", pipe.to_str().unwrap()]);
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn profiles_that_are_not_booted_are_enabled_for_later() {
    let agent = Agent::booted("passive");
    agent.put("a.raw");
    let said = agent.ok(&["enable", "--active", "--now", "a"]);
    let sentence =
        "Extension a.raw enabled in active but not merged as we are currently not booted in active";
    assert!(said.contains(sentence), "{said}");
    let said = agent.ok(&["disable", "--active", "--now", "a"]);
    let sentence = "disabled in active but not refreshed as we are currently not booted in active";
    assert!(said.contains(sentence), "{said}");
    assert_eq!(agent.asked(), [""; 0]);
    agent.ok(&["enable", "--passive", "--now", "a"]);
    assert_eq!(agent.state(), ["a.raw passive*"]);
}
