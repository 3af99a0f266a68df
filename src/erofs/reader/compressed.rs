//! Finding and decompressing the extents of compressed content (`fs/erofs/zmap.c`).

use std::ops::Range;

use super::content::Data;
use super::{FileSystem, Inode, ReadError};
use crate::erofs::compression::Algorithm;
use crate::erofs::format::{Nid, field};
use crate::erofs::inode::Layout;
use crate::erofs::lcluster::{self, ALL_IN_PACKED, Cluster, CompactPacks, MAX_PACK_BYTES};
use crate::read_at::ReadAt;

/// Bytes of a logical cluster; others than those of a 4 KiB block are not read.
const CLUSTER_BYTES: u64 = 4096;
/// The most bytes that an extent may have compressed, `Z_EROFS_PCLUSTER_MAX_SIZE`.
const MAX_COMPRESSED_BYTES: u64 = 1 << 20;
/// The most bytes of content that an extent may have, `Z_EROFS_PCLUSTER_MAX_DSIZE`.
const MAX_EXTENT_BYTES: u64 = 12 << 20;

/// The content of a compressed inode, and of it the extent that was last decompressed.
#[derive(Debug)]
pub(super) struct Compressed {
    nid: Nid,
    /// Bytes of the content.
    size: u64,
    index: Index,
    algorithm: Algorithm,
    /// Plain blocks are rotated to where their content belongs.
    interlaced: bool,
    tail: Option<Tail>,
    /// Which part of the content `bytes` has.
    cached: Range<u64>,
    bytes: Vec<u8>,
}

/// The last extent, if it lies elsewhere than others.
#[derive(Debug)]
struct Tail {
    /// Where it starts in the content.
    start: u64,
    place: TailPlace,
}

#[derive(Debug)]
enum TailPlace {
    /// Behind the index: bytes from the start of the file system.
    Inline { offset: u64, length: u64 },
    /// In the content of the packed inode.
    Packed { offset: u64, packed: Box<Data> },
}

/// How the clusters of an inode are found.
#[derive(Clone, Copy, Debug)]
struct Index {
    /// How many clusters there are.
    clusters: u64,
    /// Extents may take several blocks.
    big: bool,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// An entry of 8 bytes each from here on.
    Full(u64),
    Compact(CompactPacks),
}

/// A piece of content that was compressed together, or a plain cluster.
#[derive(Clone, Debug)]
struct Extent {
    content: Range<u64>,
    compressed: bool,
    /// The first block.
    address: u32,
    /// The cluster in which it starts.
    head: u64,
}

/// The header of the index, `struct z_erofs_map_header`.
struct Header {
    bytes: [u8; lcluster::HEADER_SIZE],
}

impl Header {
    fn advise(&self, bit: u16) -> bool {
        u16::from_le_bytes(field(&self.bytes, 4)) & bit != 0
    }

    /// Passes if the reader knows what it all means.
    fn check(&self) -> Result<(), &'static str> {
        let [.., algorithms, cluster_bits] = self.bytes;
        if self.advise(!lcluster::ADVISE_KNOWN) {
            Err("is compressed in a way that this program does not know")
        } else if cluster_bits != 0 {
            Err("has logical clusters larger than a block, which this program does not read")
        } else if algorithms >> 4 != 0
            && self.advise(lcluster::ADVISE_BIG_PCLUSTER_2)
            && !self.advise(lcluster::ADVISE_BIG_PCLUSTER)
        {
            Err("contradicts itself about the sizes of its compressed extents")
        } else {
            Ok(())
        }
    }
}

impl Compressed {
    /// Reads what is known of a compressed inode. Content in the packed inode is found only if
    /// `may_be_packed`, that is, if the inode is not that one itself.
    pub fn open<R: ReadAt>(
        file_system: &FileSystem<R>,
        inode: &Inode,
        may_be_packed: bool,
    ) -> Result<Compressed, ReadError> {
        let refuse = |reason| ReadError::Inode {
            nid: inode.nid,
            reason,
        };
        if file_system.superblock.block_size() != CLUSTER_BYTES {
            return Err(refuse(
                "is compressed in blocks of another size than 4 KiB, which this program does not \
                 read",
            ));
        }
        let start = inode
            .behind_xattrs()
            .next_multiple_of(lcluster::HEADER_ALIGNMENT as u64);
        let mut bytes = [0; lcluster::HEADER_SIZE];
        file_system.read(&mut bytes, start)?;
        let header = Header { bytes };
        let clusters = inode.size.div_ceil(CLUSTER_BYTES);
        let behind = start + lcluster::HEADER_SIZE as u64;
        let mut compressed = Compressed {
            nid: inode.nid,
            size: inode.size,
            index: Index {
                clusters,
                big: header.advise(lcluster::ADVISE_BIG_PCLUSTER),
                form: if inode.layout == Layout::CompressedFull {
                    Form::Full(behind + lcluster::FULL_INDEX_GAP)
                } else {
                    let large = header.advise(lcluster::ADVISE_LARGE_PACKS);
                    Form::Compact(CompactPacks::new(behind, clusters, large))
                },
            },
            algorithm: Algorithm::Lz4,
            interlaced: header.advise(lcluster::ADVISE_INTERLACED),
            tail: None,
            cached: 0..0,
            bytes: Vec::new(),
        };
        let packed = |offset| -> Result<TailPlace, ReadError> {
            let nid = file_system
                .superblock
                .packed
                .filter(|_| may_be_packed)
                .ok_or_else(|| refuse("has content in a packed inode that does not exist"))?;
            let packed = Box::new(Data::open_packed(file_system, nid)?);
            Ok(TailPlace::Packed { offset, packed })
        };
        let word = u64::from_le_bytes(bytes);
        if word & ALL_IN_PACKED != 0 {
            let place = packed(word ^ ALL_IN_PACKED)?;
            compressed.tail = Some(Tail { start: 0, place });
            return Ok(compressed);
        }
        header.check().map_err(refuse)?;
        compressed.algorithm = Algorithm::from_code(bytes[6] & 0xf)
            .ok_or_else(|| refuse("is compressed with an algorithm that is not known"))?;
        compressed.check_algorithm(file_system)?;
        let inline = header.advise(lcluster::ADVISE_INLINE);
        let fragment = header.advise(lcluster::ADVISE_FRAGMENT);
        if inode.size > 0 && (inline || fragment) {
            let last = compressed.extent(file_system, inode.size - 1)?;
            let place = if inline {
                TailPlace::Inline {
                    offset: compressed.index.end(),
                    length: u16::from_le_bytes(field(&bytes, 2)).into(),
                }
            } else {
                let low = u64::from(u32::from_le_bytes(field(&bytes, 0)));
                let high = match compressed.index.form {
                    Form::Full(_) => u64::from(last.address) << 32,
                    Form::Compact(_) => 0,
                };
                packed(high | low)?
            };
            let start = last.content.start;
            compressed.tail = Some(Tail { start, place });
        }
        Ok(compressed)
    }

    /// Passes if the content can be decompressed.
    fn check_algorithm<R: ReadAt>(&self, file_system: &FileSystem<R>) -> Result<(), ReadError> {
        match self.algorithm {
            Algorithm::Zstd => Ok(()),
            Algorithm::Lz4 if file_system.superblock.zero_padding() => Ok(()),
            Algorithm::Lz4 => Err(self.refuse(
                "is compressed as Linux before 5.4 did, without zero padding, which this program \
                 does not read",
            )),
            algorithm => Err(ReadError::Compressed {
                nid: self.nid,
                algorithm,
            }),
        }
    }

    /// Fills `buffer` with content from `position` on, all of which must lie inside its size.
    pub fn read<R: ReadAt>(
        &mut self,
        file_system: &FileSystem<R>,
        mut buffer: &mut [u8],
        mut position: u64,
    ) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            if !self.cached.contains(&position) {
                let start = self.tail.as_ref().map_or(u64::MAX, |tail| tail.start);
                if position >= start
                    && let Some(Tail {
                        place: TailPlace::Packed { offset, packed },
                        ..
                    }) = &mut self.tail
                {
                    let offset = offset.saturating_add(position - start);
                    return packed.read(file_system, buffer, offset);
                }
                self.load(file_system, position)?;
            }
            let rest = usize::try_from(position - self.cached.start)
                .ok()
                .and_then(|skipped| self.bytes.get(skipped..))
                .unwrap_or_default();
            let length = rest.len().min(buffer.len());
            if length == 0 {
                return Err(self.refuse("has an extent without content"));
            }
            let (part, behind) = buffer.split_at_mut(length);
            part.copy_from_slice(&rest[..length]);
            buffer = behind;
            position += length as u64;
        }
        Ok(())
    }

    /// Decompresses the extent that has `position`.
    fn load<R: ReadAt>(
        &mut self,
        file_system: &FileSystem<R>,
        position: u64,
    ) -> Result<(), ReadError> {
        self.cached = 0..0;
        let extent = self.extent(file_system, position)?;
        let length = extent.content.end - extent.content.start;
        let (offset, stored) = match &self.tail {
            Some(Tail {
                start,
                place: TailPlace::Inline { offset, length },
            }) if *start == extent.content.start => (*offset, *length),
            _ => (
                file_system.block_offset(extent.address),
                self.stored_bytes(file_system, &extent)?,
            ),
        };
        // at most MAX_EXTENT_BYTES and MAX_COMPRESSED_BYTES
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or_default();
        if !extent.compressed && length > stored {
            return Err(self.refuse("has a plain extent larger than a block"));
        }
        let mut data = vec![0; size(stored)];
        file_system.read(&mut data, offset)?;
        self.bytes.clear();
        if extent.compressed {
            self.bytes.resize(size(length), 0);
            let padding = data.iter().take_while(|&&byte| byte == 0).count();
            if !self.algorithm.decompress(&data[padding..], &mut self.bytes) {
                return Err(self.refuse("has content that cannot be decompressed"));
            }
        } else if self.interlaced {
            if stored != CLUSTER_BYTES {
                return Err(self.refuse(
                    "has an inlined plain extent that is rotated, which this program does not read",
                ));
            }
            data.rotate_left(size(extent.content.start % CLUSTER_BYTES));
            self.bytes.extend_from_slice(&data[..size(length)]);
        } else {
            self.bytes.extend_from_slice(&data[..size(length)]);
        }
        self.cached = extent.content;
        Ok(())
    }

    /// How many bytes of blocks an extent takes.
    fn stored_bytes<R: ReadAt>(
        &self,
        file_system: &FileSystem<R>,
        extent: &Extent,
    ) -> Result<u64, ReadError> {
        if !extent.compressed || !self.index.big {
            return Ok(CLUSTER_BYTES);
        }
        match self.cluster(file_system, extent.head + 1)? {
            Cluster::Head { .. } => Ok(CLUSTER_BYTES),
            Cluster::NonHead {
                blocks: Some(blocks),
                ..
            } => {
                let bytes = u64::from(blocks) * CLUSTER_BYTES;
                if blocks == 0 || bytes > MAX_COMPRESSED_BYTES {
                    return Err(self.refuse("has an extent of more than 1 MiB compressed, or none"));
                }
                Ok(bytes)
            }
            Cluster::NonHead { .. } => {
                Err(self.refuse("has an extent that does not tell how many blocks it takes"))
            }
        }
    }

    /// The extent that has `position`, which must be less than the size.
    fn extent<R: ReadAt>(
        &self,
        file_system: &FileSystem<R>,
        position: u64,
    ) -> Result<Extent, ReadError> {
        let number = position / CLUSTER_BYTES;
        let cluster = self.cluster(file_system, number)?;
        let (mut head, back, ahead) = match cluster {
            Cluster::Head { offset, .. } if position % CLUSTER_BYTES >= offset.into() => {
                (number, 0, Some(1))
            }
            // the extent before ends in this cluster
            Cluster::Head { .. } => (number, 1, None),
            Cluster::NonHead { back, ahead, .. } => (number, back, Some(ahead)),
        };
        let mut back = u64::from(back);
        loop {
            let too_far = || self.refuse("has an extent that starts nowhere");
            head = head.checked_sub(back).ok_or_else(too_far)?;
            if (number - head) * CLUSTER_BYTES > MAX_EXTENT_BYTES {
                return Err(self.refuse("has an extent of more than 12 MiB"));
            }
            match self.cluster(file_system, head)? {
                Cluster::NonHead { back: 0, .. } => return Err(too_far()),
                Cluster::NonHead { back: next, .. } => back = next.into(),
                Cluster::Head {
                    compressed,
                    offset,
                    address,
                    partial,
                } => {
                    if compressed && partial {
                        return Err(self.refuse(
                            "shares a part of a compressed extent, which this program does not \
                             read",
                        ));
                    }
                    let start = head * CLUSTER_BYTES + u64::from(offset);
                    let end = match (ahead, cluster) {
                        (None, Cluster::Head { offset, .. }) => {
                            number * CLUSTER_BYTES + u64::from(offset)
                        }
                        (ahead, _) => {
                            let next = number + u64::from(ahead.unwrap_or(1)).max(1);
                            self.end_of_extent(file_system, start, next)?
                        }
                    };
                    return Ok(Extent {
                        content: start..end,
                        compressed,
                        address,
                        head,
                    });
                }
            }
        }
    }

    /// Where the extent ends that starts at `start`, and not before cluster `next`.
    fn end_of_extent<R: ReadAt>(
        &self,
        file_system: &FileSystem<R>,
        start: u64,
        mut next: u64,
    ) -> Result<u64, ReadError> {
        loop {
            if next.saturating_mul(CLUSTER_BYTES).saturating_sub(start) > MAX_EXTENT_BYTES {
                return Err(self.refuse("has an extent of more than 12 MiB"));
            }
            if next >= self.index.clusters {
                return Ok(self.size);
            }
            match self.cluster(file_system, next)? {
                Cluster::Head { offset, .. } => {
                    return Ok(self.size.min(next * CLUSTER_BYTES + u64::from(offset)));
                }
                Cluster::NonHead { ahead, .. } => next += u64::from(ahead).max(1),
            }
        }
    }

    /// What a cluster holds.
    fn cluster<R: ReadAt>(
        &self,
        file_system: &FileSystem<R>,
        number: u64,
    ) -> Result<Cluster, ReadError> {
        let refuse = |reason| self.refuse(reason);
        if number >= self.index.clusters {
            return Err(refuse("has an extent that does not end"));
        }
        match self.index.form {
            Form::Full(start) => {
                let mut entry = [0; lcluster::FULL_ENTRY_SIZE];
                let offset = number
                    .saturating_mul(lcluster::FULL_ENTRY_SIZE as u64)
                    .saturating_add(start);
                file_system.read(&mut entry, offset)?;
                lcluster::decode_full(entry).map_err(refuse)
            }
            Form::Compact(packs) => {
                let pack = packs.pack_of(number);
                let mut buffer = [0; MAX_PACK_BYTES];
                let bytes = &mut buffer[..pack.bytes()];
                file_system.read(bytes, pack.offset)?;
                lcluster::decode_packed(bytes, pack.clusters, pack.position, self.index.big)
                    .map_err(refuse)
            }
        }
    }

    fn refuse(&self, reason: &'static str) -> ReadError {
        ReadError::Inode {
            nid: self.nid,
            reason,
        }
    }
}

impl Index {
    /// Where lies what follows the index, of which there is at least one cluster.
    fn end(self) -> u64 {
        match self.form {
            Form::Full(start) => self
                .clusters
                .saturating_mul(lcluster::FULL_ENTRY_SIZE as u64)
                .saturating_add(start),
            Form::Compact(packs) => packs.end(self.clusters),
        }
    }
}
