//! Why an image is not let in.

use std::fmt;
use std::io;

use crate::architecture::Architecture;
use crate::extension::{ExtensionKind, InvalidName};
use crate::node::host::SystemdVersion;
use crate::node::kernel::Obstacle;
use crate::signature::trust::{Distrust, Verifier};
use crate::verification::{Check, Fault};

/// Why nothing unsigned is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// The node is under Trusted Boot.
    TrustedBoot,
    /// `signatures = "required"`.
    Configuration,
}

/// Why an image is not let in: what is wrong, with which image, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The image.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device, a pipe.
    #[error(
        "{file} is no regular file, and nothing shows whether such an extension is intact; build an image of it with `sysgraft {kind}`"
    )]
    NoFile {
        /// The image.
        file: String,
        /// What it was to be.
        kind: ExtensionKind,
    },
    /// A naked file system, or something else altogether.
    #[error(
        "{file} is no extension image ({problem}), so nothing shows whether it is intact; build it with `sysgraft {kind}`"
    )]
    NoImage {
        /// The image.
        file: String,
        /// What it was to be.
        kind: ExtensionKind,
        /// What is wrong with it.
        problem: String,
    },
    /// It is not as it was made.
    #[error("{file} is damaged: {problem} ({check}); fetch it again")]
    Damaged {
        /// The image.
        file: String,
        /// Which check failed.
        check: Check,
        /// What is wrong with it.
        problem: String,
    },
    /// systemd would not look at its hash tree, or not at all.
    #[error("{file} cannot be used: {problem}")]
    Partitions {
        /// The image.
        file: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// It is not signed, but may be allowed.
    #[error(
        "{file} is not signed; sign it with `sysgraft sign`, or let it in with --allow-unsigned"
    )]
    Unsigned {
        /// The image.
        file: String,
    },
    /// It is not signed, and must be.
    #[error("{file} is not signed, and {demand}; sign it with `sysgraft sign`")]
    MustBeSigned {
        /// The image.
        file: String,
        /// Why.
        demand: Demand,
    },
    /// It was built to be signed later.
    #[error(
        "{file} awaits its signature, and systemd refuses it until then; sign it with `sysgraft sign`"
    )]
    AwaitsSignature {
        /// The image.
        file: String,
    },
    /// Nobody is trusted.
    #[error(
        "{file} is signed{}, but this node trusts nobody; put the certificate into /etc/verity.d as NAME.crt, or name it with --certificate",
        by(signer.as_deref())
    )]
    NobodyTrusted {
        /// The image.
        file: String,
        /// Who signed, by his own account.
        signer: Option<String>,
    },
    /// Somebody signed who is not trusted, or the signature is not over this image.
    #[error(
        "the signature of {file} does not count: {distrust} ({verifier} would refuse it){}",
        advice(distrust)
    )]
    Distrusted {
        /// The image.
        file: String,
        /// Who would refuse it.
        verifier: Verifier,
        /// Why.
        distrust: Distrust,
    },
    /// The signature cannot even be read.
    #[error("the signature of {file} is unusable: {problem}; sign it again with `sysgraft sign`")]
    Signature {
        /// The image.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Its release file.
    #[error("systemd would not take {file} for a {kind}: {problem}")]
    Release {
        /// The image.
        file: String,
        /// What it was to be.
        kind: ExtensionKind,
        /// What is wrong.
        problem: String,
    },
    /// It extends the other part of the host.
    #[error("{file} is a {found}; use `sysgraft-agent {found}`")]
    OtherKind {
        /// The image.
        file: String,
        /// What it is.
        found: ExtensionKind,
    },
    /// The name in its release file.
    #[error("the release file of {file} gives it an unusable name: {source}")]
    Name {
        /// The image.
        file: String,
        /// What is wrong with it.
        source: InvalidName,
    },
    /// It was built for another host.
    #[error("{file} is not for this node, and {} would ignore it: {problem}", named(systemd.as_ref()))]
    Host {
        /// The image.
        file: String,
        /// The systemd of the node.
        systemd: Option<SystemdVersion>,
        /// What does not fit.
        problem: String,
    },
    /// Its partitions are for another architecture.
    #[error("{file} is for {found}, and this node is {host}; take the image for {host}")]
    Architecture {
        /// The image.
        file: String,
        /// What it is for.
        found: Architecture,
        /// What the node is.
        host: Architecture,
    },
    /// The kernel cannot read it.
    #[error(
        "the kernel of this node cannot read {file}: {source}; build it with --compression lz4hc"
    )]
    Kernel {
        /// The image.
        file: String,
        /// Why.
        source: Obstacle,
    },
    /// `--insecure-skip-verify` or `--allow-unsigned` where it must not be.
    #[error("{option} is refused, because {demand}")]
    NotAllowed {
        /// The option.
        option: &'static str,
        /// Why.
        demand: Demand,
    },
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Demand::TrustedBoot => "under Trusted Boot every extension must be signed",
            Demand::Configuration => {
                "the configuration of this node wants every extension signed (signatures = \"required\")"
            }
        })
    }
}

fn by(signer: Option<&str>) -> String {
    signer.map_or_else(String::new, |signer| format!(" by {signer}"))
}

fn named(version: Option<&SystemdVersion>) -> String {
    version.map_or_else(|| "systemd".to_owned(), ToString::to_string)
}

/// What to do about a signature that does not count, where the reason does not say it.
fn advice(distrust: &Distrust) -> &'static str {
    match distrust {
        Distrust::Untrusted { .. } | Distrust::NothingTrusted => {
            "; put the signer's certificate into /etc/verity.d as NAME.crt if it is to be trusted"
        }
        Distrust::Stranger { .. } | Distrust::Invalid { .. } | Distrust::OtherRootHash { .. } => {
            "; fetch it again from where you trust it"
        }
        _ => "",
    }
}

/// What the system said, if that is what a fault comes from.
pub(super) fn system_error(fault: &Fault) -> Option<i32> {
    let mut cause: Option<&dyn std::error::Error> = Some(fault);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if let Some(code) = io.and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        cause = error.source();
    }
    None
}
