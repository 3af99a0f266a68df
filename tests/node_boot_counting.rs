//! Boots that do not reach their end, as `sysgraft-agent boot` counts them.

#[path = "support/booted.rs"]
mod booted;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;

use booted::{Booted, STORE, Told, image};
use workplace::text;

const A: &str = "a.sysext.raw";
const B: &str = "b.sysext.raw";

fn node() -> Booted {
    let node = Booted::new();
    node.enable(&image(A), A, "common");
    node
}

fn boot(node: &Booted, id: &str) -> Told {
    node.boot_id(id).boot()
}

/// The boot reaches boot-complete.target, and systemd has merged `names`.
fn complete(node: &Booted, names: &[&str]) -> Option<i32> {
    node.write("usr/.systemd-sysext/extensions", names.join("\n") + "\n");
    node.agent(&["--complete"]).status.code()
}

#[test]
fn a_set_that_never_completes_is_left_out_at_the_third_boot() {
    let node = node();
    for (id, tries) in [("1", 1), ("2", 2)] {
        let told = boot(&node, id);
        assert_eq!(told.linked(), [A]);
        assert_eq!(told.json["counting"]["tries"], tries);
    }
    let told = boot(&node, "3");
    assert_eq!(told.linked(), [""; 0]);
    assert_eq!(node.live_names(), [""; 0]);
    let reason = told.reason(A);
    assert!(
        reason.contains("2 times in a row") && reason.contains("--retry"),
        "{reason}"
    );
    assert!(
        told.journal.contains("<4>sysext a.sysext.raw is left out"),
        "{}",
        told.journal
    );
    assert!(told.json["counting"]["leftOutSet"].is_string());
    // It stays out although the boot without it completes, until somebody wants it tried again.
    assert_eq!(complete(&node, &[]), Some(0));
    assert_eq!(boot(&node, "4").linked(), [""; 0]);
    assert!(node.agent(&["--retry"]).status.success());
    assert_eq!(boot(&node, "5").linked(), [A]);
}

#[test]
fn another_set_gets_its_chance() {
    let node = node();
    for id in ["1", "2"] {
        boot(&node, id);
    }
    node.enable(&image(B), B, "common");
    assert_eq!(boot(&node, "3").linked(), [A, B]);
}

#[test]
fn what_last_completed_stands_in() {
    let node = node();
    boot(&node, "1");
    assert_eq!(complete(&node, &["a"]), Some(0));
    // An upgrade replaces a by b.
    fs::remove_file(node.path(STORE).join("common").join(A)).unwrap();
    node.enable(&image(B), B, "common");
    for id in ["2", "3"] {
        assert_eq!(boot(&node, id).linked(), [B]);
    }
    let told = boot(&node, "4");
    assert_eq!(told.linked(), [A]);
    assert_eq!(told.json["linked"][0]["profile"], serde_json::Value::Null);
    let target = "/var/lib/kairos/extensions/a.sysext.raw".to_owned();
    assert_eq!(node.live(), [("a.sysext.raw".to_owned(), target)]);
    assert!(told.reason(B).contains("in a row"));
    // That one is counted too, and nothing but the same file stands in.
    fs::copy(image(B), node.path(STORE).join(A)).unwrap();
    let told = boot(&node, "5");
    assert_eq!(told.linked(), [""; 0]);
    assert!(
        told.notes().contains("a.sysext.raw is missing from"),
        "{}",
        told.notes()
    );
}

#[test]
fn one_bad_member_of_what_stands_in_costs_itself_alone() {
    const PLAIN: &str = "plain.sysext.raw";
    const K3S: &str = "k3s-v1.29.2+k3s1.sysext.raw";
    let node = node();
    fs::copy(image(PLAIN), node.path(STORE).join(PLAIN)).unwrap();
    node.note_let_in("plain", PLAIN, None);
    node.enable_stored(STORE, PLAIN, "common");
    assert_eq!(boot(&node, "1").linked(), [A, PLAIN]);
    assert_eq!(complete(&node, &["a", "plain"]), Some(0));
    node.enable(&image(B), B, "common");
    for id in ["2", "3"] {
        assert_eq!(boot(&node, id).linked(), [A, B, PLAIN]);
    }
    // Also what is not signed stands in, for it was let in.
    assert_eq!(boot(&node, "4").linked(), [A, PLAIN]);
    fs::remove_file(node.path(STORE).join(A)).unwrap();
    node.enable(&image(K3S), K3S, "common");
    fs::remove_file(node.path(STORE).join("common").join(A)).unwrap();
    for id in ["5", "6"] {
        assert_eq!(boot(&node, id).linked(), [B, K3S, PLAIN]);
    }
    for id in ["7", "8"] {
        let told = boot(&node, id);
        assert_eq!(told.linked(), [PLAIN]);
        let sentence = "a.sysext.raw is missing from the last set";
        assert!(told.notes().contains(sentence), "{}", told.notes());
    }
    // Neither did the node come up with the rest of it.
    assert_eq!(boot(&node, "9").linked(), [""; 0]);
}

#[test]
fn boots_that_complete_are_not_counted() {
    let node = node();
    for id in ["1", "2", "3", "4"] {
        assert_eq!(boot(&node, id).linked(), [A]);
        assert_eq!(complete(&node, &["a"]), Some(0));
    }
}

#[test]
fn a_boot_in_which_systemd_did_not_merge_does_not_complete() {
    let node = node();
    for id in ["1", "2"] {
        boot(&node, id);
        assert_eq!(complete(&node, &[]), Some(1));
    }
    let output = node.agent(&["--complete"]);
    let said = text(&output.stderr);
    assert!(said.contains("systemd did not merge a"), "{said}");
    assert_eq!(boot(&node, "3").linked(), [""; 0]);
}

#[test]
fn what_was_not_kept_out_by_the_set_does_not_cost_it() {
    // Some are merged, so nothing blocks.
    let node = node();
    node.enable(&image(B), B, "common");
    for id in ["1", "2", "3"] {
        assert_eq!(boot(&node, id).linked(), [A, B]);
        assert_eq!(complete(&node, &["b"]), Some(0));
        let said = text(&node.agent(&["--complete"]).stderr);
        assert!(
            said.contains("<4>the sysext a is linked, but not merged"),
            "{said}"
        );
    }
    // The administrator has switched the only one off.
    let node = self::node();
    fs::create_dir_all(node.path("etc/extensions/a")).unwrap();
    for id in ["1", "2", "3"] {
        assert_eq!(boot(&node, id).linked(), [A]);
        assert_eq!(complete(&node, &[]), Some(0));
    }
    // systemd was not to merge at all.
    let node = self::node();
    node.service_state("inactive");
    for id in ["1", "2", "3"] {
        assert_eq!(boot(&node, id).linked(), [A]);
        assert_eq!(complete(&node, &[]), Some(0));
    }
    node.service_state("failed");
    assert_eq!(complete(&node, &[]), Some(1));
}

#[test]
fn initrd_and_host_are_one_boot() {
    let node = node();
    boot(&node, "1");
    assert_eq!(node.boot().json["counting"]["tries"], 1);
    boot(&node, "2");
    assert_eq!(node.boot().linked(), [A]);
    assert_eq!(boot(&node, "3").linked(), [""; 0]);
}

#[test]
fn the_configuration_says_how_often() {
    for (tries, expected) in [(0, [true; 5]), (1, [true, false, false, false, false])] {
        let node = node();
        node.write(
            "etc/sysgraft/agent.toml",
            format!("[boot]\ntries = {tries}\n"),
        );
        for (id, linked) in ["1", "2", "3", "4", "5"].into_iter().zip(expected) {
            let told = boot(&node, id);
            assert_eq!(!told.linked().is_empty(), linked, "{tries} {id}");
        }
    }
}

#[test]
fn what_cannot_be_counted_is_linked() {
    let node = node();
    let count = "var/lib/kairos/.sysgraft/boot-count.json";
    node.write(count, "{\"linked\": 5}");
    let told = node.boot();
    assert_eq!(told.linked(), [A]);
    assert!(
        told.notes().contains("earlier boots cannot be used"),
        "{}",
        told.notes()
    );
    fs::remove_dir_all(node.path("var/lib/kairos/.sysgraft")).unwrap();
    node.write("var/lib/kairos/.sysgraft", "no folder");
    let told = node.boot();
    assert_eq!(told.linked(), [A]);
    assert!(
        told.notes().contains("this boot is not counted"),
        "{}",
        told.notes()
    );
    assert!(told.json["counting"].is_null());
}

#[test]
fn a_node_without_extensions_is_left_alone() {
    let node = Booted::new();
    node.boot();
    assert!(!node.path("var/lib/kairos/.sysgraft").exists());
    assert_eq!(node.agent(&["--complete"]).status.code(), Some(0));
}
