//! The tree as tiles (C2SP tlog-tiles): 256 hashes each, level over level, and bundles of entries.

use crate::merkle::{Hash, empty_root, leaf_hash, node_hash, perfect_root, perfect_subtrees};
use bytes::Bytes;
use std::fmt::Write;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// The longest entry.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// A tile's number as path elements of three digits, all but the last marked.
fn number(n: u64) -> String {
    let mut parts = vec![format!("{:03}", n % 1000)];
    let mut rest = n / 1000;
    while rest > 0 {
        parts.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    parts.reverse();
    parts.join("/")
}

fn path(kind: &str, n: u64, width: u64) -> String {
    let mut path = format!("tile/{kind}/{}", number(n));
    if width < WIDTH {
        // Writing to a string cannot fail.
        let _ = write!(path, ".p/{width}");
    }
    path
}

/// Where the tile `n` of `level` lies, with `width` hashes in it.
pub fn tile_path(level: u32, n: u64, width: u64) -> String {
    path(&level.to_string(), n, width)
}

/// Where the bundle `n` lies, with `width` entries in it.
pub fn bundle_path(n: u64, width: u64) -> String {
    path("entries", n, width)
}

/// How many hashes the tile `n` of `level` has in a tree of `size` leaves.
pub fn tile_width(level: u32, n: u64, size: u64) -> u64 {
    (size.checked_shr(8 * level).unwrap_or(0)).saturating_sub(n * WIDTH).min(WIDTH)
}

/// Entries as a bundle: each after its length in two bytes.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        // Entries are refused when they are made longer than this.
        let len = u16::try_from(entry.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&entry[..usize::from(len)]);
    }
    out
}

/// The entries of a bundle; none when it is cut off.
pub fn unbundle(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (entries, rest) = readable(bytes);
    rest.is_empty().then_some(entries)
}

/// The entries of a bundle as far as they can be read, and what is left.
pub fn readable(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut out = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let Some((entry, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        out.push(entry);
        bytes = rest;
    }
    (out, bytes)
}

/// The hashes of a tile; none when it is cut off.
pub fn hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (chunks, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| chunks.to_vec())
}

/// Something to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where.
    pub path: String,
    /// What.
    pub bytes: Bytes,
    /// Whether it is a tile that will not change: then those that led to it can go.
    pub full: bool,
    /// The first place that it is about.
    pub start: u64,
    /// How many places each of its hashes is about; 1 for a bundle.
    pub each: u64,
}

/// The right edge of a tree: at each level the hashes of the tile that is not full yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Hash>>,
    /// The entries of the bundle that is not full yet.
    entries: Vec<Bytes>,
}

impl Edge {
    /// The edge of a tree of `size` leaves, of its incomplete tiles from level 0 up and its incomplete bundle. None when they do
    /// not have the right lengths.
    pub fn restore(size: u64, levels: Vec<Vec<Hash>>, entries: Vec<Bytes>) -> Option<Self> {
        let right = levels.iter().enumerate().all(|(level, hashes)| {
            let width = size.checked_shr(8 * level as u32).unwrap_or(0) % WIDTH;
            hashes.len() as u64 == width
        });
        let whole = Self::heights(size) == levels.len() && entries.len() as u64 == size % WIDTH;
        (right && whole).then_some(Self { size, levels, entries })
    }

    /// How many levels a tree of `size` leaves has tiles at.
    pub fn heights(size: u64) -> usize {
        if size == 0 { 0 } else { (size.ilog2() / 8) as usize + 1 }
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root.
    pub fn root(&self) -> Hash {
        // Perfect subtrees from the left, the large ones first; RFC 6962 joins them from the right.
        let mut subtrees = Vec::new();
        for hashes in self.levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let (left, right) = rest.split_at(1 << rest.len().ilog2());
                subtrees.push(perfect_root(left));
                rest = right;
            }
        }
        let Some(mut root) = subtrees.pop() else { return empty_root() };
        while let Some(left) = subtrees.pop() {
            root = node_hash(&left, &root);
        }
        root
    }

    /// Appends an entry; what became full.
    pub fn append(&mut self, entry: &[u8]) -> Vec<Object> {
        let mut full = Vec::new();
        self.entries.push(Bytes::copy_from_slice(entry));
        if self.entries.len() as u64 == WIDTH {
            let bytes = bundle(self.entries.iter().map(AsRef::as_ref)).into();
            let n = self.size / WIDTH;
            full.push(Object { path: bundle_path(n, WIDTH), bytes, full: true, start: n * WIDTH, each: 1 });
            self.entries.clear();
        }
        full.extend(self.append_hash(leaf_hash(entry)));
        full
    }

    /// Appends an entry of which only the hash is known, as of every other in its bundle; what became full.
    pub fn append_hash(&mut self, hash: Hash) -> Vec<Object> {
        let (mut full, mut hash, mut level) = (Vec::new(), hash, 0);
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            if (self.levels[level].len() as u64) < WIDTH {
                break;
            }
            let tile = std::mem::take(&mut self.levels[level]);
            let n = self.size >> (8 * (level + 1));
            let (path, bytes) = (tile_path(level as u32, n, WIDTH), tile.concat().into());
            full.push(Object { path, bytes, full: true, start: n << (8 * (level + 1)), each: 1 << (8 * level) });
            hash = perfect_root(&tile);
            level += 1;
        }
        self.size += 1;
        full
    }

    /// The tiles and the bundle that are not full.
    pub fn partial(&self) -> Vec<Object> {
        let mut out = Vec::new();
        if !self.entries.is_empty() {
            let path = bundle_path(self.size / WIDTH, self.entries.len() as u64);
            let (bytes, start) = (bundle(self.entries.iter().map(AsRef::as_ref)).into(), self.size / WIDTH * WIDTH);
            out.push(Object { path, bytes, full: false, start, each: 1 });
        }
        for (level, hashes) in self.levels.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()) {
            let n = self.size >> (8 * (level + 1));
            let path = tile_path(level as u32, n, hashes.len() as u64);
            let (bytes, start) = (hashes.concat().into(), n << (8 * (level + 1)));
            out.push(Object { path, bytes, full: false, start, each: 1 << (8 * level) });
        }
        out
    }
}

/// The tile that holds the roots of the perfect subtree at `level` (of the tree, not of tiles) and `index`, and which of its
/// hashes they are: (tile level, tile number, first, count).
pub fn locate(level: u32, index: u64) -> (u32, u64, usize, usize) {
    let tile_level = level / 8;
    let count = 1_u64 << (level % 8);
    let first = index * count;
    (tile_level, first / WIDTH, (first % WIDTH) as usize, count as usize)
}

/// The tiles that a range's root is made of, as [`locate`] gives them.
pub fn located(start: u64, end: u64) -> Vec<(u32, u64, usize, usize)> {
    perfect_subtrees(start, end).into_iter().map(|(level, index)| locate(level, index)).collect()
}

/// Joins the roots of perfect subtrees, from the left, to the root of their range.
pub fn join(roots: &[Hash]) -> Hash {
    let Some((last, left)) = roots.split_last() else { return empty_root() };
    left.iter().rev().fold(*last, |root, left| node_hash(left, &root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path(0, 0, 256), "tile/0/000");
        assert_eq!(tile_path(1, 1000, 256), "tile/1/x001/000");
        assert_eq!(bundle_path(273, 112), "tile/entries/273.p/112");
    }

    #[test]
    fn widths_are_those_of_the_specification() {
        // The specification's own example.
        let size = 70_000;
        assert_eq!(tile_width(0, 272, size), 256);
        assert_eq!(tile_width(0, 273, size), 112);
        assert_eq!((tile_width(1, 0, size), tile_width(1, 1, size)), (256, 17));
        assert_eq!((tile_width(2, 0, size), tile_width(3, 0, size)), (1, 0));
        assert_eq!((tile_width(0, 0, 256), tile_width(1, 0, 256)), (256, 1));
    }

    #[test]
    fn the_edge_writes_every_tile_and_knows_the_root() {
        let entries: Vec<Vec<u8>> = (0..66_000_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let (mut edge, mut store, mut level) = (Edge::default(), BTreeMap::new(), Vec::new());
        assert_eq!(edge.root(), empty_root());
        for (n, entry) in entries.iter().enumerate() {
            for object in edge.append(entry) {
                assert!(store.insert(object.path, object.bytes).is_none());
            }
            level.push(leaf_hash(entry));
            let size = n as u64 + 1;
            if size < 600 || size > 65_530 && size < 65_545 || size == 66_000 {
                let roots: Vec<Hash> = perfect_subtrees(0, size)
                    .into_iter()
                    .map(|(l, i)| perfect_root(&level[(i << l) as usize..((i + 1) << l) as usize]))
                    .collect();
                assert_eq!(edge.root(), join(&roots), "{size}");
            }
        }
        for object in edge.partial() {
            store.insert(object.path, object.bytes);
        }
        // Every subtree's root comes out of the tiles.
        for (start, end) in [(0, 65_536), (65_536, 66_000), (1024, 2048), (7, 8), (65_792, 66_000)] {
            let roots: Vec<Hash> = located(start, end)
                .into_iter()
                .map(|(l, n, first, count)| {
                    let tile = hashes(&store[&tile_path(l, n, tile_width(l, n, 66_000))]).unwrap();
                    perfect_root(&tile[first..first + count])
                })
                .collect();
            let expected: Vec<Hash> = perfect_subtrees(start, end)
                .into_iter()
                .map(|(l, i)| perfect_root(&level[(i << l) as usize..((i + 1) << l) as usize]))
                .collect();
            assert_eq!(join(&roots), join(&expected), "{start}..{end}");
        }
        let read = |path: &str| store.get(path).cloned();
        let levels = (0..Edge::heights(66_000) as u32)
            .map(|l| {
                let n = 66_000_u64 >> (8 * (l + 1));
                let width = tile_width(l, n, 66_000);
                if width == 0 { Vec::new() } else { hashes(&read(&tile_path(l, n, width)).unwrap()).unwrap() }
            })
            .collect();
        let last = read(&bundle_path(66_000 / 256, 66_000 % 256)).unwrap();
        let last = unbundle(&last).unwrap().into_iter().map(Bytes::copy_from_slice).collect();
        assert_eq!(Edge::restore(66_000, levels, last).unwrap(), edge);
    }

    #[test]
    fn bundles_come_back_and_broken_ones_do_not() {
        let entries: Vec<&[u8]> = vec![b"a", b"", b"ccc"];
        let bytes = bundle(entries.iter().copied());
        assert_eq!(unbundle(&bytes).unwrap(), entries);
        assert!(unbundle(&bytes[..bytes.len() - 1]).is_none() && unbundle(&bytes[..1]).is_none());
        assert!(hashes(&[0; 33]).is_none());
    }
}
