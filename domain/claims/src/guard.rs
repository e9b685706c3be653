//! Checks on containers before the engine reads them: structures by which a small file could make it allocate without bound.
//!
//! Each check is a shallow walk over headers. A file that is merely broken passes; the engine says what is wrong with it.

use crate::{
    jumbf::scan_cbor,
    media::{Embedding, Media},
    window::Window,
};
use std::io::{Read, Seek};

const MAX_TOP_BOXES: usize = 50_000;
const MAX_ID3: u64 = 64 << 20;
/// What the compressed chunks of one PNG may hold together.
const MAX_INFLATED: usize = 16 << 20;
const MAX_IFDS: usize = 512;
const MAX_IFD_ENTRIES: u64 = 200_000;

/// Why content is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file is beyond the limits: {0}")]
pub struct Hostile(pub &'static str);

/// A source of content.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// Checks content of this kind. I/O errors count as the end of the file.
pub fn check(media: Media, source: &mut dyn ReadSeek) -> Result<(), Hostile> {
    let mut file = Window::new(source);
    let checked = match media.mime {
        "video/mp4" | "video/quicktime" | "audio/mp4" | "image/heic" | "image/heif" | "image/avif" => iso_base_media(&mut file),
        "audio/mpeg" | "audio/flac" => id3(&mut file),
        "image/tiff" | "image/x-adobe-dng" if media.embedding != Embedding::Sidecar => tiff(&mut file),
        "image/jpeg" => jpeg(&mut file),
        "image/png" => png(&mut file),
        "image/webp" | "audio/wav" | "video/x-msvideo" => riff(&mut file),
        _ => Ok(()),
    };
    let checked = match checked {
        Ok(()) if file.exhausted() => Err(Hostile("too many headers to read")),
        other => other,
    };
    // Rewinding a readable file does not fail; if it does, the engine's first read reports it.
    let _ = source.rewind();
    checked
}

const SECOND_STORE: Hostile = Hostile("a second manifest store");

/// Refuses a second manifest store before the scan. The engine tells stores apart by their box instance numbers (C2PA 2.2 §A.3.1), and
/// takes a second of the same number for nothing.
fn jpeg(file: &mut Window<'_>) -> Result<(), Hostile> {
    let (mut at, mut stores) = (2u64, 0);
    while let Some([0xff, kind, high, low]) = file.array::<4>(at) {
        match kind {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 | 0xda => break,
            _ => {
                // CI, En, Z, LBox, TBox, and the same of the description box, whose type begins.
                if kind == 0xeb
                    && let Some(head) = file.array::<28>(at + 4)
                    && head[..2] == *b"JP"
                    && head[4..8] == [0, 0, 0, 1]
                    && head[12..16] == *b"jumb"
                    && head[20..28] == *b"jumdc2pa"
                {
                    stores += 1;
                }
                at += 2 + u64::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    if stores > 1 { Err(SECOND_STORE) } else { Ok(()) }
}

/// Refuses compressed profiles and texts (PNG §11.3) that grow beyond any real one: whoever reads them inflates them whole.
fn png(file: &mut Window<'_>) -> Result<(), Hostile> {
    const GROWN: Hostile = Hostile("a compressed chunk that grows beyond 16 MiB");
    let (mut at, mut left) = (8u64, MAX_INFLATED);
    while let Some([a, b, c, d, kind @ ..]) = file.array::<8>(at) {
        let size = u64::from(u32::from_be_bytes([a, b, c, d]));
        if matches!(&kind, b"iCCP" | b"zTXt" | b"iTXt") && size < file.len().saturating_sub(at) {
            let body = file.read(at + 8, (size as usize).min(MAX_INFLATED));
            if let Some(compressed) = png_compressed(&kind, &body) {
                // What is broken passes; nobody can inflate it.
                let grown = std::io::copy(&mut inflater(compressed).take(left as u64 + 1), &mut std::io::sink()).unwrap_or(0);
                left = left.checked_sub(grown as usize).ok_or(GROWN)?;
            }
        }
        if &kind == b"IEND" {
            break;
        }
        at += 12 + size;
    }
    Ok(())
}

/// The compressed part of a chunk that has one.
pub(crate) fn png_compressed<'a>(kind: &[u8; 4], body: &'a [u8]) -> Option<&'a [u8]> {
    let rest = &body[body.iter().position(|b| *b == 0)? + 1..];
    match (kind, rest) {
        (b"iCCP" | b"zTXt", [_method, stream @ ..]) => Some(stream),
        // Flag and method, then a language and a translated keyword.
        (b"iTXt", [1, _method, rest @ ..]) => rest.splitn(3, |b| *b == 0).nth(2),
        _ => None,
    }
}

/// What a zlib stream holds.
pub(crate) fn inflater(stream: &[u8]) -> impl Read + '_ {
    flate2::read::ZlibDecoder::new(stream)
}

/// Refuses a second manifest store among the chunks (C2PA 2.2 §A.3.5): the engine takes the first, and others may not.
fn riff(file: &mut Window<'_>) -> Result<(), Hostile> {
    let (mut at, mut stores, mut count) = (12u64, 0, 0u32);
    while let Some(head) = file.array::<8>(at)
        && count < 10_000
    {
        count += 1;
        stores += u32::from(&head[..4] == b"C2PA");
        at += 8 + u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])).next_multiple_of(2);
    }
    if stores > 1 { Err(SECOND_STORE) } else { Ok(()) }
}

/// Counts top-level boxes and scans the CBOR of C2PA `uuid` boxes, which the engine decodes before any validation.
fn iso_base_media(file: &mut Window<'_>) -> Result<(), Hostile> {
    const C2PA: [u8; 16] = [0xd8, 0xfe, 0xc3, 0xd6, 0x1b, 0x0e, 0x48, 0x3c, 0x92, 0x97, 0x58, 0x28, 0x87, 0x7e, 0xc4, 0x81];
    const MAX_UUID: u64 = 8 << 20;
    let end = file.len();
    let (mut at, mut count) = (0u64, 0usize);
    while let Some(head) = file.array::<8>(at) {
        count += 1;
        if count > MAX_TOP_BOXES {
            return Err(Hostile("more than 50000 top-level boxes"));
        }
        let short = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let (header, size) = match short {
            0 => (8, end - at),
            1 => match file.array::<8>(at + 8) {
                Some(long) => (16, u64::from_be_bytes(long)),
                None => return Ok(()),
            },
            size => (8, size),
        };
        if size < header || at.checked_add(size).is_none() {
            return Ok(());
        }
        if &head[4..8] == b"uuid" && file.array::<16>(at + header) == Some(C2PA) {
            let body = size.min(end - at).saturating_sub(header + 16);
            let start = at + header + 16;
            if let Some(purpose) = file.array::<11>(start) {
                // FullBox header, then the purpose: "merkle\0" with CBOR after it.
                if &purpose[4..] == b"merkle\0" && body <= MAX_UUID {
                    let cbor = file.read(start + 11, body.saturating_sub(11) as usize);
                    scan_cbor(&cbor).map_err(|_| Hostile("malformed CBOR in a merkle box"))?;
                } else if &purpose[4..] == b"merkle\0" {
                    return Err(Hostile("a merkle box over 8 MiB"));
                }
            }
        }
        at += size;
    }
    Ok(())
}

/// Refuses compressed ID3v2 frames (ID3v2.4 §4.1.2 flag k, ID3v2.3 §3.3.1 flag i) and frames larger than the tag.
fn id3(file: &mut Window<'_>) -> Result<(), Hostile> {
    let Some(head) = file.array::<10>(0) else { return Ok(()) };
    if &head[..3] != b"ID3" {
        return Ok(());
    }
    let (version, flags) = (head[3], head[5]);
    let synchsafe = |b: &[u8]| b.iter().fold(0u64, |n, b| (n << 7) | u64::from(b & 0x7f));
    let plain = |b: &[u8]| b.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b));
    let size = synchsafe(&head[6..10]);
    if size > MAX_ID3 || size > file.len() {
        return Err(Hostile("an ID3 tag larger than 64 MiB or the file"));
    }
    let end = 10 + size;
    let mut at = 10u64;
    if flags & 0x40 != 0 {
        let Some(extended) = file.array::<4>(10) else { return Ok(()) };
        at += if version == 4 { synchsafe(&extended) } else { plain(&extended) + 4 };
    }
    let header: u64 = if version == 2 { 6 } else { 10 };
    while at + header <= end {
        let Some(frame) = file.array::<10>(at) else { return Ok(()) };
        if frame[0] == 0 {
            return Ok(());
        }
        let (size, compressed) = match version {
            2 => (plain(&frame[3..6]), false),
            3 => (plain(&frame[4..8]), frame[9] & 0x80 != 0),
            _ => (synchsafe(&frame[4..8]), frame[9] & 0x08 != 0),
        };
        if size > end - at {
            return Err(Hostile("an ID3 frame larger than its tag"));
        }
        if compressed {
            return Err(Hostile("a compressed ID3 frame"));
        }
        at += header + size.max(1);
    }
    Ok(())
}

/// Walks image file directories, sub-directories included, and refuses cycles and very many.
fn tiff(file: &mut Window<'_>) -> Result<(), Hostile> {
    const SUB_IFDS: u16 = 330;
    let Some(head) = file.array::<8>(0) else { return Ok(()) };
    let little = head[0] == b'I';
    let u16_of = |b: [u8; 2]| if little { u16::from_le_bytes(b) } else { u16::from_be_bytes(b) };
    let u32_of = |b: [u8; 4]| if little { u32::from_le_bytes(b) } else { u32::from_be_bytes(b) };
    let end = file.len();
    let mut entries = 0u64;
    let mut seen = std::collections::HashSet::new();
    let mut queue = vec![u64::from(u32_of([head[4], head[5], head[6], head[7]]))];
    while let Some(offset) = queue.pop() {
        if offset == 0 {
            continue;
        }
        if !seen.insert(offset) {
            return Err(Hostile("an image file directory that is reached twice"));
        }
        if seen.len() > MAX_IFDS {
            return Err(Hostile("more than 512 image file directories"));
        }
        let Some(count) = file.array::<2>(offset).map(u16_of) else { continue };
        entries += u64::from(count);
        if entries > MAX_IFD_ENTRIES {
            return Err(Hostile("more than 200000 directory entries"));
        }
        for n in 0..u64::from(count) {
            let Some(entry) = file.array::<12>(offset + 2 + n * 12) else { break };
            if u16_of([entry[0], entry[1]]) != SUB_IFDS {
                continue;
            }
            let values = u32_of([entry[4], entry[5], entry[6], entry[7]]) as usize;
            let value = u32_of([entry[8], entry[9], entry[10], entry[11]]);
            if values > MAX_IFDS {
                return Err(Hostile("more than 512 image file directories"));
            }
            match values {
                1 => queue.push(u64::from(value)),
                _ => {
                    for k in 0..values as u64 {
                        let at = u64::from(value) + 4 * k;
                        if at < end {
                            queue.extend(file.array::<4>(at).map(|b| u64::from(u32_of(b))));
                        }
                    }
                }
            }
        }
        queue.extend(file.array::<4>(offset + 2 + u64::from(count) * 12).map(|b| u64::from(u32_of(b))));
    }
    Ok(())
}

/// The first place of `needle`.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::by_mime;
    use std::io::Cursor;

    #[test]
    fn refuses_bombs() {
        let mut id3 = b"ID3\x04\0\0\0\0\0\x20TXXX\0\0\0\x04\0\x08abcd".to_vec();
        id3.resize(100, 0);
        assert!(check(by_mime("audio/mpeg"), &mut Cursor::new(&id3)).is_err());
        id3[19] = 0;
        assert!(check(by_mime("audio/mpeg"), &mut Cursor::new(&id3)).is_ok());
        let cycle = b"II*\0\x08\0\0\0\0\0\x08\0\0\0".to_vec();
        assert!(check(by_mime("image/tiff"), &mut Cursor::new(&cycle)).is_err());
        let png = |kind: &[u8; 4], head: &[u8], zeros: u64| {
            let mut stream = flate2::write::ZlibEncoder::new(head.to_vec(), flate2::Compression::best());
            std::io::copy(&mut std::io::repeat(0).take(zeros), &mut stream).unwrap();
            let body = stream.finish().unwrap();
            [b"\x89PNG\r\n\x1a\n".as_slice(), &(body.len() as u32).to_be_bytes(), kind, &body, &[0; 12]].concat()
        };
        for (kind, head) in [(b"iCCP", b"p\0\0".as_slice()), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\x01\0en\0\0")] {
            let check = |zeros| check(by_mime("image/png"), &mut Cursor::new(png(kind, head, zeros)));
            assert!(check(17 << 20).is_err());
            assert!(check(1 << 20).is_ok());
        }
        let boxes: Vec<u8> = std::iter::repeat_n(*b"\0\0\0\x08free", 60_000).flatten().collect();
        assert!(check(by_mime("video/mp4"), &mut Cursor::new(&boxes)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), kind in 0usize..4) {
            let mimes = ["video/mp4", "audio/mpeg", "image/tiff", "image/jpeg"];
            let prefixes: [&[u8]; 4] = [b"\0\0\0\x10uuid", b"ID3\x03", b"MM\0*", b""];
            let mut all = prefixes[kind].to_vec();
            all.extend(bytes);
            let _ = check(by_mime(mimes[kind]), &mut Cursor::new(&all));
        }
    }
}
