//! Taking properties out of content in place: what they say is blanked or leaves its directory, and nothing else moves, so that
//! every container stays whole. What cannot be reached so (compressed metadata) is left; whoever asks looks again afterwards.

use super::{exif, iptc, xmp};
use crate::{guard::find, media::Media};
use std::{collections::BTreeSet, ops::Range};

/// The properties to take out, by the source that [`super::extract`] found them in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyNames {
    /// EXIF.
    pub exif: BTreeSet<String>,
    /// XMP.
    pub xmp: BTreeSet<String>,
    /// IPTC-IIM.
    pub iptc: BTreeSet<String>,
    /// The container's own words, none of which can be taken out.
    pub tags: BTreeSet<String>,
}

impl PropertyNames {
    /// Adds a property of a source: `exif`, `xmp`, `iptc` or `tags`; false when there is no such source.
    pub fn add(&mut self, source: &str, name: &str) -> bool {
        match source {
            "exif" => self.exif.insert(name.to_owned()),
            "xmp" => self.xmp.insert(name.to_owned()),
            "iptc" => self.iptc.insert(name.to_owned()),
            "tags" => self.tags.insert(name.to_owned()),
            _ => return false,
        };
        true
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.exif.is_empty() && self.xmp.is_empty() && self.iptc.is_empty() && self.tags.is_empty()
    }
}

/// Blanks these properties wherever they stand. False when there may be more that could not be reached.
pub fn redact(media: Media, bytes: &mut [u8], properties: &PropertyNames) -> bool {
    let whole = properties.exif.is_empty() || exif::remove(media, bytes, &properties.exif);
    let mut blank: Vec<Range<usize>> = Vec::new();
    if !properties.xmp.is_empty() {
        blank.extend(xmp::places(bytes, &properties.xmp));
    }
    if !properties.iptc.is_empty() {
        blank.extend(iptc::places(bytes, &properties.iptc));
    }
    for place in blank {
        if let Some(bytes) = bytes.get_mut(place) {
            bytes.fill(b' ');
        }
    }
    if media.mime == "image/png" {
        mend_png(bytes);
    }
    whole
}

/// Every place of a pattern.
pub(super) fn all<'a>(bytes: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + find(bytes.get(from..)?, pattern)?;
        from = at + pattern.len();
        Some(at)
    })
}

/// Checksums of the chunks that hold metadata (PNG §5.3).
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = head[..4].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let holds = matches!(&head[4..], b"eXIf" | b"iTXt" | b"tEXt" | b"zTXt");
        let Some(end) = at.checked_add(8 + length).filter(|end| end + 4 <= bytes.len()) else { return };
        if holds {
            let sum = crc32fast::hash(&bytes[at + 4..end]).to_be_bytes();
            bytes[end..end + 4].copy_from_slice(&sum);
        }
        at = end + 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media, metadata::extract};
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A TIFF block with a make, a serial number, a maker note and a place.
    fn tiff() -> Vec<u8> {
        let mut out = b"II*\0\x08\0\0\0".to_vec();
        let entry = |tag: u16, kind: u16, count: u32, value: u32| {
            let mut e = tag.to_le_bytes().to_vec();
            e.extend(kind.to_le_bytes());
            e.extend(count.to_le_bytes());
            e.extend(value.to_le_bytes());
            e
        };
        // IFD0 at 8 with 3 entries ends at 50; EXIF at 50 with 2 ends at 80; GPS at 80 with 3 ends at 122.
        let data = 122;
        out.extend(3u16.to_le_bytes());
        out.extend(entry(0x010f, 2, 6, data));
        out.extend(entry(0x8769, 4, 1, 50));
        out.extend(entry(0x8825, 4, 1, 80));
        out.extend([0; 4]);
        out.extend(2u16.to_le_bytes());
        out.extend(entry(0x927c, 7, 8, data + 6));
        out.extend(entry(0xa431, 2, 8, data + 14));
        out.extend([0; 4]);
        out.extend(3u16.to_le_bytes());
        out.extend(entry(0x0001, 2, 2, u32::from_le_bytes(*b"N\0\0\0")));
        out.extend(entry(0x0002, 5, 3, data + 22));
        out.extend(entry(0x001b, 7, 8, data + 46));
        out.extend([0; 4]);
        assert_eq!(out.len(), data as usize);
        out.extend(b"Maker\0SECRETMNSN12345\0");
        for (n, d) in [(1u32, 1u32), (21, 1), (7, 1)] {
            out.extend(n.to_le_bytes());
            out.extend(d.to_le_bytes());
        }
        out.extend(b"ASCIICEL");
        out
    }

    fn jpeg(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![0xff, 0xd8];
        for (marker, body) in segments {
            out.extend([0xff, *marker]);
            out.extend((body.len() as u16 + 2).to_be_bytes());
            out.extend(body);
        }
        out.extend([0xff, 0xd9]);
        out
    }

    fn sample() -> Vec<u8> {
        let xmp = "http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
                   xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
                   xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" \
                   xmlns:p=\"http://ns.adobe.com/photoshop/1.0/\" exif:GPSLatitude=\"1,21N\" p:City='Kyoto'>\
                   <dc:creator><rdf:Seq><rdf:li>bob&amp;co@example.org</rdf:li></rdf:Seq></dc:creator>\
                   <dc:title>Fine</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>";
        let mut iim = Vec::new();
        for (number, text) in [(5u8, "Fine"), (118, "ask bob@example.org")] {
            iim.extend([0x1c, 2, number, 0, text.len() as u8]);
            iim.extend(text.as_bytes());
        }
        let mut photoshop = b"Photoshop 3.0\x008BIM\x04\x04\0\0".to_vec();
        photoshop.extend((iim.len() as u32).to_be_bytes());
        photoshop.extend(iim);
        let exif = [b"Exif\0\0".to_vec(), tiff()].concat();
        jpeg(&[(0xe1, exif), (0xe1, xmp.as_bytes().to_vec()), (0xed, photoshop)])
    }

    fn everything(bytes: &[u8]) -> (crate::metadata::Extracted, PropertyNames) {
        let media = media::by_mime("image/jpeg");
        let found = extract(media, bytes.len() as u64, &mut Cursor::new(bytes));
        let mut personal = PropertyNames::default();
        for item in &found.pii {
            assert!(personal.add(&item.source, &item.property));
        }
        (found, personal)
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        find(bytes, text.as_bytes()).is_some()
    }

    #[test]
    fn what_is_personal_goes_and_the_rest_stays() {
        let mut bytes = sample();
        let (before, personal) = everything(&bytes);
        assert_eq!(before.pii.len(), 6, "{:#?}", before.pii);
        assert_eq!(before.exif["tiff:Make"], "Maker");
        let length = bytes.len();
        assert!(redact(media::by_mime("image/jpeg"), &mut bytes, &personal));
        assert_eq!(bytes.len(), length);
        let (after, left) = everything(&bytes);
        assert!(left.is_empty(), "{left:?}");
        assert_eq!((after.exif["tiff:Make"].as_str(), after.xmp["photoshop:City"].as_str()), ("Maker", "Kyoto"));
        assert_eq!((after.xmp["dc:title"].as_str(), after.iptc["dc:title"].as_str()), ("Fine", "Fine"));
        for gone in ["SN12345", "SECRETMN", "ASCIICEL", "bob", "example.org", "1,21N"] {
            assert!(!holds(&bytes, gone), "{gone}");
        }
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut bytes = sample();
        let places = PropertyNames { exif: ["exif:GPSLatitude".to_owned()].into(), ..PropertyNames::default() };
        redact(media::by_mime("image/jpeg"), &mut bytes, &places);
        let (after, _) = everything(&bytes);
        assert!(!after.exif.keys().any(|name| name.contains("GPS")));
        assert!(after.exif.contains_key("exifEX:BodySerialNumber") && after.xmp.contains_key("exif:GPSLatitude"));
    }

    #[test]
    fn checksums_of_png_are_mended() {
        let chunk = |kind: &[u8; 4], body: &[u8]| {
            let named = [kind.as_slice(), body].concat();
            [&(body.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()[..]].concat()
        };
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.extend(chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0]));
        bytes.extend(chunk(b"eXIf", &tiff()));
        bytes.extend(chunk(b"IEND", b""));
        let media = media::by_mime("image/png");
        let serial = PropertyNames { exif: ["exifEX:BodySerialNumber".to_owned()].into(), ..PropertyNames::default() };
        redact(media, &mut bytes, &serial);
        assert!(!holds(&bytes, "SN12345"));
        let at = find(&bytes, b"eXIf").unwrap();
        let end = at + 4 + tiff().len();
        assert_eq!(bytes[end..end + 4], crc32fast::hash(&bytes[at..end]).to_be_bytes());
        let after = extract(media, bytes.len() as u64, &mut Cursor::new(&bytes));
        assert!(!after.exif.contains_key("exifEX:BodySerialNumber"));
        assert_eq!(after.exif["exif:GPSLatitude"], "1/1, 21/1, 7/1");
    }

    #[test]
    fn raw_photographs_and_cut_directories_are_left_alone() {
        let names = PropertyNames { exif: ["exif:GPSLatitude".to_owned()].into(), ..PropertyNames::default() };
        let mut raw = tiff();
        assert!(!redact(media::by_mime("image/tiff"), &mut raw, &names));
        assert_eq!(raw, tiff(), "nothing was touched");
        // The directory of places is cut off by the end of its block.
        let mut cut = tiff();
        cut.truncate(100);
        let mut bytes = jpeg(&[(0xe1, [b"Exif\0\0".to_vec(), cut].concat())]);
        assert!(!redact(media::by_mime("image/jpeg"), &mut bytes, &names));
    }

    #[test]
    fn directories_that_claim_too_much_are_not_read() {
        let mut bomb = b"II*\0\x08\0\0\0".to_vec();
        bomb.extend(300u16.to_le_bytes());
        for n in 0..300u16 {
            bomb.extend((0x0100 + n).to_le_bytes());
            bomb.extend(1u16.to_le_bytes());
            bomb.extend(60_000u32.to_le_bytes());
            bomb.extend(8u32.to_le_bytes());
        }
        bomb.resize(1 << 20, 0);
        let found = extract(media::by_mime("image/tiff"), bomb.len() as u64, &mut Cursor::new(&bomb));
        assert!(found.exif.is_empty());
    }

    /// What begins again and again is looked at once.
    #[test]
    fn repetition_costs_no_more_than_its_length() {
        let names = PropertyNames {
            exif: ["exif:GPSLatitude".to_owned()].into(),
            xmp: ["exif:GPSLatitude".to_owned()].into(),
            iptc: ["dc:title".to_owned()].into(),
            tags: BTreeSet::new(),
        };
        let header = b"II*\0\x08\0\0\0".repeat(500_000);
        let packets = [b"<x:xmpmeta".repeat(400_000), b"</x:xmpmeta>".to_vec()].concat();
        let segments = b"Photoshop 3.0\0".repeat(300_000);
        for mut bytes in [header, packets, segments] {
            let begun = std::time::Instant::now();
            redact(media::by_mime("image/jpeg"), &mut bytes, &names);
            assert!(begun.elapsed().as_secs() < 20);
        }
    }

    proptest! {
        /// Damaged content is never a reason to stop, and keeps its length.
        #[test]
        fn damage_does_no_harm(at in 0usize..800, with in any::<[u8; 4]>(), cut in 0usize..800) {
            let mut bytes = sample();
            let personal = everything(&bytes).1;
            for (n, byte) in with.iter().enumerate() {
                if let Some(target) = bytes.get_mut(at + n) {
                    *target = *byte;
                }
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let length = bytes.len();
            for mime in ["image/jpeg", "image/png", "image/tiff", "image/heic"] {
                redact(media::by_mime(mime), &mut bytes, &personal);
            }
            prop_assert_eq!(bytes.len(), length);
        }
    }
}
