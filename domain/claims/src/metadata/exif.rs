//! EXIF (CIPA DC-008), under the names that XMP gives its tags.

use super::{Properties, clean};
use crate::{guard::ReadSeek, media::Media};
use exif::{Context, In, Tag, Value};
use std::io::BufReader;

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
        let prefix = match field.tag.context() {
            Context::Tiff => "tiff",
            Context::Exif if is_exif_ex(field.tag) => "exifEX",
            Context::Exif | Context::Gps => "exif",
            _ => continue,
        };
        // Tags without a name, pointers and binary blobs say nothing to a reader.
        if field.tag.description().is_none() || matches!(field.value, Value::Undefined(..) | Value::Unknown(..)) {
            continue;
        }
        if let Some(text) = text(&field.value).as_deref().and_then(clean) {
            out.insert(format!("{prefix}:{}", field.tag), text);
        }
    }
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0)).unwrap_or(1);
    (out, u16::try_from(orientation).ok().filter(|o| (1..=8).contains(o)).unwrap_or(1))
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
