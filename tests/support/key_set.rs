//! A key set that `sysgraft genkey` made in a folder of its own.

#![allow(dead_code)] // each test uses a part of it

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::workplace::{sysgraft, text};

/// 2024-01-02 03:04:05 UTC.
pub const SIGNED_AT: &str = "1704164645";

pub const WITHOUT_MICROSOFT: &str = "--skip-microsoft-certs-I-KNOW-WHAT-IM-DOING";

/// The owner of Microsoft's certificates.
pub const MICROSOFT: &str = "77fa9abd-0359-4d32-bd60-28f4e78f784b";

/// The names of PK, KEK and db, each with that of its signer.
pub const VARIABLES: [(&str, &str); 3] = [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")];

pub struct Set {
    scratch: TempDir,
}

impl Set {
    /// `sysgraft genkey … fleet`, which must succeed.
    pub fn make(arguments: &[&str]) -> Set {
        let set = Set {
            scratch: tempfile::tempdir().unwrap(),
        };
        let output = genkey(&set.folder(), arguments)
            .arg("fleet")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        set
    }

    pub fn folder(&self) -> PathBuf {
        self.scratch.path().join("keys")
    }

    /// A file of the set.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub fn owner(&self) -> String {
        text(&self.read("guid.txt")).trim().to_owned()
    }

    /// A path for what other tools make.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// `sysgraft genkey --output FOLDER …` at a fixed time.
pub fn genkey(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = sysgraft(["genkey", "--output"]);
    command
        .arg(folder)
        .args(arguments)
        .env("SOURCE_DATE_EPOCH", SIGNED_AT);
    command
}

/// Every name in a folder, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The EFI_VARIABLE_AUTHENTICATION_2 of a file, taken apart by the offsets of UEFI 2.10, section
/// 8.2.2: time, PKCS#7, content.
pub fn parts(auth: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let length = u32::from_le_bytes(auth[16..20].try_into().unwrap()) as usize;
    assert_eq!(auth[20..24], [0x00, 0x02, 0xf1, 0x0e]);
    (&auth[..16], &auth[40..16 + length], &auth[16 + length..])
}

/// Runs a program; `None`, said aloud, where it is not installed.
pub fn tool(test: &str, command: &mut Command) -> Option<Output> {
    // sign-efi-sig-list reads times in the local zone.
    match command.env("TZ", "UTC").env("LC_ALL", "C").output() {
        Ok(output) => Some(output),
        Err(error) => {
            crate::support::skip(test, &format!("cannot run {command:?}: {error}"));
            None
        }
    }
}

/// As [`tool`], and the program must succeed. What it says on stdout.
pub fn accepted(test: &str, command: &mut Command) -> Option<String> {
    let output = tool(test, command)?;
    let said = text(&output.stdout);
    assert!(
        output.status.success(),
        "{command:?}: {said}{}",
        text(&output.stderr)
    );
    Some(said)
}
