//! Finding manifests by what is said of them. The words of a record and those of a question are made here, in the same way, so
//! that every database finds the same.

use crate::manifest::ManifestRecord;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// The most words of one record that can be found.
const MAX_WORDS: usize = 1_000;
/// How often one word counts in a record: databases keep so many positions of a word.
const MAX_OCCURRENCES: u16 = 200;
/// Longer words are cut, in records and in questions.
const MAX_WORD: usize = 64;
/// Stands between texts in a document, so that no phrase reaches from one into the next. It is no word.
pub const BETWEEN: &str = "¶";
/// What stands where something was taken out.
const REDACTED: &str = "[redacted]";

/// Properties of extracted metadata that say what is to be seen. People, their addresses, places by coordinates and devices by
/// number are under other names.
const PROPERTIES: [&str; 24] = [
    "dc:title",
    "photoshop:Headline",
    "dc:description",
    "dc:subject",
    "tiff:ImageDescription",
    "Iptc4xmpCore:Location",
    "Iptc4xmpExt:Sublocation",
    "Iptc4xmpExt:Event",
    "Iptc4xmpExt:City",
    "Iptc4xmpExt:CountryName",
    "photoshop:City",
    "photoshop:State",
    "photoshop:Country",
    "photoshop:Category",
    "photoshop:SupplementalCategories",
    "photoshop:Source",
    "photoshop:TransmissionReference",
    "Iptc4xmpCore:Scene",
    "Iptc4xmpCore:SubjectCode",
    "Iptc4xmpCore:IntellectualGenre",
    "Iptc4xmpExt:OrganisationInImageName",
    "xmp:Label",
    "tiff:Make",
    "tiff:Model",
];

/// Members of callers' assertions that say what is to be seen, without prefix and style.
const MEMBERS: [&str; 17] = [
    "title",
    "headline",
    "caption",
    "description",
    "abstract",
    "summary",
    "keyword",
    "keywords",
    "tags",
    "subject",
    "about",
    "genre",
    "category",
    "event",
    "location",
    "city",
    "country",
];

/// Members in which people are described, or how to reach them; nothing of it is searched.
const PEOPLE: [&str; 19] = [
    "person",
    "people",
    "author",
    "creator",
    "contributor",
    "artist",
    "byline",
    "credit",
    "copyright",
    "publisher",
    "contact",
    "owner",
    "photographer",
    "editor",
    "performer",
    "speaker",
    "interviewee",
    "patient",
    "witness",
];

/// What a record says that it can be found by.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Title.
    pub title: &'a str,
    /// Who made the content.
    pub creator: &'a str,
    /// Department.
    pub department: Option<&'a str>,
    /// Project.
    pub project: Option<&'a str>,
    /// Organisation.
    pub organization: Option<&'a str>,
    /// The file's name.
    pub file_name: Option<&'a str>,
    /// What the claim will say, for the assertions that the caller brought.
    pub definition: &'a Value,
    /// Metadata extracted from the content.
    pub metadata: &'a Value,
}

impl<'a> From<&'a ManifestRecord> for Said<'a> {
    fn from(record: &'a ManifestRecord) -> Self {
        Self {
            title: &record.title,
            creator: &record.creator,
            department: record.department.as_deref(),
            project: record.project.as_deref(),
            organization: record.organization.as_deref(),
            file_name: record.file_name.as_deref(),
            definition: &record.definition,
            metadata: &record.metadata,
        }
    }
}

/// The document by which a record is found: its words with a space before each and after the last, [`BETWEEN`] the texts. The
/// creator is the only person in it: whoever is named in metadata is not, nor is any address, coordinate or serial number.
pub fn document(said: &Said<'_>) -> String {
    let own = [Some(said.title), Some(said.creator), said.department, said.project, said.organization, said.file_name];
    let mut texts: Vec<&str> = own.into_iter().flatten().collect();
    properties(said.metadata, &mut texts);
    for assertion in said.definition["assertions"].as_array().into_iter().flatten() {
        members(&assertion["data"], false, &mut texts);
    }
    let (mut out, mut counts, mut known, mut left) = (String::new(), HashMap::new(), BTreeSet::new(), MAX_WORDS);
    for text in texts {
        // The same is often said in EXIF, XMP and IPTC.
        if text == REDACTED || !known.insert(text) {
            continue;
        }
        let mut empty = true;
        // An address is one part: nothing of it is a word.
        for word in text.split_whitespace().filter(|part| !part.contains('@')).flat_map(words) {
            if left == 0 {
                return finished(out);
            }
            let count = counts.entry(word.clone()).or_insert(0);
            if *count == MAX_OCCURRENCES {
                continue;
            }
            if empty && !out.is_empty() {
                out.push(' ');
                out.push_str(BETWEEN);
            }
            (*count, left, empty) = (*count + 1, left - 1, false);
            out.push(' ');
            out.push_str(&word);
        }
    }
    finished(out)
}

fn finished(mut document: String) -> String {
    if !document.is_empty() {
        document.push(' ');
    }
    document
}

fn properties<'a>(metadata: &'a Value, out: &mut Vec<&'a str>) {
    for source in ["xmp", "iptc", "exif", "tags"] {
        let personal = |name: &str| {
            let found = metadata["pii"].as_array().into_iter().flatten();
            found.into_iter().any(|pii| pii["source"] == source && pii["property"] == name)
        };
        let found = PROPERTIES.iter().filter(|name| !personal(name)).filter_map(|name| metadata[source][*name].as_str());
        out.extend(found);
    }
}

/// The name of a member without its prefix and its style.
fn fold(name: &str) -> String {
    let local = name.rsplit(':').next().unwrap_or(name);
    local.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

/// Whether a member is a value of JSON-LD, or the text in some language.
fn is_value(name: &str) -> bool {
    matches!(name, "@value" | "@list" | "@set" | "x-default")
        || name.split('-').next().is_some_and(|language| language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase()))
}

/// Texts of members that say what is to be seen; `seen` within one.
fn members<'a>(value: &'a Value, seen: bool, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if seen => out.push(text),
        Value::Array(items) => items.iter().for_each(|item| members(item, seen, out)),
        Value::Object(map) => {
            if map.get("@type").is_some_and(|kind| kind.to_string().contains("Person")) {
                return;
            }
            for (name, item) in map {
                let word = fold(name);
                if !PEOPLE.iter().any(|people| word.contains(people)) {
                    members(item, MEMBERS.contains(&word.as_str()) || seen && is_value(name), out);
                }
            }
        }
        _ => {}
    }
}

/// Scripts that write no spaces between words: each of their characters is a word.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c), 0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0xff66..=0xff9d | 0x2_0000..=0x3_ffff)
}

/// The words of a text, in lower case: letters and digits, whatever else is between them.
fn words(text: &str) -> Vec<String> {
    let (mut out, mut word, mut length) = (Vec::new(), String::new(), 0);
    // A sigma at the end of a word is a sigma.
    let folded = text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
    for c in folded {
        let alone = stands_alone(c);
        if (alone || !c.is_alphanumeric()) && !word.is_empty() {
            out.push(std::mem::take(&mut word));
            length = 0;
        }
        if c.is_alphanumeric() {
            if alone {
                out.push(c.to_string());
            } else if length < MAX_WORD {
                word.push(c);
                length += 1;
            }
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

/// Words that must stand in a document one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phrase {
    /// The words, at least one, of letters and digits only.
    pub words: Vec<String>,
    /// The last is only how a word begins.
    pub prefix: bool,
}

impl Phrase {
    /// What stands in every document in which the phrase does, and in no other.
    pub fn needle(&self) -> String {
        let end = if self.prefix { "" } else { " " };
        format!(" {}{end}", self.words.join(" "))
    }
}

/// What a question asks for: every one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// The phrases; none where the question has no words.
    pub phrases: Vec<Phrase>,
}

impl Question {
    /// Reads a question: words, `"phrases in quotes"`, and `beginnings*`. Whatever is written is a question, and what is written as
    /// one word (`f-16`, `a.jpg`) is looked for in that order.
    pub fn parse(text: &str) -> Self {
        let mut phrases = BTreeSet::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (part, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => rest.split_at(rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len())),
            };
            let (prefix, after) = match (first, after.strip_prefix('*')) {
                ('"', Some(after)) => (part.ends_with(char::is_alphanumeric), after),
                _ => (part.strip_suffix('*').is_some_and(|part| part.ends_with(char::is_alphanumeric)), after),
            };
            let words = words(part);
            if !words.is_empty() {
                phrases.insert(Phrase { words, prefix });
            }
            rest = after.trim_start();
        }
        Self { phrases: phrases.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said<'a>(title: &'a str, definition: &'a Value, metadata: &'a Value) -> Said<'a> {
        Said {
            title,
            creator: "Ann",
            department: None,
            project: Some("Night-Shift"),
            organization: None,
            file_name: Some("IMG_0042.JPG"),
            definition,
            metadata,
        }
    }

    #[test]
    fn documents_are_words_between_spaces() {
        let nothing = json!({});
        let document = document(&said("A “Harbour”, at NIGHT", &nothing, &nothing));
        assert_eq!(document, " a harbour at night ¶ ann ¶ night shift ¶ img 0042 jpg ");
        let empty = Said { title: "…", creator: "", project: None, file_name: None, ..said("", &nothing, &nothing) };
        assert_eq!(super::document(&empty), "");
    }

    #[test]
    fn what_is_seen_is_found_and_who_is_not() {
        let metadata = json!({
            "xmp": {
                "dc:subject": "ferry; dusk", "dc:description": "Ferries [a@b.example]", "dc:creator": "Bob", "photoshop:City": "Kyoto",
                "Iptc4xmpExt:PersonInImage": "Cara", "exif:GPSLatitude": "52", "photoshop:Headline": "mail to dan@example.org",
            },
            "iptc": { "photoshop:City": "Kyoto", "dc:rights": "Eve" },
            "exif": { "tiff:Model": "X100", "exifEX:BodySerialNumber": "SN123", "exifEX:CameraOwnerName": "Fay" },
            "pii": [{ "kind": "email", "source": "xmp", "property": "photoshop:Headline" }],
        });
        let definition = json!({ "assertions": [
            { "label": "org.example.story", "data": {
                "dc:title": { "x-default": "Tides", "fr": "Marées" }, "keywords": ["boats", { "@value": "piers" }], "priority": "urgent",
                "author": { "description": "Gus" }, "about": { "@type": "Person", "description": "Hal" },
                "subject": { "name": "Ida" }, "personInImage": { "title": "Jon" }, "location": "[redacted]",
            } },
        ] });
        let document = document(&said("T", &definition, &metadata));
        for word in ["ferry", "dusk", "ferries", "kyoto", "x100", "tides", "marées", "boats", "piers"] {
            assert!(document.contains(&format!(" {word} ")), "{word} is not in {document}");
        }
        let not = "bob cara 52 dan example org eve sn123 fay gus hal ida jon urgent redacted a b mail";
        for word in not.split(' ') {
            assert!(!document.contains(&format!(" {word} ")), "{word} is in {document}");
        }
        assert_eq!(document.matches("kyoto").count(), 1);
    }

    #[test]
    fn documents_are_bounded() {
        let nothing = json!({});
        let long = "x".repeat(100_000);
        assert_eq!(document(&said(&long, &nothing, &nothing)).split(' ').nth(1).unwrap().len(), MAX_WORD);
        let many = (0..5_000).map(|n| format!("{n} ")).collect::<String>();
        assert_eq!(document(&said(&many, &nothing, &nothing)).split_whitespace().count(), MAX_WORDS);
        let same = "no ".repeat(5_000);
        let document = document(&said(&same, &nothing, &nothing));
        assert_eq!(document.matches(" no").count(), usize::from(MAX_OCCURRENCES));
        assert!(document.contains(" ann "));
    }

    #[test]
    fn questions_are_words_phrases_and_beginnings() {
        let asked = |text: &str| {
            let phrases = Question::parse(text).phrases;
            phrases.iter().map(|p| format!("{}{}", p.words.join("+"), if p.prefix { "*" } else { "" })).collect::<Vec<_>>()
        };
        assert_eq!(asked("  Harbour night "), ["harbour", "night"]);
        assert_eq!(asked("\"at night\" F-16 harb*"), ["at+night", "f+16", "harb*"]);
        assert_eq!(asked("\"at nig\"* x"), ["at+nig*", "x"]);
        assert_eq!(asked("one\"two three"), ["one", "two+three"]);
        assert_eq!(asked("a a A"), ["a"]);
        assert_eq!(asked("* \"\" \"* % ' : & | ! <-> (a)* "), ["a"]);
        assert_eq!(asked("東京 タワー"), ["タ+ワ+ー", "東+京"]);
        assert_eq!(asked(""), [] as [&str; 0]);
        assert_eq!(Question::parse("ΟΔΟΣ"), Question::parse("οδος"));
    }

    #[test]
    fn needles_are_in_documents() {
        let nothing = json!({});
        let document = document(&said("harbours at night", &nothing, &nothing));
        let found = |text: &str| Question::parse(text).phrases.iter().all(|phrase| document.contains(&phrase.needle()));
        assert!(
            found("night harbours") && found("\"at night\"") && found("harb*") && found("\"at nig\"*") && found("night-shift")
        );
        assert!(
            !found("harbour")
                && !found("\"night at\"")
                && !found("night ann cara")
                && !found("\"night ann\"")
                && !found("arbours*")
        );
    }
}
