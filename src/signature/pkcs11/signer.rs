//! Signing with a key that stays in its token.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectHandle};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;

use super::token::{CERTIFICATE, PRIVATE_KEY, Token, require_type};
use super::{Pkcs11Error, Pkcs11Uri, TokenAccess};
use crate::signature::{
    Algorithm, Certificate, SignatureError, Signer, SignerWarning, SigningCertificate,
};

/// What PKCS#1 v1.5 puts in front of a SHA-256 digest (RFC 8017, section 9.2, note 1).
const SHA_256_DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// A private key in a token, with its certificate.
///
/// Tokens draw the nonces of ECDSA at random, so two signatures by the same EC key differ, and with
/// them the images; those by an RSA key do not.
pub struct Pkcs11Signer {
    token: Token,
    key: ObjectHandle,
    uri: String,
    certificate: SigningCertificate,
    /// Whether the token wants the PIN for each signature (`CKA_ALWAYS_AUTHENTICATE`).
    always_authenticate: bool,
}

/// The certificate that a token holds under `uri`.
///
/// # Errors
/// What the token says, and [`SigningCertificate::load`]'s.
pub fn load_certificate(
    uri: &Pkcs11Uri,
    access: &TokenAccess,
) -> Result<SigningCertificate, SignatureError> {
    require_type(uri, CERTIFICATE)?;
    let token = Token::open(uri, access)?;
    let object = match token.object(uri, CERTIFICATE) {
        // It may be one that only users who are logged in can see.
        Err(Pkcs11Error::NoObject { .. }) if token.has_pin() => {
            token.log_in()?;
            token.object(uri, CERTIFICATE)
        }
        result => result,
    }?;
    let attributes = token.attributes(object, &[AttributeType::Value])?;
    let certificate = attributes.iter().find_map(|attribute| match attribute {
        Attribute::Value(der) => Certificate::from_der(der),
        _ => None,
    });
    let certificate = certificate.ok_or_else(|| Pkcs11Error::NotACertificate {
        token: token.name(),
        uri: uri.to_string(),
    })?;
    SigningCertificate::from_token(certificate, uri.to_string())
}

impl Pkcs11Signer {
    /// Logs into the token and looks for the key.
    ///
    /// # Errors
    /// [`Pkcs11Error`] in general, [`SignatureError::Mismatch`] where the token shows that the key
    /// is not the certificate's.
    pub fn open(
        uri: &Pkcs11Uri,
        access: &TokenAccess,
        certificate: SigningCertificate,
    ) -> Result<Pkcs11Signer, SignatureError> {
        require_type(uri, PRIVATE_KEY)?;
        let token = Token::open(uri, access)?;
        token.log_in()?;
        let key = token.object(uri, PRIVATE_KEY)?;
        let attributes = token.attributes(
            key,
            &[
                AttributeType::KeyType,
                AttributeType::Modulus,
                AttributeType::AlwaysAuthenticate,
            ],
        )?;
        if contradicts(&certificate, &attributes)? {
            return Err(SignatureError::Mismatch {
                key: uri.to_string(),
                certificate: certificate.origin().to_owned(),
            });
        }
        let always_authenticate = attributes.contains(&Attribute::AlwaysAuthenticate(true));
        Ok(Pkcs11Signer {
            token,
            key,
            uri: uri.to_string(),
            certificate,
            always_authenticate,
        })
    }

    /// The signature as the token gives it.
    fn raw_signature(&self, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let algorithm = self.certificate.algorithm();
        let failed = || self.token.failed("sign with the key");
        let session = &self.token.session;
        if self.always_authenticate {
            // The PIN must come between beginning and end, which is possible only with the
            // mechanisms that hash the message themselves.
            let mechanism = match algorithm {
                Algorithm::RsaSha256 => Mechanism::Sha256RsaPkcs,
                Algorithm::EcdsaSha256 => Mechanism::EcdsaSha256,
                Algorithm::EcdsaSha384 => Mechanism::EcdsaSha384,
            };
            session.sign_init(&mechanism, self.key).map_err(failed())?;
            self.token.confirm()?;
            session.sign_update(message).map_err(failed())?;
            return session.sign_final().map_err(failed());
        }
        let digest = algorithm.digest(message);
        match algorithm {
            Algorithm::RsaSha256 => {
                let input = [&SHA_256_DIGEST_INFO[..], &digest].concat();
                session.sign(&Mechanism::RsaPkcs, self.key, &input)
            }
            Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 => {
                session.sign(&Mechanism::Ecdsa, self.key, &digest)
            }
        }
        .map_err(failed())
    }
}

/// Whether the attributes of a private key show that it is not the certificate's.
fn contradicts(
    certificate: &SigningCertificate,
    attributes: &[Attribute],
) -> Result<bool, SignatureError> {
    let wanted = match certificate.algorithm() {
        Algorithm::RsaSha256 => KeyType::RSA,
        Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 => KeyType::EC,
    };
    let key = certificate.certificate().public_key()?;
    let modulus = key.rsa().ok().map(|key| key.n().to_vec());
    Ok(attributes.iter().any(|attribute| match attribute {
        Attribute::KeyType(found) => *found != wanted,
        Attribute::Modulus(found) => {
            let significant = found.iter().position(|&byte| byte != 0).unwrap_or(0);
            modulus.as_deref() != Some(&found[significant..])
        }
        _ => false,
    }))
}

/// The DER form of an ECDSA signature that is given as two numbers of equal length, `r` and `s`.
fn ecdsa_der(numbers: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let (r, s) = numbers.split_at(numbers.len() / 2);
    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der()
}

impl Signer for Pkcs11Signer {
    fn certificate(&self) -> &Certificate {
        self.certificate.certificate()
    }

    fn algorithm(&self) -> Algorithm {
        self.certificate.algorithm()
    }

    fn warnings(&self) -> &[SignerWarning] {
        self.certificate.warnings()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let raw = self.raw_signature(message)?;
        let signature = match self.algorithm() {
            Algorithm::RsaSha256 => raw,
            Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 => {
                ecdsa_der(&raw).map_err(|source| SignatureError::OpenSsl {
                    what: "encode the token's signature",
                    source,
                })?
            }
        };
        if !self.certificate.verifies(message, &signature) {
            return Err(SignatureError::Mismatch {
                key: self.uri.clone(),
                certificate: self.certificate.origin().to_owned(),
            });
        }
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ecdsa_numbers_become_der_without_surplus_zeros() {
        let mut numbers = [0; 64];
        numbers[31] = 5;
        numbers[63] = 0x80;
        // INTEGER 5, INTEGER 128.
        assert_eq!(
            ecdsa_der(&numbers).unwrap(),
            [0x30, 7, 2, 1, 5, 2, 2, 0, 0x80]
        );
    }
}
