//! `sysgraft sign`: a signature for an image that is there already.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use sysgraft::image::{Ddi, Output, SignRequest, SignableImage};
use sysgraft::printable::printable;
use sysgraft::seed::Seed;
use sysgraft::signature::{Certificate, accept_signature};
use sysgraft::terminal::{Bar, text};

use crate::signing_arguments::{AccessArguments, KEY_HOLDER, SigningArguments};

/// Arguments of `sysgraft sign`.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    group(ArgGroup::new(KEY_HOLDER).required(true)),
    after_long_help = "\
Examples:
  sysgraft sign --private-key db.key --certificate db.pem build/hello.sysext.raw
  sysgraft sign --private-key db.key --certificate db.pem build/*.raw
  sysgraft sign request build/hello.sysext.raw
  sysgraft sign attach --signature hello.p7s --certificate db.pem build/hello.sysext.raw

The image is proved first: a damaged one is not signed. The signed copy takes its place in one step,
whatever signature it had before; until then the old file stays as it is."
)]
pub struct Arguments {
    #[command(subcommand)]
    step: Option<Step>,
    /// Images to sign
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    signing: SigningArguments,
    #[command(flatten)]
    image: ImageArguments,
}

/// What both ways to sign take.
#[derive(Args)]
struct ImageArguments {
    /// The seed that the image was built with, if it was built unsigned and with --seed
    #[arg(long, value_name = "UUID")]
    seed: Option<Seed>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Step {
    /// Prints what is to be signed, as JSON
    Request(RequestArguments),
    /// Puts a signature that was made elsewhere into an image
    Attach(AttachArguments),
}

/// Arguments of `sysgraft sign request`.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  sysgraft sign request build/hello.sysext.raw | jq -j .rootHash |
      openssl smime -sign -binary -noattr -nocerts -md sha256 -outform DER \\
          -signer db.pem -inkey db.key -out hello.p7s

What is signed are the 64 digits of rootHash, without a line break.")]
pub struct RequestArguments {
    /// Image to be signed
    file: PathBuf,
    /// Certificate whose key is to sign: a PEM or DER file, or a pkcs11: URI
    #[arg(long, value_name = "CERTIFICATE")]
    certificate: Option<OsString>,
    #[command(flatten)]
    access: AccessArguments,
    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `sysgraft sign attach`.
#[derive(Args)]
#[command(after_long_help = "\
Example:
  sysgraft sign attach --signature hello.p7s --certificate db.pem build/hello.sysext.raw

The signature is refused unless it is over the root hash of this image, by the key of the certificate,
and in the shape that the kernel and systemd both accept: detached, without signed attributes, with
RSA (PKCS#1 v1.5) or ECDSA.")]
pub struct AttachArguments {
    /// Image to sign
    file: PathBuf,
    /// PKCS#7 signature over the root hash: DER, PEM or base64
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// Certificate whose key has signed: a PEM or DER file, or a pkcs11: URI
    #[arg(long, value_name = "CERTIFICATE")]
    certificate: OsString,
    #[command(flatten)]
    access: AccessArguments,
    #[command(flatten)]
    image: ImageArguments,
}

/// Larger files hold no signature.
const MAX_SIGNATURE_BYTES: u64 = 1 << 20;

/// Signs, or takes one of the two steps of signing.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.step {
        Some(Step::Request(request)) => print_request(request),
        Some(Step::Attach(attach)) => attach_signature(attach),
        None => sign(&arguments.files, &arguments.signing, &arguments.image),
    }
}

fn sign(files: &[PathBuf], signing: &SigningArguments, arguments: &ImageArguments) -> Result<()> {
    let signer = signing
        .load_signer()?
        .context("say who signs: --private-key or --sign-command")?;
    let certificate = signer.certificate().clone();
    let images = files
        .iter()
        .map(|file| {
            let image = SignableImage::open(file, arguments.seed)?;
            image.heed_request(&certificate)?;
            Ok(image)
        })
        .collect::<Result<Vec<_>>>()?;
    images.iter().try_for_each(prove)?;
    let mut signed = Vec::new();
    let outcome = images.into_iter().try_for_each(|image| {
        let facts = Signed::of(&image, &certificate);
        let bar = Bar::new("Copying", image.size());
        image.sign(signer.as_ref(), &|bytes| bar.advance(bytes))?;
        signed.push(facts);
        Ok(())
    });
    // Also if a later one failed: these are signed.
    Signed::print(&signed, arguments.json)?;
    outcome
}

fn attach_signature(arguments: &AttachArguments) -> Result<()> {
    let path = &arguments.signature;
    let certificate = arguments.access.load_certificate(&arguments.certificate)?;
    let pkcs7 = read_signature(path)
        .with_context(|| format!("cannot read the signature {}", path.display()))?;
    let image = SignableImage::open(&arguments.file, arguments.image.seed)?;
    let signed = Signed::of(&image, certificate.certificate());
    image.heed_request(certificate.certificate())?;
    let pkcs7 = accept_signature(&pkcs7, &image.root_hash(), &certificate)
        .with_context(|| format!("cannot use the signature {}", path.display()))?;
    prove(&image)?;
    let bar = Bar::new("Copying", image.size());
    image.attach(pkcs7, certificate.certificate(), &|bytes| {
        bar.advance(bytes);
    })?;
    drop(bar);
    Signed::print(&[signed], arguments.image.json)
}

fn read_signature(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_SIGNATURE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_SIGNATURE_BYTES,
        "it is larger than any signature"
    );
    Ok(bytes)
}

fn prove(image: &SignableImage) -> Result<()> {
    let bar = Bar::new("Proving", image.size());
    image.prove(&|bytes| bar.advance(bytes))?;
    Ok(())
}

fn print_request(arguments: &RequestArguments) -> Result<()> {
    let certificate = arguments.certificate.as_deref();
    let certificate = certificate
        .map(|certificate| arguments.access.load_certificate(certificate))
        .transpose()?;
    let ddi = Ddi::open(&arguments.file)?;
    let bar = Bar::new("Reading", ddi.size);
    let request = SignRequest::of(&ddi, certificate.as_ref(), &|bytes| bar.advance(bytes))?;
    drop(bar);
    let request = request.render();
    let Some(path) = &arguments.output else {
        let print = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(request.as_bytes())?;
            stdout.flush()
        };
        return print().context(text::STDOUT_FAILED);
    };
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let output = Output::create(folder, name)?;
    let written = output.file().write_all(request.as_bytes());
    written.with_context(|| format!("cannot write {}", path.display()))?;
    output.commit()?;
    Ok(())
}

/// What is said of a signed image.
struct Signed {
    path: PathBuf,
    root_hash: String,
    signer: String,
    fingerprint: String,
}

impl Signed {
    fn of(image: &SignableImage, certificate: &Certificate) -> Signed {
        Signed {
            path: image.path().to_path_buf(),
            root_hash: image.root_hash().to_string(),
            signer: certificate.subject(),
            fingerprint: certificate.fingerprint().hex(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "path": self.path,
            "rootHash": self.root_hash,
            "signedBy": self.signer,
            "certificateFingerprint": self.fingerprint,
        })
    }

    /// One image as an object, several as a list, as builds tell of them.
    fn print(signed: &[Signed], as_json: bool) -> Result<()> {
        let print = || {
            let mut stdout = io::stdout().lock();
            match signed {
                [] => return Ok(()),
                [one] if as_json => return writeln!(stdout, "{:#}", one.json()),
                all if as_json => {
                    let facts: Vec<Value> = all.iter().map(Signed::json).collect();
                    return writeln!(stdout, "{:#}", Value::from(facts));
                }
                _ => {}
            }
            for image in signed {
                writeln!(stdout, "{}", image.path.display())?;
                writeln!(stdout, "root hash  {}", image.root_hash)?;
                writeln!(stdout, "signed by  {}", printable(image.signer.as_bytes()))?;
            }
            Ok(())
        };
        print().context(text::STDOUT_FAILED)
    }
}
