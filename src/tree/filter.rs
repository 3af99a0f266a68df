//! Which paths the user wants: `--include` and `--exclude`.
//!
//! Patterns are those of gitignore(5) without its `!`: one with a slash at its start or in its middle
//! counts from the root, any other for names at any depth; `*` and `?` stop at slashes, `**` does
//! not, nor does a class such as `[a-z]` or `[!x]` ever match one; a slash at the end means directories
//! only. Braces mean themselves, and classes have no names such as `[:digit:]`. What matches brings
//! along all that lies below it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::{Chars, FromStr};

use globset::{GlobBuilder, GlobMatcher};

use super::ContentRules;
use crate::layer::EntryPath;

/// A pattern that paths in an image match or not.
#[derive(Clone, Debug)]
pub struct PathGlob {
    text: String,
    matcher: GlobMatcher,
    directories_only: bool,
}

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("pattern {text:?} {reason}")]
pub struct InvalidGlob {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PathGlob {
    /// Whether the pattern itself matches what lies at `path`, not counting what lies above it.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        (is_directory || !self.directories_only) && self.matcher.is_match(OsStr::from_bytes(path))
    }
}

impl FromStr for PathGlob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<PathGlob, InvalidGlob> {
        let refuse = |reason: String| InvalidGlob {
            text: text.to_owned(),
            reason,
        };
        if text.starts_with('!') {
            return Err(refuse(
                "starts with '!': say what is to be kept with --include, or write \\!".to_owned(),
            ));
        }
        let pattern = text.strip_suffix('/').unwrap_or(text);
        let from_root = pattern.contains('/');
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        if pattern.is_empty() {
            return Err(refuse("names nothing".to_owned()));
        }
        if pattern.split('/').any(|name| name == "." || name == "..") {
            return Err(refuse(
                "has a component '.' or '..', which no path in an image has".to_owned(),
            ));
        }
        let pattern = globset_syntax(pattern).map_err(refuse)?;
        let anchored = match from_root {
            true => pattern,
            false => format!("**/{pattern}"),
        };
        let glob = GlobBuilder::new(&anchored)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| refuse(format!("is refused: {}", error.kind())))?;
        Ok(PathGlob {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
            directories_only: text.ends_with('/'),
        })
    }
}

/// A pattern of gitignore(5) in the syntax of globset, where braces are alternatives and classes match
/// slashes; or what is wrong with it.
fn globset_syntax(pattern: &str) -> Result<String, String> {
    let mut syntax = String::new();
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => {
                syntax.push('\\');
                syntax.extend(rest.next());
            }
            '{' | '}' => syntax.extend(['\\', next]),
            '[' => syntax.push_str(&class(&mut rest)?),
            other => syntax.push(other),
        }
    }
    Ok(syntax)
}

/// The class whose bracket was opened, up to its end, without slashes.
fn class(rest: &mut Chars<'_>) -> Result<String, String> {
    let text = rest.as_str();
    let negated = text.starts_with(['!', '^']);
    let members = text.get(usize::from(negated)..).unwrap_or_default();
    // A bracket at the start is a member.
    let end = members
        .char_indices()
        .skip(1)
        .find(|(_, member)| *member == ']')
        .map(|(at, _)| at)
        .ok_or("has a class without an end: write \\[ for a bracket")?;
    let (members, after) = members.split_at(end);
    *rest = after.get(1..).unwrap_or_default().chars();
    if members.contains("[:") {
        return Err("has a class by name, such as [[:digit:]]: write [0-9]".to_owned());
    }
    if members.contains('\\') {
        return Err(
            "has a backslash in a class: write ] as its first member, and - as its last".to_owned(),
        );
    }
    if members.contains('/') {
        return Err("has a slash in a class, but classes never match one".to_owned());
    }
    if members.contains("--") {
        return Err("has -- in a class: write - once, as its last member".to_owned());
    }
    let all: Vec<char> = members.chars().collect();
    let spans = |range: &[char]| matches!(*range, [from, '-', to] if from < '/' && to > '/');
    if !negated && all.windows(3).any(spans) {
        return Err(
            "has a range in a class that spans the slash: write one up to . and one from 0"
                .to_owned(),
        );
    }
    Ok(match (negated, members.strip_suffix('-')) {
        (false, _) => format!("[{members}]"),
        (true, None) => format!("[!{members}/]"),
        (true, Some(others)) => format!("[!{others}/-]"),
    })
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the patterns say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It, or a directory above it, matches an `--exclude`.
    pub excluded: bool,
    /// It, or a directory above it, matches an `--include`, or there is none.
    pub included: bool,
}

/// The patterns at work.
pub struct Filter {
    include: Vec<Used>,
    exclude: Vec<Used>,
    /// The directory that was judged last; most entries lie beside their predecessor.
    last_parent: Option<(Box<[u8]>, Verdict)>,
}

struct Used {
    glob: PathGlob,
    /// Whether it ever matched.
    used: bool,
}

impl Filter {
    pub fn new(rules: &ContentRules) -> Filter {
        let unused = |globs: &[PathGlob]| {
            let globs = globs.iter().cloned();
            globs.map(|glob| Used { glob, used: false }).collect()
        };
        Filter {
            include: unused(&rules.include),
            exclude: unused(&rules.exclude),
            last_parent: None,
        }
    }

    /// Whether what is excluded may be kept if it is of another type.
    pub fn excludes_by_type(&self) -> bool {
        self.exclude.iter().any(|used| used.glob.directories_only)
    }

    /// What the patterns say of `path`.
    pub fn judge(&mut self, path: &EntryPath, is_directory: bool) -> Verdict {
        let nothing = Verdict {
            excluded: false,
            included: self.include.is_empty(),
        };
        if self.include.is_empty() && self.exclude.is_empty() {
            return nothing;
        }
        let path = path.as_bytes();
        let parent = match path.iter().rposition(|&byte| byte == b'/') {
            None => return self.step(nothing, path, is_directory),
            Some(slash) => path.get(..slash).unwrap_or_default(),
        };
        let above = match &self.last_parent {
            Some((known, verdict)) if **known == *parent => *verdict,
            _ => {
                let ends = (0..=parent.len())
                    .filter(|&end| end == parent.len() || parent.get(end) == Some(&b'/'));
                let verdict = ends
                    .filter_map(|end| parent.get(..end))
                    .fold(nothing, |above, path| self.step(above, path, true));
                self.last_parent = Some((parent.into(), verdict));
                verdict
            }
        };
        self.step(above, path, is_directory)
    }

    fn step(&mut self, above: Verdict, path: &[u8], is_directory: bool) -> Verdict {
        let excluded = above.excluded || any(&mut self.exclude, path, is_directory);
        Verdict {
            excluded,
            // What is excluded does not count as found by an --include.
            included: above.included || (!excluded && any(&mut self.include, path, is_directory)),
        }
    }

    /// The patterns of `--include`, then those of `--exclude`, that never matched.
    pub fn unused(&self) -> [Vec<String>; 2] {
        [&self.include, &self.exclude].map(|list| {
            let unused = list.iter().filter(|used| !used.used);
            unused.map(|used| used.glob.to_string()).collect()
        })
    }
}

/// Whether any of the patterns matches; all that do are marked.
fn any(globs: &mut [Used], path: &[u8], is_directory: bool) -> bool {
    let mut found = false;
    for Used { glob, used } in globs {
        if glob.matches(path, is_directory) {
            *used = true;
            found = true;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn glob(text: &str) -> PathGlob {
        text.parse().unwrap()
    }

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        Filter::new(&ContentRules {
            include: include.iter().copied().map(glob).collect(),
            exclude: exclude.iter().copied().map(glob).collect(),
            ..ContentRules::default()
        })
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::from_archive(text.as_bytes()).unwrap()
    }

    #[test]
    fn patterns_match_by_component_as_in_gitignore() {
        for (pattern, matching, other) in [
            ("*.pyc", "usr/lib/a.pyc", "usr/lib/a.pyc/x"),
            ("*.pyc", "a.pyc", "usr/lib/a.py"),
            ("doc", "usr/share/doc", "usr/share/docs"),
            ("/usr/share/doc", "usr/share/doc", "usr/share"),
            ("usr/share/doc", "usr/share/doc", "opt/usr/share/doc"),
            ("/usr/*/doc", "usr/share/doc", "usr/a/b/doc"),
            ("/usr/**/doc", "usr/a/b/doc", "usr/a/b/docs"),
            ("/usr/**/doc", "usr/doc", "doc"),
            ("/usr/**", "usr/a/b", "usr"),
            ("**/man", "usr/man", "usr/mann"),
            ("/usr/l?b", "usr/lib", "usr/l/b"),
            ("/usr/lib[36]4", "usr/lib64", "usr/lib4"),
            ("/usr/lib[!x]4", "usr/lib64", "usr/lib/4"),
            ("/usr/lib[^x-]4", "usr/lib64", "usr/lib-4"),
            ("/usr/lib[^x-]4", "usr/lib64", "usr/lib/4"),
            ("/usr/lib[!]]4", "usr/lib64", "usr/lib/4"),
            ("/usr/lib[!]]4", "usr/lib64", "usr/lib]4"),
            ("/usr/lib[!-]4", "usr/lib64", "usr/lib-4"),
            ("/usr/lib[!+-9]4", "usr/libx4", "usr/lib64"),
            ("/usr/[]-]", "usr/-", "usr/x"),
            ("/usr/{lib,bin}", "usr/{lib,bin}", "usr/bin"),
            ("/usr/[{a]", "usr/{", "usr/b"),
            ("\\{a", "usr/{a", "usr/a"),
            ("\\[a]", "usr/[a]", "usr/a"),
            ("\\*", "usr/*", "usr/x"),
        ] {
            assert!(
                glob(pattern).matches(matching.as_bytes(), false),
                "{pattern}"
            );
            assert!(!glob(pattern).matches(other.as_bytes(), false), "{pattern}");
        }
        assert!(glob("doc/").matches(b"usr/doc", true));
        assert!(!glob("doc/").matches(b"usr/doc", false));
        assert!(glob("*").matches(b"usr/\xff\xfe", false));
    }

    #[test]
    fn patterns_that_cannot_match_are_refused() {
        for text in [
            "", "/", "!x", "../x", "usr/./x", "[", "[]", "[!]", "x\\", "[z-a]", "a[b/c]", "[\\]]",
            "[+-9]", "[a--]",
        ] {
            assert!(text.parse::<PathGlob>().is_err(), "{text}");
        }
        let error = "[[:digit:]]".parse::<PathGlob>().unwrap_err().to_string();
        assert!(error.contains("write [0-9]"), "{error}");
    }

    #[test]
    fn what_lies_below_a_match_shares_its_verdict_and_excluding_wins() {
        let mut filter = filter(&["/usr/bin", "*.so"], &["secret/", "nothing"]);
        for (text, is_directory, included, excluded) in [
            ("usr", true, false, false),
            ("usr/bin", true, true, false),
            ("usr/bin/a/b", false, true, false),
            ("usr/bin/secret", true, true, true),
            ("usr/bin/secret/a", false, true, true),
            ("usr/bin/secret/a/b", false, true, true),
            ("usr/lib/x", false, false, false),
            ("usr/lib/x.so", false, true, false),
            ("usr/lib/secret", false, false, false),
        ] {
            let verdict = filter.judge(&path(text), is_directory);
            assert_eq!(
                (verdict.included, verdict.excluded),
                (included, excluded),
                "{text}"
            );
        }
        assert_eq!(filter.unused(), [vec![], vec!["nothing".to_owned()]]);
    }

    proptest! {
        /// Remembering the parent's verdict changes nothing, in whatever order entries come.
        #[test]
        fn the_order_of_entries_does_not_matter(
            names in proptest::collection::vec("[ab](/[ab]){0,3}", 1..20),
            pattern in "/?([ab]|\\*\\*?)(/([ab]|\\*\\*?)){0,2}/?",
        ) {
            let Ok(parsed) = pattern.parse::<PathGlob>() else { return Ok(()) };
            let rules = ContentRules { exclude: vec![parsed], ..ContentRules::default() };
            let mut together = Filter::new(&rules);
            for name in names {
                let alone = Filter::new(&rules).judge(&path(&name), false);
                prop_assert_eq!(together.judge(&path(&name), false), alone);
                // By the definition: it, or a directory above it.
                let mut prefixes = (1..name.len()).filter(|&end| name.as_bytes()[end] == b'/');
                let expected = rules.exclude[0].matches(name.as_bytes(), false)
                    || prefixes.any(|end| rules.exclude[0].matches(&name.as_bytes()[..end], true));
                prop_assert_eq!(alone.excluded, expected);
            }
        }
    }
}
