//! CPU architectures, with the names that systemd, the kernel and container images give them.

use std::fmt;
use std::str::FromStr;

/// An architecture for which the Discoverable Partitions Specification (UAPI.2) has type UUIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Architecture {
    Alpha,
    Arc,
    Arm,
    Arm64,
    Ia64,
    LoongArch64,
    Mips,
    Mips64,
    MipsLe,
    Mips64Le,
    Parisc,
    Ppc,
    Ppc64,
    Ppc64Le,
    RiscV32,
    RiscV64,
    S390,
    S390x,
    TileGx,
    X86,
    X86_64,
}

/// An architecture name that is none of systemd's, Go's or `uname -m`'s.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown architecture {name:?}; known ones are {}", known_names())]
pub struct UnknownArchitecture {
    /// The text.
    pub name: String,
}

struct Names {
    architecture: Architecture,
    /// `ARCHITECTURE=` of systemd and the middle of partition labels.
    systemd: &'static str,
    /// `architecture` of an OCI image configuration (GOARCH), where Go has one.
    oci: Option<&'static str>,
    aliases: &'static [&'static str],
}

const fn names(
    architecture: Architecture,
    systemd: &'static str,
    oci: Option<&'static str>,
    aliases: &'static [&'static str],
) -> Names {
    Names {
        architecture,
        systemd,
        oci,
        aliases,
    }
}

/// Sources: systemd `src/basic/architecture.c` and `src/shared/gpt.c`; Go's `GOARCH` list.
static NAMES: [Names; 21] = [
    names(Architecture::X86_64, "x86-64", Some("amd64"), &["x86_64"]),
    names(Architecture::Arm64, "arm64", Some("arm64"), &["aarch64"]),
    names(Architecture::RiscV64, "riscv64", Some("riscv64"), &[]),
    names(
        Architecture::LoongArch64,
        "loongarch64",
        Some("loong64"),
        &[],
    ),
    names(
        Architecture::Ppc64Le,
        "ppc64-le",
        Some("ppc64le"),
        &["ppc64el"],
    ),
    names(Architecture::S390x, "s390x", Some("s390x"), &[]),
    names(
        Architecture::X86,
        "x86",
        Some("386"),
        &["i386", "i486", "i586", "i686"],
    ),
    names(
        Architecture::Arm,
        "arm",
        Some("arm"),
        &["armv7l", "armhf", "armv6l"],
    ),
    names(Architecture::RiscV32, "riscv32", None, &[]),
    names(Architecture::Ppc64, "ppc64", Some("ppc64"), &[]),
    names(Architecture::Ppc, "ppc", None, &[]),
    names(
        Architecture::Mips64Le,
        "mips64-le",
        Some("mips64le"),
        &["mips64el"],
    ),
    names(Architecture::MipsLe, "mips-le", Some("mipsle"), &["mipsel"]),
    names(Architecture::Mips64, "mips64", Some("mips64"), &[]),
    names(Architecture::Mips, "mips", Some("mips"), &[]),
    names(Architecture::S390, "s390", None, &[]),
    names(Architecture::Ia64, "ia64", None, &[]),
    names(Architecture::Parisc, "parisc", None, &["hppa"]),
    names(Architecture::Alpha, "alpha", None, &[]),
    names(Architecture::Arc, "arc", None, &[]),
    names(Architecture::TileGx, "tilegx", None, &[]),
];

fn known_names() -> String {
    let names: Vec<&str> = NAMES.iter().map(|names| names.systemd).collect();
    names.join(", ")
}

impl Architecture {
    /// Every architecture, in the order of the specification's importance.
    pub fn all() -> impl Iterator<Item = Architecture> {
        NAMES.iter().map(|names| names.architecture)
    }

    /// The architecture that this program was compiled for, if systemd has a name for it.
    pub fn host() -> Option<Architecture> {
        match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => Some(Architecture::Ppc64Le),
            "powerpc64" => Some(Architecture::Ppc64),
            name => name.parse().ok(),
        }
    }

    /// The name that `ARCHITECTURE=` and partition labels use.
    pub fn systemd_name(self) -> &'static str {
        self.names().systemd
    }

    /// The name in OCI image configurations (`GOARCH`), where there is one.
    pub fn oci_name(self) -> Option<&'static str> {
        self.names().oci
    }

    fn names(self) -> &'static Names {
        NAMES
            .iter()
            .find(|names| names.architecture == self)
            .unwrap_or(&NAMES[0])
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    /// Takes systemd's names, Go's and those of `uname -m`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        NAMES
            .iter()
            .find(|names| {
                names.systemd == text || names.oci == Some(text) || names.aliases.contains(&text)
            })
            .map(|names| names.architecture)
            .ok_or_else(|| UnknownArchitecture {
                name: text.to_owned(),
            })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.systemd_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_exactly_one_row_and_its_names_lead_back_to_it() {
        let mut seen = Vec::new();
        for architecture in Architecture::all() {
            assert!(!seen.contains(&architecture), "{architecture} twice");
            seen.push(architecture);
            let names = architecture.names();
            for name in names
                .oci
                .iter()
                .chain(names.aliases)
                .chain([&names.systemd])
            {
                assert_eq!(name.parse(), Ok(architecture), "{name}");
            }
        }
    }

    #[test]
    fn go_and_uname_names_are_understood() {
        assert_eq!("amd64".parse(), Ok(Architecture::X86_64));
        assert_eq!("aarch64".parse(), Ok(Architecture::Arm64));
        assert_eq!(
            "riscv64".parse::<Architecture>().map(|a| a.systemd_name()),
            Ok("riscv64")
        );
        assert!("amd65".parse::<Architecture>().is_err());
    }
}
