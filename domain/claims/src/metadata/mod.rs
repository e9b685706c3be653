//! What content says about itself: technical facts, EXIF, XMP and IPTC, and the personal data among them.

mod exif;
mod iptc;
mod quicktime;
pub mod redact;
mod tags;
pub mod technical;
mod tiff;
mod xmp;

use crate::{
    definition::MetadataInclusion,
    engine::PlannedAssertion,
    guard::ReadSeek,
    media::{Embedding, Media},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, io::Read};

/// Beyond this many bytes only technical facts are read.
const MAX_SCANNED: u64 = 64 << 20;
const MAX_VALUE: usize = 4096;

/// Properties by qualified name, such as `exif:ExposureTime`.
pub type Properties = BTreeMap<String, String>;

/// A kind of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PiiKind {
    /// Where it was made.
    Gps,
    /// Which device made it.
    SerialNumber,
    /// An e-mail address.
    Email,
}

/// Personal data found. The value itself is not repeated here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pii {
    /// What it is.
    pub kind: PiiKind,
    /// Where: `exif`, `xmp`, `iptc` or `tags`.
    pub source: String,
    /// The property.
    pub property: String,
}

/// Everything found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Extracted {
    /// Dimensions, duration, codecs.
    pub technical: technical::Technical,
    /// EXIF, under XMP's names for it.
    pub exif: Properties,
    /// XMP.
    pub xmp: Properties,
    /// IPTC-IIM, under the names of the IPTC photo metadata standard in XMP.
    pub iptc: Properties,
    /// What the container says in words of its own, such as ID3, under XMP's names where it has them.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub tags: Properties,
    /// Whether all metadata was read that the content may have; nothing for records from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<bool>,
    /// Personal data among them.
    pub pii: Vec<Pii>,
    /// EXIF orientation, 1 to 8.
    pub orientation: u16,
    /// The content has a manifest already, of whoever made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_manifest: bool,
}

impl Extracted {
    /// Whether all metadata was read that content of this type and size may have. Where it was not, what is found is not all there is.
    pub fn is_read(&self, mime: &str, size: u64) -> bool {
        self.read.unwrap_or_else(|| reads(mime, size) && !mime.starts_with("audio/"))
    }
}

/// Whether the metadata of content of this type and size is read.
fn reads(mime: &str, size: u64) -> bool {
    match mime {
        // They have none.
        "text/plain" | "image/bmp" => true,
        // Formats that may have metadata which is not looked for, and what is no known format.
        "application/pdf" | "application/zip" | "audio/ogg" | "video/x-matroska" | "application/octet-stream" => false,
        _ => size <= MAX_SCANNED,
    }
}

/// Reads everything. Broken metadata is left out, never an error.
pub fn extract(media: Media, size: u64, source: &mut dyn ReadSeek) -> Extracted {
    let mut out = Extracted { technical: technical::read(media, source), orientation: 1, ..Default::default() };
    // Of BigTIFF and the largest waves nothing is read.
    let opaque = media.embedding == Embedding::Sidecar && matches!(media.mime, "image/tiff" | "audio/wav");
    let mut whole = reads(media.mime, size) && !opaque;
    let kind = media.mime.split('/').next().unwrap_or_default();
    if whole && matches!(kind, "image" | "video" | "audio") {
        let exif = exif::read(media, source);
        out.exif = exif.properties;
        out.orientation = exif.orientation;
        out.iptc = iptc::read_blocks(&exif.iptc);
        out.xmp = xmp::scan(source);
        if media.mime == "image/jpeg" {
            out.iptc = head(source).map(|head| iptc::read(&head)).unwrap_or_default();
        }
        let (tags, all) = tags::read(media, source);
        out.tags = tags;
        whole = all && !(media.mime == "image/jxl" && technical::has_compressed_boxes(source));
    }
    out.read = Some(whole);
    let mut pii: Vec<Pii> = out
        .sources()
        .into_iter()
        .flat_map(|(source, properties)| {
            properties.iter().filter_map(move |(name, value)| {
                pii_kind(name, value).map(|kind| Pii { kind, source: source.to_owned(), property: name.clone() })
            })
        })
        .collect();
    pii.sort();
    out.pii = pii;
    out
}

impl Extracted {
    /// All properties, by the name of their source.
    pub fn sources(&self) -> [(&'static str, &Properties); 4] {
        [("exif", &self.exif), ("xmp", &self.xmp), ("iptc", &self.iptc), ("tags", &self.tags)]
    }
}

/// The beginning of the content, where a JPEG's segments stand.
fn head(source: &mut dyn ReadSeek) -> Option<Vec<u8>> {
    const HEAD: u64 = 4 << 20;
    let mut bytes = Vec::new();
    source.rewind().ok()?;
    (&mut *source).take(HEAD).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn pii_kind(name: &str, value: &str) -> Option<PiiKind> {
    let local = name.rsplit(':').next().unwrap_or(name);
    let lower = local.to_ascii_lowercase();
    if lower.starts_with("gps") || lower.contains("latitude") || lower.contains("longitude") {
        Some(PiiKind::Gps)
    } else if lower.contains("serialnumber") || lower == "imageuniqueid" {
        Some(PiiKind::SerialNumber)
    } else if lower.contains("email") || has_email(value) {
        Some(PiiKind::Email)
    } else {
        None
    }
}

/// Something like `name@host.tld` within the text.
fn has_email(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '%');
    text.match_indices('@').any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(word);
        let host: String = text[at + 1..].chars().take_while(|c| word(*c)).collect();
        before && host.trim_end_matches('.').rsplit_once('.').is_some_and(|(name, tld)| !name.is_empty() && tld.len() >= 2)
    })
}

/// XMP namespaces that we read and write.
const NAMESPACES: &[(&str, &str)] = &[
    ("dc", "http://purl.org/dc/elements/1.1/"),
    ("xmp", "http://ns.adobe.com/xap/1.0/"),
    ("xmpMM", "http://ns.adobe.com/xap/1.0/mm/"),
    ("xmpRights", "http://ns.adobe.com/xap/1.0/rights/"),
    ("photoshop", "http://ns.adobe.com/photoshop/1.0/"),
    ("tiff", "http://ns.adobe.com/tiff/1.0/"),
    ("exif", "http://ns.adobe.com/exif/1.0/"),
    ("exifEX", "http://cipa.jp/exif/1.0/"),
    ("aux", "http://ns.adobe.com/exif/1.0/aux/"),
    ("Iptc4xmpCore", "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"),
    ("Iptc4xmpExt", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"),
    ("plus", "http://ns.useplus.org/ldf/xmp/1.0/"),
];

/// The namespace of moving pictures and sound, whose structures are not read from XMP.
const DYNAMIC_MEDIA: (&str, &str) = ("xmpDM", "http://ns.adobe.com/xmp/1.0/DynamicMedia/");
const DURATION: &str = "xmpDM:duration";

/// The namespace of a name, if it is one that we write.
fn namespace(name: &str) -> Option<&'static (&'static str, &'static str)> {
    let prefix = name.split(':').next();
    NAMESPACES.iter().chain([&DYNAMIC_MEDIA]).find(|(known, _)| prefix == Some(*known))
}

fn prefix_of(uri: &str) -> Option<&'static str> {
    NAMESPACES.iter().find(|(_, known)| *known == uri).map(|(prefix, _)| *prefix)
}

/// The metadata as assertions: `c2pa.metadata` for what its schema allows, `cawg.metadata` for the rest.
pub fn assertions(extracted: &Extracted, inclusion: MetadataInclusion) -> Vec<PlannedAssertion> {
    if inclusion == MetadataInclusion::None {
        return Vec::new();
    }
    // What is said later counts; what the platform measured counts least, since the content's maker knows better what it means.
    let mut all = measured(&extracted.technical);
    let sources = [("tags", &extracted.tags), ("exif", &extracted.exif), ("iptc", &extracted.iptc), ("xmp", &extracted.xmp)];
    for (source, properties) in sources {
        for (name, value) in properties {
            let personal = extracted.pii.iter().any(|p| p.source == source && p.property == *name);
            // Names without a namespace of ours have no place in a context.
            if namespace(name).is_some() && (inclusion == MetadataInclusion::All || !personal) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    let (standard, other): (Properties, Properties) = all.into_iter().partition(|(name, value)| is_c2pa_field(name, value));
    [("c2pa.metadata", standard), ("cawg.metadata", other)]
        .into_iter()
        .filter(|(_, properties)| !properties.is_empty())
        .map(|(label, properties)| PlannedAssertion {
            label: label.into(),
            data: json_ld(&properties),
            json: true,
            created: true,
        })
        .collect()
}

/// Technical facts under the names that XMP has for them.
fn measured(technical: &technical::Technical) -> Properties {
    // Codes of sample entries that are sound, where a container has both.
    const SOUND: [&str; 12] = ["mp4a", "ac-3", "ec-3", "ac-4", "Opus", "fLaC", "alac", "sowt", "twos", "lpcm", "samr", ".mp3"];
    let mut out = Properties::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.entry(name.to_owned()).or_insert(value);
        }
    };
    let moving = technical.duration_seconds.is_some() || !technical.codecs.is_empty();
    let names = if moving { ["tiff:ImageWidth", "tiff:ImageLength"] } else { ["exif:PixelXDimension", "exif:PixelYDimension"] };
    put(names[0], technical.width.map(|n| n.to_string()));
    put(names[1], technical.height.map(|n| n.to_string()));
    put(DURATION, technical.duration_seconds.map(|seconds| format!("{seconds:.3}")));
    for codec in &technical.codecs {
        let sound = technical.width.is_none() || SOUND.contains(&codec.as_str());
        put(if sound { "xmpDM:audioCompressor" } else { "xmpDM:videoCompressor" }, Some(codec.clone()));
    }
    put("xmpDM:audioSampleRate", technical.sample_rate.map(|n| n.to_string()));
    let channels = match technical.channels {
        Some(1) => Some("Mono"),
        Some(2) => Some("Stereo"),
        Some(6) => Some("5.1"),
        Some(8) => Some("7.1"),
        _ => None,
    };
    put("xmpDM:audioChannelType", channels.map(str::to_owned));
    out
}

/// A value as JSON-LD: of durations, XMP's structure of a count and the seconds that it counts.
fn value_of(name: &str, value: &str) -> Value {
    match value.parse::<f64>() {
        Ok(seconds) if name == DURATION => {
            json!({ "xmpDM:value": format!("{:.0}", seconds * 1000.0), "xmpDM:scale": "1/1000" })
        }
        _ => json!(value),
    }
}

fn json_ld(properties: &Properties) -> Value {
    let mut context = Map::new();
    for name in properties.keys() {
        if let Some((prefix, uri)) = namespace(name) {
            context.insert((*prefix).to_owned(), json!(uri));
        }
    }
    let mut out = Map::from_iter([("@context".to_owned(), Value::Object(context))]);
    out.extend(properties.iter().map(|(name, value)| (name.clone(), value_of(name, value))));
    Value::Object(out)
}

/// Whether `c2pa.metadata` may carry the field (C2PA 2.2 annex B): the engine knows the list.
fn is_c2pa_field(name: &str, value: &str) -> bool {
    let one = Properties::from([(name.to_owned(), value.to_owned())]);
    c2pa::assertions::Metadata::new("c2pa.metadata", &json_ld(&one).to_string()).is_ok_and(|m| m.is_valid())
}

/// Adds a value; several of one property are one value, separated by semicolons, up to the bound.
fn append(out: &mut Properties, name: String, value: String) {
    match out.get_mut(&name) {
        Some(existing) if existing.len() + value.len() < MAX_VALUE => {
            existing.push_str("; ");
            existing.push_str(&value);
        }
        Some(_) => {}
        None => drop(out.insert(name, value)),
    }
}

/// Keeps a value within bounds and free of control characters.
fn clean(value: &str) -> Option<String> {
    let text: String = value.chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod format_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_recognised() {
        assert_eq!(pii_kind("exif:GPSLatitude", "1"), Some(PiiKind::Gps));
        assert_eq!(pii_kind("exifEX:BodySerialNumber", "1"), Some(PiiKind::SerialNumber));
        assert_eq!(pii_kind("aux:SerialNumber", "1"), Some(PiiKind::SerialNumber));
        assert_eq!(pii_kind("dc:creator", "Ann <ann@example.org>"), Some(PiiKind::Email));
        assert_eq!(pii_kind("dc:creator", "Ann @ Example"), None);
        assert_eq!(pii_kind("dc:title", "meet@dawn"), None);
        assert_eq!(pii_kind("tiff:Model", "X100"), None);
    }

    #[test]
    fn personal_data_stays_out_unless_asked_for() {
        let extracted = Extracted {
            exif: Properties::from([("exif:GPSLatitude".into(), "52,3N".into()), ("exif:ExposureTime".into(), "1/60".into())]),
            xmp: Properties::from([("dc:title".into(), "A title".into())]),
            pii: vec![Pii { kind: PiiKind::Gps, source: "exif".into(), property: "exif:GPSLatitude".into() }],
            ..Default::default()
        };
        let text = |inclusion| {
            let all: Vec<_> = assertions(&extracted, inclusion).iter().map(|a| format!("{} {}", a.label, a.data)).collect();
            all.join("\n")
        };
        let safe = text(MetadataInclusion::Safe);
        assert!(safe.contains("exif:ExposureTime") && safe.contains("dc:title") && !safe.contains("GPS"), "{safe}");
        assert!(text(MetadataInclusion::All).contains("exif:GPSLatitude"));
        assert!(text(MetadataInclusion::None).is_empty());
    }
}
