//! One build for one platform after the other.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::error::ErrorKind;
use sysgraft::architecture::Architecture;
use sysgraft::build::{self, Built, Lint, Packer, Progress, Request};
use sysgraft::erofs::{Compression, TailPacking};
use sysgraft::extension::ExtensionKind;
use sysgraft::image::SignRequest;
use sysgraft::image_file::{ImageFileStem, InvalidStem};
use sysgraft::lint::{Files, Folder, Policy};
use sysgraft::printable::printable;
use sysgraft::provenance::Provenance;
use sysgraft::seed::Seed;
use sysgraft::signature::{Signer, Signing, SigningCertificate};
use sysgraft::source::{
    self, FindOptions, Image, ImageReference, Layer, NumberedLayer, Offered, Platform,
};
use sysgraft::terminal::text::{self, log};
use sysgraft::tree::ContentRules;

use super::CommonArguments;
use crate::compared;
use crate::jobs;
use crate::lint_arguments;
use crate::outcome::{self, Made};
use crate::progress::Reporter;
use crate::release_arguments::ReleasePlan;
use crate::report_file;
use crate::survey;

/// What is the same for every platform.
pub struct Job<'a> {
    kind: ExtensionKind,
    arguments: &'a CommonArguments,
    release: ReleasePlan<'a>,
    /// How to look for the image.
    pub sources: FindOptions,
    rules: ContentRules,
    signer: Option<Box<dyn Signer>>,
    /// The certificate of a later signature.
    certificate: Option<SigningCertificate>,
    packer: Packer,
    tail_packing: TailPacking,
    lint_policy: Policy,
    /// The system that is to be extended.
    host_root: Option<Folder>,
}

impl<'a> Job<'a> {
    /// Loads and checks whatever can be before the image is looked for.
    pub fn prepare(
        kind: ExtensionKind,
        arguments: &'a CommonArguments,
        sources: FindOptions,
        with_opt: bool,
    ) -> Result<Job<'a>> {
        let signer = arguments.signing.load_signer()?;
        let certificate = match arguments.sign_later {
            true => arguments.signing.load_certificate()?,
            false => None,
        };
        if signer.is_none() && !arguments.sign_later {
            text::warning(
                "the image will not be signed; hosts that demand signed extensions will refuse it \
                 (sign it with --private-key and --certificate)",
            );
        }
        Ok(Job {
            kind,
            arguments,
            release: arguments.release.plan(kind)?,
            sources,
            rules: arguments.content.rules(kind, with_opt)?,
            signer,
            certificate,
            packer: arguments.packer.find()?,
            tail_packing: tail_packing(arguments)?,
            lint_policy: arguments.lint.policy(),
            host_root: arguments.lint.open_host_root()?,
        })
    }

    /// Whether there may be more than one extension.
    pub fn is_for_several(&self) -> bool {
        self.arguments.platform.is_for_several()
    }

    /// What the file for `architecture` is called.
    pub fn file(&self, architecture: Architecture) -> Result<ImageFileStem, InvalidStem> {
        ImageFileStem::new(
            &self.arguments.name,
            self.arguments.release.version(),
            self.is_for_several().then_some(architecture),
        )
    }

    /// That `--report` can be written, and would not take the place of what is made for one of
    /// the `chosen` platforms; that would be wrong usage: the program ends.
    pub fn check_report(&self, report: &Path, chosen: &[Offered]) -> Result<()> {
        let place = report_file::place(report)?;
        let Ok(output) = self.arguments.output.canonicalize() else {
            return Ok(()); // The build says why.
        };
        for Offered { platform, .. } in chosen {
            let file = self.file(platform.architecture)?;
            let image = file.file_name(self.kind);
            if [image, SignRequest::file_name_of(&file)]
                .map(|name| output.join(name))
                .contains(&place)
            {
                crate::usage_error(
                    ErrorKind::ArgumentConflict,
                    format!(
                        "--report {} would take the place of what is made; choose another name",
                        report.display()
                    ),
                );
            }
        }
        Ok(())
    }

    /// From the image for one platform, which is called `reference`, to one extension.
    pub fn run(&self, platform: &Platform, reference: &ImageReference) -> Result<Made> {
        log("💿 Getting image info");
        let image = source::find(reference, platform, &self.sources)?;
        let base = self.find_base(platform)?;
        let layers = self
            .arguments
            .content
            .layers
            .choose(&image, base.as_ref())?;
        log(&describe(&image, &layers));
        let architecture = image.architecture.unwrap_or(platform.architecture);
        let built = self.build(&image, &layers, base.as_ref(), architecture)?;
        outcome::report(&built.report, self.arguments.verbose);
        lint_arguments::show(&built.findings, self.arguments.verbose);
        log(&format!(
            "🎉 Done {} creation output={}",
            self.kind,
            built.path.display()
        ));
        let report = report_file::facts(&built, &image, &layers);
        Ok(Made::of(
            &built,
            &image,
            platform,
            self.signer.as_deref(),
            report,
        ))
    }

    /// The image that `--base` names.
    fn find_base(&self, platform: &Platform) -> Result<Option<Image>> {
        let arguments = self.arguments;
        let Some(base) = &arguments.content.layers.base else {
            return Ok(None);
        };
        let sources = arguments.source.options_for_base(base, &arguments.image)?;
        let found = source::find(base, platform, &sources)
            .context("cannot find the image that --base names")?;
        let location = printable(found.location.as_bytes());
        log(&format!("   above {location}"));
        Ok(Some(found))
    }

    /// Makes one extension of the layers `chosen`.
    fn build(
        &self,
        image: &Image,
        chosen: &[NumberedLayer<'_>],
        base: Option<&Image>,
        architecture: Architecture,
    ) -> Result<Built> {
        let arguments = self.arguments;
        let layers: Vec<&Layer> = chosen.iter().map(|numbered| numbered.layer).collect();
        let provenance = Provenance::of(&arguments.image, image, &layers);
        let release = self.release.release(architecture, Some(provenance))?;
        let file = self.file(architecture)?;
        let seed = arguments
            .seed
            .unwrap_or_else(|| Seed::of_extension(self.kind, &arguments.name, architecture));
        let base = match base {
            Some(base) => compared::files_of(base, self.kind)?,
            None => None,
        };
        let host_root = self.host_root.as_ref().map(|root| root as &dyn Files);
        let reporter: Arc<dyn Progress> = Arc::new(Reporter::new(self.kind, stored_bytes(&layers)));
        let request = Request {
            kind: self.kind,
            name: &arguments.name,
            architecture,
            layers: &layers,
            rules: self.rules.clone(),
            release: &release,
            seed,
            packer: self.packer.clone(),
            compression: arguments.compression,
            chunk_size: arguments.chunk_size,
            tail_packing: self.tail_packing,
            jobs: arguments.jobs.unwrap_or_else(jobs::all_cores),
            lint: Lint {
                policy: &self.lint_policy,
                base: base.as_deref().or(host_root),
            },
            signing: self.signing(),
            file: &file,
            folder: &arguments.output,
        };
        let built = build::build(&request, &reporter);
        drop(reporter);
        built
            .inspect_err(lint_arguments::show_refused)
            .map_err(|error| survey::advise(error.into(), self.kind, image, chosen))
    }

    fn signing(&self) -> Signing<'_> {
        match &self.signer {
            Some(signer) => Signing::Now(signer.as_ref()),
            None if self.arguments.sign_later => Signing::Later {
                certificate: self.certificate.as_ref(),
            },
            None => Signing::Never,
        }
    }
}

/// How much will be read, if that is known.
fn stored_bytes(layers: &[&Layer]) -> Option<u64> {
    layers.iter().map(|layer| layer.size).sum()
}

fn tail_packing(arguments: &CommonArguments) -> Result<TailPacking> {
    let compression = arguments.compression;
    match arguments.tail_packing {
        None => Ok(TailPacking::best_for(compression)),
        Some(packing) => {
            ensure!(
                packing == TailPacking::None || compression != Compression::None,
                "--tail-packing {packing} is for compressed files: leave it out, or choose another \
                 --compression than none"
            );
            Ok(packing)
        }
    }
}

/// What will be read.
fn describe(image: &Image, layers: &[NumberedLayer<'_>]) -> String {
    let mut line = format!("   {}", printable(image.location.as_bytes()));
    if let Some(digest) = image.digest {
        line += &format!(" {digest}");
    }
    let numbers: Vec<usize> = layers.iter().map(|numbered| numbered.number).collect();
    line += &match (numbers.as_slice(), image.layers.len()) {
        (_, 1) => ", its only layer".to_owned(),
        ([number], count) if *number == count => format!(", last of {count} layers"),
        (numbers, count) if numbers.len() == count => format!(", all of its {count} layers"),
        ([number], count) => format!(", layer {number} of {count}"),
        (numbers, count) => format!(", layers {} of {count}", source::ranges(numbers)),
    };
    if let [NumberedLayer { layer, .. }] = layers
        && let Some(digest) = layer.blob.or(layer.diff_id)
    {
        line += &format!(" {digest}");
    }
    let size: Option<u64> = layers.iter().map(|numbered| numbered.layer.size).sum();
    if let Some(size) = size {
        line += &format!(" ({})", text::size(size));
    }
    line
}
