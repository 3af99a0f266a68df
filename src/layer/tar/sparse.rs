//! Files with holes.

use super::super::EntryProblem;

/// A map of more pieces is refused.
const MAX_SEGMENTS: usize = 1_000_000;

/// A piece of data in a sparse file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    offset: u64,
    length: u64,
}

/// Collects the pieces of a sparse file in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentList {
    segments: Vec<Segment>,
    /// Where the last piece ended.
    end: u64,
    /// Bytes of all pieces.
    data: u64,
}

impl SegmentList {
    pub fn push(&mut self, offset: u64, length: u64) -> Result<(), EntryProblem> {
        if offset < self.end {
            return Err(EntryProblem::SparseMap("its pieces are out of order"));
        }
        self.end = offset
            .checked_add(length)
            .ok_or(EntryProblem::SparseMap("a piece is too long"))?;
        // Empty pieces only mark the end of a file that ends with a hole.
        if length > 0 {
            if self.segments.len() >= MAX_SEGMENTS {
                return Err(EntryProblem::TooLarge {
                    what: "pieces of a sparse file",
                    limit: MAX_SEGMENTS as u64,
                });
            }
            self.data += length;
            self.segments.push(Segment { offset, length });
        }
        Ok(())
    }

    /// The map of a file of `size` bytes with holes, of which `stored` are in the archive.
    pub fn into_map(self, size: u64, stored: u64) -> Result<SparseMap, EntryProblem> {
        if self.end > size {
            return Err(EntryProblem::SparseMap(
                "a piece lies behind the file's end",
            ));
        }
        if self.data != stored {
            return Err(EntryProblem::SparseMap(
                "its pieces and the stored data differ in size",
            ));
        }
        Ok(SparseMap {
            segments: self.segments.into_iter(),
            current: None,
            hole_bytes: size - self.data,
        })
    }
}

/// Walks through a sparse file from its start.
#[derive(Debug)]
pub struct SparseMap {
    segments: std::vec::IntoIter<Segment>,
    /// The piece that is being read or comes next.
    current: Option<Segment>,
    hole_bytes: u64,
}

/// What lies at some position of a sparse file, and for how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Hole(u64),
    Data(u64),
}

impl SparseMap {
    /// How much of the file is not in the archive.
    pub fn hole_bytes(&self) -> u64 {
        self.hole_bytes
    }

    /// What lies at `position`, which must never go back. Behind the last piece, the hole is
    /// endless.
    pub fn extent(&mut self, position: u64) -> Extent {
        loop {
            match self.current.or_else(|| self.segments.next()) {
                None => return Extent::Hole(u64::MAX),
                Some(segment) => {
                    self.current = Some(segment);
                    if position < segment.offset {
                        return Extent::Hole(segment.offset - position);
                    }
                    let read = position - segment.offset;
                    if read < segment.length {
                        return Extent::Data(segment.length - read);
                    }
                    self.current = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_data_alternate() {
        let mut list = SegmentList::default();
        list.push(10, 5).unwrap();
        list.push(15, 5).unwrap();
        list.push(30, 0).unwrap();
        let mut map = list.into_map(30, 10).unwrap();
        assert_eq!(map.hole_bytes(), 20);
        assert_eq!(map.extent(0), Extent::Hole(10));
        assert_eq!(map.extent(9), Extent::Hole(1));
        assert_eq!(map.extent(10), Extent::Data(5));
        assert_eq!(map.extent(15), Extent::Data(5));
        assert_eq!(map.extent(19), Extent::Data(1));
        assert_eq!(map.extent(20), Extent::Hole(u64::MAX));
    }

    #[test]
    fn contradictory_maps_are_refused() {
        let mut list = SegmentList::default();
        list.push(10, 5).unwrap();
        assert!(list.clone().push(14, 1).is_err());
        assert!(list.clone().push(u64::MAX, 1).is_err());
        assert!(list.clone().into_map(14, 5).is_err());
        assert!(list.clone().into_map(15, 4).is_err());
        assert!(list.into_map(15, 5).is_ok());
    }
}
