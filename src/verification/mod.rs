//! Proving a finished image: that nothing in it is damaged, that somebody who is trusted vouches for
//! it, and that systemd would find it to be the extension that its name says.
//!
//! What can be checked although something else has failed is checked; a [`Report`] has the outcome
//! of every [`Check`].

mod release;
mod report;

use std::num::NonZero;
use std::path::Path;

pub use release::{FoundRelease, ReleaseFault, find_release, read_release};
pub(crate) use release::{ImageName, is_for_any_name};
pub use report::{Check, Fault, Outcome, Report, Warning};

use crate::architecture::Architecture;
use crate::erofs::FileSystem;
use crate::image::{Copies, Ddi, DdiError, Designator, Role};
use crate::read_at::{FileWindow, ReadAt};
use crate::release::{ReleaseFile, Scope};
use crate::signature::signer_of;
use crate::signature::trust::{TrustStore, Verifier};
use crate::verity::{BLOCK_SIZE, RootHash, VerifiedData, verify_with};

/// What is to be proved.
pub struct Request<'a> {
    /// The image.
    pub path: &'a Path,
    /// The path under which systemd will find it, if that is another one. Its name counts, and that
    /// of a folder `NAME.raw.v` around it.
    pub known_as: Option<&'a Path>,
    /// Whose signatures count.
    pub trust: Trust<'a>,
    /// The host that the extension is for, if it is to be checked against one.
    pub host: Option<&'a Host>,
    /// Which blocks are compared with the hash tree.
    pub blocks: Blocks,
    /// How many threads hash.
    pub jobs: NonZero<usize>,
}

/// Which blocks of an image are compared with its hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Every one.
    All,
    /// Those that are read to judge the image. dm-verity compares the others when they are used.
    Needed,
}

/// Whose signatures count, and for whom.
#[derive(Clone, Copy)]
pub enum Trust<'a> {
    /// The signature must be by somebody in the store.
    Signed {
        /// Who is trusted. With nobody in it no image is proved.
        store: &'a TrustStore,
        /// Who has to take the signature.
        verifiers: &'a [Verifier],
    },
    /// Nobody wants to know.
    Ignored,
}

/// A host, as far as extensions are matched with it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its os-release.
    pub release: ReleaseFile,
    /// What it runs on.
    pub architecture: Architecture,
}

/// How many blocks at the start and at the end of a partition libblkid looks at.
const PROBED_AT_START: u64 = 512;
const PROBED_AT_END: u64 = 256;

/// Is told how hashing goes on.
pub trait Progress: Sync {
    /// So many bytes of data will be read.
    fn begin(&self, bytes: u64);
    /// So many more of them are intact.
    fn verified(&self, bytes: u64);
}

/// Checks one image in every respect.
pub fn verify(request: &Request<'_>, progress: &dyn Progress) -> Report {
    let mut report = Report::new(request);
    match Ddi::examine(request.path) {
        Ok((ddi, faults)) => Verification {
            request,
            ddi: &ddi,
            report: &mut report,
        }
        .run(faults, progress),
        Err(fault) => report.fail(Check::PartitionTable, fault),
    }
    report
}

struct Verification<'a> {
    request: &'a Request<'a>,
    ddi: &'a Ddi,
    report: &'a mut Report,
}

impl Verification<'_> {
    fn run(mut self, faults: Vec<DdiError>, progress: &dyn Progress) {
        self.report.size = Some(self.ddi.size);
        match self.ddi.copies {
            Copies::Both => self.report.pass(Check::PartitionTable),
            copies => self
                .report
                .fail(Check::PartitionTable, Fault::Copies(copies)),
        }
        self.report.pass(Check::Partitions);
        for fault in faults {
            match fault {
                DdiError::Verity { .. } => self.report.fail(Check::Blocks, fault),
                DdiError::Signature { .. } => self.report.fail(Check::Signature, fault),
                DdiError::RootHashes { .. } => self.report.fail(Check::RootHash, fault),
                // Which partitions the others would be about is not known.
                fault => return self.report.fail(Check::Partitions, fault),
            }
        }
        self.refuse_usr();
        // systemd goes by the signature partition, where there is one.
        let signed = self.ddi.signature.as_ref();
        let root_hash = signed
            .map(|signature| signature.root_hash)
            .or_else(|| self.ddi.root_hash());
        self.report.root_hash = root_hash;
        if root_hash.is_some() {
            self.report.pass(Check::RootHash);
        }
        self.check_signature(root_hash);
        self.check_blocks(root_hash, progress);
        self.check_release(root_hash);
    }

    fn refuse_usr(&mut self) {
        let data = self.ddi.partition(Role::Data).and_then(|data| data.kind);
        if data.is_some_and(|kind| kind.designator == Designator::Usr) {
            self.report.fail(Check::Partitions, Fault::UsrPartition);
        }
    }

    fn check_blocks(&mut self, root_hash: Option<RootHash>, progress: &dyn Progress) {
        if self.report.is_decided(Check::Blocks) {
            return;
        }
        let (Some(superblock), Some(root_hash)) = (&self.ddi.verity, root_hash) else {
            return self.report.fail(Check::Blocks, Fault::NoHashTree);
        };
        let bytes = superblock.geometry.data_size();
        self.report.data_bytes = Some(bytes);
        let intact = match self.request.blocks {
            Blocks::All => {
                progress.begin(bytes);
                self.hash_all(&root_hash, progress)
            }
            Blocks::Needed => self.hash_needed(root_hash),
        };
        match intact {
            Ok(()) => self.report.pass(Check::Blocks),
            Err(fault) => self.report.fail(Check::Blocks, fault),
        }
    }

    fn open(&self, role: Role) -> Result<FileWindow, Fault> {
        let partition = self.ddi.open_partition(role)?;
        partition.ok_or(Fault::NoHashTree)
    }

    /// The blocks that systemd has probed for the type of the file system (libblkid's superblocks):
    /// it merges nothing at all if one of them cannot be read.
    fn hash_needed(&self, root_hash: RootHash) -> Result<(), Fault> {
        let data = self.open_verified(root_hash)?;
        let blocks = data.size() / BLOCK_SIZE as u64;
        let last = blocks.saturating_sub(PROBED_AT_END)..blocks;
        for block in (0..blocks.min(PROBED_AT_START)).chain(last) {
            data.block(block)?;
        }
        Ok(())
    }

    fn open_verified(
        &self,
        root_hash: RootHash,
    ) -> Result<VerifiedData<FileWindow, FileWindow>, Fault> {
        let (data, hash) = (self.open(Role::Data)?, self.open(Role::Hash)?);
        Ok(VerifiedData::new(data, hash, root_hash)?)
    }

    fn hash_all(&self, root_hash: &RootHash, progress: &dyn Progress) -> Result<(), Fault> {
        let (data, hash) = (self.open(Role::Data)?, self.open(Role::Hash)?);
        let verified = |bytes| progress.verified(bytes);
        verify_with(&data, &hash, Some(root_hash), self.request.jobs, &verified)?;
        Ok(())
    }

    fn check_signature(&mut self, root_hash: Option<RootHash>) {
        let Some((signature, root_hash)) = self.ddi.signature.as_ref().zip(root_hash) else {
            return self.note_missing_signature();
        };
        let own = signer_of(&signature.pkcs7, &root_hash, &[]);
        self.report.claimed_signer = own.ok().map(|by| by.certificate);
        let Trust::Signed { store, verifiers } = self.request.trust else {
            return;
        };
        if store.certificates().is_empty() {
            return self.report.fail(Check::Signature, Fault::NotJudged);
        }
        let verdict = store.judge(signature, &root_hash);
        let refused = |verifier: &Verifier| {
            let distrust = verdict.of(*verifier).as_ref().err()?;
            Some((*verifier, distrust.clone()))
        };
        let refusals: Vec<_> = verifiers.iter().filter_map(refused).collect();
        if refusals.is_empty() {
            self.report.pass(Check::Signature);
        } else {
            self.report
                .fail(Check::Signature, Fault::Distrusted(refusals));
        }
        for verifier in [Verifier::Systemd, Verifier::Kernel] {
            if let Some((verifier, distrust)) = refused(&verifier)
                && !verifiers.contains(&verifier)
            {
                let warning = Warning::NotForEveryone { verifier, distrust };
                self.report.warnings.push(warning);
            }
        }
        let warnings = &mut self.report.warnings;
        warnings.extend(verdict.date_warning().map(Warning::Date));
        if let (Some(named), Some(signer)) = (signature.certificate_fingerprint, verdict.signer())
            && signer.fingerprint() != named
        {
            warnings.push(Warning::Fingerprint { named });
        }
        self.report.verdict = Some(verdict);
    }

    fn note_missing_signature(&mut self) {
        // systemd refuses an empty partition, whoever is trusted.
        if self.ddi.awaits_signature() && !self.report.has_failed(Check::Signature) {
            self.report.fail(Check::Signature, Fault::AwaitsSignature);
        } else if !self.report.is_decided(Check::Signature) {
            self.report.fail(Check::Signature, Fault::Unsigned);
        }
    }

    fn check_release(&mut self, root_hash: Option<RootHash>) {
        let found = match self.find_release(root_hash) {
            Ok(found) => found,
            Err(fault) => return self.report.fail(Check::Release, fault),
        };
        self.report.pass(Check::Release);
        if let Some(host) = self.request.host {
            let matched =
                found
                    .release
                    .matches(&host.release, found.kind, Scope::System, host.architecture);
            match matched {
                Ok(()) => self.report.pass(Check::Host),
                Err(mismatch) => self.report.fail(Check::Host, Fault::Host(mismatch)),
            }
            let kind = self.ddi.partition(Role::Data).and_then(|data| data.kind);
            if let Some(kind) = kind.filter(|kind| kind.architecture != host.architecture) {
                self.report.warnings.push(Warning::ForeignPartitions {
                    partitions: kind.architecture,
                    host: host.architecture,
                });
            }
        }
        self.report.release = Some(found);
    }

    fn find_release(&self, root_hash: Option<RootHash>) -> Result<FoundRelease, Fault> {
        match root_hash.filter(|_| self.ddi.verity.is_some()) {
            Some(root_hash) if self.request.blocks == Blocks::Needed => {
                self.find_release_in(self.open_verified(root_hash)?)
            }
            _ => self.find_release_in(self.open_hashed()?),
        }
    }

    /// The data as far as there is a hash tree over it: nothing protects what lies behind.
    fn open_hashed(&self) -> Result<FileWindow, Fault> {
        let data = self.ddi.open_partition(Role::Data)?;
        let data = data.ok_or_else(|| DdiError::NoData(self.request.path.to_path_buf()))?;
        Ok(match &self.ddi.verity {
            Some(verity) => data.cut(verity.geometry.data_size()),
            None => data,
        })
    }

    fn find_release_in(&self, data: impl ReadAt) -> Result<FoundRelease, Fault> {
        let partition = self.ddi.partition(Role::Data).and_then(|data| data.kind);
        let kind = partition.ok_or_else(|| DdiError::NoData(self.request.path.to_path_buf()))?;
        let file_system = FileSystem::open(data).map_err(ReleaseFault::from)?;
        let path = self.request.known_as.unwrap_or(self.request.path);
        Ok(find_release(&file_system, kind.designator, path)?)
    }
}
