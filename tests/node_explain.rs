//! What `explain` says of extensions, and whether systemd agrees.

#[path = "support/extension_image.rs"]
mod extension_image;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use extension_image::{By, Extension, NodeTree};
use support::skip;
use sysgraft::extension::ExtensionKind::{self, Confext, Sysext};
use sysgraft::node::explain::{
    Condition, ExplainError, Explanation, Outcome, Target, Verdict, explain,
};
use sysgraft::node::host::SystemdVersion;
use sysgraft::node::policy::Policy;
use workplace::{is_root, text};

const ANY: &str = "ID=_any\nARCHITECTURE=x86-64\n";

fn explain_as(tree: &NodeTree, systemd: u32, kind: ExtensionKind, target: &Target) -> Explanation {
    let node = tree.node(systemd);
    let policy = Policy::load(&node, &[]).unwrap();
    let explanation = explain(&node, &policy, kind, target).unwrap();
    let conclusion = &explanation.conclusion;
    let ending = match explanation.verdict {
        Verdict::Merges => " will merge",
        Verdict::Ignored => " will be ignored (",
        Verdict::Blocked => " will not be merged (others: ",
        Verdict::Blocks => " will block the merge of all extensions (",
    };
    let start = format!("{}{ending}", explanation.name);
    assert!(conclusion.starts_with(&start), "{conclusion}");
    explanation
}

/// What is said of a file on a node with this systemd.
fn of_file(tree: &NodeTree, systemd: u32, kind: ExtensionKind, path: &Path) -> Explanation {
    let target = Target::file(&tree.node(systemd), kind, path);
    explain_as(tree, systemd, kind, &target)
}

#[track_caller]
fn condition<'a>(explanation: &'a Explanation, subject: &str) -> &'a Condition {
    let mut all = explanation.conditions.iter();
    let found = all.find(|condition| condition.subject == subject);
    found.unwrap_or_else(|| panic!("no {subject} in {explanation:#?}"))
}

#[track_caller]
fn says(explanation: &Explanation, subject: &str, outcome: Outcome, words: &str) {
    let found = condition(explanation, subject);
    assert_eq!(found.outcome, outcome, "{explanation:#?}");
    let all = format!("{found:?}");
    assert!(all.contains(words), "{all}");
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn a_good_image_merges_and_every_condition_is_told() {
    let folder = Folder::new();
    let image =
        Extension::sysext("hello", ANY).image(&folder.path("hello.sysext.raw"), By::Example("db"));
    let tree = NodeTree::trusting().with("proc/sys/kernel/osrelease", "6.12.107+deb13-amd64\n");
    let said = of_file(&tree, 257, Sysext, &image);
    assert_eq!(said.verdict, Verdict::Merges);
    assert_eq!(said.name, "hello");
    let subjects: Vec<&str> = said.conditions.iter().map(|it| it.subject).collect();
    assert_eq!(
        subjects,
        [
            "systemd",
            "place",
            "image",
            "image policy",
            "policy for root",
            "policy for usr",
            "hash tree",
            "signature",
            "file system",
            "name",
            "SYSEXT_SCOPE",
            "ARCHITECTURE",
            "ID",
            "VERSION_ID",
            "hierarchies",
            "host's files",
            "other extensions",
            "others",
            "sysgraft-agent",
        ]
    );
    says(
        &said,
        "image",
        Outcome::Holds,
        "root-x86-64, root-x86-64-verity, root-x86-64-verity-sig",
    );
    says(&said, "signature", Outcome::Holds, "etc/verity.d/db.crt");
    says(&said, "VERSION_ID", Outcome::Skipped, "not looked at");
    let doubtful = said
        .conditions
        .iter()
        .filter(|it| it.outcome != Outcome::Holds);
    assert_eq!(doubtful.count(), 1, "{said:#?}");
    let json = serde_json::to_value(&said).unwrap();
    assert_eq!(json["verdict"], "merges");
    assert_eq!(json["conditions"][0]["outcome"], "holds");
}

#[test]
fn names_go_by_the_rules_of_the_systemd_that_there_is() {
    let folder = Folder::new();
    let tree = NodeTree::trusting();
    let extension = Extension::sysext("k3s", ANY);
    for (file, systemd, verdict, words) in [
        ("k3s.sysext.raw", 257, Verdict::Merges, ""),
        ("k3s.sysext.raw", 255, Verdict::Merges, ""),
        (
            "k3s.sysext.raw",
            254,
            Verdict::Blocks,
            "name the file k3s.raw",
        ),
        ("k3s.raw", 252, Verdict::Merges, ""),
        (
            "k3s_1.2.raw",
            257,
            Verdict::Merges,
            "goes by the name before the version",
        ),
        ("k3s_1.2.raw", 255, Verdict::Blocks, "wants the same name"),
        ("k3s-1.2.raw", 257, Verdict::Blocks, "Rename the image"),
    ] {
        let image = extension.image(&folder.path(file), By::Example("db"));
        let said = of_file(&tree, systemd, Sysext, &image);
        assert_eq!(
            said.verdict, verdict,
            "{file} on {systemd}: {}",
            said.conclusion
        );
        let outcome = if verdict == Verdict::Merges {
            Outcome::Holds
        } else {
            Outcome::Blocks
        };
        says(&said, "name", outcome, words);
    }
    // What is stored is linked under the extension's name, whatever the file is called.
    let stored = tree.path("var/lib/kairos/extensions/k3s_1.2.sysext.raw");
    fs::create_dir_all(stored.parent().unwrap()).unwrap();
    extension.image(&stored, By::Example("db"));
    for (systemd, link) in [
        (252, "/run/extensions/k3s.raw"),
        (257, "/run/extensions/k3s.sysext.raw"),
    ] {
        for text in ["k3s", "k3s_1.2", "k3s_1.2.sysext.raw"] {
            let target = Target::find(&tree.node(systemd), Sysext, text).unwrap();
            assert_eq!(target.seen_as, Path::new(link));
            let said = explain_as(&tree, systemd, Sysext, &target);
            assert_eq!(said.verdict, Verdict::Merges, "{}", said.conclusion);
        }
    }
    let error = Target::find(&tree.node(257), Sysext, "k8s").unwrap_err();
    assert!(matches!(error, ExplainError::NotFound(..)), "{error}");
}

#[test]
fn the_release_file_is_compared_term_by_term() {
    let folder = Folder::new();
    let tree = NodeTree::trusting().with(
        "etc/os-release",
        "ID=flatcar\nID_LIKE=coreos\nVERSION_ID=4\nSYSEXT_LEVEL=1.0\n",
    );
    for (release, verdict, subject, words) in [
        (
            "ID=coreos\nSYSEXT_LEVEL=1.0",
            Verdict::Merges,
            "SYSEXT_LEVEL",
            "1.0",
        ),
        (
            "ID=coreos\nSYSEXT_LEVEL=2.0",
            Verdict::Ignored,
            "SYSEXT_LEVEL",
            "2.0 is not the host's",
        ),
        (
            "ID=flatcar\nVERSION_ID=4",
            Verdict::Merges,
            "VERSION_ID",
            "4",
        ),
        (
            "ID=flatcar\nVERSION_ID=3",
            Verdict::Ignored,
            "VERSION_ID",
            "3 is not the host's",
        ),
        ("ID=arch", Verdict::Ignored, "ID", "flatcar, like coreos"),
        (
            "ID=_any\nARCHITECTURE=arm64",
            Verdict::Ignored,
            "ARCHITECTURE",
            "arm64",
        ),
        (
            "ID=_any\nSYSEXT_SCOPE=initrd",
            Verdict::Ignored,
            "SYSEXT_SCOPE",
            "initrd",
        ),
        ("", Verdict::Ignored, "SYSEXT_SCOPE", "is empty"),
    ] {
        let image = Extension::sysext("a", release).image(&folder.path("a.raw"), By::Example("db"));
        let said = of_file(&tree, 257, Sysext, &image);
        assert_eq!(said.verdict, verdict, "{release}: {}", said.conclusion);
        let outcome = if verdict == Verdict::Merges {
            Outcome::Holds
        } else {
            Outcome::Ignored
        };
        says(&said, subject, outcome, words);
    }
}

#[test]
fn policy_and_signature_are_judged_for_the_systemd_that_there_is() {
    const STRICT: &str = "root=signed+absent:usr=absent";
    let folder = Folder::new();
    let image = |name: &str, by| {
        Extension::sysext(name, ANY).image(&folder.path(&format!("{name}.raw")), by)
    };
    let good = image("good", By::Example("db"));
    let stranger = image("stranger", By::Example("ec"));
    let unsigned = image("unsigned", By::Nobody);
    let waiting = image("waiting", By::Later);
    let naked = folder.path("naked.raw");
    Extension::sysext("naked", ANY).file_system(&naked);
    for (path, policy, systemd, verdict) in [
        // The table in which real runs of 257 and 262 are written down.
        (&good, None, 257, Verdict::Merges),
        (&good, Some(STRICT), 257, Verdict::Merges),
        (&stranger, None, 257, Verdict::Blocks),
        (&stranger, None, 262, Verdict::Merges),
        (&stranger, Some(STRICT), 257, Verdict::Blocks),
        (&stranger, Some(STRICT), 262, Verdict::Blocks),
        (&unsigned, None, 257, Verdict::Merges),
        (&unsigned, None, 262, Verdict::Merges),
        (&unsigned, Some(STRICT), 257, Verdict::Blocks),
        (&unsigned, Some("root=verity+absent"), 257, Verdict::Merges),
        (&naked, None, 257, Verdict::Merges),
        (&naked, Some(STRICT), 262, Verdict::Blocks),
        (&naked, Some("root=verity+absent"), 257, Verdict::Blocks),
        (&waiting, None, 257, Verdict::Blocks),
    ] {
        let mut tree = NodeTree::trusting();
        if let Some(policy) = policy {
            let drop_in = format!(
                "[Service]\nExecStart=\nExecStart=systemd-sysext refresh --image-policy={policy}\n"
            );
            tree = tree.with(
                "run/systemd/system/systemd-sysext.service.d/sysgraft.conf",
                drop_in,
            );
        }
        let said = of_file(&tree, systemd, Sysext, path);
        assert_eq!(
            said.verdict,
            verdict,
            "{} on {systemd}: {}",
            path.display(),
            said.conclusion
        );
        if let Some(policy) = policy {
            says(&said, "image policy", Outcome::Holds, policy);
        }
    }
    let tree = NodeTree::trusting();
    let said = of_file(&tree, 257, Sysext, &unsigned);
    says(
        &said,
        "policy for root",
        Outcome::Doubtful,
        "does not use its hash tree",
    );
    says(
        &said,
        "sysgraft-agent",
        Outcome::Doubtful,
        "--allow-unsigned",
    );
    let said = of_file(&tree, 252, Sysext, &good);
    says(&said, "image policy", Outcome::Doubtful, "lets in anything");
    let said = of_file(&tree, 257, Sysext, &stranger);
    says(&said, "signature", Outcome::Blocks, "not trusted");
    // From 259 on a file of systemd's own has the word.
    let configured = NodeTree::trusting().with(
        "etc/systemd/sysext.conf",
        format!("[SysExt]\nImagePolicy={STRICT}\n"),
    );
    assert_eq!(
        of_file(&configured, 262, Sysext, &naked).verdict,
        Verdict::Blocks
    );
    assert_eq!(
        of_file(&configured, 257, Sysext, &naked).verdict,
        Verdict::Merges
    );
}

#[test]
fn damage_and_unreadable_file_systems_block() {
    let folder = Folder::new();
    let tree = NodeTree::trusting();
    let path = Extension::sysext("a", ANY).image(&folder.path("a.raw"), By::Example("db"));
    let good = fs::read(&path).unwrap();
    let release = good.windows(7).position(|it| it == b"ID=_any").unwrap();
    let mut bad = good.clone();
    bad[release] ^= 1;
    fs::write(&path, &bad).unwrap();
    let said = of_file(&tree, 257, Sysext, &path);
    assert_eq!(said.verdict, Verdict::Blocks);
    says(&said, "hash tree", Outcome::Blocks, "damaged");
    for content in [&b""[..], b"noise", &good[..good.len() / 2]] {
        fs::write(&path, content).unwrap();
        let said = of_file(&tree, 257, Sysext, &path);
        assert_eq!(said.verdict, Verdict::Blocks, "{}", said.conclusion);
    }
    fs::write(&path, &good).unwrap();
    let bare = tree.with("proc/sys/kernel/osrelease", "5.3.0\n");
    let said = of_file(
        &bare,
        257,
        Sysext,
        &Extension::sysext("b", ANY)
            .packed("-zlz4hc")
            .with("usr/share/t", "x".repeat(99_999))
            .image(&folder.path("b.raw"), By::Example("db")),
    );
    says(
        &said,
        "file system",
        Outcome::Blocks,
        "Linux 5.3.0 lacks it",
    );
    let target = Target::file(&bare.node(257), Sysext, &folder.path("gone.raw"));
    let policy = Policy::load(&bare.node(257), &[]).unwrap();
    let error = explain(&bare.node(257), &policy, Sysext, &target).unwrap_err();
    assert!(error.to_string().contains("gone.raw"), "{error}");
}

#[test]
fn other_extensions_and_the_host_are_looked_at() {
    let folder = Folder::new();
    let tree = NodeTree::trusting();
    for path in [
        "etc/extensions",
        "run/extensions",
        "var/lib/extensions",
        "usr/share/doc",
        "usr/local",
    ] {
        fs::create_dir_all(tree.path(path)).unwrap();
    }
    std::os::unix::fs::symlink("local", tree.path("usr/linked")).unwrap();
    let by = By::Example("db");
    Extension::sysext("ext-10", ANY)
        .with("usr/bin/tool", "10")
        .image(&tree.path("var/lib/extensions/ext-10.raw"), by);
    let nine = Extension::empty()
        .with("usr/lib/extension-release.d/extension-release.ext-9", ANY)
        .with("usr/bin/tool", "9")
        .with(
            "usr/share/payload/inner",
            "a folder where the other has a file",
        )
        .with("usr/share/doc", "a file where the host has a folder")
        .with("usr/linked/file", "a folder where the host has a link")
        .with("opt/own/file", "1")
        .with("srv/file", "2")
        .image(&folder.path("ext-9.raw"), by);
    let said = of_file(&tree, 257, Sysext, &nine);
    assert_eq!(said.verdict, Verdict::Merges);
    says(
        &said,
        "other extensions",
        Outcome::Doubtful,
        "ext-10 has /usr/bin/tool too, and that of ext-10 is seen",
    );
    says(
        &said,
        "other extensions",
        Outcome::Doubtful,
        "/usr/share/payload is a folder in one of",
    );
    says(
        &said,
        "host's files",
        Outcome::Doubtful,
        "/usr/linked, /usr/share/doc",
    );
    says(
        &said,
        "hierarchies",
        Outcome::Doubtful,
        "/srv/file will not be seen",
    );
    // As on Kairos, where /opt is not overlaid.
    let kairos = tree.with(
        "etc/systemd/system/systemd-sysext.service.d/kairos.conf",
        "[Service]\nEnvironment=\"SYSTEMD_SYSEXT_HIERARCHIES=/usr/bin:/usr/share\"\n",
    );
    let said = of_file(&kairos, 257, Sysext, &nine);
    says(
        &said,
        "hierarchies",
        Outcome::Doubtful,
        "/opt/own/file, /srv/file",
    );

    // A name in an earlier folder hides the later one.
    let tree = kairos;
    let later = tree.path("var/lib/extensions/ext-10.raw");
    fs::create_dir(tree.path("etc/extensions/ext-10")).unwrap();
    let said = of_file(&tree, 257, Sysext, &later);
    assert_eq!(said.verdict, Verdict::Ignored);
    says(
        &said,
        "place",
        Outcome::Ignored,
        "/etc/extensions/ext-10 has the same name",
    );
    let found = Target::find(&tree.node(257), Sysext, "ext-10").unwrap();
    assert_eq!(found.seen_as, Path::new("/etc/extensions/ext-10"));
}

const STRICT: &str = "root=signed+absent:usr=signed+absent";

/// A node whose systemd takes only signed images, with the folders in which it looks.
fn strict_tree() -> NodeTree {
    let tree = NodeTree::trusting().with(
        "etc/systemd/system/systemd-sysext.service.d/k.conf",
        format!(
            "[Service]\nExecStart=\nExecStart=systemd-sysext refresh --image-policy={STRICT}\n"
        ),
    );
    for path in ["etc/extensions", "run/extensions", "var/lib/extensions"] {
        fs::create_dir_all(tree.path(path)).unwrap();
    }
    tree
}

#[test]
fn what_systemd_never_looks_at_blocks_nothing() {
    let tree = strict_tree();
    let demo = Extension::sysext("demo", ANY);
    let hidden = demo.image(&tree.path("var/lib/extensions/demo.raw"), By::Nobody);
    let said = of_file(&tree, 257, Sysext, &hidden);
    assert_eq!(said.verdict, Verdict::Blocks);
    demo.image(&tree.path("etc/extensions/demo.raw"), By::Example("db"));
    let said = of_file(&tree, 257, Sysext, &hidden);
    assert_eq!(said.verdict, Verdict::Ignored, "{said:#?}");
    says(&said, "place", Outcome::Ignored, "/etc/extensions/demo.raw");

    let folder = Folder::new();
    let site = Extension::confext("site", ANY).image(&folder.path("site.raw"), By::Nobody);
    fs::write(&site, "no image").unwrap();
    let said = of_file(&tree, 252, Confext, &site);
    assert_eq!(said.verdict, Verdict::Ignored, "{said:#?}");
}

#[test]
fn another_image_that_blocks_is_named() {
    let tree = strict_tree();
    let folder = Folder::new();
    let image = Extension::sysext("hello", ANY).image(&folder.path("hello.raw"), By::Example("db"));
    let bad = tree.path("run/extensions/bad.raw");
    Extension::sysext("bad", ANY).image(&bad, By::Nobody);
    let said = of_file(&tree, 257, Sysext, &image);
    assert_eq!(said.verdict, Verdict::Blocked, "{said:#?}");
    let words = "nothing merges until /run/extensions/bad.raw is removed: policy for root: ";
    says(&said, "others", Outcome::Blocked, words);
    assert!(said.conclusion.contains(words), "{}", said.conclusion);
    // One that is hidden blocks nothing.
    fs::create_dir(tree.path("etc/extensions/bad")).unwrap();
    let said = of_file(&tree, 257, Sysext, &image);
    assert_eq!(said.verdict, Verdict::Merges, "{said:#?}");
}

#[test]
fn the_last_command_and_every_assignment_of_a_line_count() {
    let folder = Folder::new();
    let image = Extension::sysext("hello", ANY).image(&folder.path("hello.raw"), By::Nobody);
    let told = |tree: &NodeTree| of_file(tree, 257, Sysext, &image);
    let tree = strict_tree();
    says(&told(&tree), "image policy", Outcome::Holds, STRICT);
    let drop_in = |tree: NodeTree, text: &str| {
        let path = "etc/systemd/system/systemd-sysext.service.d/z.conf";
        tree.with(path, format!("[Service]\n{text}\n"))
    };
    // Another command than that of the merge says nothing of the merge.
    let tree = drop_in(
        tree,
        "ExecReload=systemd-sysext refresh --image-policy=root=unused",
    );
    says(&told(&tree), "image policy", Outcome::Holds, STRICT);
    let tree = drop_in(tree, "ExecStart=\nExecStart=systemd-sysext refresh");
    let said = told(&tree);
    says(&said, "image policy", Outcome::Holds, "unprotected");
    assert_eq!(said.verdict, Verdict::Merges, "{said:#?}");
    let tree = drop_in(
        tree,
        "ExecStart=\nExecStart=systemd-sysext refresh --image-policy \"root=signed\"\n\
         Environment=A=1 \"SYSTEMD_SYSEXT_HIERARCHIES=/opt\" B=2",
    );
    let said = told(&tree);
    says(&said, "image policy", Outcome::Holds, "root=signed");
    says(&said, "hierarchies", Outcome::Doubtful, "z.conf");
}

#[test]
fn confexts_are_explained_too() {
    let folder = Folder::new();
    let tree = NodeTree::trusting();
    let image =
        Extension::confext("site", ANY).image(&folder.path("site.confext.raw"), By::Example("db"));
    assert_eq!(
        of_file(&tree, 257, Confext, &image).verdict,
        Verdict::Merges
    );
    // Its name would be wrong there too, but nobody looks.
    assert_eq!(
        of_file(&tree, 252, Confext, &image).verdict,
        Verdict::Ignored
    );
    let plain = Extension::confext("site", ANY).image(&folder.path("site.raw"), By::Example("db"));
    assert_eq!(
        of_file(&tree, 252, Confext, &plain).verdict,
        Verdict::Ignored
    );
    says(
        &of_file(&tree, 257, Sysext, &plain),
        "name",
        Outcome::Ignored,
        "is a confext",
    );
}

/// What systemd itself did with an extension beside a good one.
fn merge(file: &Path, companion: &Path) -> Verdict {
    let script = "\
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir /run/extensions
cp -- \"$1\" \"$2\" /run/extensions
systemd-sysext merge && merged=yes || merged=no
test -e /usr/share/companion && companion=yes || companion=no
test -e /usr/share/payload && payload=yes || payload=no
systemd-sysext unmerge >/dev/null 2>&1 || :
echo \"result $merged $companion $payload\"";
    let output = Command::new("unshare")
        .args(["--mount", "bash", "-c", script, "bash"])
        .args([file, companion])
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    match stdout.lines().last() {
        Some("result yes yes yes") => Verdict::Merges,
        Some("result yes yes no") => Verdict::Ignored,
        // Up to 253 systemd-sysext says of some failures that it merged.
        Some("result no no no" | "result yes no no") => Verdict::Blocks,
        _ => panic!("{}: {stdout}{stderr}", file.display()),
    }
}

/// The systemd of this machine, if it can merge here.
fn real_systemd() -> Option<u32> {
    let output = Command::new("systemd-sysext")
        .arg("--version")
        .output()
        .ok()?;
    let version = SystemdVersion::parse(&text(&output.stdout))?;
    is_root().then_some(version.0)
}

#[test]
fn systemd_does_what_was_said() {
    let Some(systemd) = real_systemd() else {
        return skip(
            "systemd_does_what_was_said",
            "it takes root and systemd-sysext",
        );
    };
    let host = fs::read_to_string("/etc/os-release").unwrap();
    let field = |key: &str| {
        let mut lines = host
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.next().unwrap().trim_matches('"').to_owned()
    };
    let (id, version) = (field("ID"), field("VERSION_ID"));
    let tree = NodeTree::new().with("etc/os-release", &host);
    let folder = Folder::new();
    let companion = folder.path("zz.raw");
    Extension::empty()
        .with(
            "usr/lib/extension-release.d/extension-release.zz",
            "ID=_any\n",
        )
        .with("usr/share/companion", "")
        .file_system(&companion);
    let cases = [
        ("a.raw", "a", ANY.to_owned()),
        ("a.raw", "a", format!("ID={id}\nVERSION_ID={version}\n")),
        ("a.raw", "a", format!("ID={id}\nVERSION_ID={version}.1\n")),
        ("a.raw", "a", format!("ID={id}\n")),
        ("a.raw", "a", format!("ID={id}\nSYSEXT_LEVEL=1\n")),
        ("a.raw", "a", format!("ID=other\nVERSION_ID={version}\n")),
        ("a.raw", "a", "ID=_any\nSYSEXT_SCOPE=initrd\n".to_owned()),
        (
            "a.raw",
            "a",
            "ID=_any\nSYSEXT_SCOPE=\"initrd system\"\n".to_owned(),
        ),
        ("a.raw", "a", "ID=_any\nARCHITECTURE=arm64\n".to_owned()),
        ("a.raw", "other", ANY.to_owned()),
        ("a_1.0.raw", "a", ANY.to_owned()),
        ("a-1.0.raw", "a", ANY.to_owned()),
        ("a.sysext.raw", "a", ANY.to_owned()),
        ("a.sysext.raw", "a.sysext", ANY.to_owned()),
    ];
    let mut wrong = Vec::new();
    let mut compare = |what: String, path: &Path| {
        let said = of_file(&tree, systemd, Sysext, path);
        let done = merge(path, &companion);
        if said.verdict != done {
            wrong.push(format!("{what}: said {:?}, done {done:?}", said.conclusion));
        }
        fs::remove_file(path).unwrap();
    };
    for (file, name, release) in &cases {
        let path = folder.path(file);
        Extension::sysext(name, release).file_system(&path);
        compare(format!("{file} with {name}: {release:?}"), &path);
    }
    let relaxed = Extension::sysext("other", ANY);
    let file = relaxed
        .tree()
        .join("usr/lib/extension-release.d/extension-release.other");
    xattr::set(file, "user.extension-release.strict", b"0").unwrap();
    relaxed.file_system(&folder.path("a.raw"));
    compare("relaxed".to_owned(), &folder.path("a.raw"));
    Extension::confext("a", ANY)
        .with("usr/share/payload", "")
        .file_system(&folder.path("a.raw"));
    compare("confext".to_owned(), &folder.path("a.raw"));
    for noise in ["", "noise"] {
        fs::write(folder.path("a.raw"), noise).unwrap();
        compare(format!("{noise:?}"), &folder.path("a.raw"));
    }
    Extension::sysext("a", ANY)
        .with("usr/lib/os-release", "ID=x\n")
        .file_system(&folder.path("a.raw"));
    compare("operating system".to_owned(), &folder.path("a.raw"));
    assert!(wrong.is_empty(), "systemd {systemd}:\n{}", wrong.join("\n"));
}
