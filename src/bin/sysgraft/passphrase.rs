//! Where passphrases of keys and PINs of tokens come from.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sysgraft::signature::Passphrase;

/// Holds the passphrase where no file does.
const VARIABLE: &str = "SYSGRAFT_PASSPHRASE";
/// OpenSSL takes no longer ones when it opens a key, and cuts them off silently.
const MAX_BYTES: usize = 1000;

/// The first line of `file`, else the variable's value, if there is one.
pub fn read(file: Option<&Path>) -> Result<Option<Passphrase>> {
    let (text, origin) = match (file, std::env::var_os(VARIABLE)) {
        (Some(path), _) => (first_line(path)?, path.display().to_string()),
        (None, Some(value)) => {
            let text = value.into_string().ok();
            let text = text.with_context(|| format!("the value of {VARIABLE} is not UTF-8"))?;
            (text, VARIABLE.to_owned())
        }
        (None, None) => return Ok(None),
    };
    ensure!(
        !text.is_empty(),
        "the passphrase in {origin} is empty; leave it out if the keys have none"
    );
    ensure!(
        text.len() <= MAX_BYTES,
        "the passphrase in {origin} has more than {MAX_BYTES} bytes, which OpenSSL does not take"
    );
    Ok(Some(Passphrase::new(&text)))
}

fn first_line(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut content = String::new();
        let limit = MAX_BYTES as u64 + 2;
        File::open(path)?.take(limit).read_to_string(&mut content)?;
        Ok(content.lines().next().unwrap_or_default().to_owned())
    };
    read().with_context(|| format!("cannot read the passphrase from {}", path.display()))
}
