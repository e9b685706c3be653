//! EXIF (CIPA DC-008), under the names that XMP gives its tags.

use super::{Properties, clean, redact::all};
use crate::{guard::ReadSeek, media::Media};
use exif::{Context, In, Tag, Value};
use std::{collections::BTreeSet, io::BufReader};

/// Directories of one block that are looked at.
const MAX_DIRECTORIES: usize = 64;
/// How far from its beginning an EXIF block reaches, where its container does not say.
const REACH: usize = 1 << 20;
/// Pointers to other directories, and what those mean.
const POINTERS: [(u16, Context); 4] =
    [(0x8769, Context::Exif), (0x8825, Context::Gps), (0xa005, Context::Interop), (0x014a, Context::Tiff)];
const GPS: u16 = 0x8825;
/// Whatever a maker puts there, serial numbers and places among it.
const MAKER_NOTE: u16 = 0x927c;
/// `CameraSerialNumber` of DNG.
const DNG_SERIAL: u16 = 0xc62f;

/// Reads EXIF and the orientation.
pub(super) fn read(media: Media, source: &mut dyn ReadSeek) -> (Properties, u16) {
    let mut out = Properties::new();
    let supported = matches!(
        media.mime,
        "image/jpeg"
            | "image/png"
            | "image/webp"
            | "image/tiff"
            | "image/x-adobe-dng"
            | "image/heic"
            | "image/heif"
            | "image/avif"
    );
    if !supported || source.rewind().is_err() {
        return (out, 1);
    }
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let exif = match reader.read_from_container(&mut BufReader::new(source)) {
        Ok(exif) => exif,
        Err(exif::Error::PartialResult(partial)) => partial.into_inner().0,
        Err(_) => return (out, 1),
    };
    for field in exif.fields().filter(|f| f.ifd_num == In::PRIMARY).take(300) {
        // Tags without a name, pointers and binary blobs say nothing to a reader.
        let Some(name) = name(field.tag).filter(|_| !matches!(field.value, Value::Undefined(..) | Value::Unknown(..))) else {
            continue;
        };
        if let Some(text) = text(&field.value).as_deref().and_then(clean) {
            out.insert(name, text);
        }
    }
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0)).unwrap_or(1);
    (out, u16::try_from(orientation).ok().filter(|o| (1..=8).contains(o)).unwrap_or(1))
}

/// The XMP name of a tag, if it has one.
fn name(tag: Tag) -> Option<String> {
    let prefix = match tag.context() {
        Context::Tiff => "tiff",
        Context::Exif if is_exif_ex(tag) => "exifEX",
        Context::Exif | Context::Gps => "exif",
        _ => return None,
    };
    tag.description().map(|_| format!("{prefix}:{tag}"))
}

/// Tags that XMP keeps in the Exif 2.21-or-later namespace.
fn is_exif_ex(tag: Tag) -> bool {
    [
        Tag::PhotographicSensitivity,
        Tag::CameraOwnerName,
        Tag::BodySerialNumber,
        Tag::LensSpecification,
        Tag::LensMake,
        Tag::LensModel,
        Tag::LensSerialNumber,
    ]
    .contains(&tag)
}

fn text(value: &Value) -> Option<String> {
    fn join<T>(list: &[T], each: impl Fn(&T) -> String) -> Option<String> {
        (!list.is_empty() && list.len() <= 16).then(|| list.iter().map(each).collect::<Vec<_>>().join(", "))
    }
    match value {
        Value::Ascii(lines) => join(lines, |l| String::from_utf8_lossy(l).into_owned()),
        Value::Byte(v) => join(v, u8::to_string),
        Value::Short(v) => join(v, u16::to_string),
        Value::Long(v) => join(v, u32::to_string),
        Value::SShort(v) => join(v, i16::to_string),
        Value::SLong(v) => join(v, i32::to_string),
        Value::Rational(v) => join(v, |r| format!("{}/{}", r.num, r.denom)),
        Value::SRational(v) => join(v, |r| format!("{}/{}", r.num, r.denom)),
        _ => None,
    }
}

/// Takes properties out of every EXIF block; all of GPS when any of it is asked for, and maker's notes always.
pub(super) fn remove(media: Media, bytes: &mut [u8], names: &BTreeSet<String>) {
    let blocks: BTreeSet<usize> = if matches!(media.mime, "image/tiff" | "image/x-adobe-dng") {
        [0].into()
    } else {
        // Directories begin right after the header nearly always; those that do not follow the marker of JPEG.
        let headers = [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"].into_iter().flat_map(|header| all(bytes, header));
        headers.chain(all(bytes, b"Exif\0\0").into_iter().map(|at| at + 6)).collect()
    };
    let whole = matches!(media.mime, "image/tiff" | "image/x-adobe-dng");
    for start in blocks {
        let end = if whole { bytes.len() } else { bytes.len().min(start.saturating_add(REACH)) };
        if let Some(block) = bytes.get_mut(start..end) {
            Block::open(block).into_iter().for_each(|mut block| block.remove(names));
        }
    }
}

/// A TIFF structure (TIFF 6.0 §2).
struct Block<'a> {
    bytes: &'a mut [u8],
    little: bool,
}

impl<'a> Block<'a> {
    fn open(bytes: &'a mut [u8]) -> Option<Self> {
        let little = match bytes.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Self { bytes, little })
    }

    fn number(&self, at: usize, size: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let add = |n: usize, b: &u8| n << 8 | usize::from(*b);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    fn remove(&mut self, names: &BTreeSet<String>) {
        let places = names.iter().any(|name| name.starts_with("exif:GPS"));
        let serials = names.iter().any(|name| name.ends_with("SerialNumber"));
        let goes = |context: Context, number: u16| {
            (places && (context == Context::Gps || number == GPS))
                || number == MAKER_NOTE
                || (serials && number == DNG_SERIAL)
                || name(Tag(context, number)).is_some_and(|name| names.contains(&name))
        };
        let (mut seen, mut queue) = (BTreeSet::new(), Vec::new());
        queue.extend(self.number(4, 4).map(|first| (first, Context::Tiff)));
        while let Some((at, context)) = queue.pop() {
            if seen.len() >= MAX_DIRECTORIES || !seen.insert(at) {
                continue;
            }
            self.thin_out(at, context, &goes, &mut queue);
        }
    }

    /// Removes entries of one directory, and notes others that it leads to.
    fn thin_out(&mut self, at: usize, context: Context, goes: &impl Fn(Context, u16) -> bool, queue: &mut Vec<(usize, Context)>) {
        let Some(count) = self.number(at, 2).filter(|count| *count > 0) else { return };
        let Some(end) = at.checked_add(2 + 12 * count).filter(|end| end + 4 <= self.bytes.len()) else { return };
        if let Some(next) = self.number(end, 4).filter(|next| *next != 0 && context == Context::Tiff) {
            queue.push((next, context));
        }
        let mut kept: Vec<u8> = Vec::with_capacity(end - at);
        for entry in (at + 2..end).step_by(12) {
            // Within bounds: the directory is.
            let field = |offset, size| self.number(entry + offset, size).unwrap_or(0);
            let (tag, kind, values, value) = (field(0, 2) as u16, field(2, 2), field(4, 4), field(8, 4));
            let size = size_of(kind).saturating_mul(values);
            if let Some((_, leads_to)) = POINTERS.iter().find(|(pointer, _)| *pointer == tag) {
                match values {
                    1 => queue.push((value, *leads_to)),
                    _ => {
                        let each = (0..values.min(MAX_DIRECTORIES)).filter_map(|n| self.number(value.checked_add(4 * n)?, 4));
                        queue.extend(each.map(|at| (at, *leads_to)));
                    }
                }
            }
            if !goes(context, tag) {
                kept.extend_from_slice(&self.bytes[entry..entry + 12]);
            } else if size > 4
                && let Some(data) = value.checked_add(size).and_then(|end| self.bytes.get_mut(value..end))
            {
                data.fill(0);
            }
        }
        let left = kept.len() / 12;
        if left == count {
            return;
        }
        let next: [u8; 4] = [self.bytes[end], self.bytes[end + 1], self.bytes[end + 2], self.bytes[end + 3]];
        let directory = &mut self.bytes[at..end + 4];
        directory.fill(0);
        let number = left as u16;
        directory[..2].copy_from_slice(&if self.little { number.to_le_bytes() } else { number.to_be_bytes() });
        directory[2..2 + kept.len()].copy_from_slice(&kept);
        directory[2 + kept.len()..][..4].copy_from_slice(&next);
    }
}

/// Bytes of one value of a type (TIFF 6.0 §2).
fn size_of(kind: usize) -> usize {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 => 8,
        _ => 0,
    }
}
