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

/// What the name of a member says about everything in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Personal data of this kind.
    Datum(Kind),
    /// The name of somebody in the picture, who may have agreed to it.
    Person,
    /// Whom it is credited to: being named is what attribution is for.
    Credit,
}

/// People in the picture, as metadata standards name them.
const PERSONS: [&str; 2] = ["personinimage", "personinimagewdetails"];
/// What a person in the picture is known by, of the details about them.
const KNOWN_BY: [&str; 3] = ["personname", "fullname", "name"];
/// Where JSON-LD puts the value of a member.
const VALUES: [&str; 3] = ["@value", "@list", "@set"];
/// Names of people outside credits.
const NAMES: [&str; 10] = [
    "cameraownername",
    "ownername",
    "personname",
    "fullname",
    "firstname",
    "lastname",
    "givenname",
    "familyname",
    "middlename",
    "surname",
];
/// Attribution, as C2PA, schema.org, Dublin Core, IPTC and EXIF name it.
const CREDITS: [&str; 12] = [
    "author",
    "creator",
    "contributor",
    "artist",
    "byline",
    "credit",
    "credittext",
    "creditline",
    "copyrightholder",
    "copyrightowner",
    "copyrightnotice",
    "publisher",
];
/// Telephones, in whatever form their numbers are.
const PHONES: [&str; 6] = ["phone", "phonenumber", "telephone", "telephonenumber", "mobilephone", "citelwork"];

/// The name of a member without its prefix and its style: `exif:GPSLatitude` and `gps_latitude` are the same word.
fn fold(name: &str) -> String {
    let local = name.rsplit(':').next().unwrap_or(name);
    local.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// What the name of a member says, in whatever style it is written: `exif:GPSLatitude`, `gps_latitude`, `serial-number`.
fn within(name: &str) -> Option<Within> {
    let word = fold(name);
    let is = |words: &[&str]| words.contains(&word.as_str());
    // The same as for properties of metadata: see `omt_claims::metadata`.
    if word.starts_with("gps") || word.contains("latitude") || word.contains("longitude") || is(&["geocoordinates", "geo"]) {
        Some(Within::Datum(Kind::Gps))
    } else if word.contains("serialnumber") || is(&["imageuniqueid"]) {
        Some(Within::Datum(Kind::SerialNumber))
    } else if word.contains("email") {
        Some(Within::Datum(Kind::Email))
    } else if is(&PHONES) {
        Some(Within::Datum(Kind::Phone))
    } else if is(&PERSONS) {
        Some(Within::Person)
    } else if is(&NAMES) {
        Some(Within::Datum(Kind::Name))
    } else if is(&CREDITS) {
        Some(Within::Credit)
    } else {
        None
    }
}

/// What the name of a member says of what is in it, given what is said of what the member is in. The outermost counts; but only
/// names are attribution, whatever else stands in a credit.
fn descend(outer: Option<Within>, name: &str) -> Option<Within> {
    match (outer, within(name)) {
        (None, inner) => inner,
        (Some(Within::Credit), Some(Within::Datum(Kind::Name) | Within::Person) | None) => outer,
        (Some(Within::Credit), inner) => inner,
        (outer, _) => outer,
    }
}

/// What is found in a value, with the place of each: in its texts, and under names of members that say what stands there. People
/// in the picture count where `persons` says so.
pub fn scan_value(value: &Value, persons: bool) -> Vec<(String, Kind)> {
    let mut out = Vec::new();
    scan_within(value, "", None, persons, &mut out);
    out
}

fn scan_within(value: &Value, at: &str, within: Option<Within>, persons: bool, out: &mut Vec<(String, Kind)>) {
    let kind = match within {
        Some(Within::Datum(kind)) => Some(kind),
        Some(Within::Person) if persons => Some(Kind::Name),
        _ => None,
    };
    match value {
        // It says that there was something.
        Value::String(text) if text.trim().is_empty() || text == REDACTED => {}
        Value::String(text) => {
            let mut kinds = scan(text);
            kinds.extend(kind.filter(|kind| !kinds.contains(kind)));
            out.extend(kinds.into_iter().map(|kind| (at.to_owned(), kind)));
        }
        Value::Number(number) => {
            let mut kinds = scan(&number.to_string());
            kinds.extend(kind.filter(|kind| !kinds.contains(kind)));
            out.extend(kinds.into_iter().map(|kind| (at.to_owned(), kind)));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| scan_within(item, &format!("{at}[{n}]"), within, persons, out));
        }
        Value::Object(map) => map.iter().for_each(|(name, item)| {
            out.extend(scan(name).into_iter().map(|kind| (at.to_owned(), kind)));
            scan_within(item, &format!("{at}.{name}"), descend(within, name), persons, out);
        }),
        Value::Bool(_) | Value::Null => {}
    }
}

/// The names of people in the picture that a value says, each with its place.
pub fn persons(value: &Value) -> Vec<(String, String)> {
    let mut out = Vec::new();
    persons_within(value, "", None, false, &mut out);
    out
}

/// `named` within the name of a person, which may be said in several languages.
fn persons_within(value: &Value, at: &str, within: Option<Within>, named: bool, out: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if within == Some(Within::Person) && text != REDACTED => out.push((at.to_owned(), text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| persons_within(item, &format!("{at}[{n}]"), within, named, out));
        }
        Value::Object(map) => map.iter().for_each(|(name, item)| {
            let is_value = VALUES.contains(&name.as_str());
            let (within, named) = match within {
                // Other words of JSON-LD say what language it is.
                Some(Within::Person) if is_value || named && !name.starts_with('@') => (within, named),
                // Of details about a person, their name is what they are known by.
                Some(Within::Person) if KNOWN_BY.contains(&fold(name).as_str()) => (within, true),
                Some(Within::Person) => (Some(Within::Credit), false),
                _ => (descend(within, name), false),
            };
            persons_within(item, &format!("{at}.{name}"), within, named, out);
        }),
        _ => {}
    }
}

/// What stands in the place of text.
pub(crate) const REDACTED: &str = "[redacted]";

/// Takes the texts at these places, as `scan_value` names them, out of a value. Numbers and names of members stay.
pub fn redact(value: &mut Value, places: &BTreeSet<String>) {
    redact_within(value, "", places);
}

fn redact_within(value: &mut Value, at: &str, places: &BTreeSet<String>) {
    match value {
        Value::String(text) if places.contains(at) => REDACTED.clone_into(text),
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(n, item)| redact_within(item, &format!("{at}[{n}]"), places));
        }
        Value::Object(map) => {
            map.iter_mut().for_each(|(name, item)| redact_within(item, &format!("{at}.{name}"), places));
        }
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
    use serde_json::json;

    fn names(value: &Value) -> Vec<String> {
        persons(value).into_iter().map(|(_, name)| name).collect()
    }

    /// What is personal here is not searched there: the kernel decides by lists of its own which members can be found.
    #[test]
    fn nobody_is_found_by_what_is_personal() {
        let found = |data: Value| {
            let definition = json!({ "assertions": [{ "label": "com.example.seen", "data": data }] });
            let said = omt_kernel::search::Said {
                title: "t",
                creator: "c",
                department: None,
                project: None,
                organization: None,
                file_name: None,
                definition: &definition,
                metadata: &Value::Null,
            };
            omt_kernel::search::document(&said).contains("zaphod")
        };
        assert!(found(json!({ "label": [{ "description": "Zaphod" }] })), "the rest is");
        for word in [&PHONES[..], &PERSONS, &NAMES, &CREDITS].concat() {
            assert!(!found(json!({ word: "Zaphod" })), "{word}");
            assert!(!found(json!({ "of": { word: ["Zaphod"] } })), "{word}");
        }
        for word in [&PERSONS[..], &CREDITS].concat() {
            assert!(!found(json!({ word: [{ "@type": "CreativeWork", "title": "Zaphod", "description": "Zaphod" }] })), "{word}");
        }
    }

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
        let places = scan_value(&value, false).into_iter().map(|(place, _)| place).collect();
        redact(&mut value, &places);
        assert_eq!(value, serde_json::json!({ "a": "[redacted]", "b": ["fine", { "c": "[redacted]" }] }));
    }

    #[test]
    fn names_of_members_say_what_stands_there() {
        let value = serde_json::json!({
            "exif:GPSLatitude": "1,17.5N", "position": { "latitude": 1.29, "longitude": 103.85 }, "gps": ["here"],
            "camera": { "body_serial_number": "X-77", "ownerName": "Cara" }, "Iptc4xmpExt:PersonInImage": ["Ada", ""],
            "contact": { "e-mail": "cara at example" }, "model": "X100", "checked": true,
        });
        let found = scan_value(&value, true);
        let words: BTreeSet<String> = found.iter().map(|(at, kind)| format!("{at} {}", kind.as_str())).collect();
        let expected = [
            ".Iptc4xmpExt:PersonInImage[0] name",
            ".camera.body_serial_number serial_number",
            ".camera.ownerName name",
            ".contact.e-mail email",
            ".exif:GPSLatitude gps",
            ".gps[0] gps",
            ".position.latitude gps",
            ".position.longitude gps",
        ];
        assert_eq!(words.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert_eq!(scan_value(&value, false).len(), expected.len() - 1, "who agreed may be named");
        assert_eq!(names(&value), ["Ada", ""]);

        let mut value = serde_json::json!({ "latitude": "1.29", "title": "latitude" });
        let places = scan_value(&value, true).into_iter().map(|(place, _)| place).collect();
        redact(&mut value, &places);
        assert_eq!(value, serde_json::json!({ "latitude": "[redacted]", "title": "latitude" }));
        assert_eq!(scan_value(&value, true), []);
    }

    #[test]
    fn attribution_is_no_finding() {
        let value = serde_json::json!({
            "dc:creator": ["Cara Example"], "exif:Artist": "Cara Example",
            "author": [{ "@type": "Person", "name": "Cara Example", "givenName": "Cara" }],
        });
        assert_eq!(scan_value(&value, true), []);
        let value = serde_json::json!({ "author": { "givenName": "Cara", "email": "cara", "note": "cara@example.org" } });
        let found: Vec<String> = scan_value(&value, true).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, [".author.email", ".author.note"], "how to reach them is");
    }

    #[test]
    fn details_of_persons_are_known_by_their_name() {
        let value = serde_json::json!({
            "Iptc4xmpExt:PersonInImageWDetails": [{ "Iptc4xmpExt:PersonName": "Ada", "Iptc4xmpExt:PersonDescription": "smiling" }],
        });
        assert_eq!(names(&value), ["Ada"]);
        assert_eq!(scan_value(&value, true).len(), 2);

        // In languages, and in whatever style.
        let people = |person: Value| names(&serde_json::json!({ "person_in_image_w_details": [person] }));
        assert_eq!(people(serde_json::json!({ "PersonName": { "x-default": "Ada" } })), ["Ada"]);
        assert_eq!(people(serde_json::json!({ "person_name": "Ada", "person_description": "smiling" })), ["Ada"]);
        assert_eq!(people(serde_json::json!({ "PersonName": { "en": ["Ada"], "es": "Adela" } })), ["Ada", "Adela"]);
        assert_eq!(people(serde_json::json!({ "PersonName": { "@value": "Ada", "@language": "en" } })), ["Ada"]);
        assert_eq!(people(serde_json::json!({ "PersonCharacteristic": { "PersonName": "smiling" } })), [] as [&str; 0]);
        assert_eq!(names(&serde_json::json!({ "PersonInImage": { "@list": [{ "@value": "Ada" }] } })), ["Ada"]);
    }
}
