//! What it takes to sign: a certificate, and something that holds its private key.

use super::{Certificate, SignatureError};

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

    /// The signature over `message`: for RSA as many bytes as the modulus, for ECDSA the DER form.
    ///
    /// # Errors
    /// What the holder of the key says.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError>;
}
