//! What `make dist` makes, of stand-ins for the static programs; `make dist-check` judges the real ones.

mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use workplace::{sysgraft, text};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs a command and gives its output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    text(&output.stdout).to_owned()
}

struct Release {
    work: tempfile::TempDir,
}

impl Release {
    /// What the programs would be, and the documents of the real ones, as far as they are at hand.
    fn prepare() -> Release {
        let work = tempfile::tempdir().unwrap();
        let [programs, documents] = ["programs", "documents"].map(|name| work.path().join(name));
        fs::create_dir(&programs).unwrap();
        fs::create_dir(&documents).unwrap();
        run(sysgraft(["man"]).arg(&documents));
        for program in ["sysgraft", "sysgraft-agent"] {
            fs::copy("/bin/true", programs.join(program)).unwrap();
            for completions in ["PROGRAM.bash", "_PROGRAM", "PROGRAM.fish"] {
                let name = completions.replace("PROGRAM", program);
                fs::write(documents.join(name), "# completions\n").unwrap();
            }
        }
        fs::write(documents.join("sysgraft-agent.1"), ".TH sysgraft-agent 1\n").unwrap();
        Release { work }
    }

    /// Makes a release in a folder of that name.
    fn make(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        let mut dist = Command::new("packaging/dist");
        dist.arg(TARGET);
        dist.args([self.path("programs"), self.path("documents")]);
        dist.arg(&folder).args(["vendored-openssl", "isal"]);
        run(dist.env("SOURCE_DATE_EPOCH", "1700000000"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Everything below a folder that is not a folder.
fn files(folder: &Path) -> String {
    run(Command::new("sh")
        .arg("-c")
        .arg("cd \"$0\" && find . ! -type d | sort")
        .arg(folder))
}

#[test]
fn equal_sources_make_equal_releases_whose_checksums_hold() {
    let release = Release::prepare();
    let [one, other] = ["one", "other"].map(|name| release.make(name));
    let expected = [
        "SHA256SUMS".to_owned(),
        format!("sysgraft-{VERSION}-{TARGET}.spdx.json"),
        format!("sysgraft-{VERSION}-{TARGET}.tar.gz"),
        format!("sysgraft-agent_{VERSION}_amd64.deb"),
        format!("sysgraft_{VERSION}_amd64.deb"),
    ];
    assert_eq!(names(&one), expected);
    for name in &expected {
        let [one, other] = [&one, &other].map(|folder| fs::read(folder.join(name)).unwrap());
        assert!(one == other, "{name} differs");
    }
    let mut check = Command::new("sha256sum");
    let checked = run(check
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&one));
    assert_eq!(checked.lines().count(), expected.len() - 1, "{checked}");

    let tarball = one.join(&expected[2]);
    let listed = run(Command::new("tar").arg("-tvzf").arg(tarball));
    for file in [
        "bin/sysgraft",
        "bin/sysgraft-agent",
        "share/man/man1/sysgraft-sysext.1",
        "share/zsh/site-functions/_sysgraft-agent",
        "share/doc/sysgraft/THIRD-PARTY",
        "lib/systemd/system/sysgraft-boot.service",
        "lib/dracut/modules.d/90sysgraft/module-setup.sh",
    ] {
        let end = format!(" sysgraft-{VERSION}-{TARGET}/{file}");
        assert!(
            listed.lines().any(|line| line.ends_with(&end)),
            "{file}: {listed}"
        );
    }
    assert!(
        listed.lines().all(|line| line.contains(" 0/0 ")),
        "{listed}"
    );
}

/// A root folder that Debian packages are installed into, with the units of systemd that are to be enabled.
struct Debian {
    root: PathBuf,
}

impl Debian {
    fn prepare(release: &Release, name: &str) -> Debian {
        let root = release.path(name);
        fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        // deb-systemd-helper of Debian 12 looks for units in /lib.
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
        fs::create_dir_all(root.join("usr/lib/systemd/system")).unwrap();
        for unit in ["systemd-sysext.service", "systemd-confext.service"] {
            let unit = root.join("usr/lib/systemd/system").join(unit);
            fs::write(unit, "[Install]\nWantedBy=sysinit.target\n").unwrap();
        }
        Debian { root }
    }

    fn dpkg(&self, action: &str, what: &Path) {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--root").arg(&self.root);
        dpkg.arg("--force-script-chrootless,depends");
        run(dpkg.arg(action).arg(what));
    }

    fn systemctl(&self, verb: &str, unit: &str) {
        let mut systemctl = Command::new("systemctl");
        run(systemctl.arg("--root").arg(&self.root).args([verb, unit]));
    }

    /// Names of the units that are started at boot, before the target is reached.
    fn wanted_by(&self, target: &str) -> Vec<String> {
        let folder = format!("etc/systemd/system/{target}.wants");
        let folder = self.root.join(folder);
        if !folder.exists() {
            return Vec::new();
        }
        for unit in names(&folder) {
            let leads_to = fs::read_link(folder.join(&unit)).unwrap();
            let file = self.root.join(leads_to.strip_prefix("/").unwrap());
            assert!(file.exists(), "{unit} leads to {leads_to:?}");
        }
        names(&folder)
    }
}

fn agent_package(release: &Release) -> PathBuf {
    let name = format!("sysgraft-agent_{VERSION}_amd64.deb");
    release.make("out").join(name)
}

#[test]
fn the_debian_package_enables_its_units_and_a_purge_leaves_nothing_but_the_store() {
    let release = Release::prepare();
    let package = agent_package(&release);
    let debian = Debian::prepare(&release, "root");
    let store = debian.root.join("var/lib/kairos/extensions");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("k3s.sysext.raw"), "stored").unwrap();

    debian.dpkg("--install", &package);
    let enabled = [
        "sysgraft-boot.service",
        "systemd-confext.service",
        "systemd-sysext.service",
    ];
    assert_eq!(debian.wanted_by("sysinit.target"), enabled);
    let complete = ["sysgraft-boot-complete.service"];
    assert_eq!(debian.wanted_by("multi-user.target"), complete);
    assert_eq!(debian.wanted_by("timers.target"), ["sysgraft-gc.timer"]);
    let of_initrds = debian.wanted_by("initrd.target");
    assert!(of_initrds.is_empty(), "enabled on the host: {of_initrds:?}");

    fs::create_dir_all(debian.root.join("etc/sysgraft")).unwrap();
    fs::write(debian.root.join("etc/sysgraft/agent.toml"), "").unwrap();
    debian.dpkg("--purge", Path::new("sysgraft-agent"));
    let left = files(&debian.root);
    let others = ["./var/lib/dpkg/", "./usr/lib/systemd/system/systemd-"];
    let left: Vec<&str> = left
        .lines()
        .filter(|file| !others.iter().any(|other| file.starts_with(other)))
        .collect();
    assert_eq!(
        left,
        ["./lib", "./var/lib/kairos/extensions/k3s.sysext.raw"]
    );
}

#[test]
fn what_the_administrator_decided_about_units_of_systemd_outlives_the_debian_package() {
    let release = Release::prepare();
    let package = agent_package(&release);
    let debian = Debian::prepare(&release, "root");
    debian.systemctl("enable", "systemd-sysext.service");
    debian.systemctl("mask", "systemd-confext.service");
    debian.dpkg("--install", &package);
    debian.dpkg("--purge", Path::new("sysgraft-agent"));
    let kept = ["systemd-sysext.service"];
    assert_eq!(debian.wanted_by("sysinit.target"), kept);
    let mask = debian
        .root
        .join("etc/systemd/system/systemd-confext.service");
    assert_eq!(fs::read_link(mask).unwrap(), Path::new("/dev/null"));

    // Disabled once the package is there, they stay so when it is installed once more; and so do its own units.
    let debian = Debian::prepare(&release, "disabling");
    debian.dpkg("--install", &package);
    debian.systemctl("disable", "systemd-confext.service");
    debian.dpkg("--install", &package);
    let enabled = ["sysgraft-boot.service", "systemd-sysext.service"];
    assert_eq!(debian.wanted_by("sysinit.target"), enabled);
    debian.systemctl("disable", "sysgraft-boot.service");
    debian.dpkg("--install", &package);
    let enabled = ["systemd-sysext.service"];
    assert_eq!(debian.wanted_by("sysinit.target"), enabled);
}

#[test]
fn modes_and_the_file_system_make_no_difference_and_checksums_are_only_of_this_release() {
    let release = Release::prepare();
    let folder = release.path("out");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("sysgraft-agent_0.0.1_amd64.deb"), "old").unwrap();
    fs::write(folder.join("notes"), "mine").unwrap();
    let package = agent_package(&release);
    let sums = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 4, "{sums}");
    assert!(!sums.contains("0.0.1") && !sums.contains("notes"), "{sums}");

    let unpacked = release.path("unpacked");
    run(Command::new("dpkg-deb")
        .arg("--raw-extract")
        .args([&package, &unpacked]));
    let odd = run(Command::new("find")
        .arg(&unpacked)
        .args("! -type l ! -perm 644 ! -perm 755".split(' ')));
    assert_eq!(odd, "");
    // Files in KiB, rounded up, and one for everything else.
    let (mut expected, usr) = (0, unpacked.join("usr"));
    for entry in run(Command::new("find").arg(usr).args(["-printf", "%y %s\n"])).lines() {
        let (kind, size) = entry.split_once(' ').unwrap();
        expected += match kind {
            "f" => size.parse::<u64>().unwrap().div_ceil(1024),
            _ => 1,
        };
    }
    let control = fs::read_to_string(unpacked.join("DEBIAN/control")).unwrap();
    let line = format!("Installed-Size: {expected}\n");
    assert!(control.contains(&line), "{control}");
}

#[test]
fn the_list_of_what_is_linked_in_is_valid_and_names_the_c_libraries() {
    let release = Release::prepare();
    let folder = release.make("out");
    let path = folder.join(format!("sysgraft-{VERSION}-{TARGET}.spdx.json"));
    let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let linked = |identifier: &str| {
        let relationships = document["relationships"].as_array().unwrap();
        relationships.iter().any(|one| {
            one["relationshipType"] == "STATIC_LINK" && one["relatedSpdxElement"] == identifier
        })
    };
    for library in [
        "openssl", "zstd", "lz4", "liblzma", "isa-l", "glibc", "libgcc", "rust-std",
    ] {
        let packages = document["packages"].as_array().unwrap();
        let found = packages.iter().any(|package| {
            let purl = &package["externalRefs"][0]["referenceLocator"];
            package["name"] == library
                && purl.as_str().unwrap().starts_with("pkg:generic/")
                && linked(package["SPDXID"].as_str().unwrap())
        });
        assert!(found, "{library}");
    }
    let judge = Path::new("target/publish-judges/bin/pyspdxtools");
    if !judge.exists() {
        return support::skip(
            "the_list_of_what_is_linked_in_is_valid",
            "spdx-tools is not installed (.ci/publish-judges)",
        );
    }
    run(Command::new(judge).arg("-i").arg(path));
}
