//! What single fields, parameters and bodies say.

use omt_claims::definition::MetadataInclusion;
use omt_compliance::RuleName;
use omt_kernel::{
    Actor, Error, Kind, Reach, Result,
    manifest::{Classification, ManifestState, Relationship},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::str::FromStr;

/// Parses a clearance.
pub fn clearance(value: &str) -> Result<Classification> {
    word("clearance", value)
}

/// A reach out of its parts; what is absent is the actor's own, but no clearance above `usual`.
pub fn reach(
    actor: &Actor,
    department: Option<String>,
    projects: Vec<String>,
    given: Option<&str>,
    usual: Classification,
) -> Result<Reach> {
    Ok(Reach {
        department: department.or_else(|| actor.reach.department.clone()),
        projects: if projects.is_empty() { actor.reach.projects.clone() } else { projects.into_iter().collect() },
        clearance: given.map_or(Ok(actor.reach.clearance.min(usual)), clearance)?,
    })
}

/// Tells a member that is null from one that is absent.
pub fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A word of the domain, out of a closed list.
pub trait Word: FromStr + Copy + 'static {
    /// Every such word.
    const ALL: &'static [Self];
    /// How it is written.
    fn text(self) -> &'static str;
}

macro_rules! words {
    ($($word:ty: $all:expr),+ $(,)?) => {
        $(impl Word for $word {
            const ALL: &'static [Self] = $all;
            fn text(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

words!(
    Classification: Classification::ALL,
    ManifestState: ManifestState::ALL,
    Relationship: Relationship::ALL,
    MetadataInclusion: &MetadataInclusion::ALL,
    RuleName: &RuleName::ALL,
);

/// Parses a word of the domain from a field or query parameter.
pub fn word<T: Word>(field: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| {
        let allowed: Vec<&str> = T::ALL.iter().map(|word| word.text()).collect();
        Error::unprocessable_field("INVALID_FIELD", field, format!("must be one of {}", allowed.join(", ")))
    })
}

/// A word of a closed list in a query.
pub fn choice<T: Copy>(field: &str, text: Option<&str>, known: &[(&str, T)], default: T) -> Result<T> {
    let Some(text) = text else { return Ok(default) };
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| Error::invalid_field("INVALID_QUERY", field, format!("must be one of {}", names.join(", "))))
}

/// Says that a JSON body is not what was to come.
pub fn unfit(error: serde_json::Error) -> Error {
    Error::new(Kind::Invalid, "INVALID_JSON", format!("the JSON body does not fit: {error}"))
}

/// Reads what a JSON body says, under the name that the path has for it; a body that says another is refused.
pub fn named<T: DeserializeOwned>(mut body: Value, name: &str) -> Result<T> {
    if let Some(body) = body.as_object_mut() {
        let named = body.entry("name").or_insert_with(|| name.into());
        if named.as_str() != Some(name) {
            return Err(Error::unprocessable_field("INVALID_FIELD", "name", "is not the one of the path"));
        }
    }
    serde_json::from_value(body).map_err(unfit)
}

/// Parses a flag.
pub fn flag(field: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::unprocessable_field("INVALID_FIELD", field, "must be true or false")),
    }
}

/// Parses an RFC 3339 time.
pub fn time(field: &str, value: &str) -> Result<time::OffsetDateTime> {
    time::OffsetDateTime::parse(value, &time::format_description::well_known::Rfc3339)
        .map_err(|_| Error::new(Kind::Invalid, "INVALID_QUERY", format!("{field}: must be an RFC 3339 time")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Every word is taken, and a refusal names them all.
    fn whole<T: Word + PartialEq + std::fmt::Debug>() {
        let refused = word::<T>("field", "no such word").unwrap_err();
        for one in T::ALL {
            assert_eq!(word::<T>("field", one.text()).unwrap(), *one);
            assert!(refused.message.contains(one.text()), "{refused}");
        }
        assert_eq!((refused.code, refused.fields[0].field.as_str()), ("INVALID_FIELD", "field"));
    }

    #[test]
    fn refusals_name_the_words_that_there_are() {
        whole::<Classification>();
        whole::<ManifestState>();
        whole::<Relationship>();
        whole::<MetadataInclusion>();
        whole::<RuleName>();
    }

    #[test]
    fn what_names_itself_otherwise_than_the_path_is_refused() {
        let read = |body: Value| named::<Value>(body, "a").map_err(|error| error.code);
        assert_eq!(read(json!({ "x": 1 })), Ok(json!({ "x": 1, "name": "a" })));
        assert_eq!(read(json!({ "name": "a" })), Ok(json!({ "name": "a" })));
        for bad in [json!({ "name": "b" }), json!({ "name": null })] {
            assert_eq!(read(bad), Err("INVALID_FIELD"));
        }
        assert_eq!(named::<Vec<u8>>(json!({}), "a").unwrap_err().code, "INVALID_JSON");
    }
}
