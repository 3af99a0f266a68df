//! `install`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use sysgraft::digest::{Digest, unhex32};
use sysgraft::node::install::{self, Installed, Outcome, Request};
use sysgraft::node::policy::Allowed;
use sysgraft::node::profile::Profile;
use sysgraft::node::store::Proof;
use sysgraft::node::upgrade::Sources;
use sysgraft::printable::printable;
use sysgraft::terminal::text::{self, STDOUT_FAILED, log};

use crate::context::{ChangeArguments, Context};
use crate::output;
use crate::profiles::ProfileArguments;
use crate::progress::Reporter;

/// Arguments of `install`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sysgraft-agent sysext install https://example.com/k3s_1.29.2.sysext.raw
  sysgraft-agent sysext install --now oci:registry.example.com/k3s:1.29.2
  sysgraft-agent confext install --certificate db.pem file:site.confext.raw

URI is file:PATH or a path, http(s)://…, oci:IMAGE, or a name in a catalog. Images compressed with xz,
gzip or zstd are unpacked. What is damaged, not signed by somebody trusted or not made for this node is
not stored. With a profile the extension is enabled there, with --now also merged.

Exit codes: 0 done, 1 failed and nothing changed, 2 wrong usage.")]
pub struct Arguments {
    /// Where it comes from
    #[arg(value_name = "URI")]
    uri: String,
    /// Its version; of a name in a catalog a tag or a constraint, as >=1.2
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    profiles: ProfileArguments,
    #[command(flatten)]
    change: ChangeArguments,
}

/// What is demanded of what is brought in, and of where it comes from.
#[derive(Args)]
pub struct SourceArguments {
    /// The SHA-256 that it must have, in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    sha256: Option<Digest>,
    /// A catalog (releases.json) in which a name is looked up, before those of the configuration
    #[arg(long, value_name = "URL")]
    catalog: Vec<String>,
    /// Trust the certificate in this file for this installation
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Let it in although nobody signed it
    #[arg(long)]
    allow_unsigned: bool,
    /// Let it in without looking at it
    #[arg(long)]
    insecure_skip_verify: bool,
    /// Trust the certificates in this PEM file when talking to servers
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl SourceArguments {
    /// Where a name is looked up.
    pub fn sources<'a>(&'a self, version: Option<&'a str>) -> Sources<'a> {
        Sources {
            catalogs: &self.catalog,
            ca_file: self.ca_file.as_deref(),
            version,
        }
    }

    /// Whether a catalog is named, beside those of the configuration.
    pub fn names_catalog(&self) -> bool {
        !self.catalog.is_empty()
    }

    /// The first flag that is set, all of which are about what is fetched.
    pub fn first_flag(&self) -> Option<&'static str> {
        let flags = [
            (self.sha256.is_some(), "--sha256"),
            (!self.catalog.is_empty(), "--catalog"),
            (!self.certificate.is_empty(), "--certificate"),
            (self.allow_unsigned, "--allow-unsigned"),
            (self.insecure_skip_verify, "--insecure-skip-verify"),
            (self.ca_file.is_some(), "--ca-file"),
        ];
        let mut set = flags.into_iter().filter(|(is_set, _)| *is_set);
        set.next().map(|(_, flag)| flag)
    }

    /// The request to bring in what lies at `uri`.
    pub fn request<'a>(
        &'a self,
        uri: &'a str,
        version: Option<&'a str>,
        profile: Option<Profile>,
    ) -> Request<'a> {
        Request {
            uri,
            sha256: self.sha256,
            version,
            catalogs: &self.catalog,
            certificates: &self.certificate,
            ca_file: self.ca_file.as_deref(),
            allowed: Allowed {
                unsigned: self.allow_unsigned,
                skip: self.insecure_skip_verify,
            },
            profile,
            declared_by: None,
        }
    }
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digest = unhex32(hex).map(Digest::from_bytes);
    digest.ok_or_else(|| "it is not 64 hexadecimal digits".to_owned())
}

/// Brings an artefact into the store, and perhaps enables it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let profile = match arguments.change.now {
        true => Some(arguments.profiles.required(&context.node)),
        false => arguments.profiles.optional(),
    };
    let version = arguments.version.as_deref();
    let request = arguments.source.request(&arguments.uri, version, profile);
    let notify = |message: &str| context.debug(message);
    let options = context.options(arguments.change, &notify);
    let reporter = Reporter::default();
    let outcome = install::install(&context.node, context.kind, &request, options, &reporter);
    drop(reporter);
    let outcome =
        outcome.with_context(|| format!("failed installing {} extension", context.adjective()))?;
    match outcome {
        Outcome::Planned(done) => {
            output::change(arguments.change, &done, json!({}))?;
        }
        Outcome::Installed(installed) => {
            say(context, arguments, &installed);
            print(context, arguments, &installed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(context: &Context, arguments: &Arguments, installed: &Installed) {
    let Installed { file, source, .. } = installed;
    if installed.already {
        log(&format!(
            "{} extension {file} is already installed",
            context.title()
        ));
    } else {
        log(&format!("{} extension {source} installed", context.title()));
    }
    if let Some(taken) = &installed.taken {
        log(&format!(
            "It is stored as {file}, for another {taken} is enabled"
        ));
    }
    let Some(profile) = installed.profile else {
        return;
    };
    log(&format!("Extension {file} enabled in {profile}"));
    if arguments.change.now && installed.is_booted {
        log(&format!("Extension {file} merged by {}", context.merger()));
    } else if arguments.change.now {
        log(&format!(
            "Extension {file} enabled in {profile} but not merged as we are currently not booted in {profile}"
        ));
    }
}

fn print(context: &Context, arguments: &Arguments, installed: &Installed) -> Result<()> {
    let version = installed.version.as_ref().map(ToString::to_string);
    if arguments.change.json {
        let facts = json!({
            "file": installed.file,
            "name": installed.name.as_str(),
            "version": version,
            "size": installed.size,
            "digest": installed.digest.to_string(),
            "proof": installed.proof,
            "source": installed.source,
            "already": installed.already,
            "profile": installed.profile,
            "merged": installed.done.activated.is_some(),
        });
        output::change(arguments.change, &installed.done, facts)?;
        return Ok(());
    }
    let signed_by = match &installed.proof {
        Proof::Signed { signer, .. } => printable(signer.as_bytes()),
        Proof::Unsigned { .. } => "nobody".to_owned(),
        Proof::Skipped => "nobody looked".to_owned(),
    };
    let path = context
        .node
        .layout
        .store_of_node(context.kind)
        .join(&installed.file);
    let mut out = io::stdout().lock();
    let mut write = || {
        writeln!(out, "{}  {}", path.display(), text::size(installed.size))?;
        if let Some(version) = &version {
            writeln!(out, "version    {}", printable(version.as_bytes()))?;
        }
        writeln!(out, "digest     {}", installed.digest)?;
        writeln!(out, "signed by  {signed_by}")
    };
    write().context(STDOUT_FAILED)
}
