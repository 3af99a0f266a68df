//! What becomes of the units that an extension names when it is upgraded, falls back, or is rolled
//! back, with a systemd that is played.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_host.rs"]
mod node_host;
mod support;

use std::fs;

use node_host::Host;

const V1: &str = "k3s_1.sysext.raw";
const V2: &str = "k3s_2.sysext.raw";
const RELOAD: &str = "systemctl reload systemd-sysext.service";
const MANAGER: &str = "systemctl daemon-reload";

/// A host on which the first version is merged and its service runs; with the second it crashes.
fn host(test: &str, systemd: u32) -> Option<Host> {
    let host = Host::new(test, systemd)?.stored(&[V1, V2]);
    let restart: &[&str] = &["k3s.service", "helper.service"];
    let host = host.recorded(&[(V1, restart, &[]), (V2, restart, &["new.service"])]);
    host.sysext(&["enable", V1, "--now"]);
    fs::create_dir(host.path("fake/units")).unwrap();
    for unit in ["k3s.service", "elsewhere.service"] {
        host.fake(&format!("units/{unit}"), "active\n");
    }
    host.fake("units/other.service", "failed\n");
    host.fake("crashes-with", V2);
    host.calls();
    Some(host)
}

fn states(host: &Host) -> Vec<String> {
    let state = |unit: &str| {
        let file = host.path("fake/units").join(unit);
        let state = fs::read_to_string(file).unwrap_or_else(|_| "inactive".to_owned());
        format!("{unit} {}", state.trim())
    };
    let units = ["k3s", "helper", "new", "elsewhere", "other"];
    units.map(|unit| state(&format!("{unit}.service"))).into()
}

/// The states of all units where everything is as before.
const AS_BEFORE: [&str; 5] = [
    "k3s.service active",
    "helper.service inactive",
    "new.service inactive",
    "elsewhere.service active",
    "other.service failed",
];

fn assert_enabled(host: &Host, file: &str) {
    assert_eq!(host.enabled("common"), [format!("{file} -> ../{file}")]);
    assert_eq!(host.records().trial, None);
}

#[test]
fn a_unit_that_crashed_with_the_new_version_runs_again_with_the_old_one() {
    for systemd in [252, 257, 262] {
        let Some(host) = host("a_unit_that_crashed_runs_again", systemd) else {
            return;
        };
        let upgrade = ["upgrade", "k3s", "--health-unit", "k3s.service"];
        let said = host.refused(&[&upgrade[..], &["--health-timeout", "2"]].concat());
        assert!(said.contains("k3s.service has failed"), "{said}");
        assert!(said.contains("and merged as before"), "{said}");
        assert_enabled(&host, V1);
        assert_eq!(states(&host), AS_BEFORE, "systemd {systemd}");
        let calls = host.calls();
        let back = [
            RELOAD,
            MANAGER,
            "systemctl reset-failed -- k3s.service",
            "systemctl restart -- k3s.service",
        ];
        assert!(calls.ends_with(&back.map(str::to_owned)), "{calls:?}");
    }
}

#[test]
fn what_was_not_touched_is_not_restarted_on_the_way_back() {
    let Some(host) = host("what_was_not_touched_is_not_restarted", 257) else {
        return;
    };
    host.fake("failures", "2");
    host.refused(&["upgrade", "k3s"]);
    assert_eq!(states(&host), AS_BEFORE);
    assert_eq!(host.calls(), [RELOAD; 3]);
}

#[test]
fn a_rollback_starts_again_what_crashed() {
    for systemd in [257, 262] {
        let Some(host) = host("a_rollback_starts_again_what_crashed", systemd) else {
            return;
        };
        host.sysext(&["upgrade", "k3s"]);
        assert_enabled(&host, V2);
        assert_eq!(states(&host)[0], "k3s.service failed");
        host.sysext(&["rollback", "k3s"]);
        assert_enabled(&host, V1);
        assert_eq!(states(&host), AS_BEFORE, "systemd {systemd}");
    }
}

#[test]
fn a_rollback_is_not_undone_because_of_a_unit() {
    let Some(host) = host("a_rollback_is_not_undone", 257) else {
        return;
    };
    host.sysext(&["upgrade", "k3s"]);
    host.fake("bad-restart", "");
    let said = host.refused(&["rollback", "k3s"]);
    assert!(
        said.contains(
            "k3s_1.sysext.raw is enabled and merged again, but k3s.service did not start: "
        ),
        "{said}"
    );
    assert_enabled(&host, V1);
    let live = "k3s.sysext.raw -> /var/lib/kairos/extensions/common/k3s_1.sysext.raw";
    assert_eq!(host.live(), [live]);
    assert!(host.records().history.is_empty());
}

#[test]
fn a_fallback_tells_of_units_that_do_not_start() {
    let Some(host) = host("a_fallback_tells_of_units", 257) else {
        return;
    };
    host.fake("bad-restart", "");
    let said = host.refused(&["upgrade", "k3s"]);
    assert!(
        said.contains("try-restart -- k3s.service helper.service failed: Job for k3s.service"),
        "{said}"
    );
    assert!(
        said.contains("merged as before, but k3s.service did not start: "),
        "{said}"
    );
    assert_enabled(&host, V1);
}

#[test]
fn whoever_goes_back_for_an_upgrade_that_died_starts_the_units() {
    let Some(host) = host("whoever_goes_back_starts_the_units", 257) else {
        return;
    };
    let dies = [
        "sysext",
        "upgrade",
        "k3s",
        "--health-cmd",
        "kill -KILL $PPID",
    ];
    assert_eq!(host.agent(&dies).status.code(), None);
    assert_eq!(states(&host)[0], "k3s.service failed");
    host.sysext(&["gc"]);
    assert_enabled(&host, V1);
    assert_eq!(states(&host), AS_BEFORE);
}
