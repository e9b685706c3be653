//! IPTC-IIM 4.2 record 2 in a JPEG's Photoshop segment, under the names of the IPTC photo metadata standard.

use super::{Properties, clean};
use crate::guard::find;

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
    let Some(start) = find(window, b"Photoshop 3.0\0") else { return out };
    let mut rest = &window[start + 14..];
    while let [b'8', b'B', b'I', b'M', high, low, name_len, after @ ..] = rest {
        // The Pascal name with its length byte is padded to an even number.
        let name = (usize::from(*name_len) + 1).next_multiple_of(2) - 1;
        let Some(size) = after.get(name..name + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()) else { return out };
        let size = u32::from_be_bytes(size) as usize;
        let Some(data) = after.get(name + 4..(name + 4).saturating_add(size)) else { return out };
        if (*high, *low) == (4, 4) {
            datasets(data, &mut out);
            return out;
        }
        rest = after.get(name + 4 + size.next_multiple_of(2)..).unwrap_or_default();
    }
    out
}

fn datasets(mut data: &[u8], out: &mut Properties) {
    while let [0x1c, record, number, high, low, after @ ..] = data {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        // Extended sizes (the first bit set) are not used for text.
        let Some(value) = after.get(..size).filter(|_| size < 0x8000) else { return };
        if *record == 2
            && let Some((_, name)) = DATASETS.iter().find(|(n, _)| n == number)
            && let Some(text) = clean(&String::from_utf8_lossy(value))
        {
            super::append(out, (*name).to_owned(), text);
        }
        data = &after[size..];
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
