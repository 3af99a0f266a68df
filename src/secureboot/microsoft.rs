//! Microsoft's certificates, without which much hardware does not start; see `microsoft/README.md`.

use super::Variable;
use crate::efi::Guid;

/// Who Microsoft says owns its certificates in firmware.
pub const OWNER: Guid = Guid::from_u128(0x77fa9abd_0359_4d32_bd60_28f4e78f784b);

const KEK: [&[u8]; 2] = [
    include_bytes!("microsoft/kek-2011.der"),
    include_bytes!("microsoft/kek-2023.der"),
];

const DB: [&[u8]; 5] = [
    include_bytes!("microsoft/uefi-2011.der"),
    include_bytes!("microsoft/windows-2011.der"),
    include_bytes!("microsoft/option-rom-2023.der"),
    include_bytes!("microsoft/uefi-2023.der"),
    include_bytes!("microsoft/windows-2023.der"),
];

/// The certificates that belong into `variable`, in DER form.
pub fn certificates(variable: Variable) -> &'static [&'static [u8]] {
    match variable {
        Variable::Pk => &[],
        Variable::Kek => &KEK,
        Variable::Db => &DB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Digest, hex};
    use openssl::hash::{MessageDigest, hash};
    use openssl::x509::X509;

    #[test]
    fn the_certificates_are_those_in_the_table_of_their_origins() {
        let table = include_str!("microsoft/README.md");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), KEK.len() + DB.len());
        for variable in Variable::ALL {
            for der in certificates(variable) {
                let fingerprint = Digest::of(der).hex();
                let row = rows.iter().find(|row| row[5] == fingerprint).unwrap();
                assert_eq!(row[2], variable.name());
                let x509 = X509::from_der(der).unwrap();
                assert_eq!(
                    x509.to_der().unwrap(),
                    *der,
                    "something follows the certificate"
                );
                let common_name = x509.subject_name().entries().last().unwrap();
                assert_eq!(row[3], common_name.data().to_string().unwrap());
                assert_eq!(row[6], hex(&hash(MessageDigest::sha1(), der).unwrap()));
            }
        }
    }
}
