//! The digest that stands for a whole data partition.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::digest::{hex, unhex32};

/// The digest of the top block of a hash tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no root hash (64 hexadecimal digits)")]
pub struct InvalidRootHash {
    /// The text.
    pub text: String,
}

impl RootHash {
    /// The UUIDs of the data and the hash partition: first and last half of the root hash, in the
    /// byte order of a UUID's text (UAPI.2).
    pub fn partition_uuids(&self) -> (Uuid, Uuid) {
        let number = |half: &[u8]| {
            half.iter()
                .fold(0, |number, &byte| number << 8 | u128::from(byte))
        };
        let (data, hash) = self.0.split_at(16);
        (Uuid::from_u128(number(data)), Uuid::from_u128(number(hash)))
    }

    /// The root hash whose halves are the UUIDs of the data and the hash partition.
    pub fn from_partition_uuids(data: Uuid, hash: Uuid) -> RootHash {
        let mut bytes = [0; 32];
        let (first, last) = bytes.split_at_mut(16);
        first.copy_from_slice(data.as_bytes());
        last.copy_from_slice(hash.as_bytes());
        RootHash(bytes)
    }
}

impl FromStr for RootHash {
    type Err = InvalidRootHash;

    /// Takes digits of either case, as systemd does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        unhex32(text).map(RootHash).ok_or_else(|| InvalidRootHash {
            text: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root hash and UUIDs of an image that systemd-repart 257 made.
    #[test]
    fn partition_uuids_are_its_halves_in_text_order() {
        let text = "122be646493e5b1e1860098f3af405986377c86fd14349d3c07474bedc73654a";
        let root: RootHash = text.parse().unwrap();
        let (data, hash) = root.partition_uuids();
        assert_eq!(data.to_string(), "122be646-493e-5b1e-1860-098f3af40598");
        assert_eq!(hash.to_string(), "6377c86f-d143-49d3-c074-74bedc73654a");
        assert_eq!(RootHash::from_partition_uuids(data, hash), root);
        assert_eq!(root.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(root));
    }

    #[test]
    fn other_texts_are_no_root_hash() {
        for text in ["", "12", &"g".repeat(64), &"0".repeat(66)] {
            assert!(text.parse::<RootHash>().is_err(), "{text}");
        }
    }
}
