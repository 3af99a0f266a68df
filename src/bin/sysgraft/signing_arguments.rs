//! The arguments that say who signs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use sysgraft::signature::{
    self, CommandInput, CommandSigner, Passphrase, PemSigner, Pkcs11Error, Pkcs11Signer, Pkcs11Uri,
    Signer, SignerWarning, SigningCertificate, TokenAccess,
};
use sysgraft::terminal::text;

use crate::passphrase;

/// The group of the arguments that say who makes the signature; there can be one of them.
pub const KEY_HOLDER: &str = "key_holder";

/// Key and certificate, in files, tokens, or wherever a program can find them.
#[derive(Args)]
pub struct SigningArguments {
    /// Key that signs the root hash: a PEM file, or a pkcs11: URI (RFC 7512); RSA of 2048 bits or
    /// more, or ECDSA P-256 or P-384
    // Not parsed by clap, whose errors would show a PIN in the URI.
    #[arg(long, value_name = "KEY", group = KEY_HOLDER, requires = "certificate")]
    private_key: Option<OsString>,
    /// The key's certificate: a PEM or DER file, or a pkcs11: URI
    #[arg(long, value_name = "CERTIFICATE", requires = KEY_HOLDER)]
    certificate: Option<OsString>,
    #[command(flatten)]
    access: AccessArguments,
    /// Program that signs what it gets on standard input, and prints the bytes of the signature;
    /// split into words as a shell does, but not run by one
    #[arg(long, value_name = "COMMAND", group = KEY_HOLDER, requires = "certificate")]
    sign_command: Option<String>,
    /// What the sign command gets
    #[arg(
        long,
        value_name = "INPUT",
        value_enum,
        default_value_t = Input::Message,
        requires = "sign_command",
        conflicts_with = "private_key"
    )]
    sign_command_input: Input,
    /// Seconds after which the sign command is ended
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400),
        requires = "sign_command",
        conflicts_with = "private_key"
    )]
    sign_timeout: u64,
}

/// How to open encrypted keys and tokens.
#[derive(Args)]
pub struct AccessArguments {
    /// File whose first line is the passphrase of the private key or the PIN of the token; without
    /// it the environment variable SYSGRAFT_PASSPHRASE is used
    #[arg(long, value_name = "FILE", requires = "certificate")]
    passphrase_file: Option<PathBuf>,
    /// Library that speaks with the token, unless the URI has a module-path [default:
    /// p11-kit-proxy.so]
    #[arg(
        long,
        value_name = "LIBRARY",
        env = "PKCS11_MODULE_PATH",
        hide_env_values = true
    )]
    pkcs11_module: Option<PathBuf>,
    /// Sign although the certificate has expired or is not valid yet; hosts do not look at its dates
    #[arg(long, requires = "certificate")]
    ignore_validity: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Input {
    /// The bytes to be signed
    Message,
    /// Their digest
    Digest,
}

impl SigningArguments {
    /// Whoever signs, if anybody does; with a warning about what is doubtful, an error if it can be
    /// mended.
    pub fn load_signer(&self) -> Result<Option<Box<dyn Signer>>> {
        let signer = self.open_signer()?;
        if let Some(signer) = &signer {
            self.access.heed(signer.warnings())?;
        }
        Ok(signer)
    }

    fn open_signer(&self) -> Result<Option<Box<dyn Signer>>> {
        if let Some(command) = &self.sign_command {
            let input = match self.sign_command_input {
                Input::Message => CommandInput::Message,
                Input::Digest => CommandInput::Digest,
            };
            let timeout = Duration::from_secs(self.sign_timeout);
            let signer = CommandSigner::new(command, input, timeout, self.certificate()?)?;
            return Ok(Some(Box::new(signer)));
        }
        let Some(key) = &self.private_key else {
            return Ok(None);
        };
        let certificate = self.certificate()?;
        if let Some(uri) = parse_uri("private key", key)? {
            let signer = Pkcs11Signer::open(&uri, &self.access.token_access()?, certificate)?;
            return Ok(Some(Box::new(signer)));
        }
        let passphrase = self.access.read_passphrase()?;
        let signer = PemSigner::with_certificate(key.as_ref(), passphrase, certificate)?;
        Ok(Some(Box::new(signer)))
    }

    /// The certificate alone, if there is one.
    pub fn load_certificate(&self) -> Result<Option<SigningCertificate>> {
        let certificate = self.certificate.as_ref();
        certificate
            .map(|certificate| self.access.load_certificate(certificate))
            .transpose()
    }

    fn certificate(&self) -> Result<SigningCertificate> {
        let certificate = self.certificate.as_ref();
        self.access
            .certificate(certificate.context("a key needs its --certificate")?)
    }
}

impl AccessArguments {
    /// Loads a certificate; with a warning about what is doubtful, an error if it can be mended.
    pub fn load_certificate(&self, certificate: &OsStr) -> Result<SigningCertificate> {
        let certificate = self.certificate(certificate)?;
        self.heed(certificate.warnings())?;
        Ok(certificate)
    }

    fn certificate(&self, certificate: &OsStr) -> Result<SigningCertificate> {
        Ok(match parse_uri("certificate", certificate)? {
            Some(uri) => signature::load_certificate(&uri, &self.token_access()?)?,
            None => SigningCertificate::load(certificate.as_ref())?,
        })
    }

    fn token_access(&self) -> Result<TokenAccess> {
        Ok(TokenAccess {
            module: self.pkcs11_module.clone(),
            pin: self.read_passphrase()?,
        })
    }

    fn read_passphrase(&self) -> Result<Option<Passphrase>> {
        passphrase::read(self.passphrase_file.as_deref())
    }

    /// Passes if nothing is wrong that can be mended; warns of the rest.
    fn heed(&self, warnings: &[SignerWarning]) -> Result<()> {
        for warning in warnings {
            match warning {
                SignerWarning::Expired { .. } | SignerWarning::NotYetValid(_)
                    if !self.ignore_validity =>
                {
                    bail!("{warning}; renew it, or say --ignore-validity");
                }
                SignerWarning::Chain { .. } => bail!("{warning}; leave it alone in the file"),
                _ => text::warning(&warning.to_string()),
            }
        }
        Ok(())
    }
}

/// The URI that an argument is, unless it is a path.
fn parse_uri(what: &'static str, argument: &OsStr) -> Result<Option<Pkcs11Uri>> {
    let Some(text) = argument
        .to_str()
        .filter(|text| Pkcs11Uri::is_meant_by(text))
    else {
        return Ok(None);
    };
    let parsed = text.parse();
    Ok(Some(
        parsed.map_err(|source| Pkcs11Error::Uri { what, source })?,
    ))
}
