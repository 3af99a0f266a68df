//! The examples are made by the commands of their page, and are good extensions. What Dockerfiles fetch or
//! compile is not to be had here: stand-ins lie in its place.

mod support;
#[path = "support/units.rs"]
mod units;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use units::systemd_takes;
use workplace::{Workplace, run, sysgraft, text};

const KERNEL: &str = "6.12.57+deb13-amd64";

/// An example.
struct Example {
    folder: &'static str,
    /// What the container image has beside `rootfs`.
    stand_ins: &'static [&'static str],
    /// What lint still says of it.
    codes: &'static [&'static str],
    release: &'static [&'static str],
}

const EXAMPLES: [Example; 4] = [
    Example {
        folder: "k3s",
        stand_ins: &["usr/bin/k3s"],
        codes: &["host-step-needed"],
        release: &[
            "ID=_any",
            "SYSEXT_VERSION_ID=1.33.5+k3s1",
            "EXTENSION_RESTART_UNITS=k3s.service",
        ],
    },
    Example {
        folder: "docker",
        stand_ins: &[
            "usr/bin/containerd",
            "usr/bin/containerd-shim-runc-v2",
            "usr/bin/ctr",
            "usr/bin/docker",
            "usr/bin/docker-init",
            "usr/bin/docker-proxy",
            "usr/bin/dockerd",
            "usr/bin/runc",
        ],
        codes: &["host-step-needed"],
        release: &[
            "ID=_any",
            "SYSEXT_VERSION_ID=28.5.1",
            "EXTENSION_RESTART_UNITS=docker.service",
        ],
    },
    Example {
        folder: "site",
        stand_ins: &[],
        codes: &[],
        release: &[
            "ID=_any",
            "EXTENSION_RELOAD_OR_RESTART_UNITS=\"systemd-timesyncd.service ssh.service\"",
        ],
    },
    Example {
        folder: "driver",
        stand_ins: &["usr/lib/modules/6.12.57+deb13-amd64/extra/hello_driver.ko"],
        codes: &[],
        release: &["ID=debian", "VERSION_ID=13", "EXTENSION_RELOAD_MANAGER=1"],
    },
];

/// The command of the page that begins and ends so, in words.
fn command(program: &str, end: &str) -> Vec<String> {
    let page = fs::read_to_string("examples/README.md").unwrap();
    let page = page.replace("\\\n", "");
    let is_it = |line: &&str| line.starts_with(program) && line.ends_with(end);
    let found = page.lines().find(is_it);
    let line = found.unwrap_or_else(|| panic!("no {program} … {end}"));
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(to));
}

impl Example {
    /// What the page calls its container image.
    fn image(&self) -> &'static str {
        match self.folder {
            "docker" => "docker-engine",
            folder => folder,
        }
    }

    /// The tree of its container image.
    fn tree(&self, place: &Workplace) -> PathBuf {
        let tree = place.path(self.folder);
        copy(
            &Path::new("examples").join(self.folder).join("rootfs"),
            &tree,
        );
        let program = place.path("stand-in");
        let source = place.path("stand-in.c");
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        for stand_in in self.stand_ins {
            let mut compiler = Command::new("cc");
            if stand_in.ends_with(".ko") {
                // An object file, as modules are, but none that a kernel would load.
                compiler.arg("-c");
            } else {
                compiler.arg("-static");
            }
            run(compiler.args(["-s", "-o"]).args([&program, &source]));
            let path = tree.join(stand_in);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(&program, path).unwrap();
        }
        tree
    }

    /// Runs the command of the page; the image.
    fn built(&self, place: &Workplace, tree: &Path) -> PathBuf {
        let end = format!(" {} docker-daemon:{}:latest", self.folder, self.image());
        let mut words = command("sysgraft ", &end);
        *words.last_mut().unwrap() = format!("dir:{}", tree.display());
        let output = sysgraft(&words[1..])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}: {}",
            self.folder,
            text(&output.stderr)
        );
        let image = text(&output.stdout);
        place.path(image.split("  ").next().unwrap())
    }
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    symlink(
        fs::canonicalize("keys-example").unwrap(),
        place.path("keys"),
    )
    .unwrap();
    fs::create_dir(place.path("build")).unwrap();
    place
}

/// The codes of what lint finds.
fn codes(target: &Path) -> BTreeSet<String> {
    let output = sysgraft(["lint", "--json"]).arg(target).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap().iter();
    findings
        .map(|it| it["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_commands_of_the_page_make_good_extensions() {
    for example in &EXAMPLES {
        let place = workplace();
        let image = example.built(&place, &example.tree(&place));
        let found = codes(&image);
        assert!(
            found.iter().eq(example.codes),
            "{}: {found:?}",
            example.folder
        );
        let shown = sysgraft(["inspect", "--json"])
            .arg(&image)
            .output()
            .unwrap();
        let shown = text(&shown.stdout);
        for line in example.release {
            let (name, value) = line.split_once('=').unwrap();
            let value = value.trim_matches('"');
            assert!(
                shown.contains(name) && shown.contains(value),
                "{line}: {shown}"
            );
        }
    }
}

#[test]
fn stand_ins_are_what_dockerfiles_make() {
    for example in &EXAMPLES {
        let dockerfile =
            fs::read_to_string(format!("examples/{}/Dockerfile", example.folder)).unwrap();
        let dockerfile = dockerfile.replace("$KERNEL", KERNEL);
        assert!(dockerfile.ends_with("COPY rootfs /\n"), "{dockerfile}");
        for stand_in in example.stand_ins {
            let (folder, name) = stand_in.rsplit_once('/').unwrap();
            assert!(dockerfile.contains(&format!("/{folder}")), "{folder}");
            let words: Vec<&str> = dockerfile
                .split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)))
                .collect();
            assert!(words.contains(&name), "{name}");
        }
        let end = format!(" -t {} examples/{}", example.image(), example.folder);
        for word in command("docker build ", &end) {
            if let Some((argument, _)) = word.split_once('=') {
                let used = format!("${{{argument}:?}}");
                assert!(dockerfile.contains(&used), "{argument}: {dockerfile}");
            }
        }
    }
}

#[test]
fn a_driver_for_every_host_is_warned_of() {
    let place = workplace();
    let tree = EXAMPLES[3].tree(&place);
    let build = |arguments: &[&str]| {
        let output = sysgraft(["sysext", "--output"])
            .arg(place.out())
            .args(arguments)
            .args(["driver", &format!("dir:{}", tree.display())])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        codes(&place.path("out/driver.sysext.raw"))
    };
    let bound = ["--id", "debian", "--version-id", "13"];
    assert!(build(&[]).contains("modules-unbound"));
    assert!(!build(&bound).contains("modules-unbound"));
    let index = tree.join(format!("usr/lib/modules/{KERNEL}/modules.dep"));
    fs::write(index, "extra/hello_driver.ko:\n").unwrap();
    assert!(build(&bound).contains("modules-index"));
}

#[test]
fn systemd_takes_the_units() {
    for example in &EXAMPLES {
        let units = format!("examples/{}/rootfs/usr/lib/systemd/system", example.folder);
        let Ok(entries) = fs::read_dir(units) else {
            continue;
        };
        let place = Workplace::new();
        let mut paths = Vec::new();
        for entry in entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
        {
            // Their programs are not on this host.
            let content = fs::read_to_string(&entry).unwrap();
            // No step before the service keeps it down on a host whose /etc cannot be written.
            assert!(
                !content
                    .replace("ExecStartPre=-", "")
                    .contains("ExecStartPre")
            );
            let lines = content.lines().map(|line| match line.split_once('=') {
                Some((name, _)) if name.starts_with("Exec") => format!("{name}=/bin/true\n"),
                _ => format!("{line}\n"),
            });
            let path = place.path(entry.file_name().unwrap().to_str().unwrap());
            fs::write(&path, lines.collect::<String>()).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            paths.push(path);
        }
        systemd_takes("systemd_takes_the_units", &paths);
    }
}
