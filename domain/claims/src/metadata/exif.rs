//! EXIF (CIPA DC-008), under the names that XMP gives its tags.

use super::{
    Properties, clean,
    redact::all,
    tiff::{GPS, Tiff},
};
use crate::{
    guard::{ReadSeek, find},
    media::Media,
};
use exif::{Context, Exif, In, Tag, Value};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Cursor, Seek},
    ops::Range,
};

/// What values of a block may hold together beyond its length, where small ones share their place.
const SHARED: usize = 64 << 10;
/// EXIF blocks of one file.
const MAX_BLOCKS: usize = 64;
/// Whatever a maker puts there, serial numbers and places among it: `MakerNote`, and DNG's copy of it.
const MAKER_NOTES: [u16; 2] = [0x927c, 0xc634];
/// `CameraSerialNumber` of DNG.
const DNG_SERIAL: u16 = 0xc62f;
/// Windows' own tags, in UTF-16.
const WINDOWS: [(u16, &str); 5] =
    [(0x9c9b, "Title"), (0x9c9c, "Comment"), (0x9c9d, "Author"), (0x9c9e, "Keywords"), (0x9c9f, "Subject")];
const USER_COMMENT: u16 = 0x9286;

fn is_tiff(media: Media) -> bool {
    matches!(media.mime, "image/tiff" | "image/x-adobe-dng")
}

/// The EXIF of a container, unless its directories claim more than there is.
fn open<R: BufRead + Seek>(source: &mut R) -> Option<Exif> {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let exif = match reader.read_from_container(source) {
        Ok(exif) => exif,
        Err(exif::Error::PartialResult(partial)) => partial.into_inner().0,
        Err(_) => return None,
    };
    // Whoever reads the values copies as much as they claim.
    Tiff::open(exif.buf()).filter(|tiff| tiff.weight() <= exif.buf().len() + SHARED)?;
    Some(exif)
}

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
    let Some(exif) = open(&mut BufReader::new(source)) else { return (out, 1) };
    for field in exif.fields().filter(|f| f.ifd_num == In::PRIMARY).take(300) {
        // Tags without a name, pointers and binary blobs say nothing to a reader.
        let Some(name) = name(field.tag) else { continue };
        let text = match &field.value {
            Value::Undefined(bytes, _) if field.tag.number() == USER_COMMENT => comment(bytes, exif.little_endian()),
            Value::Byte(bytes) if name.starts_with("xp:") => Some(utf16(bytes, true)),
            value => text(value),
        };
        if let Some(text) = text.as_deref().and_then(clean) {
            out.insert(name, text);
        }
    }
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0)).unwrap_or(1);
    (out, u16::try_from(orientation).ok().filter(|o| (1..=8).contains(o)).unwrap_or(1))
}

/// A comment, by the code at its beginning (CIPA DC-008 §4.6.5).
fn comment(bytes: &[u8], little: bool) -> Option<String> {
    let (code, text) = bytes.split_at_checked(8)?;
    Some(if code == b"UNICODE\0" { utf16(text, little) } else { String::from_utf8_lossy(text).into_owned() })
}

fn utf16(bytes: &[u8], little: bool) -> String {
    let unit = |pair: &[u8]| if little { u16::from_le_bytes([pair[0], pair[1]]) } else { u16::from_be_bytes([pair[0], pair[1]]) };
    let units: Vec<u16> = bytes.chunks_exact(2).map(unit).take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// The XMP name of a tag, if it has one.
fn name(tag: Tag) -> Option<String> {
    if let Some((_, name)) = WINDOWS.iter().find(|(number, _)| *number == tag.number()) {
        return Some(format!("xp:{name}"));
    }
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

/// Takes properties out of every EXIF block; all of GPS when any of it is asked for, and maker's notes always. False when there may
/// be more that could not be reached.
pub(super) fn remove(media: Media, bytes: &mut [u8], names: &BTreeSet<String>) -> bool {
    // Raw photographs need their maker's notes to be developed.
    if is_tiff(media) && Tiff::open(&*bytes).is_some_and(|tiff| tiff.has(&MAKER_NOTES)) {
        return false;
    }
    let gps = names.iter().any(|name| name.starts_with("exif:GPS"));
    let serials = names.iter().any(|name| name.ends_with("SerialNumber"));
    let goes = |tag: Tag| {
        (gps && (tag.context() == Context::Gps || tag.number() == GPS))
            || MAKER_NOTES.contains(&tag.number())
            || (serials && tag.number() == DNG_SERIAL)
            || name(tag).is_some_and(|name| names.contains(&name))
    };
    let places = blocks(media, bytes);
    let mut whole = places.len() <= MAX_BLOCKS;
    for place in places {
        if let Some(mut tiff) = bytes.get_mut(place).and_then(Tiff::open) {
            whole &= tiff.remove(&goes);
        }
    }
    whole
}

/// Where EXIF blocks stand, within the bounds that their container gives them; one more than there may be at most.
fn blocks(media: Media, bytes: &[u8]) -> Vec<Range<usize>> {
    if is_tiff(media) {
        return std::iter::once(0..bytes.len()).collect();
    }
    let mut out: Vec<Range<usize>> = Vec::new();
    if media.mime == "image/jpeg" {
        // Of pictures within the picture, too.
        for at in all(bytes, b"Exif\0\0").filter(|at| *at >= 4) {
            let (marker, length) = (&bytes[at - 4..at - 2], usize::from(u16::from_be_bytes([bytes[at - 2], bytes[at - 1]])));
            let block = at + 6..at - 2 + length;
            let fits = marker == [0xff, 0xe1] && length >= 8 && block.end <= bytes.len();
            if fits && out.last().is_none_or(|last| block.start >= last.end) && out.len() <= MAX_BLOCKS {
                out.push(block);
            }
        }
        return out;
    }
    let block = open(&mut Cursor::new(bytes)).and_then(|exif| {
        let start = find(bytes, exif.buf())?;
        Some(start..start + exif.buf().len())
    });
    out.extend(block);
    out
}
