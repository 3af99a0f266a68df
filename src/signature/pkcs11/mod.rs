//! Keys and certificates in tokens: smart cards, hardware security modules, SoftHSM.
//!
//! A library that speaks with the token (a PKCS#11 module) is loaded at run time.

mod signer;
mod token;
mod uri;

use std::path::PathBuf;

use cryptoki::error::Error;

pub use signer::{Pkcs11Signer, load_certificate};
pub use token::{DEFAULT_MODULE, TokenAccess};
pub use uri::{InvalidUri, PathAttribute, PinSource, Pkcs11Uri};

/// Why a token could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// Not a URI, or one that asks for something unknown.
    #[error("the PKCS#11 URI of the {what} is unusable")]
    Uri {
        /// `private key` or `certificate`.
        what: &'static str,
        /// Why.
        source: InvalidUri,
    },
    /// The URI says that it is of something else.
    #[error("{uri} does not name a {what}; leave type= out or say type={wanted}")]
    Type {
        /// The URI.
        uri: String,
        /// `private key` or `certificate`.
        what: &'static str,
        /// The type that would do.
        wanted: &'static str,
    },
    /// The library could not be loaded.
    #[error(
        "cannot use PKCS#11 module {path}: {reason}; name the token's one with --pkcs11-module or PKCS11_MODULE_PATH"
    )]
    Module {
        /// Which file, or a name that the dynamic linker looks for.
        path: PathBuf,
        /// What it, or the dynamic linker, said.
        reason: String,
    },
    /// A static program has no dynamic linker.
    #[error(
        "cannot use PKCS#11 module {0}: this sysgraft is a static program, which loads no libraries; use one that was built with `cargo build --release`, or let a program sign with --sign-command"
    )]
    StaticProgram(PathBuf),
    /// No token is as the URI says.
    #[error("there is no token for {uri}; {present}")]
    NoToken {
        /// The URI.
        uri: String,
        /// The tokens that there are.
        present: String,
    },
    /// Several tokens are as the URI says.
    #[error("several tokens fit {uri}: {found}; add token= or serial= to it")]
    SeveralTokens {
        /// The URI.
        uri: String,
        /// Which ones.
        found: String,
    },
    /// The token wants a PIN and there is none.
    #[error(
        "token {0} wants a PIN; give it with --passphrase-file, in SYSGRAFT_PASSPHRASE, or as pin-source=file:… in the URI"
    )]
    PinMissing(String),
    /// The PIN does not open the token.
    #[error("the PIN does not open token {token}{warning}")]
    PinWrong {
        /// Which token.
        token: String,
        /// What to fear, with a leading separator, or nothing.
        warning: &'static str,
    },
    /// There were too many wrong PINs.
    #[error("token {0} is locked after too many wrong PINs; its security officer can unlock it")]
    PinLocked(String),
    /// The token has no such object.
    #[error("token {token} has no {what} for {uri}")]
    NoObject {
        /// Which token.
        token: String,
        /// `private key` or `certificate`.
        what: &'static str,
        /// The URI.
        uri: String,
    },
    /// The token has several such objects.
    #[error(
        "token {token} has {count} objects of the kind {what} for {uri}; add object= or id= to it"
    )]
    SeveralObjects {
        /// Which token.
        token: String,
        /// How many.
        count: usize,
        /// `private key` or `certificate`.
        what: &'static str,
        /// The URI.
        uri: String,
    },
    /// The object's value is none.
    #[error("token {token} holds no X.509 certificate in {uri}")]
    NotACertificate {
        /// Which token.
        token: String,
        /// The URI.
        uri: String,
    },
    /// Something else went wrong in the token.
    #[error("token {token} cannot {what}")]
    Failed {
        /// Which token.
        token: String,
        /// What it was asked to do.
        what: &'static str,
        /// What it said.
        source: Error,
    },
}
