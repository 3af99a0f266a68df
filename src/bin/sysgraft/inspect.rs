//! `sysgraft inspect`: what is in an extension image.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use sysgraft::inspection::{Facts, FileSystemFacts, inspect};
use sysgraft::page;
use sysgraft::printable::printable;
use sysgraft::terminal::text;

use crate::page_file;

/// Arguments of `sysgraft inspect`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft inspect build/hello.sysext.raw
  sysgraft inspect --json build/hello.sysext.raw | jq -r .rootHash
  sysgraft inspect --html hello.html build/hello.sysext.raw

Shows what the image says of itself, and whether the signature is over its root hash by the certificate
that it brings along. It neither reads every block nor asks whom to trust; `sysgraft verify` does.")]
pub struct Arguments {
    /// Image to look into
    file: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Write a page for browsers, complete in itself, to this file
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// Shows one image.
pub fn run(arguments: &Arguments) -> Result<()> {
    let inspected = inspect(&arguments.file)?;
    if let Some(file) = &arguments.html {
        return page_file::write(file, &page::of_image(&inspected.facts));
    }
    print(&inspected.facts, arguments.json).context(text::STDOUT_FAILED)
}

fn print(facts: &Facts, as_json: bool) -> io::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    if as_json {
        serde_json::to_writer_pretty(&mut stdout, facts)?;
        writeln!(stdout)?;
    } else {
        show(&mut stdout, facts)?;
    }
    stdout.flush()
}

fn show(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    writeln!(out, "{}  {}", facts.path, text::size(facts.size))?;
    if let (Some(kind), Some(name)) = (facts.kind, &facts.name) {
        writeln!(out, "\nextension    {name} ({kind})")?;
    }
    for (key, value) in &facts.release {
        writeln!(out, "             {key}={}", printable(value.as_bytes()))?;
    }
    if let Some(problem) = &facts.release_problem {
        writeln!(out, "             release file NOT READ: {problem}")?;
    }
    show_protection(out, facts)?;
    writeln!(
        out,
        "\npartitions   disk {}, tables: {}",
        facts.disk_guid, facts.partition_tables
    )?;
    for partition in &facts.partitions {
        let read_only = if partition.read_only { "ro" } else { "  " };
        writeln!(
            out,
            "             {:<24} {} {read_only} {:>10} at {}",
            printable(partition.label.as_bytes()),
            partition.uuid,
            text::size(partition.size),
            partition.offset
        )?;
    }
    show_file_system(out, &facts.file_system)?;
    writeln!(out)?;
    for file in &facts.files {
        let target = file
            .target
            .as_ref()
            .map(|target| format!(" -> {target}"))
            .unwrap_or_default();
        writeln!(
            out,
            "  {:<16} {} {:>5}:{:<5} {:>10} {}{target}",
            file.kind,
            file.mode,
            file.uid,
            file.gid,
            text::size(file.size),
            file.path
        )?;
    }
    Ok(())
}

fn show_file_system(out: &mut impl Write, facts: &FileSystemFacts) -> io::Result<()> {
    let FileSystemFacts {
        kind,
        uuid,
        inodes,
        ratio,
        minimum_kernel,
        ..
    } = facts;
    let compression = match facts.compression.as_slice() {
        [] => "not compressed".to_owned(),
        algorithms => format!("{}, content to image {ratio:.2}", algorithms.join(" and ")),
    };
    writeln!(out, "\nfile system  {kind} {uuid}, {inodes} inodes")?;
    writeln!(
        out,
        "             {compression}, needs Linux {minimum_kernel}"
    )
}

fn show_protection(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    match &facts.root_hash {
        Some(root_hash) => writeln!(out, "root hash    {root_hash}")?,
        None => writeln!(out, "root hash    none: the image has no hash tree")?,
    }
    let Some(signature) = &facts.signature else {
        let missing = match facts.awaits_signature {
            true => "none yet: systemd refuses the image until it is signed (`sysgraft sign`)",
            false => "none",
        };
        return writeln!(out, "signature    {missing}");
    };
    match (&signature.problem, &signature.signer) {
        (None, Some(signer)) => {
            writeln!(out, "signature    by {}", printable(signer.as_bytes()))?;
        }
        (problem, _) => {
            let problem = problem.as_deref().unwrap_or("by an unknown signer");
            writeln!(out, "signature    NOT VALID: {problem}")?;
        }
    }
    for objection in &signature.objections {
        writeln!(out, "             NOT FOR EVERY HOST: {objection}")?;
    }
    if let Some(fingerprint) = &signature.certificate_fingerprint {
        let until = signature.not_after.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "             certificate sha256:{fingerprint}, valid until {until}"
        )?;
    }
    Ok(())
}
