//! What became of every check.

use std::fmt;
use std::path::PathBuf;

use super::{FoundRelease, ReleaseFault, Request, Trust};
use crate::architecture::Architecture;
use crate::digest::Digest;
use crate::image::{Copies, DdiError};
use crate::release::Mismatch;
use crate::signature::Certificate;
use crate::signature::trust::{DateWarning, Distrust, Verdict, Verifier};
use crate::verity::{Damage, RootHash};

/// One thing that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Both copies of the partition table are intact and equal.
    PartitionTable,
    /// There is one data partition, and hash and signature partition belong to it.
    Partitions,
    /// Partition UUIDs and signature partition name one root hash.
    RootHash,
    /// Every block of data and hash tree is what the root hash stands for.
    Blocks,
    /// A trusted certificate's key signed the root hash.
    Signature,
    /// The release file is the one that the image's name demands.
    Release,
    /// The release file matches the host.
    Host,
}

/// What became of a check.
#[derive(Debug)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed(Fault),
    /// Nobody wanted to know.
    NotAsked,
    /// Another one failed, without which this one has no meaning.
    Impossible,
}

/// Why a check does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The image contradicts itself or cannot be read.
    #[error(transparent)]
    Image(#[from] DdiError),
    /// One copy of the partition table is all there is.
    #[error("{}", match .0 {
        Copies::PrimaryOnly => "the copy at the end is missing, damaged or different",
        Copies::BackupOnly => "the copy at the start is missing or damaged",
        Copies::Both => "both copies are intact",
    })]
    Copies(Copies),
    /// Nothing protects the data.
    #[error("the image has no hash tree, so nothing shows whether its data is intact")]
    NoHashTree,
    /// Data or hash tree are damaged.
    #[error(transparent)]
    Blocks(#[from] Damage),
    /// Nobody vouches for the image.
    #[error("the image is not signed")]
    Unsigned,
    /// It was built to be signed later.
    #[error(
        "the image awaits its signature, and systemd refuses it until then; see `sysgraft sign`"
    )]
    AwaitsSignature,
    /// systemd activates verity for `root` alone.
    #[error(
        "its data is a usr partition, which systemd up to 257 merges without looking at hash tree and signature; build it anew with a root partition"
    )]
    UsrPartition,
    /// Nobody is trusted.
    #[error("it was not judged, because no trusted certificate is given")]
    NotJudged,
    /// Whoever has to take the signature does not.
    #[error("{}", sentence(.0))]
    Distrusted(Vec<(Verifier, Distrust)>),
    /// Name and release file do not go together.
    #[error(transparent)]
    Release(#[from] ReleaseFault),
    /// systemd would not merge it on that host.
    #[error("systemd would not merge it: {0}")]
    Host(Mismatch),
}

/// What does not keep an image from being proved, but should be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The dates in the signer's certificate.
    #[error(transparent)]
    Date(#[from] DateWarning),
    /// Who need not take the signature does not.
    #[error("{verifier} refuses the signature: {distrust}")]
    NotForEveryone {
        /// Who.
        verifier: Verifier,
        /// Why.
        distrust: Distrust,
    },
    /// `certificateFingerprint` in the signature partition.
    #[error(
        "the signature partition names the certificate {named}, which is not the signer's; systemd does not look at that"
    )]
    Fingerprint {
        /// What it names.
        named: Digest,
    },
    /// systemd goes by the release file alone.
    #[error(
        "its partitions are for {partitions}, the host is {host}; systemd does not look at that"
    )]
    ForeignPartitions {
        /// What their types say.
        partitions: Architecture,
        /// What the host is.
        host: Architecture,
    },
}

/// Everything that is known of an image after it was checked.
#[derive(Debug)]
pub struct Report {
    /// The image.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// The hash that stands for the data.
    pub root_hash: Option<RootHash>,
    /// Bytes of data that the hash tree is over.
    pub data_bytes: Option<u64>,
    /// What systemd and the kernel say of the signature, if they were asked.
    pub verdict: Option<Verdict>,
    /// Who made the signature by its own account: whoever has the key of the certificate that lies
    /// beside it.
    pub claimed_signer: Option<Certificate>,
    /// The release file.
    pub release: Option<FoundRelease>,
    /// What should be known.
    pub warnings: Vec<Warning>,
    outcomes: [(Check, Outcome); Check::ALL.len()],
}

impl Check {
    /// All of them, in the order in which they are told.
    pub const ALL: [Check; 7] = [
        Check::PartitionTable,
        Check::Partitions,
        Check::RootHash,
        Check::Blocks,
        Check::Signature,
        Check::Release,
        Check::Host,
    ];
}

impl Report {
    /// A report of checks none of which was made.
    pub(super) fn new(request: &Request<'_>) -> Report {
        let asked = |check| match check {
            Check::Host => request.host.is_some(),
            Check::Signature => matches!(request.trust, Trust::Signed { .. }),
            _ => true,
        };
        Report {
            path: request.path.to_path_buf(),
            size: None,
            root_hash: None,
            data_bytes: None,
            verdict: None,
            claimed_signer: None,
            release: None,
            warnings: Vec::new(),
            outcomes: Check::ALL.map(|check| {
                let outcome = if asked(check) {
                    Outcome::Impossible
                } else {
                    Outcome::NotAsked
                };
                (check, outcome)
            }),
        }
    }

    /// Every check and its outcome.
    pub fn outcomes(&self) -> &[(Check, Outcome)] {
        &self.outcomes
    }

    /// What became of a check.
    pub fn outcome(&self, check: Check) -> &Outcome {
        &self.outcomes[check as usize].1
    }

    /// Whether everything holds that was asked for.
    pub fn is_proved(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        outcomes.all(|(_, outcome)| matches!(outcome, Outcome::Passed | Outcome::NotAsked))
    }

    /// Notes that a check holds, unless it was not asked for or has failed.
    pub(super) fn pass(&mut self, check: Check) {
        let outcome = &mut self.outcomes[check as usize].1;
        if matches!(outcome, Outcome::Impossible) {
            *outcome = Outcome::Passed;
        }
    }

    /// Notes that a check does not hold, which counts also if it was not asked for.
    pub(super) fn fail(&mut self, check: Check, fault: impl Into<Fault>) {
        self.outcomes[check as usize].1 = Outcome::Failed(fault.into());
    }

    /// Whether a check does not hold.
    pub(super) fn has_failed(&self, check: Check) -> bool {
        matches!(self.outcome(check), Outcome::Failed(_))
    }

    /// Whether nothing more is to be found out about a check.
    pub(super) fn is_decided(&self, check: Check) -> bool {
        !matches!(self.outcome(check), Outcome::Impossible)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::PartitionTable => "partition table",
            Check::Partitions => "partitions",
            Check::RootHash => "root hash",
            Check::Signature => "signature",
            Check::Blocks => "blocks",
            Check::Release => "release",
            Check::Host => "host",
        })
    }
}

/// Who refuses a signature, and why.
fn sentence(refusals: &[(Verifier, Distrust)]) -> String {
    if let [(_, one), (_, other)] = refusals
        && one == other
    {
        return format!("systemd and the kernel refuse it: {one}");
    }
    let each: Vec<String> = refusals
        .iter()
        .map(|(verifier, distrust)| format!("{verifier} refuses it: {distrust}"))
        .collect();
    each.join("; ")
}
