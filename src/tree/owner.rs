//! To whom the files of an extension belong: `--owner`.

use std::str::FromStr;

/// User and group by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a text is no owner.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidOwner {
    /// There is no colon.
    #[error("there is no group; write UID:GID, as in 0:0 or root:root")]
    NoGroup,
    /// A name that may mean another number on each host.
    #[error(
        "{0:?} is no number; only root has the same number on every host, so write the number of any other"
    )]
    Name(String),
    /// The number that means "no user" to kernels.
    #[error("{0} is no user or group, for kernels mean \"unchanged\" by it")]
    Reserved(u32),
}

impl FromStr for Owner {
    type Err = InvalidOwner;

    fn from_str(text: &str) -> Result<Owner, InvalidOwner> {
        let number = |text: &str| match text {
            "root" => Ok(0),
            _ => match text.parse() {
                Ok(u32::MAX) => Err(InvalidOwner::Reserved(u32::MAX)),
                Ok(number) => Ok(number),
                Err(_) => Err(InvalidOwner::Name(text.to_owned())),
            },
        };
        let (uid, gid) = text.split_once(':').ok_or(InvalidOwner::NoGroup)?;
        Ok(Owner {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_root() {
        let owner = |uid, gid| Ok(Owner { uid, gid });
        for (text, expected) in [
            ("0:0", owner(0, 0)),
            ("root:root", owner(0, 0)),
            ("1000:100", owner(1000, 100)),
            ("root:7", owner(0, 7)),
            ("0", Err(InvalidOwner::NoGroup)),
            ("nobody:0", Err(InvalidOwner::Name("nobody".to_owned()))),
            ("0:", Err(InvalidOwner::Name(String::new()))),
            ("0:0:0", Err(InvalidOwner::Name("0:0".to_owned()))),
            ("0:4294967295", Err(InvalidOwner::Reserved(u32::MAX))),
            ("-1:0", Err(InvalidOwner::Name("-1".to_owned()))),
        ] {
            assert_eq!(text.parse::<Owner>(), expected, "{text}");
        }
    }
}
