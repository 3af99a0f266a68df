//! Release files: what an extension says of itself, what a host says of itself, and whether the one
//! fits the other.
//!
//! Syntax: os-release(5), as systemd's `src/basic/env-file.c` reads it. Rules of matching: systemd's
//! `extension_release_validate()` in `src/shared/extension-util.c`, the same from 257 to 262.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use crate::architecture::Architecture;
use crate::extension::ExtensionKind;
use crate::printable::printable;

/// A list of `KEY=VALUE`, in order, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseFile {
    fields: Vec<(String, String)>,
}

/// Why a file is not a release file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRelease {
    /// Larger than any sensible one.
    #[error("the release file has {0} bytes, more than 1 MiB")]
    TooLarge(usize),
    /// More fields than any sensible one has.
    #[error("the release file has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// Not text.
    #[error("the release file is not UTF-8")]
    NotText,
}

/// Where an extension is to be merged (`SYSEXT_SCOPE`, `CONFEXT_SCOPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A booted system.
    System,
    /// The initial file system of a boot.
    Initrd,
    /// A portable service.
    Portable,
}

/// Why an extension would not be merged on a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The release file has no field at all.
    #[error("the release file is empty")]
    Empty,
    /// The scope is not among the extension's.
    #[error("{key}={found:?} does not name {wanted}")]
    Scope {
        /// `SYSEXT_SCOPE` or `CONFEXT_SCOPE`.
        key: &'static str,
        /// Its value.
        found: String,
        /// The scope of the host.
        wanted: &'static str,
    },
    /// For another CPU.
    #[error("ARCHITECTURE={found} is not the host's, {host}")]
    Architecture {
        /// What the extension says.
        found: String,
        /// What the host is.
        host: Architecture,
    },
    /// The extension does not say for which distribution it is.
    #[error("the release file has no ID")]
    NoId,
    /// For another distribution.
    #[error("ID={found} is neither the host's ID {host} nor in its ID_LIKE")]
    Id {
        /// What the extension says.
        found: String,
        /// What the host says.
        host: String,
    },
    /// For another level or version of the distribution.
    #[error("{key}={found} is not the host's, {host}")]
    Version {
        /// `SYSEXT_LEVEL`, `CONFEXT_LEVEL` or `VERSION_ID`.
        key: &'static str,
        /// What the extension says; empty if it says nothing.
        found: String,
        /// What the host says.
        host: String,
    },
}

/// Larger release files are not read.
pub const MAX_BYTES: usize = 1 << 20;
/// Files with more fields are refused; every field is compared with those before it.
const MAX_FIELDS: usize = 1024;
/// What a backslash takes its meaning from within double quotes (`SHELL_NEED_ESCAPE`).
const ESCAPED_IN_QUOTES: &str = "\"\\`$";
/// What an extension without a scope field is for.
const DEFAULT_SCOPES: &str = "system portable";

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; there are system, initrd and portable")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Scope::System, Scope::Initrd, Scope::Portable];
        let known = all.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

impl Scope {
    /// The word for it in release files.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::System => "system",
            Scope::Initrd => "initrd",
            Scope::Portable => "portable",
        }
    }
}

impl ReleaseFile {
    /// The value of `key`; the last one where a file has several.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(candidate, _)| candidate == key)
            .map(|(_, value)| value.as_str())
    }

    /// Gives `key` a value, in the place of the one it had.
    pub fn set(&mut self, key: &str, value: &str) {
        match self
            .fields
            .iter_mut()
            .find(|(candidate, _)| candidate == key)
        {
            Some((_, old)) => value.clone_into(old),
            None => self.fields.push((key.to_owned(), value.to_owned())),
        }
    }

    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The file's text: a line for each field, quoted where it must be. Control characters, for
    /// which os-release(5) has no notation, are written as [`printable`] shows them.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (key, value) in &self.fields {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-+:/@,~^".contains(c);
            let value = match value.contains(char::is_control) {
                true => Cow::Owned(printable(value.as_bytes())),
                false => Cow::Borrowed(value),
            };
            // Writing into a String cannot fail.
            let _ = if value.chars().all(plain) {
                writeln!(text, "{key}={value}")
            } else {
                writeln!(text, "{key}=\"{}\"", escape(&value))
            };
        }
        text
    }

    /// Reads a file as systemd does: comments, single and double quotes, backslashes, line
    /// continuations; lines without `=` are passed over.
    ///
    /// # Errors
    /// See [`InvalidRelease`].
    pub fn parse(bytes: &[u8]) -> Result<ReleaseFile, InvalidRelease> {
        if bytes.len() > MAX_BYTES {
            return Err(InvalidRelease::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidRelease::NotText)?;
        let mut parser = Parser { rest: text };
        let mut release = ReleaseFile::default();
        while let Some((key, value)) = parser.next_field() {
            release.set(key, &value);
            if release.fields.len() > MAX_FIELDS {
                return Err(InvalidRelease::TooManyFields);
            }
        }
        Ok(release)
    }

    /// Whether an extension with this release file would be merged on a host with the os-release
    /// `host`. The checks are systemd's, in its order.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn matches(
        &self,
        host: &ReleaseFile,
        kind: ExtensionKind,
        scope: Scope,
        architecture: Architecture,
    ) -> Result<(), Mismatch> {
        if self.fields.is_empty() {
            return Err(Mismatch::Empty);
        }
        let (scope_key, level_key) = match kind {
            ExtensionKind::Sysext => ("SYSEXT_SCOPE", "SYSEXT_LEVEL"),
            ExtensionKind::Confext => ("CONFEXT_SCOPE", "CONFEXT_LEVEL"),
        };
        let scopes = self.get(scope_key).unwrap_or(DEFAULT_SCOPES);
        if !scopes
            .split_ascii_whitespace()
            .any(|word| word == scope.as_str())
        {
            return Err(Mismatch::Scope {
                key: scope_key,
                found: scopes.to_owned(),
                wanted: scope.as_str(),
            });
        }
        match self.get("ARCHITECTURE") {
            None | Some("" | "_any") => {}
            Some(found) if found == architecture.systemd_name() => {}
            Some(found) => {
                return Err(Mismatch::Architecture {
                    found: found.to_owned(),
                    host: architecture,
                });
            }
        }
        match self.get("ID") {
            None | Some("") => Err(Mismatch::NoId),
            Some("_any") => Ok(()),
            Some(id) if !host.is_like(id) => Err(Mismatch::Id {
                found: id.to_owned(),
                host: host.get("ID").unwrap_or_default().to_owned(),
            }),
            Some(_) => self.matches_version(host, level_key),
        }
    }

    /// Whether this host's ID is `id`, or it says that it is like it.
    fn is_like(&self, id: &str) -> bool {
        let like = self.get("ID_LIKE").unwrap_or_default();
        self.get("ID") == Some(id) || like.split_ascii_whitespace().any(|word| word == id)
    }

    fn matches_version(&self, host: &ReleaseFile, level_key: &'static str) -> Result<(), Mismatch> {
        let present = |release: &ReleaseFile, key| {
            release
                .get(key)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        let demand = |key, found: String, host: String| {
            if found == host {
                Ok(())
            } else {
                Err(Mismatch::Version { key, found, host })
            }
        };
        match (
            present(self, level_key),
            present(host, level_key),
            present(host, "VERSION_ID"),
        ) {
            (Some(own), Some(host), _) => demand(level_key, own, host),
            (_, _, Some(version)) => {
                let own = present(self, "VERSION_ID").unwrap_or_default();
                demand("VERSION_ID", own, version)
            }
            // A rolling host, or one whose level the extension does not name.
            _ => Ok(()),
        }
    }
}

fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if ESCAPED_IN_QUOTES.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn next_field(&mut self) -> Option<(&'a str, String)> {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if self.rest.is_empty() {
                return None;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            let (line, following) = self.rest.split_at(end);
            match line.split_once('=') {
                Some((key, _)) if !line.starts_with(['#', ';']) => {
                    self.rest = &self.rest[key.len() + 1..];
                    return Some((key.trim_end(), self.value()));
                }
                _ => self.rest = following,
            }
        }
    }

    /// Reads up to the end of the line outside of quotes. Quotes that nobody closes end with the
    /// file, as in systemd.
    fn value(&mut self) -> String {
        let mut value = String::new();
        // Where the value ends, blanks behind it not counted.
        let mut end = 0;
        let mut quote = None;
        let mut chars = self.rest.trim_start_matches([' ', '\t']).chars();
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\n', None) => break,
                ('\\', None | Some('"')) => {
                    let Some(escaped) = chars.next().filter(|&escaped| escaped != '\n') else {
                        continue;
                    };
                    if quote.is_some() && !ESCAPED_IN_QUOTES.contains(escaped) {
                        value.push('\\');
                    }
                    value.push(escaped);
                    end = value.len();
                }
                ('"' | '\'', None) => {
                    quote = Some(c);
                    end = value.len();
                }
                (c, Some(open)) if c == open => {
                    quote = None;
                    // systemd is then as before the value: blanks do not count.
                    chars = chars.as_str().trim_start_matches([' ', '\t']).chars();
                }
                (c, _) => {
                    value.push(c);
                    if quote.is_some() || !c.is_whitespace() {
                        end = value.len();
                    }
                }
            }
        }
        self.rest = chars.as_str();
        value.truncate(end);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn release(text: &str) -> ReleaseFile {
        ReleaseFile::parse(text.as_bytes()).unwrap()
    }

    fn judge(extension: &str, host: &str) -> Result<(), Mismatch> {
        let architecture = Architecture::X86_64;
        release(extension).matches(
            &release(host),
            ExtensionKind::Sysext,
            Scope::System,
            architecture,
        )
    }

    #[test]
    fn files_with_absurdly_many_fields_are_refused() {
        let fields = |count| (0..count).map(|i| format!("K{i}=\n")).collect::<String>();
        let parse = |count| ReleaseFile::parse(fields(count).as_bytes());
        assert_eq!(parse(MAX_FIELDS).unwrap().fields().count(), MAX_FIELDS);
        assert_eq!(parse(MAX_FIELDS + 1), Err(InvalidRelease::TooManyFields));
        let same = "ID=x\n".repeat(MAX_FIELDS + 1);
        assert_eq!(
            ReleaseFile::parse(same.as_bytes())
                .unwrap()
                .fields()
                .count(),
            1
        );
    }

    #[test]
    fn the_syntax_is_that_of_os_release() {
        let text = "# comment\n; another\n\nA=1\n B = two words \nC=\"q \\\" \\x\" # not a comment\n\
                    D='single $x \\'\nE=a\\\nb\nF=\nno equals\nA=last\nG=\"over\ntwo\"\nH=\"open";
        let fields: Vec<(String, String)> = release(text)
            .fields()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let expected = [
            ("A", "last"),
            ("B", "two words"),
            ("C", "q \" \\x# not a comment"),
            ("D", "single $x \\"),
            ("E", "ab"),
            ("F", ""),
            ("G", "over\ntwo"),
            ("H", "open"),
        ];
        assert_eq!(
            fields,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_cannot_be_a_release_file_is_refused() {
        assert_eq!(ReleaseFile::parse(b"A=\xff"), Err(InvalidRelease::NotText));
        let large = vec![b'a'; MAX_BYTES + 1];
        assert!(matches!(
            ReleaseFile::parse(&large),
            Err(InvalidRelease::TooLarge(_))
        ));
    }

    #[test]
    fn id_levels_and_versions_match_as_systemd_matches_them() {
        const DEBIAN: &str = "ID=debian\nVERSION_ID=13";
        const LEVELLED: &str =
            "ID=flatcar\nID_LIKE=\"coreos gentoo\"\nVERSION_ID=1\nSYSEXT_LEVEL=2.0";
        const ROLLING: &str = "ID=arch";
        for (extension, host, merged) in [
            ("ID=_any", DEBIAN, true),
            ("ID=_any\nVERSION_ID=12\nSYSEXT_LEVEL=9", DEBIAN, true),
            ("ID=debian\nVERSION_ID=13", DEBIAN, true),
            ("ID=debian\nVERSION_ID=12", DEBIAN, false),
            ("ID=debian", DEBIAN, false),
            ("ID=debian\nSYSEXT_LEVEL=1", DEBIAN, false),
            ("ID=debian\nVERSION_ID=13\nSYSEXT_LEVEL=1", DEBIAN, true),
            ("ID=fedora\nVERSION_ID=13", DEBIAN, false),
            ("VERSION_ID=13", DEBIAN, false),
            ("", DEBIAN, false),
            ("ID=flatcar\nSYSEXT_LEVEL=2.0", LEVELLED, true),
            ("ID=coreos\nSYSEXT_LEVEL=2.0\nVERSION_ID=9", LEVELLED, true),
            ("ID=gentoo\nSYSEXT_LEVEL=1.0\nVERSION_ID=1", LEVELLED, false),
            ("ID=flatcar\nVERSION_ID=1", LEVELLED, true),
            ("ID=arch", ROLLING, true),
            ("ID=arch\nVERSION_ID=5", ROLLING, true),
            ("ID=flatcar", "ID=flatcar\nSYSEXT_LEVEL=1", true),
        ] {
            assert_eq!(
                judge(extension, host).is_ok(),
                merged,
                "{extension:?} on {host:?}"
            );
        }
    }

    #[test]
    fn scope_and_architecture_match_as_systemd_matches_them() {
        for (extension, merged) in [
            ("", true),
            ("SYSEXT_SCOPE=system", true),
            ("SYSEXT_SCOPE=\"initrd system\"", true),
            ("SYSEXT_SCOPE=initrd", false),
            ("SYSEXT_SCOPE=", false),
            ("CONFEXT_SCOPE=initrd", true),
            ("ARCHITECTURE=x86-64", true),
            ("ARCHITECTURE=_any", true),
            ("ARCHITECTURE=", true),
            ("ARCHITECTURE=amd64", false),
            ("ARCHITECTURE=x86_64", false),
            ("ARCHITECTURE=native", false),
            ("ARCHITECTURE=arm64", false),
        ] {
            let extension = format!("ID=_any\n{extension}");
            assert_eq!(
                judge(&extension, "ID=debian").is_ok(),
                merged,
                "{extension:?}"
            );
        }
        let mismatch = judge("ID=_any\nSYSEXT_SCOPE=initrd", "ID=x").unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            "SYSEXT_SCOPE=\"initrd\" does not name system"
        );
    }

    proptest! {
        #[test]
        fn a_file_reads_back_what_it_renders(values in prop::collection::vec("(?s).{0,30}", 0..6)) {
            let mut original = ReleaseFile::default();
            let mut shown = ReleaseFile::default();
            for (number, value) in values.iter().enumerate() {
                original.set(&format!("KEY_{number}"), value);
                shown.set(&format!("KEY_{number}"), &printable(value.as_bytes()));
            }
            let text = original.render();
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
            prop_assert_eq!(text.lines().count(), values.len());
            prop_assert_eq!(ReleaseFile::parse(text.as_bytes()), Ok(shown));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = ReleaseFile::parse(&bytes);
        }
    }
}
