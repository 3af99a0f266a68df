//! Keys and certificates that tests make for themselves.

#![allow(dead_code)] // each test uses a part of it

use std::path::{Path, PathBuf};
use std::{fs, io};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name};

/// A key with its certificate.
#[derive(Clone)]
pub struct Identity {
    pub key: PKey<Private>,
    pub certificate: X509,
}

/// What a certificate is to be like.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub name: &'a str,
    pub serial: u32,
    /// Days from now.
    pub valid: (i64, i64),
    /// Whether it is for servers, no CA, and not for signing.
    pub unfit: bool,
    pub issuer: Option<&'a Identity>,
}

pub const PLAIN: Wish<'_> = Wish {
    name: "somebody",
    serial: 0x1234,
    valid: (-1, 30),
    unfit: false,
    issuer: None,
};

pub fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

pub fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

impl Identity {
    pub fn new(key: PKey<Private>, wish: &Wish<'_>) -> Identity {
        let certificate = certify(&key, wish);
        Identity { key, certificate }
    }

    /// A P-256 key, whose certificate is like `wish`.
    pub fn p256(wish: &Wish<'_>) -> Identity {
        Identity::new(ec(Nid::X9_62_PRIME256V1), wish)
    }

    pub fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap()
    }

    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// Writes `NAME.key` and `NAME.crt` into `folder`.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let (key, certificate) = (
            folder.join(format!("{name}.key")),
            folder.join(format!("{name}.crt")),
        );
        fs::write(&key, self.key.private_key_to_pem_pkcs8()?)?;
        fs::write(&certificate, self.pem())?;
        Ok((key, certificate))
    }
}

fn certify(key: &PKey<Private>, wish: &Wish<'_>) -> X509 {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", wish.name).unwrap();
    let name = name.build();
    let serial = BigNum::from_u32(wish.serial).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let time = |days: i64| Asn1Time::from_unix(now + days * 86_400).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&Asn1Integer::from_bn(&serial).unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    let issuer = wish.issuer.map(|issuer| &issuer.certificate);
    let issuer_name = issuer.map_or(&*name, |issuer| issuer.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_not_before(&time(wish.valid.0)).unwrap();
    builder.set_not_after(&time(wish.valid.1)).unwrap();
    builder.set_pubkey(key).unwrap();

    let context = builder.x509v3_context(issuer.map(|issuer| &**issuer), None);
    let identifier = SubjectKeyIdentifier::new().build(&context).unwrap();
    builder.append_extension(identifier).unwrap();
    if issuer.is_some() {
        let context = builder.x509v3_context(issuer.map(|issuer| &**issuer), None);
        let authority = AuthorityKeyIdentifier::new()
            .keyid(true)
            .build(&context)
            .unwrap();
        builder.append_extension(authority).unwrap();
    }
    if wish.unfit {
        for extension in [
            BasicConstraints::new().critical().build().unwrap(),
            KeyUsage::new()
                .critical()
                .key_encipherment()
                .build()
                .unwrap(),
            ExtendedKeyUsage::new().server_auth().build().unwrap(),
        ] {
            builder.append_extension(extension).unwrap();
        }
    }
    let signing_key = wish.issuer.map_or(key, |issuer| &issuer.key);
    // Edwards keys bring their own digest.
    let digest = match signing_key.id() {
        Id::ED25519 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    };
    builder.sign(signing_key, digest).unwrap();
    builder.build()
}
