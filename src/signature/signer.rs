//! What it takes to sign: a certificate, and something that holds its private key.

use std::fmt;

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKeyRef};

use super::{Certificate, SignatureError, SignerWarning, SigningCertificate};

/// How a signature is computed: the kinds that the kernel and systemd both take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS#1 v1.5 padding over SHA-256.
    RsaSha256,
    /// ECDSA with P-256 over SHA-256.
    EcdsaSha256,
    /// ECDSA with P-384 over SHA-384, whose digest is as long as the curve's order.
    EcdsaSha384,
}

/// Signs with the private key of a certificate.
pub trait Signer {
    /// The certificate of the key.
    fn certificate(&self) -> &Certificate;

    /// How the key signs.
    fn algorithm(&self) -> Algorithm;

    /// What the user should know about key and certificate.
    fn warnings(&self) -> &[SignerWarning] {
        &[]
    }

    /// The signature over `message`: for RSA as many bytes as the modulus, for ECDSA the DER form.
    ///
    /// # Errors
    /// What the holder of the key says.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError>;
}

/// Whether an image is to be signed, and when.
#[derive(Clone, Copy)]
pub enum Signing<'a> {
    /// Not at all: the image has no signature partition.
    Never,
    /// With the image.
    Now(&'a dyn Signer),
    /// After it: the signature partition stays empty until then, and systemd refuses the image.
    Later {
        /// With the key of this certificate, if that is known already.
        certificate: Option<&'a SigningCertificate>,
    },
}

/// What a modulus that is safe starts at.
const MIN_RSA_BITS: u32 = 2048;

/// Why the kernel or systemd would not take a key's signatures.
pub(super) struct Unsuitable {
    /// What kind of key it is.
    pub found: String,
    pub reason: &'static str,
}

impl Algorithm {
    /// How a key signs, if the kernel and systemd both take signatures by such keys.
    pub(super) fn of<T: HasPublic>(key: &PKeyRef<T>) -> Result<Algorithm, Unsuitable> {
        let no_pkcs7 = "neither the kernel nor systemd verifies it in PKCS#7";
        let (found, reason) = match key.id() {
            Id::RSA if key.bits() >= MIN_RSA_BITS => return Ok(Algorithm::RsaSha256),
            Id::RSA => {
                return Err(Unsuitable {
                    found: format!("RSA of {} bits", key.bits()),
                    reason: "that is too short to be safe",
                });
            }
            Id::RSA_PSS => ("RSA-PSS", "neither the kernel nor systemd verifies PSS"),
            Id::EC => match key.ec_key().ok().and_then(|key| key.group().curve_name()) {
                Some(Nid::X9_62_PRIME256V1) => return Ok(Algorithm::EcdsaSha256),
                Some(Nid::SECP384R1) => return Ok(Algorithm::EcdsaSha384),
                _ => ("ECDSA on another curve", "the kernel has no such curve"),
            },
            Id::ED25519 => ("Ed25519", no_pkcs7),
            Id::ED448 => ("Ed448", no_pkcs7),
            _ => (
                "of an unknown kind",
                "kernel and systemd verify RSA and ECDSA",
            ),
        };
        Err(Unsuitable {
            found: found.to_owned(),
            reason,
        })
    }

    /// The name of the digest that is signed, as systemd and OpenSSL write it: `sha256`.
    pub fn digest_name(self) -> &'static str {
        match self {
            Algorithm::RsaSha256 | Algorithm::EcdsaSha256 => "sha256",
            Algorithm::EcdsaSha384 => "sha384",
        }
    }

    /// The digest that is signed.
    pub(super) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Algorithm::RsaSha256 | Algorithm::EcdsaSha256 => openssl::sha::sha256(message).to_vec(),
            Algorithm::EcdsaSha384 => openssl::sha::sha384(message).to_vec(),
        }
    }

    pub(super) fn message_digest(self) -> MessageDigest {
        match self {
            Algorithm::RsaSha256 | Algorithm::EcdsaSha256 => MessageDigest::sha256(),
            Algorithm::EcdsaSha384 => MessageDigest::sha384(),
        }
    }
}

impl fmt::Display for Algorithm {
    /// The name under which sign commands know it: `rsa-sha256`, `ecdsa-p256-sha256`,
    /// `ecdsa-p384-sha384`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::EcdsaSha256 => "ecdsa-p256-sha256",
            Algorithm::EcdsaSha384 => "ecdsa-p384-sha384",
        })
    }
}
