//! `validate_signature_userspace()` of systemd 257 (`src/shared/dissect-image.c`).
//!
//! systemd calls `PKCS7_verify()` with the certificates from `verity.d` and with `PKCS7_NOINTERN |
//! PKCS7_NOVERIFY`: the signer's certificate is looked up by issuer and serial number among the
//! installed ones, never in the message; no chain, no date, no purpose is looked at.

use der::asn1::ObjectIdentifier;

use super::verdict::{Acceptance, Distrust, Verifier};
use super::{TrustedCertificate, naming};
use crate::signature::pkcs7::signer_of_content;
use crate::signature::signed_data::{SignedData, SignerId, SignerInfo};
use crate::signature::{Certificate, Refusal, signer_of};
use crate::verity::RootHash;

/// Signature algorithms that `PKCS7_verify()` does not verify, with whatever version of OpenSSL:
/// RSASSA-PSS (RFC 8017), Ed25519 and Ed448 (RFC 8410).
const UNKNOWN_ALGORITHMS: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"),
    ObjectIdentifier::new_unwrap("1.3.101.112"),
    ObjectIdentifier::new_unwrap("1.3.101.113"),
];

pub(super) fn judge(
    message: &SignedData<'_>,
    pkcs7: &[u8],
    root_hash: &RootHash,
    trusted: &[TrustedCertificate],
) -> Result<Acceptance, Distrust> {
    for signer in &message.signers {
        if UNKNOWN_ALGORITHMS.contains(&signer.algorithm) {
            return Err(Distrust::Algorithm {
                verifier: Verifier::Systemd,
                algorithm: signer.algorithm,
            });
        }
        if matches!(signer.signer, SignerId::Key(_)) {
            return Err(Distrust::KeyIdentifier);
        }
    }
    let certificates: Vec<Certificate> = trusted
        .iter()
        .map(|trusted| trusted.certificate.clone())
        .collect();
    match signer_of(pkcs7, root_hash, &certificates) {
        Ok(by) => {
            let anchor = trusted
                .iter()
                .find(|trusted| trusted.certificate.der() == by.certificate.der())
                .ok_or(Distrust::Malformed)?;
            Ok(Acceptance {
                signer: by.certificate,
                anchor: anchor.clone(),
            })
        }
        Err(Refusal::Malformed) => Err(Distrust::Malformed),
        Err(Refusal::SignerUnknown) => Err(why_unknown(message, trusted)),
        Err(Refusal::Invalid) => Err(why_invalid(
            message,
            pkcs7,
            root_hash,
            trusted,
            &certificates,
        )),
    }
}

fn why_unknown(message: &SignedData<'_>, trusted: &[TrustedCertificate]) -> Distrust {
    let unknown = |info: &&SignerInfo<'_>| find(&info.signer, trusted).is_none();
    let Some(info) = message.signers.iter().find(unknown) else {
        return Distrust::Malformed;
    };
    let signer = naming::describe(message, info);
    let embedded = naming::embedded_signer(message, info);
    let issuer = trusted.iter().find(|trusted| {
        let issued = |signer: &Certificate| naming::is_issued_by(signer, &trusted.certificate);
        embedded.as_ref().is_some_and(issued)
    });
    match issuer {
        Some(issuer) => Distrust::OnlyIssuerTrusted {
            signer,
            issuer: issuer.to_string(),
        },
        None => Distrust::Untrusted { signer },
    }
}

fn why_invalid(
    message: &SignedData<'_>,
    pkcs7: &[u8],
    root_hash: &RootHash,
    trusted: &[TrustedCertificate],
    certificates: &[Certificate],
) -> Distrust {
    let with_newline = format!("{root_hash}\n");
    if signer_of_content(pkcs7, with_newline.as_bytes(), certificates).is_ok() {
        return Distrust::Newline;
    }
    let named = message
        .signers
        .iter()
        .find_map(|info| find(&info.signer, trusted))
        .map_or_else(String::new, ToString::to_string);
    match signer_of(pkcs7, root_hash, &[]) {
        Ok(_) => Distrust::Stranger { trusted: named },
        Err(_) => Distrust::Invalid { certificate: named },
    }
}

/// The trusted certificate that a signature names.
fn find<'a>(
    signer: &SignerId<'_>,
    trusted: &'a [TrustedCertificate],
) -> Option<&'a TrustedCertificate> {
    trusted
        .iter()
        .find(|trusted| naming::is_named(signer, &trusted.certificate))
}
