//! `sysgraft genkey`: the keys of Secure Boot and of signed extensions.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use sysgraft::efi::Guid;
use sysgraft::secureboot::{
    CommonName, CustomEntries, EfiTime, ExistingKeys, KeyFolder, KeyPair, KeySet, KeySetRequest,
    KeyType, PartialSubject, Subject, TpmKey, Validity,
};
use sysgraft::signature::Passphrase;
use sysgraft::terminal::text::{self, log};

use crate::content_arguments::source_date_epoch;
use crate::passphrase;

/// Arguments of `sysgraft genkey`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  sysgraft genkey fleet
  sysgraft genkey --output keys --expiration-in-days 3650 --extension-key fleet
  sysgraft genkey --output renewed --owner-guid $(cat keys/guid.txt) \\
    --pk-key keys/PK.key --pk-cert keys/PK.pem --kek-key keys/KEK.key --kek-cert keys/KEK.pem \\
    --tpm-pcr-private-key keys/tpm2-pcr-private.pem fleet

The folder holds PK, KEK and db, each as .key (private, PKCS#8), .pem and .der (its certificate),
.esl (EFI signature lists) and .auth (the same, signed for enrolment: PK and KEK by PK, db by KEK);
the pair tpm2-pcr-private.pem and tpm2-pcr-public.pem; the owner's guid.txt, and a README. It appears
complete or not at all. SOURCE_DATE_EPOCH sets the time that the .auth files bear.

A passphrase (--passphrase-file, or the variable SYSGRAFT_PASSPHRASE) opens the keys that are used
again and encrypts all private keys that are written.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted.")]
pub struct Arguments {
    /// What the certificates are called: CN=NAME-PK, NAME-KEK, NAME-db [default: the host's name, or
    /// sysgraft]
    name: Option<CommonName>,
    /// Folder for the keys; it is created if it is missing. What root puts there belongs to the
    /// folder's owner, a new folder to that of the one around it
    #[arg(short, long, value_name = "DIR", default_value = "keys/")]
    output: PathBuf,
    /// Days for which new certificates are valid
    #[arg(
        short,
        long,
        value_name = "DAYS",
        default_value = "365",
        allow_hyphen_values = true
    )]
    expiration_in_days: Validity,
    /// Leave Microsoft's certificates out of KEK and db. Hardware whose option ROMs they signed may
    /// never start again
    #[arg(long = "skip-microsoft-certs-I-KNOW-WHAT-IM-DOING")]
    skip_microsoft: bool,
    /// Folder with the signature lists KEK and db, as firmware exports them, to enrol as well
    #[arg(long, value_name = "DIR")]
    custom_cert_dir: Option<PathBuf>,
    /// Type of new keys: rsa2048, rsa3072, rsa4096, p256 or p384. Little firmware takes p256 and p384
    #[arg(long, value_name = "TYPE", default_value_t = KeyType::Rsa2048)]
    key_type: KeyType,
    /// Make a further key, of this type or that of the others, that signs extensions and nothing else
    #[arg(long, value_name = "TYPE", num_args = 0..=1, require_equals = true)]
    extension_key: Option<Option<KeyType>>,
    /// Owner of the set's certificates in firmware [default: a random GUID]
    #[arg(long, value_name = "GUID")]
    owner_guid: Option<Guid>,
    /// What stands on certificates beside the name, as /C=DE/O=Example; a CN there takes NAME's place
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<PartialSubject>,
    /// Use this platform key again (PEM)
    #[arg(long, value_name = "FILE", requires = "pk_cert")]
    pk_key: Option<PathBuf>,
    /// Its certificate (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "pk_key")]
    pk_cert: Option<PathBuf>,
    /// Use this key exchange key again (PEM)
    #[arg(long, value_name = "FILE", requires = "kek_cert")]
    kek_key: Option<PathBuf>,
    /// Its certificate (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "kek_key")]
    kek_cert: Option<PathBuf>,
    /// Use this signature database key again (PEM)
    #[arg(long, value_name = "FILE", requires = "db_cert")]
    db_key: Option<PathBuf>,
    /// Its certificate (PEM or DER)
    #[arg(long, value_name = "FILE", requires = "db_key")]
    db_cert: Option<PathBuf>,
    /// Use this key for the TPM policies of measured boot again (PEM, RSA)
    #[arg(long, value_name = "FILE")]
    tpm_pcr_private_key: Option<PathBuf>,
    /// File whose first line is the private keys' passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Replace keys that are in the folder. They are gone then; what the new set has not, such as an
    /// older extension.key, stays
    #[arg(long)]
    force: bool,
    /// Print what was made as JSON
    #[arg(long)]
    json: bool,
}

/// Makes a key set and says what it is.
pub fn run(arguments: &Arguments) -> Result<()> {
    let subject = subject(arguments)?;
    let passphrase = passphrase::read(arguments.passphrase_file.as_deref())?;
    let passphrase = passphrase.as_ref();
    let request = KeySetRequest {
        subject: &subject,
        validity: arguments.expiration_in_days,
        key_type: arguments.key_type,
        extension_key: arguments
            .extension_key
            .map(|key_type| key_type.unwrap_or(arguments.key_type)),
        owner: match arguments.owner_guid {
            Some(owner) => owner,
            None => Guid::random().context("cannot make a random GUID")?,
        },
        microsoft: !arguments.skip_microsoft,
        custom: custom(arguments)?,
        signed_at: signing_time()?,
    };
    let existing = ExistingKeys {
        pk: load(&arguments.pk_key, &arguments.pk_cert, passphrase)?,
        kek: load(&arguments.kek_key, &arguments.kek_cert, passphrase)?,
        db: load(&arguments.db_key, &arguments.db_cert, passphrase)?,
        tpm: match &arguments.tpm_pcr_private_key {
            Some(path) => Some(TpmKey::load(path, passphrase)?),
            None => None,
        },
    };
    let folder = KeyFolder::prepare(&arguments.output, arguments.force)?;
    warn(arguments, &existing);

    log(&format!("🔑 Generating keys of {}", subject.common_name()));
    let set = KeySet::generate(&request, existing, &|key| log(&format!("   {key}")))?;
    folder.store(&set.files(passphrase.map(Passphrase::reveal))?)?;
    log(&format!("🎉 Done output={}", arguments.output.display()));
    let printed = if arguments.json {
        print_json(&set, &arguments.output, passphrase.is_some())
    } else {
        print_lines(&set, &arguments.output)
    };
    printed.context(text::STDOUT_FAILED)
}

/// Whom the keys belong to: NAME, the subject's common name, or the host's name.
fn subject(arguments: &Arguments) -> Result<Subject> {
    let partial = arguments.subject.clone().unwrap_or_default();
    let name = match (&arguments.name, &partial.common_name) {
        (Some(name), Some(other)) => {
            bail!("both NAME ({name}) and --subject (CN={other}) name the keys; leave one out")
        }
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => match host_name() {
            Some(name) => name,
            None => "sysgraft".parse()?,
        },
    };
    Ok(partial.named(name))
}

/// The host's name, if it has one that can stand on certificates.
fn host_name() -> Option<CommonName> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    if ["(none)", "localhost"].contains(&name) {
        return None;
    }
    name.parse().ok()
}

fn custom(arguments: &Arguments) -> Result<CustomEntries> {
    let Some(folder) = &arguments.custom_cert_dir else {
        return Ok(CustomEntries::default());
    };
    let custom = CustomEntries::load(folder)?;
    for left_out in custom.left_out() {
        text::warning(&left_out.to_string());
    }
    Ok(custom)
}

fn signing_time() -> Result<EfiTime> {
    let now = || Ok::<_, anyhow::Error>(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let seconds = match source_date_epoch()? {
        Some(seconds) => seconds,
        None => i64::try_from(now()?)?,
    };
    EfiTime::from_unix(seconds).context("cannot date the .auth files")
}

fn load(
    key: &Option<PathBuf>,
    certificate: &Option<PathBuf>,
    passphrase: Option<&Passphrase>,
) -> Result<Option<KeyPair>> {
    let (Some(key), Some(certificate)) = (key, certificate) else {
        return Ok(None);
    };
    let (pair, warnings) = KeyPair::load(key, certificate, passphrase)?;
    for warning in warnings {
        text::warning(&warning.to_string());
    }
    Ok(Some(pair))
}

fn warn(arguments: &Arguments, existing: &ExistingKeys) {
    let is_made = [&existing.pk, &existing.kek, &existing.db].map(Option::is_none);
    if !arguments.key_type.is_rsa() && is_made.contains(&true) {
        text::warning(&format!(
            "little firmware verifies {} signatures; try the keys on every kind of machine first",
            arguments.key_type
        ));
    }
    if arguments.skip_microsoft {
        text::warning(
            "KEK and db lack Microsoft's certificates: hardware with option ROMs that Microsoft \
             signed, such as graphics and network cards, may never start again",
        );
    }
}

fn print_lines(set: &KeySet, folder: &Path) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (name, pair) in pairs(set) {
        let certificate = pair.certificate();
        writeln!(stdout, "{}", folder.join(format!("{name}.pem")).display())?;
        writeln!(stdout, "  subject      {}", certificate.subject())?;
        writeln!(stdout, "  key          {}", pair.key_type())?;
        writeln!(stdout, "  valid until  {}", certificate.not_after())?;
        writeln!(stdout, "  SHA-256      {}", certificate.fingerprint().hex())?;
    }
    writeln!(stdout, "owner GUID     {}", set.owner())
}

fn print_json(set: &KeySet, folder: &Path, encrypted: bool) -> io::Result<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    let firmware = set.firmware_keys();
    let keys: Vec<Value> = pairs(set)
        .map(|(name, pair)| {
            let certificate = pair.certificate();
            let in_firmware = firmware.iter().find(|key| key.variable().name() == name);
            json!({
                "name": name,
                "keyType": pair.key_type(),
                "reused": in_firmware.is_some_and(|key| key.is_reused()),
                "subject": certificate.subject(),
                "serial": certificate.serial(),
                "notBefore": certificate.not_before(),
                "notAfter": certificate.not_after(),
                "fingerprint": certificate.fingerprint().hex(),
                "privateKey": path(&format!("{name}.key")),
                "certificate": path(&format!("{name}.pem")),
                "certificateDer": path(&format!("{name}.der")),
                "signatureList": in_firmware.map(|_| path(&format!("{name}.esl"))),
                "authenticatedVariable": in_firmware.map(|_| path(&format!("{name}.auth"))),
            })
        })
        .collect();
    let facts = json!({
        "path": folder.display().to_string(),
        "ownerGuid": set.owner().to_string(),
        "encrypted": encrypted,
        "keys": keys,
        "tpm2PcrPrivateKey": path("tpm2-pcr-private.pem"),
        "tpm2PcrPublicKey": path("tpm2-pcr-public.pem"),
    });
    writeln!(io::stdout().lock(), "{facts:#}")
}

/// The set's keys with certificates, under the names of their files.
fn pairs(set: &KeySet) -> impl Iterator<Item = (&'static str, &KeyPair)> {
    let firmware = set.firmware_keys().iter();
    let firmware = firmware.map(|key| (key.variable().name(), key.pair()));
    firmware.chain(set.extension_key().map(|pair| ("extension", pair)))
}
