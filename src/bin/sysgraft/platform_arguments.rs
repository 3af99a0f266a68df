//! For which platforms an extension is built: `--platform`.

use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::source::{
    self, FindOptions, ImageReference, InvalidPlatform, OnePerArchitecture, Platform,
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

    /// The platforms to build for, each of another architecture.
    pub fn choose(&self, image: &ImageReference, options: &FindOptions) -> Result<Vec<Platform>> {
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
        Ok(chosen)
    }
}

/// The platform, or else this machine's.
pub fn or_host(platform: Option<&Platform>) -> Result<Platform> {
    match platform {
        Some(platform) => Ok(platform.clone()),
        None => Platform::host().context("say --platform: this machine's has no name in systemd"),
    }
}

fn all(image: &ImageReference, options: &FindOptions) -> Result<Vec<Platform>> {
    let offered = source::platforms(image, options)?;
    let OnePerArchitecture { chosen, left_out } = OnePerArchitecture::of(&offered);
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
    Ok(chosen)
}
