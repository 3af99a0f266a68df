//! GUIDs as firmware stores them.

use std::fmt;
use std::str::FromStr;

use openssl::error::ErrorStack;
use uuid::Uuid;

/// A GUID: in memory its first three fields are little-endian (UEFI 2.10, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(Uuid);

impl Guid {
    /// Bytes of a GUID in memory.
    pub const BYTES: usize = 16;

    /// The GUID whose text form has these digits.
    pub const fn from_u128(digits: u128) -> Guid {
        Guid(Uuid::from_u128(digits))
    }

    /// A random one (version 4).
    ///
    /// # Errors
    /// Where OpenSSL has no random numbers.
    pub fn random() -> Result<Guid, ErrorStack> {
        let mut bytes = [0; Self::BYTES];
        openssl::rand::rand_bytes(&mut bytes)?;
        Ok(Guid(uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// Reads the form in memory.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Guid {
        Guid(Uuid::from_bytes_le(bytes))
    }

    /// The form in memory.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.to_bytes_le()
    }
}

/// A text that is no GUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GUID; write it as 88a69775-5ad7-45d9-9f34-cec43e1f1989")]
pub struct InvalidGuid(pub String);

impl FromStr for Guid {
    type Err = InvalidGuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Uuid::try_parse(text) {
            Ok(uuid) if !uuid.is_nil() => Ok(Guid(uuid)),
            _ => Err(InvalidGuid(text.to_owned())),
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EFI_GLOBAL_VARIABLE as UEFI 2.10, section 3.3, writes it in C.
    #[test]
    fn the_first_three_fields_are_little_endian() {
        let guid: Guid = "8be4df61-93ca-11d2-aa0d-00e098032b8c".parse().unwrap();
        let mut bytes = Vec::new();
        bytes.extend(0x8be4_df61_u32.to_le_bytes());
        bytes.extend(0x93ca_u16.to_le_bytes());
        bytes.extend(0x11d2_u16.to_le_bytes());
        bytes.extend([0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
        assert_eq!(guid.to_bytes(), bytes[..]);
        assert_eq!(Guid::from_bytes(guid.to_bytes()), guid);
    }

    #[test]
    fn random_ones_differ_and_say_that_they_are_random() {
        let guid = Guid::random().unwrap();
        assert_ne!(guid, Guid::random().unwrap());
        assert_eq!(guid.0.get_version_num(), 4);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "x", "00000000-0000-0000-0000-000000000000", "8be4df61"] {
            assert!(text.parse::<Guid>().is_err(), "{text}");
        }
    }
}
