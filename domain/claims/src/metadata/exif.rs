//! EXIF (CIPA DC-008), under the names that XMP gives its tags.

use super::{
    Properties, clean,
    redact::all,
    technical::{boxes, read_box},
    tiff::{GPS, Tiff},
};
use crate::{
    guard::{ReadSeek, find},
    media::Media,
};
use exif::{Context, Exif, In, Tag, Value};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Cursor, Seek, SeekFrom},
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
/// IPTC-IIM by itself, and Photoshop's image resources (TIFF technical note 3 of Photoshop).
const IPTC_TAGS: [u16; 2] = [0x83bb, 0x8649];

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

/// What EXIF gives.
#[derive(Default)]
pub(super) struct Found {
    pub(super) properties: Properties,
    pub(super) orientation: u16,
    /// IPTC-IIM in a TIFF directory, bare or as an image resource of Photoshop.
    pub(super) iptc: Vec<Vec<u8>>,
}

/// Reads EXIF and the orientation.
pub(super) fn read(media: Media, source: &mut dyn ReadSeek) -> Found {
    let mut out = Found { orientation: 1, ..Found::default() };
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
            | "image/jxl"
    );
    if !supported || source.rewind().is_err() {
        return out;
    }
    let found = if media.mime == "image/jxl" { open_box(source) } else { open(&mut BufReader::new(source)) };
    let Some(exif) = found else { return out };
    for field in exif.fields().filter(|f| f.ifd_num == In::PRIMARY).take(300) {
        // Tags without a name, pointers and binary blobs say nothing to a reader.
        let Some(name) = name(field.tag) else { continue };
        let text = match &field.value {
            Value::Undefined(bytes, _) if field.tag.number() == USER_COMMENT => comment(bytes, exif.little_endian()),
            Value::Byte(bytes) if name.starts_with("xp:") => Some(utf16(bytes, true)),
            value => text(value),
        };
        if let Some(text) = text.as_deref().and_then(clean) {
            out.properties.insert(name, text);
        }
    }
    if is_tiff(media) {
        let block = |number: u16| exif.get_field(Tag(Context::Tiff, number), In::PRIMARY);
        out.iptc = IPTC_TAGS.iter().filter_map(|number| raw(&block(*number)?.value, exif.little_endian())).collect();
    }
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0)).unwrap_or(1);
    out.orientation = u16::try_from(orientation).ok().filter(|o| (1..=8).contains(o)).unwrap_or(1);
    out
}

/// The EXIF of a JPEG XL container: after an offset, in a box of its own (ISO/IEC 18181-2 §9.2).
fn open_box(source: &mut dyn ReadSeek) -> Option<Exif> {
    const MAX: u64 = 4 << 20;
    let end = source.seek(SeekFrom::End(0)).ok()?;
    let found = boxes(source, 0, end).into_iter().find(|b| &b.kind == b"Exif")?;
    let body = read_box(source, &found, MAX);
    let (offset, block) = body.split_first_chunk::<4>()?;
    let block = block.get(u32::from_be_bytes(*offset) as usize..)?;
    Tiff::open(block).filter(|tiff| tiff.weight() <= block.len() + SHARED)?;
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    match reader.read_raw(block.to_vec()) {
        Ok(exif) => Some(exif),
        Err(exif::Error::PartialResult(partial)) => Some(partial.into_inner().0),
        Err(_) => None,
    }
}

/// The bytes of a value; the IPTC tag is often said to be of numbers.
fn raw(value: &Value, little: bool) -> Option<Vec<u8>> {
    match value {
        Value::Byte(bytes) | Value::Undefined(bytes, _) => Some(bytes.clone()),
        Value::Long(numbers) => {
            Some(numbers.iter().flat_map(|n| if little { n.to_le_bytes() } else { n.to_be_bytes() }).collect())
        }
        _ => None,
    }
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
