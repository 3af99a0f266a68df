//! Where a node keeps its extensions.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::profile::Profile;
use crate::extension::ExtensionKind;

/// What is there before the root file system is, and stays when it takes over, and `/.extra`, which
/// systemd-stub fills for the initrd.
const RUNTIME: [&str; 5] = ["run", "proc", "sys", "dev", ".extra"];

/// Links in one path, more than which are a circle (`MAXSYMLINKS` of the kernel, include/linux/namei.h).
const MAX_LINKS: usize = 40;

/// Where Kairos keeps extensions, as the node sees it.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/kairos";

/// The folders of one node, which is this host or a tree of files somewhere in it.
///
/// A path "of the node" is the one that programs on the node would use; a path without that remark
/// is one that this program can open.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    /// Below which `/run` and the file systems of the kernel lie: the root folder, but for an initrd.
    runtime: PathBuf,
    /// Of the node.
    state_dir: PathBuf,
}

impl Layout {
    /// The node whose root folder is `root` and whose state lies in `state_dir` of the node.
    pub fn new(root: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Layout {
        let root = root.into();
        Layout {
            runtime: root.clone(),
            root,
            state_dir: state_dir.into(),
        }
    }

    /// The same node seen out of an initrd, which has mounted the node's root folder at `sysroot`, a
    /// path of its own.
    #[must_use]
    pub fn in_initrd(self, sysroot: impl AsRef<Path>) -> Layout {
        let sysroot = sysroot.as_ref();
        Layout {
            root: self.root.join(sysroot.strip_prefix("/").unwrap_or(sysroot)),
            ..self
        }
    }

    /// The root folder of the node.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the node is this host, so that its systemd can be asked to do something.
    pub fn is_this_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the node is to be opened. Symbolic links in it lead where they would on the node,
    /// and never out of its tree.
    pub fn open_path(&self, of_node: impl AsRef<Path>) -> PathBuf {
        let of_node = of_node.as_ref();
        let relative = of_node.strip_prefix("/").unwrap_or(of_node);
        if self.is_this_host() {
            return self.below(relative).join(relative);
        }
        let resolved = self.resolve(relative);
        self.below(&resolved).join(resolved)
    }

    /// The folder below which a path of the node, without its slash, lies.
    fn below(&self, relative: &Path) -> &Path {
        let runtime = RUNTIME.iter().any(|folder| relative.starts_with(folder));
        if runtime { &self.runtime } else { &self.root }
    }

    /// A path of the node without its slash and without symbolic links, as far as it exists.
    fn resolve(&self, relative: &Path) -> PathBuf {
        let parts = |path: &Path| -> Vec<OsString> {
            let normal = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            });
            normal.collect()
        };
        let mut left: VecDeque<OsString> = parts(relative).into();
        let (mut resolved, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            let next = resolved.join(part);
            match fs::read_link(self.below(&next).join(&next)) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        resolved.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                _ => resolved = next,
            }
        }
        resolved
    }

    /// The folder with the state of extensions of both kinds.
    pub fn state_dir(&self) -> PathBuf {
        self.open_path(&self.state_dir)
    }

    /// The folder with the artefacts of a kind.
    pub fn store(&self, kind: ExtensionKind) -> PathBuf {
        self.open_path(self.store_of_node(kind))
    }

    /// The same, of the node.
    pub fn store_of_node(&self, kind: ExtensionKind) -> PathBuf {
        self.state_dir.join(match kind {
            ExtensionKind::Sysext => "extensions",
            ExtensionKind::Confext => "confexts",
        })
    }

    /// The folder with links to the artefacts that are enabled for a profile.
    pub fn profile(&self, kind: ExtensionKind, profile: Profile) -> PathBuf {
        self.store(kind).join(profile.as_str())
    }

    /// The same, of the node.
    pub fn profile_of_node(&self, kind: ExtensionKind, profile: Profile) -> PathBuf {
        self.store_of_node(kind).join(profile.as_str())
    }

    /// The folder with what this program notes of a store.
    pub fn notes(&self, kind: ExtensionKind) -> PathBuf {
        self.store(kind).join(".sysgraft")
    }

    /// The folder for what is being brought into a store.
    pub fn staging(&self, kind: ExtensionKind) -> PathBuf {
        self.notes(kind).join("staging")
    }

    /// The folder in which systemd finds what it is to merge until the next boot
    /// (systemd-sysext(8)).
    pub fn live(&self, kind: ExtensionKind) -> PathBuf {
        self.open_path(match kind {
            ExtensionKind::Sysext => "/run/extensions",
            ExtensionKind::Confext => "/run/confexts",
        })
    }

    /// The folder with what this program notes of the node as a whole, and not of one store.
    pub fn node_notes(&self) -> PathBuf {
        self.state_dir().join(".sysgraft")
    }

    /// The folder with what this program tells of the running boot.
    pub fn run(&self) -> PathBuf {
        self.open_path("/run/sysgraft")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_node_lie_below_its_root() {
        let layout = Layout::new("/tmp/tree", DEFAULT_STATE_DIR);
        let kind = ExtensionKind::Sysext;
        assert_eq!(
            layout.profile(kind, Profile::Common),
            Path::new("/tmp/tree/var/lib/kairos/extensions/common")
        );
        assert_eq!(
            layout.profile_of_node(kind, Profile::Common),
            Path::new("/var/lib/kairos/extensions/common")
        );
        assert_eq!(
            layout.live(ExtensionKind::Confext),
            Path::new("/tmp/tree/run/confexts")
        );
        assert!(!layout.is_this_host());
    }

    #[test]
    fn links_lead_where_they_would_on_the_node() {
        let tree = tempfile::tempdir().unwrap();
        let real = tree.path().join("data/kairos");
        fs::create_dir_all(&real).unwrap();
        fs::create_dir_all(tree.path().join("var/lib")).unwrap();
        let link = |target: &str, link: &str| {
            std::os::unix::fs::symlink(target, tree.path().join(link)).unwrap();
        };
        link("/data/kairos", "var/lib/kairos");
        link("../../../../../etc", "var/lib/outside");
        link("circle", "var/lib/circle");
        let layout = Layout::new(tree.path(), DEFAULT_STATE_DIR);
        assert_eq!(layout.store(ExtensionKind::Sysext), real.join("extensions"));
        assert_eq!(
            layout.open_path("/var/lib/outside/x"),
            tree.path().join("etc/x")
        );
        layout.open_path("/var/lib/circle/x");
    }

    #[test]
    fn an_initrd_has_the_run_folder_and_the_sysroot_the_rest() {
        let layout = Layout::new("/", DEFAULT_STATE_DIR).in_initrd("/sysroot");
        let kind = ExtensionKind::Sysext;
        assert_eq!(
            layout.store(kind),
            Path::new("/sysroot/var/lib/kairos/extensions")
        );
        assert_eq!(layout.live(kind), Path::new("/run/extensions"));
        assert_eq!(
            layout.open_path("/proc/cmdline"),
            Path::new("/proc/cmdline")
        );
        assert_eq!(layout.open_path("/runner"), Path::new("/sysroot/runner"));
        assert!(!layout.is_this_host());
    }
}
