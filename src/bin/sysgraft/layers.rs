//! `sysgraft layers`: which layers an image has, how they came about, and how many files they hold.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use sysgraft::printable::printable;
use sysgraft::source::{self, Image, ImageReference, NumberedLayer, Platform};
use sysgraft::terminal::{Table, text};
use sysgraft::tree::Census;

use crate::platform_arguments::or_host;
use crate::source_arguments::SourceArguments;
use crate::survey;

/// Arguments of `sysgraft layers`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft layers docker.io/me/k3s:1.29
  sysgraft layers --no-files docker://registry.example/k3s:1.29
  sysgraft layers --json oci-archive:hello.tar | jq '.layers[].createdBy'

Layer 1 is the lowest. `sysgraft sysext --layers 2..3` takes the layers 2 and 3. Every layer is read
to count its files; --no-files leaves that out. IMAGE is written as for `sysgraft sysext`.

Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Arguments {
    /// Container image
    image: ImageReference,
    /// Platform of the image, as linux/arm64/v8 or just arm64 [default: this machine's]
    #[arg(long, visible_alias = "arch", value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    source: SourceArguments,
    /// Do not read the layers, and count no files
    #[arg(long)]
    no_files: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the layers of an image.
pub fn run(arguments: &Arguments) -> Result<()> {
    let platform = or_host(arguments.platform.as_ref())?;
    let sources = arguments.source.options(&arguments.image)?;
    let image = source::find(&arguments.image, &platform, &sources)?;
    let layers: Vec<NumberedLayer<'_>> = (1..)
        .zip(&image.layers)
        .map(|(number, layer)| NumberedLayer { number, layer })
        .collect();
    let files = match arguments.no_files {
        true => vec![None; layers.len()],
        false => survey::count(&layers)?.into_iter().map(Some).collect(),
    };
    let printed = match arguments.json {
        true => print_json(&image, &layers, &files),
        false => print_table(&layers, &files),
    };
    printed.context(text::STDOUT_FAILED)
}

fn print_json(
    image: &Image,
    layers: &[NumberedLayer<'_>],
    files: &[Option<Census>],
) -> io::Result<()> {
    let layers: Vec<Value> = layers
        .iter()
        .zip(files)
        .map(|(numbered, files)| {
            let mut facts = facts(numbered);
            facts["created"] = json!(numbered.layer.history.created);
            facts["comment"] = json!(numbered.layer.history.comment);
            facts["files"] = json!(files.map(|census| json!({
                "usr": census.usr,
                "opt": census.opt,
                "etc": census.etc,
                "elsewhere": census.elsewhere,
                "whiteouts": census.whiteouts,
            })));
            facts
        })
        .collect();
    let facts = json!({
        "image": image.location,
        "imageDigest": image.digest.map(|digest| digest.to_string()),
        "architecture": image.architecture.map(|architecture| architecture.to_string()),
        "layers": layers,
    });
    writeln!(io::stdout().lock(), "{facts:#}")
}

/// What is known of a layer without reading it.
pub fn facts(numbered: &NumberedLayer<'_>) -> Value {
    let layer = numbered.layer;
    json!({
        "number": numbered.number,
        "digest": layer.blob.map(|digest| digest.to_string()),
        "diffId": layer.diff_id.map(|digest| digest.to_string()),
        "size": layer.size,
        "createdBy": layer.history.created_by,
    })
}

fn print_table(layers: &[NumberedLayer<'_>], files: &[Option<Census>]) -> io::Result<()> {
    let width = terminal_width();
    let mut with_files = Table::new([
        "LAYER", "DIGEST", "SIZE", "/usr", "/opt", "/etc", "OTHER", "COMMAND",
    ]);
    let mut without = Table::new(["LAYER", "DIGEST", "SIZE", "COMMAND"]);
    for (numbered, files) in layers.iter().zip(files) {
        let layer = numbered.layer;
        let digest = layer.blob.or(layer.diff_id);
        let cells = [
            numbered.number.to_string(),
            digest.map_or_else(|| "unknown".to_owned(), short),
            layer.size.map_or_else(|| "unknown".to_owned(), text::size),
        ];
        // The columns before the command: as wide as they can be in a sane image.
        const BEFORE_COMMAND: usize = 68;
        let command = layer.history.created_by.as_deref().unwrap_or_default();
        let room = width.map(|width| width.saturating_sub(BEFORE_COMMAND).max(20));
        let command = one_line(command, room);
        let [number, digest, size] = cells;
        match files {
            Some(census) => {
                let [usr, opt, etc, other] =
                    [census.usr, census.opt, census.etc, census.elsewhere].map(|n| n.to_string());
                with_files.add([number, digest, size, usr, opt, etc, other, command]);
            }
            None => without.add([number, digest, size, command]),
        }
    }
    match files.first() {
        Some(Some(_)) => with_files.print(),
        _ => without.print(),
    }
}

/// The digits by which people tell digests apart, as `--layers` takes them.
fn short(digest: sysgraft::digest::Digest) -> String {
    const DIGITS: usize = 12;
    let hex = digest.hex();
    format!("sha256:{}", hex.get(..DIGITS).unwrap_or(&hex))
}

/// A command for people: without line breaks and what builders put before it, and not longer than
/// there is room for.
fn one_line(command: &str, room: Option<usize>) -> String {
    let command = command.strip_prefix("/bin/sh -c ").unwrap_or(command);
    let command = command.strip_prefix("#(nop)").unwrap_or(command);
    let words: Vec<&str> = command.split_whitespace().collect();
    let line = printable(words.join(" ").as_bytes());
    match room {
        Some(room) if line.chars().count() > room => {
            let start: String = line.chars().take(room.saturating_sub(1)).collect();
            format!("{start}…")
        }
        _ => line,
    }
}

/// Columns of the terminal that is stdout, if it is one.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_one_safe_line_that_fits() {
        for (command, room, expected) in [
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", None, "CMD [\"sh\"]"),
            ("RUN a &&\n\tb # buildkit", None, "RUN a && b # buildkit"),
            ("a\x1b[31m", None, "a\\u{1b}[31m"),
            ("0123456789", Some(10), "0123456789"),
            ("0123456789a", Some(10), "012345678…"),
            ("", Some(10), ""),
        ] {
            assert_eq!(one_line(command, room), expected);
        }
    }
}
