//! What an extension says of itself: the content of its release file, put together such that systemd
//! reads what was meant.
//!
//! Fields: UAPI.4, os-release(5), systemd-sysext(8). What is checked against what is in
//! [`ReleaseFile::matches`].

use std::fmt;
use std::str::FromStr;

use crate::architecture::Architecture;
use crate::extension::ExtensionKind;
use crate::image_file::ExtensionVersion;
use crate::provenance::{self, Provenance};
use crate::release::{Mismatch, ReleaseFile, Scope};
use crate::unit_name::UnitName;

/// A wish of a user that no release file can express, or that systemd would not honour.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidField {
    /// Not a value of `ID`, `VERSION_ID` or a level.
    #[error("{0:?} is no identifier of os-release(5): it may have a-z, 0-9 and . _ - only")]
    Label(String),
    /// A unit is to be restarted, and to be reloaded.
    #[error("the unit {0} is to be restarted and to be reloaded; systemd would only restart it")]
    Twice(UnitName),
    /// Not of the form `KEY=VALUE`.
    #[error(
        "{0:?} is no field: write KEY=VALUE, with A-Z, 0-9 and _ in KEY, and one line of text in VALUE"
    )]
    Form(String),
    /// A field that has an argument of its own.
    #[error("the field {key} is set by {by}")]
    Governed {
        /// The field.
        key: String,
        /// What sets it.
        by: &'static str,
    },
    /// The os-release of a host does not say what it is.
    #[error("it has no ID, so that no extension for this host alone can be made")]
    NoHostId,
    /// The os-release of a host has what no extension could ask for.
    #[error(
        "its {key} {text:?} is no identifier of os-release(5), which has a-z, 0-9 and . _ - only"
    )]
    HostValue {
        /// The field.
        key: String,
        /// Its value.
        text: String,
    },
    /// The os-release is no host's.
    #[error(
        "its ID is _any, as extensions for every host have it: name the os-release of a host, or leave \
         --from-os-release out"
    )]
    HostIsAny,
    /// One field is given two values.
    #[error("the field {0} is given twice; it can have one value only")]
    Repeated(String),
    /// A value that would break the lines of the file.
    #[error("the value of {key} has control characters: {value:?}")]
    Control {
        /// The field.
        key: String,
        /// Its value.
        value: String,
    },
    /// The result would never be merged there.
    #[error("an extension with these fields is never merged there: {0}")]
    NeverMerged(Mismatch),
}

/// A value as os-release(5) allows it for `ID`, `VERSION_ID`, `SYSEXT_LEVEL` and `CONFEXT_LEVEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(String);

impl FromStr for Label {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        match !text.is_empty() && text.chars().all(allowed) {
            true => Ok(Label(text.to_owned())),
            false => Err(InvalidField::Label(text.to_owned())),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A field that systemd does not look at, or that is new to sysgraft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeField {
    key: String,
    value: String,
}

/// Fields that other arguments set, and which.
const GOVERNED: [(&str, &str); 14] = [
    ("ID", "--id"),
    ("VERSION_ID", "--version-id"),
    ("SYSEXT_LEVEL", "--level"),
    ("CONFEXT_LEVEL", "--level"),
    ("SYSEXT_SCOPE", "--scope"),
    ("CONFEXT_SCOPE", "--scope"),
    ("ARCHITECTURE", "--platform"),
    ("EXTENSION_RELOAD_MANAGER", "--reload-manager"),
    (RESTART_UNITS, "--restart-unit"),
    (RELOAD_OR_RESTART_UNITS, "--reload-or-restart-unit"),
    ("SYSEXT_VERSION_ID", "--extension-version"),
    ("CONFEXT_VERSION_ID", "--extension-version"),
    ("SYSEXT_IMAGE_VERSION", "--extension-version"),
    ("CONFEXT_IMAGE_VERSION", "--extension-version"),
];

const RESTART_UNITS: &str = "EXTENSION_RESTART_UNITS";
const RELOAD_OR_RESTART_UNITS: &str = "EXTENSION_RELOAD_OR_RESTART_UNITS";

impl FromStr for FreeField {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidField::Form(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(form)?;
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let is_key = key.starts_with(|c: char| !c.is_ascii_digit()) && key.chars().all(allowed);
        if !is_key || value.contains(char::is_control) {
            return Err(form());
        }
        let governed = GOVERNED.iter().find(|(known, _)| *known == key);
        let by = match governed {
            Some((_, argument)) => Some(*argument),
            None if key.starts_with(provenance::PREFIX) => Some("sysgraft itself"),
            None => None,
        };
        match by {
            Some(by) => Err(InvalidField::Governed {
                key: key.to_owned(),
                by,
            }),
            None => Ok(FreeField {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

/// Which hosts an extension is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// Every one: `ID=_any`.
    #[default]
    Any,
    /// Those of one distribution.
    Of {
        /// Its `ID`, which may also stand in a host's `ID_LIKE`.
        id: String,
        /// What the host's `VERSION_ID` has to be, unless both have a level.
        version_id: Option<String>,
        /// What the host's level has to be, if it has one.
        level: Option<String>,
    },
}

impl Hosts {
    /// Those that are like the one with this os-release.
    ///
    /// # Errors
    /// [`InvalidField::NoHostId`], [`InvalidField::HostIsAny`], [`InvalidField::HostValue`]
    pub fn like(host: &ReleaseFile, kind: ExtensionKind) -> Result<Hosts, InvalidField> {
        let value = |key: &str| {
            let text = host.get(key).filter(|text| !text.is_empty());
            let label = text.map(|text| match text.parse() {
                Ok(Label(label)) => Ok(label),
                Err(_) => Err(InvalidField::HostValue {
                    key: key.to_owned(),
                    text: text.to_owned(),
                }),
            });
            label.transpose()
        };
        let id = value("ID")?.ok_or(InvalidField::NoHostId)?;
        if id == "_any" {
            return Err(InvalidField::HostIsAny);
        }
        Ok(Hosts::Of {
            id,
            version_id: value("VERSION_ID")?,
            level: value(&own_key(kind, "LEVEL"))?,
        })
    }
}

/// `SYSEXT_LEVEL` or `CONFEXT_LEVEL`, and so on.
fn own_key(kind: ExtensionKind, key: &str) -> String {
    format!("{}_{key}", kind.as_str().to_ascii_uppercase())
}

/// Everything that the release file of an extension says.
#[derive(Clone, Debug)]
pub struct ExtensionRelease {
    /// sysext or confext.
    pub kind: ExtensionKind,
    /// For which CPU it is.
    pub architecture: Architecture,
    /// For which hosts it is.
    pub hosts: Hosts,
    /// Where it is merged; empty means what systemd takes for granted: system and portable.
    pub scopes: Vec<Scope>,
    /// Whether systemd is to read its units anew after a merge.
    pub reload_manager: bool,
    /// Units that systemd (262 or newer) restarts after a merge.
    pub restart_units: Vec<UnitName>,
    /// Units that systemd (262 or newer) reloads, or else restarts.
    pub reload_or_restart_units: Vec<UnitName>,
    /// Which version of the extension it is. systemd only shows it.
    pub version: Option<ExtensionVersion>,
    /// Further fields.
    pub free: Vec<FreeField>,
    /// Where the content is from.
    pub provenance: Option<Provenance>,
}

impl ExtensionRelease {
    /// The release file.
    ///
    /// # Errors
    /// [`InvalidField::Twice`], [`InvalidField::Repeated`], [`InvalidField::Control`]
    pub fn file(&self) -> Result<ReleaseFile, InvalidField> {
        let mut file = ReleaseFile::default();
        self.set_hosts(&mut file);
        file.set("ARCHITECTURE", self.architecture.systemd_name());
        if !self.scopes.is_empty() {
            let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
            file.set(&own_key(self.kind, "SCOPE"), &scopes.join(" "));
        }
        self.set_units(&mut file)?;
        if let Some(version) = &self.version {
            for key in ["VERSION_ID", "IMAGE_VERSION"] {
                file.set(&own_key(self.kind, key), version.as_str());
            }
        }
        for (index, field) in self.free.iter().enumerate() {
            let before = self.free.iter().take(index);
            if before.into_iter().any(|other| other.key == field.key) {
                return Err(InvalidField::Repeated(field.key.clone()));
            }
            file.set(&field.key, &field.value);
        }
        for (key, value) in self.provenance.iter().flat_map(Provenance::fields) {
            file.set(key, &value);
        }
        let control = file
            .fields()
            .find(|(_, value)| value.contains(char::is_control))
            .map(|(key, value)| InvalidField::Control {
                key: key.to_owned(),
                value: value.to_owned(),
            });
        match control {
            Some(control) => Err(control),
            None => Ok(file),
        }
    }

    /// That a host with this os-release merges the extension, in one of its scopes.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, host: &ReleaseFile) -> Result<(), InvalidField> {
        let scope = self.scopes.first().copied().unwrap_or(Scope::System);
        let merged = self
            .file()?
            .matches(host, self.kind, scope, self.architecture);
        merged.map_err(InvalidField::NeverMerged)
    }

    fn set_hosts(&self, file: &mut ReleaseFile) {
        match &self.hosts {
            Hosts::Any => file.set("ID", "_any"),
            Hosts::Of {
                id,
                version_id,
                level,
            } => {
                file.set("ID", id);
                if let Some(version) = version_id {
                    file.set("VERSION_ID", version);
                }
                if let Some(level) = level {
                    file.set(&own_key(self.kind, "LEVEL"), level);
                }
            }
        }
    }

    fn set_units(&self, file: &mut ReleaseFile) -> Result<(), InvalidField> {
        let twice = self.restart_units.iter();
        let mut twice = twice.filter(|unit| self.reload_or_restart_units.contains(unit));
        if let Some(unit) = twice.next() {
            return Err(InvalidField::Twice(unit.clone()));
        }
        let lists = [
            (RESTART_UNITS, &self.restart_units),
            (RELOAD_OR_RESTART_UNITS, &self.reload_or_restart_units),
        ];
        // A manager that does not know the units cannot start them either.
        let has_units = lists.iter().any(|(_, units)| !units.is_empty());
        if self.reload_manager || has_units {
            file.set("EXTENSION_RELOAD_MANAGER", "1");
        }
        for (key, units) in lists {
            if !units.is_empty() {
                let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
                file.set(key, &names.join(" "));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> ExtensionRelease {
        ExtensionRelease {
            kind: ExtensionKind::Sysext,
            architecture: Architecture::RiscV64,
            hosts: Hosts::Any,
            scopes: Vec::new(),
            reload_manager: false,
            restart_units: Vec::new(),
            reload_or_restart_units: Vec::new(),
            version: None,
            free: Vec::new(),
            provenance: None,
        }
    }

    fn text(release: &ExtensionRelease) -> String {
        release.file().unwrap().render()
    }

    fn units(names: &[&str]) -> Vec<UnitName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn without_wishes_it_is_for_every_host_of_the_architecture() {
        assert_eq!(text(&plain()), "ID=_any\nARCHITECTURE=riscv64\n");
        let reload = ExtensionRelease {
            reload_manager: true,
            ..plain()
        };
        assert!(text(&reload).ends_with("EXTENSION_RELOAD_MANAGER=1\n"));
    }

    #[test]
    fn every_wish_has_its_field() {
        let release = ExtensionRelease {
            kind: ExtensionKind::Confext,
            architecture: Architecture::X86_64,
            hosts: Hosts::Of {
                id: "debian".to_owned(),
                version_id: Some("13".to_owned()),
                level: Some("2.0".to_owned()),
            },
            scopes: vec![Scope::System, Scope::Initrd],
            restart_units: units(&["a.service", "b@1.service"]),
            reload_or_restart_units: units(&["c.socket"]),
            version: Some("1.2".parse().unwrap()),
            free: vec!["CONFEXT_PRETTY_NAME=An example".parse().unwrap()],
            ..plain()
        };
        assert_eq!(
            text(&release),
            "ID=debian\nVERSION_ID=13\nCONFEXT_LEVEL=2.0\nARCHITECTURE=x86-64\n\
             CONFEXT_SCOPE=\"system initrd\"\nEXTENSION_RELOAD_MANAGER=1\n\
             EXTENSION_RESTART_UNITS=\"a.service b@1.service\"\n\
             EXTENSION_RELOAD_OR_RESTART_UNITS=c.socket\nCONFEXT_VERSION_ID=1.2\n\
             CONFEXT_IMAGE_VERSION=1.2\nCONFEXT_PRETTY_NAME=\"An example\"\n"
        );
        let both = ExtensionRelease {
            reload_or_restart_units: units(&["a.service"]),
            ..release
        };
        assert!(matches!(both.file(), Err(InvalidField::Twice(_))));
    }

    #[test]
    fn what_no_flag_would_take_is_not_taken_from_a_host_either() {
        let like = |text: &str| {
            let host = ReleaseFile::parse(text.as_bytes()).unwrap();
            Hosts::like(&host, ExtensionKind::Sysext)
        };
        for text in [
            "ID=\"de bian\"",
            "ID=Debian",
            "ID=debian\nVERSION_ID=\"1\n3\"",
            "ID=debian\nVERSION_ID=1\x003",
            "ID=debian\nVERSION_ID=13\nSYSEXT_LEVEL=\"1 2\"",
        ] {
            let refused = matches!(like(text), Err(InvalidField::HostValue { .. }));
            assert!(refused, "{text:?}");
        }
        assert_eq!(like("ID=_any\nVERSION_ID=1"), Err(InvalidField::HostIsAny));
        assert!(like("ID=debian\nVERSION_ID=\nCONFEXT_LEVEL=\"1 2\"").is_ok());
    }

    #[test]
    fn fields_have_one_value_of_one_line() {
        let twice = ExtensionRelease {
            free: ["A=1", "B=1", "A=2"]
                .map(|text| text.parse().unwrap())
                .into(),
            ..plain()
        };
        assert_eq!(twice.file(), Err(InvalidField::Repeated("A".to_owned())));
        let torn = ExtensionRelease {
            hosts: Hosts::Of {
                id: "a\nID_LIKE=b".to_owned(),
                version_id: None,
                level: None,
            },
            ..plain()
        };
        assert!(matches!(torn.file(), Err(InvalidField::Control { .. })));
    }

    #[test]
    fn what_is_made_for_a_host_is_merged_there() {
        for (kind, host) in [
            (ExtensionKind::Sysext, "ID=debian\nVERSION_ID=13"),
            (
                ExtensionKind::Sysext,
                "ID=flatcar\nVERSION_ID=1\nSYSEXT_LEVEL=1.0",
            ),
            (
                ExtensionKind::Confext,
                "ID=x\nVERSION_ID=1\nCONFEXT_LEVEL=7",
            ),
            (ExtensionKind::Sysext, "ID=arch"),
        ] {
            let host = ReleaseFile::parse(host.as_bytes()).unwrap();
            let release = ExtensionRelease {
                kind,
                hosts: Hosts::like(&host, kind).unwrap(),
                scopes: vec![Scope::Initrd],
                ..plain()
            };
            assert_eq!(release.check(&host), Ok(()));
            let other = ReleaseFile::parse(b"ID=other\nVERSION_ID=1").unwrap();
            assert!(matches!(
                release.check(&other),
                Err(InvalidField::NeverMerged(Mismatch::Id { .. }))
            ));
        }
        let nameless = ReleaseFile::parse(b"VERSION_ID=1").unwrap();
        let refused = Hosts::like(&nameless, ExtensionKind::Sysext);
        assert_eq!(refused, Err(InvalidField::NoHostId));
    }

    #[test]
    fn labels_are_those_of_os_release() {
        for text in ["debian", "13", "2.0", "opensuse-leap", "_any"] {
            assert!(text.parse::<Label>().is_ok(), "{text}");
        }
        for text in ["", "Debian", "a b", "a/b", "1+2", "ä", "a\n"] {
            assert!(text.parse::<Label>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn units_are_those_that_systemd_can_start() {
        for text in [
            "a.service",
            "a@b.service",
            "dev-disk.device",
            "a\\x2db.mount",
            "a.b.timer",
        ] {
            assert!(text.parse::<UnitName>().is_ok(), "{text}");
        }
        let long = format!("{}.service", "a".repeat(250));
        for text in [
            "",
            "a",
            "a.conf",
            ".service",
            "@b.service",
            "a@.service",
            "a/b.service",
            "a b.service",
            "ä.service",
            &long,
        ] {
            assert!(text.parse::<UnitName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn fields_of_other_arguments_cannot_be_set_freely() {
        for text in ["SYSEXT_ID=x", "A1_B=", "PORTABLE_PREFIXES=a b", "X=\"'$"] {
            assert!(text.parse::<FreeField>().is_ok(), "{text}");
        }
        for text in ["", "A", "=x", "1A=x", "a=x", "A B=x", "A=x\ny", "A=\u{1}"] {
            let refused = text.parse::<FreeField>();
            assert!(matches!(refused, Err(InvalidField::Form(_))), "{text:?}");
        }
        for text in [
            "ID=x",
            "SYSEXT_LEVEL=1",
            "ARCHITECTURE=x",
            "SYSGRAFT_IMAGE=x",
        ] {
            let refused = text.parse::<FreeField>();
            assert!(
                matches!(refused, Err(InvalidField::Governed { .. })),
                "{text}"
            );
        }
    }
}
