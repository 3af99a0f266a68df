//! Disks that are full or read-only, and clocks that go wrong.

#[path = "support/agent.rs"]
mod agent;
#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File, FileTimes};
use std::process::Command;
use std::time::{Duration, SystemTime};

use agent::{Agent, Ran};

/// A script that sees the store on a file system of its own; `None` where nobody may mount.
fn with_mount(test: &str, agent: &Agent, script: &str) -> Option<Ran> {
    let store = agent.store();
    fs::create_dir_all(&store).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", script])
        .env("STORE", &store)
        .env("ROOT", agent.tree.0.path())
        .env("AGENT", env!("CARGO_BIN_EXE_sysgraft-agent"));
    agent.with_environment(&mut command);
    let may_mount = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"])
        .status()
        .is_ok_and(|status| status.success());
    if !may_mount {
        support::skip(test, "it takes root to mount");
        return None;
    }
    Some(Ran::of(command.output().unwrap(), &[script]))
}

#[test]
fn a_full_disk_is_told_and_space_can_be_made() {
    let agent = Agent::new();
    let image = agent.image("images", "a.raw", "a", "");
    let script = format!(
        r#"
mount -t tmpfs -o size=2400k none "$STORE"
sysext() {{ "$AGENT" --root "$ROOT" sysext "$@"; }}
sysext install {image}
sysext enable a
! sysext install --insecure-skip-verify "$ROOT/images/big.raw" || exit 9
test -z "$(ls "$STORE/.sysgraft/staging")"
cat /dev/zero >"$STORE/filler" 2>/dev/null || true
sysext list
! sysext enable a --passive || exit 8
sysext list
rm "$STORE/filler"
sysext enable a --passive
cat /dev/zero >"$STORE/filler" 2>/dev/null || true
sysext remove a --dry-run
rm "$STORE/filler"
sysext list --json
"#,
        image = image.display()
    );
    fs::write(agent.tree.path("images/big.raw"), vec![7; 3 << 20]).unwrap();
    let Some(ran) = with_mount("a_full_disk_is_told_and_space_can_be_made", &agent, &script) else {
        return;
    };
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("space"), "{}", ran.stderr);
    let json = &ran.stdout[ran.stdout.find('[').unwrap()..];
    let listed: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        listed[0]["profiles"],
        serde_json::json!(["passive", "common"])
    );
}

#[test]
fn a_read_only_disk_can_be_looked_at_and_is_told() {
    let agent = Agent::new();
    agent.put("a.raw");
    agent.put("b.raw");
    let script = r#"
cp "$STORE"/*.raw "$ROOT"
mount -t tmpfs none "$STORE"
cp "$ROOT"/*.raw "$STORE"
sysext() { "$AGENT" --root "$ROOT" sysext "$@"; }
sysext enable a
mount -o remount,ro "$STORE"
sysext list
sysext status >/dev/null
sysext enable b --dry-run
for verb in "enable b" "disable a" "remove a" "install $ROOT/etc/os-release.raw"; do
    ! sysext $verb || exit 9
done
sysext list --json
"#;
    let Some(ran) = with_mount(
        "a_read_only_disk_can_be_looked_at_and_is_told",
        &agent,
        script,
    ) else {
        return;
    };
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    let told = ran.stderr.matches("file system is read-only").count();
    assert!(told >= 3, "{}", ran.stderr);
    let json = &ran.stdout[ran.stdout.find('[').unwrap()..];
    let listed: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(listed[0]["profiles"], serde_json::json!(["common"]));
    assert_eq!(listed[1]["profiles"], serde_json::json!([]));
}

#[test]
fn clocks_that_go_wrong_cost_nothing() {
    let agent = Agent::new();
    let image = agent.image("images", "a.raw", "a", "");
    agent.ok(&["install", image.to_str().unwrap()]);
    let notes = agent.store().join(".sysgraft/records.json");
    let far: serde_json::Value = {
        let mut noted: serde_json::Value =
            serde_json::from_slice(&fs::read(&notes).unwrap()).unwrap();
        let record = &mut noted["artefacts"]["a.raw"];
        record["installed"] = u64::MAX.into();
        record["proof"]["verified"] = u64::MAX.into();
        noted
    };
    fs::write(&notes, far.to_string()).unwrap();
    agent.ok(&["list"]);
    agent.ok(&["status"]);
    agent.ok(&["enable", "a"]);
    agent.ok(&["verify"]);
    assert!(!agent.run(&["status"]).stdout.contains("after 1970"));
    // Files from before 1970 and from far ahead.
    for time in [
        SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 30),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33),
    ] {
        agent.put("old.raw");
        let file = File::options()
            .write(true)
            .open(agent.store().join("old.raw"))
            .unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        agent.ok(&["list"]);
        agent.ok(&["enable", "old"]);
        agent.ok(&["remove", "old"]);
    }
}
