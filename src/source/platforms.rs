//! For which platforms there is an image.

use super::error::SourceError;
use super::platform::{Offer, Platform};
use super::reference::{EngineImage, ImageName, ImageReference};
use super::{FindOptions, Pull, demand, docker_archive, engine, oci_layout, registry};

/// A platform that an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// A Linux platform with a name in systemd.
    pub platform: Platform,
    /// The image as it is now: one from a registry is named by the digest of its index, so that all
    /// platforms come from the same one, wherever its tag moves meanwhile.
    pub image: ImageReference,
}

/// What the image is for that `reference` names, in its own order. An engine has it for one platform; for
/// others a registry is asked, if it may be. Root trees are for any platform, and offer none.
///
/// # Errors
/// See [`SourceError`].
pub fn offered(
    reference: &ImageReference,
    options: &FindOptions,
) -> Result<Vec<Offered>, SourceError> {
    demand(reference, options)?;
    let here = |offers: Vec<Offer>| list(&offers, reference);
    let in_engine = |image: &EngineImage| {
        let offer = engine::offer(image, options.engine.as_deref())?;
        Ok(list(&[offer], &ImageReference::Engine(image.clone())))
    };
    let in_registry = |name: &ImageName| {
        let (digest, offers) = registry::offers(name, &options.registry)?;
        Ok(list(
            &offers,
            &ImageReference::Registry(name.pinned(digest)),
        ))
    };
    match reference {
        ImageReference::Engine(image) => in_engine(image),
        ImageReference::Registry(name) => in_registry(name),
        ImageReference::Anywhere(name) => {
            let engines = EngineImage::Name(name.clone());
            match options.pull {
                // Engines keep no signatures.
                _ if options.registry.verify_key.is_some() => in_registry(name),
                Pull::Never => in_engine(&engines),
                Pull::Always => in_registry(name),
                Pull::Missing => both(name, in_engine(&engines), in_registry(name)),
            }
        }
        ImageReference::OciLayout { path, tag } => {
            oci_layout::offers_in_directory(path, tag.as_deref()).map(here)
        }
        ImageReference::OciArchive { path, tag } => {
            oci_layout::offers_in_archive(path, tag.as_deref()).map(here)
        }
        ImageReference::DockerArchive { path, name } => {
            docker_archive::offers(path, name.as_ref()).map(here)
        }
        ImageReference::Directory(_) | ImageReference::Tar(_) | ImageReference::StandardInput => {
            Ok(Vec::new())
        }
    }
}

/// Other systems, and architectures without a name in systemd, are nothing to build for.
fn list(offers: &[Offer], image: &ImageReference) -> Vec<Offered> {
    let platforms = offers
        .iter()
        .filter_map(|offer| offer.to_string().parse().ok());
    platforms
        .map(|platform| Offered {
            platform,
            image: image.clone(),
        })
        .collect()
}

type Found = Result<Vec<Offered>, SourceError>;

/// What the engine has is taken from there, all else from the registry.
fn both(name: &ImageName, engine: Found, registry: Found) -> Found {
    match (engine, registry) {
        (Ok(engines), Ok(mut all)) => {
            for local in engines {
                let same = |other: &&mut Offered| other.platform == local.platform;
                match all.iter_mut().find(same) {
                    Some(other) => *other = local,
                    None => all.insert(0, local),
                }
            }
            Ok(all)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        (Err(engine), Err(registry)) => Err(SourceError::Nowhere {
            image: name.to_string(),
            engine: Box::new(engine),
            registry: Box::new(registry),
        }),
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

    fn offers(texts: &[&str], image: &str) -> Vec<Offered> {
        let offers: Vec<Offer> = texts
            .iter()
            .map(|text| {
                let (os, architecture) = text.split_once('/').unwrap();
                Offer {
                    os: os.to_owned(),
                    architecture: architecture.to_owned(),
                    variant: None,
                }
            })
            .collect();
        list(&offers, &image.parse().unwrap())
    }

    #[test]
    fn what_cannot_be_built_for_is_not_offered() {
        let offered = offers(
            &[
                "linux/amd64",
                "windows/amd64",
                "unknown/unknown",
                "linux/wasm",
            ],
            "docker://x/y",
        );
        assert_eq!(offered, offers(&["linux/amd64"], "docker://x/y"));
    }

    #[test]
    fn the_registry_has_what_the_engine_has_not() {
        let name: ImageName = "x".parse().unwrap();
        let local = || offers(&["linux/amd64"], "docker-daemon:x");
        let remote = || offers(&["linux/arm64", "linux/amd64"], "docker://x");
        let gone = || Err(SourceError::StandardInputGone);
        let found = both(&name, Ok(local()), Ok(remote())).unwrap();
        assert_eq!(found, [&remote()[..1], &local()].concat());
        assert_eq!(both(&name, Ok(local()), gone()).unwrap(), local());
        assert_eq!(both(&name, gone(), Ok(remote())).unwrap(), remote());
        assert!(both(&name, gone(), gone()).is_err());
    }
}
