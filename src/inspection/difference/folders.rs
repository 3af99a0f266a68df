//! How much content lies below each folder.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspection::FileFacts;

/// How deep folders are told apart: `/usr/lib/modules` is, what lies below counts with it.
const DEPTH: usize = 3;

/// A folder whose content is not as large as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderDifference {
    /// Absolute and printable.
    pub path: String,
    /// Bytes of content below it in a; hard links count once.
    pub a: u64,
    /// Bytes of content below it in b; hard links count once.
    pub b: u64,
}

/// The folders of two trees that differ, in byte order of their paths.
pub fn of_trees(a: &[FileFacts], b: &[FileFacts]) -> Vec<FolderDifference> {
    let mut folders: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in a {
        for folder in above(&file.path) {
            let bytes = &mut folders.entry(folder).or_default().0;
            *bytes = bytes.saturating_add(file.content_bytes);
        }
    }
    for file in b {
        for folder in above(&file.path) {
            let bytes = &mut folders.entry(folder).or_default().1;
            *bytes = bytes.saturating_add(file.content_bytes);
        }
    }
    let differing = folders.into_iter().filter(|(_, (a, b))| a != b);
    differing
        .map(|(path, (a, b))| FolderDifference {
            path: path.to_owned(),
            a,
            b,
        })
        .collect()
}

/// The folders that a path lies in, the root excepted: `/usr`, then `/usr/lib`, …
fn above(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').skip(1);
    slashes.take(DEPTH).map(|(slash, _)| &path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_above_the_file_and_at_their_depth() {
        let folders = |path| above(path).collect::<Vec<_>>();
        assert_eq!(folders("/usr"), [""; 0]);
        assert_eq!(folders("/usr/bin/a"), ["/usr", "/usr/bin"]);
        assert_eq!(
            folders("/usr/lib/modules/6.1/a.ko"),
            ["/usr", "/usr/lib", "/usr/lib/modules"]
        );
    }
}
