//! For which platforms an extension is built: `--platform`.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::source::{
    self, FindOptions, ImageReference, InvalidPlatform, Offered, OnePerArchitecture, Platform,
};
use sysgraft::terminal::text;

/// Arguments that choose platforms.
#[derive(Args)]
pub struct PlatformArguments {
    /// Platform of the image, as linux/arm64/v8 or just arm64; several, or all that the image is for,
    /// give one extension each, with the architecture in its name [default: this machine's]
    #[arg(
        long,
        visible_alias = "arch",
        value_name = "PLATFORM,…|all",
        value_delimiter = ','
    )]
    platform: Vec<Wanted>,
}

#[derive(Clone, Debug)]
enum Wanted {
    All,
    One(Platform),
}

impl FromStr for Wanted {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Wanted::All),
            _ => text.parse().map(Wanted::One),
        }
    }
}

impl PlatformArguments {
    /// Whether the names of the files tell the architecture.
    pub fn is_for_several(&self) -> bool {
        self.platform.len() > 1 || matches!(self.platform.as_slice(), [Wanted::All])
    }

    /// The platforms to build for, each of another architecture, and the image for each.
    pub fn choose(&self, image: &ImageReference, options: &FindOptions) -> Result<Vec<Offered>> {
        let mut chosen: Vec<Platform> = Vec::new();
        for wanted in &self.platform {
            let Wanted::One(platform) = wanted else {
                if self.platform.len() > 1 {
                    crate::usage_error(
                        ErrorKind::ArgumentConflict,
                        "--platform all stands for every platform: name it once and alone",
                    );
                }
                return all(image, options);
            };
            let same = |other: &&Platform| other.architecture == platform.architecture;
            if let Some(other) = chosen.iter().find(same) {
                crate::usage_error(
                    ErrorKind::ArgumentConflict,
                    format!(
                        "{other} and {platform} would give files of the same name; build them one \
                         after the other, with another --output"
                    ),
                );
            }
            chosen.push(platform.clone());
        }
        if chosen.is_empty() {
            chosen.push(or_host(None)?);
        }
        let offered = match chosen.len() {
            1 => Vec::new(),
            _ => source::offered(image, options)?,
        };
        Ok(chosen
            .into_iter()
            .map(|platform| Offered {
                image: image_for(&platform, &offered).unwrap_or(image).clone(),
                platform,
            })
            .collect())
    }
}

/// The image for `platform`; `None` where it is not offered, which whoever looks for it there says best.
fn image_for<'a>(platform: &Platform, offered: &'a [Offered]) -> Option<&'a ImageReference> {
    let fitting = offered.iter().filter_map(|offered| {
        let rank = platform.rank_of(&offered.platform)?;
        Some((rank, &offered.image))
    });
    fitting
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, image)| image)
}

/// The platform, or else this machine's.
pub fn or_host(platform: Option<&Platform>) -> Result<Platform> {
    match platform {
        Some(platform) => Ok(platform.clone()),
        None => Platform::host().context("say --platform: this machine's has no name in systemd"),
    }
}

fn all(image: &ImageReference, options: &FindOptions) -> Result<Vec<Offered>> {
    let offered = source::offered(image, options)?;
    let platforms: Vec<Platform> = offered.iter().map(|found| found.platform.clone()).collect();
    let OnePerArchitecture { chosen, left_out } = OnePerArchitecture::of(&platforms);
    ensure!(
        !chosen.is_empty(),
        "--platform all finds no platform in the image; name those to build for"
    );
    for platform in left_out {
        text::warning(&format!(
            "{platform} is left out, for its file would have the name of a better one; --platform \
             {platform} builds it"
        ));
    }
    let image_of = |platform: &Platform| offered.iter().find(|found| found.platform == *platform);
    Ok(chosen.iter().filter_map(image_of).cloned().collect())
}
