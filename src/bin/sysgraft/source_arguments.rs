//! Where images are looked for: `--pull`, `--engine`, and how to talk to registries.

use anyhow::Result;
use clap::{Args, ValueEnum};
use sysgraft::source::{FindOptions, ImageReference, Pull};

use crate::registry_arguments::RegistryArguments;

/// Arguments of every command that reads container images.
#[derive(Args)]
pub struct SourceArguments {
    /// For a bare REF: ask the registry if the engine lacks the image, always, or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Missing)]
    pull: When,
    /// Container engine: unix:///PATH or tcp://HOST:PORT, with TLS as Docker's DOCKER_TLS_VERIFY and
    /// DOCKER_CERT_PATH say [default: DOCKER_HOST, DOCKER_CONTEXT, CONTAINER_HOST, Docker's current
    /// context, or the usual sockets]
    #[arg(long, value_name = "ADDRESS")]
    engine: Option<String>,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// When to ask the registry for a bare reference.
#[derive(Clone, Copy, ValueEnum)]
enum When {
    /// If the engine lacks the image
    Missing,
    /// Even if the engine has it
    Always,
    /// Not even if the engine lacks it
    Never,
}

impl SourceArguments {
    /// How to look for `image`. If it lacks the digest that is required, that is wrong usage: the
    /// program ends.
    pub fn options(&self, image: &ImageReference) -> Result<FindOptions> {
        Ok(FindOptions {
            pull: match self.pull {
                When::Missing => Pull::Missing,
                When::Always => Pull::Always,
                When::Never => Pull::Never,
            },
            engine: self.engine.clone(),
            registry: self.registry.options(image)?,
        })
    }

    /// How to look for `base`, beside which `image` is put. The login and the key of the image's
    /// signature are for `image`: another registry must not learn the one, nobody demands the other.
    pub fn options_for_base(
        &self,
        base: &ImageReference,
        image: &ImageReference,
    ) -> Result<FindOptions> {
        let mut options = self.options(base)?;
        options.registry.verify_key = None;
        if base.registry() != image.registry() {
            options.registry.credentials = None;
        }
        Ok(options)
    }
}
