//! What containers say about their content in words of their own: ID3, Vorbis comments, RIFF INFO, QuickTime's user data and item
//! lists, PNG's texts, comments of JPEG and GIF. Under XMP's names where it has them, under the format's own otherwise.

use super::{Properties, append, clean, quicktime};
use crate::{
    guard::{ReadSeek, inflater, png_compressed},
    media::Media,
    window::Window,
};
use lofty::{
    ape::ApeTag,
    config::{ParseOptions, ParsingMode},
    file::AudioFile,
    flac::FlacFile,
    id3::{
        v1::Id3v1Tag,
        v2::{Frame, Id3v2Tag},
    },
    iff::wav::WavFile,
    mpeg::MpegFile,
};
use std::io::{BufReader, Read};

/// Texts of one file that are kept.
const MAX_TAGS: usize = 300;
/// The longest text that is read.
const MAX_TEXT: u64 = 1 << 20;

/// The formats' own names and what XMP calls the same.
const NAMES: &[(&str, &str)] = &[
    ("id3:TIT2", "dc:title"),
    ("id3:TPE1", "xmpDM:artist"),
    ("id3:TCOM", "xmpDM:composer"),
    ("id3:TALB", "xmpDM:album"),
    ("id3:TCON", "xmpDM:genre"),
    ("id3:TRCK", "xmpDM:trackNumber"),
    ("id3:TCOP", "dc:rights"),
    ("id3:TDRC", "xmp:CreateDate"),
    ("id3:TSSE", "xmp:CreatorTool"),
    ("riff:INAM", "dc:title"),
    ("riff:IART", "xmpDM:artist"),
    ("riff:IPRD", "xmpDM:album"),
    ("riff:IGNR", "xmpDM:genre"),
    ("riff:ICMT", "xmpDM:logComment"),
    ("riff:ICOP", "dc:rights"),
    ("riff:ICRD", "xmp:CreateDate"),
    ("riff:ISFT", "xmp:CreatorTool"),
    ("vorbis:TITLE", "dc:title"),
    ("vorbis:ARTIST", "xmpDM:artist"),
    ("vorbis:COMPOSER", "xmpDM:composer"),
    ("vorbis:ALBUM", "xmpDM:album"),
    ("vorbis:GENRE", "xmpDM:genre"),
    ("vorbis:COMMENT", "xmpDM:logComment"),
    ("vorbis:COPYRIGHT", "dc:rights"),
    ("vorbis:DATE", "xmp:CreateDate"),
    ("vorbis:ENCODER", "xmp:CreatorTool"),
    ("png:Title", "dc:title"),
    ("png:Author", "dc:creator"),
    ("png:Description", "dc:description"),
    ("png:Copyright", "dc:rights"),
    ("png:Software", "xmp:CreatorTool"),
    ("quicktime:nam", "dc:title"),
    ("quicktime:ART", "xmpDM:artist"),
    ("quicktime:wrt", "xmpDM:composer"),
    ("quicktime:alb", "xmpDM:album"),
    ("quicktime:gen", "xmpDM:genre"),
    ("quicktime:cmt", "xmpDM:logComment"),
    ("quicktime:lyr", "xmpDM:lyrics"),
    ("quicktime:day", "xmp:CreateDate"),
    ("quicktime:too", "xmp:CreatorTool"),
    ("quicktime:cpy", "dc:rights"),
    ("quicktime:cprt", "dc:rights"),
    ("quicktime:desc", "dc:description"),
    ("quicktime:mak", "tiff:Make"),
    ("quicktime:mod", "tiff:Model"),
    ("quicktime:swr", "tiff:Software"),
    ("quicktime:com.apple.quicktime.title", "dc:title"),
    ("quicktime:com.apple.quicktime.author", "dc:creator"),
    ("quicktime:com.apple.quicktime.description", "dc:description"),
    ("quicktime:com.apple.quicktime.copyright", "dc:rights"),
    ("quicktime:com.apple.quicktime.make", "tiff:Make"),
    ("quicktime:com.apple.quicktime.model", "tiff:Model"),
    ("quicktime:com.apple.quicktime.software", "tiff:Software"),
    ("quicktime:com.apple.quicktime.creationdate", "xmp:CreateDate"),
];

/// Texts that are found, by name.
#[derive(Default)]
pub(super) struct Tags {
    found: Properties,
}

impl Tags {
    /// Adds what a format says under a key of its own.
    pub(super) fn add(&mut self, family: &str, key: &str, value: &str) {
        let key: String = key.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let own = format!("{family}:{key}");
        let name = NAMES.iter().find(|(native, _)| native.eq_ignore_ascii_case(&own)).map_or(own, |(_, xmp)| (*xmp).to_owned());
        self.put(name, value);
    }

    /// Adds a property under its name in XMP.
    pub(super) fn put(&mut self, name: String, value: &str) {
        if let Some(value) = clean(value)
            && (self.found.len() < MAX_TAGS || self.found.contains_key(&name))
        {
            append(&mut self.found, name, value);
        }
    }
}

/// Reads the texts of a container, and whether these are all of them: compressed ones are not read.
pub(super) fn read(media: Media, source: &mut dyn ReadSeek) -> (Properties, bool) {
    let mut tags = Tags::default();
    let mut whole = true;
    match media.mime {
        "audio/mpeg" => mpeg(source, &mut tags),
        "audio/flac" => flac(source, &mut tags),
        "audio/wav" => {
            riff(&mut Window::new(source), &mut tags);
            wave(source, &mut tags);
        }
        "video/x-msvideo" => riff(&mut Window::new(source), &mut tags),
        "video/mp4" | "video/quicktime" | "audio/mp4" => quicktime::read(source, &mut tags),
        "image/png" => whole = png(&mut Window::new(source), &mut tags),
        "image/jpeg" => jpeg(&mut Window::new(source), &mut tags),
        "image/gif" => gif(&mut Window::new(source), &mut tags),
        _ => {}
    }
    (tags.found, whole)
}

fn options() -> ParseOptions {
    ParseOptions::new().read_properties(false).read_cover_art(false).parsing_mode(ParsingMode::Relaxed)
}

fn mpeg(source: &mut dyn ReadSeek, tags: &mut Tags) {
    if source.rewind().is_err() {
        return;
    }
    let Ok(file) = MpegFile::read_from(&mut BufReader::new(source), options()) else { return };
    file.id3v2().into_iter().for_each(|tag| id3(tag, tags));
    file.id3v1().into_iter().for_each(|tag| id3_old(tag, tags));
    file.ape().into_iter().for_each(|tag| ape(tag, tags));
}

fn flac(source: &mut dyn ReadSeek, tags: &mut Tags) {
    if source.rewind().is_err() {
        return;
    }
    let Ok(file) = FlacFile::read_from(&mut BufReader::new(source), options()) else { return };
    file.id3v2().into_iter().for_each(|tag| id3(tag, tags));
    for (key, value) in file.vorbis_comments().into_iter().flat_map(|comments| comments.items()) {
        tags.add("vorbis", key, value);
    }
}

fn wave(source: &mut dyn ReadSeek, tags: &mut Tags) {
    if source.rewind().is_err() {
        return;
    }
    let Ok(file) = WavFile::read_from(&mut BufReader::new(source), options()) else { return };
    file.id3v2().into_iter().for_each(|tag| id3(tag, tags));
}

fn id3(tag: &Id3v2Tag, tags: &mut Tags) {
    for frame in tag {
        let id = frame.id_str();
        match frame {
            Frame::Text(text) => tags.add("id3", id, &text.value.replace('\0', "; ")),
            Frame::UserText(text) => tags.add("id3", &format!("TXXX.{}", text.description), &text.content),
            Frame::Comment(comment) => tags.put("xmpDM:logComment".into(), &comment.content),
            Frame::UnsynchronizedText(lyrics) => tags.put("xmpDM:lyrics".into(), &lyrics.content),
            Frame::Url(link) => tags.add("id3", id, link.url()),
            Frame::UserUrl(link) => tags.add("id3", &format!("WXXX.{}", link.description), &link.content),
            Frame::Popularimeter(popularity) => tags.add("id3", "POPM", &popularity.email),
            Frame::Ownership(ownership) => tags.add("id3", "OWNE", &ownership.seller),
            Frame::KeyValue(people) => {
                people.key_value_pairs.iter().for_each(|(role, name)| tags.add("id3", id, &format!("{role}: {name}")));
            }
            Frame::Timestamp(time) => tags.add("id3", id, &time.timestamp.to_string()),
            _ => {}
        }
    }
}

/// ID3 version 1: four texts of fixed length.
fn id3_old(tag: &Id3v1Tag, tags: &mut Tags) {
    let texts = [("TIT2", &tag.title), ("TPE1", &tag.artist), ("TALB", &tag.album), ("COMM", &tag.comment)];
    for (key, text) in texts {
        text.iter().for_each(|text| tags.add("id3", key, text));
    }
}

fn ape(tag: &ApeTag, tags: &mut Tags) {
    for item in tag {
        if let lofty::tag::ItemValue::Text(text) | lofty::tag::ItemValue::Locator(text) = item.value() {
            tags.add("ape", item.key(), text);
        }
    }
}

/// The INFO list (Multimedia Programming Interface and Data Specifications 1.0, chapter 2), and the broadcast extension of WAV
/// (EBU Tech 3285).
fn riff(file: &mut Window<'_>, tags: &mut Tags) {
    const MAX_CHUNKS: usize = 10_000;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    let (mut at, mut count) = (12u64, 0);
    // Lists are entered, so that their members are met next.
    while let Some([a, b, c, d, size @ ..]) = file.array::<8>(at)
        && count < MAX_CHUNKS
    {
        count += 1;
        let size = u64::from(u32::from_le_bytes(size));
        let next = at + 8 + size.next_multiple_of(2);
        match &[a, b, c, d] {
            b"LIST" if file.array::<4>(at + 8) == Some(*b"INFO") => {
                at += 12;
                continue;
            }
            b"bext" => {
                for (from, length, key) in [(0, 256, "description"), (256, 32, "originator"), (288, 32, "originatorReference")] {
                    tags.add("bext", key, &text(file.read(at + 8 + from, length)));
                }
            }
            [b'I', ..] if size <= MAX_TEXT => {
                let key = String::from_utf8_lossy(&[a, b, c, d]).into_owned();
                tags.add("riff", &key, &text(file.read(at + 8, size as usize)));
            }
            _ => {}
        }
        at = next;
    }
}

/// Texts (PNG §11.3.3); false when there are some that are not read: compressed XMP, and other metadata in disguise.
fn png(file: &mut Window<'_>, tags: &mut Tags) -> bool {
    let (mut at, mut whole) = (8u64, true);
    while let Some([a, b, c, d, kind @ ..]) = file.array::<8>(at) {
        let size = u64::from(u32::from_be_bytes([a, b, c, d]));
        match &kind {
            b"tEXt" | b"zTXt" | b"iTXt" if size <= MAX_TEXT => whole &= png_text(&kind, &file.read(at + 8, size as usize), tags),
            b"tEXt" | b"zTXt" | b"iTXt" => whole = false,
            b"IEND" => break,
            _ => {}
        }
        at += 12 + size;
    }
    whole
}

/// Reads one text chunk; whether it could be.
fn png_text(kind: &[u8; 4], body: &[u8], tags: &mut Tags) -> bool {
    let Some(end) = body.iter().position(|b| *b == 0) else { return true };
    let (key, rest) = (String::from_utf8_lossy(&body[..end]), &body[end + 1..]);
    let compressed = png_compressed(kind, body);
    if key == "XML:com.adobe.xmp" {
        // Uncompressed, it is found as XMP.
        return compressed.is_none();
    }
    if key.starts_with("Raw profile type") {
        return false;
    }
    let text = match compressed {
        Some(stream) => {
            let mut text = Vec::new();
            match inflater(stream).take(MAX_TEXT).read_to_end(&mut text) {
                Ok(read) if (read as u64) < MAX_TEXT => text,
                _ => return false,
            }
        }
        None if kind == b"iTXt" => rest.get(2..).unwrap_or_default().splitn(3, |b| *b == 0).nth(2).unwrap_or_default().to_vec(),
        None => rest.to_vec(),
    };
    // Latin-1, but for the international one.
    let text =
        if kind == b"iTXt" { String::from_utf8_lossy(&text).into_owned() } else { text.into_iter().map(char::from).collect() };
    tags.add("png", &key, &text);
    true
}

/// Comments before the scan (ITU-T T.81 §B.2.4.5).
fn jpeg(file: &mut Window<'_>, tags: &mut Tags) {
    let mut at = 2u64;
    while let Some([0xff, kind, high, low]) = file.array::<4>(at) {
        let size = u64::from(u16::from_be_bytes([high, low]));
        match kind {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 | 0xda => break,
            _ => {
                if kind == 0xfe {
                    let text = file.read(at + 4, size.saturating_sub(2) as usize);
                    tags.add("jpeg", "Comment", &String::from_utf8_lossy(&text));
                }
                at += 2 + size;
            }
        }
    }
}

/// Comment extensions (GIF89a §24).
fn gif(file: &mut Window<'_>, tags: &mut Tags) {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3u64 << ((flags & 7) + 1) };
    let Some(flags) = file.array::<1>(10) else { return };
    let mut at = 13 + table(flags[0]);
    while let Some([kind]) = file.array::<1>(at) {
        let comment = match kind {
            0x21 => {
                let label = file.array::<1>(at + 1);
                at += 2;
                label == Some([0xfe])
            }
            0x2c => {
                let Some([flags]) = file.array::<1>(at + 9) else { return };
                at += 11 + table(flags);
                false
            }
            _ => return,
        };
        let mut text = Vec::new();
        while let Some([size]) = file.array::<1>(at)
            && size > 0
        {
            if comment && text.len() < MAX_TEXT as usize {
                text.extend(file.read(at + 1, usize::from(size)));
            }
            at += 1 + u64::from(size);
        }
        at += 1;
        if comment {
            tags.add("gif", "Comment", &String::from_utf8_lossy(&text));
        }
    }
}
