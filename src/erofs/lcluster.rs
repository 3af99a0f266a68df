//! The index of compressed content: `struct z_erofs_map_header` and, behind it, what each logical
//! cluster, a block of content, holds (`fs/erofs/zmap.c`).
//!
//! An extent of content that was compressed together starts in a head; the clusters that follow it
//! tell how far away that is. The second one also has how many blocks the compressed extent takes.
//! Plain clusters are not compressed. The compact index packs what 2 or 16 clusters hold together
//! with the address of the first block that they mean.

use super::BLOCK_SIZE;
use super::compression::{Algorithm, ChunkSize};
use super::format::{field, set_field};

/// Bytes of `struct z_erofs_map_header`.
pub(super) const HEADER_SIZE: usize = 8;
/// Bytes of `struct z_erofs_lcluster_index`, what the full index has for each cluster.
pub(super) const FULL_ENTRY_SIZE: usize = 8;
/// Bytes between the header and the full index (`Z_EROFS_FULL_INDEX_ALIGN`).
pub(super) const FULL_INDEX_GAP: u64 = 8;
/// The header and compact index are aligned to this many bytes.
pub(super) const HEADER_ALIGNMENT: usize = 8;

/// `Z_EROFS_ADVISE_COMPACTED_2B`: most packs have 16 clusters.
pub(super) const ADVISE_LARGE_PACKS: u16 = 0x1;
/// `Z_EROFS_ADVISE_BIG_PCLUSTER_1`: compressed extents may take several blocks.
pub(super) const ADVISE_BIG_PCLUSTER: u16 = 0x2;
/// `Z_EROFS_ADVISE_BIG_PCLUSTER_2`: the same for the second algorithm.
pub(super) const ADVISE_BIG_PCLUSTER_2: u16 = 0x4;
/// `Z_EROFS_ADVISE_INLINE_PCLUSTER`: the last extent lies behind the index.
pub(super) const ADVISE_INLINE: u16 = 0x8;
/// `Z_EROFS_ADVISE_INTERLACED_PCLUSTER`: plain blocks are rotated to where their content belongs.
pub(super) const ADVISE_INTERLACED: u16 = 0x10;
/// `Z_EROFS_ADVISE_FRAGMENT_PCLUSTER`: the last extent lies in the packed inode.
pub(super) const ADVISE_FRAGMENT: u16 = 0x20;
/// All bits of `h_advise` of which the reader knows what they mean.
pub(super) const ADVISE_KNOWN: u16 = 0x3f;
/// The bit of the header that tells that all content lies in the packed inode
/// (`Z_EROFS_FRAGMENT_INODE_BIT` of `h_clusterbits`).
pub(super) const ALL_IN_PACKED: u64 = 1 << 63;

/// `Z_EROFS_LI_D0_CBLKCNT`: instead of a distance there is a count of blocks.
const BLOCK_COUNT: u16 = 0x800;
/// `Z_EROFS_LI_PARTIAL_REF`: an extent of the full index is only a part of what is compressed.
const PARTIAL: u16 = 0x8000;

/// Clusters of a small pack, 8 bytes, and of a large one, 32 bytes.
const SMALL_PACK: u64 = 2;
const LARGE_PACK: u64 = 16;
/// Bytes of the address at the end of a pack.
const ADDRESS_SIZE: usize = 4;
/// Bytes of the largest pack.
pub(super) const MAX_PACK_BYTES: usize = 32;

/// `Z_EROFS_LCLUSTER_TYPE_*`.
mod kind {
    pub const PLAIN: u16 = 0;
    pub const HEAD: u16 = 1;
    pub const NON_HEAD: u16 = 2;
}

/// What a logical cluster holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    /// An extent starts here.
    Head {
        /// It is compressed, with the first algorithm.
        compressed: bool,
        /// Bytes of the cluster that belong to the extent before.
        offset: u16,
        /// The first block of the extent.
        address: u32,
        /// The extent is only a part of what was compressed.
        partial: bool,
    },
    /// It goes on with the extent of an earlier head.
    NonHead {
        /// Clusters back to the head, or to another that tells how far it is.
        back: u16,
        /// Clusters to the next head.
        ahead: u16,
        /// Blocks of the compressed extent, in its second cluster.
        blocks: Option<u16>,
    },
}

/// Where the chunks of a file lie.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    /// Bytes of the file.
    pub size: u64,
    pub chunk_size: ChunkSize,
    /// Where each lies, but for the last one if it is a tail.
    pub placed: Vec<PlacedChunk>,
    /// The last chunk, if it lies elsewhere than in blocks of its own.
    pub tail: Option<Tail>,
}

/// A chunk in blocks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacedChunk {
    /// The block at which it starts.
    pub address: u32,
    /// How many blocks it takes if it is compressed, else 0.
    pub compressed_blocks: u16,
}

/// A last chunk that has no blocks of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// It lies behind the index, compressed to so many bytes.
    Inline { bytes: u16 },
    /// It lies in the packed inode from this byte on.
    Fragment { offset: u32 },
}

impl Chunks {
    /// Whether any chunk is compressed, or lies where only compressed files may have one.
    pub fn any_compressed(&self) -> bool {
        let compressed = |chunk: &PlacedChunk| chunk.compressed_blocks > 0;
        self.tail.is_some() || self.placed.iter().any(compressed)
    }

    /// How many blocks the chunks take.
    pub fn blocks(&self) -> u32 {
        let chunk_size = self.chunk_size.bytes() as u64;
        let sizes = (0..).step_by(self.chunk_size.bytes());
        let blocks = self.placed.iter().zip(sizes).map(|(chunk, start)| {
            let size = chunk_size.min(self.size - start);
            u32::from(chunk.blocks(size))
        });
        blocks.sum()
    }

    /// The header and the compact index, which start `offset` bytes behind a multiple of 32 and at
    /// a multiple of 8.
    pub fn encode(&self, algorithm: Algorithm, offset: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE];
        // readers demand both in compact indexes, though there is but one algorithm
        let mut advise = ADVISE_BIG_PCLUSTER | ADVISE_BIG_PCLUSTER_2;
        // a large pack has but one address, a small one lies inside a chunk
        let large_packs = self.are_consecutive();
        if large_packs {
            advise |= ADVISE_LARGE_PACKS;
        }
        match self.tail {
            None => {}
            Some(Tail::Inline { bytes: length }) => {
                advise |= ADVISE_INLINE;
                set_field(&mut bytes, 2, length.to_le_bytes());
            }
            Some(Tail::Fragment { offset }) => {
                advise |= ADVISE_FRAGMENT;
                set_field(&mut bytes, 0, offset.to_le_bytes());
            }
        }
        set_field(&mut bytes, 4, advise.to_le_bytes());
        bytes[6] = algorithm.code();
        let count = self.size.div_ceil(BLOCK_SIZE as u64);
        let packs = CompactPacks::new(offset as u64 + HEADER_SIZE as u64, count, large_packs);
        let mut clusters = self.clusters();
        let mut cluster = 0;
        while cluster < count {
            let pack = packs.pack_of(cluster);
            encode_pack(&mut clusters, pack.clusters, &mut bytes);
            cluster += pack.clusters as u64;
        }
        bytes
    }

    /// Whether each chunk starts where the one before it ends.
    fn are_consecutive(&self) -> bool {
        let full = self.chunk_size.bytes() as u64;
        let follows = |pair: &[PlacedChunk]| pair[1].address == pair[0].end(full);
        self.placed.windows(2).all(follows)
    }

    /// What each cluster of the file holds.
    fn clusters(&self) -> impl Iterator<Item = Cluster> + '_ {
        let chunk_size = self.chunk_size.bytes() as u64;
        let end = self.placed.last().map_or(0, |last| last.end(chunk_size));
        let placed = self.placed.iter().map(|chunk| {
            let compressed = chunk.compressed_blocks > 0;
            (chunk.address, compressed.then_some(chunk.compressed_blocks))
        });
        // readers know a tail by being last, and do not care where this says that it lies
        let tail = self.tail.map(|_| (end, Some(1)));
        let starts = (0..).step_by(self.chunk_size.bytes());
        let chunks = placed.chain(tail).zip(starts);
        chunks.flat_map(move |((address, blocks), start)| {
            let size = chunk_size.min(self.size - start);
            clusters_of_chunk(size, address, blocks)
        })
    }
}

impl PlacedChunk {
    /// How many blocks the chunk takes if it has `size` bytes.
    fn blocks(self, size: u64) -> u16 {
        match self.compressed_blocks {
            #[allow(clippy::cast_possible_truncation)] // 256 at most
            0 => size.div_ceil(BLOCK_SIZE as u64) as u16,
            blocks => blocks,
        }
    }

    /// The block behind the chunk if it has `size` bytes.
    fn end(self, size: u64) -> u32 {
        self.address.wrapping_add(self.blocks(size).into())
    }
}

/// The header of a file all of whose content lies in the packed inode, from byte `offset` on, and
/// which has no index.
pub(super) fn encode_packed_file(offset: u64) -> [u8; HEADER_SIZE] {
    (offset | ALL_IN_PACKED).to_le_bytes()
}

/// What the clusters of a chunk of `size` bytes hold, which starts at block `address`, and takes
/// `blocks` if it is compressed.
#[allow(clippy::cast_possible_truncation)] // a chunk has at most 256 blocks
fn clusters_of_chunk(
    size: u64,
    address: u32,
    blocks: Option<u16>,
) -> impl Iterator<Item = Cluster> {
    let full = (size / BLOCK_SIZE as u64) as u16;
    let end = (size % BLOCK_SIZE as u64) as u16;
    (0..full + u16::from(end > 0)).map(move |number| match (number, blocks) {
        (number, None) => Cluster::Head {
            compressed: false,
            offset: 0,
            address: address + u32::from(number),
            partial: false,
        },
        (0, Some(_)) => Cluster::Head {
            compressed: true,
            offset: 0,
            address,
            partial: false,
        },
        // what would start at the end of the file marks where the last extent ends
        (number, Some(blocks)) if number == full => Cluster::Head {
            compressed: false,
            offset: end,
            address: address + u32::from(blocks),
            partial: false,
        },
        (number, Some(blocks)) => Cluster::NonHead {
            back: number,
            ahead: full - number,
            blocks: (number == 1).then_some(blocks),
        },
    })
}

/// Appends a pack with room for `count` clusters of those that are left.
fn encode_pack(clusters: &mut impl Iterator<Item = Cluster>, count: usize, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let bits = bits_of_pack(count);
    let size = pack_bytes(count);
    bytes.resize(start + size, 0);
    let pack = &mut bytes[start..];
    let mut base = None;
    // blocks of the extent that the pack continues, and after which its addresses are counted
    let mut continued = 0;
    for (position, cluster) in clusters.take(count).enumerate() {
        let (kind, low) = match cluster {
            Cluster::Head {
                compressed,
                offset,
                address,
                ..
            } => {
                base.get_or_insert(address - continued);
                (if compressed { kind::HEAD } else { kind::PLAIN }, offset)
            }
            Cluster::NonHead {
                blocks: Some(blocks),
                ..
            } => {
                if position == 0 {
                    continued = blocks.into();
                }
                (kind::NON_HEAD, BLOCK_COUNT | blocks)
            }
            Cluster::NonHead { ahead, .. } if position + 1 == count => (kind::NON_HEAD, ahead),
            Cluster::NonHead { back, .. } => (kind::NON_HEAD, back),
        };
        let bit = position * bits;
        let value = u32::from(kind << 12 | low) << (bit % 8);
        for (byte, part) in pack[bit / 8..].iter_mut().zip(value.to_le_bytes()) {
            *byte |= part;
        }
    }
    let base = base.unwrap_or(0);
    set_field(pack, size - ADDRESS_SIZE, base.to_le_bytes());
}

/// Bytes of a pack of so many clusters.
fn pack_bytes(clusters: usize) -> usize {
    if clusters as u64 == LARGE_PACK {
        MAX_PACK_BYTES
    } else {
        8
    }
}

/// Bits of each cluster in a pack of so many.
fn bits_of_pack(clusters: usize) -> usize {
    (pack_bytes(clusters) - ADDRESS_SIZE) * 8 / clusters
}

/// How the clusters of a compact index are spread over packs: large packs are aligned to their
/// size, so a few small ones may come before and after them.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompactPacks {
    /// Where the first pack lies.
    start: u64,
    /// Clusters in small packs at the start.
    before: u64,
    /// Clusters in large packs.
    large: u64,
}

/// A pack of a compact index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackPosition {
    /// Where it lies.
    pub offset: u64,
    /// How many clusters it has room for.
    pub clusters: usize,
    /// Which of them is meant.
    pub position: usize,
}

impl PackPosition {
    /// Bytes of the pack.
    pub fn bytes(self) -> usize {
        pack_bytes(self.clusters)
    }
}

impl CompactPacks {
    /// The packs of `clusters` from `start`, a multiple of 8, on.
    pub fn new(start: u64, clusters: u64, large_packs: bool) -> CompactPacks {
        let alignment = MAX_PACK_BYTES as u64;
        let before = (alignment - start % alignment) % alignment / 4;
        let large = match clusters.checked_sub(before) {
            Some(rest) if large_packs => rest / LARGE_PACK * LARGE_PACK,
            _ => 0,
        };
        CompactPacks {
            start,
            before,
            large,
        }
    }

    /// Where the index ends if it has so many clusters, one at least.
    pub fn end(self, clusters: u64) -> u64 {
        let last = self.pack_of(clusters.saturating_sub(1));
        last.offset.saturating_add(last.bytes() as u64)
    }

    /// The pack that has a cluster.
    pub fn pack_of(self, cluster: u64) -> PackPosition {
        let small = |start: u64, cluster: u64| PackPosition {
            offset: start.saturating_add(cluster / SMALL_PACK * 8),
            clusters: 2,
            position: usize::from(cluster % SMALL_PACK == 1),
        };
        let Some(behind) = cluster.checked_sub(self.before) else {
            return small(self.start, cluster);
        };
        let start = self.start + self.before * 4;
        if let Some(rest) = behind.checked_sub(self.large) {
            return small(start.saturating_add(self.large * 2), rest);
        }
        #[allow(clippy::cast_possible_truncation)] // less than 16
        let position = (behind % LARGE_PACK) as usize;
        PackPosition {
            offset: start.saturating_add(behind / LARGE_PACK * MAX_PACK_BYTES as u64),
            clusters: 16,
            position,
        }
    }
}

/// Reads one of the clusters of a pack. If several blocks may be compressed together, `big` is set.
pub(super) fn decode_packed(
    pack: &[u8],
    clusters: usize,
    position: usize,
    big: bool,
) -> Result<Cluster, &'static str> {
    let bits = bits_of_pack(clusters);
    let raw = |position: usize| {
        let bit = position * bits;
        let value = u32::from_le_bytes(field(pack, bit / 8)) >> (bit % 8);
        #[allow(clippy::cast_possible_truncation)] // 14 bits
        let value = (value & 0x3fff) as u16;
        (value >> 12, value & 0xfff)
    };
    let (kind, low) = raw(position);
    if kind == kind::NON_HEAD {
        let ahead = match (position..clusters).position(|other| raw(other).0 != kind::NON_HEAD) {
            Some(distance) => distance,
            None => {
                let (_, last) = raw(clusters - 1);
                let behind = if last & BLOCK_COUNT == 0 { last } else { 1 };
                (clusters - 1 - position) + usize::from(behind)
            }
        };
        let back = match position.checked_sub(1).map(raw) {
            _ if low & BLOCK_COUNT != 0 => 1,
            // the last of a pack tells only how far it is ahead
            Some((kind::NON_HEAD, low)) if position + 1 == clusters => {
                1 + if low & BLOCK_COUNT == 0 { low } else { 1 }
            }
            _ if position + 1 == clusters => 1,
            _ => low,
        };
        return Ok(Cluster::NonHead {
            back,
            ahead: u16::try_from(ahead).unwrap_or(u16::MAX),
            blocks: (low & BLOCK_COUNT != 0).then_some(low & !BLOCK_COUNT),
        });
    }
    let before = blocks_before(raw, position, big)?;
    let base = u32::from_le_bytes(field(pack, pack_bytes(clusters) - ADDRESS_SIZE));
    head(kind, low, base.wrapping_add(before), false)
}

/// How many blocks lie between the address of a pack and the head at a position.
fn blocks_before(
    raw: impl Fn(usize) -> (u16, u16),
    mut position: usize,
    big: bool,
) -> Result<u32, &'static str> {
    // without large extents the address is that of the block before
    let mut blocks = u32::from(!big);
    while position > 0 {
        position -= 1;
        let (kind, low) = raw(position);
        let skipped = match (kind, big) {
            (kind::NON_HEAD, false) => low,
            (kind::NON_HEAD, true) if low & BLOCK_COUNT != 0 => {
                blocks += u32::from(low & !BLOCK_COUNT);
                1
            }
            (kind::NON_HEAD, true) if low > 1 => {
                // to just behind the second cluster of the extent, which has the count
                match position.checked_sub(usize::from(low) - 2) {
                    Some(next) => position = next,
                    None => return Ok(blocks),
                }
                continue;
            }
            (kind::NON_HEAD, true) => return Err("has an index without a count of blocks"),
            _ => {
                blocks += 1;
                0
            }
        };
        match position.checked_sub(skipped.into()) {
            Some(next) => {
                position = next;
                blocks += u32::from(!big && skipped > 0);
            }
            None => return Ok(blocks),
        }
    }
    Ok(blocks)
}

/// Reads an entry of the full index.
pub(super) fn decode_full(entry: [u8; FULL_ENTRY_SIZE]) -> Result<Cluster, &'static str> {
    let half = |offset| u16::from_le_bytes(field(&entry, offset));
    let advise = half(0);
    let kind = advise & 0b11;
    if kind == kind::NON_HEAD {
        let (back, ahead) = (half(4), half(6));
        let blocks = (back & BLOCK_COUNT != 0).then_some(back & !BLOCK_COUNT);
        return Ok(Cluster::NonHead {
            back: if blocks.is_some() { 1 } else { back },
            ahead,
            blocks,
        });
    }
    let address = u32::from_le_bytes(field(&entry, 4));
    head(kind, half(2), address, advise & PARTIAL != 0)
}

fn head(kind: u16, offset: u16, address: u32, partial: bool) -> Result<Cluster, &'static str> {
    if usize::from(offset) >= BLOCK_SIZE {
        return Err("has an extent that starts outside its cluster");
    }
    let compressed = match kind {
        kind::PLAIN => false,
        kind::HEAD => true,
        _ => return Err("is compressed in two ways, which this program cannot read"),
    };
    Ok(Cluster::Head {
        compressed,
        offset,
        address,
        partial,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        #[allow(clippy::cast_possible_truncation)]
        fn a_compact_index_tells_what_went_into_it(
            sizes in prop::collection::vec(0_u16..4, 1..40),
            last in 1_u64..16384,
            slot in 0_usize..4,
            gap in 0_u32..3,
            tail: bool,
        ) {
            let chunk_size = ChunkSize::new(16384).unwrap();
            let size = (sizes.len() as u64 - 1) * 16384 + last;
            let mut compressed_blocks = sizes;
            if let Some(blocks) = compressed_blocks.last_mut() {
                *blocks = (*blocks).min(((last - 1) / 4096) as u16);
            }
            let mut address = 7;
            let mut placed = Vec::new();
            for compressed_blocks in compressed_blocks {
                let chunk = PlacedChunk { address, compressed_blocks };
                address = chunk.end(16384) + gap;
                placed.push(chunk);
            }
            let tail = tail.then_some(Tail::Fragment { offset: 5 });
            if tail.is_some() {
                placed.pop();
            }
            let chunks = Chunks { size, chunk_size, placed, tail };
            let bytes = chunks.encode(Algorithm::Zstd, slot * 8);
            let start = slot as u64 * 8;
            let count = size.div_ceil(4096);
            let packs = CompactPacks::new(start + 8, count, chunks.are_consecutive());
            prop_assert_eq!(packs.end(count) - start, bytes.len() as u64);
            for (number, expected) in chunks.clusters().enumerate() {
                let pack = packs.pack_of(number as u64);
                let offset = usize::try_from(pack.offset - start).unwrap();
                let decoded = decode_packed(
                    &bytes[offset..][..pack.bytes()],
                    pack.clusters,
                    pack.position,
                    true,
                );
                let mut decoded = decoded.unwrap();
                // at the end of a pack it may take several steps to the heads
                if let (
                    Cluster::NonHead { back, ahead, .. },
                    Cluster::NonHead { back: all_back, ahead: all_ahead, .. },
                ) = (&mut decoded, expected) {
                    prop_assert!((1..=all_back).contains(back));
                    prop_assert!((1..=all_ahead).contains(ahead));
                    (*back, *ahead) = (all_back, all_ahead);
                }
                prop_assert_eq!(decoded, expected, "cluster {}", number);
            }
            prop_assert_eq!(chunks.clusters().count() as u64, count);
        }

        #[test]
        fn any_pack_is_read_or_refused(
            bytes in prop::array::uniform32(any::<u8>()),
            large: bool,
            big: bool,
        ) {
            let clusters = if large { 16 } else { 2 };
            for position in 0..clusters {
                let _ = decode_packed(&bytes[..pack_bytes(clusters)], clusters, position, big);
            }
        }
    }
}
