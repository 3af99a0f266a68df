//! Which layers, and what of them: `--layers`, `--include`, `--remap` and the like.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::extension::ExtensionKind;
use sysgraft::source::{self, Image, ImageReference, Layer, LayerChoice, NumberedLayer};
use sysgraft::tree::{ContentRules, Owner, PathGlob, Remap};

/// Under which heading of the help they stand.
pub const HEADING: &str = "Content";

/// Arguments that choose layers.
#[derive(Args)]
pub struct LayerArguments {
    /// Layers to take: last, all, 3, 2..4 (both ends belong to it), -3.. (the upper three), sha256:…, or
    /// several with commas; 1 is the lowest: see `sysgraft layers` [default: last]
    #[arg(
        long,
        help_heading = HEADING,
        value_name = "LAYERS",
        allow_hyphen_values = true,
        conflicts_with = "base"
    )]
    layers: Option<LayerChoice>,
    /// Take all layers above those of this image, on which IMAGE must be built, and compare with it as
    /// with a host: what would be hidden, which libraries would be missing
    #[arg(long, help_heading = HEADING, value_name = "IMAGE", conflicts_with = "host_root")]
    pub base: Option<ImageReference>,
}

impl LayerArguments {
    /// The layers of `image` that are meant, lowest first; `base` is the image that `--base` names. A
    /// root tree is no part of any other: it is only compared.
    pub fn choose<'i>(
        &self,
        image: &'i Image,
        base: Option<&Image>,
    ) -> Result<Vec<NumberedLayer<'i>>> {
        let is_root_tree = |layer: &Layer| layer.blob.is_none() && layer.diff_id.is_none();
        if let Some(base) = base.filter(|_| !image.layers.iter().all(is_root_tree)) {
            return Ok(source::above_base(image, base)?);
        }
        let last = LayerChoice::last();
        Ok(self.layers.as_ref().unwrap_or(&last).choose(image)?)
    }
}

/// Arguments that choose the content of an extension.
#[derive(Args)]
pub struct ContentArguments {
    #[command(flatten)]
    pub layers: LayerArguments,
    /// Keep only what matches (as in .gitignore, by the path in the image: '/usr/bin/*', '*.so'); can be
    /// given several times
    #[arg(long, help_heading = HEADING, value_name = "GLOB")]
    include: Vec<PathGlob>,
    /// Leave out what matches, even if it is included; can be given several times
    #[arg(long, help_heading = HEADING, value_name = "GLOB")]
    exclude: Vec<PathGlob>,
    /// Move what lies at FROM in the image to TO in the extension, as in /etc=/usr/share/factory/etc; can
    /// be given several times
    #[arg(long, help_heading = HEADING, value_name = "FROM=TO")]
    remap: Vec<Remap>,
    /// Give everything to this user and group, by number or root:root
    #[arg(long, help_heading = HEADING, value_name = "UID:GID")]
    owner: Option<Owner>,
    /// Give all directories this mode, in octal
    #[arg(long, help_heading = HEADING, value_name = "MODE", value_parser = mode)]
    dir_mode: Option<u16>,
    /// Let no file be younger: seconds since 1970, or a date as 2024-05-31 or 2024-05-31T12:00:00Z
    /// [default: SOURCE_DATE_EPOCH]
    #[arg(long, help_heading = HEADING, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    clamp_mtime: Option<i64>,
    /// Write what was kept, what was dropped and why to this file, as JSON
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl ContentArguments {
    /// The rules that the arguments mean for an extension of `kind`.
    pub fn rules(&self, kind: ExtensionKind, with_opt: bool) -> Result<ContentRules> {
        let rules = ContentRules {
            with_opt,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            remaps: self.remap.clone(),
            owner: self.owner,
            dir_mode: self.dir_mode,
            clamp_mtime: match self.clamp_mtime {
                Some(seconds) => Some(seconds),
                None => source_date_epoch()?,
            },
        };
        if let Err(error) = rules.check(kind) {
            crate::usage_error(ErrorKind::ValueValidation, format!("--remap: {error}"));
        }
        Ok(rules)
    }
}

/// The value of `--dir-mode`.
fn mode(text: &str) -> Result<u16> {
    let mode = u16::from_str_radix(text, 8).context("it is no octal number such as 0755")?;
    ensure!(mode <= 0o7777, "it has more bits than a mode (7777)");
    Ok(mode)
}

/// The value of `--clamp-mtime`, in seconds since the epoch.
fn moment(text: &str) -> Result<i64> {
    let seconds = text.strip_prefix('@').unwrap_or(text);
    if let Ok(seconds) = seconds.parse() {
        return Ok(seconds);
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc().timestamp());
    }
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.context("it is neither a number of seconds nor a date as RFC 3339 has it")?;
    Ok(time.timestamp())
}

/// What `SOURCE_DATE_EPOCH` says.
pub fn source_date_epoch() -> Result<Option<i64>> {
    let Ok(value) = std::env::var("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let seconds = value
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH={value} is no number of seconds"))?;
    Ok(Some(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_dates() {
        for (text, seconds) in [
            ("0", 0),
            ("@86400", 86_400),
            ("-1", -1),
            ("1970-01-02", 86_400),
            ("1970-01-02T00:00:01Z", 86_401),
            ("1970-01-02T02:00:00+02:00", 86_400),
        ] {
            assert_eq!(moment(text).unwrap(), seconds, "{text}");
        }
        for text in ["", "@", "yesterday", "1970-13-01", "1970-01-02T00:00:01"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0755").unwrap(), 0o755);
        assert_eq!(mode("1777").unwrap(), 0o1777);
        for text in ["", "rwx", "888", "10000", "u+x"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
