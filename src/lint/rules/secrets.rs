//! What must not get into an image that others can read.

use crate::layer::Entry;
use crate::lint::extension::name_of;
use crate::lint::{Code, Findings};

/// Ends of paths under which programs keep logins and tokens.
const CREDENTIALS: [&str; 17] = [
    ".netrc",
    ".git-credentials",
    ".dockercfg",
    ".docker/config.json",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".aws/credentials",
    ".azure/accessTokens.json",
    ".config/gcloud/credentials.db",
    ".config/gcloud/application_default_credentials.json",
    ".config/gh/hosts.yml",
    ".kube/config",
    "etc/kubernetes/admin.conf",
    "etc/rancher/k3s/k3s.yaml",
    "containers/auth.json",
    "krb5.keytab",
];
/// Files that hold a login if they have one of these words.
const LOGIN_FILES: [&[u8]; 2] = [b".npmrc", b".pypirc"];
const LOGIN_WORDS: [&[u8]; 3] = [b"_authToken", b"_auth", b"password"];
/// Larger files hold no keys alone.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
/// Where keys may be expected: ends of names, words in names, folders.
const KEY_SUFFIXES: [&str; 14] = [
    "pem", "key", "p8", "pk8", "ppk", "priv", "private", "crt", "cer", "cert", "conf", "env",
    "yaml", "yml",
];
const KEY_WORDS: [&str; 6] = ["id_", "key", "secret", "token", "private", "credential"];
const KEY_FOLDERS: [&str; 6] = ["/ssl/", "/certs/", "/keys/", "/private/", "/pki/", "/.ssh/"];
/// Around the name of a kind of key (RFC 7468, and OpenSSH's).
const BEGIN: &[u8] = b"-----BEGIN ";
const END_OF_KEY: &[u8] = b"PRIVATE KEY-----";
/// The longest name of a kind of key is `OPENSSH `, that of an encrypted one `ENCRYPTED `.
const MAX_KIND_BYTES: usize = 24;

pub(super) fn check_name(entry: &Entry, findings: &mut Findings) {
    let path = entry.path.as_bytes();
    let ends_so = |end: &&&str| {
        path.strip_suffix(end.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/"))
    };
    if CREDENTIALS.iter().any(|end| ends_so(&end)) {
        findings.add(
            Code::CredentialFile,
            &entry.path,
            "is where programs keep logins",
        );
    }
}

/// Whether a file may hold a key or login, by its size and by what it or its folder is called. To read
/// all small files of an image would take longer than to build it.
pub(super) fn may_hold_secret(entry: &Entry, size: u64) -> bool {
    let name = name_of(&entry.path);
    if size > MAX_KEY_FILE_BYTES {
        return false;
    }
    let suffix = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let has =
        |text: &[u8], word: &&str| text.windows(word.len()).any(|part| part == word.as_bytes());
    KEY_SUFFIXES.iter().any(|known| known.as_bytes() == suffix)
        || KEY_WORDS.iter().any(|word| has(name, word))
        || KEY_FOLDERS
            .iter()
            .any(|folder| has(entry.path.as_bytes(), folder))
        || entry.path.as_bytes().starts_with(b"etc/")
        || LOGIN_FILES.contains(&name)
}

pub(super) fn check_content(entry: &Entry, start: &[u8], findings: &mut Findings) {
    if has_private_key(start) {
        findings.add(Code::PrivateKey, &entry.path, "holds a private key");
    }
    let has = |word: &&[u8]| start.windows(word.len()).any(|part| part == *word);
    if LOGIN_FILES.contains(&name_of(&entry.path)) && LOGIN_WORDS.iter().any(has) {
        findings.add(Code::CredentialFile, &entry.path, "holds a login");
    }
}

/// Only at the start of a line: programs that read keys have the words as well.
fn has_private_key(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'\n').any(|line| {
        line.strip_prefix(BEGIN).is_some_and(|kind| {
            let kind = &kind[..kind.len().min(MAX_KIND_BYTES + END_OF_KEY.len())];
            kind.windows(END_OF_KEY.len())
                .any(|part| part == END_OF_KEY)
        })
    })
}
