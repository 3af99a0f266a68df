//! `sysgraft verify`: what every kind of damage and forgery is called, and that none goes unseen.

#[path = "support/authority.rs"]
mod authority;
#[path = "support/verified.rs"]
mod verified;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use authority::{Identity, PLAIN};
use proptest::prelude::*;
use serde_json::Value;
use sysgraft::image::Ddi;
use sysgraft::signature::trust::{TrustStore, Verifier};
use sysgraft::signature::{PemSigner, SignaturePartition, sign_root_hash};
use sysgraft::verification::{Blocks, Check, Progress, Request, Trust, verify};
use verified::{DB, facts, mend, outcome, problems, run, sample};
use workplace::{RSA, build, sysgraft, text};

#[test]
fn every_kind_of_damage_has_its_name() {
    let sample = sample();
    let flip = |place: usize| move |bytes: &mut Vec<u8>| bytes[place] ^= 1;
    let said = |change: &dyn Fn(&mut Vec<u8>)| {
        let facts = sample.facts(|bytes| change(bytes));
        let problems = problems(&facts);
        let problems = problems.iter();
        problems
            .map(|(check, problem)| format!("{check}: {problem}"))
            .collect::<Vec<_>>()
    };
    let expect = |change: &dyn Fn(&mut Vec<u8>), expected: &[&str]| {
        let said = said(change);
        assert_eq!(
            said.len(),
            expected.len(),
            "{said:#?}, expected {expected:#?}"
        );
        for (said, expected) in said.iter().zip(expected) {
            let (check, words) = expected.split_once(": ").unwrap();
            assert!(said.starts_with(check), "{said}");
            assert!(said.contains(words), "{said}, expected {expected}");
        }
    };
    expect(&|_| (), &[]);
    let (data, hash) = (&sample.data, &sample.hash);
    // Behind superblock and root directory, so that the release file can be read.
    let block = 150;
    let place = format!(
        "blocks: data block {block} is damaged (4096 bytes at offset {}",
        block * 4096
    );
    expect(&flip(data.start + block * 4096 + 5), &[&place]);
    expect(
        &flip(hash.start + 2 * 4096),
        &["blocks: hash block 2 of the hash partition"],
    );
    expect(
        &flip(hash.start + 4096),
        &["blocks: the hash tree has the root hash"],
    );
    // Magic, salt, number of data blocks.
    expect(&flip(hash.start), &["blocks: no verity superblock"]);
    expect(
        &flip(hash.start + 90),
        &["blocks: the hash tree has the root hash"],
    );
    expect(
        &flip(hash.start + 75),
        &["blocks: its verity superblock speaks of"],
    );

    let end = sample.bytes.len();
    let first = "partitionTable: the copy at the start is missing or damaged";
    let last = "partitionTable: the copy at the end is missing, damaged or different";
    expect(&flip(512 + 60), &[first]);
    expect(&flip(1024 + 40), &[first]);
    expect(&flip(end - 512 + 60), &[last]);
    expect(&flip(end - 33 * 512), &[last]);
    expect(&|bytes| bytes.extend([0; 512]), &[last]);
    let both = |bytes: &mut Vec<u8>| {
        bytes[512 + 60] ^= 1;
        bytes[end - 512 + 60] ^= 1;
    };
    expect(&both, &["partitionTable: no intact GUID partition table"]);
    expect(
        &flip(450),
        &["partitionTable: the protective MBR is missing"],
    );
    for length in [end - 1, end / 2, 20_000] {
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(length);
        expect(&cut, &["partitionTable: the image is cut short"]);
    }
    expect(&Vec::clear, &["partitionTable: the file is too short"]);

    let json = sample.signature.start;
    expect(&flip(json), &["signature: JSON is unusable"]);
    expect(
        &flip(sample.signature.end - 1),
        &["signature: more than NUL bytes"],
    );
    // The first digit of the root hash, behind `{"rootHash":"`.
    let other_digit = |bytes: &mut Vec<u8>| {
        let digit = &mut bytes[json + 13];
        *digit = if *digit == b'0' { b'1' } else { b'0' };
    };
    let expected = [
        "rootHash: contradicts itself",
        "blocks: root hash",
        "signature: over something else",
    ];
    expect(&other_digit, &expected);
}

#[test]
fn partitions_in_each_others_place_are_found_out() {
    let sample = sample();
    let swap = |range: Range<usize>| {
        sample.facts(|bytes| {
            let (first, second) = bytes[1024..1024 + 256].split_at_mut(128);
            first[range.clone()].swap_with_slice(&mut second[range]);
            mend(bytes);
        })
    };
    let no_tree = "does not begin with 'verity'";
    for (what, range, expected) in [
        ("types", 0..16, ["contradicts itself", no_tree]),
        ("places", 32..48, [no_tree, "there is no EROFS file system"]),
    ] {
        let said = swap(range);
        let found = problems(&said);
        for (problem, expected) in found.iter().zip(expected) {
            assert!(problem.1.contains(expected), "{what}: {found:#?}");
        }
    }
    let identities = swap(16..32);
    let found = problems(&identities);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].1.contains("contradicts itself"), "{found:#?}");

    // Two data partitions.
    let several = sample.facts(|bytes| {
        let data: [u8; 16] = bytes[1024..1040].try_into().unwrap();
        bytes[1024 + 128..1024 + 144].copy_from_slice(&data);
        mend(bytes);
    });
    let found = problems(&several);
    assert!(
        found[0].1.contains("more than one data partition"),
        "{found:#?}"
    );
    assert_eq!(found.len(), 1);
    assert_eq!(outcome(&several, "blocks"), "impossible");
}

/// Neither flag nor label is signed, and systemd goes by both.
#[test]
fn partitions_that_systemd_passes_over_are_found_out() {
    let sample = sample();
    const ENTRY: usize = 1024;
    let hide: [fn(&mut [u8]); 2] = [
        |entry| entry[55] |= 0x80,
        |entry| {
            entry[56..].fill(0);
            let label = "_empty".encode_utf16().flat_map(u16::to_le_bytes);
            for (byte, letter) in entry[56..].iter_mut().zip(label) {
                *byte = letter;
            }
        },
    ];
    for hide in hide {
        let facts = sample.facts(|bytes| {
            hide(&mut bytes[ENTRY..ENTRY + 128]);
            mend(bytes);
        });
        let found = problems(&facts);
        assert_eq!(found[0].0, "partitions", "{found:?}");
        assert!(found[0].1.contains("not to be used"), "{found:?}");
    }
}

#[test]
fn signatures_of_others_do_not_count() {
    let sample = sample();
    let refusal = |arguments: &[&str]| {
        let said = facts(&sample.image, arguments);
        let found = problems(&said);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].0, "signature");
        found[0].1.to_owned()
    };
    let said = refusal(&["--certificate", "keys-example/ec.pem"]);
    assert!(said.contains("by CN=sysgraft example"), "{said}");
    assert!(said.contains("is not trusted"), "{said}");

    // The same subject and serial number, another key.
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (Identity::p256(&PLAIN), Identity::p256(&PLAIN));
    let (_, trusted) = trusted.write(folder.path(), "trusted").unwrap();
    let (key, certificate) = stranger.write(folder.path(), "stranger").unwrap();
    let stranger = PemSigner::load(&key, &certificate, None).unwrap();
    let (_folder, path) = sample.changed(|bytes| {
        let partition = SignaturePartition::parse(&bytes[sample.signature.clone()]).unwrap();
        let pkcs7 = sign_root_hash(&stranger, &partition.root_hash).unwrap();
        let partition = SignaturePartition { pkcs7, ..partition };
        bytes[sample.signature.clone()].copy_from_slice(&partition.encode().unwrap());
    });
    let said = facts(&path, &["--certificate", trusted.to_str().unwrap()]);
    let found = problems(&said);
    assert!(
        found[0].1.contains("by another key than CN=somebody"),
        "{found:?}"
    );

    let said = refusal(&[]);
    assert!(said.contains("no trusted certificate is given"), "{said}");
    let output = run::<&str>(&sample.image, &[]);
    let said = text(&output.stdout);
    assert!(
        said.contains("NOT PROVED: it is intact, but its signature was not judged"),
        "{said}"
    );
    assert!(said.contains("--ignore-signature"), "{said}");
    assert_eq!(output.status.code(), Some(1));

    let said = sample.with_signature(|partition| *partition.pkcs7.last_mut().unwrap() ^= 1);
    assert!(problems(&said)[0].1.contains("it was damaged"), "{said:#}");
    let said = sample.with_signature(|partition| partition.pkcs7 = b"none".to_vec());
    assert!(
        problems(&said)[0].1.contains("no PKCS#7 structure"),
        "{said:#}"
    );
    let other = sample.workplace.path("other");
    fs::create_dir_all(other.join("usr/bin")).unwrap();
    fs::write(other.join("usr/bin/other"), "other").unwrap();
    let source = format!("dir:{}", other.display());
    build(&sample.workplace, &[&RSA[..], &["other", &source]].concat());
    let other = Ddi::open(&sample.workplace.out().join("other.sysext.raw")).unwrap();
    let other = other.signature.unwrap();
    let said = sample.with_signature(|partition| partition.pkcs7 = other.pkcs7.clone());
    assert!(
        problems(&said)[0].1.contains("over something else"),
        "{said:#}"
    );
    let said = sample.with_signature(|partition| *partition = other.clone());
    assert!(
        problems(&said)[0].1.contains("contradicts itself"),
        "{said:#}"
    );

    // What nobody looks at is no reason to refuse, but to wonder.
    let said = sample.with_signature(|partition| {
        partition.certificate_fingerprint = Some(sysgraft::digest::Digest::of(b"other"));
    });
    assert_eq!(problems(&said), []);
    let warning = said["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("names the certificate sha256:"),
        "{warning}"
    );
}

/// One that repart would not make, but `openssl smime` without options.
#[test]
fn a_signature_for_some_hosts_only_is_refused_unless_they_are_meant() {
    let sample = sample();
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("root-hash");
    let partition = SignaturePartition::parse(&sample.bytes[sample.signature.clone()]).unwrap();
    fs::write(&content, partition.root_hash.to_string()).unwrap();
    let signed = Command::new("openssl")
        .args(["smime", "-sign", "-binary", "-outform", "der"])
        .args(["-inkey", "keys-example/db.key", "-signer", DB, "-in"])
        .arg(&content)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    let (_folder, path) = sample.changed(|bytes| {
        let partition = SignaturePartition {
            pkcs7: signed.stdout,
            ..partition
        };
        bytes[sample.signature.clone()].copy_from_slice(&partition.encode().unwrap());
    });
    for (who, proved) in [("both", false), ("kernel", false), ("systemd", true)] {
        let said = facts(&path, &["--certificate", DB, "--verifier", who]);
        assert_eq!(said["proved"], proved, "{said:#}");
        assert_eq!(said["systemd"]["accepted"], true);
        let problem = said["kernel"]["problem"].as_str().unwrap();
        assert!(problem.contains("S/MIME capabilities"), "{problem}");
        if proved {
            let warning = said["warnings"][0].as_str().unwrap();
            assert!(warning.starts_with("the kernel refuses"), "{warning}");
        }
    }
    let inspected = sysgraft(["inspect"]).arg(&path).output().unwrap();
    let said = text(&inspected.stdout);
    assert!(
        said.contains("NOT FOR EVERY HOST: it has signed attributes"),
        "{said}"
    );
    let inspected = sysgraft(["inspect", "--json"]).arg(&path).output().unwrap();
    let said: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(said["signature"]["objections"].as_array().unwrap().len(), 1);
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

fn is_proved(path: &Path) -> bool {
    let mut store = TrustStore::new();
    store.load_file(Path::new(DB)).unwrap();
    let verifiers = [Verifier::Systemd];
    let request = Request {
        path,
        known_as: None,
        trust: Trust::Signed {
            store: &store,
            verifiers: &verifiers,
        },
        host: None,
        blocks: Blocks::All,
        jobs: std::num::NonZero::<usize>::MIN,
    };
    let report = verify(&request, &Silent);
    assert_eq!(report.outcomes().len(), Check::ALL.len());
    report.is_proved()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_change_to_what_is_protected_is_ever_proved(
        place in any::<prop::sample::Index>(),
        flip in 1_u8..,
        part in 0..3_usize,
    ) {
        let sample = sample();
        // All data, the hash tree behind its superblock, both partition tables.
        let tables = 512..1024 + 128 * 128;
        let tree = sample.hash.start + 4096..sample.hash.end;
        let range: Range<usize> = [sample.data.clone(), tree, tables][part].clone();
        let place = range.start + place.index(range.len());
        let (_folder, path) = sample.changed(|bytes| bytes[place] ^= flip);
        // Behind the 92 bytes of a header the sector is nobody's.
        let in_table = !(604..1024).contains(&place);
        prop_assert_eq!(is_proved(&path), !in_table, "byte {}", place);
    }

    #[test]
    fn any_change_anywhere_ends_without_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
        mended in any::<bool>(),
    ) {
        let sample = sample();
        let (_folder, path) = sample.changed(|bytes| {
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            if mended {
                mend(bytes);
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
        });
        is_proved(&path);
    }
}
