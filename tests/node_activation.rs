//! Live links, and what systemd is asked to do about them, with a systemd that is played.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_host.rs"]
mod node_host;
mod support;

use std::fs;
use std::os::unix::fs::symlink;

use extension_image::{OS_RELEASE, example, put_image};
use node_host::Host;

const V1: &str = "hello_1.sysext.raw";
const V2: &str = "hello_2.sysext.raw";
const RELOAD: &str = "systemctl reload systemd-sysext.service";

fn live(name: &str, file: &str) -> String {
    format!("{name} -> /var/lib/kairos/extensions/common/{file}")
}

#[test]
fn a_running_service_is_reloaded_once_and_never_restarted() {
    let Some(host) = Host::new("a_running_service_is_reloaded_once", 257) else {
        return;
    };
    let host = host.stored(&[V1, "other.raw"]);
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.calls(), [RELOAD]);
    assert_eq!(host.merged(), ["hello"]);
    assert_eq!(host.live(), [live("hello.sysext.raw", V1)]);
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.calls(), [""; 0], "nothing is different");
    host.sysext(&["enable", "other", "--now"]);
    host.sysext(&["disable", "hello", "--now"]);
    assert_eq!(host.calls(), [RELOAD, RELOAD]);
    assert_eq!(host.merged(), ["other"]);
    host.sysext(&["disable", "other", "--now"]);
    assert_eq!(host.calls(), [RELOAD]);
    assert_eq!((host.merged(), host.live()), (vec![], vec![]));
}

#[test]
fn what_is_enabled_already_is_merged_where_it_is_not() {
    let Some(host) = Host::new("what_is_enabled_already_is_merged", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    host.sysext(&["enable", "hello"]);
    assert_eq!((host.calls(), host.live()), (vec![], vec![]));
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.merged(), ["hello"]);
    // Somebody unmerged it.
    host.fake("merged-sysext", "");
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.merged(), ["hello"]);
    assert_eq!(host.calls(), [RELOAD, RELOAD]);
    // Somebody put another image into its place.
    fs::remove_file(host.store().join(V1)).unwrap();
    let host = host.stored(&[V1]);
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.calls(), [RELOAD]);
}

#[test]
fn a_service_that_never_ran_is_started_unless_nothing_is_left() {
    let Some(host) = Host::new("a_service_that_never_ran_is_started", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    host.fake("inactive", "");
    host.sysext(&["enable", "hello", "--now"]);
    let start = [
        "systemctl reset-failed systemd-sysext.service",
        "systemctl start systemd-sysext.service",
    ];
    assert_eq!(host.calls(), start);
    host.sysext(&["disable", "hello", "--now"]);
    let calls = host.calls();
    assert!(calls[0].starts_with("systemd-sysext ") && calls[0].ends_with(" refresh"));
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(!calls[0].contains("--no-reload"), "a manager runs");
    host.fake("missing", "");
    host.sysext(&["enable", "hello", "--now"]);
    assert!(host.calls()[0].starts_with("systemd-sysext "));
    assert_eq!(host.merged(), ["hello"]);
}

#[test]
fn without_a_manager_every_version_gets_its_options_and_link_names() {
    let open = "--image-policy=root=verity+signed+unprotected+absent:usr=absent";
    let cases = [
        (252, "hello.raw", String::new()),
        (254, "hello.raw", format!("{open} ")),
        (255, "hello.sysext.raw", format!("--no-reload {open} ")),
        (257, "hello.sysext.raw", format!("--no-reload {open} ")),
        (
            260,
            "hello.sysext.raw",
            format!("--no-reload --always-refresh=yes {open} "),
        ),
        (
            262,
            "hello.sysext.raw",
            format!("--no-reload --always-refresh=yes {open} "),
        ),
    ];
    for (version, link, options) in cases {
        let Some(host) = Host::unmanaged("without_a_manager", version) else {
            return;
        };
        let host = host.stored(&[V1]);
        host.sysext(&["enable", "hello", "--now"]);
        assert_eq!(host.calls(), [format!("systemd-sysext {options}refresh")]);
        assert_eq!(host.live(), [live(link, V1)]);
        assert_eq!(host.merged(), ["hello"]);
        host.sysext(&["disable", "hello", "--now"]);
        assert_eq!((host.merged(), host.live()), (vec![], vec![]), "{version}");
    }
}

#[test]
fn required_signatures_are_told_to_systemd() {
    let Some(host) = Host::unmanaged("required_signatures_are_told", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    let configuration = host.path("agent.toml");
    fs::write(&configuration, "signatures = \"required\"\n").unwrap();
    let configuration = configuration.to_str().unwrap();
    host.agent(&[
        "--config",
        configuration,
        "sysext",
        "enable",
        "hello",
        "--now",
    ]);
    let calls = host.calls();
    assert!(
        calls
            .iter()
            .all(|call| call.contains("--image-policy=root=signed+absent:usr=absent")),
        "{calls:?}"
    );
}

#[test]
fn confexts_have_their_own_folder_and_service() {
    let Some(host) = Host::new("confexts_have_their_own_folder", 257) else {
        return;
    };
    let file = "site_1.confext.raw";
    put_image(
        "confext",
        file,
        &host.path("lib/kairos/confexts").join(file),
    );
    let output = host.agent(&["confext", "enable", "site", "--now"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(host.calls(), ["systemctl reload systemd-confext.service"]);
    let link = fs::read_link(host.path("run/confexts/site.confext.raw")).unwrap();
    let target = "/var/lib/kairos/confexts/common/site_1.confext.raw";
    assert_eq!(link.to_str(), Some(target));
}

#[test]
fn a_failed_merge_leaves_everything_as_it_was() {
    let Some(host) = Host::new("a_failed_merge_leaves_everything", 257) else {
        return;
    };
    let host = host.stored(&["other.raw", V1]);
    host.sysext(&["enable", "other", "--now"]);
    host.calls();
    host.fake("failures", "2");
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(
        said.contains("Failed to read metadata for image hello: No medium found;"),
        "{said}"
    );
    assert!(said.contains("what is merged is as before"), "{said}");
    assert!(!said.contains("Failed with result"), "{said}");
    assert_eq!(host.calls(), [RELOAD; 3], "twice, and once to go back");
    assert_eq!(host.merged(), ["other"]);
    assert_eq!(host.live(), [live("other.sysext.raw", "other.raw")]);
    assert_eq!(host.enabled("common"), ["other.raw -> ../other.raw"]);
}

#[test]
fn a_link_that_led_elsewhere_leads_there_again_after_a_failure() {
    let Some(host) = Host::new("a_link_that_led_elsewhere", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    let common = host.store().join("common");
    fs::create_dir(&common).unwrap();
    symlink("/oem/hello.raw", common.join(V1)).unwrap();
    host.fake("failures", "2");
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(said.contains("nothing was changed"), "{said}");
    let elsewhere = format!("{V1} -> /oem/hello.raw");
    assert_eq!(host.enabled("common"), [elsewhere]);
    assert_eq!(host.live(), [""; 0]);
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.enabled("common"), [format!("{V1} -> ../{V1}")]);
}

#[test]
fn a_file_in_the_place_of_a_link_is_not_replaced() {
    let Some(host) = Host::new("a_file_in_the_place_of_a_link", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    let common = host.store().join("common");
    fs::create_dir(&common).unwrap();
    fs::write(common.join(V1), "somebody's").unwrap();
    let said = host.refused(&["enable", "hello"]);
    assert!(said.contains("is in the way: it is no link"), "{said}");
    assert_eq!(fs::read(common.join(V1)).unwrap(), b"somebody's");
}

#[test]
fn a_merge_that_fails_the_first_time_only_is_tried_again() {
    let Some(host) = Host::new("a_merge_that_fails_the_first_time_only", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    host.fake("failures", "1");
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(host.calls(), [RELOAD; 2]);
    assert_eq!(host.merged(), ["hello"]);
}

#[test]
fn what_a_failed_merge_took_away_is_merged_again() {
    let Some(host) = Host::new("what_a_failed_merge_took_away", 257) else {
        return;
    };
    let host = host.stored(&["other.raw", V1]);
    host.sysext(&["enable", "other", "--now"]);
    host.fake("unmerges", "");
    // Also the first attempt to go back.
    host.fake("failures", "3");
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(said.contains("what is merged is as before"), "{said}");
    assert_eq!(host.merged(), ["other"]);
    // And never again: that is told.
    host.fake("failures", "99");
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(
        said.contains("of what was merged before, other could not be merged again"),
        "{said}"
    );
    assert_eq!(host.live(), [live("other.sysext.raw", "other.raw")]);
    // As soon as systemd can, any change brings it back.
    host.fake("failures", "0");
    host.sysext(&["enable", "other", "--now"]);
    assert_eq!(host.merged(), ["other"]);
}

#[test]
fn an_extension_that_systemd_ignores_is_a_failure() {
    let Some(host) = Host::new("an_extension_that_systemd_ignores", 257) else {
        return;
    };
    let host = host.stored(&["other.raw", V1]);
    host.sysext(&["enable", "other", "--now"]);
    host.fake("ignored", "hello\n");
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(said.contains("it ignored hello"), "{said}");
    assert!(
        said.contains("sysgraft-agent sysext explain hello"),
        "{said}"
    );
    assert_eq!(host.merged(), ["other"]);
    assert_eq!(host.live(), [live("other.sysext.raw", "other.raw")]);
}

#[test]
fn a_host_without_systemd_is_told_so() {
    let Some(host) = Host::unmanaged("a_host_without_systemd", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    fs::remove_file(host.path("bin/systemd-sysext")).unwrap();
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(
        said.contains("there is no systemd-sysext on this host"),
        "{said}"
    );
    assert_eq!((host.live(), host.enabled("common")), (vec![], vec![]));
}

#[test]
fn what_others_put_there_is_left_alone() {
    let Some(host) = Host::new("what_others_put_there", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    let folder = host.path("run/extensions");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.raw"), "file").unwrap();
    symlink("/nowhere/b.raw", folder.join("b.raw")).unwrap();
    symlink(
        "/var/lib/kairos/extensions/common/gone.raw",
        folder.join("gone.raw"),
    )
    .unwrap();
    host.sysext(&["enable", "hello", "--now"]);
    assert_eq!(fs::read(folder.join("a.raw")).unwrap(), b"file");
    // Only the link into the store that leads to nothing is gone.
    let expected = [
        "b.raw -> /nowhere/b.raw".to_owned(),
        live("hello.sysext.raw", V1),
    ];
    assert_eq!(host.live(), expected);
    host.sysext(&["disable", "hello", "--now"]);
    fs::write(folder.join("hello.raw"), "file").unwrap();
    let said = host.refused(&["enable", "hello", "--now"]);
    assert!(
        said.contains("/run/extensions/hello.raw, which is not of this program"),
        "{said}"
    );
    assert_eq!(fs::read(folder.join("hello.raw")).unwrap(), b"file");
}

#[test]
fn the_link_of_kairos_agent_is_replaced_and_two_versions_never_merge() {
    for is_disabled_before in [false, true] {
        let Some(host) = Host::new("the_link_of_kairos_agent_is_replaced", 257) else {
            return;
        };
        let host = host.stored(&[V1, V2]);
        let common = host.store().join("common");
        fs::create_dir(&common).unwrap();
        symlink(
            "/var/lib/kairos/extensions/hello_1.sysext.raw",
            common.join(V1),
        )
        .unwrap();
        fs::create_dir(host.path("run/extensions")).unwrap();
        let theirs = "/var/lib/kairos/extensions/common/hello_1.sysext.raw";
        symlink(theirs, host.path("run/extensions").join(V1)).unwrap();
        host.fake("merged-sysext", "hello_1\n");
        if is_disabled_before {
            host.sysext(&["disable", "hello_1"]);
        }
        host.sysext(&["enable", "hello_2", "--now"]);
        assert_eq!(host.live(), [live("hello.sysext.raw", V2)]);
        assert_eq!(host.merged(), ["hello"]);
    }
}

#[test]
fn what_is_disabled_for_the_next_boot_stays_merged_until_then() {
    let Some(host) = Host::new("what_is_disabled_for_the_next_boot", 257) else {
        return;
    };
    let host = host.stored(&["other.raw", V1]);
    host.sysext(&["enable", "hello", "--now"]);
    host.sysext(&["disable", "hello"]);
    host.sysext(&["enable", "other", "--now"]);
    assert_eq!(host.merged(), ["hello", "other"]);
}

#[test]
fn what_another_profile_of_the_running_system_enables_stays() {
    let Some(host) = Host::new("what_another_profile_enables_stays", 257) else {
        return;
    };
    let host = host.stored(&[V1]);
    fs::create_dir(host.path("run/cos")).unwrap();
    fs::write(host.path("run/cos/active_mode"), "").unwrap();
    host.sysext(&["enable", "hello", "--active", "--now"]);
    host.sysext(&["enable", "hello", "--common", "--now"]);
    host.sysext(&["disable", "hello", "--active", "--now"]);
    assert_eq!(host.merged(), ["hello"]);
    assert_eq!(host.live(), [live("hello.sysext.raw", V1)]);
    assert_eq!(host.calls(), [RELOAD], "it was the same image all the time");
}

#[test]
fn units_are_restarted_where_systemd_does_not_do_it() {
    let units: [(&str, &[&str], &[&str]); 1] = [(
        V1,
        &["k3s.service", "k3s.service", "$(reboot).service", "--force"],
        &["containerd.service"],
    )];
    let cases: [(u32, &[&str]); 3] = [
        (252, &["systemctl daemon-reload"]),
        (257, &["systemctl daemon-reload"]),
        (262, &[]),
    ];
    for (version, expected) in cases {
        let Some(host) = Host::new("units_are_restarted", version) else {
            return;
        };
        let host = host.stored(&[V1]).recorded(&units);
        let said = host.sysext(&["enable", "hello", "--now"]);
        let calls = host.calls();
        assert_eq!(calls[0], RELOAD);
        if expected.is_empty() {
            assert_eq!(calls.len(), 1, "{calls:?}");
        } else {
            let restarts = [
                expected[0],
                "systemctl try-restart -- k3s.service",
                "systemctl try-reload-or-restart -- containerd.service",
            ];
            assert_eq!(calls[1..], restarts);
            assert!(
                said.contains("\"$(reboot).service\" is not the name of a unit"),
                "{said}"
            );
        }
        host.sysext(&["enable", "hello", "--now"]);
        assert_eq!(host.calls(), [""; 0], "nothing is different");
    }
}

#[test]
fn a_tree_that_is_not_this_host_is_refreshed_below_its_root() {
    let Some(host) = Host::unmanaged("a_tree_that_is_not_this_host", 257) else {
        return;
    };
    let root = host.path("tree");
    fs::create_dir_all(root.join("var/lib/kairos/extensions")).unwrap();
    fs::create_dir_all(root.join("usr")).unwrap();
    put_image(
        "sysext",
        V1,
        &root.join("var/lib/kairos/extensions").join(V1),
    );
    fs::create_dir_all(root.join("etc/verity.d")).unwrap();
    fs::copy(example("db", "pem"), root.join("etc/verity.d/db.crt")).unwrap();
    fs::write(root.join("etc/os-release"), OS_RELEASE).unwrap();
    let root_text = root.to_str().unwrap();
    let enable = ["--root", root_text, "sysext", "enable", "hello", "--now"];
    let output = host.agent(&enable);
    // The links are absolute, as the node sees them, so that the fake finds nothing behind them.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let calls = host.calls();
    assert!(
        calls[0].starts_with(&format!("systemd-sysext --root={root_text} ")),
        "{calls:?}"
    );
    assert!(
        fs::read_dir(root.join("run/extensions"))
            .unwrap()
            .next()
            .is_none()
    );
}
