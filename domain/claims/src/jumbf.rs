//! A reader of JUMBF manifest stores (ISO 19566-5; C2PA 2.2 §11.1) that keeps the exact bytes of claims, signatures and
//! assertions, and refuses hostile structures before the engine sees them.

pub(crate) mod write;

use std::collections::HashMap;

/// Bounds that real manifest stores stay far below.
const MAX_DEPTH: usize = 16;
const MAX_BOXES: usize = 20_000;
const MAX_MANIFESTS: usize = 500;
const MAX_ASSERTIONS: usize = 1_000;
const MAX_CBOR_DEPTH: usize = 64;
const MAX_CBOR_ITEMS: usize = 500_000;
const MAX_CBOR_BYTES: usize = 8 << 20;

/// The part of a C2PA box type's UUID that differs: the first four bytes, ASCII (C2PA 2.2 §11.1).
const UUID_TAIL: [u8; 12] = [0x00, 0x11, 0x00, 0x10, 0x80, 0x00, 0x00, 0xaa, 0x00, 0x38, 0x9b, 0x71];

/// Why a manifest store is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JumbfError {
    /// The structure is not JUMBF, or is cut off.
    #[error("the manifest store is malformed: {0}")]
    Malformed(&'static str),
    /// It is well-formed but beyond any sensible size.
    #[error("the manifest store is beyond the limits: {0}")]
    Limit(&'static str),
}

/// One manifest, borrowed from the store.
#[derive(Debug, Clone, Default)]
pub struct ManifestBox<'a> {
    /// Its label, such as `urn:c2pa:…`.
    pub label: String,
    /// The claim's CBOR.
    pub claim: Option<&'a [u8]>,
    /// Whether the claim is version 2 (`c2pa.claim.v2`).
    pub claim_v2: bool,
    /// The claim signature's COSE.
    pub signature: Option<&'a [u8]>,
    /// Assertions: label and, where it is CBOR or JSON, the content.
    pub assertions: Vec<(String, Option<&'a [u8]>)>,
}

/// A parsed store; the last manifest is the active one.
#[derive(Debug, Clone, Default)]
pub struct ManifestStore<'a> {
    /// Manifests in the order of the file.
    pub manifests: Vec<ManifestBox<'a>>,
    by_label: HashMap<String, usize>,
}

impl<'a> ManifestStore<'a> {
    /// Parses a store and checks every bound.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JumbfError> {
        let mut budget = MAX_BOXES;
        let mut top = Boxes { rest: bytes, budget: &mut budget };
        let Some((kind, body)) = top.next_box()? else { return Err(JumbfError::Malformed("it is empty")) };
        if kind != *b"jumb" {
            return Err(JumbfError::Malformed("the first box is not a superbox"));
        }
        check_depth(body, 1, &mut { MAX_BOXES })?;
        let mut store = Self::default();
        let (description, inner) = superbox(body, &mut budget)?;
        if description.kind != *b"c2pa" {
            return Err(JumbfError::Malformed("it is not a C2PA manifest store"));
        }
        for (kind, body) in inner {
            if kind != *b"jumb" {
                continue;
            }
            if store.manifests.len() == MAX_MANIFESTS {
                return Err(JumbfError::Limit("more than 500 manifests"));
            }
            let manifest = parse_manifest(body, &mut budget)?;
            if store.by_label.insert(manifest.label.clone(), store.manifests.len()).is_some() {
                return Err(JumbfError::Malformed("two manifests have one label"));
            }
            store.manifests.push(manifest);
        }
        Ok(store)
    }

    /// The active manifest.
    pub fn active(&self) -> Option<&ManifestBox<'a>> {
        self.manifests.last()
    }

    /// A manifest by label.
    pub fn get(&self, label: &str) -> Option<&ManifestBox<'a>> {
        self.by_label.get(label).map(|at| &self.manifests[*at])
    }
}

/// Reads one manifest. Readers differ in whether they find boxes by label or by type and which of several they take, so
/// anything on which they could disagree is refused.
fn parse_manifest<'a>(body: &'a [u8], budget: &mut usize) -> Result<ManifestBox<'a>, JumbfError> {
    let (description, inner) = superbox(body, budget)?;
    match &description.kind {
        b"c2ma" | b"c2um" => {}
        b"c2cm" => return Err(JumbfError::Malformed("compressed manifests are not supported")),
        _ => return Err(JumbfError::Malformed("a manifest of an unknown kind")),
    }
    let mut manifest = ManifestBox { label: description.label, ..Default::default() };
    let mut seen = std::collections::HashSet::new();
    for (kind, body) in inner {
        if kind == *b"brob" {
            return Err(JumbfError::Malformed("compressed manifests are not supported"));
        }
        if kind != *b"jumb" {
            continue;
        }
        let (description, inner) = superbox(body, budget)?;
        let part = match description.label.as_str() {
            "c2pa.claim" | "c2pa.claim.v2" => Some(*b"c2cl"),
            "c2pa.signature" => Some(*b"c2cs"),
            "c2pa.assertions" => Some(*b"c2as"),
            _ => None,
        };
        let of_kind = [*b"c2cl", *b"c2cs", *b"c2as"].into_iter().find(|k| *k == description.kind);
        if part != of_kind {
            return Err(JumbfError::Malformed("a box whose label and type disagree"));
        }
        let Some(part) = part else { continue };
        if !seen.insert(part) {
            return Err(JumbfError::Malformed("two claims, signatures or assertion stores in one manifest"));
        }
        match &part {
            b"c2cl" => {
                manifest.claim = content(&inner, b"cbor");
                manifest.claim_v2 = description.label.ends_with(".v2");
            }
            b"c2cs" => manifest.signature = content(&inner, b"cbor"),
            _ => {
                for (kind, body) in inner {
                    if kind != *b"jumb" {
                        continue;
                    }
                    if manifest.assertions.len() == MAX_ASSERTIONS {
                        return Err(JumbfError::Limit("more than 1000 assertions in one manifest"));
                    }
                    let (description, inner) = superbox(body, budget)?;
                    let data = content(&inner, b"cbor").or_else(|| content(&inner, b"json"));
                    manifest.assertions.push((description.label, data));
                }
            }
        }
    }
    Ok(manifest)
}

/// The boxes at one level.
struct Boxes<'a, 'b> {
    rest: &'a [u8],
    budget: &'b mut usize,
}

type BoxKind = [u8; 4];

impl<'a> Boxes<'a, '_> {
    fn next_box(&mut self) -> Result<Option<(BoxKind, &'a [u8])>, JumbfError> {
        let cut = JumbfError::Malformed("a box is cut off");
        if self.rest.is_empty() {
            return Ok(None);
        }
        *self.budget = self.budget.checked_sub(1).ok_or(JumbfError::Limit("more than 20000 boxes"))?;
        let head: [u8; 8] = self.rest.get(..8).and_then(|b| b.try_into().ok()).ok_or(cut.clone())?;
        let kind = [head[4], head[5], head[6], head[7]];
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (header, size) = match size {
            // "To the end of the file" and 64-bit sizes have no place in a manifest store, and the engine misreads them.
            0 | 1 => return Err(JumbfError::Malformed("a box without a 32-bit size")),
            size => (8usize, size as usize),
        };
        if size < header || size > self.rest.len() {
            return Err(cut);
        }
        let (this, rest) = self.rest.split_at(size);
        self.rest = rest;
        Ok(Some((kind, &this[header..])))
    }
}

/// A description box (ISO 19566-5 §A.3).
struct Description {
    /// The four characters of a C2PA type; zeros for any other UUID.
    kind: BoxKind,
    label: String,
}

type Content<'a> = Vec<(BoxKind, &'a [u8])>;

/// A superbox's description and the boxes after it.
fn superbox<'a>(body: &'a [u8], budget: &mut usize) -> Result<(Description, Content<'a>), JumbfError> {
    let malformed = JumbfError::Malformed("a superbox without a sound description");
    let mut boxes = Boxes { rest: body, budget };
    let (kind, description) = boxes.next_box()?.ok_or(malformed.clone())?;
    if kind != *b"jumd" || description.len() < 17 {
        return Err(malformed);
    }
    let kind =
        if description[4..16] == UUID_TAIL { [description[0], description[1], description[2], description[3]] } else { [0; 4] };
    let label = if description[16] & 0x02 == 0 {
        String::new()
    } else {
        let text = &description[17..];
        let end = text.iter().position(|b| *b == 0).ok_or(malformed.clone())?;
        std::str::from_utf8(&text[..end]).map_err(|_| malformed)?.to_owned()
    };
    let mut inner = Vec::new();
    while let Some(item) = boxes.next_box()? {
        inner.push(item);
    }
    Ok((Description { kind, label }, inner))
}

fn content<'a>(inner: &Content<'a>, wanted: &[u8; 4]) -> Option<&'a [u8]> {
    inner.iter().find(|(kind, _)| kind == wanted).map(|(_, body)| *body)
}

/// Walks every superbox, however it is labelled: bounds the nesting and scans all CBOR.
fn check_depth(superbox: &[u8], depth: usize, budget: &mut usize) -> Result<(), JumbfError> {
    if depth > MAX_DEPTH {
        return Err(JumbfError::Limit("boxes nest deeper than 16"));
    }
    let mut boxes = Boxes { rest: superbox, budget };
    while let Some((kind, body)) = boxes.next_box()? {
        match &kind {
            b"jumb" => check_depth(body, depth + 1, boxes.budget)?,
            b"cbor" => scan_cbor(body)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks CBOR without building anything: lengths within the input, nesting (tags included) and items bounded. Bytes that are
/// not CBOR at all pass up to the point where they stop making sense; the engine reports those.
pub fn scan_cbor(bytes: &[u8]) -> Result<(), JumbfError> {
    const LONG: JumbfError = JumbfError::Malformed("a CBOR length goes past the end");
    if bytes.len() > MAX_CBOR_BYTES {
        return Err(JumbfError::Limit("more than 8 MiB of CBOR in one box"));
    }
    // How many items are still to come at each level; u64::MAX for an indefinite length.
    let mut levels: Vec<u64> = vec![1];
    let (mut at, mut items) = (0usize, 0usize);
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        let Some(&initial) = bytes.get(at) else { return Err(LONG) };
        at += 1;
        items += 1;
        if items > MAX_CBOR_ITEMS {
            return Err(JumbfError::Limit("more than 500000 CBOR items"));
        }
        if initial == 0xff {
            if *left != u64::MAX {
                return Err(JumbfError::Malformed("a CBOR break outside an indefinite length"));
            }
            levels.pop();
            continue;
        }
        if *left != u64::MAX {
            *left -= 1;
        }
        let (major, info) = (initial >> 5, initial & 31);
        let width = match info {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            31 if matches!(major, 2..=5) => {
                levels.push(u64::MAX);
                if levels.len() > MAX_CBOR_DEPTH {
                    return Err(JumbfError::Limit("CBOR nests deeper than 64"));
                }
                continue;
            }
            _ => return Err(JumbfError::Malformed("a reserved CBOR head")),
        };
        let argument = bytes.get(at..at + width).ok_or(LONG)?;
        at += width;
        let argument = if width == 0 { u64::from(info) } else { argument.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)) };
        let remaining = (bytes.len() - at) as u64;
        match major {
            2 | 3 => {
                if argument > remaining {
                    return Err(LONG);
                }
                at += argument as usize;
            }
            4..=6 => {
                let inside = match major {
                    4 => argument,
                    5 => argument.checked_mul(2).ok_or(LONG)?,
                    _ => 1,
                };
                // Every item takes a byte at least.
                if inside > remaining {
                    return Err(LONG);
                }
                levels.push(inside);
                if levels.len() > MAX_CBOR_DEPTH {
                    return Err(JumbfError::Limit("CBOR nests deeper than 64"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
        out.extend(kind);
        out.extend(body);
        out
    }

    fn superbox(label: &str, inner: &[u8]) -> Vec<u8> {
        typed(b"none", label, inner)
    }

    fn typed(kind: &[u8; 4], label: &str, inner: &[u8]) -> Vec<u8> {
        let mut description = kind.to_vec();
        description.extend(UUID_TAIL);
        description.push(3);
        description.extend(label.as_bytes());
        description.push(0);
        let mut body = boxed(b"jumd", &description);
        body.extend(inner);
        boxed(b"jumb", &body)
    }

    fn manifest(label: &str, parts: &[Vec<u8>]) -> Vec<u8> {
        typed(b"c2ma", label, &parts.concat())
    }

    fn claim(cbor: &[u8]) -> Vec<u8> {
        typed(b"c2cl", "c2pa.claim.v2", &boxed(b"cbor", cbor))
    }

    #[test]
    fn reads_a_small_store() {
        let assertion = superbox("x.y", &boxed(b"json", b"{}"));
        let assertions = typed(b"c2as", "c2pa.assertions", &assertion);
        let bytes = typed(b"c2pa", "c2pa", &manifest("urn:c2pa:1", &[assertions, claim(&[0xa0])]));
        let store = ManifestStore::parse(&bytes).unwrap();
        let active = store.active().unwrap();
        assert_eq!(active.label, "urn:c2pa:1");
        assert_eq!(active.claim, Some(&[0xa0][..]));
        assert_eq!(active.assertions, vec![("x.y".to_owned(), Some(&b"{}"[..]))]);
    }

    #[test]
    fn stores_on_which_readers_could_disagree_are_refused() {
        let good = manifest("urn:c2pa:1", &[claim(&[0xa0])]);
        let decoy = superbox("c2pa.claim.v2", &boxed(b"cbor", &[0xa1, 1, 2]));
        let unlabelled = typed(b"c2cl", "other", &boxed(b"cbor", &[0xa0]));
        for inner in [
            [good.clone(), good.clone()].concat(),
            manifest("urn:c2pa:1", &[claim(&[0xa0]), decoy]),
            manifest("urn:c2pa:1", &[claim(&[0xa0]), claim(&[0xa0])]),
            manifest("urn:c2pa:1", &[claim(&[0xa0]), unlabelled]),
            typed(b"c2cm", "urn:c2pa:1", &boxed(b"brob", b"...")),
            manifest("urn:c2pa:1", &[boxed(b"brob", b"...")]),
            [good, superbox("urn:c2pa:2", &claim(&[0xa0]))].concat(),
        ] {
            assert!(ManifestStore::parse(&typed(b"c2pa", "c2pa", &inner)).is_err());
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion_to_match() {
        let mut bytes = superbox("leaf", &[]);
        for _ in 0..10_000 {
            bytes = superbox("n", &bytes);
        }
        assert_eq!(ManifestStore::parse(&bytes).unwrap_err(), JumbfError::Limit("boxes nest deeper than 16"));
    }

    #[test]
    fn hostile_cbor_is_refused() {
        assert!(scan_cbor(&[0x5b, 0, 0, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(scan_cbor(&vec![0xc1; 100_000]).is_err());
        assert!(scan_cbor(&vec![0x9f; 100_000]).is_err());
        assert!(scan_cbor(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(scan_cbor(&[0xff]).is_err());
        assert!(scan_cbor(&[0xa1, 0x61, b'a', 0x82, 1, 0x9f, 1, 2, 0xff]).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _ = ManifestStore::parse(&bytes);
            let _ = scan_cbor(&bytes);
        }
        #[test]
        fn accepts_whatever_a_general_encoder_writes(value in proptest::collection::vec(("[a-z]{0,8}", proptest::prelude::any::<i64>()), 0..20)) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&value, &mut bytes).unwrap();
            proptest::prop_assert!(scan_cbor(&bytes).is_ok());
        }
    }
}
