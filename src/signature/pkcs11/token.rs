//! Finding a token, opening it, and finding objects in it.

use std::path::{Path, PathBuf};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;

use super::{PathAttribute, PinSource, Pkcs11Error, Pkcs11Uri};
use crate::printable::printable;
use crate::signature::{Passphrase, SignatureError, read_bounded};

/// The module that knows all modules of a host, found by the dynamic linker (p11-kit).
pub const DEFAULT_MODULE: &str = "p11-kit-proxy.so";
/// A larger file holds no PIN.
const MAX_PIN_BYTES: u64 = 4096;

/// How to get at tokens, where a URI does not say it.
#[derive(Clone, Debug, Default)]
pub struct TokenAccess {
    /// The library that speaks with the token.
    pub module: Option<PathBuf>,
    /// The PIN.
    pub pin: Option<Passphrase>,
}

/// What an object is, for templates and for errors.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub class: ObjectClass,
    pub what: &'static str,
    /// The value of the attribute `type`.
    pub kind: &'static str,
}

pub const PRIVATE_KEY: Wanted = Wanted {
    class: ObjectClass::PRIVATE_KEY,
    what: "private key",
    kind: "private",
};
pub const CERTIFICATE: Wanted = Wanted {
    class: ObjectClass::CERTIFICATE,
    what: "certificate",
    kind: "cert",
};

/// A token with an open session.
pub struct Token {
    pub session: Session,
    module: Pkcs11,
    slot: Slot,
    info: TokenInfo,
    pin: Option<AuthPin>,
}

impl Token {
    /// Opens the one token that fits the URI.
    pub fn open(uri: &Pkcs11Uri, access: &TokenAccess) -> Result<Token, SignatureError> {
        let pin = read_pin(uri, access)?;
        let path = uri
            .module_path()
            .or(access.module.as_ref())
            .map_or(Path::new(DEFAULT_MODULE), PathBuf::as_path);
        if cfg!(target_feature = "crt-static") {
            return Err(Pkcs11Error::StaticProgram(path.to_path_buf()).into());
        }
        let unusable = |error| Pkcs11Error::Module {
            path: path.to_path_buf(),
            reason: match error {
                Error::LibraryLoading(error) => error.to_string(),
                error => error.to_string(),
            },
        };
        let module = initialize(path).map_err(unusable)?;
        let (slot, info) = find(&module, uri).map_err(unusable)??;
        let session = module
            .open_ro_session(slot)
            .map_err(|source| Pkcs11Error::Failed {
                token: label(&info),
                what: "open a session",
                source,
            })?;
        Ok(Token {
            session,
            module,
            slot,
            info,
            pin,
        })
    }

    /// Its label, for people.
    pub fn name(&self) -> String {
        label(&self.info)
    }

    pub fn failed(&self, what: &'static str) -> impl FnOnce(Error) -> Pkcs11Error {
        let token = self.name();
        move |source| Pkcs11Error::Failed {
            token,
            what,
            source,
        }
    }

    /// Whether there is a way to log in.
    pub fn has_pin(&self) -> bool {
        self.pin.is_some() || self.info.protected_authentication_path()
    }

    /// Logs in, if the token wants that or a PIN is there.
    pub fn log_in(&self) -> Result<(), Pkcs11Error> {
        if !self.info.login_required() && self.pin.is_none() {
            return Ok(());
        }
        self.authenticate(UserType::User)
    }

    /// Gives the PIN once more for the operation that has just begun.
    pub fn confirm(&self) -> Result<(), Pkcs11Error> {
        self.authenticate(UserType::ContextSpecific)
    }

    fn authenticate(&self, user: UserType) -> Result<(), Pkcs11Error> {
        if self.info.user_pin_locked() {
            return Err(Pkcs11Error::PinLocked(self.name()));
        }
        if !self.has_pin() {
            return Err(Pkcs11Error::PinMissing(self.name()));
        }
        match self.session.login(user, self.pin.as_ref()) {
            // Another session of this program did it before.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(Pkcs11Error::PinLocked(self.name())),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange, _)) => {
                Err(self.wrong_pin())
            }
            Err(source) => Err(self.failed("log in")(source)),
        }
    }

    fn wrong_pin(&self) -> Pkcs11Error {
        let warning = match self.module.get_token_info(self.slot) {
            Ok(info) if info.user_pin_locked() => return Pkcs11Error::PinLocked(self.name()),
            Ok(info) if info.user_pin_final_try() => "; one more wrong PIN locks it",
            _ => "",
        };
        Pkcs11Error::PinWrong {
            token: self.name(),
            warning,
        }
    }

    /// The one object that fits the URI.
    pub fn object(&self, uri: &Pkcs11Uri, wanted: Wanted) -> Result<ObjectHandle, Pkcs11Error> {
        let mut template = vec![Attribute::Class(wanted.class)];
        let label = uri.get(PathAttribute::Object);
        template.extend(label.map(|label| Attribute::Label(label.to_vec())));
        let id = uri.get(PathAttribute::Id);
        template.extend(id.map(|id| Attribute::Id(id.to_vec())));
        let found = self
            .session
            .find_objects(&template)
            .map_err(self.failed("look for objects"))?;
        match found[..] {
            [only] => Ok(only),
            [] => Err(Pkcs11Error::NoObject {
                token: self.name(),
                what: wanted.what,
                uri: uri.to_string(),
            }),
            _ => Err(Pkcs11Error::SeveralObjects {
                token: self.name(),
                count: found.len(),
                what: wanted.what,
                uri: uri.to_string(),
            }),
        }
    }

    /// Those of the attributes that the token shows.
    pub fn attributes(
        &self,
        object: ObjectHandle,
        wanted: &[AttributeType],
    ) -> Result<Vec<Attribute>, Pkcs11Error> {
        self.session
            .get_attributes(object, wanted)
            .map_err(self.failed("show an object's attributes"))
    }
}

/// Refuses a URI that says it is of something else.
pub fn require_type(uri: &Pkcs11Uri, wanted: Wanted) -> Result<(), Pkcs11Error> {
    match uri.get(PathAttribute::Type) {
        Some(kind) if kind != wanted.kind.as_bytes() => Err(Pkcs11Error::Type {
            uri: uri.to_string(),
            what: wanted.what,
            wanted: wanted.kind,
        }),
        _ => Ok(()),
    }
}

fn read_pin(uri: &Pkcs11Uri, access: &TokenAccess) -> Result<Option<AuthPin>, SignatureError> {
    let pin = match uri.pin() {
        Some(PinSource::Value(pin)) => Some(pin.reveal().to_owned()),
        Some(PinSource::File(path)) => {
            let content = read_bounded("PIN file", path, MAX_PIN_BYTES)?;
            let content = String::from_utf8_lossy(&content);
            Some(content.lines().next().unwrap_or_default().to_owned())
        }
        None => access.pin.as_ref().map(|pin| pin.reveal().to_owned()),
    };
    Ok(pin.map(AuthPin::from))
}

fn initialize(path: &Path) -> Result<Pkcs11, Error> {
    let module = Pkcs11::new(path)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Key and certificate may come from the same module.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(error),
    }
}

/// The one initialized token that is as the URI says.
fn find(module: &Pkcs11, uri: &Pkcs11Uri) -> Result<Result<(Slot, TokenInfo), Pkcs11Error>, Error> {
    let mut present = Vec::new();
    let mut fitting = Vec::new();
    let library_fits = library_fits(module, uri)?;
    for slot in module.get_slots_with_token()? {
        // A slot whose token cannot be read must not keep others from being used.
        let Ok(info) = module.get_token_info(slot) else {
            continue;
        };
        if !info.token_initialized() {
            continue;
        }
        present.push(label(&info));
        if library_fits && token_fits(&info, uri) && slot_fits(module, slot, uri)? {
            fitting.push((slot, info));
        }
    }
    Ok(match fitting.len() {
        0 => Err(Pkcs11Error::NoToken {
            uri: uri.to_string(),
            present: match present[..] {
                [] => "the module has no tokens".to_owned(),
                _ => format!("the module has {}", present.join(", ")),
            },
        }),
        1 => Ok(fitting.swap_remove(0)),
        _ => {
            let found: Vec<String> = fitting
                .iter()
                .map(|(_, info)| {
                    let serial = printable(info.serial_number().trim_end().as_bytes());
                    format!("{} (serial {serial})", label(info))
                })
                .collect();
            Err(Pkcs11Error::SeveralTokens {
                uri: uri.to_string(),
                found: found.join(", "),
            })
        }
    })
}

fn fits(uri: &Pkcs11Uri, attribute: PathAttribute, found: &str) -> bool {
    uri.get(attribute)
        .is_none_or(|wanted| wanted == found.trim_end().as_bytes())
}

fn token_fits(info: &TokenInfo, uri: &Pkcs11Uri) -> bool {
    fits(uri, PathAttribute::Token, info.label())
        && fits(uri, PathAttribute::Manufacturer, info.manufacturer_id())
        && fits(uri, PathAttribute::Serial, info.serial_number())
        && fits(uri, PathAttribute::Model, info.model())
}

fn slot_fits(module: &Pkcs11, slot: Slot, uri: &Pkcs11Uri) -> Result<bool, Error> {
    let info = module.get_slot_info(slot)?;
    Ok(fits(uri, PathAttribute::SlotId, &slot.id().to_string())
        && fits(uri, PathAttribute::SlotDescription, info.slot_description())
        && fits(uri, PathAttribute::SlotManufacturer, info.manufacturer_id()))
}

fn library_fits(module: &Pkcs11, uri: &Pkcs11Uri) -> Result<bool, Error> {
    let info = module.get_library_info()?;
    let version = info.library_version();
    let (major, minor) = (version.major(), version.minor());
    let version_fits = fits(uri, PathAttribute::LibraryVersion, &major.to_string())
        || fits(
            uri,
            PathAttribute::LibraryVersion,
            &format!("{major}.{minor}"),
        );
    let description = info.library_description();
    Ok(version_fits
        && fits(uri, PathAttribute::LibraryDescription, description)
        && fits(
            uri,
            PathAttribute::LibraryManufacturer,
            info.manufacturer_id(),
        ))
}

fn label(info: &TokenInfo) -> String {
    format!("\"{}\"", printable(info.label().trim_end().as_bytes()))
}
