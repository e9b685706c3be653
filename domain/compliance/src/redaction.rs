//! Personal data: where it stands, and how a draft looks without it.

use crate::pii::{self, Kind, REDACTED};
use omt_claims::{
    definition::ClaimDefinition,
    metadata::{Extracted, PiiKind, redact::PropertyNames},
    service::Redaction,
};
use omt_kernel::manifest::ManifestRecord;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Properties that name people in the picture. Extraction flattens XMP: of details about a person, the name stands by itself.
pub(crate) const PERSONS: [&str; 3] =
    ["Iptc4xmpExt:PersonInImage", "Iptc4xmpExt:PersonInImageWDetails", "Iptc4xmpExt:PersonName"];
/// Properties that name whose camera it was. Whom content is credited to (`dc:creator`, `exif:Artist`, `photoshop:Credit`) is no
/// finding: to be named is what attribution is for.
const OWNERS: [&str; 3] = ["exif:CameraOwnerName", "exifEX:CameraOwnerName", "aux:OwnerName"];

/// Where a datum stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In an assertion: which one, and the path within it.
    Assertion(usize, String),
    /// In the content's metadata: `exif`, `xmp`, `iptc` or `tags`, and the property.
    Property(String, String),
    /// In the title of an ingredient: which one.
    Ingredient(usize),
    /// In a field of the record, such as the title.
    Field(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assertion(n, path) => write!(f, "assertions[{n}].data{path}"),
            Self::Property(source, name) => write!(f, "metadata.{source}.{name}"),
            Self::Ingredient(n) => write!(f, "ingredients[{n}].title"),
            Self::Field(name) => f.write_str(name),
        }
    }
}

/// A datum: where it stands and what it is, never what it says.
pub type Found = (Place, Kind);

/// What is found. People in the picture count where `persons` says so.
pub fn found(record: &ManifestRecord, extracted: &Extracted, definition: &ClaimDefinition, persons: bool) -> Vec<Found> {
    let mut out = Vec::new();
    // What is in the file goes out with the file, whatever the claim repeats.
    for item in &extracted.pii {
        let kind = match item.kind {
            PiiKind::Gps => Kind::Gps,
            PiiKind::SerialNumber => Kind::SerialNumber,
            PiiKind::Email => Kind::Email,
        };
        out.push((Place::Property(item.source.clone(), item.property.clone()), kind));
    }
    for (source, properties) in extracted.sources() {
        let place = |name: &str| Place::Property(source.to_owned(), name.to_owned());
        for (name, value) in properties {
            out.extend(pii::scan(value).into_iter().map(|kind| (place(name), kind)));
        }
        let names = OWNERS.iter().chain(PERSONS.iter().filter(|_| persons));
        out.extend(names.filter(|name| properties.contains_key(**name)).map(|name| (place(name), Kind::Name)));
    }
    for (n, assertion) in definition.assertions.iter().enumerate() {
        let within = pii::scan_value(&assertion.data, persons);
        out.extend(within.into_iter().map(|(path, kind)| (Place::Assertion(n, path), kind)));
    }
    for (n, ingredient) in record.ingredients.iter().enumerate() {
        out.extend(pii::scan(&ingredient.title).into_iter().map(|kind| (Place::Ingredient(n), kind)));
    }
    let fields = [
        ("title", Some(&record.title)),
        ("creator", Some(&record.creator)),
        ("organization", record.organization.as_ref()),
        ("file_name", record.file_name.as_ref()),
        ("software_agent", definition.software_agent.as_ref()),
    ];
    for (name, text) in fields {
        let kinds = text.map(|text| pii::scan(text)).unwrap_or_default();
        out.extend(kinds.into_iter().map(|kind| (Place::Field(name), kind)));
    }
    out.sort();
    out.dedup();
    out
}

/// What is to go, so that nothing of these kinds is left; and what of it this cannot reach.
pub fn plan(
    record: &ManifestRecord,
    definition: &ClaimDefinition,
    found: &[Found],
    kinds: &BTreeSet<Kind>,
) -> (Redaction, Vec<Found>) {
    let (mut next, mut said, mut properties) = (record.clone(), definition.clone(), PropertyNames::default());
    let mut assertions: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (place, _) in found.iter().filter(|(_, kind)| kinds.contains(kind)) {
        match place {
            Place::Property(source, name) => drop(properties.add(source, name)),
            Place::Assertion(n, path) => drop(assertions.entry(*n).or_default().insert(path.clone())),
            Place::Ingredient(n) => {
                if let Some(ingredient) = next.ingredients.get_mut(*n) {
                    ingredient.title = REDACTED.to_owned();
                }
            }
            Place::Field("title") => next.title = REDACTED.to_owned(),
            Place::Field("creator") => next.creator = REDACTED.to_owned(),
            Place::Field("organization") => next.organization = None,
            Place::Field("file_name") => next.file_name = None,
            Place::Field("software_agent") => said.software_agent = None,
            // It is left, then, and said to be.
            Place::Field(_) => {}
        }
    }
    for (n, places) in assertions {
        if let Some(assertion) = said.assertions.get_mut(n) {
            pii::redact(&mut assertion.data, &places);
        }
    }
    // Names of members and numbers stand in the way of schemas: whoever wrote them takes them out.
    let left = self::found(&next, &Extracted::default(), &said, false);
    let left = left.into_iter().filter(|(_, kind)| kinds.contains(kind)).collect();
    (Redaction { properties, record: next, definition: said }, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_claims::definition::CustomAssertion;
    use omt_kernel::manifest::Classification;
    use serde_json::json;

    fn definition(data: serde_json::Value) -> ClaimDefinition {
        let assertion = CustomAssertion { label: "com.example.note".into(), data };
        ClaimDefinition { assertions: vec![assertion], ..ClaimDefinition::default() }
    }

    fn record(title: &str) -> ManifestRecord {
        crate::rule_tests::draft(title, Classification::Public)
    }

    #[test]
    fn only_kinds_that_are_asked_for_go() {
        let said = definition(json!({ "a": "bob@example.org", "b": ["S1234567D", "fine"] }));
        let mut draft = record("by bob@example.org");
        draft.file_name = Some("bob@example.org.jpg".into());
        let all = found(&draft, &Extracted::default(), &said, true);
        assert_eq!(all.len(), 4);
        let (plan_mail, left) = plan(&draft, &said, &all, &[Kind::Email].into());
        assert_eq!((plan_mail.record.title.as_str(), left.len()), ("[redacted]", 0));
        assert_eq!(plan_mail.record.file_name, None);
        assert_eq!(plan_mail.definition.assertions[0].data, json!({ "a": "[redacted]", "b": ["S1234567D", "fine"] }));
        let (plan_all, _) = plan(&draft, &said, &all, &[Kind::Email, Kind::NricSg].into());
        assert_eq!(plan_all.definition.assertions[0].data, json!({ "a": "[redacted]", "b": ["[redacted]", "fine"] }));
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        let said = definition(json!({ "bob@example.org": 1 }));
        let draft = record("t");
        let all = found(&draft, &Extracted::default(), &said, false);
        let (_, left) = plan(&draft, &said, &all, &[Kind::Email].into());
        assert_eq!(left.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>(), ["assertions[0].data"]);
    }

    #[test]
    fn what_members_are_named_goes_with_them() {
        let said =
            definition(json!({ "exif:GPSLatitude": "1,17.5N", "personInImage": ["Ada"], "author": { "givenName": "Cara" } }));
        let draft = record("t");
        let all = found(&draft, &Extracted::default(), &said, false);
        let (planned, left) = plan(&draft, &said, &all, &Kind::ALL.into());
        assert_eq!(left, []);
        let expected = json!({ "exif:GPSLatitude": "[redacted]", "personInImage": ["Ada"], "author": { "givenName": "Cara" } });
        assert_eq!(planned.definition.assertions[0].data, expected, "people in the picture are asked for by name");
        let all = found(&draft, &Extracted::default(), &said, true);
        let (planned, _) = plan(&draft, &said, &all, &[Kind::Name].into());
        let expected =
            json!({ "exif:GPSLatitude": "1,17.5N", "personInImage": ["[redacted]"], "author": { "givenName": "Cara" } });
        assert_eq!(planned.definition.assertions[0].data, expected);
        // Numbers stand in the way of schemas.
        let said = definition(json!({ "latitude": 1.29 }));
        let all = found(&draft, &Extracted::default(), &said, false);
        let (_, left) = plan(&draft, &said, &all, &[Kind::Gps].into());
        assert_eq!(left, [(Place::Assertion(0, ".latitude".into()), Kind::Gps)]);
    }
}
