//! The pods of the DaemonSet and of the Plan, on a node of their own: its first process has mounts that the
//! pod has not, and the pod goes into them as the manifests say, with BusyBox's nsenter.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::extension_image::put_image;
use crate::judges::Judges;
use crate::node_host::Host;
use crate::pod::namespace;
use crate::support::skip;
use crate::workplace::text;

/// The node: a first process that has the host's folders. Before that the pod got mounts of its own, in which
/// they are not.
const NODE: &str = r#"
set -eu
export PATH=$PATH:/usr/sbin
unshare --mount --propagation private sh -c '
    touch "$HOST/apart"
    until [ -e "$HOST/up" ]; do sleep 0.05; done
    . "$HOST/pod"' &
until [ -e "$HOST/apart" ]; do sleep 0.05; done
mount --bind "$HOST/run" /run
mount --bind "$HOST/lib" /var/lib
touch "$HOST/up"
wait $!
"#;

/// A pod's script on that node: it sees BusyBox, and the folders of its volumes.
const POD: &str = r#"
export FAKE="$HOST/fake" PATH="$HOST/pod-bin:$HOST/bin"
"#;

struct Node {
    judges: Judges,
    host: Host,
}

impl Node {
    fn new(test: &str) -> Option<Node> {
        let judges = Judges::of(test)?;
        let host = Host::new(test, 257)?;
        let busybox = Path::new("/usr/bin/busybox");
        if !busybox.exists() {
            skip(test, "busybox is not installed");
            return None;
        }
        fs::create_dir(host.path("pod-bin")).unwrap();
        for applet in ["nsenter", "sleep", "grep", "touch", "kill", "cat", "sh"] {
            symlink(busybox, host.path("pod-bin").join(applet)).unwrap();
        }
        symlink(
            env!("CARGO_BIN_EXE_sysgraft-agent"),
            host.path("bin/sysgraft-agent"),
        )
        .unwrap();
        Some(Node { judges, host })
    }

    /// Runs a script where the containers of pods are run.
    fn pod(&self, script: &str) -> Output {
        fs::write(self.host.path("pod"), format!("{POD}{script}")).unwrap();
        for sign in ["apart", "up"] {
            let _ = fs::remove_file(self.host.path(sign));
        }
        Command::new("unshare")
            .args(namespace())
            .args(["--pid", "--fork", "--mount-proc", "--net", "sh", "-c", NODE])
            .env("HOST", self.host.path(""))
            .output()
            .unwrap()
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn line(words: &Value) -> String {
    let words = words.as_array().unwrap().iter();
    let words: Vec<String> = words.map(|word| quoted(word.as_str().unwrap())).collect();
    words.join(" ")
}

#[test]
fn the_daemon_set_makes_a_node_as_declared() {
    let Some(node) = Node::new("the_daemon_set_makes_a_node_as_declared") else {
        return;
    };
    let documents = node
        .judges
        .documents(Path::new("pipelines/kubernetes/daemonset.yaml"));
    let [_, declared, daemon_set] = documents.try_into().unwrap();
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];

    // What the manifest declares, from a place that can be had here.
    let image = node.host.path("k3s_1.30.4.sysext.raw");
    put_image("sysext", "k3s_1.30.4.sysext.raw", &image);
    let toml = declared["data"]["extensions.toml"].as_str().unwrap();
    let source = "oci:registry.example.org/extensions/k3s:1.30.4";
    assert!(toml.contains(source));
    let folder = node.host.path("declared");
    fs::create_dir(&folder).unwrap();
    let toml = toml.replace(source, image.to_str().unwrap());
    fs::write(folder.join("extensions.toml"), toml).unwrap();

    let here = |text: &str| {
        text.replace("/declared", folder.to_str().unwrap())
            .replace("/bin/sh", "sh")
    };
    let command = here(&format!(
        "{} {}",
        line(&container["command"]),
        line(&container["args"])
    ));
    let probe = here(&line(&container["readinessProbe"]["exec"]["command"]));
    let script = format!(
        "export INTERVAL=300\n\
         {probe} && echo ready too early\n\
         {command} & container=$!\n\
         tries=0; until {probe}; do tries=$((tries + 1)); [ $tries -lt 100 ] || exit 7; sleep 0.1; done\n\
         nsenter -t 1 -m -- sysgraft-agent sysext list\n\
         kill -TERM $container; wait $container; echo ended with $?\n"
    );
    let output = node.pod(&script);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("ended with 0") && !said.contains("too early"),
        "{said}"
    );
    assert_eq!(node.host.merged(), ["k3s"], "{said}");
    assert!(node.host.store().join("k3s_1.30.4.sysext.raw").exists());

    // Somebody takes it away: the node is no longer ready.
    node.host.sysext(&["disable", "--now", "k3s"]);
    assert!(!node.pod(&probe).status.success());
}

#[test]
fn the_plan_upgrades_a_node() {
    let Some(node) = Node::new("the_plan_upgrades_a_node") else {
        return;
    };
    let plan = node
        .judges
        .documents(Path::new("pipelines/kubernetes/plan.yaml"))
        .remove(0);
    let node = Node {
        host: node.host.stored(&["k3s_1.29.2.sysext.raw"]),
        ..node
    };
    node.host.sysext(&["enable", "--now", "k3s"]);
    let image = node.host.path("k3s_1.30.4.sysext.raw");
    put_image("sysext", "k3s_1.30.4.sysext.raw", &image);
    fs::create_dir(node.host.path("fake/units")).unwrap();
    node.host.fake("units/k3s.service", "active\n");
    let upgrade = &plan["spec"]["upgrade"];
    let mut words = format!("{} {}", line(&upgrade["command"]), line(&upgrade["args"]));
    let source = upgrade["args"][3].as_str().unwrap();
    words = words.replace(source, image.to_str().unwrap());
    let output = node.pod(&words);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        node.host.enabled("common"),
        ["k3s_1.30.4.sysext.raw -> ../k3s_1.30.4.sysext.raw"]
    );
    assert_eq!(node.host.merged(), ["k3s"]);
}
