//! Wrong usage, in the words of kairos-agent where it has some.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::Arguments;

/// Says what is wrong with the arguments, or what was asked about them, and ends the program.
pub fn exit(error: clap::Error) -> ! {
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names))
            if error.kind() == ErrorKind::MissingRequiredArgument =>
        {
            names.first().map(String::as_str)
        }
        _ => None,
    };
    match missing {
        Some("<NAME>") => refuse(error.kind(), "extension name required"),
        Some("<EXTENSION>") => refuse(error.kind(), "extension required"),
        Some("<URI>") => refuse(error.kind(), "extension URI required"),
        _ => error.exit(),
    }
}

/// Ends the program because of arguments that do not go together.
pub fn refuse(kind: ErrorKind, message: &str) -> ! {
    Arguments::command().error(kind, message).exit()
}
