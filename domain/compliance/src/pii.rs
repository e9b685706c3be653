//! Personal data in text: addresses, telephone numbers, national identifiers by country.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// A kind of personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A place.
    Gps,
    /// A device.
    SerialNumber,
    /// An e-mail address.
    Email,
    /// A telephone number in the international form.
    Phone,
    /// A Singapore NRIC or FIN, its check letter right.
    NricSg,
    /// A Thai national identity number, its check digit right.
    NationalIdTh,
    /// A United States social security number.
    SsnUs,
    /// A Spanish DNI or NIE, its check letter right.
    DniEs,
    /// A name.
    Name,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Gps,
        Self::SerialNumber,
        Self::Email,
        Self::Phone,
        Self::NricSg,
        Self::NationalIdTh,
        Self::SsnUs,
        Self::DniEs,
        Self::Name,
    ];

    /// The name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gps => "gps",
            Self::SerialNumber => "serial_number",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NricSg => "nric_sg",
            Self::NationalIdTh => "national_id_th",
            Self::SsnUs => "ssn_us",
            Self::DniEs => "dni_es",
            Self::Name => "name",
        }
    }
}

/// What is found in a text, without the text.
pub fn scan(text: &str) -> Vec<Kind> {
    let mut found = Vec::new();
    // Words as people separate them; digits may be grouped by single spaces or hyphens.
    let between = [',', ';', '"', '(', ')', '<', '>', '[', ']', ':', '='];
    for word in text.split(|c: char| c.is_whitespace() || between.contains(&c)) {
        let word = word.trim_matches(|c: char| matches!(c, '.' | ':' | '!' | '?' | '\''));
        if is_email(word) {
            found.push(Kind::Email);
        }
        if is_nric(word) {
            found.push(Kind::NricSg);
        }
        if is_ssn(word) {
            found.push(Kind::SsnUs);
        }
        if is_dni(word) {
            found.push(Kind::DniEs);
        }
    }
    for run in digit_runs(text) {
        if run.plus && (8..=15).contains(&run.digits.len()) {
            found.push(Kind::Phone);
        }
        if is_thai(&run.digits) && !run.plus {
            found.push(Kind::NationalIdTh);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What is found in the texts of a value, with the place of each.
pub fn scan_value(value: &Value, at: &str, out: &mut Vec<(String, Kind)>) {
    match value {
        Value::String(text) => out.extend(scan(text).into_iter().map(|kind| (at.to_owned(), kind))),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| scan_value(item, &format!("{at}[{n}]"), out)),
        Value::Object(map) => map.iter().for_each(|(name, item)| {
            out.extend(scan(name).into_iter().map(|kind| (at.to_owned(), kind)));
            scan_value(item, &format!("{at}.{name}"), out);
        }),
        Value::Number(number) => out.extend(scan(&number.to_string()).into_iter().map(|kind| (at.to_owned(), kind))),
        _ => {}
    }
}

/// Takes texts with what is found of these kinds out of a value. Numbers and names of members stay.
pub fn redact(value: &mut Value, kinds: &BTreeSet<Kind>) {
    match value {
        Value::String(text) if scan(text).iter().any(|kind| kinds.contains(kind)) => *text = "[redacted]".to_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, kinds)),
        Value::Object(map) => map.iter_mut().for_each(|(_, item)| redact(item, kinds)),
        _ => {}
    }
}

fn is_email(word: &str) -> bool {
    let Some((name, host)) = word.split_once('@') else { return false };
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '%');
    let top = host.rsplit_once('.').is_some_and(|(rest, top)| !rest.is_empty() && top.len() >= 2);
    !name.is_empty() && name.chars().all(part) && host.chars().all(part) && top
}

/// `S1234567D`: a letter for the century or kind, seven digits, and a check letter over their weighted sum.
fn is_nric(word: &str) -> bool {
    let bytes = word.as_bytes();
    if bytes.len() != 9 || !bytes[1..8].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = bytes[1..8].iter().zip([2, 7, 6, 5, 4, 3, 2]).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
    let (offset, letters) = match bytes[0].to_ascii_uppercase() {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        _ => return false,
    };
    letters[((sum + offset) % 11) as usize] == bytes[8].to_ascii_uppercase()
}

/// Thirteen digits, the last of which checks the others.
fn is_thai(digits: &[u8]) -> bool {
    if digits.len() != 13 || digits[0] == 0 {
        return false;
    }
    let sum: u32 = digits[..12].iter().enumerate().map(|(n, d)| u32::from(*d) * (13 - n as u32)).sum();
    (11 - sum % 11) % 10 == u32::from(digits[12])
}

/// `123-45-6789`, none of its parts all zeros, no number that is never given.
fn is_ssn(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let [area, group, serial] = parts[..] else { return false };
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    digits(area, 3)
        && digits(group, 2)
        && digits(serial, 4)
        && area != "000"
        && area != "666"
        && !area.starts_with('9')
        && group != "00"
        && serial != "0000"
}

/// `12345678Z` or `X1234567L`: the letter is the number modulo 23.
fn is_dni(word: &str) -> bool {
    let bytes = word.as_bytes();
    if bytes.len() != 9 || !bytes[1..8].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let first = match bytes[0].to_ascii_uppercase() {
        b'X' => b'0',
        b'Y' => b'1',
        b'Z' => b'2',
        digit if digit.is_ascii_digit() => digit,
        _ => return false,
    };
    let number = bytes[1..8].iter().fold(u32::from(first - b'0'), |n, b| n * 10 + u32::from(b - b'0'));
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize] == bytes[8].to_ascii_uppercase()
}

/// Digits in a row, single spaces, hyphens and points between them left out.
struct Run {
    plus: bool,
    digits: Vec<u8>,
}

fn digit_runs(text: &str) -> Vec<Run> {
    let (mut out, mut run, mut gap) = (Vec::new(), Run { plus: false, digits: Vec::new() }, false);
    for c in text.chars().chain(std::iter::once('\n')) {
        match c {
            '0'..='9' => {
                run.digits.push(c as u8 - b'0');
                gap = false;
            }
            ' ' | '-' | '.' if !run.digits.is_empty() && !gap => gap = true,
            // The code of an area, within a number that began with a plus.
            '(' | ')' if run.plus && !run.digits.is_empty() => gap = false,
            _ => {
                let plus = c == '+';
                let done = std::mem::replace(&mut run, Run { plus, digits: Vec::new() });
                if !done.digits.is_empty() {
                    out.push(done);
                }
                gap = false;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_personal() {
        assert_eq!(scan("ask alice.b+c@example.org."), [Kind::Email]);
        assert_eq!(scan("S1234567D"), [Kind::NricSg]);
        assert_eq!(scan("call +65 6123 4567 now"), [Kind::Phone]);
        assert_eq!(scan("call +1 (415) 555-2671 now"), [Kind::Phone]);
        assert_eq!(scan("mailto:bob@example.org"), [Kind::Email]);
        assert_eq!(scan("email=bob@example.org"), [Kind::Email]);
        assert_eq!(scan("1-1017-00230-70-8"), [Kind::NationalIdTh]);
        assert_eq!(scan("1-1017-00230-70-5"), [] as [Kind; 0], "the check digit is wrong");
        assert_eq!(scan("id 123-45-6789"), [Kind::SsnUs]);
        assert_eq!(scan("DNI 12345678Z"), [Kind::DniEs]);
    }

    #[test]
    fn leaves_what_is_not() {
        for text in ["S1234567A", "12345678A", "000-12-3456", "f/2.8 at 1/250 s", "2026-11-21", "a@b", "version 1.2.3", "+12"] {
            assert_eq!(scan(text), [] as [Kind; 0], "{text}");
        }
    }

    #[test]
    fn redacts_only_what_it_found() {
        let mut value = serde_json::json!({ "a": "mail bob@example.org", "b": ["fine", { "c": "S1234567D" }] });
        redact(&mut value, &[Kind::Email, Kind::NricSg].into());
        assert_eq!(value, serde_json::json!({ "a": "[redacted]", "b": ["fine", { "c": "[redacted]" }] }));
    }
}
