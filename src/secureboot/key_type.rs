//! What keys are made of.

use std::fmt;
use std::str::FromStr;

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;

/// A kind of key that firmware, the kernel and systemd can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA of 2048 bits: what all firmware takes.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
    /// ECDSA with P-256, which little firmware takes.
    P256,
    /// ECDSA with P-384, which little firmware takes.
    P384,
}

/// A text that names no type of key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of key; there are rsa2048, rsa3072, rsa4096, p256 and p384")]
pub struct InvalidKeyType(pub String);

impl KeyType {
    const ALL: [KeyType; 5] = [
        KeyType::Rsa2048,
        KeyType::Rsa3072,
        KeyType::Rsa4096,
        KeyType::P256,
        KeyType::P384,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            KeyType::Rsa2048 => "rsa2048",
            KeyType::Rsa3072 => "rsa3072",
            KeyType::Rsa4096 => "rsa4096",
            KeyType::P256 => "p256",
            KeyType::P384 => "p384",
        }
    }

    /// Whether it is RSA.
    pub fn is_rsa(self) -> bool {
        !matches!(self, KeyType::P256 | KeyType::P384)
    }

    /// A new key of this type.
    pub(super) fn generate(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            KeyType::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?),
            KeyType::Rsa3072 => PKey::from_rsa(Rsa::generate(3072)?),
            KeyType::Rsa4096 => PKey::from_rsa(Rsa::generate(4096)?),
            KeyType::P256 => on_curve(Nid::X9_62_PRIME256V1),
            KeyType::P384 => on_curve(Nid::SECP384R1),
        }
    }
}

fn on_curve(curve: Nid) -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

impl FromStr for KeyType {
    type Err = InvalidKeyType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|key_type| key_type.name() == text)
            .ok_or_else(|| InvalidKeyType(text.to_owned()))
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::pkey::Id;

    #[test]
    fn keys_are_what_their_type_says() {
        for (name, id, bits) in [
            ("rsa2048", Id::RSA, 2048),
            ("p256", Id::EC, 256),
            ("p384", Id::EC, 384),
        ] {
            let key_type: KeyType = name.parse().unwrap();
            let key = key_type.generate().unwrap();
            assert_eq!((key.id(), key.bits()), (id, bits));
            assert_eq!(key_type.to_string(), name);
        }
        assert_eq!(
            "ed25519".parse::<KeyType>(),
            Err(InvalidKeyType("ed25519".into()))
        );
    }
}
