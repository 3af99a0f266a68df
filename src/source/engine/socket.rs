//! Why a socket may not be used, and what to do about it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::source::error::SourceError;

/// Permission of a file's group to write.
const GROUP_MAY_WRITE: u32 = 0o020;

/// That there is a socket at `path` of the engine at `engine`.
pub(super) fn check(path: &Path, engine: &str) -> Result<(), SourceError> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(SourceError::EngineUnreachable {
            engine: engine.to_owned(),
            cause: "there is no such socket".to_owned(),
        }),
        // The folder may not be looked into.
        Err(error) => Err(forbidden(path, engine, error.to_string())),
    }
}

/// The error for the socket at `path`, which may not be used.
pub(super) fn forbidden(path: &Path, engine: &str, cause: String) -> SourceError {
    SourceError::EngineForbidden {
        engine: engine.to_owned(),
        cause,
        advice: advice(path),
    }
}

/// Advice for somebody whom the system denies the socket at `path`.
fn advice(path: &Path) -> String {
    let advice = match fs::metadata(path) {
        Ok(socket) if socket.mode() & GROUP_MAY_WRITE != 0 && socket.gid() != 0 => {
            let group = name_of(socket.gid(), "/etc/group");
            format!(
                "members of the group {group} may use it: run `usermod -aG {group} USER` as root and \
                 log in again"
            )
        }
        Ok(socket) => {
            let owner = name_of(socket.uid(), "/etc/passwd");
            format!("only the user {owner} may use it: run sysgraft as {owner}")
        }
        Err(_) => "only its owner may use it: run sysgraft as that user, mostly root".to_owned(),
    };
    format!(
        "{advice}, or start an engine of your own (`systemctl --user start podman.socket`, or \
         rootless Docker)"
    )
}

/// The name with the number `id` in a file like `/etc/passwd`, else the number.
fn name_of(id: u32, file: &str) -> String {
    let names = fs::read_to_string(file).unwrap_or_default();
    names
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let number = fields.nth(1)?;
            (number.parse() == Ok(id)).then(|| name.to_owned())
        })
        .unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_come_from_the_systems_files() {
        assert_eq!(name_of(0, "/etc/passwd"), "root");
        assert_eq!(name_of(u32::MAX, "/etc/group"), u32::MAX.to_string());
        assert_eq!(name_of(7, "/does/not/exist"), "7");
    }

    #[test]
    fn a_socket_of_its_owner_alone_names_the_owner() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
        let owner = name_of(fs::metadata(file.path()).unwrap().uid(), "/etc/passwd");
        assert!(advice(file.path()).contains(&format!("only the user {owner} ")));
        assert!(advice(Path::new("/does/not/exist")).contains("its owner"));
    }
}
