//! Finding mkfs.erofs, and what it is called with.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::options::{Features, check_extents};
use super::process::end_with_this_process;
use super::{MkfsError, Version};
use crate::erofs::{BLOCK_SIZE, Compression, Options};
use crate::printable::printable;
use crate::timestamp::Timestamp;

/// More is not read of what a program says of its version.
const MAX_VERSION_BYTES: u64 = 4096;
/// As many characters are shown of what is no version.
const SHOWN_CHARS: usize = 60;

/// An mkfs.erofs that can be trusted, with the options that its user wants.
#[derive(Clone, Debug)]
pub struct MkfsProgram {
    path: PathBuf,
    version: Version,
    options: Vec<String>,
    features: Features,
}

impl MkfsProgram {
    /// Finds the program at `path`, or, if that has no slash, on `PATH`, and asks it for its version.
    /// `options` are passed on to it behind all others, each with its value in one word.
    ///
    /// # Errors
    /// [`MkfsError::Start`] if there is none, [`MkfsError::NoVersion`], [`MkfsError::Version`],
    /// [`MkfsError::Option`].
    pub fn find(path: &Path, options: Vec<String>) -> Result<MkfsProgram, MkfsError> {
        let features = Features::of(&options)?;
        let said = ask_version(path).map_err(|source| MkfsError::Start {
            program: path.to_path_buf(),
            source,
        })?;
        let version = Version::parse(&said).ok_or_else(|| MkfsError::NoVersion {
            program: path.to_path_buf(),
            said: said.lines().next().unwrap_or_default().to_owned(),
        })?;
        if let Some(defect) = version.defect() {
            return Err(MkfsError::Version {
                program: path.to_path_buf(),
                version,
                defect,
            });
        }
        features.check(version)?;
        Ok(MkfsProgram {
            path: path.to_path_buf(),
            version,
            options,
            features,
        })
    }

    /// What is run.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it said it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All arguments but the file to write.
    ///
    /// # Errors
    /// [`MkfsError::Option`] if this version gets them wrong together.
    pub(super) fn arguments(
        &self,
        options: &Options,
        build_time: Timestamp,
    ) -> Result<Vec<String>, MkfsError> {
        let mut arguments = vec![
            "--tar=f".to_owned(),
            "--quiet".to_owned(),
            // The block size would be the size of a page of this machine.
            format!("-b{BLOCK_SIZE}"),
            format!("-U{}", options.uuid),
            // Files keep their own times.
            format!("-T{}", build_time.seconds),
            "--mkfs-time".to_owned(),
        ];
        arguments.extend(match options.compression {
            Compression::None => None,
            Compression::Lz4 => Some("-zlz4".to_owned()),
            Compression::Lz4Hc(level) => Some(format!("-zlz4hc,{level}")),
            Compression::Zstd(level) => Some(format!("-zzstd,{level}")),
        });
        arguments.push(format!("-C{}", options.chunk_size.bytes()));
        arguments.extend(self.features.tail_packing(options.tail_packing));
        arguments.extend(Features::precaution(self.version));
        arguments.extend(self.options.iter().cloned());
        check_extents(self.version, &arguments)?;
        Ok(arguments)
    }

    /// Passes if this version gets the options right in an image of `size` bytes.
    pub(super) fn check_size(&self, size: u64) -> Result<(), MkfsError> {
        self.features.check_size(self.version, size)
    }
}

/// The start of what a program prints for `--version`, made printable line by line.
fn ask_version(path: &Path) -> std::io::Result<String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = end_with_this_process(&mut command).spawn()?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_VERSION_BYTES).read_to_end(&mut said)?;
    }
    // Only what it said counts: versions before 1.7 do not know the option. It may have more to say.
    let _ = child.kill();
    child.wait()?;
    let lines = said.split(|&byte| byte == b'\n');
    let lines: Vec<String> = lines
        .map(|line| printable(line).chars().take(SHOWN_CHARS).collect())
        .collect();
    Ok(lines.join("\n"))
}
