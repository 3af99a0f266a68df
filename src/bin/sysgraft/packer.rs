//! Who makes the file system: `--packer` and `--mkfs-option`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::build::Packer;
use sysgraft::erofs::mkfs::MkfsProgram;
use sysgraft::terminal::text::log;

/// What is run where no path is given; `PATH` tells where it lies.
const MKFS_EROFS: &str = "mkfs.erofs";

/// Arguments that choose who makes the file system.
#[derive(Args)]
pub struct PackerArguments {
    /// Who makes the file system: native, or mkfs.erofs[=PATH] for what it alone can do (erofs-utils
    /// 1.8.6 or newer; takes the room of the content on disk twice). --compression then becomes its
    /// -z, --chunk-size its -C, --tail-packing its -Eztailpacking or -Efragments; --jobs does not reach
    /// it
    #[arg(long, value_name = "PACKER", default_value = "native")]
    packer: Choice,
    /// Option for mkfs.erofs, its value in the same word, as in -Efragments or -zlzma,level=9; can be
    /// given several times, and overrules what other arguments mean for mkfs.erofs
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        requires = "packer"
    )]
    mkfs_option: Vec<String>,
}

#[derive(Clone, Debug)]
enum Choice {
    Native,
    MkfsErofs(PathBuf),
}

impl FromStr for Choice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Choice, &'static str> {
        let path = match (text, text.split_once('=')) {
            ("native", _) => return Ok(Choice::Native),
            (MKFS_EROFS, _) => MKFS_EROFS,
            (_, Some((MKFS_EROFS, path))) if !path.is_empty() => path,
            _ => return Err("there are native, mkfs.erofs and mkfs.erofs=PATH"),
        };
        Ok(Choice::MkfsErofs(path.into()))
    }
}

impl PackerArguments {
    /// The packer, if it can be used.
    pub fn find(&self) -> Result<Packer> {
        match &self.packer {
            Choice::Native if self.mkfs_option.is_empty() => Ok(Packer::Native),
            Choice::Native => crate::usage_error(
                ErrorKind::ArgumentConflict,
                "--mkfs-option goes with --packer mkfs.erofs only",
            ),
            Choice::MkfsErofs(path) => {
                let program = MkfsProgram::find(path, self.mkfs_option.clone())?;
                let (path, version) = (path.display(), program.version());
                log(&format!("   will be packed by {path}, version {version}"));
                Ok(Packer::MkfsErofs(program))
            }
        }
    }
}
