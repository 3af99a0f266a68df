//! Whose the files are that root writes into somebody's folder: as in a container, to which the folder
//! of a user is mounted.

#[path = "support/key_set.rs"]
mod key_set;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use key_set::{genkey, names};
use workplace::{RSA, Workplace, is_root, run, sysgraft, text};

/// Somebody who has no name here.
const SOMEBODY: (u32, u32) = (12_345, 23_456);

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// A workplace whose `out` is somebody's; none where only root could make it so.
fn somebodys(test: &str) -> Option<Workplace> {
    if !is_root() {
        support::skip(test, "only root can write into somebody's folder for him");
        return None;
    }
    let workplace = Workplace::new();
    chown(workplace.out(), Some(SOMEBODY.0), Some(SOMEBODY.1)).unwrap();
    Some(workplace)
}

/// Every file and folder in `folder`, and that there are some.
fn all_belong_to(owner_wanted: (u32, u32), folder: &Path) {
    let names = names(folder);
    assert!(!names.is_empty(), "{} is empty", folder.display());
    for name in names {
        let path = folder.join(name);
        assert_eq!(owner(&path), owner_wanted, "{}", path.display());
    }
}

#[test]
fn images_requests_and_pages_belong_to_the_owner_of_their_folder() {
    let Some(workplace) = somebodys("images of somebody") else {
        return;
    };
    let tree = format!("dir:{}", workplace.small_tree().display());
    let build = |more: &[&str]| {
        let mut command = sysgraft(["sysext", "--output"]);
        run(command.arg(workplace.out()).args(RSA).args(more));
    };
    build(&["hello", &tree]);
    build(&["hello", &tree]);
    run(sysgraft(["sysext", "--sign-later", "--output"])
        .arg(workplace.out())
        .args(&RSA[2..])
        .args(["later", &tree]));
    run(sysgraft(["inspect", "--html"])
        .arg(workplace.out().join("page.html"))
        .arg(workplace.out().join("hello.sysext.raw")));
    assert!(workplace.outputs().len() >= 4, "{:?}", workplace.outputs());
    all_belong_to(SOMEBODY, &workplace.out());
}

#[test]
fn keys_belong_to_the_owner_of_the_folder_and_stay_secret() {
    let Some(workplace) = somebodys("keys of somebody") else {
        return;
    };
    // Into a folder that is there, into one that is not, and over keys.
    let new = workplace.out().join("a/b/keys");
    for folder in [&workplace.out(), &new, &new] {
        run(&mut genkey(folder, &["--force", "somebody"]));
    }
    all_belong_to(SOMEBODY, &workplace.out());
    all_belong_to(SOMEBODY, &workplace.out().join("a"));
    all_belong_to(SOMEBODY, &workplace.out().join("a/b"));
    all_belong_to(SOMEBODY, &new);
    assert_eq!(mode(&new), 0o700);
    assert_eq!(mode(&new.join("db.key")), 0o600);
    assert_eq!(mode(&workplace.out().join("db.key")), 0o600);
}

#[test]
fn a_link_to_a_file_elsewhere_is_replaced_and_that_file_left_alone() {
    let Some(workplace) = somebodys("a link of somebody") else {
        return;
    };
    let elsewhere = workplace.path("shadow");
    fs::write(&elsewhere, "secret").unwrap();
    let target = workplace.out().join("hello.sysext.raw");
    std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
    let tree = format!("dir:{}", workplace.small_tree().display());
    run(sysgraft(["sysext", "--output"])
        .arg(workplace.out())
        .args(RSA)
        .args(["hello", &tree]));
    assert_eq!(owner(&target), SOMEBODY);
    assert!(target.symlink_metadata().unwrap().is_file());
    assert_eq!(owner(&elsewhere), (0, 0));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "secret");
}

/// A folder of the user with this number, in which he may have put links.
fn folder_of(user: u32, path: &Path) {
    fs::create_dir(path).unwrap();
    chown(path, Some(user), Some(user)).unwrap();
}

fn link_of(user: u32, target: &Path, link: &Path) {
    std::os::unix::fs::symlink(target, link).unwrap();
    lchown(link, Some(user), Some(user)).unwrap();
}

#[test]
fn a_link_to_a_folder_counts_if_its_maker_could_write_there_himself() {
    let Some(workplace) = somebodys("folders behind links of somebody") else {
        return;
    };
    let (somebody, other) = (SOMEBODY.0, SOMEBODY.0 + 1);
    let (own, roots, others) = (
        workplace.path("own"),
        workplace.path("roots"),
        workplace.path("others"),
    );
    folder_of(somebody, &own);
    folder_of(0, &roots);
    folder_of(other, &others);
    let tree = format!("dir:{}", workplace.small_tree().display());
    let build = |folder: &Path| {
        let mut command = sysgraft(["sysext", "--output"]);
        let command = command.arg(folder).args(RSA).args(["hello", &tree]);
        command.output().unwrap()
    };
    let keys = |folder: &Path| genkey(folder, &["--force", "somebody"]).output().unwrap();
    for (number, (user, target, counts)) in [
        (somebody, &own, true),
        (0, &own, true),
        (0, &roots, true),
        (somebody, &roots, false),
        (somebody, &others, false),
        (other, &own, false),
    ]
    .into_iter()
    .enumerate()
    {
        let link = workplace.out().join(format!("link-{number}"));
        link_of(user, target, &link);
        let missing = link.join(format!("keys-{number}"));
        for output in [build(&link), keys(&link), keys(&missing)] {
            let said = text(&output.stderr);
            assert_eq!(output.status.success(), counts, "{number}: {said}");
            assert_eq!(said.contains("symbolic link of user"), !counts, "{said}");
        }
        let written = names(target);
        assert_eq!(written.is_empty(), !counts, "{number}: {written:?}");
        fs::remove_dir_all(target).unwrap();
        let owner = match target {
            target if target == &own => somebody,
            target if target == &others => other,
            _ => 0,
        };
        folder_of(owner, target);
    }
    // A link behind one that counts is one as any other.
    link_of(somebody, &roots, &own.join("on"));
    let root_made = workplace.path("root-made");
    link_of(0, &own.join("on"), &root_made);
    assert!(!build(&root_made).status.success());
    assert_eq!(names(&roots), [""; 0]);
}

#[test]
fn root_of_a_container_gives_nothing_to_a_stand_in_for_an_owner_it_does_not_know() {
    let Some(workplace) = somebodys("files of a stand-in") else {
        return;
    };
    open_to_all(&workplace);
    let mut holder = Command::new("unshare")
        .args(["--user", "sleep", "infinity"])
        .spawn()
        .unwrap();
    let process = PathBuf::from(format!("/proc/{}", holder.id()));
    let namespace = |process: &Path| fs::read_link(process.join("ns/user")).unwrap();
    while namespace(&process) == namespace(Path::new("/proc/self")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Its users 0 to 65535 are 100000 and up here; somebody is none of them.
    for map in ["uid_map", "gid_map"] {
        fs::write(process.join(map), "0 100000 65536").unwrap();
    }
    let output = Command::new("nsenter")
        .args(["--user", "--setuid", "0", "--setgid", "0", "--target"])
        .arg(holder.id().to_string())
        .arg(workplace.path("sysgraft"))
        .args(["sysext", "--output"])
        .arg(workplace.out())
        .arg("hello")
        .arg(format!("dir:{}", workplace.path("root").display()))
        .current_dir("/")
        .output()
        .unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    all_belong_to((100_000, 100_000), &workplace.out());
}

/// Lets everybody read the program and a small tree, and write into `out`.
fn open_to_all(workplace: &Workplace) {
    // Where the program was built nobody else may look.
    fs::copy(env!("CARGO_BIN_EXE_sysgraft"), workplace.path("sysgraft")).unwrap();
    for folder in [workplace.path(""), workplace.small_tree()] {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(workplace.out(), PermissionsExt::from_mode(0o777)).unwrap();
}

#[test]
fn without_root_files_belong_to_whom_they_always_did() {
    let Some(workplace) = somebodys("files of nobody") else {
        return;
    };
    open_to_all(&workplace);
    let output = Command::new(workplace.path("sysgraft"))
        .args(["sysext", "--output"])
        .arg(workplace.out())
        .arg("hello")
        .arg(format!("dir:{}", workplace.path("root").display()))
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    all_belong_to((65_534, 65_534), &workplace.out());
}
