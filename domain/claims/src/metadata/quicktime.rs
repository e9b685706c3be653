//! User data and item lists of movies (QuickTime File Format, "Metadata"; ISO/IEC 14496-12 §8.10 and §8.11; 3GPP TS 26.244 §8).

use super::{
    tags::Tags,
    technical::{BoxAt, boxes, read_box},
};
use crate::guard::ReadSeek;
use std::io::SeekFrom;

/// The longest list of items that is read.
const MAX_LIST: u64 = 1 << 20;

/// Reads what a movie and its tracks say.
pub(super) fn read(source: &mut dyn ReadSeek, tags: &mut Tags) {
    let Ok(end) = source.seek(SeekFrom::End(0)) else { return };
    let Some(movie) = boxes(source, 0, end).into_iter().find(|b| &b.kind == b"moov") else { return };
    level(source, &movie, tags);
    for track in boxes(source, movie.body, movie.end).iter().filter(|b| &b.kind == b"trak").take(64) {
        level(source, track, tags);
    }
}

/// What stands directly under a movie or a track.
fn level(source: &mut dyn ReadSeek, parent: &BoxAt, tags: &mut Tags) {
    for inner in boxes(source, parent.body, parent.end) {
        match &inner.kind {
            b"udta" => user_data(source, &inner, tags),
            b"meta" => items(source, &inner, tags),
            _ => {}
        }
    }
}

fn user_data(source: &mut dyn ReadSeek, parent: &BoxAt, tags: &mut Tags) {
    for inner in boxes(source, parent.body, parent.end) {
        match &inner.kind {
            b"meta" => items(source, &inner, tags),
            b"loci" => location(&read_box(source, &inner, MAX_LIST), tags),
            // Several texts, each with a length and a language.
            [0xa9, key @ ..] => {
                let body = read_box(source, &inner, MAX_LIST);
                let mut rest = body.as_slice();
                while let Some((head, more)) = rest.split_first_chunk::<4>() {
                    let size = usize::from(u16::from_be_bytes([head[0], head[1]]));
                    let Some((text, more)) = more.split_at_checked(size) else { break };
                    say(&String::from_utf8_lossy(key), &String::from_utf8_lossy(text), tags);
                    rest = more;
                }
            }
            _ => {}
        }
    }
}

/// An item list, and the keys that its entries are numbered by, where it has such.
fn items(source: &mut dyn ReadSeek, meta: &BoxAt, tags: &mut Tags) {
    // QuickTime's has no version and flags, the other has.
    let plain = boxes(source, meta.body, meta.end).iter().any(|b| &b.kind == b"hdlr");
    let start = if plain { meta.body } else { meta.body + 4 };
    let inner = boxes(source, start, meta.end);
    let keys = inner.iter().find(|b| &b.kind == b"keys").map(|keys| read_box(source, keys, MAX_LIST)).unwrap_or_default();
    let keys = key_names(&keys);
    for list in inner.iter().filter(|b| &b.kind == b"ilst") {
        for item in boxes(source, list.body, list.end) {
            let number = u32::from_be_bytes(item.kind) as usize;
            let parts = boxes(source, item.body, item.end);
            let key = match (&item.kind, number.checked_sub(1).and_then(|n| keys.get(n))) {
                (_, Some(key)) => key.clone(),
                ([0xa9, key @ ..], None) => String::from_utf8_lossy(key).into_owned(),
                // A name of its own: after version and flags.
                (b"----", None) => {
                    let name = parts.iter().find(|b| &b.kind == b"name").map(|name| read_box(source, name, 256));
                    String::from_utf8_lossy(name.unwrap_or_default().get(4..).unwrap_or_default()).into_owned()
                }
                (kind, None) => String::from_utf8_lossy(kind.as_slice()).into_owned(),
            };
            for data in parts.iter().filter(|b| &b.kind == b"data") {
                // Type 1 is UTF-8, and 0 none that is said.
                if let Some(([0, 0, 0, 0 | 1, ..], text)) = read_box(source, data, MAX_LIST).split_first_chunk::<8>() {
                    say(&key, &String::from_utf8_lossy(text), tags);
                }
            }
        }
    }
}

/// The keys of a `keys` box, in order.
fn key_names(body: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = body.get(8..).unwrap_or_default();
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((key, more)) = rest.split_at_checked(size).filter(|(key, _)| key.len() >= 8 && out.len() < 1_000) else { break };
        out.push(String::from_utf8_lossy(&key[8..]).into_owned());
        rest = more;
    }
    out
}

/// 3GPP's place: longitude, latitude and altitude as 16.16 fixed point, after a name and a role.
fn location(body: &[u8], tags: &mut Tags) {
    let Some(rest) = body.get(6..) else { return };
    let Some(end) = rest.iter().position(|b| *b == 0) else { return };
    let fixed = |at: usize| {
        let bytes: [u8; 4] = rest.get(at..at + 4)?.try_into().ok()?;
        Some(f64::from(i32::from_be_bytes(bytes)) / 65_536.0)
    };
    if let (Some(longitude), Some(latitude)) = (fixed(end + 2), fixed(end + 6)) {
        place(latitude, longitude, tags);
    }
}

/// Adds a text; a place as XMP writes places.
fn say(key: &str, text: &str, tags: &mut Tags) {
    if key == "xyz" || key.ends_with("location.ISO6709") {
        match iso6709(text) {
            Some((latitude, longitude)) => place(latitude, longitude, tags),
            None => tags.put("quicktime:GPSCoordinates".into(), text),
        }
    } else {
        tags.add("quicktime", key, text);
    }
}

/// Degrees north and east of a place as ISO 6709 annex H writes it in decimals, such as `+37.3318-122.0312+000.000/`.
fn iso6709(text: &str) -> Option<(f64, f64)> {
    let signs: Vec<usize> = text.match_indices(['+', '-']).map(|(at, _)| at).collect();
    let [0, second, ..] = signs[..] else { return None };
    let end = signs.get(2).copied().or_else(|| text.find(['/', 'C'])).unwrap_or(text.len());
    let number = |text: &str, digits: usize| {
        // Minutes and seconds would follow with more digits before the point.
        let whole = text.get(1..)?.split('.').next()?;
        (whole.len() <= digits).then(|| text.trim().parse::<f64>().ok())?
    };
    Some((number(text.get(..second)?, 2)?, number(text.get(second..end)?, 3)?))
}

/// As XMP writes a place (XMP part 2, "GPSCoordinate"): degrees, minutes with decimals, and the hemisphere.
fn place(latitude: f64, longitude: f64, tags: &mut Tags) {
    if latitude.abs() > 90.0 || longitude.abs() > 180.0 {
        return;
    }
    for (name, degrees, hemispheres) in [("Latitude", latitude, ['N', 'S']), ("Longitude", longitude, ['E', 'W'])] {
        let hemisphere = hemispheres[usize::from(degrees < 0.0)];
        let minutes = degrees.abs().fract() * 60.0;
        tags.put(format!("exif:GPS{name}"), &format!("{},{minutes:.6}{hemisphere}", degrees.abs().trunc()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        assert_eq!(iso6709("+37.3318-122.0312+000.000/"), Some((37.3318, -122.0312)));
        assert_eq!(iso6709("-01.2921+103.8500/"), Some((-1.2921, 103.85)));
        assert_eq!(iso6709("+40-075CRSWGS_84/"), Some((40.0, -75.0)));
        for other in ["", "+", "37.3-122.0/", "+4012.22-07500.25/", "+a-b/"] {
            assert_eq!(iso6709(other), None, "{other}");
        }
    }
}
