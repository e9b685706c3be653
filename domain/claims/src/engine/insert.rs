//! Formats that take a manifest between two of their bytes, so that nothing else changes.

use omt_kernel::{Result, error::Context as _, port::Content};
use std::{borrow::Cow, io::Read};

const APP11: u8 = 0xeb;

/// Where a manifest can be inserted.
pub(super) struct Place<'a> {
    /// The content.
    pub(super) bytes: Cow<'a, [u8]>,
    /// How many of its bytes stand before the manifest.
    pub(super) at: usize,
}

/// The place for a manifest, if this content has one; otherwise the manifest engine must write the asset anew.
pub(super) fn place<'a>(format: &str, source: &'a Content, size: u64) -> Result<Option<Place<'a>>> {
    if format != "image/jpeg" || size >= super::LARGE {
        return Ok(None);
    }
    let bytes = match source {
        Content::Memory(bytes) => Cow::Borrowed(bytes.as_ref()),
        Content::File(temporary) => Cow::Owned(std::fs::read(temporary.path()).context("cannot read content")?),
        Content::Stored(file) => {
            let mut bytes = Vec::new();
            file.open().and_then(|mut file| file.read_to_end(&mut bytes)).context("cannot read content")?;
            Cow::Owned(bytes)
        }
    };
    Ok(jpeg(&bytes).map(|at| Place { bytes, at }))
}

/// After the start of image and the last APP0 segment (C2PA 2.2 §A.3.1; JFIF demands APP0 first). None for a JPEG that has
/// an APP11 segment anywhere, since box instance numbers must then be told apart, or that is not a plain row of segments up to
/// its first scan.
fn jpeg(bytes: &[u8]) -> Option<usize> {
    const APP0: u8 = 0xe0;
    const SOS: u8 = 0xda;
    if !bytes.starts_with(&[0xff, 0xd8]) || memchr::memmem::find(bytes, &[0xff, APP11]).is_some() {
        return None;
    }
    let (mut at, mut place) = (2, 2);
    loop {
        let [0xff, marker, high, low] = *bytes.get(at..at + 4)? else { return None };
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        match marker {
            SOS => return Some(place),
            APP0 => place = end,
            0xc0..=0xcf | 0xdb..=0xdf | 0xe1..=0xef | 0xfe => {}
            _ => return None,
        }
        if end < at + 4 || end > bytes.len() {
            return None;
        }
        at = end;
    }
}

/// The most bytes of a store in one segment, whose length has 16 bits.
const MOST: usize = 0xffff - SEGMENT;
/// A segment's length, common identifier, box instance, packet number, and the head of the box that goes on in it.
const SEGMENT: usize = 2 + 2 + 2 + 4 + BOX;
const BOX: usize = 8;

/// How many bytes [`segments`] appends for a store of this length, which has a box's head at least.
pub(super) fn length(store: usize) -> usize {
    let body = store - BOX;
    body + body.div_ceil(MOST) * (2 + SEGMENT)
}

/// Appends a manifest store as APP11 segments (ISO 19566-5 §D.2; C2PA 2.2 §A.3.1): every segment says which box goes on in it.
pub(super) fn segments(out: &mut Vec<u8>, store: &[u8]) {
    const INSTANCE: [u8; 2] = [0, 1];
    let (head, body) = store.split_at(BOX);
    for (packet, part) in body.chunks(MOST).enumerate() {
        out.extend([0xff, APP11]);
        // Both fit: a part is bounded by `MOST`, and a store by what an asset may have.
        out.extend(((SEGMENT + part.len()) as u16).to_be_bytes());
        out.extend(b"JP");
        out.extend(INSTANCE);
        out.extend((packet as u32 + 1).to_be_bytes());
        out.extend(head);
        out.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::{BOX, MOST, jpeg, length, segments};
    use crate::jumbf::write::{BoxType, boxed, superbox};

    const TAIL: &[u8] = b"\xff\xda\x00\x02\x01\x02\xff\xd9";

    fn file(segments: &[&[u8]]) -> Vec<u8> {
        [&[b"\xff\xd8".as_slice()], segments, &[TAIL]].concat().concat()
    }

    #[test]
    fn goes_after_jfif_and_nowhere_else() {
        let (jfif, exif) = (b"\xff\xe0\x00\x04ab".as_slice(), b"\xff\xe1\x00\x03e".as_slice());
        assert_eq!(jpeg(&file(&[jfif, exif])), Some(8));
        assert_eq!(jpeg(&file(&[exif])), Some(2));
        assert_eq!(jpeg(&file(&[exif, jfif])), Some(13));
    }

    #[test]
    fn leaves_unusual_files_to_the_engine() {
        let app11 = b"\xff\xeb\x00\x04ab".as_slice();
        assert_eq!(jpeg(&file(&[app11])), None);
        assert_eq!(jpeg(&[file(&[]), app11.to_vec()].concat()), None);
        assert_eq!(jpeg(&file(&[b"\xff\xff\xe1\x00\x02"])), None, "fill bytes");
        assert_eq!(jpeg(&file(&[b"\xff\xe1\x00\x01"])), None, "a length that is too small");
        assert_eq!(jpeg(&file(&[b"\xff\xe1\xff\xff"])), None, "a length past the end");
        assert_eq!(jpeg(b"\xff\xd8\xff"), None);
        assert_eq!(jpeg(b""), None);
    }

    #[test]
    fn segments_are_as_long_as_said_and_read_back() {
        let store = |fill: usize| {
            let mut store = Vec::new();
            superbox(&mut store, BoxType::Named(*b"c2pa"), "c2pa", None, |out| {
                boxed(out, b"free", |out| out.extend((0..fill).map(|at| at as u8)));
            });
            store
        };
        let least = store(0).len() - BOX;
        for body in [least, 5000, MOST - 1, MOST, MOST + 1, 3 * MOST, 3 * MOST + 7] {
            let store = store(body - least);
            let mut out = Vec::new();
            segments(&mut out, &store);
            assert_eq!(out.len(), length(store.len()), "{body}");
            let asset = [b"\xff\xd8".as_slice(), &out, TAIL].concat();
            let read = c2pa::jumbf_io::load_jumbf_from_stream("image/jpeg", &mut std::io::Cursor::new(asset)).unwrap();
            assert!(read == store, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_stays_inside(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let all = [b"\xff\xd8\xff\xe0\x00\x04ab\xff".as_slice(), &bytes].concat();
            if let Some(at) = jpeg(&all) {
                proptest::prop_assert!((2..=all.len()).contains(&at));
            }
        }
    }
}
