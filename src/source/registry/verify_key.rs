//! The public key that must have signed an image.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;

use super::super::error::SourceError;

/// Bytes that a file with a public key may have.
const FILE_LIMIT: u64 = 64 << 10;

/// The smallest RSA key that counts, in bits.
const LEAST_RSA_BITS: u32 = 2048;

/// ECDSA P-256, which cosign makes, or RSA with PKCS #1 v1.5; both with SHA-256.
pub(super) struct VerifyKey {
    path: PathBuf,
    key: PKey<Public>,
}

impl VerifyKey {
    pub fn load(path: &Path) -> Result<VerifyKey, SourceError> {
        let unusable = |problem: String| SourceError::VerifyKey {
            path: path.to_path_buf(),
            problem,
        };
        let mut pem = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut pem))
            .map_err(|error| unusable(error.to_string()))?;
        let key = PKey::public_key_from_pem(&pem)
            .map_err(|_| unusable("it is no public key in PEM, as cosign.pub is".to_owned()))?;
        let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
        let fits = match key.id() {
            Id::EC => curve == Some(Nid::X9_62_PRIME256V1),
            Id::RSA => key.bits() >= LEAST_RSA_BITS,
            _ => false,
        };
        if !fits {
            let wanted = "it must be ECDSA P-256, or RSA of 2048 bits or more";
            return Err(unusable(wanted.to_owned()));
        }
        Ok(VerifyKey {
            path: path.to_path_buf(),
            key,
        })
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it made `signature` over `message`.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Verifier::new(MessageDigest::sha256(), &self.key)
            .and_then(|mut verifier| verifier.verify_oneshot(signature, message))
            // What is not even built like a signature is none.
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use openssl::ec::{EcGroup, EcKey};
    use openssl::rsa::Rsa;

    use super::*;

    fn load(pem: &[u8]) -> Result<VerifyKey, SourceError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), pem).unwrap();
        VerifyKey::load(file.path())
    }

    fn ec(curve: Nid) -> Vec<u8> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        key.public_key_to_pem().unwrap()
    }

    fn rsa(bits: u32) -> Vec<u8> {
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        key.public_key_to_pem().unwrap()
    }

    #[test]
    fn only_keys_that_are_strong_enough_count() {
        assert!(load(&ec(Nid::X9_62_PRIME256V1)).is_ok());
        assert!(load(&rsa(2048)).is_ok());
        let ed25519 = PKey::generate_ed25519().unwrap();
        let private = ed25519.private_key_to_pem_pkcs8().unwrap();
        for pem in [
            ec(Nid::SECP384R1),
            rsa(1024),
            ed25519.public_key_to_pem().unwrap(),
            private,
            Vec::new(),
        ] {
            assert!(matches!(load(&pem), Err(SourceError::VerifyKey { .. })));
        }
    }

    #[test]
    fn garbage_is_no_signature() {
        let key = load(&ec(Nid::X9_62_PRIME256V1)).unwrap();
        assert!(!key.has_signed(b"message", b""));
        assert!(!key.has_signed(b"message", &[0x30; 70]));
    }
}
