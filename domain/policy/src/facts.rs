//! What policies see of a manifest: one JSON value, the same for drafts and for what is signed.

use crate::schema::{self, Type};
use omt_claims::{
    definition::{ClaimDefinition, WORKFLOW_LABEL, is_workflow_label},
    engine::PlannedAction,
    metadata::{self, Extracted},
    rules,
    service::Examined,
};
use omt_kernel::{
    Result,
    error::Context as _,
    manifest::{ManifestRecord, Relationship},
    record::VerificationRecord,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// The longest text that a policy sees.
const MAX_TEXT: usize = 4_096;
/// How much there may be in all: values, and every 64 bytes of texts.
pub const MAX_SIZE: usize = 20_000;
/// The longest list or object.
pub const MAX_ITEMS: usize = 1_000;
/// The most ingredients: loops over them in loops over something else stay affordable.
pub const MAX_INGREDIENTS: usize = 100;

/// The assertion that says how the content was made, and the one that names something it was made of, as the engine writes them.
const ACTIONS: &str = "c2pa.actions.v2";
const INGREDIENT: &str = "c2pa.ingredient.v3";
/// Where a report says that the signer attests an approval.
const ATTESTED: &str = "/organizational_compliance/workflow_approved";

/// Who says whether a signature holds.
#[derive(Debug, Clone, Copy)]
pub enum Verified<'a> {
    /// Nobody.
    No,
    /// A verification just now, and the crJSON of all manifests that the content has, where they are readable.
    Now(&'a Value, Option<&'a Value>),
    /// An earlier one.
    Kept(&'a VerificationRecord),
}

impl<'a> Verified<'a> {
    fn report(self) -> Option<&'a Value> {
        match self {
            Self::No => None,
            Self::Now(report, _) => Some(report),
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
    pub(crate) value: Value,
    /// It is signed, and nobody says whether the signature holds.
    pub(crate) unverified: bool,
    /// Content that is not stored here.
    upload: bool,
    /// Assertions are those that the claim has, and not what it will say.
    claimed: bool,
    /// The verification that speaks for the signature.
    verification: String,
    /// Computed when it is asked for, after which nothing of this changes.
    digest: OnceLock<Option<[u8; 32]>>,
}

impl Facts {
    /// Facts as they are given, of something stored whose signature was verified.
    pub fn new(value: Value) -> Self {
        Self {
            value,
            unverified: false,
            upload: false,
            claimed: false,
            verification: "verification".to_owned(),
            digest: OnceLock::new(),
        }
    }

    /// SHA-256 of all that a verdict may depend on: what the record and its newest verification say, and with that the revision and
    /// the trust lists of then.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        let Self { value, unverified, upload, claimed, verification, digest } = self;
        let write = || serde_json::to_vec(&(value, unverified, upload, claimed, verification)).ok();
        *digest.get_or_init(|| write().map(|written| Sha256::digest(written).into()))
    }

    /// What a path leads to, whose word it is (`record`, `definition`, `claim`, `workflow`, `content`, or a verification's), and the
    /// label of the assertion that it leads into.
    pub fn look<'p>(&self, path: &'p Path) -> (Option<&Value>, &str, Option<&'p str>) {
        let member = |n: usize| path.member(n).unwrap_or_default();
        let word = match (member(0), member(1)) {
            ("manifest", "media_type" | "size") | ("metadata", _) => "content",
            ("manifest" | "ingredients", _) if self.upload => "claim",
            ("assertions", _) if self.claimed => "claim",
            ("assertions", WORKFLOW_LABEL) => "workflow",
            ("assertions", _) => "definition",
            ("signature", "algorithm" | "signed_at" | "embedded") if !self.upload => "record",
            // Whether there is one at all is in the record.
            ("signature", "") if !self.upload => "record",
            ("signature", _) => &self.verification,
            _ => "record",
        };
        let label = path.member(1).or(path.steps.as_ref().filter(|steps| steps.len() > 1).map(|_| ""));
        let label = label.filter(|_| member(0) == "assertions");
        (path.follow(&self.value), word, label)
    }
}

/// The facts. `verified` is what a verification said, where there was one.
pub fn of(record: &ManifestRecord, verified: Verified<'_>) -> Result<Facts> {
    let (verification, crjson) = match verified {
        Verified::No => ("none".to_owned(), None),
        Verified::Now(_, crjson) => ("verification".to_owned(), crjson),
        Verified::Kept(kept) => (format!("verification {}", kept.id), None),
    };
    let verified = verified.report();
    let definition: ClaimDefinition = serde_json::from_value(record.definition.clone()).context("a definition cannot be read")?;
    let extracted: Extracted = serde_json::from_value(record.metadata.clone()).context("metadata cannot be read")?;
    // What the claim itself says comes before what it was to say.
    let claimed = verified.zip(crjson).map(|(report, crjson)| claimed(report, Some(crjson)));
    let is_claimed = claimed.is_some();
    let mut assertions = claimed.unwrap_or_else(|| planned(record, &definition, &extracted));
    let signature = record.signed.as_ref().map(|signed| {
        let mut facts = signature(verified);
        facts["algorithm"] = json!(signed.algorithm);
        facts["signed_at"] = json!(signed.signed_at.unix_timestamp());
        facts["embedded"] = json!(signed.embedded);
        facts
    });
    if !is_claimed {
        // What a workflow approved carries its approval; where the signature was looked at, it must say so.
        let attested = verified.is_none_or(|verified| verified.pointer(ATTESTED) == Some(&Value::Bool(true)));
        let workflow = record.signed.as_ref().and_then(|signed| signed.workflow);
        if let Some(workflow) = workflow.filter(|_| attested) {
            assertions.insert(WORKFLOW_LABEL.into(), json!({ "workflow_id": workflow }));
        }
        // What came with the signature: a kept verification says that it is there, and not what it says.
        for label in record.signed.as_ref().and(verified).into_iter().flat_map(labels) {
            if !is_workflow_label(label) {
                assertions.entry(label).or_insert(Value::Null);
            }
        }
    }
    let action = own_action(&assertions).or_else(|| Some(json!(definition.action)));
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
            "action": action,
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
    let unverified = record.signed.is_some() && verified.is_none();
    Ok(Facts { value, unverified, upload: false, claimed: is_claimed, verification, digest: OnceLock::new() })
}

/// The assertions that a claim will have, as far as that is known before it is signed.
fn planned(record: &ManifestRecord, definition: &ClaimDefinition, extracted: &Extracted) -> Map<String, Value> {
    let mut assertions = Map::new();
    let relationships: Vec<Relationship> = record.ingredients.iter().map(|ingredient| ingredient.relationship).collect();
    // A draft that could not be signed was refused when it came.
    let plan = rules::plan_actions(definition, extracted.has_manifest, &relationships).ok();
    let (actions, source_is_parent) = match &plan {
        Some(plan) => (plan.actions.iter().map(PlannedAction::to_json).collect(), plan.source_is_parent),
        None => (vec![json!({ "action": definition.action })], false),
    };
    add(&mut assertions, ACTIONS.to_owned(), json!({ "actions": actions }));
    let given = record.ingredients.iter().map(|i| (&i.title, &i.media_type, i.relationship));
    let source = source_is_parent.then_some((&record.title, &record.media_type, Relationship::ParentOf));
    for (title, media_type, relationship) in given.chain(source) {
        let data = json!({ "dc:title": title, "dc:format": media_type, "relationship": relationship.as_str() });
        add(&mut assertions, INGREDIENT.to_owned(), data);
    }
    for planned in metadata::assertions(extracted, definition.metadata) {
        add(&mut assertions, planned.label, planned.data);
    }
    // What a caller says about approval proves none.
    for custom in definition.assertions.iter().filter(|custom| !is_workflow_label(&custom.label)) {
        add(&mut assertions, custom.label.clone(), custom.data.clone());
    }
    assertions
}

/// The assertions of the active manifest, as far as its integrity holds.
fn claimed(report: &Value, crjson: Option<&Value>) -> Map<String, Value> {
    let manifests = crjson.and_then(|crjson| crjson.get("manifests")?.as_array());
    let label = report.get("active_manifest").filter(|label| label.is_string());
    let valid = report.get("valid") == Some(&Value::Bool(true));
    let active = manifests.into_iter().flatten().find(|manifest| manifest.get("label") == label).filter(|_| valid);
    let mut assertions = match active.and_then(|manifest| manifest.get("assertions")) {
        Some(Value::Object(assertions)) => assertions.clone(),
        _ => Map::new(),
    };
    // An approval is attested only by the one assertion of its kind.
    if report.pointer(ATTESTED) != Some(&Value::Bool(true)) {
        assertions.retain(|label, _| !is_workflow_label(label));
    }
    assertions
}

/// The labels of the assertions that a report is about.
fn labels(report: &Value) -> impl Iterator<Item = &str> {
    let all = report.get("assertions_verified").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|assertion| assertion.get("label")?.as_str())
}

/// The action that made the content: the first that does more than take others' content up.
fn own_action(assertions: &Map<String, Value>) -> Option<Value> {
    let actions = assertions.get(ACTIONS)?.get("actions")?.as_array()?;
    let names = || actions.iter().filter_map(|action| action.get("action"));
    let own = |action: &&Value| !matches!(action.as_str(), Some("c2pa.opened" | "c2pa.placed"));
    names().find(own).or_else(|| names().next()).cloned()
}

/// The facts of content that is not stored here: what its manifest says, as far as its integrity holds.
pub fn of_upload(examined: &Examined) -> Result<Facts> {
    let report = serde_json::to_value(&examined.report).context("a report cannot be written")?;
    let assertions = claimed(&report, examined.crjson.as_ref());
    let action = own_action(&assertions);
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
    Ok(Facts {
        value,
        unverified: false,
        upload: true,
        claimed: true,
        verification: "verification".to_owned(),
        digest: OnceLock::new(),
    })
}

/// Adds an assertion under its label; one more of the same under that label's next instance, as a claim has it (C2PA 2.2 §6.4).
fn add(assertions: &mut Map<String, Value>, label: String, data: Value) {
    let instances = (1..).map(|n| format!("{label}__{n}"));
    let free = std::iter::once(label.clone()).chain(instances).find(|name| !assertions.contains_key(name));
    assertions.insert(free.unwrap_or(label), data);
}

/// A label without its instance number.
pub fn without_instance(label: &str) -> &str {
    let numbered = label.rsplit_once("__").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    numbered.map_or(label, |(base, _)| base)
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
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Index(usize),
}

/// A way into facts, such as `a.b[0]["c.d"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// As it is written.
    pub text: String,
    /// None of what is no path.
    steps: Option<Vec<Step>>,
}

impl Path {
    /// Reads one. An empty one leads to where it begins, and what is no path nowhere.
    pub fn new(text: &str) -> Self {
        let steps = if text.is_empty() { Some(Vec::new()) } else { steps(text).ok() };
        Self { text: text.to_owned(), steps }
    }

    /// The name of a step, where it is a member's.
    fn member(&self, n: usize) -> Option<&str> {
        match self.steps.as_ref()?.get(n)? {
            Step::Member(name) => Some(name),
            Step::Index(_) => None,
        }
    }

    /// What it leads to.
    pub fn follow<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.steps.as_ref()?.iter().try_fold(value, |value, step| match step {
            Step::Member(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    /// Whether it leads to what only a verification says of a signature. `whole`: more of what is there than whether it is null.
    pub fn needs_verification(&self, whole: bool) -> bool {
        match self.steps.as_deref().unwrap_or_default() {
            [Step::Member(root)] => root == "signature" && whole,
            [Step::Member(root), Step::Member(name), ..] => root == "signature" && schema::VERIFIED.contains(&name.as_str()),
            _ => false,
        }
    }
}

/// Splits a path.
fn steps(path: &str) -> Result<Vec<Step>, String> {
    let (mut out, mut rest) = (Vec::new(), path);
    if path.is_empty() || path.len() > 512 {
        return Err("must have 1 to 512 bytes".into());
    }
    while !rest.is_empty() {
        let (step, after) = next_step(rest, out.is_empty())?;
        out.push(step);
        rest = after;
    }
    Ok(out)
}

/// The next step of a path, and what comes after it.
fn next_step(rest: &str, is_first: bool) -> Result<(Step, &str), String> {
    if let Some(after) = rest.strip_prefix("[\"") {
        let (name, after) = after.split_once("\"]").ok_or("a quoted member does not end")?;
        return Ok((Step::Member(name.to_owned()), after));
    }
    if let Some(after) = rest.strip_prefix('[') {
        let (index, after) = after.split_once(']').ok_or("an index does not end")?;
        return Ok((Step::Index(index.parse().map_err(|_| "an index is a number")?), after));
    }
    let trimmed = if is_first { rest } else { rest.strip_prefix('.').ok_or("members are separated by points")? };
    let end = trimmed.find(['.', '[']).unwrap_or(trimmed.len());
    if end == 0 {
        return Err("a member has no name".into());
    }
    Ok((Step::Member(trimmed[..end].to_owned()), &trimmed[end..]))
}

/// The label of the assertion that a path leads into, and the path within it, which is empty where it leads to all of it.
pub fn into_assertion(path: &str) -> Option<(String, &str)> {
    let (Step::Member(root), rest) = next_step(path, true).ok()? else { return None };
    let (Step::Member(label), rest) = next_step(rest, false).ok()? else { return None };
    (root == "assertions").then(|| (label, rest.strip_prefix('.').unwrap_or(rest)))
}

/// Refuses a path that leads nowhere.
pub fn check_path(path: &str, within_assertion: bool) -> Result<(), String> {
    let path = Path { steps: Some(steps(path)?), text: path.to_owned() };
    if within_assertion {
        return Ok(());
    }
    let known = |members: &[(&str, Type)], name: &str| match members.iter().any(|(known, _)| *known == name) {
        true => Ok(()),
        false => Err(format!("{name} is not one of {}", schema::names(members))),
    };
    let root = path.member(0).ok_or("begins with an index")?;
    known(&schema::ROOTS, root)?;
    match (schema::root(root), path.member(1)) {
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
    if part.is_empty() || part.starts_with('[') { format!("{whole}{part}") } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests;
