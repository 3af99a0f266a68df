//! Manual pages and shell completions of the agent, for packages. They are made by a program that was
//! built with the feature `documents`; the one for nodes has no room for what makes them.

use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use sysgraft::terminal::documents;

use crate::Arguments;

/// Shells that packages serve.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The folder, in `sysgraft-agent documents FOLDER`. Beside clap: what is written must not tell of this command,
/// which no node has.
#[cfg(feature = "documents")]
pub fn wanted_in(mut words: std::env::ArgsOs) -> Option<std::path::PathBuf> {
    (words.nth(1)? == "documents").then(|| words.next().map(Into::into))?
}

/// Writes everything into an existing folder.
pub fn write(folder: &Path) -> Result<()> {
    let command = Arguments::command();
    documents::write_manual(&command, folder)?;
    documents::write_completions(&command, &SHELLS, folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("sysgraft-agent-sysext-install.1");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        for name in [
            "sysgraft-agent.1",
            "sysgraft-agent-confext.1",
            "sysgraft-agent-confext-rollback.1",
            "sysgraft-agent-apply.1",
            "sysgraft-agent.bash",
            "_sysgraft-agent",
            "sysgraft-agent.fish",
        ] {
            assert!(read(name).len() > 500, "{name}");
        }
    }
}
