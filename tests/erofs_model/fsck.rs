//! fsck.erofs as a judge.

use std::io::{ErrorKind, Write};
use std::process::Command;

/// What fsck.erofs finds wrong, file content included; `None` if there is no such program.
pub fn fsck(image: &[u8]) -> Option<Result<(), String>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(image).unwrap();
    let output = Command::new("fsck.erofs")
        .arg("--extract")
        .arg(file.path())
        .output();
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("fsck.erofs: {error}"),
        Ok(output) if output.status.success() => Some(Ok(())),
        Ok(output) => Some(Err(format!("{output:?}"))),
    }
}
