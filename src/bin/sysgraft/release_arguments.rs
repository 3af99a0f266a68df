//! What the release file of an extension says.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap::error::ErrorKind;
use sysgraft::architecture::Architecture;
use sysgraft::extension::ExtensionKind;
use sysgraft::extension_release::{ExtensionRelease, FreeField, Hosts, InvalidField, Label};
use sysgraft::image_file::ExtensionVersion;
use sysgraft::provenance::Provenance;
use sysgraft::release::{MAX_BYTES, ReleaseFile, Scope};
use sysgraft::terminal::text;
use sysgraft::unit_name::UnitName;

/// Arguments that say for which hosts an extension is, and what systemd does with it.
#[derive(Args)]
#[command(next_help_heading = "Release file")]
pub struct ReleaseArguments {
    /// Distribution that the extension is for (ID) [default: _any]
    #[arg(long, value_name = "ID")]
    id: Option<Label>,
    /// Version of the distribution (VERSION_ID); a host with another one does not merge the extension
    #[arg(long, value_name = "VERSION", requires = "id")]
    version_id: Option<Label>,
    /// Level of the distribution (SYSEXT_LEVEL, CONFEXT_LEVEL), which counts before its version
    #[arg(long, value_name = "LEVEL", requires = "id")]
    level: Option<Label>,
    /// Take distribution, version and level from this os-release, that of the host to match
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "version_id", "level"])]
    from_os_release: Option<PathBuf>,
    /// Where the extension is merged: system, initrd, portable (SYSEXT_SCOPE, CONFEXT_SCOPE)
    /// [default: system,portable]
    #[arg(long, value_name = "SCOPE,…", value_delimiter = ',')]
    scope: Vec<Scope>,
    /// Make systemd read its units anew after a merge (EXTENSION_RELOAD_MANAGER=1)
    #[arg(long, visible_aliases = ["service-reload", "service-load"])]
    reload_manager: bool,
    /// Unit that systemd 262 or newer restarts after a merge, and stops when it is gone; can be given
    /// several times, and means --reload-manager too
    #[arg(long, value_name = "UNIT")]
    restart_unit: Vec<UnitName>,
    /// The same, but a unit that can reload is reloaded
    #[arg(long, value_name = "UNIT")]
    reload_or_restart_unit: Vec<UnitName>,
    /// Version of the extension: the file becomes NAME_V.sysext.raw, and the release file says it
    /// (SYSEXT_VERSION_ID and SYSEXT_IMAGE_VERSION, or CONFEXT_…)
    #[arg(long, value_name = "V")]
    extension_version: Option<ExtensionVersion>,
    /// Further field of the release file; can be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<FreeField>,
    /// Do not say in the release file from which image and layers the extension is (SYSGRAFT_…)
    #[arg(long)]
    no_provenance: bool,
}

/// The release files of the extensions that one command makes.
pub struct ReleasePlan<'a> {
    arguments: &'a ReleaseArguments,
    kind: ExtensionKind,
    hosts: Hosts,
    /// The os-release to match, and where it lies.
    host: Option<(PathBuf, ReleaseFile)>,
}

impl ReleaseArguments {
    /// The version in the name of the file.
    pub fn version(&self) -> Option<&ExtensionVersion> {
        self.extension_version.as_ref()
    }

    /// Reads what has to be read, and warns of what may surprise.
    pub fn plan(&self, kind: ExtensionKind) -> Result<ReleasePlan<'_>> {
        let host = match &self.from_os_release {
            Some(path) => Some((path.clone(), read_os_release(path)?)),
            None => None,
        };
        let hosts = match &host {
            Some((path, host)) => {
                Hosts::like(host, kind).with_context(|| format!("cannot use {}", path.display()))?
            }
            None => self.named_hosts(),
        };
        warn_of_narrow(&hosts, kind);
        let plan = ReleasePlan {
            arguments: self,
            kind,
            hosts,
            host,
        };
        // What cannot be said is to be known before the image is looked for.
        if let Err(error) = plan.release(Architecture::X86_64, None) {
            match error.downcast_ref() {
                Some(wrong @ (InvalidField::Twice(_) | InvalidField::Repeated(_))) => {
                    crate::usage_error(ErrorKind::ValueValidation, wrong);
                }
                _ => return Err(error),
            }
        }
        Ok(plan)
    }

    fn named_hosts(&self) -> Hosts {
        let text = |label: &Option<Label>| label.as_ref().map(Label::to_string);
        match text(&self.id) {
            None => Hosts::Any,
            Some(id) if id == "_any" => {
                if self.version_id.is_some() || self.level.is_some() {
                    crate::usage_error(
                        ErrorKind::ArgumentConflict,
                        "with --id _any systemd does not look at versions and levels; name a \
                         distribution, or leave --version-id and --level out",
                    );
                }
                Hosts::Any
            }
            Some(id) => Hosts::Of {
                id,
                version_id: text(&self.version_id),
                level: text(&self.level),
            },
        }
    }
}

impl ReleasePlan<'_> {
    /// The release file of the extension for `architecture` with this provenance.
    pub fn release(
        &self,
        architecture: Architecture,
        provenance: Option<Provenance>,
    ) -> Result<ReleaseFile> {
        let arguments = self.arguments;
        let release = ExtensionRelease {
            kind: self.kind,
            architecture,
            hosts: self.hosts.clone(),
            scopes: distinct(&arguments.scope),
            reload_manager: arguments.reload_manager,
            restart_units: distinct(&arguments.restart_unit),
            reload_or_restart_units: distinct(&arguments.reload_or_restart_unit),
            version: arguments.extension_version.clone(),
            free: arguments.set.clone(),
            provenance: provenance.filter(|_| !arguments.no_provenance),
        };
        let file = release.file()?;
        if let Some((path, host)) = &self.host {
            release
                .check(host)
                .with_context(|| format!("cannot match {}", path.display()))?;
        }
        Ok(file)
    }
}

fn read_os_release(path: &PathBuf) -> Result<ReleaseFile> {
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| {
        let file = File::open(path)?;
        // One more, so that what is too long is seen to be.
        file.take(MAX_BYTES as u64 + 1).read_to_end(bytes)
    };
    read(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    ReleaseFile::parse(&bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// Each value once, where it stands first.
fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    distinct
}

/// Hosts that say more of themselves than is asked of them pass the extension over.
fn warn_of_narrow(hosts: &Hosts, kind: ExtensionKind) {
    let Hosts::Of {
        id,
        version_id: None,
        level,
    } = hosts
    else {
        return;
    };
    let level_key = format!("{}_LEVEL", kind.as_str().to_ascii_uppercase());
    let others = match level {
        None => "a VERSION_ID".to_owned(),
        Some(_) => format!("a VERSION_ID and no {level_key}"),
    };
    text::warning(&format!(
        "hosts of {id} whose os-release has {others} will not merge the extension; --version-id says for \
         which version it is"
    ));
}
