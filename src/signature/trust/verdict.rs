//! What systemd and the kernel say of a signature, and why.

use std::fmt;

use der::asn1::ObjectIdentifier;

use super::TrustedCertificate;
use crate::signature::Certificate;
use crate::verity::RootHash;

/// A program that decides whether a signed image is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// `PKCS7_verify()` in systemd, with the certificates in `verity.d`.
    Systemd,
    /// dm-verity, with the certificates in the kernel's keyrings.
    Kernel,
}

/// What both verifiers say of a signature.
///
/// systemd asks the kernel first and decides itself where the kernel refuses, unless the host has
/// forbidden that (`dm_verity.require_signatures=1`, `systemd.allow_userspace_verity=0`). Only a
/// signature that both take is therefore good on every host that trusts its certificate.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What systemd says.
    pub systemd: Result<Acceptance, Distrust>,
    /// What the kernel says.
    pub kernel: Result<Acceptance, Distrust>,
}

/// Why a signature is trusted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// Who signed.
    pub signer: Certificate,
    /// The trusted certificate that proves it: the signer's, or for the kernel one that stands above
    /// it in a chain.
    pub anchor: TrustedCertificate,
}

/// A trusted signer's certificate is used outside of the time that it is meant for. Neither verifier
/// looks at that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DateWarning {
    /// Its time is over.
    #[error(
        "the certificate of {signer} has expired ({not_after}); systemd and the kernel take it all the same"
    )]
    Expired {
        /// Its subject.
        signer: String,
        /// When.
        not_after: String,
    },
    /// Its time has not begun.
    #[error(
        "the certificate of {signer} is not valid before {not_before}; systemd and the kernel take it all the same"
    )]
    NotYetValid {
        /// Its subject.
        signer: String,
        /// When.
        not_before: String,
    },
}

/// Why a verifier does not take a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The signature partition is another image's.
    #[error("its partition speaks of the root hash {named}, the image has {expected}")]
    OtherRootHash {
        /// What the partition says.
        named: RootHash,
        /// What the image has.
        expected: RootHash,
    },
    /// Not a PKCS#7 signature at all.
    #[error("it is no PKCS#7 structure in DER form")]
    Malformed,
    /// No `SignerInfo`.
    #[error("nobody has signed it")]
    NoSigner,
    /// Nobody is trusted.
    #[error("no trusted certificate is given")]
    NothingTrusted,
    /// The signer's certificate is none of the trusted ones.
    #[error("it is by {signer}, whose certificate is not trusted")]
    Untrusted {
        /// The signer, as far as it is known.
        signer: String,
    },
    /// systemd builds no chains.
    #[error(
        "it is by {signer}, of whom only the issuer is trusted ({issuer}), and systemd builds no chains; trust the signer's own certificate"
    )]
    OnlyIssuerTrusted {
        /// Who signed.
        signer: String,
        /// The trusted certificate of its issuer.
        issuer: String,
    },
    /// Another key under the name of a trusted one.
    #[error("it is by another key than {trusted}, under the same issuer and serial number")]
    Stranger {
        /// The trusted certificate.
        trusted: String,
    },
    /// It does not verify, and it is not known why.
    #[error(
        "it does not verify with {certificate}: it was damaged, or made over something else than this root hash"
    )]
    Invalid {
        /// The certificate that it should be by.
        certificate: String,
    },
    /// `echo` in the place of `printf`.
    #[error("it is over the root hash and a newline; sign the 64 digits alone")]
    Newline,
    /// `version` of `SignedData` and `SignerInfo`.
    #[error(
        "it has PKCS#7 versions {signed_data} and {signer_info}; the kernel reads 1 and 1, and 3 and 3"
    )]
    Versions {
        /// Of `SignedData`.
        signed_data: u8,
        /// Of `SignerInfo`.
        signer_info: u8,
    },
    /// `subjectKeyIdentifier`.
    #[error(
        "it names its signer by key identifier, which systemd does not read; sign without -keyid"
    )]
    KeyIdentifier,
    /// `contentType`.
    #[error("it is over content of type {0}, and the kernel wants plain data")]
    ContentType(ObjectIdentifier),
    /// `content`.
    #[error(
        "it embeds its content, and the kernel wants a detached signature; sign without -nodetach"
    )]
    EmbeddedContent,
    /// `smimeCapabilities`.
    #[error(
        "it has an attribute with S/MIME capabilities, which the kernel refuses; sign with -noattr"
    )]
    SmimeCapabilities,
    /// Any other signed attribute.
    #[error("its signed attributes are not as the kernel wants them: {0}; sign with -noattr")]
    Attributes(&'static str),
    /// `signingTime`.
    #[error(
        "it says that it was made when the certificate of {signer} was not valid, which the kernel minds; sign with -noattr"
    )]
    SigningTime {
        /// The signer.
        signer: String,
    },
    /// `digestAlgorithm`.
    #[error("its digest algorithm {0} is none that the kernel knows; use SHA-256")]
    Digest(ObjectIdentifier),
    /// `digestEncryptionAlgorithm`.
    #[error(
        "its signature algorithm {algorithm} is none that {verifier} takes; use rsaEncryption or ECDSA"
    )]
    Algorithm {
        /// Who refuses it.
        verifier: Verifier,
        /// Its identifier.
        algorithm: ObjectIdentifier,
    },
    /// A key that the kernel has no code for.
    #[error(
        "the key of {signer} is {found}, and the kernel verifies RSA of 2048, 3072 and 4096 bits and ECDSA on P-256, P-384 and P-521"
    )]
    Key {
        /// Whose key.
        signer: String,
        /// What it is.
        found: String,
    },
    /// A certificate in the message that the kernel cannot parse.
    #[error("it brings along a certificate that the kernel does not load")]
    Certificate,
}

impl Verdict {
    /// What one of the verifiers says.
    pub fn of(&self, verifier: Verifier) -> &Result<Acceptance, Distrust> {
        match verifier {
            Verifier::Systemd => &self.systemd,
            Verifier::Kernel => &self.kernel,
        }
    }

    /// Who signed, if either verifier trusts it.
    pub fn signer(&self) -> Option<&Certificate> {
        let accepted = [&self.systemd, &self.kernel].into_iter().flatten().next();
        accepted.map(|acceptance| &acceptance.signer)
    }

    /// Whether the time of a trusted signer's certificate is over or has not begun.
    pub fn date_warning(&self) -> Option<DateWarning> {
        let certificate = self.signer()?;
        let signer = certificate.subject();
        if certificate.is_expired() {
            let not_after = certificate.not_after();
            return Some(DateWarning::Expired { signer, not_after });
        }
        certificate.is_not_yet_valid().then(|| {
            let not_before = certificate.not_before();
            DateWarning::NotYetValid { signer, not_before }
        })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verifier::Systemd => "systemd",
            Verifier::Kernel => "the kernel",
        })
    }
}
