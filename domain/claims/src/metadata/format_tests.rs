//! Every format of the fixtures: what is measured, and that personal data is found wherever the format has a place for it.

use super::*;
use crate::media;
use std::io::Cursor;

fn fixture(name: &str) -> Vec<u8> {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    std::fs::read(format!("{package}/../../tests/fixtures/{name}")).unwrap()
}

fn look(bytes: &[u8]) -> Extracted {
    let media = media::recognise(&mut Cursor::new(bytes)).unwrap();
    extract(media, bytes.len() as u64, &mut Cursor::new(bytes))
}

/// Width, height, duration in seconds, codecs, samples in a second, channels.
type Facts = (Option<u32>, Option<u32>, Option<f64>, &'static [&'static str], Option<u32>, Option<u8>);

#[test]
fn technical_facts_of_every_format() {
    let picture: Facts = (Some(160), Some(120), None, &[], None, None);
    let movie: Facts = (Some(64), Some(48), Some(1.0), &["mp4v", "mp4a"], None, None);
    let expected: &[(&str, Facts)] = &[
        ("a.jpg", picture),
        ("a.png", picture),
        ("a.gif", picture),
        ("a.webp", picture),
        ("a.tiff", picture),
        ("a.heic", picture),
        ("a.avif", picture),
        ("a.jxl", picture),
        ("a.svg", (Some(64), Some(48), None, &[], None, None)),
        ("a.mp4", movie),
        ("a.mov", movie),
        ("a.avi", (Some(64), Some(48), Some(1.0), &["FMP4"], None, None)),
        ("a.m4a", (None, None, Some(1.0), &["mp4a"], None, None)),
        ("a.mp3", (None, None, Some(0.576), &["mp3"], Some(16_000), Some(1))),
        ("a.wav", (None, None, Some(0.3), &["pcm"], Some(8_000), Some(1))),
        ("a.flac", (None, None, Some(0.3), &["flac"], Some(8_000), Some(1))),
        ("a.txt", (None, None, None, &[], None, None)),
    ];
    for (name, (width, height, duration, codecs, sample_rate, channels)) in expected {
        let found = look(&fixture(name));
        let facts = &found.technical;
        let codecs: Vec<String> = codecs.iter().map(|c| (*c).to_owned()).collect();
        assert_eq!((facts.width, facts.height, &facts.codecs), (*width, *height, &codecs), "{name}: {facts:?}");
        assert_eq!((facts.sample_rate, facts.channels), (*sample_rate, *channels), "{name}: {facts:?}");
        let close = match (facts.duration_seconds, duration) {
            (Some(found), Some(expected)) => (found - expected).abs() < 0.02,
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(close, "{name}: {facts:?}");
        assert_eq!((found.read, &found.pii), (Some(true), &vec![]), "{name}: {found:?}");
        let said = assertions(&found, MetadataInclusion::Safe);
        let standard = said.iter().find(|a| a.label == "c2pa.metadata").map(|a| a.data.to_string()).unwrap_or_default();
        for (fact, member) in [
            (width.is_some() && duration.is_none(), "exif:PixelXDimension"),
            (width.is_some() && duration.is_some(), "tiff:ImageWidth"),
            (duration.is_some(), "\"xmpDM:duration\":{"),
            (duration.is_some(), "\"xmpDM:scale\":\"1/1000\""),
            (duration.is_some() && width.is_some(), "xmpDM:videoCompressor"),
            (duration.is_some() && width.is_none(), "xmpDM:audioCompressor"),
            (sample_rate.is_some(), "xmpDM:audioSampleRate"),
        ] {
            assert!(!fact || standard.contains(member), "{name}: {member}: {standard}");
        }
        assert!(said.iter().all(|a| a.created && a.json), "{name}");
        assert!(assertions(&found, MetadataInclusion::None).is_empty(), "{name}");
    }
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// The movie with something more in its `moov`, at the end.
fn in_movie(movie: &[u8], more: &[u8]) -> Vec<u8> {
    let at = movie.windows(4).position(|w| w == b"moov").unwrap() - 4;
    let size = u32::from_be_bytes(movie[at..at + 4].try_into().unwrap()) as usize;
    let grown = (size + more.len()) as u32;
    [&movie[..at], &grown.to_be_bytes(), &movie[at + 4..at + size], more, &movie[at + size..]].concat()
}

/// The PNG with another chunk after its header.
fn in_png(png: &[u8], kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [kind.as_slice(), body].concat();
    let chunk = [&(body.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat();
    [&png[..33], &chunk, &png[33..]].concat()
}

fn in_jpeg(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    [&jpeg[..2], &[0xff, marker], &(body.len() as u16 + 2).to_be_bytes(), body, &jpeg[2..]].concat()
}

/// The RIFF file with another chunk at its end.
fn in_riff(riff: &[u8], kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = [riff, kind, &(body.len() as u32).to_le_bytes(), body].concat();
    let size = (out.len() as u32 - 8).to_le_bytes();
    out[4..8].copy_from_slice(&size);
    out
}

/// An ID3v2.4 tag of text frames.
fn id3(frames: &[(&[u8; 4], &str)]) -> Vec<u8> {
    let synchsafe = |n: usize| [(n >> 21) as u8 & 127, (n >> 14) as u8 & 127, (n >> 7) as u8 & 127, n as u8 & 127];
    let mut body = Vec::new();
    for (id, text) in frames {
        body.extend([id.as_slice(), &synchsafe(text.len() + 1), &[0, 0, 3], text.as_bytes()].concat());
    }
    [b"ID3\x04\0\0".as_slice(), &synchsafe(body.len()), &body].concat()
}

/// A TIFF block with a serial number: of a lens, in the first directory's EXIF.
fn exif_block() -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let first = [&1u16.to_le_bytes()[..], &entry(0x8769, 4, 1, 26), &[0; 4]].concat();
    let second = [&1u16.to_le_bytes()[..], &entry(0xa435, 2, 8, 44), &[0; 4]].concat();
    [b"II*\0\x08\0\0\0".as_slice(), &first, &second, b"LN12345\0"].concat()
}

/// The little-endian TIFF with another entry in its first directory, which moves to the end.
fn in_tiff(tiff: &[u8], tag: u16, data: &[u8]) -> Vec<u8> {
    assert!(tiff.starts_with(b"II*\0"));
    let at = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(tiff[at..at + 2].try_into().unwrap()));
    let mut entries: Vec<[u8; 12]> = tiff[at + 2..at + 2 + 12 * count].chunks(12).map(|e| e.try_into().unwrap()).collect();
    let mut out = tiff.to_vec();
    out.resize(out.len().next_multiple_of(2), 0);
    let place = out.len() as u32;
    out.extend(data);
    out.resize(out.len().next_multiple_of(2), 0);
    let entry = [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &(data.len() as u32).to_le_bytes(), &place.to_le_bytes()];
    entries.push(entry.concat().try_into().unwrap());
    entries.sort_by_key(|e| u16::from_le_bytes([e[0], e[1]]));
    let moved = out.len() as u32;
    out[4..8].copy_from_slice(&moved.to_le_bytes());
    out.extend((entries.len() as u16).to_le_bytes());
    out.extend(entries.concat());
    out.extend([0; 4]);
    out
}

#[test]
fn personal_data_is_found_in_every_format() {
    use PiiKind::{Email, Gps, SerialNumber};
    const WHO: &str = "ask ann@example.org";
    let rdf = "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
               xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" exif:GPSLatitude=\"1,21N\"/></rdf:RDF>";
    let xmp = format!("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">{rdf}</x:xmpmeta>");
    let iim = [b"\x1c\x02\x76\0".as_slice(), &[WHO.len() as u8], WHO.as_bytes()].concat();
    let resource = [b"8BIM\x04\x04\0\0".as_slice(), &(iim.len() as u32).to_be_bytes(), &iim].concat();
    let photoshop = [b"Photoshop 3.0\0".as_slice(), &resource].concat();
    let info = [b"INFOICMT".as_slice(), &(WHO.len() as u32).to_le_bytes(), WHO.as_bytes()].concat();
    let place = |text: &str| [&(text.len() as u16).to_be_bytes()[..], &[0x15, 0xc7], text.as_bytes()].concat();
    let xyz = boxed(b"udta", &boxed(b"\xa9xyz", &place("+01.2921+103.8500/")));
    let key = "com.apple.quicktime.location.ISO6709";
    let keys = [&[0; 7][..], &[1], &boxed(b"mdta", key.as_bytes())].concat();
    let value = boxed(&[0, 0, 0, 1], &boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0][..], b"+01.2921-103.8500+010.0/"].concat()));
    let hdlr = boxed(b"hdlr", &[&[0; 8][..], b"mdta", &[0; 13]].concat());
    let apple = boxed(b"meta", &[hdlr.clone(), boxed(b"keys", &keys), boxed(b"ilst", &value)].concat());
    let comment = boxed(b"\xa9cmt", &boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0][..], WHO.as_bytes()].concat()));
    let itunes = boxed(b"udta", &boxed(b"meta", &[vec![0; 4], hdlr, boxed(b"ilst", &comment)].concat()));
    let fixed = |degrees: f64| ((degrees * 65_536.0) as i32).to_be_bytes();
    let loci = [&[0, 0, 0, 0, 0x15, 0xc7][..], b"Home\0\0", &fixed(103.85), &fixed(1.2921), &[0; 4], b"\0\0"].concat();
    let loci = boxed(b"udta", &boxed(b"loci", &loci));
    let vorbis = {
        let text = format!("COMMENT={WHO}");
        let body = [&0u32.to_le_bytes()[..], &1u32.to_le_bytes(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        [&[4], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
    };
    let flac = fixture("a.flac");
    // After STREAMINFO, in the place of any comments that it has.
    let old = 42 + 4 + usize::from(u16::from_be_bytes([flac[44], flac[45]]));
    let had = flac[42] & 0x7f == 4;
    let last = had && flac[42] & 0x80 != 0;
    let mut vorbis = vorbis;
    vorbis[0] |= if last { 0x80 } else { 0 };
    let flac = [&flac[..42], &vorbis, &flac[if had { old } else { 42 }..]].concat();
    let gif = fixture("a.gif");
    let table = 13 + (3usize << ((gif[10] & 7) + 1)) * usize::from(gif[10] >> 7);
    let gif_comment = [&[0x21, 0xfe, WHO.len() as u8][..], WHO.as_bytes(), &[0]].concat();
    let mp3 = fixture("a.mp3");
    let music = mp3.windows(2).position(|w| w == b"\xff\xfb" || w == b"\xff\xf3").unwrap();
    let exif = exif_block();
    let cases: Vec<(&str, Vec<u8>, PiiKind, &str, &str)> = vec![
        (
            "a.jpg",
            in_jpeg(&fixture("a.jpg"), 0xe1, &[b"Exif\0\0".as_slice(), &exif].concat()),
            SerialNumber,
            "exif",
            "exifEX:LensSerialNumber",
        ),
        ("a.jpg", in_jpeg(&fixture("a.jpg"), 0xed, &photoshop), Email, "iptc", "Iptc4xmpCore:CreatorContactInfo"),
        ("a.jpg", in_jpeg(&fixture("a.jpg"), 0xfe, WHO.as_bytes()), Email, "tags", "jpeg:Comment"),
        ("a.png", in_png(&fixture("a.png"), b"eXIf", &exif), SerialNumber, "exif", "exifEX:LensSerialNumber"),
        ("a.png", in_png(&fixture("a.png"), b"tEXt", format!("Author\0{WHO}").as_bytes()), Email, "tags", "dc:creator"),
        ("a.png", in_png(&fixture("a.png"), b"iTXt", format!("Note\0\0\0en\0\0{WHO}").as_bytes()), Email, "tags", "png:Note"),
        ("a.gif", [&gif[..table], &gif_comment, &gif[table..]].concat(), Email, "tags", "gif:Comment"),
        ("a.webp", in_riff(&fixture("a.webp"), b"EXIF", &exif), SerialNumber, "exif", "exifEX:LensSerialNumber"),
        ("a.tiff", in_tiff(&fixture("a.tiff"), 0x83bb, &iim), Email, "iptc", "Iptc4xmpCore:CreatorContactInfo"),
        ("a.tiff", in_tiff(&fixture("a.tiff"), 0x8649, &resource), Email, "iptc", "Iptc4xmpCore:CreatorContactInfo"),
        (
            "a.jxl",
            [fixture("a.jxl"), boxed(b"Exif", &[&[0; 4][..], &exif].concat())].concat(),
            SerialNumber,
            "exif",
            "exifEX:LensSerialNumber",
        ),
        ("a.mp4", in_movie(&fixture("a.mp4"), &xyz), Gps, "tags", "exif:GPSLatitude"),
        ("a.mp4", in_movie(&fixture("a.mp4"), &loci), Gps, "tags", "exif:GPSLongitude"),
        ("a.mov", in_movie(&fixture("a.mov"), &apple), Gps, "tags", "exif:GPSLongitude"),
        ("a.m4a", in_movie(&fixture("a.m4a"), &itunes), Email, "tags", "xmpDM:logComment"),
        (
            "a.mp3",
            [&id3(&[(b"TIT2", "Song"), (b"TXXX", "contact\0ann@example.org")])[..], &mp3[music..]].concat(),
            Email,
            "tags",
            "id3:TXXX.contact",
        ),
        ("a.wav", in_riff(&fixture("a.wav"), b"LIST", &info), Email, "tags", "xmpDM:logComment"),
        ("a.avi", in_riff(&fixture("a.avi"), b"LIST", &info), Email, "tags", "xmpDM:logComment"),
        ("a.flac", flac, Email, "tags", "xmpDM:logComment"),
    ];
    let mut seen: Vec<&str> = Vec::new();
    for (name, bytes, kind, source, property) in cases {
        let found = look(&bytes);
        let pii = Pii { kind, source: source.into(), property: property.into() };
        assert!(found.pii.contains(&pii), "{name}: {pii:?} not in {found:?}");
        assert_eq!(found.read, Some(true), "{name}");
        // It is left out unless asked for.
        let value = found.sources().iter().find(|(of, _)| *of == source).unwrap().1[property].clone();
        let says = |inclusion| assertions(&found, inclusion).iter().any(|a| a.data.to_string().contains(&value));
        assert!(!says(MetadataInclusion::Safe), "{name}");
        assert_eq!(says(MetadataInclusion::All), namespace(property).is_some(), "{name}: {property}");
        seen.push(name);
    }
    // XMP stands anywhere, in its wrapper or without.
    for name in [
        "a.jpg", "a.png", "a.gif", "a.webp", "a.tiff", "a.svg", "a.heic", "a.avif", "a.jxl", "a.mp4", "a.mov", "a.avi", "a.m4a",
        "a.mp3", "a.wav", "a.flac",
    ] {
        for packet in [rdf, &xmp] {
            let found = look(&[fixture(name), packet.as_bytes().to_vec()].concat());
            let pii = Pii { kind: Gps, source: "xmp".into(), property: "exif:GPSLatitude".into() };
            assert_eq!(found.pii, [pii], "{name}");
        }
    }
    let places = look(&in_movie(&fixture("a.mov"), &apple)).tags;
    assert_eq!((places["exif:GPSLatitude"].as_str(), places["exif:GPSLongitude"].as_str()), ("1,17.526000N", "103,51.000000W"));
}

#[test]
fn what_is_not_read_is_said() {
    let png = fixture("a.png");
    let cases = [
        ("compressed text", in_png(&png, b"zTXt", b"Author\0\0x")),
        ("compressed international text", in_png(&png, b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0x")),
        ("compressed boxes", [fixture("a.jxl"), boxed(b"brob", b"Exif....")].concat()),
        ("no format", vec![7; 100]),
        ("BigTIFF", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec()),
        ("a document", b"%PDF-1.7\n".to_vec()),
    ];
    for (what, bytes) in cases {
        assert_eq!(look(&bytes).read, Some(false), "{what}");
    }
    let large = extract(media::by_mime("image/png"), MAX_SCANNED + 1, &mut Cursor::new(&png));
    assert_eq!((large.read, large.technical.width), (Some(false), Some(160)));
    // Records from before: sound was not looked at.
    let before: Extracted = serde_json::from_value(serde_json::json!({
        "technical": {}, "exif": {}, "xmp": {}, "iptc": {}, "pii": [], "orientation": 1
    }))
    .unwrap();
    assert!(
        before.is_read("image/jpeg", 1) && !before.is_read("audio/mpeg", 1) && !before.is_read("image/jpeg", MAX_SCANNED + 1)
    );
}

proptest::proptest! {
    #[test]
    fn damage_does_no_harm(at in 0usize..4000, with in proptest::prelude::any::<[u8; 4]>(), which in 0usize..17) {
        let names = ["a.avi", "a.avif", "a.flac", "a.gif", "a.heic", "a.jpg", "a.jxl", "a.m4a", "a.mov", "a.mp3", "a.mp4", "a.png", "a.svg", "a.tiff", "a.wav", "a.webp", "a.txt"];
        let mut bytes = fixture(names[which]);
        let at = at % bytes.len();
        let end = (at + 4).min(bytes.len());
        bytes[at..end].copy_from_slice(&with[..end - at]);
        look(&bytes);
    }
}
