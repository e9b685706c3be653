//! IPTC-IIM 4.2 record 2 in a JPEG's Photoshop segment, under the names of the IPTC photo metadata standard.

use super::{Properties, clean, redact::all};
use crate::guard::find;
use std::{collections::BTreeSet, ops::Range};

const SIGNATURE: &[u8] = b"Photoshop 3.0\0";

/// Data set numbers of record 2 and their XMP properties.
const DATASETS: &[(u8, &str)] = &[
    (5, "dc:title"),
    (25, "dc:subject"),
    (40, "photoshop:Instructions"),
    (55, "photoshop:DateCreated"),
    (80, "dc:creator"),
    (85, "photoshop:AuthorsPosition"),
    (90, "photoshop:City"),
    (95, "photoshop:State"),
    (101, "photoshop:Country"),
    (105, "photoshop:Headline"),
    (110, "photoshop:Credit"),
    (115, "photoshop:Source"),
    (116, "dc:rights"),
    (118, "Iptc4xmpCore:CreatorContactInfo"),
    (120, "dc:description"),
    (122, "photoshop:CaptionWriter"),
];

/// Reads the image resource 0x0404 of the first Photoshop segment.
pub(super) fn read(window: &[u8]) -> Properties {
    let mut out = Properties::new();
    if let Some(start) = find(window, SIGNATURE) {
        datasets(window, start, &mut |name, place| {
            if let Some(text) = window.get(place).and_then(|value| clean(&String::from_utf8_lossy(value))) {
                super::append(&mut out, name.to_owned(), text);
            }
        });
    }
    out
}

/// Reads what a TIFF directory has: records, or image resources with records among them.
pub(super) fn read_blocks(blocks: &[Vec<u8>]) -> Properties {
    let mut out = Properties::new();
    for block in blocks {
        let mut add = |name: &'static str, place: Range<usize>| {
            if let Some(text) = block.get(place).and_then(|value| clean(&String::from_utf8_lossy(value))) {
                super::append(&mut out, name.to_owned(), text);
            }
        };
        if block.starts_with(b"8BIM") {
            resources(block, 0, &mut add);
        } else {
            records(block, 0..block.len(), &mut add);
        }
    }
    out
}

/// Where properties stand, in every Photoshop segment.
pub(super) fn places(bytes: &[u8], names: &BTreeSet<String>) -> Vec<Range<usize>> {
    let (mut out, mut end) = (Vec::new(), 0);
    for start in all(bytes, SIGNATURE) {
        if start < end {
            continue;
        }
        // A segment holds 64 KiB at most.
        let segment = &bytes[..bytes.len().min(start + 0x1_0000)];
        end = datasets(segment, start, &mut |name, place| {
            if names.contains(name) {
                out.push(place);
            }
        });
    }
    out
}

/// Visits the known data sets of the segment whose signature stands at `start`; where that ends.
fn datasets(bytes: &[u8], start: usize, visit: &mut dyn FnMut(&'static str, Range<usize>)) -> usize {
    resources(bytes, start + SIGNATURE.len(), visit)
}

/// The same, of image resources that begin at a place.
fn resources(bytes: &[u8], mut at: usize, visit: &mut dyn FnMut(&'static str, Range<usize>)) -> usize {
    while let Some([b'8', b'B', b'I', b'M', high, low, name_len]) = bytes.get(at..at + 7) {
        // The Pascal name with its length byte is padded to an even number.
        let size_at = at + 6 + (usize::from(*name_len) + 1).next_multiple_of(2);
        let Some(size) = bytes.get(size_at..size_at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()) else { return at };
        let (data, size) = (size_at + 4, u32::from_be_bytes(size) as usize);
        let Some(end) = data.checked_add(size).filter(|end| *end <= bytes.len()) else { return at };
        if (*high, *low) == (4, 4) {
            records(bytes, data..end, visit);
        }
        at = data + size.next_multiple_of(2);
    }
    at
}

fn records(bytes: &[u8], data: Range<usize>, visit: &mut dyn FnMut(&'static str, Range<usize>)) {
    let mut at = data.start;
    while let Some([0x1c, record, number, high, low]) = bytes.get(at..at + 5) {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let place = at + 5..at + 5 + size;
        // Extended sizes (the first bit set) are not used for text.
        if size >= 0x8000 || place.end > data.end {
            return;
        }
        if *record == 2
            && let Some((_, name)) = DATASETS.iter().find(|(n, _)| n == number)
        {
            visit(name, place.clone());
        }
        at = place.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_record_two() {
        let mut iim = Vec::new();
        for (number, text) in [(5u8, "Title"), (25, "one"), (25, "two"), (90, "Kyoto")] {
            iim.extend([0x1c, 2, number, 0, text.len() as u8]);
            iim.extend(text.as_bytes());
        }
        let mut segment = b"....Photoshop 3.0\x008BIM\x04\x04\0\0".to_vec();
        segment.extend((iim.len() as u32).to_be_bytes());
        segment.extend(&iim);
        let found = read(&segment);
        assert_eq!(
            (found["dc:title"].as_str(), found["dc:subject"].as_str(), found["photoshop:City"].as_str()),
            ("Title", "one; two", "Kyoto")
        );
        for cut in 0..segment.len() {
            let _ = read(&segment[..cut]);
        }
    }
}
