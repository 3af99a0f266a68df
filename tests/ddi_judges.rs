//! What the tools of util-linux, gdisk, cryptsetup and OpenSSL think of images.

mod support;

use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sysgraft::architecture::Architecture;
use sysgraft::erofs::BlockSink;
use sysgraft::image::{Assembled, DATA_OFFSET, Ddi, Role, assemble};
use sysgraft::read_at::ReadAt;
use sysgraft::seed::Seed;
use sysgraft::signature::{PemSigner, SignatureError, Signer, Signing};
use sysgraft::verity::{BLOCK_SIZE, HashedDataWriter};

/// Around the places where the hash tree gets another block or another level.
const BLOCK_COUNTS: [usize; 8] = [1, 126, 127, 128, 129, 16383, 16384, 16385];

/// Runs a program, which must succeed; `None`, said aloud, where it is not installed.
fn judge(test: &str, program: &str, arguments: &[&Path]) -> Option<Output> {
    let result = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
        .env("LC_ALL", "C")
        .output();
    match result {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {output:?}"
            );
            Some(output)
        }
        Err(error) => {
            support::skip(test, &format!("cannot run {program}: {error}"));
            None
        }
    }
}

fn example_key(name: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("keys-example");
    let file = |suffix| folder.join(format!("{name}.{suffix}"));
    (file("key"), file("pem"))
}

fn signer(name: &str) -> PemSigner {
    let (key, certificate) = example_key(name);
    PemSigner::load(&key, &certificate, None).unwrap()
}

/// An image of `blocks` blocks at `path`, no two of which are equal.
fn make(path: &Path, blocks: usize, workers: usize, signer: Option<&dyn Signer>) -> Assembled {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    let seed: Seed = "0c9e4c32-9d9c-4a3e-9f3b-1a2b3c4d5e6f".parse().unwrap();
    let workers = NonZero::new(workers).unwrap();
    let salt = seed.verity_salt().into();
    let mut writer = HashedDataWriter::new(file, DATA_OFFSET, salt, workers).unwrap();
    let mut block = [0; BLOCK_SIZE];
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_le_bytes());
        block[4088..].copy_from_slice(&number.to_be_bytes());
        writer.append(&block).unwrap();
    }
    writer
        .patch(blocks as u64 / 2, &mut |block| block[99] = 7)
        .unwrap();
    let signing = signer.map_or(Signing::Never, Signing::Now);
    assemble(
        writer.finish().unwrap(),
        seed,
        Architecture::X86_64,
        signing,
    )
    .unwrap()
}

/// Copies the partition with `role` into a file of its own.
fn take_out(image: &Path, role: Role) -> PathBuf {
    let window = Ddi::open(image).unwrap().open_partition(role).unwrap();
    let window = window.unwrap();
    let mut bytes = vec![0; usize::try_from(window.size()).unwrap()];
    window.read_exact_at(&mut bytes, 0).unwrap();
    let path = image.with_extension(format!("{role:?}"));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn sfdisk_and_sgdisk_find_nothing_wrong_with_the_partition_tables() {
    let test = "sfdisk_and_sgdisk_find_nothing_wrong_with_the_partition_tables";
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.raw");
    let signer = signer("db");
    for blocks in BLOCK_COUNTS {
        for signer in [None, Some(&signer as &dyn Signer)] {
            make(&image, blocks, 2, signer);
            if let Some(output) = judge(test, "sfdisk", &["--verify".as_ref(), &image]) {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    said.contains("No errors detected"),
                    "{blocks} blocks: {said}"
                );
            }
            if let Some(output) = judge(test, "sgdisk", &["-v".as_ref(), &image]) {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(
                    said.contains("No problems found"),
                    "{blocks} blocks: {said}"
                );
            }
        }
    }
}

#[test]
fn veritysetup_verifies_trees_of_every_shape() {
    let test = "veritysetup_verifies_trees_of_every_shape";
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.raw");
    for blocks in BLOCK_COUNTS {
        let made = make(&image, blocks, 2, None);
        let (data, hash) = (take_out(&image, Role::Data), take_out(&image, Role::Hash));
        let root_hash = made.root_hash.to_string();
        let arguments: [&Path; 4] = ["verify".as_ref(), &data, &hash, root_hash.as_ref()];
        judge(test, "veritysetup", &arguments);
    }
}

/// systemd calls `PKCS7_verify()` with the same flags.
#[test]
fn openssl_verifies_signatures_of_every_kind_of_key() {
    let test = "openssl_verifies_signatures_of_every_kind_of_key";
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.raw");
    let p384 = (
        folder.path().join("p384.key"),
        folder.path().join("p384.pem"),
    );
    let request: Vec<&Path> = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=P-384",
        "-keyout",
    ]
    .iter()
    .map(Path::new)
    .chain([p384.0.as_path(), "-out".as_ref(), &p384.1])
    .collect();
    if judge(test, "openssl", &request).is_none() {
        return;
    }
    for (key, certificate) in [example_key("db"), example_key("ec"), p384] {
        let signer = PemSigner::load(&key, &certificate, None).unwrap();
        let made = make(&image, 3, 1, Some(&signer));
        let signature = Ddi::open(&image).unwrap().signature.unwrap();
        assert_eq!(signature.root_hash, made.root_hash);
        let (pkcs7, content) = (folder.path().join("p7s"), folder.path().join("root-hash"));
        fs::write(&pkcs7, signature.pkcs7).unwrap();
        fs::write(&content, made.root_hash.to_string()).unwrap();
        let arguments: [&Path; 13] = [
            "smime".as_ref(),
            "-verify".as_ref(),
            "-binary".as_ref(),
            "-inform".as_ref(),
            "DER".as_ref(),
            "-in".as_ref(),
            &pkcs7,
            "-content".as_ref(),
            &content,
            "-certfile".as_ref(),
            &certificate,
            "-noverify".as_ref(),
            "-nointern".as_ref(),
        ];
        let output = judge(test, "openssl", &arguments).unwrap();
        assert_eq!(output.stdout, made.root_hash.to_string().as_bytes());
    }
}

#[test]
fn the_number_of_workers_does_not_change_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.raw");
    let signer = signer("ec");
    for blocks in [1, 257, 5000] {
        let image = |workers| {
            make(&path, blocks, workers, Some(&signer));
            fs::read(&path).unwrap()
        };
        assert!(image(1) == image(8), "{blocks} blocks");
    }
}

/// Only OpenSSL's own program makes such keys.
#[test]
fn an_rsa_pss_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("pss.key");
    let certificate = folder.path().join("pss.pem");
    let request: Vec<&Path> = [
        "req",
        "-x509",
        "-newkey",
        "rsa-pss",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-nodes",
        "-subj",
        "/CN=PSS",
        "-keyout",
    ]
    .iter()
    .map(Path::new)
    .chain([key.as_path(), "-out".as_ref(), &certificate])
    .collect();
    if judge("an_rsa_pss_key_is_refused", "openssl", &request).is_none() {
        return;
    }
    let refused = PemSigner::load(&key, &certificate, None).err().unwrap();
    let SignatureError::UnsuitableKey { found, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(found, "RSA-PSS");
}
