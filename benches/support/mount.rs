//! Mounting file systems to read from them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::session::Session;

/// Name of the mount point in a session's folder.
pub const POINT: &str = "mount";

/// A mounted EROFS, unmounted on drop.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the file system at `offset` of `image` through a loop device, or says why not.
    pub fn new(session: &Session, image: &Path, offset: u64) -> Result<Mounted, String> {
        let point = session.path(POINT);
        std::fs::create_dir_all(&point).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "erofs", "-o"])
            .arg(format!("ro,loop,offset={offset}"))
            .arg(image)
            .arg(&point)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if mount.status.success() {
            return Ok(Mounted(point));
        }
        let said = String::from_utf8_lossy(&mount.stderr);
        Err(said.lines().next().unwrap_or_default().to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "umount");
    }
}

/// Forgets all cached pages, folders and inodes, of every file system.
pub fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}
