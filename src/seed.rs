//! The seed from which every identifier of an image derives, as systemd-repart derives them.

use std::fmt;
use std::str::FromStr;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use uuid::Uuid;

use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, ExtensionName};

/// 16 bytes that stand for the identity of an extension across its versions.
///
/// Disk GUID, partition UUIDs, the file system's UUID and the verity salt are all derived from it
/// by HMAC-SHA256 with the formulas of systemd-repart (`src/repart/repart.c`, `derive_uuid` and
/// `derive_salt`), so that equal content under an equal seed gives an equal image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(Uuid);

/// The namespace of the seeds that sysgraft makes from names (a random UUID, chosen once).
const NAMESPACE: Uuid = Uuid::from_u128(0x6a1b_40a7_3c61_4f0e_9d7a_5f0c_7f3e_9b42);

impl Seed {
    /// The seed of an extension: the same for all its versions, so that equal blocks of two
    /// versions have equal digests.
    pub fn of_extension(
        kind: ExtensionKind,
        name: &ExtensionName,
        architecture: Architecture,
    ) -> Seed {
        let identity = format!("{kind}/{name}/{architecture}");
        Seed(Uuid::new_v5(&NAMESPACE, identity.as_bytes()))
    }

    /// GUID of the whole disk.
    pub fn disk_guid(self) -> Uuid {
        derive_uuid(self.0, b"disk-uuid")
    }

    /// UUID of the first partition of type `partition_type`.
    pub fn partition_uuid(self, partition_type: Uuid) -> Uuid {
        derive_uuid(self.0, partition_type.as_bytes())
    }

    /// UUID of the file system in the data partition of type `partition_type`.
    pub fn file_system_uuid(self, partition_type: Uuid) -> Uuid {
        derive_uuid(self.partition_uuid(partition_type), b"file-system-uuid")
    }

    /// UUID in the verity superblock.
    pub fn verity_uuid(self) -> Uuid {
        derive_uuid(self.0, b"verity-uuid")
    }

    /// Salt of the hash tree.
    pub fn verity_salt(self) -> [u8; 32] {
        hmac(self.0, b"verity-salt")
    }
}

fn hmac(key: Uuid, message: &[u8]) -> [u8; 32] {
    let sign = || -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let key = PKey::hmac(key.as_bytes())?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
        signer.sign_oneshot_to_vec(message)
    };
    let mut output = [0; 32];
    // HMAC-SHA256 of a fixed-size key fails only when memory is exhausted, where Rust aborts too.
    #[allow(clippy::expect_used)]
    output.copy_from_slice(&sign().expect("HMAC-SHA256 is always available"));
    output
}

/// The first 16 bytes of the HMAC, marked as a version 4 (random) UUID.
fn derive_uuid(key: Uuid, message: &[u8]) -> Uuid {
    let digest = hmac(key, message);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

impl FromStr for Seed {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Seed)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::hex;

    /// Read off an image that systemd-repart 257 made with this seed.
    #[test]
    fn derivations_equal_those_of_systemd_repart() {
        let seed: Seed = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f".parse().unwrap();
        let root = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709".parse().unwrap();
        let signature = "41092b05-9fc8-4523-994f-2def0408b176".parse().unwrap();
        assert_eq!(
            seed.disk_guid().to_string(),
            "195f7381-98e7-4cb9-a653-3a9dc794c877"
        );
        assert_eq!(
            seed.partition_uuid(signature).to_string(),
            "8019b7bb-68c1-4c69-b202-97804cba3261"
        );
        assert_eq!(
            seed.file_system_uuid(root).to_string(),
            "91b0d8b1-d088-406b-8e29-31bf6ea5a106"
        );
        assert_eq!(
            seed.verity_uuid().to_string(),
            "d3fde430-0b08-4c80-a86d-69d32d7c4f42"
        );
        assert_eq!(
            hex(&seed.verity_salt()),
            "6984292463348da23dbaa62535f87a5f231dc9b609a16d5ad0b3ec762bc1564b"
        );
    }

    #[test]
    fn kind_name_and_architecture_each_give_another_seed() {
        let a: ExtensionName = "a".parse().unwrap();
        let b: ExtensionName = "b".parse().unwrap();
        let seed = Seed::of_extension(ExtensionKind::Sysext, &a, Architecture::X86_64);
        assert_ne!(
            seed,
            Seed::of_extension(ExtensionKind::Confext, &a, Architecture::X86_64)
        );
        assert_ne!(
            seed,
            Seed::of_extension(ExtensionKind::Sysext, &b, Architecture::X86_64)
        );
        assert_ne!(
            seed,
            Seed::of_extension(ExtensionKind::Sysext, &a, Architecture::Arm64)
        );
    }
}
