//! Feeds that systemd-sysupdate itself lists and installs from, over HTTP.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "support/published.rs"]
mod published;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use node_nginx::Nginx;
use published::{Gpg, edition, publish};
use workplace::text;

/// A node that follows a feed.
struct Follower {
    node: tempfile::TempDir,
    nginx: Nginx,
    images: tempfile::TempDir,
}

/// The program that `.ci/newer-systemd` makes.
fn sysupdate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/newer-systemd/bin/sysupdate-on")
}

impl Follower {
    fn start() -> Result<Follower, String> {
        let follower = Follower {
            node: tempfile::tempdir().unwrap(),
            nginx: Nginx::start()?,
            images: tempfile::tempdir().unwrap(),
        };
        let output = Command::new(sysupdate())
            .arg(follower.node.path())
            .arg("--version")
            .output()
            .map_err(|error| format!("no systemd-sysupdate (.ci/newer-systemd): {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "systemd-sysupdate cannot be run: {}",
                text(&output.stderr)
            ));
        }
        for folder in ["etc/systemd", "var/lib/extensions"] {
            fs::create_dir_all(follower.node.path().join(folder)).unwrap();
        }
        Ok(follower)
    }

    /// Publishes hello in this version and for this architecture, and gives the node its files.
    fn publish(&self, version: &str, architecture: &str, flags: &[&str]) -> PathBuf {
        let image = edition(self.images.path(), "hello", version, architecture);
        let url = self.nginx.url("");
        let feed = self.nginx.root();
        let mut arguments = vec!["--sysupdate", feed.to_str().unwrap(), "--base-url", &url];
        arguments.extend(flags);
        publish(&arguments, &[&image]);
        let definitions = self.node.path().join("etc/sysupdate.hello.d");
        fs::create_dir_all(&definitions).unwrap();
        for suffix in ["transfer", "feature"] {
            let name = format!("hello.sysext.{suffix}");
            let _ = fs::copy(feed.join(&name), definitions.join(&name));
        }
        image
    }

    fn sysupdate(&self, arguments: &[&str]) -> Output {
        Command::new(sysupdate())
            .arg(self.node.path())
            .arg("--component=hello")
            .args(arguments)
            .output()
            .unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.sysupdate(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The image that the node would merge.
    fn merged(&self) -> Vec<u8> {
        fs::read(self.node.path().join("var/lib/extensions/hello.raw")).unwrap()
    }
}

/// A node, or the word that the test cannot run.
macro_rules! follower {
    ($test:literal) => {
        match Follower::start() {
            Ok(follower) => follower,
            Err(reason) => return support::skip($test, &reason),
        }
    };
}

#[test]
fn a_node_follows_a_feed_from_version_to_version() {
    let follower = follower!("a_node_follows_a_feed_from_version_to_version");
    follower.publish("1.9", "x86-64", &[]);
    let second = follower.publish("1.10+k3s1", "x86-64", &[]);
    follower.publish("1.11", "arm64", &[]);
    let listed = follower.ok(&["list"]);
    assert!(
        listed.contains("1.10+k3s1") && listed.contains("1.9"),
        "{listed}"
    );
    assert!(
        !listed.contains("1.11"),
        "of another architecture: {listed}"
    );
    follower.ok(&["update"]);
    assert!(follower.merged() == fs::read(second).unwrap());
    assert!(!follower.sysupdate(&["check-new"]).status.success());
    let third = follower.publish("1.12", "x86-64", &["--keep", "2"]);
    let listed = follower.ok(&["list"]);
    assert!(!listed.contains("1.9"), "it was removed: {listed}");
    assert_eq!(follower.ok(&["check-new"]).trim(), "1.12");
    follower.ok(&["update"]);
    assert!(follower.merged() == fs::read(third).unwrap());
    let link = fs::read_link(follower.node.path().join("var/lib/extensions/hello.raw")).unwrap();
    let target = "../extensions.store/hello_1.12_x86-64.sysext.raw";
    assert_eq!(link, Path::new(target));
}

#[test]
fn a_node_checks_the_signature_of_the_list() {
    let follower = follower!("a_node_checks_the_signature_of_the_list");
    let gpg = match Gpg::new() {
        Ok(gpg) => gpg,
        Err(reason) => return support::skip("a_node_checks_the_signature_of_the_list", &reason),
    };
    let image = edition(follower.images.path(), "hello", "1.2", "x86-64");
    let (feed, url) = (follower.nginx.root(), follower.nginx.url(""));
    let words = ["--sysupdate", feed.to_str().unwrap(), "--base-url", &url];
    gpg.publish(&words, &image);
    let definitions = follower.node.path().join("etc/sysupdate.hello.d");
    fs::create_dir_all(&definitions).unwrap();
    let transfer = "hello.sysext.transfer";
    fs::copy(feed.join(transfer), definitions.join(transfer)).unwrap();
    // Nobody is trusted yet.
    assert!(!follower.sysupdate(&["update"]).status.success());
    let keyring = follower.node.path().join("etc/systemd/import-pubring.gpg");
    fs::write(keyring, gpg.public_key()).unwrap();
    let list = fs::read_to_string(feed.join("SHA256SUMS")).unwrap();
    fs::write(
        feed.join("SHA256SUMS"),
        list.replace("hello_1.2", "hello_1.3"),
    )
    .unwrap();
    assert!(!follower.sysupdate(&["update"]).status.success());
    fs::write(feed.join("SHA256SUMS"), &list).unwrap();
    follower.ok(&["update"]);
    assert!(follower.merged() == fs::read(image).unwrap());
}

#[test]
fn a_feature_is_off_until_somebody_switches_it_on() {
    let follower = follower!("a_feature_is_off_until_somebody_switches_it_on");
    let image = follower.publish("1.2", "x86-64", &["--feature"]);
    let refused = follower.sysupdate(&["update"]);
    let said = text(&refused.stderr);
    assert!(said.contains("No transfer definitions"), "{said}");
    let drop_ins = "etc/sysupdate.hello.d/hello.sysext.feature.d";
    let drop_ins = follower.node.path().join(drop_ins);
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("on.conf"), "[Feature]\nEnabled=yes\n").unwrap();
    let listed = follower.ok(&["features"]);
    assert!(listed.contains("The system extension hello"), "{listed}");
    follower.ok(&["update"]);
    assert!(follower.merged() == fs::read(image).unwrap());
}
