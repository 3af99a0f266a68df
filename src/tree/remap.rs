//! Moving files to where an extension can have them: `--remap FROM=TO`.

use std::str::FromStr;

use crate::layer::EntryPath;

/// What lies at `from` in the image belongs to `to` in the extension, with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// Where it is in the image.
    pub from: EntryPath,
    /// Where it goes.
    pub to: EntryPath,
}

/// Why a text is no `FROM=TO`, or why remaps contradict each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRemap {
    /// There is no equals sign.
    #[error("{0:?} is no FROM=TO, as /etc=/usr/share/factory/etc is")]
    NoPair(String),
    /// One of the two paths is none.
    #[error("{side} of {text:?} {reason}")]
    Path {
        /// The text.
        text: String,
        /// `FROM` or `TO`.
        side: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The same files would go to two places.
    #[error("{0} is moved twice; say once where it goes")]
    Twice(EntryPath),
    /// The extension cannot have the target.
    #[error("{from} cannot go to {to}, for the extension may only hold {}", .kept.join(" and "))]
    Outside {
        /// Where it is in the image.
        from: EntryPath,
        /// Where it should go.
        to: EntryPath,
        /// What the extension could hold.
        kept: Vec<String>,
    },
}

impl FromStr for Remap {
    type Err = InvalidRemap;

    fn from_str(text: &str) -> Result<Remap, InvalidRemap> {
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| InvalidRemap::NoPair(text.to_owned()))?;
        let path = |side, path: &str| {
            let refuse = |reason: &str| InvalidRemap::Path {
                text: text.to_owned(),
                side,
                reason: reason.to_owned(),
            };
            let relative = path.strip_prefix('/').unwrap_or(path);
            let path = EntryPath::from_archive(relative.as_bytes())
                .map_err(|error| refuse(error.reason))?;
            if path.is_root() {
                return Err(refuse("names the root; name a directory or file in it"));
            }
            Ok(path)
        };
        Ok(Remap {
            from: path("FROM", from)?,
            to: path("TO", to)?,
        })
    }
}

/// Fails if the remaps contradict each other, or lead out of what the extension may hold.
pub fn check(remaps: &[Remap], hierarchies: &[&str]) -> Result<(), InvalidRemap> {
    for (number, remap) in remaps.iter().enumerate() {
        let mut others = remaps.iter().take(number);
        if others.any(|other| other.from == remap.from) {
            return Err(InvalidRemap::Twice(remap.from.clone()));
        }
        let top = remap.to.components().next().unwrap_or_default();
        if !hierarchies.iter().any(|kept| kept.as_bytes() == top) {
            return Err(InvalidRemap::Outside {
                from: remap.from.clone(),
                to: remap.to.clone(),
                kept: hierarchies.iter().map(|top| format!("/{top}")).collect(),
            });
        }
    }
    Ok(())
}

/// Where `path` of the image lies in the extension, if it is moved: the longest FROM decides.
pub fn destination(remaps: &[Remap], path: &EntryPath) -> Option<EntryPath> {
    let moving = remaps.iter().filter(|remap| path.is_within(&remap.from));
    let remap = moving.max_by_key(|remap| remap.from.as_bytes().len())?;
    rebased(path, &remap.from, &remap.to)
}

/// `path`, which lies at or below `from`, as it is called where `from` is `to`.
pub fn rebased(path: &EntryPath, from: &EntryPath, to: &EntryPath) -> Option<EntryPath> {
    let rest = path.as_bytes().get(from.as_bytes().len()..)?;
    EntryPath::from_archive(&[to.as_bytes(), rest].concat()).ok()
}

/// Whether the symbolic link at `path` leads elsewhere once all is moved.
pub fn breaks(remaps: &[Remap], path: &EntryPath, target: &[u8]) -> bool {
    let moved = |path: &EntryPath| destination(remaps, path).unwrap_or_else(|| path.clone());
    resolve(path, target).map(|target| moved(&target)) != resolve(&moved(path), target)
}

/// What the `target` of a link at `path` means by its letters.
fn resolve(path: &EntryPath, target: &[u8]) -> Option<EntryPath> {
    let (parent, _) = path.split_last()?;
    let mut components: Vec<&[u8]> = match target.starts_with(b"/") {
        true => Vec::new(),
        false => parent.components().collect(),
    };
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    EntryPath::from_archive(&components.join(&b'/')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::from_archive(text.as_bytes()).unwrap()
    }

    fn remaps(texts: &[&str]) -> Vec<Remap> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_longest_from_wins_by_component() {
        let remaps = remaps(&["/etc=/usr/share/factory/etc", "/etc/x=/usr/lib/x"]);
        for (from, to) in [
            ("etc", Some("usr/share/factory/etc")),
            ("etc/a/b", Some("usr/share/factory/etc/a/b")),
            ("etc/x", Some("usr/lib/x")),
            ("etc/x/y", Some("usr/lib/x/y")),
            ("etc/xy", Some("usr/share/factory/etc/xy")),
            ("etcetera", None),
            ("usr/lib/x", None),
        ] {
            assert_eq!(destination(&remaps, &path(from)), to.map(path), "{from}");
        }
    }

    #[test]
    fn remaps_that_say_nothing_or_too_much_are_refused() {
        for text in [
            "",
            "/etc",
            "=/usr",
            "/etc=",
            "/=/usr/x",
            "/a=/usr/../b",
            "/../a=/usr/b",
        ] {
            assert!(text.parse::<Remap>().is_err(), "{text}");
        }
        let twice = remaps(&["/a=/usr/a", "a=/usr/b"]);
        assert!(matches!(
            check(&twice, &["usr"]),
            Err(InvalidRemap::Twice(_))
        ));
        let outside = remaps(&["/a=/opt/a"]);
        assert!(check(&outside, &["usr"]).is_err());
        assert!(check(&outside, &["usr", "opt"]).is_ok());
    }

    #[test]
    fn links_break_when_one_end_moves_alone() {
        let remaps = remaps(&["/opt/tool=/usr/lib/tool"]);
        for (link, target, expected) in [
            ("opt/tool/a", "b", false),
            ("opt/tool/bin/a", "../lib/b", false),
            ("opt/tool/a", "../other", true),
            ("usr/bin/a", "../../opt/tool/a", true),
            ("usr/bin/a", "b", false),
            ("opt/tool/a", "/etc/x", false),
            ("opt/tool/a", "/opt/tool/b", true),
            ("usr/bin/a", "/opt/../opt//tool/a", true),
            ("usr/bin/a", "/opt/tool", true),
            ("usr/bin/a", "/opt/tools", false),
            ("usr/bin/a", "/", false),
            ("opt/tool/a", "../../../../../usr/x", false),
        ] {
            assert_eq!(
                breaks(&remaps, &path(link), target.as_bytes()),
                expected,
                "{link}"
            );
        }
    }
}
