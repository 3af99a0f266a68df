//! Images equal those that systemd-repart 257 made of the same file system, seed and key.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sysgraft::architecture::Architecture;
use sysgraft::digest::{Digest, hex};
use sysgraft::image::{DATA_OFFSET, Ddi, Role, assemble};
use sysgraft::read_at::ReadAt;
use sysgraft::seed::Seed;
use sysgraft::signature::{
    Algorithm, Certificate, PemSigner, SignatureError, SignaturePartition, Signer, Signing,
};
use sysgraft::verity::{HashedData, Superblock, verify};

const SEED: &str = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f";
const ALL: [&str; 6] = [
    "large-rsa.sysext",
    "large-ec.sysext",
    "small-rsa.sysext",
    "small-ec.sysext",
    "small-unsigned.sysext",
    "conf-rsa.confext",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn key_pair(name: &str) -> PemSigner {
    let keys = folder().join("keys");
    let key = keys.join(format!("{name}.key"));
    PemSigner::load(&key, &keys.join(format!("{name}.crt")), None).unwrap()
}

/// An image of systemd-repart's, its sum checked.
fn golden(name: &str) -> Vec<u8> {
    let file = File::open(folder().join(format!("{name}.raw.zst"))).unwrap();
    let image = zstd::decode_all(file).unwrap();
    let sums = fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let line = format!("{}  {name}.raw", hex(Digest::of(&image).as_bytes()));
    assert!(sums.lines().any(|known| known == line), "{name} is another");
    image
}

/// `image` as a file, so that it can be opened, and the folder that it goes with.
fn opened(image: &[u8]) -> (tempfile::TempDir, Ddi) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.raw");
    fs::write(&path, image).unwrap();
    let ddi = Ddi::open(&path).unwrap();
    (folder, ddi)
}

fn content(ddi: &Ddi, role: Role) -> Vec<u8> {
    let window = ddi.open_partition(role).unwrap().unwrap();
    let mut bytes = vec![0; usize::try_from(window.size()).unwrap()];
    window.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The file system of a golden image: its data partition may be larger.
fn file_system(ddi: &Ddi) -> Vec<u8> {
    let size = ddi.verity.as_ref().unwrap().geometry.data_size();
    let mut data = content(ddi, Role::Data);
    data.truncate(usize::try_from(size).unwrap());
    data
}

/// Our image around `file_system`.
fn image_around(file_system: &[u8], signer: Option<&dyn Signer>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.write_all_at(file_system, DATA_OFFSET).unwrap();
    let seed: Seed = SEED.parse().unwrap();
    let salt = seed.verity_salt().into();
    let size = file_system.len() as u64;
    let data = HashedData::of_existing(file, DATA_OFFSET, size, salt).unwrap();
    let signing = signer.map_or(Signing::Never, Signing::Now);
    let assembled = assemble(data, seed, Architecture::X86_64, signing).unwrap();
    let image = fs::read(&path).unwrap();
    assert_eq!(assembled.size, image.len() as u64);
    image
}

/// Fails with the place of the first difference, not with megabytes of bytes.
fn assert_equal(ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.len(), theirs.len(), "the images differ in size");
    let difference = ours.iter().zip(theirs).position(|(a, b)| a != b);
    assert_eq!(difference, None, "the images differ at this byte");
}

/// Says what another implementation signed. ECDSA signatures of OpenSSL are random.
struct Replay {
    certificate: Certificate,
    signature: Vec<u8>,
}

impl Signer for Replay {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::EcdsaSha256
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.signature.clone())
    }
}

/// The `ECDSA-Sig-Value` with which a PKCS#7 signature ends.
fn ecdsa_value(pkcs7: &[u8]) -> Vec<u8> {
    (8..=72)
        .map(|length| pkcs7.split_at(pkcs7.len() - length))
        .find(|(before, value)| {
            let length = u8::try_from(value.len()).unwrap();
            before.ends_with(&[4, length]) && value.starts_with(&[0x30, length - 2])
        })
        .map(|(_, value)| value.to_vec())
        .expect("the signature is the last field")
}

fn replay_of(ddi: &Ddi) -> Replay {
    let signature = ecdsa_value(&ddi.signature.as_ref().unwrap().pkcs7);
    let certificate = Certificate::load(&folder().join("keys/ec.crt")).unwrap();
    Replay {
        certificate,
        signature,
    }
}

#[test]
fn an_rsa_signed_image_equals_that_of_systemd_repart() {
    let theirs = golden("large-rsa.sysext");
    let (_folder, ddi) = opened(&theirs);
    let ours = image_around(&file_system(&ddi), Some(&key_pair("rsa")));
    assert_equal(&ours, &theirs);
}

#[test]
fn an_ec_signed_image_equals_that_of_systemd_repart_but_for_the_random_number_in_it() {
    let theirs = golden("large-ec.sysext");
    let (_folder, ddi) = opened(&theirs);
    let ours = image_around(&file_system(&ddi), Some(&replay_of(&ddi)));
    assert_equal(&ours, &theirs);

    let signer = key_pair("ec");
    let once = image_around(&file_system(&ddi), Some(&signer));
    assert_equal(&image_around(&file_system(&ddi), Some(&signer)), &once);
    let (_folder, ours) = opened(&once);
    for role in [Role::Data, Role::Hash] {
        assert_equal(&content(&ours, role), &content(&ddi, role));
    }
    let (ours, theirs) = (ours.signature.unwrap(), ddi.signature.unwrap());
    assert_eq!(ours.root_hash, theirs.root_hash);
    assert_eq!(ours.certificate_fingerprint, theirs.certificate_fingerprint);
    assert_ne!(ours.pkcs7, theirs.pkcs7);
}

/// Below 4 MiB only the places differ.
#[test]
fn hash_tree_signature_and_identifiers_of_small_images_equal_those_of_systemd_repart() {
    for name in &ALL[2..] {
        let (_folder, theirs) = opened(&golden(name));
        let signer: Option<Box<dyn Signer>> = match name {
            name if name.contains("rsa") => Some(Box::new(key_pair("rsa"))),
            name if name.contains("ec.") => Some(Box::new(replay_of(&theirs))),
            _ => None,
        };
        let ours = image_around(&file_system(&theirs), signer.as_deref());
        let (_folder, ours) = opened(&ours);
        assert_eq!(ours.verity, theirs.verity, "{name}");
        assert_eq!(ours.root_hash(), theirs.root_hash(), "{name}");
        assert_eq!(ours.disk_guid, theirs.disk_guid, "{name}");
        assert_eq!(ours.signature, theirs.signature, "{name}");
        let hash = content(&ours, Role::Hash);
        assert_equal(&hash, &content(&theirs, Role::Hash)[..hash.len()]);
        if theirs.signature.is_some() {
            let signature = content(&ours, Role::Signature);
            assert_equal(&signature, &content(&theirs, Role::Signature));
        }
        for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
            assert_eq!(ours.kind, theirs.kind, "{name}");
            assert_eq!(ours.uuid, theirs.uuid, "{name}");
            assert_eq!(ours.label, theirs.label, "{name}");
            assert_eq!(ours.attributes, theirs.attributes, "{name}");
        }
        assert_eq!(ours.partitions.len(), theirs.partitions.len(), "{name}");
    }
}

#[test]
fn images_of_systemd_repart_are_read_and_verify() {
    for name in ALL {
        let (_folder, ddi) = opened(&golden(name));
        let root_hash = ddi.root_hash().unwrap();
        let data = ddi.open_partition(Role::Data).unwrap().unwrap();
        let hash = ddi.open_partition(Role::Hash).unwrap().unwrap();
        let verified = verify(&data, &hash, Some(&root_hash)).unwrap();
        assert_eq!(Some(&verified.superblock), ddi.verity.as_ref(), "{name}");
    }
}

#[test]
fn formats_read_back_to_the_bytes_that_systemd_repart_wrote() {
    for name in ALL {
        let (_folder, ddi) = opened(&golden(name));
        let hash = content(&ddi, Role::Hash);
        let superblock = Superblock::parse(&hash).unwrap();
        assert_equal(&superblock.encode(), &hash[..4096]);
        if ddi.signature.is_some() {
            let theirs = content(&ddi, Role::Signature);
            let parsed = SignaturePartition::parse(&theirs).unwrap();
            assert_equal(&parsed.encode().unwrap(), &theirs);
        }
    }
}
