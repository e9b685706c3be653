//! Dimensions, durations and codecs.

use crate::{guard::ReadSeek, media::Media};
use lofty::{
    config::{ParseOptions, ParsingMode},
    file::{AudioFile, FileType},
    probe::Probe,
};
use quick_xml::events::Event;
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Read, SeekFrom};

/// Technical facts; absent where the content does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Technical {
    /// Pixels across.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Codecs, as the container names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<String>,
    /// Samples in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// Audio channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
}

/// Reads technical facts.
pub fn read(media: Media, source: &mut dyn ReadSeek) -> Technical {
    if source.rewind().is_err() {
        return Technical::default();
    }
    match media.mime {
        "video/mp4" | "video/quicktime" | "audio/mp4" => movie(source).unwrap_or_default(),
        "audio/mpeg" => audio(source, FileType::Mpeg, "mp3"),
        "audio/flac" => audio(source, FileType::Flac, "flac"),
        "audio/wav" => audio(source, FileType::Wav, "pcm"),
        "video/x-msvideo" => avi(source).unwrap_or_default(),
        "image/svg+xml" => svg(source).unwrap_or_default(),
        mime if mime.starts_with("image/") => image(source),
        _ => Technical::default(),
    }
}

fn image(source: &mut dyn ReadSeek) -> Technical {
    let size = imagesize::reader_size(BufReader::new(source)).ok();
    let edge = |pixels: usize| u32::try_from(pixels).ok();
    Technical {
        width: size.as_ref().and_then(|s| edge(s.width)),
        height: size.as_ref().and_then(|s| edge(s.height)),
        ..Default::default()
    }
}

/// By the root's `width` and `height` where they are pixels, else by its `viewBox` (SVG 2 §8.2).
fn svg(source: &mut dyn ReadSeek) -> Option<Technical> {
    let mut head = Vec::new();
    (&mut *source).take(64 << 10).read_to_end(&mut head).ok()?;
    let mut reader = quick_xml::Reader::from_reader(head.as_slice());
    let mut buffer = Vec::new();
    let root = loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(root) | Event::Empty(root) => break root.into_owned(),
            Event::Eof => return None,
            _ => {}
        }
    };
    let attribute = |name: &str| {
        let found = root.attributes().flatten().find(|a| a.key.local_name().into_inner() == name)?;
        Some(found.value.into_owned())
    };
    let pixels = |text: &str| text.trim().trim_end_matches("px").parse::<f64>().ok();
    let size = |name: &str, at: usize| {
        let own = attribute(name).and_then(|text| pixels(&text));
        let boxed = || attribute("viewBox")?.split([' ', ',']).filter(|part| !part.is_empty()).nth(at).and_then(pixels);
        let edge = own.or_else(boxed).filter(|n| (0.5..1e9).contains(n))?;
        Some(edge.round() as u32)
    };
    Some(Technical { width: size("width", 2), height: size("height", 3), ..Default::default() })
}

fn audio(source: &mut dyn ReadSeek, kind: FileType, codec: &str) -> Technical {
    let options = ParseOptions::new().read_tags(false).read_cover_art(false).parsing_mode(ParsingMode::Relaxed);
    let Ok(file) = Probe::with_file_type(BufReader::new(source), kind).options(options).read() else {
        return Technical::default();
    };
    let properties = file.properties();
    Technical {
        duration_seconds: Some(properties.duration().as_secs_f64()).filter(|d| *d > 0.0),
        codecs: vec![codec.to_owned()],
        sample_rate: properties.sample_rate(),
        channels: properties.channels(),
        ..Default::default()
    }
}

/// One box of ISO base media: type, and where its body is.
pub(super) struct BoxAt {
    pub(super) kind: [u8; 4],
    pub(super) body: u64,
    pub(super) end: u64,
}

fn box_at(source: &mut dyn ReadSeek, at: u64, limit: u64) -> Option<BoxAt> {
    let mut head = [0; 8];
    source.seek(SeekFrom::Start(at)).ok()?;
    source.read_exact(&mut head).ok()?;
    let kind = [head[4], head[5], head[6], head[7]];
    let (body, size) = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
        0 => (at + 8, limit - at),
        1 => {
            let mut long = [0; 8];
            source.read_exact(&mut long).ok()?;
            (at + 16, u64::from_be_bytes(long))
        }
        size => (at + 8, u64::from(size)),
    };
    let end = at.checked_add(size).filter(|end| *end >= body && *end <= limit)?;
    Some(BoxAt { kind, body, end })
}

/// The boxes between two places.
pub(super) fn boxes(source: &mut dyn ReadSeek, mut at: u64, limit: u64) -> Vec<BoxAt> {
    let mut out = Vec::new();
    while out.len() < 2_000 && at < limit {
        let Some(found) = box_at(source, at, limit) else { break };
        at = found.end;
        out.push(found);
    }
    out
}

fn body(source: &mut dyn ReadSeek, of: &BoxAt) -> Vec<u8> {
    read_box(source, of, 4096)
}

/// What is in a box, up to so many bytes.
pub(super) fn read_box(source: &mut dyn ReadSeek, of: &BoxAt, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if source.seek(SeekFrom::Start(of.body)).is_ok() {
        let _ = (&mut *source).take((of.end - of.body).min(most)).read_to_end(&mut bytes);
    }
    bytes
}

/// Whether a JPEG XL container has boxes that are compressed (ISO/IEC 18181-2 §9.8), whatever is in them.
pub(super) fn has_compressed_boxes(source: &mut dyn ReadSeek) -> bool {
    let end = source.seek(SeekFrom::End(0)).unwrap_or(0);
    boxes(source, 0, end).iter().any(|b| &b.kind == b"brob")
}

/// Whether all media data of the movie is in one piece: one `mdat`, and no fragments (`moof`).
pub fn is_one_piece(source: &mut dyn ReadSeek) -> bool {
    let end = source.seek(SeekFrom::End(0)).unwrap_or(0);
    let top = boxes(source, 0, end);
    let count = |kind: &[u8; 4]| top.iter().filter(|b| b.kind == *kind).count();
    count(b"mdat") == 1 && count(b"moof") == 0
}

/// `moov/mvhd` for the duration, `moov/trak` for dimensions and codecs (ISO/IEC 14496-12 §8).
fn movie(source: &mut dyn ReadSeek) -> Option<Technical> {
    let mut out = Technical::default();
    let end = source.seek(SeekFrom::End(0)).ok()?;
    let moov = boxes(source, 0, end).into_iter().find(|b| &b.kind == b"moov")?;
    for inner in boxes(source, moov.body, moov.end) {
        match &inner.kind {
            b"mvhd" => out.duration_seconds = movie_duration(&body(source, &inner)),
            b"trak" => track(source, &inner, &mut out, 0),
            _ => {}
        }
    }
    Some(out)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn movie_duration(mvhd: &[u8]) -> Option<f64> {
    let (scale, duration) = if mvhd.first() == Some(&1) {
        (u32_at(mvhd, 20)?, u64::from_be_bytes(mvhd.get(24..32)?.try_into().ok()?))
    } else {
        (u32_at(mvhd, 12)?, u64::from(u32_at(mvhd, 16)?))
    };
    (scale > 0 && duration > 0).then(|| duration as f64 / f64::from(scale))
}

fn track(source: &mut dyn ReadSeek, parent: &BoxAt, out: &mut Technical, depth: u8) {
    for inner in boxes(source, parent.body, parent.end) {
        match &inner.kind {
            b"tkhd" => {
                let header = body(source, &inner);
                let at = if header.first() == Some(&1) { 88 } else { 76 };
                if let (Some(width), Some(height)) = (u32_at(&header, at), u32_at(&header, at + 4)) {
                    // 16.16 fixed point; audio tracks have none.
                    if width >> 16 > out.width.unwrap_or(0) {
                        (out.width, out.height) = (Some(width >> 16), Some(height >> 16));
                    }
                }
            }
            b"mdia" | b"minf" | b"stbl" if depth < 4 => track(source, &inner, out, depth + 1),
            b"stsd" => {
                let description = body(source, &inner);
                if let Some(code) = description.get(12..16).filter(|c| c.iter().all(|b| b.is_ascii_graphic() || *b == b' ')) {
                    let name = String::from_utf8_lossy(code).trim().to_owned();
                    if !out.codecs.contains(&name) && out.codecs.len() < 16 {
                        out.codecs.push(name);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `avih` of RIFF AVI: microseconds a frame, frames, dimensions; `strh` for codecs.
fn avi(source: &mut dyn ReadSeek) -> Option<Technical> {
    let mut head = Vec::new();
    (&mut *source).take(64 << 10).read_to_end(&mut head).ok()?;
    let at = crate::guard::find(&head, b"avih")? + 8;
    let u32_le = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let (frame, frames) = (u32_le(at)?, u32_le(at + 16)?);
    let mut codecs = Vec::new();
    let mut from = 0;
    while let Some(found) = crate::guard::find(&head[from..], b"strh") {
        from += found + 8;
        let code = head.get(from + 4..from + 8).map(|c| String::from_utf8_lossy(c).trim_matches(['\0', ' ']).to_owned());
        codecs.extend(code.filter(|c| !c.is_empty() && c.is_ascii() && codecs.len() < 16));
    }
    Some(Technical {
        width: u32_le(at + 32),
        height: u32_le(at + 36),
        duration_seconds: Some(f64::from(frame) * f64::from(frames) / 1e6).filter(|d| *d > 0.0),
        codecs,
        ..Default::default()
    })
}
