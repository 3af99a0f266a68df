//! Release files: os-release of a host and extension-release of an extension.
//!
//! Sources: os-release(5); UAPI.4; systemd `src/basic/env-file.c` for the syntax and
//! `src/shared/extension-util.c` for the comparison.

use std::fmt;

use crate::architecture::Architecture;
use crate::extension::ExtensionKind;

/// Keys and values in the order of the file; a key occurs once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseFile {
    fields: Vec<(String, String)>,
}

/// Larger files are refused: 1 MiB.
const MAX_BYTES: usize = 1024 * 1024;
/// True ones have some twenty fields.
const MAX_FIELDS: usize = 4096;

/// Why a release file cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// It is too large.
    #[error("release file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// It has too many fields.
    #[error("release file has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// It has a NUL byte.
    #[error("release file has a NUL byte")]
    Nul,
    /// A key or a value is no UTF-8.
    #[error("line {line} of the release file is no UTF-8")]
    NotUtf8 {
        /// Counted from 1; the last one of a value that has several.
        line: usize,
    },
}

/// A key or value that no release file can hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{key}={value} cannot be a field of a release file: a key is of A-Z, a-z, 0-9 and _, and a value has no control characters"
)]
pub struct InvalidField {
    /// The key, escaped.
    pub key: String,
    /// The value, escaped.
    pub value: String,
}

/// Where an extension may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A booted system.
    System,
    /// The initrd.
    Initrd,
    /// A portable service.
    Portable,
}

impl Scope {
    /// The name in `SYSEXT_SCOPE=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::System => "system",
            Scope::Initrd => "initrd",
            Scope::Portable => "portable",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why systemd passes over an extension, or fails, on a host.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Mismatch {
    /// Nothing merges on such a host.
    #[error("the host's os-release has no ID")]
    HostWithoutId,
    /// The release file says nothing.
    #[error("the release file is empty")]
    Empty,
    /// It is meant for elsewhere.
    #[error("the extension is for {allowed:?}, not for {wanted}")]
    Scope {
        /// What the extension says, or the default.
        allowed: String,
        /// What is asked for.
        wanted: Scope,
    },
    /// It is for other processors.
    #[error("the extension is for architecture {extension:?}, and the host is {host}")]
    Architecture {
        /// What the extension says.
        extension: String,
        /// What the host is.
        host: Architecture,
    },
    /// The extension does not say which system it is for.
    #[error("the release file has no ID; ID=_any would match every host")]
    NoId,
    /// It is for another system.
    #[error("the extension is for ID={extension}, and the host is {host}, like {host_like:?}")]
    Id {
        /// What the extension says.
        extension: String,
        /// `ID` of the host.
        host: String,
        /// `ID_LIKE` of the host.
        host_like: String,
    },
    /// It is for another level of the same system.
    #[error("the extension is for {field}={extension}, and the host has {host}")]
    Level {
        /// `SYSEXT_LEVEL` or `CONFEXT_LEVEL`.
        field: &'static str,
        /// What the extension says.
        extension: String,
        /// What the host says.
        host: String,
    },
    /// The extension does not say which version it is for.
    #[error("the release file has no VERSION_ID, and the host has {host}")]
    NoVersion {
        /// `VERSION_ID` of the host.
        host: String,
    },
    /// It is for another version of the same system.
    #[error("the extension is for VERSION_ID={extension}, and the host has {host}")]
    Version {
        /// What the extension says.
        extension: String,
        /// `VERSION_ID` of the host.
        host: String,
    },
}

/// What the release file of an extension says beyond the necessary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// Makes systemd reload its units when the extension is merged (systemd 255 and later).
    pub reload_manager: bool,
}

impl ReleaseFile {
    /// The release file of an extension that fits every system on one architecture.
    pub fn for_extension(architecture: Architecture, options: ReleaseOptions) -> ReleaseFile {
        let mut file = ReleaseFile::default();
        file.put("ID".to_owned(), "_any".to_owned());
        file.put(
            "ARCHITECTURE".to_owned(),
            architecture.systemd_name().to_owned(),
        );
        if options.reload_manager {
            file.put("EXTENSION_RELOAD_MANAGER".to_owned(), "1".to_owned());
        }
        file
    }

    /// The value of `key`, which may be empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// All keys and values in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Gives `key` a value, in the place of its former one if it has one.
    ///
    /// # Errors
    /// [`InvalidField`] for a key that is no shell variable, or control characters in the value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), InvalidField> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key_is_valid = !key.is_empty()
            && key.chars().all(allowed)
            && !key.starts_with(|c: char| c.is_ascii_digit());
        if !key_is_valid || value.chars().any(char::is_control) {
            return Err(InvalidField {
                key: key.escape_debug().to_string(),
                value: value.escape_debug().to_string(),
            });
        }
        self.put(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn put(&mut self, key: String, value: String) {
        match self.fields.iter_mut().find(|(k, _)| *k == key) {
            Some((_, place)) => *place = value,
            None => self.fields.push((key, value)),
        }
    }

    /// The file as text, one field a line.
    pub fn render(&self) -> String {
        let lines = self.fields().map(|(key, value)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-+./:,@%=".contains(c);
            if value.chars().all(plain) {
                return format!("{key}={value}\n");
            }
            let mut line = format!("{key}=\"");
            for c in value.chars() {
                if NEED_ESCAPE.contains(c) {
                    line.push('\\');
                }
                line.push(c);
            }
            line.push_str("\"\n");
            line
        });
        lines.collect()
    }

    /// Reads a file as systemd does, errors included; what is no assignment is passed over.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(content: &[u8]) -> Result<ReleaseFile, ParseError> {
        if content.len() > MAX_BYTES {
            return Err(ParseError::TooLarge);
        }
        if content.contains(&0) {
            return Err(ParseError::Nul);
        }
        let mut parser = Parser::default();
        for &byte in content {
            parser.read(byte)?;
        }
        parser.finish()
    }

    /// Whether systemd would merge the extension with this release file on `host`, tested in
    /// systemd's order.
    ///
    /// # Errors
    /// The first [`Mismatch`].
    pub fn matches(
        &self,
        host: &ReleaseFile,
        kind: ExtensionKind,
        scope: Scope,
        host_architecture: Architecture,
    ) -> Result<(), Mismatch> {
        let (scope_field, level_field) = match kind {
            ExtensionKind::Sysext => ("SYSEXT_SCOPE", "SYSEXT_LEVEL"),
            ExtensionKind::Confext => ("CONFEXT_SCOPE", "CONFEXT_LEVEL"),
        };
        let host_id = host.filled("ID").ok_or(Mismatch::HostWithoutId)?;
        if self.fields.is_empty() {
            return Err(Mismatch::Empty);
        }
        // Here an empty field is not the same as none.
        let scopes = self.get(scope_field).unwrap_or("system portable");
        if !words(scopes).any(|word| word == scope.as_str()) {
            return Err(Mismatch::Scope {
                allowed: scopes.to_owned(),
                wanted: scope,
            });
        }
        match self.filled("ARCHITECTURE") {
            None | Some("_any") => {}
            Some(name) if name == host_architecture.systemd_name() => {}
            Some(name) => {
                return Err(Mismatch::Architecture {
                    extension: name.to_owned(),
                    host: host_architecture,
                });
            }
        }
        let id = self.filled("ID").ok_or(Mismatch::NoId)?;
        if id == "_any" {
            return Ok(());
        }
        let host_like = host.get("ID_LIKE").unwrap_or_default();
        if id != host_id && !words(host_like).any(|word| word == id) {
            return Err(Mismatch::Id {
                extension: id.to_owned(),
                host: host_id.to_owned(),
                host_like: host_like.to_owned(),
            });
        }
        self.matches_version(host, level_field)
    }

    fn matches_version(
        &self,
        host: &ReleaseFile,
        level_field: &'static str,
    ) -> Result<(), Mismatch> {
        if let (Some(level), Some(host)) = (self.filled(level_field), host.filled(level_field)) {
            if level == host {
                return Ok(());
            }
            return Err(Mismatch::Level {
                field: level_field,
                extension: level.to_owned(),
                host: host.to_owned(),
            });
        }
        // Rolling systems have no version, and then the ID is enough.
        let Some(host) = host.filled("VERSION_ID") else {
            return Ok(());
        };
        match self.filled("VERSION_ID") {
            Some(version) if version == host => Ok(()),
            Some(version) => Err(Mismatch::Version {
                extension: version.to_owned(),
                host: host.to_owned(),
            }),
            None => Err(Mismatch::NoVersion {
                host: host.to_owned(),
            }),
        }
    }

    /// The value of `key` unless it is empty.
    fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }
}

/// `WHITESPACE` of systemd.
const WHITESPACE: &[char] = &[' ', '\t', '\n', '\r'];
/// `SHELL_NEED_ESCAPE` of systemd: what a backslash escapes in double quotes.
const NEED_ESCAPE: &str = "\"\\`$";

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(WHITESPACE).filter(|word| !word.is_empty())
}

/// The states of systemd's parser, so that every oddity is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    BeforeKey,
    Key,
    /// Behind the equals sign, or behind a closing quote.
    BeforeValue,
    Value,
    ValueEscape,
    SingleQuoted,
    DoubleQuoted,
    DoubleQuotedEscape,
    Comment,
    CommentEscape,
}

#[derive(Debug, Default)]
struct Parser {
    file: ReleaseFile,
    state: State,
    key: Vec<u8>,
    value: Vec<u8>,
    /// Length of the value without the blanks at its end that are outside of quotes.
    value_end: usize,
    line: usize,
}

impl Parser {
    fn read(&mut self, byte: u8) -> Result<(), ParseError> {
        let newline = matches!(byte, b'\n' | b'\r');
        let blank = WHITESPACE.contains(&char::from(byte));
        self.line += usize::from(byte == b'\n');
        match self.state {
            State::BeforeKey => match byte {
                b'#' | b';' => self.state = State::Comment,
                _ if blank => {}
                _ => {
                    self.key.push(byte);
                    self.state = State::Key;
                }
            },
            State::Key => match byte {
                _ if newline => {
                    self.key.clear();
                    self.state = State::BeforeKey;
                }
                b'=' => self.state = State::BeforeValue,
                _ => self.key.push(byte),
            },
            State::BeforeValue | State::Value if newline => {
                if self.state == State::Value {
                    self.value.truncate(self.value_end);
                }
                self.push()?;
            }
            State::BeforeValue => match byte {
                b'\'' => self.state = State::SingleQuoted,
                b'"' => self.state = State::DoubleQuoted,
                b'\\' => self.state = State::ValueEscape,
                _ if blank => {}
                _ => self.push_unquoted(byte, false),
            },
            State::Value => match byte {
                b'\\' => self.state = State::ValueEscape,
                _ => self.push_unquoted(byte, blank),
            },
            State::ValueEscape => {
                self.state = State::Value;
                if !newline {
                    self.push_unquoted(byte, false);
                } else {
                    self.value_end = self.value.len();
                }
            }
            State::SingleQuoted => match byte {
                b'\'' => self.state = State::BeforeValue,
                _ => self.value.push(byte),
            },
            State::DoubleQuoted => match byte {
                b'"' => self.state = State::BeforeValue,
                b'\\' => self.state = State::DoubleQuotedEscape,
                _ => self.value.push(byte),
            },
            State::DoubleQuotedEscape => {
                self.state = State::DoubleQuoted;
                if NEED_ESCAPE.contains(char::from(byte)) {
                    self.value.push(byte);
                } else if byte != b'\n' {
                    self.value.extend([b'\\', byte]);
                }
            }
            State::Comment if byte == b'\\' => self.state = State::CommentEscape,
            State::Comment | State::CommentEscape if newline => self.state = State::BeforeKey,
            State::Comment | State::CommentEscape => self.state = State::Comment,
        }
        Ok(())
    }

    fn push_unquoted(&mut self, byte: u8, blank: bool) {
        self.state = State::Value;
        self.value.push(byte);
        if !blank {
            self.value_end = self.value.len();
        }
    }

    /// Adds the field that was read.
    fn push(&mut self) -> Result<(), ParseError> {
        let not_utf8 = |_| ParseError::NotUtf8 {
            line: self.line.max(1),
        };
        let key = std::mem::take(&mut self.key);
        let value = std::mem::take(&mut self.value);
        let key = String::from_utf8(key).map_err(not_utf8)?;
        let value = String::from_utf8(value).map_err(not_utf8)?;
        self.file
            .put(key.trim_end_matches(WHITESPACE).to_owned(), value);
        if self.file.fields.len() > MAX_FIELDS {
            return Err(ParseError::TooManyFields);
        }
        self.state = State::BeforeKey;
        self.value_end = 0;
        Ok(())
    }

    /// The file, whose last line need not end.
    fn finish(mut self) -> Result<ReleaseFile, ParseError> {
        match self.state {
            State::BeforeKey | State::Key | State::Comment | State::CommentEscape => {}
            _ => {
                self.line += 1;
                if self.state == State::Value {
                    self.value.truncate(self.value_end);
                }
                self.push()?;
            }
        }
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(fields: &[(&str, &str)]) -> ReleaseFile {
        let mut file = ReleaseFile::default();
        for (key, value) in fields {
            file.set(key, value).unwrap();
        }
        file
    }

    #[test]
    fn a_new_extension_fits_every_system_on_its_architecture() {
        let plain = ReleaseFile::for_extension(Architecture::X86_64, ReleaseOptions::default());
        assert_eq!(plain.render(), "ID=_any\nARCHITECTURE=x86-64\n");
        let reload = ReleaseOptions {
            reload_manager: true,
        };
        assert_eq!(
            ReleaseFile::for_extension(Architecture::Arm64, reload).render(),
            "ID=_any\nARCHITECTURE=arm64\nEXTENSION_RELOAD_MANAGER=1\n"
        );
    }

    #[test]
    fn values_are_quoted_only_where_they_must_be() {
        let file = file(&[
            ("A", ""),
            ("B", "1.2-3_4:5/6,7@8+9"),
            ("C", "two words"),
            ("D", "a\"b\\c`d$e"),
            ("E", "\u{e4}#'"),
        ]);
        assert_eq!(
            file.render(),
            "A=\nB=1.2-3_4:5/6,7@8+9\nC=\"two words\"\nD=\"a\\\"b\\\\c\\`d\\$e\"\nE=\"\u{e4}#'\"\n"
        );
    }

    #[test]
    fn fields_that_no_file_can_hold_are_refused() {
        let mut file = ReleaseFile::default();
        for (key, value) in [
            ("", "x"),
            ("A B", "x"),
            ("1A", "x"),
            ("A", "x\ny"),
            ("A", "\0"),
        ] {
            assert!(file.set(key, value).is_err(), "{key:?}={value:?}");
        }
        assert_eq!(file, ReleaseFile::default());
    }

    /// What each text means was read off systemd's parser.
    #[test]
    fn files_are_read_as_systemd_reads_them() {
        let cases: [(&str, &[(&str, &str)]); 24] = [
            ("", &[]),
            ("A=1", &[("A", "1")]),
            ("A=1\n", &[("A", "1")]),
            ("  A  =  1 2  \n", &[("A", "1 2")]),
            ("A=\nB=2", &[("A", ""), ("B", "2")]),
            ("A", &[]),
            ("A\nB=2", &[("B", "2")]),
            ("A=1\r\nB=2\rC=3", &[("A", "1"), ("B", "2"), ("C", "3")]),
            ("# A=1\n; B=2\nC=3 # x", &[("C", "3 # x")]),
            ("# A=1\\\nB=2", &[("B", "2")]),
            ("A=\"1 2 \"", &[("A", "1 2 ")]),
            ("A='1\\\"2'", &[("A", "1\\\"2")]),
            ("A=\"a\\\"b\\\\c\\$d\\`e\\nf\"", &[("A", "a\"b\\c$d`e\\nf")]),
            ("A=\"one\\\ntwo\"", &[("A", "onetwo")]),
            ("A=\"one\ntwo\"", &[("A", "one\ntwo")]),
            ("A=one\\\ntwo", &[("A", "onetwo")]),
            ("A=one\\ \nB=2", &[("A", "one "), ("B", "2")]),
            ("A='1'  \"2\" 3", &[("A", "123")]),
            ("A=1'2'", &[("A", "1'2'")]),
            ("A=\\'", &[("A", "'")]),
            ("A=\"open\nB=2", &[("A", "open\nB=2")]),
            ("A=1=2", &[("A", "1=2")]),
            ("A=1\nB=2\nA=3", &[("A", "3"), ("B", "2")]),
            ("A B=1", &[("A B", "1")]),
        ];
        for (text, expected) in cases {
            let parsed = ReleaseFile::parse(text.as_bytes()).unwrap();
            let fields: Vec<(&str, &str)> = parsed.fields().collect();
            assert_eq!(fields, expected, "{text:?}");
        }
    }

    #[test]
    fn files_that_systemd_refuses_are_refused() {
        assert_eq!(ReleaseFile::parse(b"A=1\0"), Err(ParseError::Nul));
        assert_eq!(
            ReleaseFile::parse(b"A=1\nB=\xff\n"),
            Err(ParseError::NotUtf8 { line: 2 })
        );
        assert_eq!(
            ReleaseFile::parse(b"A=1\n\nB=\xff"),
            Err(ParseError::NotUtf8 { line: 3 })
        );
        assert_eq!(
            ReleaseFile::parse(&vec![b'#'; MAX_BYTES + 1]),
            Err(ParseError::TooLarge)
        );
        let many: String = (0..=MAX_FIELDS).map(|n| format!("A{n}=\n")).collect();
        assert_eq!(
            ReleaseFile::parse(many.as_bytes()),
            Err(ParseError::TooManyFields)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(fields in proptest::collection::vec(("[A-Za-z_][A-Za-z0-9_]{0,5}", "\\PC{0,20}"), 0..8)) {
            let mut file = ReleaseFile::default();
            for (key, value) in &fields {
                file.set(key, value).unwrap();
            }
            prop_assert_eq!(ReleaseFile::parse(file.render().as_bytes()), Ok(file));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(content in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\\'), Just(b'"'), Just(b'='), Just(b'\n'), Just(b'A')], 0..200)) {
            let _ = ReleaseFile::parse(&content);
        }
    }

    const DEBIAN: &[(&str, &str)] = &[("ID", "debian"), ("VERSION_ID", "13")];
    const UBUNTU: &[(&str, &str)] = &[
        ("ID", "ubuntu"),
        ("ID_LIKE", "debian other"),
        ("VERSION_ID", "24.04"),
        ("SYSEXT_LEVEL", "2"),
        ("CONFEXT_LEVEL", "3"),
    ];
    const ROLLING: &[(&str, &str)] = &[("ID", "arch")];
    const LEVEL_ONLY: &[(&str, &str)] = &[("ID", "flat"), ("SYSEXT_LEVEL", "2")];

    fn verdict(host: &[(&str, &str)], extension: &[(&str, &str)]) -> &'static str {
        let verdict = file(extension).matches(
            &file(host),
            ExtensionKind::Sysext,
            Scope::System,
            Architecture::X86_64,
        );
        match verdict {
            Ok(()) => "merged",
            Err(Mismatch::HostWithoutId) => "host",
            Err(Mismatch::Empty) => "empty",
            Err(Mismatch::Scope { .. }) => "scope",
            Err(Mismatch::Architecture { .. }) => "architecture",
            Err(Mismatch::NoId) => "no id",
            Err(Mismatch::Id { .. }) => "id",
            Err(Mismatch::Level { .. }) => "level",
            Err(Mismatch::NoVersion { .. }) => "no version",
            Err(Mismatch::Version { .. }) => "version",
        }
    }

    /// The rules once more, as prose has them rather than code.
    fn expected(
        architecture: Option<&str>,
        id: Option<&str>,
        version: Option<&str>,
        level: Option<&str>,
        scope: Option<&str>,
    ) -> &'static str {
        if [architecture, id, version, level, scope] == [None; 5] {
            return "empty";
        }
        if matches!(scope, Some("" | "portable" | "initrd")) {
            return "scope";
        }
        if architecture == Some("arm64") {
            return "architecture";
        }
        match id {
            None | Some("") => return "no id",
            Some("_any") => return "merged",
            Some("fedora") => return "id",
            _ => {}
        }
        match (level, version) {
            (Some("2"), _) => "merged",
            (Some("1"), _) => "level",
            (_, Some("24.04")) => "merged",
            (_, Some("12")) => "version",
            _ => "no version",
        }
    }

    #[test]
    fn every_combination_of_fields_gives_the_verdict_of_systemd() {
        let none_or = |values: &'static [&'static str]| {
            [None].into_iter().chain(values.iter().copied().map(Some))
        };
        let mut combinations = 0;
        for architecture in none_or(&["x86-64", "_any", "", "arm64"]) {
            for id in none_or(&["ubuntu", "debian", "_any", "fedora", ""]) {
                for version in none_or(&["24.04", "12", ""]) {
                    for level in none_or(&["2", "1", ""]) {
                        for scope in none_or(&["system", "portable", "initrd", "", "initrd system"])
                        {
                            let fields: Vec<(&str, &str)> = [
                                ("ARCHITECTURE", architecture),
                                ("ID", id),
                                ("VERSION_ID", version),
                                ("SYSEXT_LEVEL", level),
                                ("SYSEXT_SCOPE", scope),
                            ]
                            .into_iter()
                            .filter_map(|(key, value)| Some((key, value?)))
                            .collect();
                            assert_eq!(
                                verdict(UBUNTU, &fields),
                                expected(architecture, id, version, level, scope),
                                "{fields:?}"
                            );
                            combinations += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(combinations, 5 * 6 * 4 * 4 * 6);
    }

    #[test]
    fn hosts_without_versions_or_levels_are_content_with_less() {
        for (host, extension, expected) in [
            (
                DEBIAN,
                &[("ID", "debian"), ("SYSEXT_LEVEL", "1")][..],
                "no version",
            ),
            (DEBIAN, &[("ID", "debian"), ("VERSION_ID", "13")], "merged"),
            (DEBIAN, &[("ID", "ubuntu"), ("VERSION_ID", "13")], "id"),
            (ROLLING, &[("ID", "arch")], "merged"),
            (ROLLING, &[("ID", "arch"), ("VERSION_ID", "1")], "merged"),
            (ROLLING, &[("ID", "arch"), ("SYSEXT_LEVEL", "1")], "merged"),
            (LEVEL_ONLY, &[("ID", "flat")], "merged"),
            (
                LEVEL_ONLY,
                &[("ID", "flat"), ("SYSEXT_LEVEL", "1")],
                "level",
            ),
            (&[("VERSION_ID", "1")], &[("ID", "_any")], "host"),
            (&[("ID", "")], &[("ID", "_any")], "host"),
        ] {
            assert_eq!(verdict(host, extension), expected, "{extension:?}");
        }
    }

    #[test]
    fn confexts_have_scope_and_level_of_their_own() {
        let matches = |fields: &[(&str, &str)], scope| {
            file(fields).matches(
                &file(UBUNTU),
                ExtensionKind::Confext,
                scope,
                Architecture::X86_64,
            )
        };
        let sysext = [("ID", "ubuntu"), ("SYSEXT_LEVEL", "2")];
        assert!(matches(&sysext, Scope::System).is_err());
        let confext = [
            ("ID", "ubuntu"),
            ("CONFEXT_LEVEL", "3"),
            ("SYSEXT_SCOPE", "portable"),
        ];
        assert_eq!(matches(&confext, Scope::System), Ok(()));
        assert_eq!(matches(&confext, Scope::Portable), Ok(()));
        assert!(matches(&confext, Scope::Initrd).is_err());
        let initrd = [("ID", "_any"), ("CONFEXT_SCOPE", "initrd")];
        assert_eq!(matches(&initrd, Scope::Initrd), Ok(()));
    }
}
