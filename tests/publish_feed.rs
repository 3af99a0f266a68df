//! Feeds as `sysgraft publish` leaves them, and what it refuses.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "support/published.rs"]
mod published;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use extension_image::{By, Extension};
use published::{Gpg, edition, publish, refused};
use serde_json::Value;
use workplace::{Workplace, run, sysgraft};

const FIRST: &str = "hello_1.2_x86-64.sysext.raw";

/// `sha256sum --check` on the whole feed.
fn judge(feed: &Path) {
    run(Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(feed));
}

fn list(feed: &Path) -> String {
    fs::read_to_string(feed.join("SHA256SUMS")).unwrap()
}

#[test]
fn a_feed_gathers_what_is_published_and_what_others_put_there() {
    let workplace = Workplace::new();
    let (feed, folder) = (workplace.out(), workplace.path(""));
    fs::write(feed.join("other.img"), "x").unwrap();
    let others = format!("{}  other.img\n", sysgraft::digest::Digest::of(b"x").hex());
    fs::write(feed.join("SHA256SUMS"), &others).unwrap();
    let images = [
        edition(&folder, "hello", "1.2", "x86-64"),
        edition(&folder, "hello", "1.2", "arm64"),
        edition(&folder, "abc", "2+b", "x86-64"),
    ];
    let words = ["--sysupdate", feed.to_str().unwrap()];
    let printed = publish(&words, &images);
    assert_eq!(printed.matches("added").count(), 3, "{printed}");
    let names = [
        "SHA256SUMS",
        "abc_2+b_x86-64.sysext.raw",
        "hello_1.2_arm64.sysext.raw",
        FIRST,
        "other.img",
    ];
    assert_eq!(workplace.outputs(), names);
    let listed = list(&feed);
    let listed: Vec<&str> = listed.lines().map(|line| &line[66..]).collect();
    assert_eq!(listed, names[1..]);
    assert!(list(&feed).contains(&others));
    judge(&feed);
    assert!(fs::read(feed.join(FIRST)).unwrap() == fs::read(&images[0]).unwrap());
    // Once more is no change.
    let before = fs::metadata(feed.join("SHA256SUMS")).unwrap();
    let printed = publish(&words, &images);
    assert_eq!(printed.matches("unchanged").count(), 3, "{printed}");
    let after = fs::metadata(feed.join("SHA256SUMS")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn a_published_version_stays_as_it_is() {
    let workplace = Workplace::new();
    let feed = workplace.out();
    let words = ["--sysupdate", feed.to_str().unwrap()];
    let first = edition(&workplace.path("a"), "hello", "1.2", "x86-64");
    publish(&words, &[&first]);
    let other = workplace.path("hello.sysext.raw");
    Extension::sysext(
        "hello",
        "ID=_any\nARCHITECTURE=x86-64\nSYSEXT_VERSION_ID=1.2\n",
    )
    .image(&other, By::Example("db"));
    let said = refused(1, &words, &[&other]);
    assert!(
        said.contains("is published already, with another content"),
        "{said}"
    );
    assert!(fs::read(feed.join(FIRST)).unwrap() == fs::read(&first).unwrap());
    let printed = publish(&[&words[..], &["--replace"]].concat(), &[&other]);
    assert!(printed.contains("replaced"), "{printed}");
    assert!(fs::read(feed.join(FIRST)).unwrap() == fs::read(&other).unwrap());
    judge(&feed);
}

#[test]
fn older_versions_go_when_there_are_enough_newer_ones() {
    let workplace = Workplace::new();
    let (feed, folder) = (workplace.out(), workplace.path(""));
    let words = ["--sysupdate", feed.to_str().unwrap(), "--keep", "2"];
    for version in ["1.9", "1.10", "1.2"] {
        publish(&words, &[edition(&folder, "hello", version, "x86-64")]);
    }
    // 1.2 is the oldest, but it was published just now.
    let names = [
        "hello_1.10_x86-64.sysext.raw",
        FIRST,
        "hello_1.9_x86-64.sysext.raw",
    ];
    assert_eq!(workplace.outputs()[1..], names);
    let newest = edition(&folder, "hello", "1.11", "x86-64");
    let dry = publish(&[&words[..], &["--dry-run"]].concat(), &[&newest]);
    assert!(dry.contains("nothing is published yet"), "{dry}");
    assert_eq!(dry.matches("removed").count(), 2, "{dry}");
    assert_eq!(workplace.outputs()[1..], names);
    publish(&words, &[&newest]);
    let names = [
        "hello_1.10_x86-64.sysext.raw",
        "hello_1.11_x86-64.sysext.raw",
    ];
    assert_eq!(workplace.outputs()[1..], names);
    judge(&feed);
}

#[test]
fn what_a_node_would_refuse_is_not_published() {
    let workplace = Workplace::new();
    let feed = workplace.out();
    let words = ["--sysupdate", feed.to_str().unwrap()];
    let good = edition(&workplace.path(""), "hello", "1.2", "x86-64");
    let damaged = workplace.path("hello.sysext.raw");
    fs::copy(&good, &damaged).unwrap();
    let file = fs::File::options().write(true).open(&damaged).unwrap();
    // Behind the superblock of the file system.
    file.write_all_at(b"damage", (1 << 20) + 1500).unwrap();
    let said = refused(1, &words, &[&good, &damaged]);
    assert!(
        said.contains("is not published, because a node would refuse it: blocks"),
        "{said}"
    );
    let plain = "ID=_any\nARCHITECTURE=x86-64\n";
    let later = workplace.path("later.sysext.raw");
    Extension::sysext("later", plain).image(&later, By::Later);
    let said = refused(1, &words, &[&later]);
    assert!(said.contains("awaits its signature"), "{said}");
    let named = workplace.path("other.sysext.raw");
    fs::copy(&good, &named).unwrap();
    let said = refused(1, &words, &[&named]);
    assert!(said.contains("its name demands"), "{said}");
    let silent = workplace.path("silent.sysext.raw");
    Extension::sysext("silent", plain).image(&silent, By::Nobody);
    let said = refused(1, &words, &[&silent]);
    assert!(
        said.contains("SYSEXT_VERSION_ID") && said.contains("--version"),
        "{said}"
    );
    for version in ["../1", "1/2", "1.2~rc1"] {
        refused(
            1,
            &[&words[..], &["--version", version]].concat(),
            &[&silent],
        );
    }
    let said = refused(1, &words, &[&good, &good]);
    assert!(said.contains("are both"), "{said}");
    assert_eq!(workplace.outputs(), [""; 0]);
    let said = refused(2, &[], &[&good]);
    assert!(said.contains("--sysupdate"), "{said}");
}

#[test]
fn a_feed_that_is_none_is_left_alone() {
    let workplace = Workplace::new();
    let feed = workplace.out();
    let words = ["--sysupdate", feed.to_str().unwrap()];
    let image = edition(&workplace.path(""), "hello", "1.2", "x86-64");
    fs::write(feed.join("SHA256SUMS"), "<html>\n").unwrap();
    let said = refused(1, &words, &[&image]);
    assert!(
        said.contains("SHA256SUMS is no list of digests: line 1"),
        "{said}"
    );
    assert_eq!(workplace.outputs(), ["SHA256SUMS"]);
    let missing = workplace.path("missing");
    let said = refused(1, &["--sysupdate", missing.to_str().unwrap()], &[&image]);
    assert!(said.contains("must be an existing folder"), "{said}");
}

#[test]
fn the_list_is_signed_and_never_left_with_a_stale_signature() {
    let gpg = match Gpg::new() {
        Ok(gpg) => gpg,
        Err(reason) => {
            let test = "the_list_is_signed_and_never_left_with_a_stale_signature";
            return support::skip(test, &reason);
        }
    };
    let workplace = Workplace::new();
    let (feed, folder) = (workplace.out(), workplace.path(""));
    let words = ["--sysupdate", feed.to_str().unwrap()];
    let first = edition(&folder, "hello", "1.2", "x86-64");
    gpg.publish(&words, &first);
    let (signature, list) = (feed.join("SHA256SUMS.gpg"), feed.join("SHA256SUMS"));
    assert!(gpg.verifies(&signature, &list));
    let second = edition(&folder, "hello", "1.3", "x86-64");
    let said = refused(1, &words, &[&second]);
    assert!(said.contains("--gpg-key"), "{said}");
    assert!(gpg.verifies(&signature, &list));
    // What changes no list takes no demand for signatures back.
    let address = ["--base-url", "https://example.org/"];
    publish(&[&words[..], &address].concat(), &[&first]);
    let transfer = fs::read_to_string(feed.join("hello.sysext.transfer")).unwrap();
    assert!(transfer.contains("Verify=yes"), "{transfer}");
    gpg.publish(&words, &second);
    assert!(gpg.verifies(&signature, &list));
    judge(&feed);
    let third = edition(&folder, "hello", "1.4", "x86-64");
    let wrong = [&words[..], &["--gpg-key", "nobody@example.org"]].concat();
    let said = refused(1, &wrong, &[&third]);
    assert!(
        said.contains("gpg made no signature with the key nobody@example.org"),
        "{said}"
    );
    assert!(gpg.verifies(&signature, &list));
}

#[test]
fn publishers_wait_for_each_other() {
    let workplace = Workplace::new();
    let (feed, folder) = (workplace.out(), workplace.path(""));
    let publishers: Vec<_> = (0..8)
        .map(|number| {
            let image = edition(&folder, "hello", &format!("1.{number}"), "x86-64");
            let mut command = sysgraft(["publish", "--sysupdate"]);
            command
                .arg(&feed)
                .arg(image)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut publisher in publishers {
        assert!(publisher.wait().unwrap().success());
    }
    assert_eq!(list(&feed).lines().count(), 8);
    judge(&feed);
}

#[test]
fn the_facts_are_there_for_programs() {
    let workplace = Workplace::new();
    let feed = workplace.out();
    let image = edition(&workplace.path(""), "hello", "1.2", "x86-64");
    let words = [
        "--json",
        "--sysupdate",
        feed.to_str().unwrap(),
        "--base-url",
        "https://example.org/feed",
    ];
    let facts: Value = serde_json::from_str(&publish(&words, &[&image])).unwrap();
    let published = &facts["images"][0];
    assert_eq!(published["version"], "1.2");
    assert_eq!(published["architecture"], "x86-64");
    let digest = sysgraft::digest::Digest::of(&fs::read(&image).unwrap());
    assert_eq!(published["sha256"], digest.hex());
    assert!(published["signedBy"].as_str().unwrap().starts_with("CN="));
    assert_eq!(facts["sysupdate"]["images"][0]["file"], FIRST);
    assert_eq!(facts["sysupdate"]["images"][0]["action"], "added");
    assert_eq!(facts["sysupdate"]["nodeFiles"][0], "hello.sysext.transfer");
    assert_eq!(facts["dryRun"], false);
}

#[test]
fn configuration_extensions_have_names_of_their_own() {
    let workplace = Workplace::new();
    let feed = workplace.out();
    let image = workplace.path("site.confext.raw");
    let release = "ID=_any\nARCHITECTURE=_any\nCONFEXT_VERSION_ID=7\n";
    Extension::confext("site", release).image(&image, By::Example("db"));
    let words = [
        "--sysupdate",
        feed.to_str().unwrap(),
        "--base-url",
        "http://example.org/",
    ];
    publish(&words, &[&image]);
    let names = [
        "SHA256SUMS",
        "site.confext.transfer",
        "site_7_x86-64.confext.raw",
    ];
    assert_eq!(workplace.outputs(), names);
    let transfer = fs::read_to_string(feed.join(names[1])).unwrap();
    assert!(
        transfer.contains("CurrentSymlink=/var/lib/confexts/site.raw"),
        "{transfer}"
    );
    let words = [
        "--registry",
        "127.0.0.1:9/site",
        "--catalog",
        "releases.json",
    ];
    let said = refused(1, &words, &[&image]);
    assert!(
        said.contains("catalogs are for system extensions"),
        "{said}"
    );
}
