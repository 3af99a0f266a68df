//! Inodes on disk: `struct erofs_inode_compact` and `struct erofs_inode_extended`.

use super::format::{SLOT_SIZE, field, set_field};
use crate::layer::Device;
use crate::timestamp::Timestamp;

/// Bytes of the short form.
pub(super) const COMPACT_SIZE: usize = SLOT_SIZE;
/// Bytes of the long form.
pub(super) const EXTENDED_SIZE: usize = 2 * SLOT_SIZE;

/// The bit of `i_format` that tells the long form; `EROFS_I_VERSION_BIT`.
const FORMAT_EXTENDED: u16 = 1;
/// All bits of `i_format` that have a meaning; `EROFS_I_ALL`.
const FORMAT_ALL: u16 = 0b1111;

const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

mod offset {
    pub const FORMAT: usize = 0;
    pub const XATTR_COUNT: usize = 2;
    pub const MODE: usize = 4;
    pub const SIZE: usize = 8;
    pub const DATA: usize = 16;
    pub const INO: usize = 20;

    pub mod compact {
        pub const NLINK: usize = 6;
        pub const UID: usize = 24;
        pub const GID: usize = 26;
    }
    pub mod extended {
        pub const UID: usize = 24;
        pub const GID: usize = 28;
        pub const MTIME: usize = 32;
        pub const MTIME_NANOSECONDS: usize = 40;
        pub const NLINK: usize = 44;
    }
}

/// Where the content of an inode lies; `EROFS_INODE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Consecutive blocks.
    FlatPlain,
    /// Compressed, with an index of 8 bytes for each logical cluster.
    CompressedFull,
    /// Consecutive blocks; the last part, less than a block, behind the inode.
    FlatInline,
    /// Compressed, with an index of 2 or 4 bytes for each logical cluster.
    CompressedCompact,
    /// Chunks of equal size, each with its own address or none.
    ChunkBased,
}

impl Layout {
    const ALL: [Layout; 5] = [
        Layout::FlatPlain,
        Layout::CompressedFull,
        Layout::FlatInline,
        Layout::CompressedCompact,
        Layout::ChunkBased,
    ];

    /// The number that `i_format` holds.
    fn code(self) -> u16 {
        match self {
            Layout::FlatPlain => 0,
            Layout::CompressedFull => 1,
            Layout::FlatInline => 2,
            Layout::CompressedCompact => 3,
            Layout::ChunkBased => 4,
        }
    }
}

/// An inode as it is stored, without what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiskInode {
    pub layout: Layout,
    /// Size of the extended attributes as `i_xattr_icount` has it: 0 for none, else 1 and one for
    /// each 4 bytes behind the header of 12.
    pub xattr_count: u16,
    /// Type and permissions.
    pub mode: u16,
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// First block, device number, chunk format or compressed blocks, whichever the type and
    /// layout call for.
    pub data: u32,
    /// The number that 32-bit programs see.
    pub ino: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
}

impl DiskInode {
    /// The fields of the short form that are narrower there, if all fit: links, size, owner, group.
    fn compact_fields(&self, epoch: Timestamp) -> Option<(u16, u32, u16, u16)> {
        (self.mtime == epoch).then_some(())?;
        Some((
            self.nlink.try_into().ok()?,
            self.size.try_into().ok()?,
            self.uid.try_into().ok()?,
            self.gid.try_into().ok()?,
        ))
    }

    /// How many bytes [`DiskInode::encode`] yields in a file system of this epoch.
    pub fn encoded_size(&self, epoch: Timestamp) -> usize {
        match self.compact_fields(epoch) {
            Some(_) => COMPACT_SIZE,
            None => EXTENDED_SIZE,
        }
    }

    /// Writes the inode to the start of `bytes`, whose first [`DiskInode::encoded_size`] are zero.
    pub fn encode(&self, epoch: Timestamp, bytes: &mut [u8]) {
        let mut format = self.layout.code() << 1;
        set_field(bytes, offset::XATTR_COUNT, self.xattr_count.to_le_bytes());
        set_field(bytes, offset::MODE, self.mode.to_le_bytes());
        set_field(bytes, offset::DATA, self.data.to_le_bytes());
        set_field(bytes, offset::INO, self.ino.to_le_bytes());
        if let Some((nlink, size, uid, gid)) = self.compact_fields(epoch) {
            set_field(bytes, offset::compact::NLINK, nlink.to_le_bytes());
            set_field(bytes, offset::SIZE, size.to_le_bytes());
            set_field(bytes, offset::compact::UID, uid.to_le_bytes());
            set_field(bytes, offset::compact::GID, gid.to_le_bytes());
        } else {
            use offset::extended;
            format |= FORMAT_EXTENDED;
            let Timestamp {
                seconds,
                nanoseconds,
            } = self.mtime;
            set_field(bytes, offset::SIZE, self.size.to_le_bytes());
            set_field(bytes, extended::UID, self.uid.to_le_bytes());
            set_field(bytes, extended::GID, self.gid.to_le_bytes());
            set_field(bytes, extended::MTIME, seconds.to_le_bytes());
            set_field(
                bytes,
                extended::MTIME_NANOSECONDS,
                nanoseconds.to_le_bytes(),
            );
            set_field(bytes, extended::NLINK, self.nlink.to_le_bytes());
        }
        set_field(bytes, offset::FORMAT, format.to_le_bytes());
    }

    /// Sets the link count of the encoded inode at the start of `bytes`; `false` if it does not fit.
    #[must_use]
    pub fn set_nlink(bytes: &mut [u8], nlink: u32) -> bool {
        if is_extended(bytes) {
            set_field(bytes, offset::extended::NLINK, nlink.to_le_bytes());
        } else if let Ok(nlink) = u16::try_from(nlink) {
            set_field(bytes, offset::compact::NLINK, nlink.to_le_bytes());
        } else {
            return false;
        }
        true
    }

    /// Sets the time of the encoded inode at the start of `bytes`, unless it has the epoch's.
    pub fn set_mtime(bytes: &mut [u8; EXTENDED_SIZE], mtime: Timestamp) {
        use offset::extended;
        if is_extended(bytes) {
            set_field(bytes, extended::MTIME, mtime.seconds.to_le_bytes());
            let nanoseconds = mtime.nanoseconds.to_le_bytes();
            set_field(bytes, extended::MTIME_NANOSECONDS, nanoseconds);
        }
    }

    /// How many bytes the inode takes whose first bytes these are, or what is wrong with it.
    pub fn size_of_encoded(bytes: &[u8; COMPACT_SIZE]) -> Result<usize, &'static str> {
        let format = u16::from_le_bytes(field(bytes, offset::FORMAT));
        if format & !FORMAT_ALL != 0 {
            Err("is of a form that this program does not know")
        } else if is_extended(bytes) {
            Ok(EXTENDED_SIZE)
        } else {
            Ok(COMPACT_SIZE)
        }
    }

    /// Reads an inode from `bytes`, of which [`DiskInode::size_of_encoded`] count.
    pub fn decode(
        bytes: &[u8; EXTENDED_SIZE],
        epoch: Timestamp,
    ) -> Result<DiskInode, &'static str> {
        let code = u16::from_le_bytes(field(bytes, offset::FORMAT)) >> 1;
        let layout = Layout::ALL
            .into_iter()
            .find(|layout| layout.code() == code)
            .ok_or("stores its content in a way that this program does not know")?;
        let mut inode = DiskInode {
            layout,
            xattr_count: u16::from_le_bytes(field(bytes, offset::XATTR_COUNT)),
            mode: u16::from_le_bytes(field(bytes, offset::MODE)),
            nlink: u16::from_le_bytes(field(bytes, offset::compact::NLINK)).into(),
            size: u32::from_le_bytes(field(bytes, offset::SIZE)).into(),
            data: u32::from_le_bytes(field(bytes, offset::DATA)),
            ino: u32::from_le_bytes(field(bytes, offset::INO)),
            uid: u16::from_le_bytes(field(bytes, offset::compact::UID)).into(),
            gid: u16::from_le_bytes(field(bytes, offset::compact::GID)).into(),
            mtime: epoch,
        };
        if is_extended(bytes) {
            use offset::extended;
            inode.nlink = u32::from_le_bytes(field(bytes, extended::NLINK));
            inode.size = u64::from_le_bytes(field(bytes, offset::SIZE));
            inode.uid = u32::from_le_bytes(field(bytes, extended::UID));
            inode.gid = u32::from_le_bytes(field(bytes, extended::GID));
            inode.mtime = Timestamp {
                seconds: i64::from_le_bytes(field(bytes, extended::MTIME)),
                nanoseconds: u32::from_le_bytes(field(bytes, extended::MTIME_NANOSECONDS)),
            };
        }
        if inode.mtime.nanoseconds >= NANOSECONDS_PER_SECOND {
            return Err("was modified at a time that is none: its nanoseconds exceed a second");
        }
        Ok(inode)
    }
}

fn is_extended(bytes: &[u8]) -> bool {
    u16::from_le_bytes(field(bytes, offset::FORMAT)) & FORMAT_EXTENDED != 0
}

/// A device number as the kernel stores it; `None` if it is out of the kernel's range
/// (`new_encode_dev()`, `include/linux/kdev_t.h`).
pub(super) fn encode_device(device: Device) -> Option<u32> {
    let Device { major, minor } = device;
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// The device of a stored number (`new_decode_dev()`, `include/linux/kdev_t.h`).
pub(super) fn decode_device(number: u32) -> Device {
    Device {
        major: (number >> 8) & 0xfff,
        minor: (number & 0xff) | ((number >> 12) & 0xfff00),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: Timestamp = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 9,
    };

    fn small() -> DiskInode {
        DiskInode {
            layout: Layout::FlatInline,
            xattr_count: 3,
            mode: 0o100_644,
            nlink: 0xffff,
            size: 0xffff_ffff,
            data: 5,
            ino: 6,
            uid: 0xffff,
            gid: 0xffff,
            mtime: EPOCH,
        }
    }

    fn round_trip(inode: &DiskInode) -> (usize, DiskInode) {
        let mut bytes = [0; EXTENDED_SIZE];
        inode.encode(EPOCH, &mut bytes);
        let size = DiskInode::size_of_encoded(&field(&bytes, 0)).unwrap();
        assert_eq!(size, inode.encoded_size(EPOCH));
        (size, DiskInode::decode(&bytes, EPOCH).unwrap())
    }

    #[test]
    fn an_inode_is_compact_as_long_as_every_field_fits() {
        assert_eq!(round_trip(&small()), (COMPACT_SIZE, small()));
        let grow: [fn(&mut DiskInode); 5] = [
            |inode| inode.nlink += 1,
            |inode| inode.size += 1,
            |inode| inode.uid += 1,
            |inode| inode.gid += 1,
            |inode| inode.mtime.nanoseconds += 1,
        ];
        for grow in grow {
            let mut inode = small();
            grow(&mut inode);
            assert_eq!(round_trip(&inode), (EXTENDED_SIZE, inode));
        }
    }

    #[test]
    fn the_link_count_of_an_encoded_inode_can_be_changed() {
        for (uid, nlink, fits) in [(0, 2, true), (0, 65_536, false), (65_536, 65_536, true)] {
            let inode = DiskInode { uid, ..small() };
            let mut bytes = [0; EXTENDED_SIZE];
            inode.encode(EPOCH, &mut bytes);
            assert_eq!(DiskInode::set_nlink(&mut bytes, nlink), fits);
            let expected = if fits { nlink } else { small().nlink };
            let read = DiskInode::decode(&bytes, EPOCH).unwrap();
            assert_eq!(
                read,
                DiskInode {
                    nlink: expected,
                    ..inode
                }
            );
        }
    }

    proptest! {
        #[test]
        fn device_numbers_round_trip(major in 0_u32..1 << 12, minor in 0_u32..1 << 20) {
            let device = Device { major, minor };
            prop_assert_eq!(encode_device(device).map(decode_device), Some(device));
        }
    }

    #[test]
    fn more_nanoseconds_than_a_second_has_are_refused() {
        let mut inode = small();
        inode.mtime.nanoseconds = 1_000_000_000;
        let mut bytes = [0; EXTENDED_SIZE];
        inode.encode(EPOCH, &mut bytes);
        assert!(DiskInode::decode(&bytes, EPOCH).is_err());
    }

    #[test]
    fn device_numbers_out_of_range_are_refused() {
        for (major, minor) in [(1 << 12, 0), (0, 1 << 20)] {
            assert_eq!(encode_device(Device { major, minor }), None);
        }
    }
}
