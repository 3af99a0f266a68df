//! Platforms: which of an image's variants is wanted, and which of the offered ones fits best.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::architecture::{Architecture, UnknownArchitecture};

/// The platform for which an image is wanted; its operating system is always Linux.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The CPU architecture.
    pub architecture: Architecture,
    /// The CPU variant, for example `v7` of `arm`.
    pub variant: Option<String>,
}

/// A text that names no Linux platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidPlatform {
    /// Not of the form `[linux/]ARCHITECTURE[/VARIANT]`.
    #[error("{0:?} is no platform; write it like linux/amd64 or linux/arm/v7")]
    Form(String),
    /// An operating system other than Linux.
    #[error("the platform {0:?} is not for Linux; systemd extensions only exist there")]
    NotLinux(String),
    /// The architecture has no known name.
    #[error(transparent)]
    Architecture(#[from] UnknownArchitecture),
}

impl Platform {
    /// The platform of `architecture` without a variant.
    pub fn of(architecture: Architecture) -> Platform {
        Platform {
            architecture,
            variant: None,
        }
    }

    /// The platform that this program was compiled for, if systemd has a name for it.
    pub fn host() -> Option<Platform> {
        Architecture::host().map(Platform::of)
    }

    /// The same as an image would say it.
    pub(super) fn offer(&self) -> Offer {
        let architecture = self.architecture;
        let name = architecture.oci_name();
        Offer {
            os: "linux".to_owned(),
            architecture: name.unwrap_or(architecture.systemd_name()).to_owned(),
            variant: self.variant.clone(),
        }
    }

    /// How well `offer` fits, 0 being best; `None` if it does not run on this platform.
    ///
    /// How well an image for the platform `offered` runs on this one, 0 being best; `None` if it does
    /// not.
    pub fn rank_of(&self, offered: &Platform) -> Option<u8> {
        self.rank(&offered.offer())
    }

    /// The same variant is best, then one that is not named, then a lower one that this platform
    /// runs too. `arm64` means `arm64/v8` and `arm` means `arm/v7`, as containerd has it. The
    /// levels of `amd64` only break ties.
    pub(super) fn rank(&self, offer: &Offer) -> Option<u8> {
        let architecture: Architecture = offer.architecture.parse().ok()?;
        if !offer.is_linux() || architecture != self.architecture {
            return None;
        }
        let wanted = named_variant(self.architecture, self.variant.as_deref());
        let offered = offer
            .variant
            .as_deref()
            .filter(|variant| !variant.is_empty());
        match (wanted, offered) {
            (wanted, Some(_)) if wanted == named_variant(architecture, offered) => Some(0),
            (None, None) => Some(0),
            (Some(_), None) => Some(1),
            (wanted, Some(offered)) => match architecture {
                Architecture::Arm | Architecture::Arm64 => {
                    let below = level(wanted?)?.checked_sub(level(offered)?)?;
                    below.checked_add(1)
                }
                Architecture::X86_64 => Some(2),
                _ => None,
            },
        }
    }
}

/// `variant`, or the one that its absence means.
fn named_variant(architecture: Architecture, variant: Option<&str>) -> Option<&str> {
    variant
        .filter(|variant| !variant.is_empty())
        .or(match architecture {
            Architecture::Arm => Some("v7"),
            Architecture::Arm64 => Some("v8"),
            _ => None,
        })
}

/// The number in an ARM variant such as `v7`.
fn level(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.parse().ok()
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// Takes `linux/arm64/v8`, `linux/amd64`, `arm/v7` and `amd64`, with any name of the
    /// architecture.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidPlatform::Form(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match *parts.as_slice() {
            [architecture] => ("linux", architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            [first, second] if first.parse::<Architecture>().is_ok() => {
                ("linux", first, Some(second))
            }
            [os, architecture] => (os, architecture, None),
            _ => return Err(form()),
        };
        if parts.iter().any(|part| part.is_empty())
            || !variant
                .unwrap_or_default()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            return Err(form());
        }
        if os != "linux" {
            return Err(InvalidPlatform::NotLinux(text.to_owned()));
        }
        Ok(Platform {
            architecture: architecture.parse()?,
            variant: variant.map(str::to_owned),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let architecture = self.architecture;
        let name = architecture
            .oci_name()
            .unwrap_or(architecture.systemd_name());
        write!(f, "linux/{name}")?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// The platform that an image says it is for: `platform` of an index entry, or the fields of the
/// same names in an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Offer {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub variant: Option<String>,
}

impl Offer {
    /// Whether it is for Linux; tools that leave the system out mean Linux.
    fn is_linux(&self) -> bool {
        self.os == "linux" || self.os.is_empty()
    }
}

impl fmt::Display for Offer {
    /// Untrusted text: what is not plain is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |text: &str| match text {
            "" => "unknown".to_owned(),
            _ => text.escape_default().to_string(),
        };
        write!(
            f,
            "{}/{}",
            or_unknown(&self.os),
            or_unknown(&self.architecture)
        )?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{}", variant.escape_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(text: &str) -> Offer {
        let mut parts = text.split('/').map(str::to_owned);
        Offer {
            os: parts.next().unwrap(),
            architecture: parts.next().unwrap(),
            variant: parts.next(),
        }
    }

    fn best<'a>(wanted: &str, offers: &[&'a str]) -> Option<&'a str> {
        let platform: Platform = wanted.parse().unwrap();
        offers
            .iter()
            .filter_map(|text| Some((platform.rank(&offer(text))?, *text)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, text)| text)
    }

    #[test]
    fn platforms_are_read_in_every_usual_form() {
        for (text, printed) in [
            ("amd64", "linux/amd64"),
            ("x86-64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("arm/v7", "linux/arm/v7"),
            ("linux/aarch64", "linux/arm64"),
            ("riscv64", "linux/riscv64"),
        ] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), printed);
            assert_eq!(printed.parse(), Ok(platform));
        }
    }

    #[test]
    fn other_texts_are_no_platforms() {
        for text in [
            "",
            "/",
            "linux/",
            "linux/amd64/",
            "a/b/c/d",
            "linux/arm/v 7",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        assert!(matches!(
            "windows/amd64".parse::<Platform>(),
            Err(InvalidPlatform::NotLinux(_))
        ));
    }

    #[test]
    fn the_exact_variant_wins_then_none_then_a_lower_one() {
        let all = ["linux/arm/v5", "linux/arm/v6", "linux/arm", "linux/arm/v7"];
        assert_eq!(best("arm/v7", &all), Some("linux/arm/v7"));
        assert_eq!(best("arm/v7", &all[..3]), Some("linux/arm"));
        assert_eq!(best("arm", &all), Some("linux/arm/v7"));
        assert_eq!(best("arm/v7", &all[..2]), Some("linux/arm/v6"));
        assert_eq!(best("arm/v6", &["linux/arm/v7"]), None);
    }

    #[test]
    fn arm64_means_v8_both_ways() {
        assert_eq!(best("arm64", &["linux/arm64/v8"]), Some("linux/arm64/v8"));
        assert_eq!(best("arm64/v8", &["linux/arm64"]), Some("linux/arm64"));
        assert_eq!(best("arm64", &["linux/arm64/v9"]), None);
    }

    #[test]
    fn levels_of_amd64_only_break_ties() {
        let both = ["linux/amd64/v3", "linux/amd64"];
        assert_eq!(best("amd64", &both), Some("linux/amd64"));
        assert_eq!(best("amd64/v3", &both), Some("linux/amd64/v3"));
        assert_eq!(best("amd64", &both[..1]), Some("linux/amd64/v3"));
    }

    #[test]
    fn other_systems_and_architectures_never_fit() {
        for text in [
            "windows/amd64",
            "unknown/unknown",
            "linux/386",
            "linux/amd65",
        ] {
            assert_eq!(best("amd64", &[text]), None, "{text}");
        }
        assert_eq!(best("amd64", &["/amd64"]), Some("/amd64"));
    }
}
