//! Which artefact a user means.

use regex::RegexBuilder;

use super::store::Artefact;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::printable::printable;

/// A larger compiled expression is refused.
const MAX_EXPRESSION_BYTES: usize = 1 << 20;

/// What to do where an exact name has several versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// Take the newest one.
    Newest,
    /// Take all of them.
    All,
    /// Ask the user.
    Refuse,
}

/// Why a text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// Nothing has that name or matches.
    #[error("extension {0} not found")]
    NotFound(String),
    /// It would be a guess.
    #[error("{text} may be any of {}; name one of them", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// The file names that it may stand for.
        candidates: Vec<String>,
    },
    /// It is neither a name nor an expression.
    #[error("{text} is no extension's name, and no regular expression either: {problem}")]
    Expression {
        /// What was asked for.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Finds what `text` stands for: a file name with or without its suffix, an extension's name, or its
/// name and version win; else it is a regular expression that has to match exactly one file name,
/// beginning before its suffix: what only `.raw` matches is a part of every name.
///
/// # Errors
/// [`SelectError`].
pub fn select<'a>(
    text: &str,
    kind: ExtensionKind,
    artefacts: &[&'a Artefact],
    several: Several,
) -> Result<Vec<&'a Artefact>, SelectError> {
    let those = |wanted: &dyn Fn(&Artefact) -> bool| -> Vec<&'a Artefact> {
        let found = artefacts.iter().copied();
        found.filter(|artefact| wanted(artefact)).collect()
    };
    let by_file = those(&|artefact| artefact.file.file() == text);
    if !by_file.is_empty() {
        return Ok(by_file);
    }
    let named = those(&|artefact| artefact.name().as_str() == text);
    if !named.is_empty() {
        return choose(text, named, several);
    }
    let exact = those(&|artefact| is_exactly(text, artefact, kind));
    if !exact.is_empty() {
        return choose(text, exact, Several::Refuse);
    }
    let expression = compile(text)?;
    let matching = those(&|artefact| {
        let found = expression.find(artefact.file.file());
        found.is_some_and(|found| found.start() < bare_stem(artefact, kind).len())
    });
    choose(text, matching, Several::Refuse)
}

/// The same, where it has to be one.
///
/// # Errors
/// [`SelectError`].
pub fn select_one<'a>(
    text: &str,
    kind: ExtensionKind,
    artefacts: &[&'a Artefact],
    several: Several,
) -> Result<&'a Artefact, SelectError> {
    match select(text, kind, artefacts, several)?.as_slice() {
        [one] => Ok(one),
        many => Err(ambiguous(text, many)),
    }
}

/// Whether `text` is the file name without suffix, or name and version.
fn is_exactly(text: &str, artefact: &Artefact, kind: ExtensionKind) -> bool {
    let file = artefact.file.file();
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    let of_version = |name: &ExtensionName| match artefact.version() {
        Some(version) => text == format!("{name}_{version}"),
        None => false,
    };
    text == stem || text == bare_stem(artefact, kind) || of_version(artefact.name())
}

/// The file name without `.raw`, `.sysext.raw` or `.confext.raw`.
fn bare_stem(artefact: &Artefact, kind: ExtensionKind) -> &str {
    let file = artefact.file.file();
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    let bare = stem.strip_suffix(kind.as_str());
    bare.and_then(|stem| stem.strip_suffix('.')).unwrap_or(stem)
}

fn choose<'a>(
    text: &str,
    mut found: Vec<&'a Artefact>,
    several: Several,
) -> Result<Vec<&'a Artefact>, SelectError> {
    found.sort_by(|a, b| (b.version(), &a.file).cmp(&(a.version(), &b.file)));
    match (found.as_slice(), several) {
        ([], _) => Err(SelectError::NotFound(printable(text.as_bytes()))),
        ([_], _) | (_, Several::All) => Ok(found),
        ([newest, next, ..], Several::Newest) if newest.version() != next.version() => {
            Ok(vec![*newest])
        }
        _ => Err(ambiguous(text, &found)),
    }
}

fn ambiguous(text: &str, found: &[&Artefact]) -> SelectError {
    let files = found.iter().map(|artefact| artefact.file.to_string());
    SelectError::Ambiguous {
        text: printable(text.as_bytes()),
        candidates: files.collect(),
    }
}

fn compile(text: &str) -> Result<regex::Regex, SelectError> {
    if text.is_empty() {
        return Err(SelectError::NotFound("\"\"".to_owned()));
    }
    let compiled = RegexBuilder::new(text)
        .size_limit(MAX_EXPRESSION_BYTES)
        .build();
    compiled.map_err(|error| {
        let words = error.to_string();
        // The error shows the place in the expression on lines of their own.
        let problem = words.lines().last().unwrap_or_default();
        SelectError::Expression {
            text: printable(text.as_bytes()),
            problem: problem.trim_start_matches("error: ").to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::artefact::ArtefactName;
    use crate::node::store::{FileIdentity, Named};

    const KIND: ExtensionKind = ExtensionKind::Sysext;

    /// What an image with this file name would say of itself.
    fn named(file: &str) -> Option<Named> {
        let file = ArtefactName::parse(file, KIND).unwrap();
        let name: ExtensionName = file.stem().as_str().split('_').next()?.parse().ok()?;
        let version = file.version_of(&name);
        Some(Named { name, version })
    }

    fn stored(files: &[&str]) -> Vec<Artefact> {
        let artefact = |file: &&str| Artefact {
            file: ArtefactName::parse(file, KIND).unwrap(),
            identity: FileIdentity {
                size: 0,
                inode: 0,
                modified: 0,
            },
            record: None,
            named: named(file),
            was_changed: false,
        };
        files.iter().map(artefact).collect()
    }

    fn selected(text: &str, files: &[&str], several: Several) -> Result<String, SelectError> {
        let stored = stored(files);
        let all: Vec<&Artefact> = stored.iter().collect();
        select_one(text, KIND, &all, several).map(|artefact| artefact.file.to_string())
    }

    #[test]
    fn an_exact_name_wins_over_what_matches() {
        let files = ["k3s-agent.raw", "k3s.sysext.raw", "my-k3s.raw"];
        for text in ["k3s", "k3s.sysext", "k3s.sysext.raw"] {
            let found = selected(text, &files, Several::Refuse);
            assert_eq!(found.as_deref(), Ok("k3s.sysext.raw"), "{text}");
        }
    }

    #[test]
    fn real_names_with_signs_of_expressions_match_themselves() {
        let file = "k3s-v1.29.2+k3s1.sysext.raw";
        for text in ["k3s-v1.29.2+k3s1", file, "k3s", "v1.29"] {
            assert_eq!(selected(text, &[file], Several::Refuse).unwrap(), file);
        }
        let both = [file, "k3s-v1x29.2k3s1.sysext.raw"];
        assert_eq!(
            selected("k3s-v1.29.2+k3s1", &both, Several::Refuse).unwrap(),
            file
        );
    }

    #[test]
    fn of_several_versions_the_newest_is_taken_where_that_is_wanted() {
        let files = ["k3s_1.9.raw", "k3s_1.10.raw", "k3s_1.10~rc1.raw"];
        assert_eq!(
            selected("k3s", &files, Several::Newest).unwrap(),
            "k3s_1.10.raw"
        );
        assert_eq!(
            selected("k3s_1.9", &files, Several::Newest).unwrap(),
            "k3s_1.9.raw"
        );
        assert!(matches!(
            selected("k3s", &files, Several::Refuse),
            Err(SelectError::Ambiguous { candidates, .. }) if candidates.len() == 3
        ));
    }

    #[test]
    fn versions_that_are_equal_are_no_order() {
        let files = ["k3s_1_x86-64.raw", "k3s_1_arm64.raw"];
        assert!(matches!(
            selected("k3s", &files, Several::Newest),
            Err(SelectError::Ambiguous { .. })
        ));
        assert!(matches!(
            selected("k3s_1", &files, Several::Newest),
            Err(SelectError::Ambiguous { .. })
        ));
    }

    #[test]
    fn an_expression_must_match_exactly_one() {
        let files = ["docker-24.raw", "docker-27.raw", "k3s.raw"];
        assert_eq!(
            selected("^docker-2[5-9]", &files, Several::Refuse).unwrap(),
            "docker-27.raw"
        );
        let error = selected("docker", &files, Several::Newest).unwrap_err();
        assert_eq!(
            error.to_string(),
            "docker may be any of docker-24.raw, docker-27.raw; name one of them"
        );
    }

    #[test]
    fn what_every_name_ends_in_selects_none() {
        for text in ["a", "raw", "sysext", "s", r"\.raw$"] {
            let found = selected(text, &["k3.sysext.raw"], Several::Refuse);
            assert_eq!(found, Err(SelectError::NotFound(text.to_owned())));
        }
        assert!(selected("k.*raw$", &["k3.sysext.raw"], Several::Refuse).is_ok());
    }

    #[test]
    fn what_selects_nothing_is_said_in_one_line() {
        for text in ["", "x", "(", "a{99999}{9999}", "\x1b[2J"] {
            let error = selected(text, &["k3s.raw"], Several::Newest).unwrap_err();
            assert!(!error.to_string().contains(['\n', '\x1b']), "{error}");
        }
        assert_eq!(
            selected("nothing", &["k3s.raw"], Several::Newest).unwrap_err(),
            SelectError::NotFound("nothing".to_owned())
        );
    }
}
