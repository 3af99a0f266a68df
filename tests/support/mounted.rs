//! Mounting the file system of an image, and saying of every entry all that the kernel knows.

#![allow(dead_code)] // each test uses a part of it

#[path = "unmount.rs"]
mod unmount;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workplace::run;
pub use unmount::unmount;

/// A mounted file system, unmounted on drop.
pub struct Mounted {
    point: tempfile::TempDir,
}

impl Mounted {
    /// Mounts the data partition of an image, which starts at 1 MiB.
    pub fn data_partition(image: &Path) -> Mounted {
        let point = tempfile::tempdir().unwrap();
        run(Command::new("mount")
            .args(["-t", "erofs", "-o", "ro,loop,offset=1048576"])
            .arg(image)
            .arg(point.path()));
        Mounted { point }
    }

    pub fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.point.path());
    }
}

/// Every path below `root` with type, mode, owner, time, size or device, content and attributes.
pub fn entries(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .escape_ascii()
                .to_string();
            found.insert(name, describe(&path, &metadata));
        }
    }
    found
}

fn describe(path: &Path, metadata: &fs::Metadata) -> String {
    let kind = metadata.file_type();
    let (kind, what) = if kind.is_dir() {
        // How directories count their links is each file system's own affair.
        ("directory", String::new())
    } else if kind.is_symlink() {
        (
            "symlink",
            format!(
                "-> {:?} links {}",
                fs::read_link(path).unwrap(),
                metadata.nlink()
            ),
        )
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else if kind.is_char_device() {
        ("char", metadata.rdev().to_string())
    } else if kind.is_block_device() {
        ("block", metadata.rdev().to_string())
    } else {
        let content = openssl::sha::sha256(&fs::read(path).unwrap());
        (
            "file",
            format!(
                "links {} size {} content {content:02x?}",
                metadata.nlink(),
                metadata.size()
            ),
        )
    };
    let mut line = format!(
        "{kind} {:o} {}:{} at {}.{:09} {what}",
        metadata.permissions().mode() & 0o7777,
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    let mut attributes: Vec<_> = xattr::list(path).unwrap().collect();
    attributes.sort();
    for name in attributes {
        write!(line, " {name:?}={:02x?}", xattr::get(path, &name).unwrap()).unwrap();
    }
    line
}

/// A tree with everything that a layer can hold: owners, odd modes, hard links, devices, pipes,
/// links, attributes, capabilities, times with nanoseconds, sparse and large files, odd names.
pub fn make_varied_tree(root: &Path) {
    let bin = root.join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(root.join("usr/share/deep/er/and/deeper")).unwrap();
    // What the build itself would make.
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    for size in [
        0, 1, 4000, 4063, 4064, 4065, 4095, 4096, 4097, 8192, 12_289, 3_000_000,
    ] {
        let content: Vec<u8> = (0..size).map(|i: u32| (i * 7 + i / 251) as u8).collect();
        fs::write(bin.join(format!("size-{size}")), content).unwrap();
    }
    fs::hard_link(bin.join("size-4097"), bin.join("a-hard-link")).unwrap();
    fs::hard_link(bin.join("size-4097"), root.join("usr/share/another")).unwrap();
    fs::hard_link(bin.join("size-1"), bin.join("small-link")).unwrap();
    symlink("size-1", bin.join("link")).unwrap();
    symlink("x".repeat(4000), bin.join("long-link")).unwrap();
    symlink("/absolute", bin.join("absolute")).unwrap();
    let sparse = fs::File::create(bin.join("sparse")).unwrap();
    sparse.set_len(2_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 1_000_000).unwrap();
    for (number, name) in ["mode-4755", "mode-2711", "mode-1777", "mode-0", "mode-640"]
        .iter()
        .enumerate()
    {
        let path = bin.join(name);
        fs::write(&path, name).unwrap();
        chown(
            &path,
            Some(number as u32 * 40_000),
            Some(4_000_000_000 - number as u32),
        )
        .unwrap();
        let mode = u32::from_str_radix(name.trim_start_matches("mode-"), 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, arguments) in [
        ("pipe", &["p"][..]),
        ("null", &["c", "1", "3"]),
        ("disk", &["b", "259", "70000"]),
    ] {
        run(Command::new("mknod").arg(bin.join(name)).args(arguments));
    }
    let long_name = "n".repeat(255);
    for name in [
        &b"with space"[..],
        b"\xff\xfe",
        b"!first",
        b"-dash",
        b".hidden",
        long_name.as_bytes(),
    ] {
        fs::write(bin.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    for number in 0..400 {
        fs::write(
            root.join(format!("usr/share/deep/many-{number:04}")),
            number.to_string(),
        )
        .unwrap();
    }
    for name in ["size-1", "size-4095", "size-3000000"] {
        set_attribute(&bin.join(name), "user.note", b"shared by several");
        set_attribute(
            &bin.join(name),
            &format!("user.only.{name}"),
            name.as_bytes(),
        );
    }
    set_attribute(&root.join("usr/share"), "user.on-a-directory", b"\0\xff");
    // CAP_NET_RAW, revision 2, effective and permitted (linux/capability.h).
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    set_attribute(&bin.join("size-8192"), "security.capability", &capability);
    set_times(root);
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    xattr::set(path, name, value).unwrap();
}

/// Another time for each entry, with nanoseconds, one of them before 1970.
fn set_times(root: &Path) {
    let mut paths: Vec<PathBuf> = entries_deepest_first(root);
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for (number, path) in paths.iter().enumerate() {
        let time = match number {
            3 => "1969-12-31T23:59:58.25Z".to_owned(),
            _ => format!("2023-11-14T22:13:{:02}.{:09}Z", number % 60, number * 1001),
        };
        run(Command::new("touch").args(["-h", "-d", &time]).arg(path));
    }
}

fn entries_deepest_first(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}
