//! An image to be verified, copies of it with something changed, and what `sysgraft verify` says.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use serde_json::Value;
use sysgraft::image::{Ddi, Role};
use sysgraft::signature::SignaturePartition;

use crate::workplace::{RSA, Workplace, build, sysgraft, text};

pub const DB: &str = "keys-example/db.pem";

/// Runs `sysgraft verify`.
pub fn run<S: AsRef<std::ffi::OsStr>>(image: &Path, arguments: &[S]) -> Output {
    sysgraft(["verify"])
        .args(arguments)
        .arg(image)
        .output()
        .unwrap()
}

/// What `--json` says of one image, after a look at the exit code.
pub fn facts<S: AsRef<std::ffi::OsStr>>(image: &Path, arguments: &[S]) -> Value {
    let output = sysgraft(["verify", "--json"])
        .args(arguments)
        .arg(image)
        .output()
        .unwrap();
    let all: Result<Value, _> = serde_json::from_slice(&output.stdout);
    let Ok(all) = all else {
        panic!("{}", text(&output.stderr));
    };
    let facts = all[0].clone();
    let code = if facts["proved"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{facts:#}");
    facts
}

/// Every check that did not pass, with its problem.
pub fn problems(facts: &Value) -> Vec<(&str, &str)> {
    let checks = facts["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["outcome"] == "failed")
        .map(|check| {
            (
                check["check"].as_str().unwrap(),
                check["problem"].as_str().unwrap(),
            )
        })
        .collect()
}

pub fn outcome<'a>(facts: &'a Value, name: &str) -> &'a str {
    let checks = facts["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["check"] == name).unwrap();
    check["outcome"].as_str().unwrap()
}

/// A signed image of some 300 blocks, as file and in memory, with where its partitions lie.
pub struct Sample {
    pub workplace: Workplace,
    pub image: PathBuf,
    pub bytes: Vec<u8>,
    pub data: Range<usize>,
    pub hash: Range<usize>,
    pub signature: Range<usize>,
}

pub fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let workplace = Workplace::new();
        let root = workplace.small_tree();
        let noise: Vec<u8> = (0..300 * 4096_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
        fs::write(root.join("usr/bin/noise"), noise).unwrap();
        let source = format!("dir:{}", root.display());
        let plain = ["--compression", "none", "sample", &source];
        build(&workplace, &[&RSA[..], &plain].concat());
        let image = workplace.out().join("sample.sysext.raw");
        let ddi = Ddi::open(&image).unwrap();
        let range = |role| {
            let partition = ddi.partition(role).unwrap();
            let start = partition.offset as usize;
            start..start + partition.size as usize
        };
        Sample {
            bytes: fs::read(&image).unwrap(),
            data: range(Role::Data),
            hash: range(Role::Hash),
            signature: range(Role::Signature),
            workplace,
            image,
        }
    })
}

impl Sample {
    /// A changed copy, under the right name in a folder of its own.
    pub fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.sysext.raw");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    /// What `verify` says of a changed copy.
    pub fn facts(&self, change: impl FnOnce(&mut Vec<u8>)) -> Value {
        let (_folder, path) = self.changed(change);
        facts(&path, &["--certificate", DB])
    }

    /// A copy with another signature.
    pub fn with_signature(&self, change: impl FnOnce(&mut SignaturePartition)) -> Value {
        self.facts(|bytes| {
            let mut partition = SignaturePartition::parse(&bytes[self.signature.clone()]).unwrap();
            change(&mut partition);
            bytes[self.signature.clone()].copy_from_slice(&partition.encode().unwrap());
        })
    }
}

/// Makes the checksums of both copies of the partition table right, after the first was changed.
pub fn mend(bytes: &mut [u8]) {
    let end = bytes.len();
    let entries = bytes[1024..1024 + 128 * 128].to_vec();
    bytes[end - 33 * 512..end - 512].copy_from_slice(&entries);
    for header in [512, end - 512] {
        let header = &mut bytes[header..header + 92];
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        header[16..20].fill(0);
        let checksum = crc32fast::hash(header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
    }
}
