//! Certificates of other people that are enrolled beside one's own: a folder with the files `KEK`
//! and `db` as firmware menus and `efi-readvar` export them.

use std::path::Path;

use openssl::x509::X509;

use super::{SecureBootError, Variable, read_bounded};
use crate::efi::Guid;
use crate::efi::signature_list::{Entry, SHA_256, SignatureDatabase, X509 as CERTIFICATE};

/// No firmware has room for larger variables.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the folder adds to KEK and db.
#[derive(Clone, Debug, Default)]
pub struct CustomEntries {
    kek: SignatureDatabase,
    db: SignatureDatabase,
    left_out: Vec<LeftOut>,
}

/// Entries that `genkey` does not enrol, because firmware may refuse the whole variable for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "left out {count} entries of type {kind} of the custom {variable}: neither X.509 certificates nor SHA-256 digests"
)]
pub struct LeftOut {
    /// Where they were.
    pub variable: Variable,
    /// Their type.
    pub kind: Guid,
    /// How many.
    pub count: usize,
}

impl CustomEntries {
    /// Reads the files `KEK` and `db` of `folder`.
    ///
    /// # Errors
    /// Where one is missing, or holds anything but sound signature lists.
    pub fn load(folder: &Path) -> Result<CustomEntries, SecureBootError> {
        if !folder.is_dir() {
            return Err(SecureBootError::NoCustomFolder(folder.to_path_buf()));
        }
        let mut left_out = Vec::new();
        Ok(CustomEntries {
            kek: read(folder, Variable::Kek, &mut left_out)?,
            db: read(folder, Variable::Db, &mut left_out)?,
            left_out,
        })
    }

    /// What was not kept.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Adds what belongs into `variable` to `database`.
    pub(super) fn add_to(&self, database: &mut SignatureDatabase, variable: Variable) {
        let custom = match variable {
            Variable::Pk => return,
            Variable::Kek => &self.kek,
            Variable::Db => &self.db,
        };
        for list in custom.lists() {
            for entry in list.entries() {
                database.add(list.kind(), entry);
            }
        }
    }
}

fn read(
    folder: &Path,
    variable: Variable,
    left_out: &mut Vec<LeftOut>,
) -> Result<SignatureDatabase, SecureBootError> {
    let path = folder.join(variable.name());
    let bytes = read_bounded(&path, MAX_FILE_BYTES)?;
    let all = SignatureDatabase::parse(&bytes).map_err(|source| SecureBootError::CustomFile {
        path: path.clone(),
        source,
    })?;
    let mut kept = SignatureDatabase::default();
    let mut number = 0;
    for list in all.lists() {
        let kind = list.kind();
        let said = match kind {
            CERTIFICATE => "an X.509 certificate",
            SHA_256 => "a SHA-256 digest",
            _ => {
                let count = list.entries().count();
                left_out.push(LeftOut {
                    variable,
                    kind,
                    count,
                });
                number += count;
                continue;
            }
        };
        for entry in list.entries() {
            number += 1;
            if !is_sound(kind, entry) {
                return Err(SecureBootError::CustomEntry { path, number, said });
            }
            kept.add(kind, entry);
        }
    }
    Ok(kept)
}

/// Whether an entry is what its type says: exactly one certificate, or 32 bytes.
fn is_sound(kind: Guid, entry: Entry<'_>) -> bool {
    match kind {
        CERTIFICATE => X509::from_der(entry.data)
            .and_then(|x509| x509.to_der())
            .is_ok_and(|der| der == entry.data),
        _ => entry.data.len() == 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secureboot::microsoft;

    const OWNER: Guid = Guid::from_u128(0x88a69775_5ad7_45d9_9f34_cec43e1f1989);
    /// EFI_CERT_RSA2048_GUID.
    const RSA_2048: Guid = Guid::from_u128(0x3c5766e8_269c_4e34_aa14_ed776e85b3b6);

    fn exported(entries: &[(Guid, &[u8])]) -> Vec<u8> {
        let mut database = SignatureDatabase::default();
        for &(kind, data) in entries {
            database.add(kind, Entry { owner: OWNER, data });
        }
        database.encode()
    }

    fn load(kek: &[u8], db: &[u8]) -> Result<CustomEntries, SecureBootError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("KEK"), kek).unwrap();
        std::fs::write(folder.path().join("db"), db).unwrap();
        CustomEntries::load(folder.path())
    }

    #[test]
    fn certificates_and_digests_are_kept_with_their_owners() {
        let certificate = microsoft::certificates(Variable::Kek)[0];
        let db = exported(&[
            (CERTIFICATE, certificate),
            (RSA_2048, &[1; 256]),
            (RSA_2048, &[2; 256]),
            (SHA_256, &[3; 32]),
        ]);
        let custom = load(&[], &db).unwrap();
        let mut database = SignatureDatabase::default();
        custom.add_to(&mut database, Variable::Pk);
        custom.add_to(&mut database, Variable::Kek);
        assert_eq!(database.lists(), []);
        custom.add_to(&mut database, Variable::Db);
        let kept = exported(&[(CERTIFICATE, certificate), (SHA_256, &[3; 32])]);
        assert_eq!(database.encode(), kept);
        let [left_out] = custom.left_out() else {
            unreachable!("{:?}", custom.left_out());
        };
        assert_eq!((left_out.kind, left_out.count), (RSA_2048, 2));
    }

    #[test]
    fn junk_is_refused_by_name() {
        let certificate = microsoft::certificates(Variable::Kek)[0];
        let followed = [certificate, b"x"].concat();
        for (db, words) in [
            (b"no list".to_vec(), "db holds no EFI signature lists"),
            (
                exported(&[(CERTIFICATE, certificate), (CERTIFICATE, b"x")]),
                "entry 2 of",
            ),
            (
                exported(&[(CERTIFICATE, &followed)]),
                "an X.509 certificate but is none",
            ),
            (
                exported(&[(SHA_256, &[1; 31])]),
                "a SHA-256 digest but is none",
            ),
            (vec![0; 1 << 21], "cannot read"),
        ] {
            let error = load(&[], &db).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
