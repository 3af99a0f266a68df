//! What virt-firmware and the firmware of Debian's virtual machines think of key sets.

#[path = "support/key_set.rs"]
mod key_set;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use key_set::{MICROSOFT, Set, VARIABLES, accepted, parts};
use serde_json::{Value, json};
use support::skip;
use sysgraft::efi::SignatureDatabase;
use sysgraft::secureboot::{Variable, microsoft};

/// A program of virt-firmware: from `.ci/virt-firmware`, else from PATH.
fn virt_firmware(program: &str) -> Command {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/virt-firmware/bin");
    Command::new(match ours.join(program) {
        path if path.exists() => path,
        _ => PathBuf::from(program),
    })
}

const EMPTY_STORE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const MICROSOFT_STORE: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// The variables of a firmware's store.
fn variables(test: &str, store: &Path, json_file: &Path) -> Option<Value> {
    let mut command = virt_firmware("virt-fw-vars");
    accepted(
        test,
        command
            .arg("-i")
            .arg(store)
            .arg("--output-json")
            .arg(json_file),
    )?;
    Some(serde_json::from_slice(&fs::read(json_file).unwrap()).unwrap())
}

/// The content of one of them.
fn content(variables: &Value, name: &str) -> Vec<u8> {
    let mut all = variables["variables"].as_array().unwrap().iter();
    let variable = all.find(|variable| variable["name"] == name).unwrap();
    let digits = variable["data"].as_str().unwrap();
    let at = (0..digits.len()).step_by(2);
    at.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn virt_firmware_enrols_the_set_into_ovmf() {
    const TEST: &str = "virt_firmware_enrols_the_set_into_ovmf";
    if !Path::new(EMPTY_STORE).exists() {
        return skip(TEST, &format!("there is no {EMPTY_STORE}"));
    }
    let set = Set::make(&[]);
    let owner = set.owner();
    let store = set.scratch("vars.fd");
    // Certificate by certificate, from the .der files …
    let mut command = virt_firmware("virt-fw-vars");
    command
        .args(["-i", EMPTY_STORE, "--no-microsoft", "-o"])
        .arg(&store);
    for (option, name) in [("--set-pk", "PK"), ("--add-kek", "KEK"), ("--add-db", "db")] {
        command
            .args([option, &owner])
            .arg(set.file(&format!("{name}.der")));
    }
    if accepted(TEST, &mut command).is_none() {
        return;
    }
    let enrolled = variables(TEST, &store, &set.scratch("json")).unwrap();
    for (name, _) in VARIABLES {
        let ours = SignatureDatabase::parse(&set.read(&format!("{name}.esl"))).unwrap();
        let theirs = SignatureDatabase::parse(&content(&enrolled, name)).unwrap();
        assert_eq!(theirs.lists(), &ours.lists()[..1], "{name}");
    }
    // … and whole variables, from the .auth files.
    let whole: Vec<Value> = VARIABLES
        .iter()
        .map(|(name, _)| {
            let auth = set.read(&format!("{name}.auth"));
            let (time, _, content) = parts(&auth);
            let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let guid = match *name {
                "db" => "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
                _ => "8be4df61-93ca-11d2-aa0d-00e098032b8c",
            };
            json!({"name": name, "guid": guid, "attr": 0x27, "data": hex(content), "time": hex(time)})
        })
        .collect();
    let json_file = set.scratch("whole.json");
    fs::write(
        &json_file,
        json!({"version": 2, "variables": whole}).to_string(),
    )
    .unwrap();
    let mut command = virt_firmware("virt-fw-vars");
    command
        .args(["-i", EMPTY_STORE, "--set-json"])
        .arg(&json_file);
    accepted(TEST, command.arg("-o").arg(&store)).unwrap();
    let enrolled = variables(TEST, &store, &set.scratch("json")).unwrap();
    for (name, _) in VARIABLES {
        assert_eq!(
            content(&enrolled, name),
            set.read(&format!("{name}.esl")),
            "{name}"
        );
    }
    let mut command = virt_firmware("virt-fw-vars");
    let said = accepted(TEST, command.args(["-p", "-v", "-i"]).arg(&store)).unwrap();
    for words in [
        "name=PK ",
        "name=KEK ",
        "name=db ",
        "subject CN=fleet-PK",
        "subject CN=fleet-KEK",
        "subject CN=fleet-db",
        "CN=Windows UEFI CA 2023",
        "time=2024-01-02 03:04:05",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

/// Every certificate that Debian's firmware trusts because Microsoft asks for it is ours too, byte for
/// byte.
#[test]
fn microsofts_certificates_are_those_that_debian_enrols() {
    const TEST: &str = "microsofts_certificates_are_those_that_debian_enrols";
    if !Path::new(MICROSOFT_STORE).exists() {
        return skip(TEST, &format!("there is no {MICROSOFT_STORE}"));
    }
    let scratch = tempfile::tempdir().unwrap();
    let json_file = scratch.path().join("json");
    let Some(enrolled) = variables(TEST, Path::new(MICROSOFT_STORE), &json_file) else {
        return;
    };
    for (name, variable) in [("KEK", Variable::Kek), ("db", Variable::Db)] {
        let database = SignatureDatabase::parse(&content(&enrolled, name)).unwrap();
        let mut compared = 0;
        for entry in database.certificates() {
            // Debian owns one of KEK's; Microsoft all others.
            if entry.owner.to_string() == MICROSOFT {
                assert!(
                    microsoft::certificates(variable).contains(&entry.data),
                    "{name}"
                );
                compared += 1;
            }
        }
        assert!(compared > 0, "nothing of Microsoft's is in {name}");
    }
}

/// The package of which they were taken has the same ones, and no others that belong there.
#[test]
fn microsofts_certificates_are_those_of_virt_firmware() {
    const TEST: &str = "microsofts_certificates_are_those_of_virt_firmware";
    if !Path::new(EMPTY_STORE).exists() {
        return skip(TEST, &format!("there is no {EMPTY_STORE}"));
    }
    let set = Set::make(&[]);
    let store = set.scratch("vars.fd");
    let mut command = virt_firmware("virt-fw-vars");
    command
        .args(["-i", EMPTY_STORE, "--enroll-cert"])
        .arg(set.file("db.pem"));
    command
        .args(["--microsoft-kek", "all", "--microsoft-db", "all", "-o"])
        .arg(&store);
    if accepted(TEST, &mut command).is_none() {
        return;
    }
    let enrolled = variables(TEST, &store, &set.scratch("json")).unwrap();
    for (name, variable) in [("KEK", Variable::Kek), ("db", Variable::Db)] {
        let database = SignatureDatabase::parse(&content(&enrolled, name)).unwrap();
        let theirs = database
            .certificates()
            .filter(|entry| entry.owner.to_string() == MICROSOFT);
        let mut theirs: Vec<&[u8]> = theirs.map(|entry| entry.data).collect();
        let mut ours = microsoft::certificates(variable).to_vec();
        theirs.sort();
        ours.sort();
        assert!(
            ours == theirs,
            "{name}: {} of ours, {} of theirs",
            ours.len(),
            theirs.len()
        );
    }
}
