//! `sysgraft genkey`: what it makes, and what it leaves alone.

#[path = "support/key_set.rs"]
mod key_set;
mod support;
#[path = "support/workplace.rs"]
mod workplace;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use key_set::{Set, WITHOUT_MICROSOFT, genkey, names};
use serde_json::Value;
use sysgraft::digest::Digest;
use sysgraft::efi::SignatureDatabase;
use sysgraft::secureboot::{Variable, microsoft};
use workplace::{run, sysgraft, text};

const FILES: [&str; 19] = [
    "KEK.auth",
    "KEK.der",
    "KEK.esl",
    "KEK.key",
    "KEK.pem",
    "PK.auth",
    "PK.der",
    "PK.esl",
    "PK.key",
    "PK.pem",
    "README.keys.md",
    "db.auth",
    "db.der",
    "db.esl",
    "db.key",
    "db.pem",
    "guid.txt",
    "tpm2-pcr-private.pem",
    "tpm2-pcr-public.pem",
];

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let content = |name: String| {
        let content = fs::read(folder.join(&name)).unwrap();
        (name, content)
    };
    names(folder).into_iter().map(content).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn subject(certificate: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args([
        "x509",
        "-noout",
        "-subject",
        "-nameopt",
        "RFC2253,-esc_msb",
        "-in",
    ]);
    let output = command.arg(certificate).output().unwrap();
    text(&output.stdout).trim().to_owned()
}

#[test]
fn a_set_is_complete_and_its_secrets_are_closed() {
    let set = Set::make(&[]);
    assert_eq!(names(&set.folder()), FILES);
    assert_eq!(mode(&set.folder()), 0o700);
    for name in FILES {
        let secret = name.ends_with(".key") || name.contains("private");
        assert_eq!(mode(&set.file(name)) & 0o077 == 0, secret, "{name}");
    }
    let readme = text(&set.read("README.keys.md"));
    for name in ["PK", "KEK", "db"] {
        let fingerprint = Digest::of(&set.read(&format!("{name}.der"))).hex();
        assert!(readme.contains(&fingerprint), "{readme}");
    }
}

#[test]
fn without_arguments_the_set_is_the_hosts_and_lies_in_keys() {
    let scratch = tempfile::tempdir().unwrap();
    let output = sysgraft(["gk"])
        .current_dir(scratch.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(names(&scratch.path().join("keys")), FILES);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = match host.trim() {
        "localhost" | "(none)" => "sysgraft",
        name => name,
    };
    let pem = scratch.path().join("keys/db.pem");
    assert_eq!(subject(&pem), format!("subject=CN={name}-db"));
}

#[test]
fn json_says_what_was_made() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("keys");
    let arguments = [
        "--json",
        "--extension-key=p256",
        "--key-type",
        "rsa3072",
        "fleet",
    ];
    let output = genkey(&folder, &arguments).output().unwrap();
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let guid = fs::read_to_string(folder.join("guid.txt")).unwrap();
    assert_eq!(facts["ownerGuid"], guid.trim());
    assert_eq!(facts["encrypted"], false);
    let keys = facts["keys"].as_array().unwrap();
    let expected = [
        ("PK", "rsa3072"),
        ("KEK", "rsa3072"),
        ("db", "rsa3072"),
        ("extension", "p256"),
    ];
    assert_eq!(keys.len(), expected.len());
    for (key, (name, key_type)) in keys.iter().zip(expected) {
        assert_eq!(key["name"], name);
        assert_eq!(key["keyType"], key_type);
        assert_eq!(key["reused"], false);
        assert_eq!(key["subject"], format!("CN=fleet-{name}"));
        let der = fs::read(key["certificateDer"].as_str().unwrap()).unwrap();
        assert_eq!(key["fingerprint"], Digest::of(&der).hex());
        assert!(Path::new(key["privateKey"].as_str().unwrap()).exists());
        assert_eq!(key["authenticatedVariable"].is_null(), name == "extension");
    }
    for file in ["tpm2PcrPrivateKey", "tpm2PcrPublicKey"] {
        assert!(Path::new(facts[file].as_str().unwrap()).exists());
    }
}

#[test]
fn names_subjects_owners_and_days_are_as_asked() {
    let owner = "88a69775-5ad7-45d9-9f34-cec43e1f1989";
    let subject_text = "/C=DE/O=Müller \\/ Söhne";
    let set = Set::make(&["-e", "10", "--subject", subject_text, "--owner-guid", owner]);
    assert_eq!(set.owner(), owner);
    assert_eq!(
        subject(&set.file("KEK.pem")),
        "subject=CN=fleet-KEK,O=Müller / Söhne,C=DE"
    );
    let within = |days: u32| {
        let mut command = Command::new("openssl");
        command.args([
            "x509",
            "-noout",
            "-checkend",
            &(days * 86_400).to_string(),
            "-in",
        ]);
        command.arg(set.file("db.pem")).stdout(Stdio::null());
        !command.status().unwrap().success()
    };
    assert!(within(10) && !within(9));
    let database = SignatureDatabase::parse(&set.read("db.esl")).unwrap();
    let owners: Vec<String> = database
        .certificates()
        .map(|e| e.owner.to_string())
        .collect();
    assert_eq!(owners[0], owner);
    assert!(
        owners[1..]
            .iter()
            .all(|other| *other == microsoft::OWNER.to_string())
    );

    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("keys");
    let output = genkey(&folder, &["--subject", "O=Example, CN=other"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        subject(&folder.join("PK.pem")),
        "subject=CN=other-PK,O=Example"
    );
}

#[test]
fn microsofts_certificates_are_left_out_on_demand() {
    let set = Set::make(&[WITHOUT_MICROSOFT]);
    for name in ["PK", "KEK", "db"] {
        let database = SignatureDatabase::parse(&set.read(&format!("{name}.esl"))).unwrap();
        let all: Vec<&[u8]> = database.certificates().map(|entry| entry.data).collect();
        assert_eq!(all, [set.read(&format!("{name}.der"))]);
    }
}

#[test]
fn certificates_of_others_are_enrolled_with_their_owners_and_once() {
    // What another owner's firmware would export: their certificates and Microsoft's.
    let other = Set::make(&[]);
    let exported = other.scratch("exported");
    fs::create_dir(&exported).unwrap();
    for name in ["KEK", "db"] {
        fs::copy(other.file(&format!("{name}.esl")), exported.join(name)).unwrap();
    }
    let set = Set::make(&["--custom-cert-dir", exported.to_str().unwrap()]);
    for (name, variable) in [("KEK", Variable::Kek), ("db", Variable::Db)] {
        let database = SignatureDatabase::parse(&set.read(&format!("{name}.esl"))).unwrap();
        let all: Vec<_> = database.certificates().collect();
        let known = microsoft::certificates(variable).len();
        assert_eq!(all.len(), known + 2, "{name}");
        let last = all.last().unwrap();
        assert_eq!(last.data, other.read(&format!("{name}.der")));
        assert_eq!(last.owner.to_string(), other.owner());
        // The certificate file stays one certificate.
        assert_eq!(all[0].data, set.read(&format!("{name}.der")));
    }
    let pk = SignatureDatabase::parse(&set.read("PK.esl")).unwrap();
    assert_eq!(pk.certificates().count(), 1);
}

#[test]
fn keys_are_encrypted_and_opened_with_a_passphrase() {
    let scratch = tempfile::tempdir().unwrap();
    let secret = scratch.path().join("secret");
    fs::write(&secret, "correct horse\n").unwrap();
    let secret = secret.to_str().unwrap();
    let old = Set::make(&["--passphrase-file", secret, "--extension-key=p384"]);
    for name in ["PK.key", "db.key", "extension.key", "tpm2-pcr-private.pem"] {
        let pem = text(&old.read(name));
        assert!(
            pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
            "{name}"
        );
        let mut command = Command::new("openssl");
        command.args(["pkey", "-noout", "-passin", "pass:correct horse", "-in"]);
        run(command.arg(old.file(name)));
    }
    let (key, pem) = (old.file("extension.key"), old.file("extension.pem"));
    let arguments = [
        "--db-key",
        key.to_str().unwrap(),
        "--db-cert",
        pem.to_str().unwrap(),
    ];
    let with = |passphrase: &str| {
        let folder = old.scratch("new");
        let mut command = genkey(&folder, &arguments);
        command.arg("x").env("SYSGRAFT_PASSPHRASE", passphrase);
        (command.output().unwrap(), folder)
    };
    let (output, folder) = with("wrong");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not open private key"));
    assert!(!folder.exists());
    let (output, folder) = with("correct horse");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        fs::read(folder.join("db.pem")).unwrap(),
        old.read("extension.pem")
    );
    // Nothing that was said has a secret in it.
    for output in [&output.stdout, &output.stderr] {
        assert!(!text(output).contains("correct horse") && !text(output).contains("PRIVATE"));
    }
}

#[test]
fn private_keys_are_replaced_by_force_only() {
    let set = Set::make(&["--extension-key"]);
    fs::write(set.file("notes"), "mine").unwrap();
    let before = contents(&set.folder());
    let output = genkey(&set.folder(), &["fleet"]).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in ["PK.key", "extension.key", "--force"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(
        !error.contains("Generating"),
        "known before keys are made: {error}"
    );
    assert_eq!(contents(&set.folder()), before);

    let output = genkey(&set.folder(), &["--force", "fleet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let after = contents(&set.folder());
    assert_eq!(after.len(), before.len());
    for ((name, new), (_, old)) in after.iter().zip(&before) {
        let kept = name == "notes" || name.starts_with("extension");
        assert_eq!(new == old, kept, "{name}");
    }
}

#[test]
fn of_two_at_once_one_set_stands_complete() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("keys");
    let start = || {
        genkey(&folder, &["x"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let runs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let succeeded = runs.iter().filter(|output| output.status.success()).count();
    assert_eq!(succeeded, 1, "{runs:?}");
    assert_eq!(names(&folder), FILES);
    assert_eq!(names(scratch.path()), ["keys"]);
    let key = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(folder.join("db.key"))
        .output();
    let pem = Command::new("openssl")
        .args(["x509", "-noout", "-pubkey", "-in"])
        .arg(folder.join("db.pem"))
        .output();
    assert_eq!(key.unwrap().stdout, pem.unwrap().stdout);
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    for existing in [false, true] {
        let folder = scratch.path().join("keys");
        if existing {
            fs::create_dir(&folder).unwrap();
        }
        let mut child = genkey(&folder, &["--key-type", "rsa4096", "x"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let said: Vec<String> = stderr.lines().take(2).map(|line| line.unwrap()).collect();
        assert!(said[1].contains("PK"), "{said:?}");
        let pid = child.id().to_string();
        run(Command::new("kill").args(["-TERM", &pid]));
        assert_eq!(child.wait().unwrap().code(), Some(143));
        let left = if existing {
            names(&folder)
        } else {
            names(scratch.path())
        };
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn what_may_surprise_is_said_aloud() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("keys");
    let arguments = ["--key-type", "p256", WITHOUT_MICROSOFT, "x"];
    let output = genkey(&folder, &arguments).output().unwrap();
    let stderr = text(&output.stderr);
    for words in ["little firmware verifies p256", "option ROMs"] {
        assert!(stderr.contains(words), "{stderr}");
    }
    let stderr = genkey(&folder, &["--force", "x"]).output().unwrap().stderr;
    assert!(!text(&stderr).contains("warning"), "{}", text(&stderr));
}
