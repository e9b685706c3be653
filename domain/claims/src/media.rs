//! What kind of content this is, by its bytes alone.

use crate::guard::ReadSeek;
use std::io::{Read, SeekFrom};

/// How a manifest gets to its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// The manifest store is written into the file; the engine knows the format by this name.
    Embedded(&'static str),
    /// The manifest store is a file of its own.
    Sidecar,
}

/// A recognised kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// Media type (RFC 6838) for records and answers.
    pub mime: &'static str,
    /// The usual file name extension, without the dot.
    pub extension: &'static str,
    /// How manifests are attached.
    pub embedding: Embedding,
}

/// How many bytes of the beginning [`sniff`] wants to see.
pub const SNIFF_LEN: usize = 4096;

const fn embedded(mime: &'static str, extension: &'static str) -> Media {
    Media { mime, extension, embedding: Embedding::Embedded(mime) }
}

const fn sidecar(mime: &'static str, extension: &'static str) -> Media {
    Media { mime, extension, embedding: Embedding::Sidecar }
}

const DNG: Media = Media { mime: "image/x-adobe-dng", extension: "dng", embedding: Embedding::Embedded("image/x-adobe-dng") };
// The engine keeps a second RIFF chunk (OpenDML) only under this name.
const AVI: Media = Media { mime: "video/x-msvideo", extension: "avi", embedding: Embedding::Embedded("video/avi") };
// The engine could read manifests in PDF, but its reader inflates object streams without a bound.
const PDF: Media = sidecar("application/pdf", "pdf");
const JPEG: Media = embedded("image/jpeg", "jpg");
const PNG: Media = embedded("image/png", "png");
const GIF: Media = embedded("image/gif", "gif");
const WEBP: Media = embedded("image/webp", "webp");
const TIFF: Media = embedded("image/tiff", "tif");
const SVG: Media = embedded("image/svg+xml", "svg");
const HEIC: Media = embedded("image/heic", "heic");
const HEIF: Media = embedded("image/heif", "heif");
const AVIF: Media = embedded("image/avif", "avif");
const JXL: Media = embedded("image/jxl", "jxl");
const MP4: Media = embedded("video/mp4", "mp4");
const MOV: Media = embedded("video/quicktime", "mov");
const M4A: Media = embedded("audio/mp4", "m4a");
const MP3: Media = embedded("audio/mpeg", "mp3");
const WAV: Media = embedded("audio/wav", "wav");
const FLAC: Media = embedded("audio/flac", "flac");

/// Anything not recognised.
pub const UNKNOWN: Media = sidecar("application/octet-stream", "bin");
/// A bare manifest store.
pub const MANIFEST_STORE: Media = sidecar("application/c2pa", "c2pa");

const KNOWN: &[Media] =
    &[JPEG, PNG, GIF, WEBP, TIFF, DNG, SVG, HEIC, HEIF, AVIF, JXL, MP4, MOV, M4A, MP3, WAV, AVI, FLAC, PDF, MANIFEST_STORE];

/// The media with this media type, or a sidecar kind of the same type.
pub fn by_mime(mime: &str) -> Media {
    KNOWN.iter().find(|m| m.mime == mime).copied().unwrap_or(UNKNOWN)
}

/// The media of content that was recorded with this media type, and whose manifest is inside it or not: some of a type that takes
/// manifests cannot.
pub fn recorded(mime: &str, embedded: bool) -> Media {
    let media = by_mime(mime);
    if embedded { media } else { Media { embedding: Embedding::Sidecar, ..media } }
}

/// The media with this file name extension.
pub fn by_extension(extension: &str) -> Option<Media> {
    let extension = match extension {
        "jpeg" | "jpe" => "jpg",
        "tiff" => "tif",
        "m4v" => "mp4",
        "qt" => "mov",
        other => other,
    };
    KNOWN.iter().find(|m| m.extension == extension).copied()
}

/// Recognises content; its beginning, but for what stands behind an ID3 tag.
pub fn recognise(source: &mut dyn ReadSeek) -> std::io::Result<Media> {
    let mut head = Vec::new();
    source.rewind()?;
    (&mut *source).take(SNIFF_LEN as u64).read_to_end(&mut head)?;
    let media = sniff(&head);
    if let (true, Some(end)) = (media == MP3, id3_end(&head)) {
        let mut mark = [0; 4];
        source.seek(SeekFrom::Start(end))?;
        if source.read_exact(&mut mark).is_ok() && &mark == b"fLaC" {
            return Ok(FLAC);
        }
    }
    Ok(media)
}

/// Where an ID3v2 tag ends that content begins with (ID3v2.4 §3.1).
pub(crate) fn id3_end(head: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', _, _, flags, size @ ..] = head else { return None };
    let size = size.first_chunk::<4>()?.iter().fold(0u64, |n, b| (n << 7) | u64::from(b & 0x7f));
    let footer = if flags & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + footer)
}

/// Recognises content by its first [`SNIFF_LEN`] bytes.
pub fn sniff(head: &[u8]) -> Media {
    match head {
        [0xff, 0xd8, 0xff, ..] => JPEG,
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => PNG,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => GIF,
        [b'R', b'I', b'F', b'F', _, _, _, _, kind @ ..] => match kind {
            [b'W', b'E', b'B', b'P', ..] => WEBP,
            [b'W', b'A', b'V', b'E', ..] => WAV,
            [b'A', b'V', b'I', b' ', ..] => AVI,
            _ => UNKNOWN,
        },
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => tiff(head),
        // BigTIFF, and waves over 4 GiB (EBU Tech 3306): their sizes are not where we and the engine look for them.
        [b'I', b'I', 43, 0, ..] | [b'M', b'M', 0, 43, ..] => sidecar("image/tiff", "tif"),
        [b'R', b'F', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'B', b'W', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => sidecar("audio/wav", "wav"),
        // A bare JPEG XL codestream (ff 0a) has no boxes to carry a manifest.
        [0, 0, 0, 0x0c, b'J', b'X', b'L', b' ', 0x0d, 0x0a, 0x87, 0x0a, ..] => JXL,
        [0xff, 0x0a, ..] => sidecar("image/jxl", "jxl"),
        [_, _, _, _, b'f', b't', b'y', b'p', rest @ ..] => iso_base_media(head, rest),
        [_, _, _, _, b'm' | b'w' | b'f', b'o' | b'd' | b'i' | b'r', b'o' | b'a' | b'd' | b'e', b'v' | b't' | b'e', ..]
            if is_classic_quicktime(head) =>
        {
            // The engine writes a manifest into it, but reads none from it.
            sidecar("video/quicktime", "mov")
        }
        [b'f', b'L', b'a', b'C', ..] => FLAC,
        [b'I', b'D', b'3', ..] => MP3,
        [0xff, second, third, ..] if is_mpeg_audio(*second, *third) => MP3,
        [b'%', b'P', b'D', b'F', b'-', ..] => PDF,
        [_, _, _, _, b'j', b'u', b'm', b'b', ..] => MANIFEST_STORE,
        [b'P', b'K', 3, 4, ..] => sidecar("application/zip", "zip"),
        [b'O', b'g', b'g', b'S', ..] => sidecar("audio/ogg", "ogg"),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => sidecar("video/x-matroska", "mkv"),
        [b'B', b'M', ..] if head.len() > 14 && head[6..10] == [0; 4] => sidecar("image/bmp", "bmp"),
        _ => text(head),
    }
}

/// DNG is TIFF with a DNGVersion tag (50706) in the first directory (DNG 1.7, chapter 4).
fn tiff(head: &[u8]) -> Media {
    const DNG_VERSION: u16 = 50706;
    let little = head[0] == b'I';
    let u16_at = |at: usize| -> Option<u16> {
        let b: [u8; 2] = head.get(at..at + 2)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) })
    };
    let Some(offset) = head.get(4..8).and_then(|b| <[u8; 4]>::try_from(b).ok()) else { return TIFF };
    let offset = if little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) } as usize;
    let entries = offset.checked_add(2).and_then(|_| u16_at(offset)).unwrap_or(0);
    let is_dng = (0..usize::from(entries)).any(|n| u16_at(offset + 2 + n * 12) == Some(DNG_VERSION));
    if is_dng { DNG } else { TIFF }
}

/// By the brands of the `ftyp` box (ISO/IEC 14496-12 §4.3), the major brand first.
fn iso_base_media(head: &[u8], rest: &[u8]) -> Media {
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let end = size.saturating_sub(8).min(rest.len());
    let brands = rest[..end].chunks_exact(4).enumerate().filter(|(at, _)| *at != 1).map(|(_, brand)| brand);
    for brand in brands {
        match brand {
            // Raw photographs, which also say that they are movies.
            b"crx " => return UNKNOWN,
            b"avif" | b"avis" => return AVIF,
            b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => return HEIC,
            b"mif1" | b"msf1" if !rest[..end].chunks_exact(4).any(|b| b == b"avif" || b == b"heic") => return HEIF,
            b"qt  " => return MOV,
            b"M4A " | b"M4B " | b"M4P " => return M4A,
            b"isom" | b"iso2" | b"iso3" | b"iso4" | b"iso5" | b"iso6" | b"iso7" | b"iso8" | b"iso9" | b"mp41" | b"mp42"
            | b"mp71" | b"avc1" | b"avc3" | b"hvc1" | b"hev1" | b"dash" | b"msdh" | b"msix" | b"cmfc" | b"piff" | b"isml"
            | b"M4V " | b"M4VH" | b"M4VP" | b"MSNV" | b"XAVC" | b"f4v " | b"F4V " | b"mmp4" => return MP4,
            [b'3', b'g', ..] => return MP4,
            _ => {}
        }
    }
    // Many formats stand on ISO base media, and few of them are movies.
    UNKNOWN
}

/// QuickTime from before `ftyp`: the first box is one of the classic ones, with a believable size.
fn is_classic_quicktime(head: &[u8]) -> bool {
    let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    matches!(&head[4..8], b"moov" | b"mdat" | b"wide" | b"free") && (size == 1 || size >= 8)
}

/// An MPEG audio layer III frame header (ISO/IEC 11172-3 §2.4.1.3): sync, a bit rate and a sampling rate that exist.
fn is_mpeg_audio(second: u8, third: u8) -> bool {
    second & 0xe0 == 0xe0 && second & 0x18 != 0x08 && second & 0x06 == 0x02 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c
}

fn text(head: &[u8]) -> Media {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let valid = match std::str::from_utf8(text) {
        Ok(text) => text,
        // The window may end within a character.
        Err(e) if e.valid_up_to() + 4 > text.len() && e.valid_up_to() > 0 => {
            std::str::from_utf8(&text[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return UNKNOWN,
    };
    if valid.is_empty() || valid.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return UNKNOWN;
    }
    if is_svg(valid) { SVG } else { sidecar("text/plain", "txt") }
}

/// The first element is `svg`, after any XML declaration, comments and document type.
fn is_svg(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        let end = if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<!") {
            ">"
        } else {
            return rest.starts_with("<svg") || rest.starts_with("<svg:svg");
        };
        match rest.find(end) {
            Some(at) => rest = rest[at + end.len()..].trim_start(),
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_matter_bytes_do() {
        assert_eq!(sniff(b"\xff\xd8\xff\xe0rest"), JPEG);
        assert_eq!(sniff(b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf"), AVIF);
        assert_eq!(sniff(b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1"), HEIC);
        assert_eq!(sniff(b"\0\0\0\x14ftypqt  \0\0\0\0qt  "), MOV);
        assert_eq!(sniff(b"\0\0\0\x1cftypM4A \0\0\0\0mp42isom"), M4A);
        assert_eq!(sniff(b"\0\0\x10\0moov....").embedding, Embedding::Sidecar);
        assert_eq!(sniff(b"<?xml version='1.0'?>\n<!-- hi --><svg xmlns='x'/>"), SVG);
        assert_eq!(sniff(b"<?xml version='1.0'?><html/>").mime, "text/plain");
        assert_eq!(sniff(b"hello").mime, "text/plain");
        assert_eq!(sniff(b""), UNKNOWN);
        assert_eq!(sniff(b"\xff\xfb\x90\x64"), MP3);
        assert_eq!(sniff(b"RIFF\0\0\0\0XXXX"), UNKNOWN);
        assert_eq!(sniff(b"\0\0\0\x14ftypzzzz\0\0\0\0zzzz"), UNKNOWN);
        assert_eq!(sniff(b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom"), UNKNOWN);
        assert_eq!(sniff(b"\0\0\0\x14ftyp3gp5\0\0\0\0zzzz"), MP4);
        assert_eq!(sniff(b"II+\0\x08\0\0\0"), sidecar("image/tiff", "tif"));
        assert_eq!(sniff(b"RF64\xff\xff\xff\xffWAVEds64"), sidecar("audio/wav", "wav"));
    }

    #[test]
    fn what_stands_behind_an_id3_tag_counts() {
        for padding in [5, 20_000] {
            let size = [0, (padding >> 14) as u8 & 127, (padding >> 7) as u8 & 127, padding as u8 & 127];
            let file = |music: &[u8]| [b"ID3\x04\0\0".as_slice(), &size, &vec![0; padding], music].concat();
            let of = |music: &[u8]| recognise(&mut std::io::Cursor::new(file(music))).unwrap();
            assert_eq!((of(b"fLaC\0\0"), of(b"\xff\xfb\x90\x64"), of(b"")), (FLAC, MP3, MP3), "{padding}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let _ = sniff(&bytes);
        }
        #[test]
        fn never_panics_on_tiff(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let mut head = b"II*\0".to_vec();
            head.extend(bytes);
            let _ = sniff(&head);
        }
    }
}
