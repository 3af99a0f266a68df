//! What is mounted (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::node::layout::Layout;
use crate::read_at::read_file;

const MAX_BYTES: u64 = 16 << 20;

/// The mount points of this process.
pub struct Mounts(BTreeMap<PathBuf, Mount>);

struct Mount {
    file_system: String,
    read_only: bool,
}

impl Mounts {
    /// Reads them. One that waits for somebody to look into it is not mounted.
    pub fn read(layout: &Layout) -> Mounts {
        let path = layout.open_path("/proc/self/mountinfo");
        let text = read_file(&path, MAX_BYTES).unwrap_or_default();
        Mounts::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Mounts {
        let mut mounts = BTreeMap::new();
        for line in text.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else {
                continue;
            };
            let mut fields = mount.split(' ').skip(4);
            let (Some(point), Some(options)) = (fields.next(), fields.next()) else {
                continue;
            };
            let mut fields = file_system.split(' ');
            let kind = fields.next().unwrap_or_default();
            let of_disk = fields.nth(1).unwrap_or_default();
            let point = PathBuf::from(point.replace("\\040", " "));
            if kind == "autofs" {
                mounts.remove(&point);
                continue;
            }
            let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
            let mount = Mount {
                file_system: kind.to_owned(),
                read_only: is_read_only(options) || is_read_only(of_disk),
            };
            mounts.insert(point, mount);
        }
        Mounts(mounts)
    }

    /// Whether what is mounted at a folder is read-only; `None` if nothing is mounted there.
    pub fn is_read_only(&self, point: &Path) -> Option<bool> {
        self.0.get(point).map(|mount| mount.read_only)
    }

    /// The type of the file system that a file or folder, even one that is yet to be made, lies in.
    pub fn file_system(&self, path: &Path) -> Option<&str> {
        let existing = path
            .ancestors()
            .find_map(|path| fs::canonicalize(path).ok());
        let mount = existing?.ancestors().find_map(|path| self.0.get(path))?;
        Some(&mount.file_system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_counts_and_the_last_mount_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("state dir/store")).unwrap();
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/a rw\n\
             2 1 0:5 / {0}/state\\040dir rw shared:1 - tmpfs tmpfs rw\n\
             3 1 8:2 / {0}/state\\040dir rw - xfs /dev/b ro\n\
             4 1 0:6 / {0}/later rw - autofs systemd-1 rw\n",
            root.display()
        );
        let mounts = Mounts::parse(&text);
        let store = root.join("state dir/store/not/there");
        assert_eq!(mounts.file_system(&store), Some("xfs"));
        assert_eq!(mounts.file_system(&root.join("statement")), Some("ext4"));
        assert_eq!(mounts.is_read_only(&root.join("state dir")), Some(true));
        assert_eq!(mounts.is_read_only(&root.join("later")), None);
        assert_eq!(Mounts::parse("nonsense\n").file_system(&root), None);
    }
}
