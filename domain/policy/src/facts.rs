//! What policies see of a manifest: one JSON value, the same for drafts and for what is signed.

use crate::schema::{self, Type};
use omt_claims::{
    definition::{ClaimDefinition, WORKFLOW_LABEL, is_workflow_label},
    metadata::{self, Extracted},
    service::Examined,
};
use omt_kernel::{Result, error::Context as _, manifest::ManifestRecord, record::VerificationRecord};
use serde_json::{Map, Value, json};

/// The longest text that a policy sees.
const MAX_TEXT: usize = 4_096;
/// How much there may be in all: values, and every 64 bytes of texts.
pub const MAX_SIZE: usize = 20_000;
/// The longest list or object.
pub const MAX_ITEMS: usize = 1_000;
/// The most ingredients: loops over them in loops over something else stay affordable.
pub const MAX_INGREDIENTS: usize = 100;

/// Where a report says that the signer attests an approval.
const ATTESTED: &str = "/organizational_compliance/workflow_approved";

/// Who says whether a signature holds.
#[derive(Debug, Clone, Copy)]
pub enum Verified<'a> {
    /// Nobody.
    No,
    /// A verification just now.
    Now(&'a Value),
    /// An earlier one.
    Kept(&'a VerificationRecord),
}

impl<'a> Verified<'a> {
    fn report(self) -> Option<&'a Value> {
        match self {
            Self::No => None,
            Self::Now(report) => Some(report),
            Self::Kept(record) => Some(&record.report),
        }
    }
}

impl<'a> From<Option<&'a VerificationRecord>> for Verified<'a> {
    fn from(kept: Option<&'a VerificationRecord>) -> Self {
        kept.map_or(Self::No, Self::Kept)
    }
}

/// What a policy decides from, and where it is from.
pub struct Facts {
    /// The facts.
    pub value: Value,
    /// It is signed, and nobody says whether the signature holds.
    pub unverified: bool,
    /// Content that is not stored here.
    upload: bool,
    /// The verification that speaks for the signature.
    verification: String,
}

impl Facts {
    /// Facts as they are given, of something stored whose signature was verified.
    pub fn new(value: Value) -> Self {
        Self { value, unverified: false, upload: false, verification: "verification".to_owned() }
    }

    /// What a path leads to, whose word it is (`record`, `definition`, `claim`, `workflow`, `content`, or a verification's), and the
    /// label of the assertion that it leads into.
    pub fn look(&self, path: &str) -> (Option<&Value>, String, Option<String>) {
        let steps = steps(path).unwrap_or_default();
        let member = |n: usize| match steps.get(n) {
            Some(Step::Member(name)) => *name,
            _ => "",
        };
        let word = match (member(0), member(1)) {
            ("manifest", "media_type" | "size") | ("metadata", _) => "content",
            ("manifest" | "assertions" | "ingredients", _) if self.upload => "claim",
            ("assertions", WORKFLOW_LABEL) => "workflow",
            ("assertions", _) => "definition",
            ("signature", "algorithm" | "signed_at" | "embedded") if !self.upload => "record",
            // Whether there is one at all is in the record.
            ("signature", "") if !self.upload => "record",
            ("signature", _) => &self.verification,
            _ => "record",
        };
        let label = (member(0) == "assertions" && steps.len() > 1).then(|| member(1).to_owned());
        (follow(&self.value, &steps), word.to_owned(), label)
    }
}

/// The facts. `verified` is what a verification said, where there was one.
pub fn of(record: &ManifestRecord, verified: Verified<'_>) -> Result<Facts> {
    let verification = match verified {
        Verified::No => "none".to_owned(),
        Verified::Now(_) => "verification".to_owned(),
        Verified::Kept(kept) => format!("verification {}", kept.id),
    };
    let verified = verified.report();
    let definition: ClaimDefinition = serde_json::from_value(record.definition.clone()).context("a definition cannot be read")?;
    let extracted: Extracted = serde_json::from_value(record.metadata.clone()).context("metadata cannot be read")?;
    let mut assertions = Map::new();
    // Those that the platform writes into every claim.
    assertions.insert("c2pa.actions.v2".into(), json!({ "actions": [{ "action": definition.action }] }));
    for planned in metadata::assertions(&extracted, definition.metadata) {
        assertions.insert(planned.label, planned.data);
    }
    // What a caller says about approval proves none.
    for custom in definition.assertions.iter().filter(|custom| !is_workflow_label(&custom.label)) {
        assertions.insert(custom.label.clone(), custom.data.clone());
    }
    let signature = record.signed.as_ref().map(|signed| {
        let mut facts = signature(verified);
        facts["algorithm"] = json!(signed.algorithm);
        facts["signed_at"] = json!(signed.signed_at.unix_timestamp());
        facts["embedded"] = json!(signed.embedded);
        facts
    });
    // What a workflow approved carries its approval; where the signature was looked at, it must say so.
    let attested = verified.is_none_or(|verified| verified.pointer(ATTESTED) == Some(&Value::Bool(true)));
    let workflow = record.signed.as_ref().and_then(|signed| signed.workflow);
    if let Some(workflow) = workflow.filter(|_| attested) {
        assertions.insert(WORKFLOW_LABEL.into(), json!({ "workflow_id": workflow }));
    }
    let ingredients: Vec<Value> = record
        .ingredients
        .iter()
        .map(|i| json!({ "title": i.title, "media_type": i.media_type, "relationship": i.relationship }))
        .collect();
    let value = json!({
        "manifest": {
            "id": record.id,
            "title": record.title,
            "creator": record.creator,
            "department": record.department,
            "project": record.project,
            "organization": record.organization,
            "classification": record.classification,
            "media_type": record.media_type,
            "file_name": record.file_name,
            "size": record.source.size,
            "state": record.state.to_string(),
            "action": definition.action,
            "digital_source_type": definition.digital_source_type,
            "software_agent": definition.software_agent,
            "created_at": record.created_at.unix_timestamp(),
            "created_by": record.created_by,
        },
        "assertions": assertions,
        "metadata": properties(&extracted),
        "ingredients": ingredients,
        "signature": signature,
    });
    Ok(Facts { value, unverified: record.signed.is_some() && verified.is_none(), upload: false, verification })
}

/// The facts of content that is not stored here: what its manifest says, as far as its integrity holds.
pub fn of_upload(examined: &Examined) -> Result<Facts> {
    let report = serde_json::to_value(&examined.report).context("a report cannot be written")?;
    let valid = examined.report.valid;
    let manifests = examined.crjson.as_ref().and_then(|crjson| crjson.get("manifests")?.as_array());
    let label = report.get("active_manifest").filter(|label| label.is_string());
    let active = manifests.into_iter().flatten().find(|manifest| manifest.get("label") == label).filter(|_| valid);
    let mut assertions = match active.and_then(|manifest| manifest.get("assertions")) {
        Some(Value::Object(assertions)) => assertions.clone(),
        _ => Map::new(),
    };
    // An approval is attested only by the one assertion of its kind.
    if report.pointer(ATTESTED) != Some(&Value::Bool(true)) {
        assertions.retain(|label, _| !is_workflow_label(label));
    }
    let action = assertions.get("c2pa.actions.v2").and_then(|actions| actions.pointer("/actions/0/action")).cloned();
    let is_ingredient = |label: &str| label.starts_with("c2pa.ingredient");
    let ingredient = |data: &Value| json!({ "title": data.get("dc:title"), "media_type": data.get("dc:format"), "relationship": data.get("relationship") });
    let ingredients: Vec<Value> =
        assertions.iter().filter(|(label, _)| is_ingredient(label)).map(|(_, data)| ingredient(data)).collect();
    let value = json!({
        "manifest": {
            "id": null, "title": report["title"], "creator": null, "department": null, "project": null, "organization": null,
            "classification": null, "media_type": examined.media_type, "file_name": null, "size": examined.size,
            "state": "uploaded", "action": action, "digital_source_type": null, "software_agent": null, "created_at": null,
            "created_by": null,
        },
        "assertions": assertions,
        "metadata": properties(&examined.extracted),
        "ingredients": ingredients,
        // Of a manifest that does not hold, too: it is no draft.
        "signature": examined.report.manifest_present.then(|| signature(Some(&report))),
    });
    Ok(Facts { value, unverified: false, upload: true, verification: "verification".to_owned() })
}

/// Metadata by property.
fn properties(extracted: &Extracted) -> Map<String, Value> {
    let all = [&extracted.tags, &extracted.exif, &extracted.iptc, &extracted.xmp].into_iter().flatten();
    all.map(|(name, value)| (name.clone(), json!(value))).collect()
}

/// What a verification says of the signature.
fn signature(verified: Option<&Value>) -> Value {
    let said = |path: &str| verified.and_then(|verified| verified.pointer(path)).cloned().unwrap_or(Value::Null);
    json!({
        "algorithm": said("/signer/algorithm"),
        "signed_at": null,
        "embedded": null,
        "post_quantum": said("/post_quantum/state"),
        "signer": said("/signer/subject"),
        "trust_level": said("/trust_level"),
        "timestamp": said("/signing_time"),
    })
}

/// The facts as expressions see them; none when they are too large for that, since a part would say something else than the whole.
pub fn for_expressions(facts: &Value) -> Option<&Value> {
    fn small(value: &Value, left: &mut usize) -> bool {
        let cost = match value {
            Value::String(text) => 1 + text.len() / 64,
            _ => 1,
        };
        if *left < cost {
            return false;
        }
        *left -= cost;
        match value {
            Value::String(text) => text.len() <= MAX_TEXT,
            Value::Array(items) => items.len() <= MAX_ITEMS && items.iter().all(|item| small(item, left)),
            Value::Object(map) => map.len() <= MAX_ITEMS && map.values().all(|item| small(item, left)),
            _ => true,
        }
    }
    let mut left = MAX_SIZE;
    let few = facts.get("ingredients").and_then(Value::as_array).is_none_or(|items| items.len() <= MAX_INGREDIENTS);
    (few && small(facts, &mut left)).then_some(facts)
}

/// A step of a path.
enum Step<'a> {
    Member(&'a str),
    Index(usize),
}

/// Splits `a.b[0]["c.d"]`.
fn steps(path: &str) -> Result<Vec<Step<'_>>, String> {
    let (mut out, mut rest) = (Vec::new(), path);
    if path.is_empty() || path.len() > 512 {
        return Err("must have 1 to 512 bytes".into());
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[\"") {
            let (name, after) = after.split_once("\"]").ok_or("a quoted member does not end")?;
            out.push(Step::Member(name));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']').ok_or("an index does not end")?;
            out.push(Step::Index(index.parse().map_err(|_| "an index is a number")?));
            rest = after;
        } else {
            let trimmed = if out.is_empty() { rest } else { rest.strip_prefix('.').ok_or("members are separated by points")? };
            let end = trimmed.find(['.', '[']).unwrap_or(trimmed.len());
            if end == 0 {
                return Err("a member has no name".into());
            }
            out.push(Step::Member(&trimmed[..end]));
            rest = &trimmed[end..];
        }
    }
    Ok(out)
}

/// Refuses a path that leads nowhere.
pub fn check_path(path: &str, within_assertion: bool) -> Result<(), String> {
    let steps = steps(path)?;
    if within_assertion {
        return Ok(());
    }
    let member = |n: usize| match steps.get(n) {
        Some(Step::Member(name)) => Some(*name),
        _ => None,
    };
    let known = |members: &[(&str, Type)], name: &str| match members.iter().any(|(known, _)| *known == name) {
        true => Ok(()),
        false => Err(format!("{name} is not one of {}", schema::names(members))),
    };
    let root = member(0).ok_or("begins with an index")?;
    known(&schema::ROOTS, root)?;
    match (schema::root(root), member(1)) {
        (Some(Type::Members(members)), Some(name)) => known(members, name),
        _ => Ok(()),
    }
}

/// The path to an assertion.
pub fn assertion_path(label: &str) -> String {
    format!("assertions[\"{label}\"]")
}

/// A path within what another leads to.
pub fn join(whole: &str, part: &str) -> String {
    if part.starts_with('[') { format!("{whole}{part}") } else { format!("{whole}.{part}") }
}

/// Whether a path leads to what only a verification says of a signature.
pub fn needs_verification(path: &str, whole: bool) -> bool {
    match steps(path).unwrap_or_default().as_slice() {
        [Step::Member(root)] => *root == "signature" && whole,
        [Step::Member(root), Step::Member(name), ..] => *root == "signature" && schema::VERIFIED.contains(name),
        _ => false,
    }
}

/// What a path leads to.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    follow(value, &steps(path).ok()?)
}

fn follow<'a>(value: &'a Value, steps: &[Step<'_>]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Member(name) => value.get(*name),
        Step::Index(index) => value.get(index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        let value = json!({ "assertions": { "a.b": { "c": [1, { "d:e": 2 }] } } });
        assert_eq!(at(&value, "assertions[\"a.b\"].c[1].d:e"), Some(&json!(2)));
        assert_eq!(at(&value, "assertions[\"a.b\"].c[7]"), None);
        for bad in ["", "a..b", "a[", "a[x]", "a[\"b", "[0]"] {
            assert!(check_path(bad, false).is_err(), "{bad}");
        }
        assert!(check_path("manifest.title", false).is_ok());
        assert!(check_path("manifest.titel", false).is_err());
        assert!(check_path("anything.at.all", true).is_ok());
    }
}
