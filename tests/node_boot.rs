//! What `sysgraft-agent boot` links, leaves out and tells. I1 to I16 are weaknesses of immucore that
//! must not come back.

#[path = "support/booted.rs"]
mod booted;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::symlink;

use booted::{Booted, STORE, image, links};
use serde_json::json;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::Node;
use sysgraft::node::boot::{Report, relax_image_policy};
use sysgraft::node::boot_state::BootState;
use sysgraft::node::configuration::{Configuration, Signatures};
use sysgraft::node::layout::{DEFAULT_STATE_DIR, Layout};
use workplace::text;

const STRICT: &str = "root=signed+absent:usr=absent";
const OPEN: &str = "root=verity+signed+unprotected+absent:usr=absent";

#[test]
fn what_is_enabled_and_good_is_linked_as_the_node_sees_it() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("c.confext.raw"), "c.confext.raw", "common")
        .enable(&image("b.sysext.raw"), "b.sysext.raw", "active");
    let told = node.boot();
    let target = "/var/lib/kairos/extensions/common/a.sysext.raw".to_owned();
    assert_eq!(node.live(), [("a.sysext.raw".to_owned(), target)]);
    let confext = "/var/lib/kairos/confexts/common/c.confext.raw".to_owned();
    assert_eq!(
        links(&node.path("run/confexts")),
        [("c.confext.raw".to_owned(), confext)]
    );
    assert_eq!(told.json["bootState"], "plain");
    assert_eq!(told.json["bootId"], "first");
    assert_eq!(told.json["linked"][0]["kind"], "sysext");
    assert_eq!(
        told.json["linked"][0]["link"],
        "/run/extensions/a.sysext.raw"
    );
    let signer = told.json["linked"][0]["signer"].as_str().unwrap();
    assert!(signer.contains("CN"), "{signer}");
    assert!(
        told.journal
            .contains("<6>sysext a is linked: a.sysext.raw of common, signed by")
    );
    // Once more changes nothing.
    assert_eq!(node.boot().json["linked"], told.json["linked"]);
}

#[test]
fn the_boot_state_chooses_the_profile() {
    for (file, expected) in [
        (
            "run/cos/active_mode",
            ["a.sysext.raw", "b.sysext.raw"].as_slice(),
        ),
        ("run/cos/recovery_mode", &["b.sysext.raw"]),
        ("run/cos/live_mode", &[]),
    ] {
        let node = Booted::new();
        node.enable(&image("a.sysext.raw"), "a.sysext.raw", "active")
            .enable(&image("b.sysext.raw"), "b.sysext.raw", "common")
            .write(file, "1");
        node.boot();
        assert_eq!(node.live_names(), expected, "{file}");
    }
}

#[test]
fn links_are_named_for_the_systemd_that_reads_them() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a_1.2.sysext.raw", "common")
        .systemd(254)
        .boot();
    assert_eq!(node.live_names(), ["a.raw"]);
    node.systemd(255).boot();
    assert_eq!(node.live_names(), ["a.sysext.raw"]);
}

#[test]
fn i1_nothing_unsigned_gets_in_where_signatures_are_required() {
    let node = Booted::new();
    node.write("etc/sysgraft/agent.toml", "signatures = \"required\"\n")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("plain.sysext.raw"), "plain.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(told.json["signaturesRequired"], true);
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert!(
        told.reason("plain.sysext.raw").contains("sign"),
        "{}",
        told.json
    );
    for kind in ["sysext", "confext"] {
        assert_eq!(told.policy(kind), (Some(STRICT), "signatures are required"));
        let drop_in = node.drop_in(kind).unwrap();
        let command = format!("=systemd-{kind} refresh --image-policy={STRICT}\n");
        assert!(
            drop_in.contains(&format!("ExecStart=\nExecStart{command}")),
            "{drop_in}"
        );
        assert!(
            drop_in.contains(&format!("ExecReload=\nExecReload{command}")),
            "{drop_in}"
        );
    }
    // No older one knows the option.
    let told = node.systemd(253).boot();
    assert_eq!(
        told.policy("sysext"),
        (None, "systemd 253 takes no image policy")
    );
    assert_eq!(node.drop_in("sysext"), None);
}

#[test]
fn i1_a_strict_policy_comes_by_itself_where_everything_is_signed() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(
        told.policy("sysext"),
        (Some(STRICT), "all that systemd finds is signed and trusted")
    );
    assert_eq!(told.policy("confext"), (None, "nothing is linked"));
    assert!(node.drop_in("sysext").is_some() && node.drop_in("confext").is_none());
    // A foreign image without a signature would keep all others out.
    fs::create_dir_all(node.path("var/lib/extensions")).unwrap();
    fs::copy(
        image("plain.sysext.raw"),
        node.path("var/lib/extensions/plain.raw"),
    )
    .unwrap();
    let told = node.boot();
    let (policy, reason) = told.policy("sysext");
    assert_eq!(policy, None);
    assert!(
        reason.starts_with("/var/lib/extensions/plain.raw is found"),
        "{reason}"
    );
    assert_eq!(node.drop_in("sysext"), None);
}

#[test]
fn a_strict_policy_gives_way_to_an_unsigned_image_where_none_is_required() {
    for (signatures, stays) in [
        (Signatures::WhenPresent, false),
        (Signatures::Required, true),
    ] {
        let node = Booted::new();
        node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common");
        let told = node.boot();
        assert_eq!(told.policy("sysext").0, Some(STRICT));
        let layout = Layout::new(node.path(""), DEFAULT_STATE_DIR);
        let configuration = Configuration {
            signatures,
            ..Configuration::default()
        };
        let this = Node {
            layout,
            configuration,
            systemd: None,
            boot_state: BootState::Plain,
        };
        relax_image_policy(&this, ExtensionKind::Sysext).unwrap();
        assert_eq!(node.drop_in("sysext").is_some(), stays);
        let report = Report::read(&this.layout).unwrap().unwrap();
        let policy = &report.image_policy[&ExtensionKind::Sysext];
        assert_eq!(policy.policy.is_some(), stays, "{}", policy.reason);
    }
}

#[test]
fn i2_signatures_are_judged_and_not_only_looked_for() {
    let node = Booted::new();
    let mut damaged = fs::read(image("b.sysext.raw")).unwrap();
    // Behind the signature of somebody else: the release file lies in a damaged block.
    let at = damaged
        .windows(20)
        .position(|bytes| bytes.starts_with(b"ARCHITECTURE="))
        .unwrap();
    damaged[at] ^= 1;
    node.write("damaged", damaged);
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(
            &image("stranger.sysext.raw"),
            "stranger.sysext.raw",
            "common",
        )
        .enable(&node.path("damaged"), "b.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert!(
        told.reason("stranger.sysext.raw").contains("certificate"),
        "{}",
        told.json
    );
    assert!(
        told.reason("b.sysext.raw").contains("damaged"),
        "{}",
        told.json
    );
}

#[test]
fn i3_hostile_names_are_told_and_harm_nobody() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common");
    for name in [
        "b b.sysext.raw",
        "b;touch pwned.sysext.raw",
        "b\nc.sysext.raw",
        "$(x).raw",
    ] {
        node.enable(&image("b.sysext.raw"), name, "common");
    }
    let outside = node.path(STORE).join("common/outside.sysext.raw");
    symlink("/etc/passwd", outside).unwrap();
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert_eq!(node.live_names(), ["a.sysext.raw"]);
    for name in [
        "b b.sysext.raw",
        "b;touch pwned.sysext.raw",
        "b\\nc.sysext.raw",
        "$(x).raw",
    ] {
        assert!(!told.reason(name).is_empty(), "{name}: {}", told.json);
    }
    let reason = told.reason("outside.sysext.raw");
    assert!(reason.contains("out of the store"), "{reason}");
    let lines = told.journal.lines();
    assert!(
        lines.clone().all(|line| line.starts_with('<')),
        "{}",
        told.journal
    );
    assert_eq!(lines.filter(|line| line.contains("left out")).count(), 5);
}

#[test]
fn i4_a_name_in_the_boot_states_profile_goes_before_the_one_in_common() {
    let node = Booted::new();
    node.write("run/cos/active_mode", "1")
        .enable(&image("a.sysext.raw"), "a_1.sysext.raw", "active")
        .enable(&image("a.sysext.raw"), "a_2.sysext.raw", "common")
        .enable(&image("b.sysext.raw"), "b.sysext.raw", "active")
        .enable_stored(STORE, "b.sysext.raw", "common")
        .enable(&image("c.confext.raw"), "c.confext.raw", "common");
    let told = node.boot();
    assert_eq!(
        told.linked(),
        ["a_1.sysext.raw", "b.sysext.raw", "c.confext.raw"]
    );
    let target = "/var/lib/kairos/extensions/active/a_1.sysext.raw";
    assert_eq!(
        node.live()[0],
        ("a.sysext.raw".to_owned(), target.to_owned())
    );
    let reason = told.reason("a_2.sysext.raw");
    assert_eq!(
        reason,
        "a_1.sysext.raw of the profile active goes before it"
    );
    assert_eq!(told.reason("b.sysext.raw"), "");
    // A bad one does not stand in the way of a good one.
    fs::write(node.path(STORE).join("a_1.sysext.raw"), "no image").unwrap();
    let told = node.boot();
    assert_eq!(told.linked()[0], "a_2.sysext.raw");
}

#[test]
fn of_two_versions_in_one_profile_the_newest_is_linked() {
    let node = Booted::new();
    for file in ["a_1.9.sysext.raw", "a_1.10.sysext.raw"] {
        node.enable(&image("a.sysext.raw"), file, "common");
    }
    let told = node.boot();
    assert_eq!(told.linked(), ["a_1.10.sysext.raw"]);
    let reason = told.reason("a_1.9.sysext.raw");
    assert!(reason.contains("newer version"), "{reason}");
}

#[test]
fn i5_a_profile_that_cannot_be_read_does_not_cost_the_others() {
    let node = Booted::new();
    node.write("run/cos/active_mode", "1")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .write(&format!("{STORE}/active"), "not a folder")
        .write(&format!("{STORE}/.sysgraft/records.json"), "{");
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert!(
        told.notes().contains("records.json is damaged"),
        "{}",
        told.notes()
    );
    assert!(
        told.notes().contains("extensions/active"),
        "{}",
        told.notes()
    );
}

#[test]
fn i6_one_bad_image_does_not_cost_the_others() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("b.sysext.raw"), "other-name.sysext.raw", "common")
        .enable_stored(STORE, "missing.sysext.raw", "common")
        .write("empty", "")
        .enable(&node.path("empty"), "empty.sysext.raw", "common");
    fs::create_dir(node.path(STORE).join("folder.sysext.raw")).unwrap();
    node.enable_stored(STORE, "folder.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    for (file, reason) in [
        ("other-name.sysext.raw", "extension-release"),
        ("missing.sysext.raw", "not there"),
        ("empty.sysext.raw", "no extension image"),
        ("folder.sysext.raw", "regular file"),
    ] {
        let told = told.reason(file);
        assert!(told.contains(reason), "{file}: {told}");
        assert!(!told.contains('\n'));
    }
}

#[test]
fn i8_a_system_in_memory_gets_its_extensions() {
    let node = Booted::new();
    node.write("proc/cmdline", "kairos.ram netboot rd.immucore.uki\n")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "active");
    let told = node.boot();
    assert_eq!(told.json["bootState"], "active");
    assert_eq!(told.linked(), ["a.sysext.raw"]);
}

#[test]
fn i9_recovery_gets_the_drop_in_too() {
    let node = Booted::new();
    node.write("run/cos/recovery_mode", "1")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "recovery")
        .boot();
    let drop_in = node.drop_in("sysext").unwrap();
    assert!(
        drop_in.contains(&format!("--image-policy={STRICT}")),
        "{drop_in}"
    );
    assert!(drop_in.contains("SYSTEMD_SYSEXT_HIERARCHIES="), "{drop_in}");
}

#[test]
fn i12_nodes_without_trusted_boot_check_signatures_and_take_signed_images() {
    let node = Booted::new();
    node.write("proc/cmdline", "root=LABEL=COS_ACTIVE\n")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "active")
        .enable(
            &image("stranger.sysext.raw"),
            "stranger.sysext.raw",
            "active",
        );
    let told = node.boot();
    assert_eq!(told.json["trustedBoot"], false);
    assert_eq!(told.linked(), ["a.sysext.raw"]);
}

#[test]
fn i13_a_store_that_is_not_there_is_told() {
    let node = Booted::new();
    fs::remove_dir_all(node.path("var/lib/kairos")).unwrap();
    let told = node.boot();
    assert!(
        told.notes().contains("there is no store"),
        "{}",
        told.notes()
    );
    assert_eq!(told.linked(), [""; 0]);
}

#[test]
fn i14_the_journal_has_the_reason() {
    let node = Booted::new();
    node.enable(
        &image("stranger.sysext.raw"),
        "stranger.sysext.raw",
        "common",
    );
    let told = node.boot();
    let line = format!(
        "<4>sysext stranger.sysext.raw is left out: {}",
        told.reason("stranger.sysext.raw")
    );
    assert!(
        told.journal.lines().any(|found| found == line),
        "{}",
        told.journal
    );
}

#[test]
fn i15_and_i16_kairos_gets_time_and_opt() {
    let node = Booted::new();
    node.write("etc/kairos-release", "KAIROS_ID=x\n");
    // Kairos's own policy blocks everything for one image without a hash tree.
    let told = node.boot();
    assert_eq!(told.policy("sysext"), (Some(OPEN), "nothing is linked"));
    let sysext = node.drop_in("sysext").unwrap();
    for line in [
        "TimeoutStartSec=10min\n",
        "JobRunningTimeoutSec=infinity\n",
        ":/opt\n",
    ] {
        assert!(sysext.contains(line), "{sysext}");
    }
    assert!(
        sysext.contains(&format!("--image-policy={OPEN}\n")),
        "{sysext}"
    );
    assert!(
        node.drop_in("confext")
            .unwrap()
            .contains("TimeoutStartSec=10min\n")
    );
}

#[test]
fn what_verify_found_wrong_is_left_out_although_its_signature_holds() {
    let node = Booted::new();
    let file = "a.sysext.raw";
    node.enable(&image(file), file, "common");
    assert_eq!(node.boot().linked(), [file]);
    node.note_let_in("a", file, Some("block 7 is damaged"));
    let told = node.boot();
    assert_eq!(told.linked(), [""; 0]);
    assert!(
        told.reason(file).contains("block 7 is damaged"),
        "{}",
        told.json
    );
}

#[test]
fn unsigned_images_that_were_let_in_stay_in_until_they_are_changed() {
    let node = Booted::new();
    let file = "plain.sysext.raw";
    node.enable(&image(file), file, "common");
    let told = node.boot();
    assert_eq!(told.linked(), [""; 0]);
    assert!(
        told.reason(file).contains("--allow-unsigned"),
        "{}",
        told.json
    );

    let stored = node.path(STORE).join(file);
    node.note_let_in("plain", file, None);
    let told = node.boot();
    assert_eq!(told.linked(), [file], "{}", told.json);
    assert_eq!(
        told.policy("sysext"),
        (None, "not all that is linked is signed")
    );

    fs::copy(image(file), node.path("copy")).unwrap();
    fs::rename(node.path("copy"), stored).unwrap();
    let told = node.boot();
    assert_eq!(told.linked(), [""; 0]);
    assert!(
        told.reason(file).contains("not the file that was let in"),
        "{}",
        told.json
    );
}

#[test]
fn what_systemd_finds_besides_is_told_where_signatures_are_required() {
    let node = Booted::new();
    node.write("etc/sysgraft/agent.toml", "signatures = \"required\"\n")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common");
    fs::create_dir_all(node.path("var/lib/extensions/folder/usr")).unwrap();
    fs::create_dir_all(node.path("etc/extensions")).unwrap();
    fs::copy(
        image("plain.sysext.raw"),
        node.path("etc/extensions/plain.raw"),
    )
    .unwrap();
    fs::copy(image("a.sysext.raw"), node.path("etc/extensions/a.raw")).unwrap();
    fs::create_dir_all(node.path(".extra/sysext")).unwrap();
    fs::copy(image("b.sysext.raw"), node.path(".extra/sysext/b.raw")).unwrap();
    for hidden in [".demo.raw", "other.sysext.raw", "a.raw"] {
        let path = node.path("var/lib/extensions").join(hidden);
        fs::copy(image("plain.sysext.raw"), path).unwrap();
    }
    fs::create_dir_all(node.path("var/lib/confexts/made/etc")).unwrap();
    fs::create_dir_all(node.path("etc/extensions/off")).unwrap();
    fs::create_dir_all(node.path("var/lib/extensions/off/usr")).unwrap();
    let told = node.boot();
    let folder = told.reason("/var/lib/extensions/folder");
    assert!(folder.contains("applies no policy"), "{}", told.json);
    // systemd merges the first of a name, and nothing of an empty folder.
    let masks = [
        "/run/extensions/.demo",
        "/run/extensions/folder",
        "/run/extensions/other",
        "/run/confexts/made",
    ];
    assert_eq!(told.json["masks"], json!(masks));
    for mask in masks {
        let mask = node.path(mask.trim_start_matches('/'));
        assert_eq!(fs::read_dir(mask).unwrap().count(), 0);
    }
    let other = told.reason("/var/lib/extensions/other.sysext.raw");
    assert!(other.contains("/run/extensions/other hides it"), "{other}");
    assert_eq!(told.reason("/var/lib/extensions/a.raw"), "");
    assert_eq!(told.reason("/var/lib/extensions/off"), "");
    let unsigned = told.reason("/etc/extensions/plain.raw");
    assert!(unsigned.contains("would block all others"), "{}", told.json);
    assert!(unsigned.ends_with("; remove it"), "{unsigned}");
    assert_eq!(told.reason("/etc/extensions/a.raw"), "");
    let notes = told.notes();
    assert!(
        notes.contains("/etc/extensions/a.raw has the name of an extension"),
        "{notes}"
    );
    assert!(
        notes.contains("/.extra/sysext/b.raw came with the kernel image"),
        "{notes}"
    );
    // Once more finds the same, and what is no longer in the way is hidden no longer.
    assert_eq!(node.boot().json["masks"], json!(masks));
    fs::remove_file(node.path("var/lib/extensions/other.sysext.raw")).unwrap();
    node.boot();
    assert!(!node.path("run/extensions/other").exists());
    assert!(node.path("run/extensions/folder").exists());
}

#[test]
fn confexts_are_left_out_where_systemd_has_none() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("c.confext.raw"), "c.confext.raw", "common");
    let told = node.systemd(253).boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    let reason = told.reason("c.confext.raw");
    assert_eq!(
        reason,
        "systemd 253 merges no confexts; systemd 254 is the first that does"
    );
    assert_eq!(node.systemd(254).boot().linked().len(), 2);
}

#[test]
fn certificates_of_the_configuration_are_given_to_systemd() {
    let node = Booted::new();
    fs::remove_dir_all(node.path("etc/verity.d")).unwrap();
    let pem = fs::read("keys-example/db.pem").unwrap();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .write("etc/keys/db.pem", &pem)
        .write("srv/keys/db.crt", &pem);
    for trust in [
        "certificates = [\"/etc/keys/db.pem\"]",
        "folders = [\"/srv/keys\"]",
    ] {
        node.write("etc/sysgraft/agent.toml", format!("[trust]\n{trust}\n"));
        let told = node.boot();
        assert_eq!(told.linked(), ["a.sysext.raw"], "{}", told.json);
        let certificates = told.json["certificates"].as_array().unwrap();
        assert_eq!(certificates.len(), 1, "{trust}");
        let name = certificates[0].as_str().unwrap().trim_start_matches('/');
        assert!(node.path(name).is_file());
        assert!(
            !told.notes().contains("systemd does not look"),
            "{}",
            told.notes()
        );
    }
    // What systemd cannot verify would keep it from merging anything.
    fs::remove_dir_all(node.path("run/verity.d")).unwrap();
    node.write("run/verity.d", "no folder");
    let told = node.boot();
    assert_eq!(told.linked(), [""; 0]);
    let reason = told.reason("a.sysext.raw");
    assert!(
        reason.contains("could not be given the certificate"),
        "{reason}"
    );
    assert!(
        told.notes().contains("cannot be given the certificate"),
        "{}",
        told.notes()
    );
}

#[test]
fn stale_links_into_the_store_go_and_others_stay() {
    let node = Booted::new();
    let live = node.path("run/extensions");
    fs::create_dir(&live).unwrap();
    let old = "/var/lib/kairos/extensions/active/old.sysext.raw";
    symlink(old, live.join("old.sysext.raw")).unwrap();
    symlink(old, live.join("a.sysext.raw")).unwrap();
    symlink("/srv/mine.raw", live.join("mine.raw")).unwrap();
    symlink("/srv/b.raw", live.join("b.sysext.raw")).unwrap();
    node.enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("b.sysext.raw"), "b.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(
        node.live_names(),
        ["a.sysext.raw", "b.sysext.raw", "mine.raw"]
    );
    assert_eq!(node.live()[1].1, "/srv/b.raw");
    let reason = told.reason("b.sysext.raw");
    assert!(
        reason.contains("something else is named b.sysext.raw"),
        "{reason}"
    );
}

#[test]
fn an_unfinished_upgrade_is_undone() {
    let node = Booted::new();
    node.enable(&image("a.sysext.raw"), "a_1.sysext.raw", "common");
    fs::copy(
        image("a.sysext.raw"),
        node.path(STORE).join("a_2.sysext.raw"),
    )
    .unwrap();
    let common = node.path(STORE).join("common");
    fs::remove_file(common.join("a_1.sysext.raw")).unwrap();
    node.enable_stored(STORE, "a_2.sysext.raw", "common");
    let records = json!({"trial": {
        "name": "a", "before": {"until": 1, "linked": {"common": "a_1.sysext.raw"}},
    }});
    node.write(
        &format!("{STORE}/.sysgraft/records.json"),
        records.to_string(),
    );
    let told = node.boot();
    assert_eq!(told.linked(), ["a_1.sysext.raw"], "{}", told.json);
    assert_eq!(links(&common).len(), 1);
    assert!(
        told.notes().contains("upgrade of a was not finished"),
        "{}",
        told.notes()
    );
}

#[test]
fn an_initrd_links_into_its_own_run_what_lies_below_the_sysroot() {
    let host = Booted::new();
    host.enable(&image("a.sysext.raw"), "a.sysext.raw", "common");
    host.write(
        "usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-254.so",
        "",
    );
    let initrd = Booted::new();
    fs::rename(host.path(""), initrd.path("sysroot")).unwrap();
    let told = initrd.boot_with(&["--sysroot", "/sysroot"]);
    let target = "/var/lib/kairos/extensions/common/a.sysext.raw".to_owned();
    // By the systemd of the node, not of the initrd.
    assert_eq!(initrd.live(), [("a.raw".to_owned(), target)]);
    assert!(!initrd.path("sysroot/run/extensions").exists());
    assert_eq!(told.policy("sysext").0, Some(STRICT));
    assert!(initrd.drop_in("sysext").is_some());
    let output = initrd.agent(&["--sysroot", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("there is no folder"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn without_run_nothing_is_done() {
    let node = Booted::new();
    fs::remove_dir_all(node.path("run")).unwrap();
    let output = node.agent(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("/run, in which systemd would look"), "{said}");
    assert!(!node.path("run").exists());
}

#[test]
fn a_broken_configuration_makes_strict_and_costs_nothing_signed() {
    let node = Booted::new();
    node.write("etc/sysgraft/agent.toml", "signature = \"never\"\n")
        .enable(&image("a.sysext.raw"), "a.sysext.raw", "common")
        .enable(&image("plain.sysext.raw"), "plain.sysext.raw", "common");
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert_eq!(told.json["signaturesRequired"], true);
    assert!(told.journal.contains("<4>"), "{}", told.journal);
    // A certificate that is not there costs itself.
    node.write(
        "etc/sysgraft/agent.toml",
        "[trust]\ncertificates = [\"/nowhere.crt\"]\n",
    );
    let told = node.boot();
    assert_eq!(told.linked(), ["a.sysext.raw"]);
    assert!(told.notes().contains("/nowhere.crt"), "{}", told.notes());
}
