//! The key set of a fleet: what Trusted Boot and signed extensions need, from the platform key down.

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::symm::Cipher;
use openssl::x509::X509;

use super::efi_time::EfiTime;
use super::{
    AuthenticatedVariable, CustomEntries, KeyPair, KeyType, Purpose, SecureBootError, Subject,
    TpmKey, Validity, Variable, microsoft, readme,
};
use crate::efi::Guid;
use crate::efi::signature_list::{self, Entry, SignatureDatabase};

/// What a key set shall be like.
pub struct KeySetRequest<'a> {
    /// Who the keys belong to.
    pub subject: &'a Subject,
    /// How long new certificates are valid.
    pub validity: Validity,
    /// What new firmware keys are made of.
    pub key_type: KeyType,
    /// The type of a further key for extensions only, if there shall be one.
    pub extension_key: Option<KeyType>,
    /// Who owns the set's certificates in firmware.
    pub owner: Guid,
    /// Whether Microsoft's certificates go into KEK and db.
    pub microsoft: bool,
    /// Other people's certificates for KEK and db.
    pub custom: CustomEntries,
    /// When the new values of the variables are said to be signed.
    pub signed_at: EfiTime,
}

/// Keys that are used again instead of being made.
#[derive(Default)]
pub struct ExistingKeys {
    /// The platform key.
    pub pk: Option<KeyPair>,
    /// The key exchange key.
    pub kek: Option<KeyPair>,
    /// The signature database's key.
    pub db: Option<KeyPair>,
    /// The key for the policies of measured boot.
    pub tpm: Option<TpmKey>,
}

/// A complete key set.
pub struct KeySet {
    owner: Guid,
    firmware: [FirmwareKey; 3],
    extension: Option<KeyPair>,
    /// Signs the policies of measured boot (systemd-measure).
    tpm: PKey<Private>,
}

/// PK, KEK or db.
pub struct FirmwareKey {
    variable: Variable,
    pair: KeyPair,
    reused: bool,
    update: AuthenticatedVariable,
}

/// A file of the set.
pub struct KeyFile {
    /// Its name in the folder.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// Whether nobody but the owner may read it.
    pub secret: bool,
}

/// The extension key's name, in its files and at the end of its certificate's common name.
const EXTENSION: &str = "extension";

impl KeySet {
    /// Makes all keys that do not exist yet, and signs the variables. `making` hears the name of
    /// each key before it is made: long ones take seconds.
    ///
    /// # Errors
    /// Where OpenSSL cannot make a key or sign.
    pub fn generate(
        request: &KeySetRequest<'_>,
        existing: ExistingKeys,
        making: &dyn Fn(&str),
    ) -> Result<KeySet, SecureBootError> {
        let make = |key_type, suffix: &str, purpose| {
            making(suffix);
            KeyPair::generate(key_type, request.subject, suffix, purpose, request.validity)
        };
        let provide = |existing, variable: Variable| match existing {
            Some(pair) => Ok((pair, true)),
            None => {
                make(request.key_type, variable.name(), Purpose::Firmware).map(|pair| (pair, false))
            }
        };
        let pk = provide(existing.pk, Variable::Pk)?;
        let kek = provide(existing.kek, Variable::Kek)?;
        let db = provide(existing.db, Variable::Db)?;
        let extension = request
            .extension_key
            .map(|key_type| make(key_type, EXTENSION, Purpose::Extensions))
            .transpose()?;
        let tpm = match existing.tpm {
            Some(tpm) => tpm.into_key(),
            None => {
                making("tpm2-pcr");
                let made = KeyType::Rsa2048.generate();
                made.map_err(SecureBootError::openssl("make a key"))?
            }
        };

        let pair = |variable| match variable {
            Variable::Pk => &pk.0,
            Variable::Kek => &kek.0,
            Variable::Db => &db.0,
        };
        let update = |variable: Variable| {
            let value = request.value(variable, pair(variable)).encode();
            let signer = pair(variable.signer());
            AuthenticatedVariable::sign(variable, value, request.signed_at, signer)
        };
        let updates = (
            update(Variable::Pk)?,
            update(Variable::Kek)?,
            update(Variable::Db)?,
        );
        let key = |variable, (pair, reused), update| FirmwareKey {
            variable,
            pair,
            reused,
            update,
        };
        let firmware = [
            key(Variable::Pk, pk, updates.0),
            key(Variable::Kek, kek, updates.1),
            key(Variable::Db, db, updates.2),
        ];
        Ok(KeySet {
            owner: request.owner,
            firmware,
            extension,
            tpm,
        })
    }

    /// Who owns the set's certificates in firmware.
    pub fn owner(&self) -> Guid {
        self.owner
    }

    /// PK, KEK and db.
    pub fn firmware_keys(&self) -> &[FirmwareKey; 3] {
        &self.firmware
    }

    /// The key for extensions only.
    pub fn extension_key(&self) -> Option<&KeyPair> {
        self.extension.as_ref()
    }

    /// Every file of the set. With a passphrase the private keys are encrypted (PKCS#8, AES-256).
    ///
    /// # Errors
    /// Where OpenSSL cannot encode a key.
    pub fn files(&self, passphrase: Option<&str>) -> Result<Vec<KeyFile>, SecureBootError> {
        let encode = || {
            let mut files = Vec::new();
            for key in &self.firmware {
                let name = key.variable.name();
                add_pair(&mut files, name, &key.pair, passphrase)?;
                files.push(KeyFile::public(
                    format!("{name}.esl"),
                    key.update.content().to_vec(),
                ));
                files.push(KeyFile::public(format!("{name}.auth"), key.update.encode()));
            }
            if let Some(pair) = &self.extension {
                add_pair(&mut files, EXTENSION, pair, passphrase)?;
            }
            files.push(KeyFile::private(
                "tpm2-pcr-private.pem",
                &self.tpm,
                passphrase,
            )?);
            let public = self.tpm.public_key_to_pem()?;
            files.push(KeyFile::public("tpm2-pcr-public.pem", public));
            files.push(KeyFile::public("guid.txt", format!("{}\n", self.owner)));
            files.push(KeyFile::public(readme::NAME, readme::render(self)));
            Ok(files)
        };
        encode().map_err(SecureBootError::openssl("encode a key"))
    }
}

impl KeySetRequest<'_> {
    /// The value of `variable`: its own certificate first.
    fn value(&self, variable: Variable, own: &KeyPair) -> SignatureDatabase {
        let mut database = SignatureDatabase::default();
        let own = Entry {
            owner: self.owner,
            data: own.certificate().der(),
        };
        database.add(signature_list::X509, own);
        if self.microsoft {
            for data in microsoft::certificates(variable) {
                let owner = microsoft::OWNER;
                database.add(signature_list::X509, Entry { owner, data });
            }
        }
        self.custom.add_to(&mut database, variable);
        database
    }
}

impl FirmwareKey {
    /// Which one it is.
    pub fn variable(&self) -> Variable {
        self.variable
    }

    /// Key and certificate.
    pub fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// Whether it existed before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The variable's new value, signed.
    pub fn update(&self) -> &AuthenticatedVariable {
        &self.update
    }
}

impl KeyFile {
    fn public(name: impl Into<String>, content: impl Into<Vec<u8>>) -> KeyFile {
        KeyFile {
            name: name.into(),
            content: content.into(),
            secret: false,
        }
    }

    /// A private key as PKCS#8 in PEM form.
    fn private(
        name: impl Into<String>,
        key: &PKeyRef<Private>,
        passphrase: Option<&str>,
    ) -> Result<KeyFile, ErrorStack> {
        let content = match passphrase {
            Some(secret) => {
                key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), secret.as_bytes())?
            }
            None => key.private_key_to_pem_pkcs8()?,
        };
        Ok(KeyFile {
            name: name.into(),
            content,
            secret: true,
        })
    }
}

fn add_pair(
    files: &mut Vec<KeyFile>,
    name: &str,
    pair: &KeyPair,
    passphrase: Option<&str>,
) -> Result<(), ErrorStack> {
    let certificate = pair.certificate();
    files.push(KeyFile::private(
        format!("{name}.key"),
        pair.key(),
        passphrase,
    )?);
    files.push(KeyFile::public(
        format!("{name}.pem"),
        X509::from_der(certificate.der())?.to_pem()?,
    ));
    files.push(KeyFile::public(format!("{name}.der"), certificate.der()));
    Ok(())
}
