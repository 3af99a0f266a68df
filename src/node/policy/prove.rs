//! Proving an image before it is let in.

use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZero;
use std::path::Path;
use std::thread;

use super::refusal::system_error;
use super::{Policy, Refusal};
use crate::digest::{Digest, Hasher};
use crate::erofs::FileSystem;
use crate::extension::{ExtensionKind, ExtensionName};
use crate::image::{Ddi, Role};
use crate::node::artefact::ArtefactName;
use crate::node::released_name::released_name;
use crate::node::store::{Moment, Proof};
use crate::node::version::Version;
use crate::printable::sentence;
use crate::release::ReleaseFile;
use crate::signature::trust::{Acceptance, TrustedCertificate};
use crate::verification::{
    Blocks, Check, Fault, FoundRelease, Outcome, Progress, Report, Request, Trust, Warning, verify,
};
use crate::verity::RootHash;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// More threads than can be fed.
const MAX_JOBS: NonZero<usize> = NonZero::new(16).unwrap();

/// What a user permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Images without a signature (`--allow-unsigned`).
    pub unsigned: bool,
    /// Anything that systemd could merge (`--insecure-skip-verify`).
    pub skip: bool,
}

/// An image that may be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The extension that its release file names.
    pub name: ExtensionName,
    /// Its version, by its release file, or else by its file name.
    pub version: Option<Version>,
    /// Whether it is the release file that says the version, which then is as well proved as the image.
    pub says_version: bool,
    /// Of the whole file.
    pub digest: Digest,
    /// Of its data, where there is a hash tree.
    pub root_hash: Option<RootHash>,
    /// What vouches for it.
    pub proof: Proof,
    /// `EXTENSION_RESTART_UNITS=`.
    pub restart_units: Vec<String>,
    /// `EXTENSION_RELOAD_OR_RESTART_UNITS=`.
    pub reload_or_restart_units: Vec<String>,
    /// What should be known, a sentence each.
    pub warnings: Vec<String>,
    /// Bytes of the file.
    pub size: u64,
}

/// An image that may be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The extension that its release file names.
    pub name: ExtensionName,
    /// Of its data, where there is a hash tree.
    pub root_hash: Option<RootHash>,
    /// What vouches for it.
    pub proof: Proof,
    /// What should be known, a sentence each.
    pub warnings: Vec<String>,
}

impl Policy {
    /// Whether somebody may let in what `allowed` says, whatever the image is.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`] where signatures are required.
    pub fn may_allow(&self, allowed: Allowed) -> Result<(), Refusal> {
        let refuse = |option, demand| Err(Refusal::NotAllowed { option, demand });
        match self.demand {
            Some(demand) if allowed.skip => refuse("--insecure-skip-verify", demand),
            Some(demand) if allowed.unsigned => refuse("--allow-unsigned", demand),
            _ => Ok(()),
        }
    }

    /// Proves the image at `path`, which is to have the name `file_name`: every block, the signature,
    /// the release file against this node, its file system against the kernel.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn prove(
        &self,
        path: &Path,
        file_name: &ArtefactName,
        kind: ExtensionKind,
        allowed: Allowed,
        progress: &dyn Progress,
    ) -> Result<Proved, Refusal> {
        let proving = Proving::new(self, path, file_name, kind, allowed)?;
        let size = proving.size()?;
        if allowed.skip {
            let digest = digest_of(path).map_err(|error| proving.unreadable(error))?;
            return Ok(proving.unproved(digest, size));
        }
        // Blocks and file are hashed at once: one waits for the disk, the other finds it cached.
        let (report, digest) = thread::scope(|scope| {
            let digest = scope.spawn(|| digest_of(path));
            let report = proving.verify(Blocks::All, progress);
            (report, digest.join())
        });
        let (found, proof) = proving.judge(&report)?;
        let name = proving.name(found)?;
        let digest = digest
            .unwrap_or_else(|_| Err(io::Error::other("hashing it failed")))
            .map_err(|error| proving.unreadable(error))?;
        let version = version_of(&found.release, kind);
        Ok(Proved {
            says_version: version.is_some(),
            version: version.or_else(|| file_name.version_of(&name)),
            name,
            digest,
            root_hash: report.root_hash,
            restart_units: words(&found.release, "EXTENSION_RESTART_UNITS"),
            reload_or_restart_units: words(&found.release, "EXTENSION_RELOAD_OR_RESTART_UNITS"),
            warnings: self.warnings(&report, &proof, file_name),
            proof,
            size,
        })
    }

    /// Proves an image as far as it takes for systemd to merge it: the signature wholly, of the blocks
    /// those that systemd looks at first. dm-verity compares the others when they are used.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn prove_quickly(
        &self,
        path: &Path,
        file_name: &ArtefactName,
        kind: ExtensionKind,
        allowed: Allowed,
    ) -> Result<Recognised, Refusal> {
        let proving = Proving::new(self, path, file_name, kind, allowed)?;
        proving.size()?;
        let report = proving.verify(Blocks::Needed, &Silent);
        let (found, proof) = proving.judge(&report)?;
        Ok(Recognised {
            name: proving.name(found)?,
            root_hash: report.root_hash,
            warnings: self.warnings(&report, &proof, file_name),
            proof,
        })
    }

    fn warnings(&self, report: &Report, proof: &Proof, file: &ArtefactName) -> Vec<String> {
        let mut warnings: Vec<String> = report
            .warnings
            .iter()
            .filter(|warning| !matches!(warning, Warning::NotForEveryone { .. }))
            .map(ToString::to_string)
            .collect();
        if matches!(proof, Proof::Unsigned { .. }) {
            warnings.push(format!("{file} is not signed, so nobody vouches for it"));
        }
        let anchor = self.acceptance(report).map(|it| &it.anchor);
        if let Some(anchor) = anchor.filter(|anchor| !self.is_found(anchor)) {
            warnings.push(format!(
                "systemd does not look for certificates in {}; copy it to /etc/verity.d as NAME.crt",
                anchor.origin.path.display()
            ));
        }
        warnings
    }

    /// Whether systemd or the kernel finds a certificate now, or will after the next boot.
    fn is_found(&self, trusted: &TrustedCertificate) -> bool {
        let of_firmware = trusted.origin.path.components();
        let of_firmware = of_firmware
            .into_iter()
            .any(|part| part.as_os_str() == "efivars");
        of_firmware || self.is_seen_by_systemd(&trusted.certificate.fingerprint())
    }

    /// Why the signature counts, by those who have to take it.
    fn acceptance<'a>(&self, report: &'a Report) -> Option<&'a Acceptance> {
        let verdict = report.verdict.as_ref()?;
        let mut verdicts = self.verifiers.iter().map(|verifier| verdict.of(*verifier));
        verdicts.find_map(|verdict| verdict.as_ref().ok())
    }
}

/// One image that is being proved.
struct Proving<'a> {
    policy: &'a Policy,
    path: &'a Path,
    file_name: &'a ArtefactName,
    kind: ExtensionKind,
    allowed: Allowed,
}

struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn verified(&self, _: u64) {}
}

impl<'a> Proving<'a> {
    fn new(
        policy: &'a Policy,
        path: &'a Path,
        file_name: &'a ArtefactName,
        kind: ExtensionKind,
        allowed: Allowed,
    ) -> Result<Proving<'a>, Refusal> {
        policy.may_allow(allowed)?;
        Ok(Proving {
            policy,
            path,
            file_name,
            kind,
            allowed,
        })
    }

    /// What messages call the image.
    fn file(&self) -> String {
        self.file_name.file().to_owned()
    }

    fn unreadable(&self, source: io::Error) -> Refusal {
        Refusal::Read {
            file: self.file(),
            source,
        }
    }

    /// Bytes of the file, which must be one.
    fn size(&self) -> Result<u64, Refusal> {
        let metadata = fs::metadata(self.path).map_err(|error| self.unreadable(error))?;
        if !metadata.is_file() {
            return Err(Refusal::NoFile {
                file: self.file(),
                kind: self.kind,
            });
        }
        Ok(metadata.len())
    }

    fn verify(&self, blocks: Blocks, progress: &dyn Progress) -> Report {
        let jobs = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let trust = Trust::Signed {
            store: &self.policy.trust,
            verifiers: self.policy.verifiers,
        };
        let request = Request {
            path: self.path,
            known_as: Some(&Path::new("/").join(self.file_name.file())),
            trust: if self.allowed.skip {
                Trust::Ignored
            } else {
                trust
            },
            host: Some(&self.policy.host),
            blocks,
            jobs: jobs.min(MAX_JOBS),
        };
        verify(&request, progress)
    }

    /// What the checks come to.
    fn judge<'r>(&self, report: &'r Report) -> Result<(&'r FoundRelease, Proof), Refusal> {
        let mut proof = None;
        for (check, outcome) in report.outcomes() {
            let fault = match outcome {
                Outcome::Failed(fault) => fault,
                _ => continue,
            };
            match (check, fault) {
                // An image without signature need not have a hash tree either.
                (Check::Blocks, Fault::NoHashTree) => {}
                (Check::Signature, Fault::Unsigned) => proof = Some(self.unsigned()?),
                _ => return Err(self.refusal(*check, fault, report)),
            }
        }
        let Some(found) = &report.release else {
            return Err(Refusal::NoImage {
                file: self.file(),
                kind: self.kind,
                problem: "its content could not be judged".to_owned(),
            });
        };
        self.fits(found, report)?;
        let accepted = self
            .policy
            .acceptance(report)
            .map(|acceptance| Proof::Signed {
                signer: acceptance.signer.subject(),
                fingerprint: acceptance.signer.fingerprint(),
                trusted_by: acceptance.anchor.origin.to_string(),
                verified: Moment::now(),
            });
        Ok((found, proof.or(accepted).unwrap_or(Proof::Skipped)))
    }

    fn unsigned(&self) -> Result<Proof, Refusal> {
        match self.policy.demand {
            Some(demand) => Err(Refusal::MustBeSigned {
                file: self.file(),
                demand,
            }),
            None if self.allowed.skip => Ok(Proof::Skipped),
            None if self.allowed.unsigned => Ok(Proof::Unsigned {
                verified: Moment::now(),
            }),
            None => Err(Refusal::Unsigned { file: self.file() }),
        }
    }

    /// What follows from a check that failed.
    fn refusal(&self, check: Check, fault: &Fault, report: &Report) -> Refusal {
        let (file, kind) = (self.file(), self.kind);
        // Who cannot read does not know whether it is damaged.
        if let Some(code) = system_error(fault) {
            return self.unreadable(io::Error::from_raw_os_error(code));
        }
        // The file may lie in a place and under a name that nobody knows.
        let path = self.path.display().to_string();
        let problem = sentence(fault).replace(&path, "it");
        match (check, fault) {
            (Check::PartitionTable, Fault::Copies(_)) => Refusal::Damaged {
                file,
                check,
                problem,
            },
            (Check::PartitionTable, _) => Refusal::NoImage {
                file,
                kind,
                problem,
            },
            (Check::Partitions, _) => Refusal::Partitions { file, problem },
            (Check::RootHash | Check::Blocks, _) => Refusal::Damaged {
                file,
                check,
                problem,
            },
            (Check::Signature, Fault::AwaitsSignature) => Refusal::AwaitsSignature { file },
            (Check::Signature, Fault::NotJudged) => Refusal::NobodyTrusted {
                file,
                signer: report
                    .claimed_signer
                    .as_ref()
                    .map(|signer| signer.subject()),
            },
            (Check::Signature, Fault::Distrusted(refusals)) if !refusals.is_empty() => {
                let (verifier, distrust) = refusals[0].clone();
                Refusal::Distrusted {
                    file,
                    verifier,
                    distrust,
                }
            }
            (Check::Signature, _) => Refusal::Signature { file, problem },
            (Check::Release, _) => Refusal::Release {
                file,
                kind,
                problem,
            },
            (Check::Host, Fault::Host(mismatch)) => Refusal::Host {
                file,
                systemd: self.policy.systemd,
                problem: mismatch.to_string(),
            },
            (Check::Host, _) => Refusal::Host {
                file,
                systemd: self.policy.systemd,
                problem,
            },
        }
    }

    /// What systemd does not look at: the kind, the architecture of the partitions, the kernel.
    fn fits(&self, found: &FoundRelease, report: &Report) -> Result<(), Refusal> {
        let file = self.file();
        if found.kind != self.kind {
            return Err(Refusal::OtherKind {
                file,
                found: found.kind,
            });
        }
        for warning in &report.warnings {
            if let Warning::ForeignPartitions { partitions, host } = *warning {
                return Err(Refusal::Architecture {
                    file,
                    found: partitions,
                    host,
                });
            }
        }
        let data = Ddi::open(self.path).and_then(|ddi| ddi.open_partition(Role::Data));
        let file_system = data.ok().flatten().map(FileSystem::open);
        let Some(Ok(file_system)) = file_system else {
            return Ok(());
        };
        match self.policy.kernel.obstacle(file_system.superblock()) {
            Some(source) => Err(Refusal::Kernel { file, source }),
            None => Ok(()),
        }
    }

    fn name(&self, found: &FoundRelease) -> Result<ExtensionName, Refusal> {
        found.name.parse().map_err(|source| Refusal::Name {
            file: self.file(),
            source,
        })
    }

    /// What is said of an image that nobody wanted to have proved: its release file still names it,
    /// as far as that can be read.
    fn unproved(&self, digest: Digest, size: u64) -> Proved {
        let mut report = self.verify(Blocks::Needed, &Silent);
        let found = report.release.take();
        let release = found.as_ref().map(|found| &found.release);
        let named = found.as_ref().and_then(|found| found.name.parse().ok());
        // What has no partitions may be merged all the same.
        let named = named.or_else(|| released_name(self.path, self.file_name));
        let name = named.unwrap_or_else(|| self.file_name.stem().clone());
        let units = |key| release.map_or_else(Vec::new, |release| words(release, key));
        let mut warnings = vec![format!(
            "{} was not verified (--insecure-skip-verify): nothing shows whether it is intact, or by whom it is",
            self.file()
        )];
        for (check, outcome) in report.outcomes() {
            if let Outcome::Failed(fault) = outcome {
                warnings.push(format!("{check}: {}", sentence(fault)));
            }
        }
        let version = release.and_then(|release| version_of(release, self.kind));
        Proved {
            says_version: version.is_some(),
            version: version.or_else(|| self.file_name.version_of(&name)),
            name,
            digest,
            root_hash: report.root_hash,
            proof: Proof::Skipped,
            restart_units: units("EXTENSION_RESTART_UNITS"),
            reload_or_restart_units: units("EXTENSION_RELOAD_OR_RESTART_UNITS"),
            warnings,
            size,
        }
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finish()),
            bytes => hasher.update(&chunk[..bytes]),
        }
    }
}

fn version_of(release: &ReleaseFile, kind: ExtensionKind) -> Option<Version> {
    let key = match kind {
        ExtensionKind::Sysext => "SYSEXT_VERSION_ID",
        ExtensionKind::Confext => "CONFEXT_VERSION_ID",
    };
    let released = release.get(key).filter(|version| !version.is_empty());
    released.map(Version::from)
}

/// A field of the release file that lists units.
fn words(release: &ReleaseFile, key: &str) -> Vec<String> {
    let value = release.get(key).unwrap_or_default();
    value.split_ascii_whitespace().map(str::to_owned).collect()
}
