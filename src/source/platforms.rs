//! For which platforms there is an image.

use super::error::SourceError;
use super::platform::Platform;
use super::reference::ImageReference;
use super::{FindOptions, find};
use crate::architecture::Architecture;

/// An architecture that Go never had, so that no image is for it.
const NOBODYS: Architecture = Architecture::TileGx;

/// The Linux platforms for which the image is there that `reference` names, in its own order. An
/// engine offers the one that it has; root trees are for any platform, and offer none.
///
/// # Errors
/// See [`SourceError`].
pub fn platforms(
    reference: &ImageReference,
    options: &FindOptions,
) -> Result<Vec<Platform>, SourceError> {
    // Every kind of source tells what it has when it lacks what it is asked for.
    match find(reference, &Platform::of(NOBODYS), options) {
        Ok(image) => Ok(image.architecture.map(Platform::of).into_iter().collect()),
        Err(error) => offered(error),
    }
}

fn offered(error: SourceError) -> Result<Vec<Platform>, SourceError> {
    match error {
        SourceError::NoSuchPlatform { available, .. } => {
            // Other systems, and architectures without a name in systemd, are nothing to build for.
            Ok(available
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect())
        }
        SourceError::Nowhere {
            engine, registry, ..
        } => match offered(*registry) {
            Ok(platforms) => Ok(platforms),
            Err(error) => offered(*engine).map_err(|_| error),
        },
        other => Err(other),
    }
}

/// Which platforms are built, and which are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnePerArchitecture {
    /// One for each architecture, the best that its usual hosts run.
    pub chosen: Vec<Platform>,
    /// Other variants of the same architectures.
    pub left_out: Vec<Platform>,
}

impl OnePerArchitecture {
    /// Chooses among `offered`. systemd knows no variants: images for two of them would have the
    /// same name.
    pub fn of(offered: &[Platform]) -> OnePerArchitecture {
        let mut result = OnePerArchitecture::default();
        let mut sorted: Vec<&Platform> = offered.iter().collect();
        sorted.sort_by_key(|platform| {
            let usual = Platform::of(platform.architecture);
            usual.rank(&platform.offer()).unwrap_or(u8::MAX)
        });
        for platform in sorted {
            let is_there = |known: &&Platform| known.architecture == platform.architecture;
            match result.chosen.iter().find(is_there) {
                Some(known) if known == platform => {}
                Some(_) => result.left_out.push(platform.clone()),
                None => result.chosen.push(platform.clone()),
            }
        }
        let place = |platform: &Platform| offered.iter().position(|other| other == platform);
        result.chosen.sort_by_key(place);
        result.left_out.sort_by_key(place);
        result.left_out.dedup();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<Platform> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_several_variants_the_one_for_usual_hosts_is_chosen() {
        for (offered, chosen, left_out) in [
            (
                &[
                    "linux/amd64",
                    "linux/arm/v6",
                    "linux/arm/v7",
                    "linux/arm64/v8",
                ][..],
                &["linux/amd64", "linux/arm/v7", "linux/arm64/v8"][..],
                &["linux/arm/v6"][..],
            ),
            (
                &["linux/amd64/v3", "linux/amd64", "linux/amd64"],
                &["linux/amd64"],
                &["linux/amd64/v3"],
            ),
            (
                &["linux/arm/v5", "linux/arm/v6"],
                &["linux/arm/v6"],
                &["linux/arm/v5"],
            ),
            (&["linux/arm64/v9"], &["linux/arm64/v9"], &[]),
            (
                &["linux/riscv64", "linux/s390x"],
                &["linux/riscv64", "linux/s390x"],
                &[],
            ),
            (&[], &[], &[]),
        ] {
            let found = OnePerArchitecture::of(&parse(offered));
            assert_eq!(found.chosen, parse(chosen));
            assert_eq!(found.left_out, parse(left_out));
        }
    }

    #[test]
    fn what_cannot_be_built_for_is_not_offered() {
        let available = [
            "linux/amd64",
            "windows/amd64",
            "unknown/unknown",
            "linux/wasm",
        ];
        let lacking = || SourceError::NoSuchPlatform {
            location: "x".to_owned(),
            platform: Platform::of(NOBODYS),
            available: available.map(str::to_owned).into(),
        };
        assert_eq!(offered(lacking()).unwrap(), parse(&["linux/amd64"]));
        let elsewhere = SourceError::Nowhere {
            image: "x".to_owned(),
            engine: Box::new(lacking()),
            registry: Box::new(SourceError::StandardInputGone),
        };
        assert_eq!(offered(elsewhere).unwrap(), parse(&["linux/amd64"]));
        assert!(offered(SourceError::StandardInputGone).is_err());
    }
}
