//! Personal data: where it stands, and how a draft looks without it.

use crate::pii::{self, Kind};
use omt_claims::{
    definition::ClaimDefinition,
    metadata::{Extracted, PiiKind, redact::PropertyNames},
    service::Redaction,
};
use std::{collections::BTreeSet, fmt};

/// Properties that name people in the picture.
pub(crate) const PERSONS: [&str; 2] = ["Iptc4xmpExt:PersonInImage", "Iptc4xmpExt:PersonInImageWDetails"];
/// Properties that name whose camera it was.
const OWNERS: [&str; 3] = ["exif:CameraOwnerName", "exifEX:CameraOwnerName", "aux:OwnerName"];
/// What stands in the place of text.
const REDACTED: &str = "[redacted]";

/// Where a datum stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In an assertion: which one, and the path within it.
    Assertion(usize, String),
    /// In the content's metadata: `exif`, `xmp` or `iptc`, and the property.
    Property(String, String),
    /// In the title.
    Title,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assertion(n, path) => write!(f, "assertions[{n}].data{path}"),
            Self::Property(source, name) => write!(f, "metadata.{source}.{name}"),
            Self::Title => f.write_str("title"),
        }
    }
}

/// A datum: where it stands and what it is, never what it says.
pub type Found = (Place, Kind);

/// What is found. People in the picture count where `persons` says so.
pub fn found(title: &str, extracted: &Extracted, definition: &ClaimDefinition, persons: bool) -> Vec<Found> {
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
    for (source, properties) in [("exif", &extracted.exif), ("xmp", &extracted.xmp), ("iptc", &extracted.iptc)] {
        let place = |name: &str| Place::Property(source.to_owned(), name.to_owned());
        for (name, value) in properties {
            out.extend(pii::scan(value).into_iter().map(|kind| (place(name), kind)));
        }
        let names = OWNERS.iter().chain(PERSONS.iter().filter(|_| persons));
        out.extend(names.filter(|name| properties.contains_key(**name)).map(|name| (place(name), Kind::Name)));
    }
    for (n, assertion) in definition.assertions.iter().enumerate() {
        let mut within = Vec::new();
        pii::scan_value(&assertion.data, "", &mut within);
        out.extend(within.into_iter().map(|(path, kind)| (Place::Assertion(n, path), kind)));
    }
    out.extend(pii::scan(title).into_iter().map(|kind| (Place::Title, kind)));
    out.sort();
    out.dedup();
    out
}

/// What is to go, so that nothing of these kinds is left; and what of it this cannot reach.
pub fn plan(title: &str, definition: &ClaimDefinition, found: &[Found], kinds: &BTreeSet<Kind>) -> (Redaction, Vec<Found>) {
    let mut out = Redaction { properties: PropertyNames::default(), title: title.to_owned(), definition: definition.clone() };
    for (place, _) in found.iter().filter(|(_, kind)| kinds.contains(kind)) {
        match place {
            Place::Property(source, name) => drop(out.properties.add(source, name)),
            Place::Title => out.title = REDACTED.to_owned(),
            Place::Assertion(n, _) => {
                if let Some(assertion) = out.definition.assertions.get_mut(*n) {
                    pii::redact(&mut assertion.data, kinds);
                }
            }
        }
    }
    // Names of members and numbers stand in the way of schemas: whoever wrote them takes them out.
    let left = self::found(&out.title, &Extracted::default(), &out.definition, false);
    (out, left.into_iter().filter(|(_, kind)| kinds.contains(kind)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_claims::definition::CustomAssertion;
    use serde_json::json;

    fn definition(data: serde_json::Value) -> ClaimDefinition {
        let assertion = CustomAssertion { label: "com.example.note".into(), data };
        ClaimDefinition { assertions: vec![assertion], ..ClaimDefinition::default() }
    }

    #[test]
    fn only_kinds_that_are_asked_for_go() {
        let said = definition(json!({ "a": "bob@example.org", "b": ["S1234567D", "fine"] }));
        let all = found("by bob@example.org", &Extracted::default(), &said, true);
        assert_eq!(all.len(), 3);
        let (plan_mail, left) = plan("by bob@example.org", &said, &all, &[Kind::Email].into());
        assert_eq!((plan_mail.title.as_str(), left.len()), ("[redacted]", 0));
        assert_eq!(plan_mail.definition.assertions[0].data, json!({ "a": "[redacted]", "b": ["S1234567D", "fine"] }));
        let (plan_all, _) = plan("by bob@example.org", &said, &all, &[Kind::Email, Kind::NricSg].into());
        assert_eq!(plan_all.definition.assertions[0].data, json!({ "a": "[redacted]", "b": ["[redacted]", "fine"] }));
    }

    #[test]
    fn what_cannot_be_reached_is_said() {
        let said = definition(json!({ "bob@example.org": 1 }));
        let all = found("t", &Extracted::default(), &said, false);
        let (_, left) = plan("t", &said, &all, &[Kind::Email].into());
        assert_eq!(left.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>(), ["assertions[0].data"]);
    }
}
