//! Upgrades on trial, steps back, and what is collected, with a systemd that is played.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_host.rs"]
mod node_host;
mod support;
#[path = "support/versions.rs"]
mod versions;

use std::fs::{self, File};
use std::time::{Duration, Instant, SystemTime};

use node_host::Host;
use versions::{V1, V2, V3, assert_runs, host, link, live};

const RELOAD: &str = "systemctl reload systemd-sysext.service";

#[test]
fn the_newest_version_is_enabled_and_merged() {
    let Some(host) = host("the_newest_version_is_enabled") else {
        return;
    };
    let said = host.sysext(&["upgrade", "hello", "--dry-run"]);
    assert!(
        said.contains("hello_1.10.sysext.raw would be enabled in common instead of"),
        "{said}"
    );
    assert_runs_without_records(&host, V1);
    host.sysext(&["upgrade", "hello"]);
    assert_runs(&host, V2);
    assert_eq!(host.calls(), [RELOAD]);
    assert_eq!(host.records().history["hello"].len(), 1);
    let said = host.sysext(&["upgrade", "hello"]);
    assert!(said.contains("hello is up to date"), "{said}");
    assert_eq!(host.calls(), [""; 0]);
}

fn assert_runs_without_records(host: &Host, file: &str) {
    assert_eq!(
        (host.enabled("common"), host.live()),
        (vec![link(file)], vec![live(file)])
    );
}

#[test]
fn a_version_that_does_not_merge_is_not_kept() {
    let Some(host) = host("a_version_that_does_not_merge") else {
        return;
    };
    host.fake("failures", "2");
    let said = host.refused(&["upgrade", "hello"]);
    assert!(
        said.contains("systemd-sysext did not merge it: Failed to read metadata"),
        "{said}"
    );
    assert!(
        said.contains("hello_1.9.sysext.raw is enabled again, and merged as before"),
        "{said}"
    );
    assert_runs(&host, V1);
    assert!(host.records().history.is_empty());
    host.fake("failures", "0");
    host.fake("ignored", "hello\n");
    let said = host.refused(&["upgrade", "hello", "--version", "1.10"]);
    assert!(said.contains("it ignored hello"), "{said}");
    // This systemd now ignores the old version as well.
    assert!(
        said.contains("hello_1.9.sysext.raw is enabled again, but not merged: it ignored"),
        "{said}"
    );
    assert_eq!(host.enabled("common"), [link(V1)]);
    host.unfake("ignored");
    host.sysext(&["enable", V1, "--now"]);
    assert_runs(&host, V1);
}

#[test]
fn a_version_with_which_the_node_is_not_well_is_not_kept() {
    let Some(host) = host("a_version_with_which_the_node_is_not_well") else {
        return;
    };
    let said = host.refused(&[
        "upgrade",
        "hello",
        "--health-cmd",
        "echo no answer >&2; false",
    ]);
    assert!(
        said.contains("the health check failed: no answer; hello_1.9"),
        "{said}"
    );
    assert_runs(&host, V1);
    assert_eq!(host.calls(), [RELOAD, RELOAD]);

    let started = Instant::now();
    let hangs = [
        "upgrade",
        "hello_1.10",
        "--health-cmd",
        "sleep 300",
        "--health-timeout",
        "1",
    ];
    let said = host.refused(&hangs);
    assert!(said.contains("took too long"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_runs(&host, V1);

    host.sysext(&["upgrade", "hello_1.10", "--health-cmd", "true"]);
    assert_runs(&host, V2);
}

#[test]
fn a_health_check_that_is_not_made_is_told() {
    let Some(host) = host("a_health_check_that_is_not_made") else {
        return;
    };
    host.sysext(&["enable", V1, "--passive"]);
    let said = host.sysext(&["upgrade", "hello", "--passive", "--health-cmd", "false"]);
    assert!(
        said.contains("the health check was not made, for the new version is not merged"),
        "{said}"
    );
    let said = host.sysext(&[
        "upgrade",
        "hello",
        "--passive",
        "--health-unit",
        "a.service",
    ]);
    assert!(
        said.contains("the health check was not made, for nothing was changed"),
        "{said}"
    );
    let said = host.sysext(&["upgrade", "hello", "--passive"]);
    assert!(!said.contains("health"), "{said}");
    // What is enabled for the running system is merged and checked, whether it was merged or not.
    host.sysext(&["disable", "hello", "--now"]);
    host.sysext(&["enable", V1]);
    assert_eq!(host.live(), [""; 0]);
    let said = host.refused(&["upgrade", "hello", "--health-cmd", "false"]);
    assert!(said.contains("the health check failed"), "{said}");
}

#[test]
fn no_time_is_too_long() {
    let Some(host) = host("no_time_is_too_long") else {
        return;
    };
    for seconds in ["0", "86401", "18446744073709551615"] {
        let words = ["upgrade", "hello", "--health-cmd", "true"];
        let timeout = ["--health-timeout", seconds];
        let output = host.agent(&[&["sysext"], &words[..], &timeout].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_runs_without_records(&host, V1);
    }
    let longest = ["--health-timeout", "86400", "--health-cmd", "true"];
    host.sysext(&[&["upgrade", "hello"], &longest[..]].concat());
    assert_runs(&host, V2);
}

#[test]
fn units_have_to_become_active_and_stay_so() {
    let Some(host) = host("units_have_to_become_active") else {
        return;
    };
    let upgrade = [
        "upgrade",
        "hello",
        "--health-unit",
        "a.service",
        "--health-unit",
        "b.service",
        "--health-timeout",
        "4",
        "--version",
        "1.10",
    ];
    for (states, complaint) in [
        ("active failed\n", "b.service has failed"),
        (
            "active activating\n",
            "b.service was still activating after 4 seconds",
        ),
        ("active active\nactive failed\n", "b.service has failed"),
    ] {
        host.fake("states", states);
        let said = host.refused(&upgrade);
        assert!(said.contains(complaint), "{states}: {said}");
        assert_runs(&host, V1);
    }
    host.fake(
        "states",
        "activating inactive\nactive activating\nactive active\n",
    );
    host.sysext(&upgrade);
    assert_runs(&host, V2);
}

#[test]
fn a_unit_that_does_not_come_up_again_is_a_failure() {
    let Some(host) = Host::new("a_unit_that_does_not_come_up", 257) else {
        return;
    };
    let units: [(&str, &[&str], &[&str]); 2] =
        [(V1, &["k3s.service"], &[]), (V2, &["k3s.service"], &[])];
    let host = host.stored(&[V1, V2]).recorded(&units);
    host.sysext(&["enable", V1, "--now"]);
    host.calls();
    host.fake("bad-restart", "");
    let said = host.refused(&["upgrade", "hello"]);
    assert!(
        said.contains("try-restart -- k3s.service failed: Job for k3s.service"),
        "{said}"
    );
    assert_runs(&host, V1);
    let restart = "systemctl try-restart -- k3s.service";
    let there = [RELOAD, "systemctl daemon-reload", restart];
    assert_eq!(
        host.calls(),
        [&there[..], &[RELOAD]].concat(),
        "what did not run before is left alone on the way back"
    );
}

#[test]
fn whoever_comes_after_an_upgrade_that_died_goes_back() {
    let followers: [&[&str]; 4] = [
        &["enable", "other"],
        &["upgrade", "hello", "--version", "1.9"],
        &["gc"],
        &["disable", "other"],
    ];
    for follower in followers {
        let Some(host) = host("whoever_comes_after_an_upgrade_that_died") else {
            return;
        };
        let host = host.stored(&["other.raw"]);
        fs::create_dir_all(host.store().join("common")).unwrap();
        let dies = [
            "sysext",
            "upgrade",
            "hello",
            "--health-cmd",
            "kill -KILL $PPID",
        ];
        let output = host.agent(&dies);
        assert_eq!(output.status.code(), None, "{output:?}");
        assert!(host.records().trial.is_some());
        assert_eq!(host.live(), [live(V2)]);
        host.sysext(follower);
        assert_eq!(host.records().trial, None, "{follower:?}");
        assert!(host.enabled("common").contains(&link(V1)), "{follower:?}");
        assert!(!host.enabled("common").contains(&link(V2)), "{follower:?}");
        assert_eq!(host.live(), [live(V1)], "{follower:?}");
        assert_eq!(host.merged(), ["hello"]);
    }
}

#[test]
fn only_the_profiles_that_are_meant_are_changed() {
    let Some(host) = Host::new("only_the_profiles_that_are_meant", 257) else {
        return;
    };
    let host = host.stored(&[V1, V2]);
    fs::create_dir(host.path("run/cos")).unwrap();
    fs::write(host.path("run/cos/active_mode"), "").unwrap();
    let said = host.refused(&["upgrade", "hello"]);
    assert!(
        said.contains("hello is not enabled for active and common"),
        "{said}"
    );
    host.sysext(&["enable", V1, "--active", "--now"]);
    host.sysext(&["enable", V1, "--passive"]);
    host.calls();
    host.sysext(&["upgrade", "hello", "--passive", "--health-cmd", "false"]);
    assert_eq!(host.calls(), [""; 0], "the passive system does not run");
    assert_eq!(
        (host.enabled("passive"), host.enabled("active")),
        (vec![link(V2)], vec![link(V1)])
    );
    host.sysext(&["upgrade", "hello"]);
    assert_eq!(host.enabled("active"), [link(V2)]);
    let active = "hello.sysext.raw -> /var/lib/kairos/extensions/active/hello_1.10.sysext.raw";
    assert_eq!(host.live(), [active]);
}

#[test]
fn a_rollback_goes_back_step_by_step() {
    let Some(host) = host("a_rollback_goes_back_step_by_step") else {
        return;
    };
    let said = host.refused(&["rollback", "hello"]);
    assert!(said.contains("hello was not upgraded here"), "{said}");
    host.sysext(&["upgrade", "hello"]);
    let host = host.stored(&[V3]);
    host.sysext(&["upgrade", "hello"]);
    assert_runs(&host, V3);
    host.calls();

    host.fake("failures", "2");
    let said = host.refused(&["rollback", "hello"]);
    assert!(
        said.contains("hello_1.11.sysext.raw is enabled again"),
        "{said}"
    );
    assert_runs(&host, V3);
    host.fake("failures", "0");
    host.calls();

    host.sysext(&["rollback", "hello"]);
    assert_runs(&host, V2);
    assert_eq!(host.calls(), [RELOAD]);
    host.sysext(&["rollback", "hello"]);
    assert_runs(&host, V1);
    host.refused(&["rollback", "hello"]);

    host.sysext(&["upgrade", "hello"]);
    fs::remove_file(host.store().join(V1)).unwrap();
    let said = host.refused(&["rollback", "hello"]);
    assert!(
        said.contains("hello_1.9.sysext.raw, which was enabled before, is no longer"),
        "{said}"
    );
    assert_runs(&host, V3);
}

#[test]
fn an_upgrade_installs_what_it_is_given() {
    let Some(host) = host("an_upgrade_installs_what_it_is_given") else {
        return;
    };
    let image = host.path("hello_2.sysext.raw");
    fs::write(&image, "not an image").unwrap();
    let image = image.to_str().unwrap();
    let said = host.refused(&["upgrade", image, "--allow-unsigned"]);
    assert!(said.contains("failed upgrading system extension"), "{said}");
    assert_runs_without_records(&host, V1);
    host.refused(&["upgrade", "/nowhere/hello_2.sysext.raw"]);
}

#[test]
fn garbage_is_what_nobody_uses_and_nobody_goes_back_to() {
    let Some(host) = Host::new("garbage_is_what_nobody_uses", 257) else {
        return;
    };
    let files = [
        "a_1.sysext.raw",
        "a_2.sysext.raw",
        "a_3.sysext.raw",
        "a_4.sysext.raw",
        "a_5.sysext.raw",
    ];
    let records = files.map(|file| (file, &[] as &[&str], &[] as &[&str]));
    let host = host
        .stored(&files)
        .recorded(&records)
        .stored(&["foreign.raw", "foreign_2.raw"]);
    host.sysext(&["enable", "a_2", "--now"]);
    host.sysext(&["upgrade", "a", "--version", "3"]);
    let left = || {
        let entries = fs::read_dir(host.store()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".raw"))
            .collect();
        names.sort();
        names
    };
    let staging = host.store().join(".sysgraft/staging");
    fs::write(staging.join("new"), "x").unwrap();
    fs::write(staging.join("old"), "xyz").unwrap();
    let old = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
    File::options()
        .write(true)
        .open(staging.join("old"))
        .unwrap()
        .set_modified(old)
        .unwrap();

    let output = host.agent(&["sysext", "gc", "--dry-run", "--json"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let gone: Vec<&str> = facts["artefacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|freed| freed["file"].as_str().unwrap())
        .collect();
    // 3 runs, 5 is the newest beside it, and 2 is what a rollback goes back to.
    assert_eq!(gone, ["a_4.sysext.raw", "a_1.sysext.raw"]);
    assert_eq!(facts["staged"][0]["file"], "old");
    let size = |file: &str| fs::metadata(host.store().join(file)).unwrap().len();
    assert_eq!(
        facts["size"],
        size("a_4.sysext.raw") + size("a_1.sysext.raw") + 3
    );
    assert_eq!(left().len(), 7, "nothing was done");

    host.sysext(&["gc"]);
    let kept = [
        "a_2.sysext.raw",
        "a_3.sysext.raw",
        "a_5.sysext.raw",
        "foreign.raw",
        "foreign_2.raw",
    ];
    assert_eq!(left(), kept);
    assert!(staging.join("new").exists() && !staging.join("old").exists());
    assert_eq!(host.records().artefacts.len(), 3);
    let said = host.sysext(&["gc"]);
    assert!(said.contains("Nothing to remove"), "{said}");

    host.sysext(&["gc", "--keep", "0", "--all"]);
    assert_eq!(left(), ["a_3.sysext.raw"]);
    host.sysext(&["disable", "a"]);
    host.sysext(&["gc", "--keep", "0", "--all"]);
    assert_eq!(
        left(),
        ["a_3.sysext.raw"],
        "it is merged until the next boot"
    );
    assert_eq!(host.merged(), ["a"]);
}
