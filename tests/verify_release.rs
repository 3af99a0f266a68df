//! Which release file of an image systemd goes by. The images have file systems of mkfs.erofs, since
//! our own builds put exactly one into them.

mod support;
#[path = "support/verified.rs"]
mod verified;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs::{self, File};
use std::num::NonZero;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::skip;
use sysgraft::architecture::Architecture;
use sysgraft::extension::ExtensionKind;
use sysgraft::image::{DATA_OFFSET, Designator, PartitionType, Role, assemble};
use sysgraft::seed::Seed;
use sysgraft::signature::Signing;
use sysgraft::verification::{
    Blocks, Check, Fault, FoundRelease, Outcome, Progress, Report, Request, Trust, verify,
};
use sysgraft::verity::HashedData;
use verified::mend;

const SYSEXT: &str = "usr/lib/extension-release.d";
const CONFEXT: &str = "etc/extension-release.d";

/// A tree from which images are made.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Tree(folder)
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Tree {
        fs::write(self.path(path), content).unwrap();
        self
    }

    /// A release file with this suffix.
    fn release(self, folder: &str, name: &str) -> Tree {
        self.with(
            &format!("{folder}/extension-release.{name}"),
            format!("ID=_any\nNAME={name}\n"),
        )
    }

    /// Says that the last release file does for any name.
    fn relaxed(self, name: &str, value: &str) -> Tree {
        let path = self.path(&format!("{SYSEXT}/extension-release.{name}"));
        xattr::set(path, "user.extension-release.strict", value.as_bytes()).unwrap();
        self
    }

    /// An image of the tree, or `None`, said aloud, where mkfs.erofs is missing.
    fn image(&self, called: &str) -> Option<PathBuf> {
        let file_system = self.0.path().join("erofs");
        let made = Command::new("mkfs.erofs")
            .args([&file_system, &self.0.path().join("root")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match made {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                skip("verify_release", &format!("cannot run mkfs.erofs: {error}"));
                return None;
            }
        }
        let bytes = fs::read(&file_system).unwrap();
        let image = self.0.path().join(called);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&image)
            .unwrap();
        file.write_all_at(&bytes, DATA_OFFSET).unwrap();
        let seed: Seed = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f".parse().unwrap();
        let salt = seed.verity_salt().into();
        let data = HashedData::of_existing(file, DATA_OFFSET, bytes.len() as u64, salt).unwrap();
        assemble(data, seed, Architecture::X86_64, Signing::Never).unwrap();
        Some(image)
    }

    fn report(&self, called: &str) -> Option<Report> {
        self.image(called).map(|image| report(&image))
    }
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

fn report(image: &Path) -> Report {
    let request = Request {
        path: image,
        known_as: None,
        trust: Trust::Ignored,
        host: None,
        blocks: Blocks::All,
        jobs: NonZero::<usize>::MIN,
    };
    verify(&request, &Silent)
}

/// The release file that was found in an image that is proved.
fn found(tree: &Tree, called: &str) -> Option<FoundRelease> {
    let report = tree.report(called)?;
    assert!(report.is_proved(), "{called}: {:?}", report.outcomes());
    report.release
}

fn assert_refused(tree: &Tree, called: &str, words: &str) {
    let Some(report) = tree.report(called) else {
        return;
    };
    let Outcome::Failed(fault) = report.outcome(Check::Release) else {
        panic!("{called}: {:?}", report.outcomes());
    };
    assert!(fault.to_string().contains(words), "{called}: {fault}");
    assert!(matches!(report.outcome(Check::Blocks), Outcome::Passed));
}

#[test]
fn the_exact_name_comes_first_and_then_the_name_before_the_version() {
    let tree = Tree::new()
        .release(SYSEXT, "a")
        .release(SYSEXT, "a_1")
        .release(SYSEXT, "z");
    for (called, name) in [
        ("a.raw", "a"),
        ("a_1.raw", "a_1"),
        ("a_2.raw", "a"),
        ("z+x.sysext.raw", "z"),
    ] {
        let Some(found) = found(&tree, called) else {
            return;
        };
        assert_eq!(
            (found.name.as_str(), found.kind),
            (name, ExtensionKind::Sysext),
            "{called}"
        );
        assert_eq!(found.release.get("NAME"), Some(name));
    }
    let all = "there is extension-release.a, extension-release.a_1, extension-release.z";
    assert_refused(&tree, "b.raw", all);
}

#[test]
fn a_release_file_that_says_so_does_for_any_name() {
    let tree = Tree::new().release(SYSEXT, "other").relaxed("other", "0");
    let Some(relaxed) = found(&tree, "a.raw") else {
        return;
    };
    assert_eq!(
        (relaxed.name.as_str(), relaxed.image_name.as_str()),
        ("other", "a")
    );
    let strict = Tree::new().release(SYSEXT, "other").relaxed("other", "1");
    assert_refused(
        &strict,
        "a.raw",
        "demands usr/lib/extension-release.d/extension-release.a,",
    );
    let several = tree.release(SYSEXT, "third").relaxed("third", "No");
    assert_refused(&several, "a.raw", "systemd refuses to choose");
    assert_eq!(found(&several, "third.raw").unwrap().name, "third");
}

#[test]
fn the_kind_is_that_of_the_name_or_else_of_the_content() {
    let both = Tree::new().release(SYSEXT, "a").release(CONFEXT, "a");
    for (called, kind) in [
        ("a.raw", ExtensionKind::Sysext),
        ("a.sysext.raw", ExtensionKind::Sysext),
        ("a.confext.raw", ExtensionKind::Confext),
    ] {
        let Some(found) = found(&both, called) else {
            return;
        };
        assert_eq!(found.kind, kind, "{called}");
    }
    let confext = Tree::new().release(CONFEXT, "a");
    assert_eq!(
        found(&confext, "a.raw").unwrap().kind,
        ExtensionKind::Confext
    );
    assert_refused(&confext, "a.sysext.raw", "it has no release file");
}

#[test]
fn what_systemd_would_pass_over_or_stumble_on_is_refused() {
    let file = &format!("{SYSEXT}/extension-release.a");
    let plain = || Tree::new().with("usr/bin/x", "x");
    assert_refused(&plain(), "a.raw", "it has no release file");
    let link = plain();
    symlink("extension-release.b", link.path(file)).unwrap();
    assert_refused(&link, "a.raw", "it has no release file");
    let system = plain()
        .release(SYSEXT, "a")
        .with("usr/lib/os-release", "ID=x");
    assert_refused(&system, "a.raw", "it holds usr/lib/os-release");
    assert_refused(&plain().with(file, b"ID=\xff"), "a.raw", "is not UTF-8");
    let large = vec![b'#'; (1 << 20) + 1];
    assert_refused(&plain().with(file, large), "a.raw", "more than 1 MiB");
    let mut many = plain();
    for number in 0..1001 {
        many = many.release(SYSEXT, &format!("x{number}"));
    }
    assert_refused(&many, "a.raw", "more than 1000 release files");
}

/// The data of such an image is mounted at /usr.
#[test]
fn a_usr_partition_is_read_as_such_and_refused() {
    let tree = Tree::new().release("lib/extension-release.d", "a");
    let Some(image) = tree.image("a.raw") else {
        return;
    };
    let mut bytes = fs::read(&image).unwrap();
    for (number, role) in [Role::Data, Role::Hash].into_iter().enumerate() {
        let kind = PartitionType {
            architecture: Architecture::X86_64,
            designator: Designator::Usr,
            role,
        };
        let place = 1024 + number * 128;
        bytes[place..place + 16].copy_from_slice(&kind.uuid().to_bytes_le());
    }
    mend(&mut bytes);
    fs::write(&image, bytes).unwrap();
    let report = report(&image);
    assert!(matches!(
        report.outcome(Check::Partitions),
        Outcome::Failed(Fault::UsrPartition)
    ));
    assert!(!report.is_proved());
    assert_eq!(report.release.unwrap().name, "a");
}
