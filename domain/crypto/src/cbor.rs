//! The few deterministic CBOR encodings (RFC 8949 §4.2) that signatures need byte for byte, and bounded decoding of the rest.

use crate::CryptoError;
use ciborium::Value;

/// Major types of RFC 8949 §3.1.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Major {
    /// Unsigned integer.
    Unsigned = 0,
    /// Negative integer: the argument is `-1 - n`.
    Negative = 1,
    /// Byte string.
    Bytes = 2,
    /// Text string.
    Text = 3,
    /// Array.
    Array = 4,
    /// Map.
    Map = 5,
    /// Tag.
    Tag = 6,
}

/// The simple value `true` (RFC 8949 §3.3).
pub const TRUE: u8 = 0xf5;

/// Appends the shortest head of `major` with `argument`.
pub fn head(out: &mut Vec<u8>, major: Major, argument: u64) {
    let kind = (major as u8) << 5;
    match argument {
        0..=23 => out.push(kind | argument as u8),
        24..=0xff => out.extend([kind | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(kind | 25);
            out.extend((argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(kind | 26);
            out.extend((argument as u32).to_be_bytes());
        }
        _ => {
            out.push(kind | 27);
            out.extend(argument.to_be_bytes());
        }
    }
}

/// Appends an integer.
pub fn int(out: &mut Vec<u8>, value: i64) {
    if value >= 0 {
        head(out, Major::Unsigned, value.unsigned_abs());
    } else {
        head(out, Major::Negative, value.unsigned_abs() - 1);
    }
}

/// Appends a byte string.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, Major::Bytes, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a text string.
pub fn text(out: &mut Vec<u8>, value: &str) {
    head(out, Major::Text, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// How deep CBOR may nest. Manifests in the wild stay below a dozen levels.
const MAX_DEPTH: usize = 64;

/// Decodes exactly one item; trailing bytes are an error. Nesting is bounded, and lengths larger than the input are refused
/// before anything is allocated for them.
pub fn decode(input: &[u8]) -> Result<Value, CryptoError> {
    let mut rest = input;
    let value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).map_err(|_| CryptoError::Malformed("CBOR"))?;
    if rest.is_empty() { Ok(value) } else { Err(CryptoError::Malformed("bytes after the CBOR item")) }
}

/// The value of an integer key in a map.
pub fn get_int(map: &[(Value, Value)], key: i64) -> Option<&Value> {
    map.iter().find(|(k, _)| k.as_integer().is_some_and(|i| i128::from(i) == i128::from(key))).map(|(_, v)| v)
}

/// The value of a text key in a map.
pub fn get_text<'a>(map: &'a [(Value, Value)], key: &str) -> Option<&'a Value> {
    map.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_the_shortest() {
        for (n, len) in [(0u64, 1usize), (23, 1), (24, 2), (255, 2), (256, 3), (65535, 3), (65536, 5), (u32::MAX as u64 + 1, 9)] {
            let mut out = Vec::new();
            head(&mut out, Major::Bytes, n);
            assert_eq!(out.len(), len, "{n}");
        }
    }

    #[test]
    fn integers_match_a_general_encoder() {
        for n in [0i64, 1, -1, -7, -49, -65600, 255, 65536, i64::MAX, i64::MIN] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            int(&mut ours, n);
            ciborium::into_writer(&n, &mut theirs).unwrap();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn hostile_input_is_refused_quickly() {
        assert!(decode(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(decode(&[0x5b, 0, 0, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(decode(&vec![0x81; 10_000]).is_err());
        assert!(decode(&[0x01, 0x01]).is_err());
        assert!(decode(&[]).is_err());
    }
}
