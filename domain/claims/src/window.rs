//! Walking over headers: small reads at rising positions, with a bound on how much a walk may read in all.

use crate::guard::ReadSeek;
use std::io::{Read, SeekFrom};

const WINDOW: usize = 8 << 10;
/// 512 MiB in all: enough for an hour of MP3, and under a second of work.
const MAX_REFILLS: u32 = 65_536;

/// A window that moves over a file.
pub(crate) struct Window<'a> {
    source: &'a mut dyn ReadSeek,
    start: u64,
    bytes: Vec<u8>,
    refills: u32,
    len: u64,
}

impl<'a> Window<'a> {
    pub(crate) fn new(source: &'a mut dyn ReadSeek) -> Self {
        let len = source.seek(SeekFrom::End(0)).unwrap_or(0);
        Self { source, start: 0, bytes: Vec::new(), refills: 0, len }
    }

    /// The file's length.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the walk has used up what it may read; from then on every read fails.
    pub(crate) fn exhausted(&self) -> bool {
        self.refills >= MAX_REFILLS
    }

    /// `N` bytes at a position; none past the end of the file or of the budget.
    pub(crate) fn array<const N: usize>(&mut self, at: u64) -> Option<[u8; N]> {
        if at.checked_add(N as u64)? > self.len {
            return None;
        }
        let inside = |window: &Self| at >= window.start && at + N as u64 <= window.start + window.bytes.len() as u64;
        if !inside(self) {
            self.refill(at)?;
        }
        if !inside(self) {
            return None;
        }
        let from = (at - self.start) as usize;
        self.bytes[from..from + N].try_into().ok()
    }

    /// Up to `len` bytes at a position, read afresh.
    pub(crate) fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let cost = (len / WINDOW + 1) as u32;
        if self.exhausted() || self.source.seek(SeekFrom::Start(at)).is_err() {
            return out;
        }
        self.refills = self.refills.saturating_add(cost);
        // What could not be read is missing from the result.
        let _ = (&mut *self.source).take(len as u64).read_to_end(&mut out);
        out
    }

    /// The last `len` bytes.
    pub(crate) fn tail(&mut self, len: u64) -> Vec<u8> {
        self.read(self.len.saturating_sub(len), len as usize)
    }

    fn refill(&mut self, at: u64) -> Option<()> {
        if self.exhausted() {
            return None;
        }
        self.refills += 1;
        self.source.seek(SeekFrom::Start(at)).ok()?;
        self.bytes.clear();
        self.start = at;
        (&mut *self.source).take(WINDOW as u64).read_to_end(&mut self.bytes).ok()?;
        Some(())
    }
}
