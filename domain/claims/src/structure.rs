//! Whether content is whole: a cut-off file is refused before anyone signs that it is what they meant.
//!
//! Shallow walks over lengths that the formats themselves state. Broken in other ways is for the engine to say.

use crate::{guard::ReadSeek, media::Media, window::Window};

/// Why content is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file is cut off: {0}")]
pub struct Truncated(pub &'static str);

type Checked = Result<(), Truncated>;

/// Checks content of this kind.
pub fn check_complete(media: Media, source: &mut dyn ReadSeek) -> Checked {
    let mut file = Window::new(source);
    let embedded = matches!(media.embedding, crate::media::Embedding::Embedded(_));
    let checked = match media.extension {
        "tif" | "wav" | "jxl" if !embedded => Ok(()),
        "jpg" => jpeg(&mut file),
        "png" => png(&mut file),
        "gif" => ends_with(&mut file, &[0x3b], "no GIF trailer"),
        "webp" | "wav" | "avi" => riff(&mut file),
        "mp4" | "mov" | "m4a" | "heic" | "heif" | "avif" => boxes(&mut file, false),
        "jxl" => boxes(&mut file, true),
        "tif" | "dng" => tiff(&mut file),
        "svg" => svg(&mut file),
        "mp3" => mp3(&mut file),
        "flac" => flac(&mut file),
        _ => Ok(()),
    };
    // A walk that was too long proves nothing.
    let checked = if file.exhausted() { Ok(()) } else { checked };
    let _ = source.rewind();
    checked
}

fn ends_with(file: &mut Window<'_>, needle: &[u8], why: &'static str) -> Checked {
    // Some writers pad with zeros.
    let tail = file.tail(64 << 10);
    let end = tail.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    if tail[..end].ends_with(needle) { Ok(()) } else { Err(Truncated(why)) }
}

/// Segments up to the first scan must be whole, and an end-of-image marker must follow the scan (ITU-T T.81 §B.1.1).
fn jpeg(file: &mut Window<'_>) -> Checked {
    const CUT: Truncated = Truncated("a JPEG segment goes past the end");
    let end = file.len();
    let mut at = 2u64;
    loop {
        let [marker, kind, high, low] = file.array::<4>(at).ok_or(CUT)?;
        match (marker, kind) {
            (0xff, 0xff) => at += 1,
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, 0xda) => break,
            (0xff, 0xd9) => return Err(Truncated("a JPEG without image data")),
            (0xff, _) => at += 2 + u64::from(u16::from_be_bytes([high, low])),
            // Not a marker: broken rather than cut off.
            _ => return Ok(()),
        }
        if at > end {
            return Err(CUT);
        }
    }
    // Trailing data after the image (depth maps, motion photos) is common, so the marker may be anywhere after the scan.
    let mut position = end;
    while position > at {
        let start = position.saturating_sub(64 << 10).max(at);
        let window = file.read(start, (position - start) as usize + 1);
        if window.windows(2).any(|pair| pair == [0xff, 0xd9]) {
            return Ok(());
        }
        position = start;
    }
    Err(Truncated("no JPEG end-of-image marker"))
}

fn png(file: &mut Window<'_>) -> Checked {
    let end = file.len();
    let mut at = 8u64;
    while let Some(head) = file.array::<8>(at) {
        let size = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        at += 12 + size;
        if at > end {
            return Err(Truncated("a PNG chunk goes past the end"));
        }
        if &head[4..] == b"IEND" {
            return Ok(());
        }
    }
    Err(Truncated("no PNG IEND chunk"))
}

fn riff(file: &mut Window<'_>) -> Checked {
    let end = file.len();
    let Some(head) = file.array::<8>(0) else { return Err(Truncated("no RIFF header")) };
    let size = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
    // Streaming writers leave the size at its largest or zero.
    if size == 0 || size >= 0xffff_ff00 || 8 + size <= end { Ok(()) } else { Err(Truncated("the RIFF chunk goes past the end")) }
}

/// Every top-level box must fit, and a movie or image needs its index.
fn boxes(file: &mut Window<'_>, jxl: bool) -> Checked {
    let end = file.len();
    let (mut at, mut count) = (0u64, 0u32);
    let (mut index, mut codestream) = (false, false);
    while at < end && count < 50_000 {
        count += 1;
        let head = file.read(at, 16);
        if head.len() < 8 {
            return Err(Truncated("a box header goes past the end"));
        }
        let short = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let size = match (short, <[u8; 8]>::try_from(head.get(8..16).unwrap_or_default())) {
            (0, _) => end - at,
            (1, Ok(long)) => u64::from_be_bytes(long),
            (1, Err(_)) => return Err(Truncated("a box header goes past the end")),
            (size, _) => size,
        };
        match &head[4..8] {
            b"moov" | b"meta" => index = true,
            b"jxlc" | b"jxlp" => codestream = true,
            _ => {}
        }
        if size < 8 {
            return Ok(());
        }
        at = at.saturating_add(size);
        if at > end {
            return Err(Truncated("a box goes past the end"));
        }
    }
    match (jxl, codestream, index) {
        (true, false, _) => Err(Truncated("no JPEG XL codestream")),
        (false, _, false) => Err(Truncated("no moov or meta box")),
        _ => Ok(()),
    }
}

/// The first directory, and the strips or tiles it points to, must lie within the file (TIFF 6.0).
fn tiff(file: &mut Window<'_>) -> Checked {
    const CUT: Truncated = Truncated("TIFF data goes past the end");
    let end = file.len();
    let head = file.array::<8>(0).ok_or(CUT)?;
    let little = head[0] == b'I';
    let u16_of = |b: &[u8]| if little { u16::from_le_bytes([b[0], b[1]]) } else { u16::from_be_bytes([b[0], b[1]]) };
    let u32_of = |b: &[u8]| {
        if little { u32::from_le_bytes([b[0], b[1], b[2], b[3]]) } else { u32::from_be_bytes([b[0], b[1], b[2], b[3]]) }
    };
    let directory = u64::from(u32_of(&head[4..8]));
    let count = u64::from(u16_of(&file.array::<2>(directory).ok_or(CUT)?));
    let entries = file.read(directory + 2, count as usize * 12);
    if entries.len() < count as usize * 12 {
        return Err(CUT);
    }
    let mut values = |tag: u16| -> Option<Vec<u64>> {
        let entry = entries.chunks_exact(12).find(|e| u16_of(e) == tag)?;
        let width = if u16_of(&entry[2..]) == 3 { 2 } else { 4 };
        let n = (u32_of(&entry[4..]) as usize).min(1 << 20);
        let raw =
            if n * width <= 4 { entry[8..8 + n * width].to_vec() } else { file.read(u64::from(u32_of(&entry[8..])), n * width) };
        Some(raw.chunks_exact(width).map(|b| if width == 2 { u64::from(u16_of(b)) } else { u64::from(u32_of(b)) }).collect())
    };
    for (offsets, sizes) in [(273, 279), (324, 325)] {
        if let (Some(offsets), Some(sizes)) = (values(offsets), values(sizes))
            && offsets.iter().zip(&sizes).any(|(offset, size)| offset + size > end)
        {
            return Err(CUT);
        }
    }
    Ok(())
}

fn svg(file: &mut Window<'_>) -> Checked {
    let tail = file.tail(4096);
    let text = String::from_utf8_lossy(&tail);
    let text = text.trim_end().trim_end_matches('\0');
    let closed = text.ends_with("</svg>") || text.ends_with("</svg:svg>") || text.ends_with("-->") || text.ends_with("/>");
    if closed { Ok(()) } else { Err(Truncated("no closing svg tag")) }
}

/// Walks the frames; the last must be whole (ISO/IEC 11172-3 §2.4.3.1).
fn mp3(file: &mut Window<'_>) -> Checked {
    const BITRATES_V1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const BITRATES_V2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let mut end = file.len();
    if file.array::<3>(end.saturating_sub(128)) == Some(*b"TAG") {
        end -= 128;
    }
    let mut at = match file.array::<10>(0) {
        Some(h) if &h[..3] == b"ID3" => 10 + h[6..10].iter().fold(0u64, |n, b| (n << 7) | u64::from(b & 0x7f)),
        _ => 0,
    };
    if at > end {
        return Err(Truncated("the ID3 tag goes past the end"));
    }
    let mut frames = 0u32;
    while let Some([a, b, c, _]) = file.array::<4>(at) {
        // Only layer III; free-format and foreign bytes end the walk.
        if a != 0xff || b & 0xe6 != 0xe2 || c & 0xf0 == 0xf0 || c & 0xf0 == 0 || c & 0x0c == 0x0c {
            break;
        }
        let version = (b >> 3) & 3;
        let rate = [44_100, 48_000, 32_000][usize::from((c >> 2) & 3)] >> [2, 0, 1, 0][usize::from(version)];
        let table = if version == 3 { BITRATES_V1 } else { BITRATES_V2 };
        let samples = if version == 3 { 144_000 } else { 72_000 };
        let size = u64::from(samples * table[usize::from(c >> 4)] / rate + u32::from((c >> 1) & 1));
        if at + size > end {
            return Err(Truncated("the last MPEG audio frame is not whole"));
        }
        at += size.max(4);
        frames += 1;
    }
    if frames == 0 { Err(Truncated("no whole MPEG audio frame")) } else { Ok(()) }
}

/// The file must end with a frame whose CRC-16 holds (RFC 9639 §9.3).
fn flac(file: &mut Window<'_>) -> Checked {
    const CUT: Truncated = Truncated("the last FLAC frame is not whole");
    let mut end = file.len();
    if file.array::<3>(end.saturating_sub(128)) == Some(*b"TAG") {
        end -= 128;
    }
    let mut at = 4 + file.array::<10>(0).and_then(|head| crate::media::id3_end(&head)).unwrap_or(0);
    loop {
        let head = file.array::<4>(at).ok_or(Truncated("a FLAC metadata block goes past the end"))?;
        at += 4 + u64::from(u32::from_be_bytes([0, head[1], head[2], head[3]]));
        if at > end {
            return Err(Truncated("a FLAC metadata block goes past the end"));
        }
        if head[0] & 0x80 != 0 {
            break;
        }
    }
    // A frame is at most a few hundred kilobytes, even of eight channels at 24 bits.
    let start = end.saturating_sub(1 << 20).max(at);
    let tail = file.read(start, (end - start) as usize);
    if tail.len() < 8 {
        return Err(CUT);
    }
    // A header's own CRC-8 leaves one in 256 false starts; real files end within the first few.
    const MAX_CANDIDATES: usize = 64;
    let starts = (0..tail.len() - 4).rev().filter(|from| is_flac_header(&tail[*from..]));
    if starts.take(MAX_CANDIDATES).any(|from| crc16(&tail[from..]) == 0) { Ok(()) } else { Err(CUT) }
}

/// A FLAC frame header with its CRC-8 (RFC 9639 §9.1).
fn is_flac_header(bytes: &[u8]) -> bool {
    let [0xff, 0xf8 | 0xf9, sizes, _, coded, ..] = bytes else { return false };
    let number = match coded.leading_ones() {
        0 => 1,
        n @ 2..=7 => n as usize,
        _ => return false,
    };
    let block = match sizes >> 4 {
        6 => 1,
        7 => 2,
        _ => 0,
    };
    let rate = match sizes & 15 {
        12 => 1,
        13 | 14 => 2,
        _ => 0,
    };
    let len = 4 + number + block + rate;
    let crc = |crc: u8, byte: &u8| (0..8).fold(crc ^ byte, |c, _| if c & 0x80 != 0 { (c << 1) ^ 0x07 } else { c << 1 });
    bytes.get(..=len).is_some_and(|header| header.iter().fold(0, crc) == 0)
}

/// CRC-16 with polynomial 0x8005; zero over data that ends with its own CRC.
fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |c, _| if c & 0x8000 != 0 { (c << 1) ^ 0x8005 } else { c << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::by_mime;
    use std::io::Cursor;

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), kind in 0usize..10) {
            let kinds: [(&str, &[u8]); 10] = [
                ("image/jpeg", b"\xff\xd8\xff"), ("image/png", b"\x89PNG\r\n\x1a\n"), ("image/gif", b"GIF89a"), ("image/webp", b"RIFF"),
                ("video/mp4", b"\0\0\0\x10ftyp"), ("image/jxl", b"\0\0\0\x0cJXL "), ("image/tiff", b"II*\0"), ("image/svg+xml", b"<svg"),
                ("audio/mpeg", b"\xff\xfb\x90"), ("audio/flac", b"fLaC"),
            ];
            let mut all = kinds[kind].1.to_vec();
            all.extend(bytes);
            let _ = check_complete(by_mime(kinds[kind].0), &mut Cursor::new(&all));
        }
    }
}
