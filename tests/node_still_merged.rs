//! What is merged although it is no longer enabled or stored, and what else a second look must not lose.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use agent::Agent;

/// With `k3s` enabled and merged, as image of version 1.1 beside one of 1.2.
fn with_merged() -> Agent {
    let agent = Agent::new();
    for version in ["1.1", "1.2"] {
        let more = format!("SYSEXT_VERSION_ID={version}\n");
        let image = agent.image("images", &format!("k3s_{version}.raw"), "k3s", &more);
        agent.ok(&["install", image.to_str().unwrap()]);
    }
    agent.ok(&["enable", "k3s_1.2", "--now"]);
    assert!(agent.live("k3s.sysext.raw").is_some());
    agent
}

#[test]
fn disabling_with_now_after_disabling_lets_systemd_let_go() {
    let agent = with_merged();
    agent.ok(&["disable", "k3s"]);
    assert!(agent.live("k3s.sysext.raw").is_some());
    let said = agent.ok(&["disable", "k3s", "--now"]);
    assert!(said.contains("k3s refreshed by systemd-sysext"), "{said}");
    assert_eq!(agent.live("k3s.sysext.raw"), None);
}

#[test]
fn removing_with_now_after_removing_lets_systemd_let_go() {
    let agent = with_merged();
    agent.ok(&["remove", "k3s_1.1"]);
    agent.ok(&["remove", "k3s"]);
    assert!(agent.live("k3s.sysext.raw").is_some());
    agent.ok(&["remove", "k3s", "--now"]);
    assert_eq!(agent.live("k3s.sysext.raw"), None);
    agent.fails(1, &["remove", "k3s", "--now"]);
}

#[test]
fn removing_one_version_leaves_the_one_that_is_merged() {
    let agent = with_merged();
    agent.ok(&["disable", "k3s"]);
    agent.ok(&["remove", "k3s_1.1", "--now"]);
    assert!(agent.live("k3s.sysext.raw").is_some());
    assert_eq!(agent.state(), ["k3s_1.2.raw *"]);
}

#[test]
fn what_a_boot_falls_back_to_is_not_collected() {
    let agent = with_merged();
    let count = r#"{"good": {"plain": [
        {"kind": "sysext", "name": "k3s", "content": "x", "file": "k3s_1.1.raw"}]}}"#;
    agent.write("var/lib/kairos/.sysgraft/boot-count.json", count);
    agent.ok(&["gc", "--keep", "0"]);
    assert_eq!(agent.state(), ["k3s_1.1.raw", "k3s_1.2.raw common*"]);
    agent.write("var/lib/kairos/.sysgraft/boot-count.json", "{}");
    agent.ok(&["gc", "--keep", "0"]);
    assert_eq!(agent.state(), ["k3s_1.2.raw common*"]);
}

#[test]
fn everybody_may_list_whatever_the_umask() {
    let agent = Agent::new();
    let image = agent.image("images", "k3s.raw", "k3s", "");
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 077 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sysgraft-agent"))
        .arg("--root")
        .arg(agent.tree.0.path())
        .args(["sysext", "install", "--common"])
        .arg(image);
    agent.with_environment(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mode = |path: &str| {
        let metadata = fs::metadata(agent.store().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o755);
    assert_eq!(mode("common"), 0o755);
    assert_eq!(mode(".sysgraft"), 0o755);
    assert_eq!(mode(".sysgraft/records.json"), 0o644);
}

#[test]
fn a_configuration_that_is_named_has_to_be_there() {
    let agent = Agent::new();
    let said = agent.fails(1, &["list", "--config", "/nonexistent/agent.toml"]);
    assert!(said.contains("/nonexistent/agent.toml"), "{said}");
    let said = agent.fails(2, &["list", "--state-dir", "var/lib/kairos"]);
    assert!(said.contains("must begin with a slash"), "{said}");
}

#[test]
fn links_in_a_tree_do_not_lead_out_of_it() {
    let agent = Agent::new();
    let outside = tempfile::tempdir().unwrap();
    let inside = agent.tree.path("data");
    fs::create_dir(&inside).unwrap();
    fs::create_dir_all(agent.tree.path("var/lib")).unwrap();
    std::os::unix::fs::symlink("/data", agent.tree.path("var/lib/kairos")).unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.join("extensions")).unwrap();
    let image = agent.image("images", "k3s.raw", "k3s", "");
    agent.ok(&["install", image.to_str().unwrap()]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let kept = outside.path().strip_prefix("/").unwrap();
    assert!(agent.tree.path("").join(kept).join("k3s.raw").is_file());
}
