//! The directories of a TIFF structure (TIFF 6.0 §2), which EXIF is: how much they claim to hold, and taking entries out.

use exif::{Context, Tag};

/// Directories of one structure that are looked at.
const MAX_DIRECTORIES: usize = 512;
/// Pointers to other directories, and what those mean.
const POINTERS: [(u16, Context); 4] =
    [(GPS, Context::Gps), (0x8769, Context::Exif), (0xa005, Context::Interop), (0x014a, Context::Tiff)];
/// The pointer to the directory of places.
pub(super) const GPS: u16 = 0x8825;

/// One directory.
struct Directory {
    at: usize,
    count: usize,
    context: Context,
}

impl Directory {
    fn end(&self) -> usize {
        self.at + 2 + 12 * self.count
    }
}

/// A structure, by its bytes.
pub(super) struct Tiff<B> {
    bytes: B,
    little: bool,
}

impl<B: AsRef<[u8]>> Tiff<B> {
    /// By its header; none when it has none.
    pub(super) fn open(bytes: B) -> Option<Self> {
        let little = match bytes.as_ref().get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Self { bytes, little })
    }

    fn number(&self, at: usize, size: usize) -> Option<usize> {
        let bytes = self.bytes.as_ref().get(at..at.checked_add(size)?)?;
        let add = |n: usize, b: &u8| n << 8 | usize::from(*b);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    /// Every directory that can be reached, and whether that is all there are.
    fn directories(&self) -> (Vec<Directory>, bool) {
        let (mut out, mut queue, mut whole): (Vec<Directory>, _, _) = (Vec::new(), Vec::new(), true);
        queue.extend(self.number(4, 4).map(|first| (first, Context::Tiff)));
        while let Some((at, context)) = queue.pop() {
            if let Some(known) = out.iter().find(|known| known.at == at) {
                whole &= known.context == context;
                continue;
            }
            let count = self.number(at, 2);
            let directory = count.map(|count| Directory { at, count, context });
            let fits = |directory: &Directory| directory.end() <= self.bytes.as_ref().len();
            let Some(directory) = directory.filter(|directory| fits(directory) && out.len() < MAX_DIRECTORIES) else {
                whole = false;
                continue;
            };
            if context == Context::Tiff {
                queue.extend(self.number(directory.end(), 4).filter(|next| *next != 0).map(|next| (next, context)));
            }
            for entry in self.entries(&directory) {
                let Some((_, leads_to)) = POINTERS.iter().find(|(pointer, _)| *pointer == entry.tag) else { continue };
                let width = size_of(entry.kind).max(1);
                for n in 0..entry.values.min(MAX_DIRECTORIES) {
                    if queue.len() > 2 * MAX_DIRECTORIES {
                        whole = false;
                        break;
                    }
                    match self.number(entry.data + width * n, width) {
                        Some(to) => queue.push((to, *leads_to)),
                        None => whole = false,
                    }
                }
            }
            out.push(directory);
        }
        (out, whole)
    }

    fn entries(&self, directory: &Directory) -> Vec<Entry> {
        let each = |at: usize| {
            let field = |offset, size| self.number(at + offset, size).unwrap_or(0);
            let (tag, kind, values) = (field(0, 2) as u16, field(2, 2), field(4, 4));
            let size = size_of(kind).saturating_mul(values);
            let data = if size <= 4 { at + 8 } else { field(8, 4) };
            Entry { at, tag, kind, values, size, data }
        };
        (directory.at + 2..directory.end()).step_by(12).map(each).collect()
    }

    /// Bytes of all values, as the directories claim: whoever reads them copies so much.
    pub(super) fn weight(&self) -> usize {
        let (directories, _) = self.directories();
        let entries = directories.iter().flat_map(|directory| self.entries(directory));
        entries.fold(0, |sum: usize, entry| sum.saturating_add(entry.size))
    }

    /// Whether any directory has one of these tags.
    pub(super) fn has(&self, tags: &[u16]) -> bool {
        let (directories, _) = self.directories();
        directories.iter().any(|directory| self.entries(directory).iter().any(|entry| tags.contains(&entry.tag)))
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Tiff<B> {
    /// Takes entries out of their directories, and blanks their values. False when there may be more that could not be reached.
    pub(super) fn remove(&mut self, goes: &dyn Fn(Tag) -> bool) -> bool {
        let (directories, mut whole) = self.directories();
        // From the inside out: a pointer goes once that which it leads to has gone.
        for directory in directories.iter().rev() {
            whole &= self.thin_out(directory, goes);
        }
        whole
    }

    fn thin_out(&mut self, directory: &Directory, goes: &dyn Fn(Tag) -> bool) -> bool {
        let (mut kept, mut whole) = (Vec::new(), true);
        for entry in self.entries(directory) {
            if !goes(Tag(directory.context, entry.tag)) {
                kept.extend_from_slice(&self.bytes.as_ref()[entry.at..entry.at + 12]);
            } else if entry.size > 4 {
                let end = entry.data.checked_add(entry.size);
                match end.and_then(|end| self.bytes.as_mut().get_mut(entry.data..end)) {
                    Some(data) => data.fill(0),
                    None => whole = false,
                }
            }
        }
        let left = kept.len() / 12;
        if left == directory.count {
            return whole;
        }
        let next = match directory.context {
            Context::Tiff => self.bytes.as_ref().get(directory.end()..directory.end() + 4).map(<[u8]>::to_vec),
            _ => None,
        };
        let size = 2 + 12 * directory.count + next.as_ref().map_or(0, Vec::len);
        // Within bounds: directories end within the structure, and so does the pointer to the next where there is one.
        let target = &mut self.bytes.as_mut()[directory.at..directory.at + size];
        target.fill(0);
        let number = left as u16;
        target[..2].copy_from_slice(&if self.little { number.to_le_bytes() } else { number.to_be_bytes() });
        target[2..2 + kept.len()].copy_from_slice(&kept);
        if let Some(next) = next {
            target[2 + kept.len()..][..next.len()].copy_from_slice(&next);
        }
        whole
    }
}

/// One entry of a directory.
struct Entry {
    at: usize,
    tag: u16,
    kind: usize,
    values: usize,
    size: usize,
    /// Where the values are.
    data: usize,
}

/// Bytes of one value of a type.
fn size_of(kind: usize) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 => 8,
        _ => 0,
    }
}
