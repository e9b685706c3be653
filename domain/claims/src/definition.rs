//! What a draft's claim will say, checked when it is uploaded, and the assertions that come of it when it is signed.

use omt_kernel::{Error, Kind, Result, manifest::Classification};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The most assertions that a caller may add to one manifest.
pub const MAX_ASSERTIONS: usize = 64;
/// The most bytes of one added assertion, as JSON.
pub const MAX_ASSERTION_BYTES: usize = 1 << 20;
const MAX_LABEL: usize = 128;
const MAX_TEXT: usize = 1024;

/// Label of the enterprise workflow assertion.
pub const WORKFLOW_LABEL: &str = "org.enterprise.workflow";
/// Label of the CAWG training-and-data-mining assertion.
pub const TRAINING_LABEL: &str = "cawg.training-mining";

/// What a source type is taken to be when the caller names none: media made by a person with tools that do not generate.
/// C2PA 2.2 §18.15 wants one with every `c2pa.created`.
pub const DEFAULT_SOURCE_TYPE: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation";

/// Which extracted metadata goes into the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataInclusion {
    /// None.
    None,
    /// Everything but personal data.
    #[default]
    Safe,
    /// Everything.
    All,
}

impl MetadataInclusion {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::None, Self::Safe, Self::All];
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Safe => "safe",
            Self::All => "all",
        }
    }
}

impl std::str::FromStr for MetadataInclusion {
    type Err = ();
    fn from_str(s: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|value| value.as_str() == s).ok_or(())
    }
}

/// An assertion that the caller brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomAssertion {
    /// Its label.
    pub label: String,
    /// Its content.
    pub data: Value,
}

/// What the claim will say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimDefinition {
    /// The action that made this asset.
    pub action: String,
    /// The caller named the action, rather than leaving the default.
    #[serde(default)]
    pub action_given: bool,
    /// IPTC or C2PA digital source type.
    pub digital_source_type: Option<String>,
    /// The software that performed the action.
    pub software_agent: Option<String>,
    /// Assertions that the caller brings.
    pub assertions: Vec<CustomAssertion>,
    /// Which extracted metadata to include.
    #[serde(default)]
    pub metadata: MetadataInclusion,
}

impl Default for ClaimDefinition {
    fn default() -> Self {
        Self {
            action: "c2pa.created".into(),
            action_given: false,
            digital_source_type: None,
            software_agent: None,
            assertions: Vec::new(),
            metadata: MetadataInclusion::default(),
        }
    }
}

/// Actions of C2PA 2.2 §18.15.4, the version that our claims name. Deprecated ones (`c2pa.copied`, `c2pa.color_adjustments`, …) are
/// read but never written.
const ACTIONS: &[&str] = &[
    "c2pa.addedText",
    "c2pa.adjustedColor",
    "c2pa.changedSpeed",
    "c2pa.converted",
    "c2pa.created",
    "c2pa.cropped",
    "c2pa.deleted",
    "c2pa.drawing",
    "c2pa.dubbed",
    "c2pa.edited",
    "c2pa.edited.metadata",
    "c2pa.enhanced",
    "c2pa.filtered",
    "c2pa.opened",
    "c2pa.orientation",
    "c2pa.placed",
    "c2pa.published",
    "c2pa.redacted",
    "c2pa.removed",
    "c2pa.repackaged",
    "c2pa.resized",
    "c2pa.transcoded",
    "c2pa.translated",
    "c2pa.trimmed",
    "c2pa.unknown",
    "c2pa.watermarked",
];

impl ClaimDefinition {
    /// Checks everything that can be checked without the content.
    pub fn validate(&self) -> Result<()> {
        self.check()?;
        // Readers differ in which of several they take for the assertion.
        let mut labels = BTreeSet::new();
        match self.assertions.iter().position(|assertion| !labels.insert(assertion.label.as_str())) {
            Some(at) => {
                let field = format!("assertions[{at}].label");
                Err(Error::unprocessable_field("REPEATED_LABEL", field, "another assertion has this label already"))
            }
            None => Ok(()),
        }
    }

    /// The same, but that a label may be there more than once, as in drafts that are older than its being refused.
    pub fn check(&self) -> Result<()> {
        if !ACTIONS.contains(&self.action.as_str()) && (self.action.starts_with("c2pa.") || check_label(&self.action).is_err()) {
            return Err(Error::unprocessable_field(
                "UNKNOWN_ACTION",
                "action",
                "neither an action of C2PA nor one in a namespace of your own",
            ));
        }
        if matches!(self.action.as_str(), "c2pa.placed" | "c2pa.removed" | "c2pa.redacted") {
            return Err(Error::unprocessable_field(
                "UNKNOWN_ACTION",
                "action",
                "this action needs a subject; it is written when an ingredient is given",
            ));
        }
        // Languages in its parameters (§18.15.4.7), and a soft binding beside it (§15.10.3.2.3).
        if matches!(self.action.as_str(), "c2pa.translated" | "c2pa.watermarked") {
            return Err(Error::unprocessable_field(
                "UNKNOWN_ACTION",
                "action",
                "this action needs more beside it than its name; without that no validator would accept it",
            ));
        }
        if let Some(source_type) = &self.digital_source_type {
            let known = ["http://cv.iptc.org/newscodes/digitalsourcetype/", "http://c2pa.org/digitalsourcetype/"];
            let ok = known.iter().any(|prefix| {
                source_type
                    .strip_prefix(prefix)
                    .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()))
            });
            if !ok || source_type.len() > MAX_TEXT {
                return Err(Error::unprocessable_field(
                    "INVALID_DIGITAL_SOURCE_TYPE",
                    "digital_source_type",
                    "must be a URI of the IPTC or C2PA digital source types",
                ));
            }
        }
        if self.software_agent.as_ref().is_some_and(|s| s.is_empty() || s.len() > MAX_TEXT || s.chars().any(char::is_control)) {
            return Err(Error::unprocessable_field(
                "INVALID_FIELD",
                "software_agent",
                "must have 1 to 1024 bytes without control characters",
            ));
        }
        if self.assertions.len() > MAX_ASSERTIONS {
            return Err(Error::unprocessable_field("TOO_MANY_ASSERTIONS", "assertions", "at most 64 are allowed"));
        }
        self.assertions.iter().enumerate().try_for_each(|(at, assertion)| assertion.validate(at))
    }
}

/// A label: components of letters, digits, `-` and `_`, joined by dots (C2PA 2.2 §6.2); at least two, never a double
/// underscore, which separates instances.
fn check_label(label: &str) -> std::result::Result<(), &'static str> {
    if label.len() > MAX_LABEL {
        return Err("longer than 128 characters");
    }
    if label.contains("__") {
        return Err("a double underscore is kept for instance numbers");
    }
    let mut components = 0;
    for part in label.split('.') {
        components += 1;
        let word = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if part.is_empty() || !word || !part.as_bytes()[0].is_ascii_alphanumeric() {
            return Err("must be dot-separated words of letters, digits, '-' and '_'");
        }
    }
    if components < 2 { Err("needs a namespace, such as com.example.name") } else { Ok(()) }
}

impl CustomAssertion {
    /// Whether the content is written as JSON rather than CBOR: metadata assertions are JSON-LD (C2PA 2.2 §18.17).
    pub fn is_json(&self) -> bool {
        self.label.ends_with(".metadata")
    }

    fn validate(&self, at: usize) -> Result<()> {
        let field = |name: &str| format!("assertions[{at}].{name}");
        let refuse = |code, name: &str, reason: &str| Err(Error::unprocessable_field(code, field(name), reason));
        if let Err(reason) = check_label(&self.label) {
            return refuse("INVALID_LABEL", "label", reason);
        }
        let lower = self.label.to_ascii_lowercase();
        let reserved = |prefix: &str| lower.starts_with(prefix);
        if reserved("stds.exif") || reserved("stds.iptc") || reserved("stds.schema-org") {
            return refuse("DEPRECATED_ASSERTION", "label", "this assertion is deprecated; use c2pa.metadata or cawg.metadata");
        }
        if is_workflow_label(&self.label) && self.label != WORKFLOW_LABEL {
            return refuse("RESERVED_LABEL", "label", "this assertion has no versions and no instances");
        }
        let allowed = ["cawg.metadata", TRAINING_LABEL];
        if (reserved("c2pa.") || reserved("cawg.") || reserved("org.openmediatrust.")) && !allowed.contains(&self.label.as_str())
        {
            return refuse("RESERVED_LABEL", "label", "this namespace is reserved; the platform writes its assertions itself");
        }
        let text = serde_json::to_string(&self.data).unwrap_or_default();
        let size = text.len();
        if size > MAX_ASSERTION_BYTES {
            let mut error = Error::new(Kind::TooLarge, "ASSERTION_TOO_LARGE", format!("assertion {} is over 1 MiB", self.label));
            error.fields.push(omt_kernel::FieldError { field: field("data"), reason: format!("{size} bytes, 1048576 allowed") });
            return Err(error);
        }
        if text.contains("\\u0000") {
            return refuse("INVALID_ASSERTION", "data", "must not contain the character U+0000");
        }
        if !self.data.is_object() {
            return refuse("INVALID_ASSERTION", "data", "must be a JSON object");
        }
        if !self.is_json()
            && let Err(reason) = check_readable(&self.data)
        {
            return refuse("INVALID_ASSERTION", "data", &reason);
        }
        let checked = match self.label.as_str() {
            WORKFLOW_LABEL => {
                serde_json::from_value::<WorkflowAssertion>(self.data.clone()).map(|_| ()).map_err(|e| e.to_string())
            }
            TRAINING_LABEL => serde_json::from_value::<TrainingMining>(self.data.clone())
                .map_err(|e| e.to_string())
                .and_then(|training| training.check()),
            _ if self.is_json() => check_json_ld(&self.data).map_err(str::to_owned),
            _ => Ok(()),
        };
        checked.or_else(|reason| refuse("INVALID_ASSERTION", "data", &reason))
    }
}

/// Whether every whole number is one that all readers can hold: some know none beyond 64 bits with a sign.
fn holds_known_numbers(data: &Value) -> bool {
    match data {
        Value::Number(number) => !number.is_u64() || number.is_i64(),
        Value::Array(items) => items.iter().all(holds_known_numbers),
        Value::Object(members) => members.values().all(holds_known_numbers),
        _ => true,
    }
}

/// What is signed must be within the bounds of readers: its numbers, its nesting, and how many items it has.
fn check_readable(data: &Value) -> std::result::Result<(), String> {
    if !holds_known_numbers(data) {
        return Err("has a whole number above 9223372036854775807".into());
    }
    let mut cbor = Vec::new();
    ciborium::into_writer(data, &mut cbor).map_err(|e| e.to_string())?;
    crate::jumbf::scan_cbor(&cbor).map_err(|e| e.to_string())
}

/// A metadata assertion needs an `@context` of prefixes, and declares every prefix it uses.
fn check_json_ld(data: &Value) -> std::result::Result<(), &'static str> {
    let context = data.get("@context").and_then(Value::as_object).ok_or("needs an @context object")?;
    if context.is_empty() || context.values().any(|v| !v.is_string()) {
        return Err("@context must map prefixes to URIs");
    }
    let keys = data.as_object().into_iter().flat_map(|o| o.keys());
    for key in keys.filter(|k| !k.starts_with('@')) {
        if key.split_once(':').is_some_and(|(prefix, _)| !context.contains_key(prefix)) {
            return Err("uses a prefix that @context does not declare");
        }
    }
    Ok(())
}

/// Whether a label means the workflow assertion, with a version (`.v2`), an instance (`__1`) or another case: readers differ in which
/// of these they take for the same.
pub fn is_workflow_label(label: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let lower = label.to_ascii_lowercase();
    let lower = lower.rsplit_once("__").filter(|(_, n)| number(n)).map_or(lower.as_str(), |(base, _)| base);
    let base = lower.rsplit_once(".v").filter(|(_, n)| number(n)).map_or(lower, |(base, _)| base);
    base == WORKFLOW_LABEL
}

/// `org.enterprise.workflow`: what the organisation's process decided about the asset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowAssertion {
    /// The workflow instance.
    pub workflow_id: String,
    /// Who decided what, in order.
    pub approval_chain: Vec<Approval>,
    /// Compliance results.
    pub compliance_check: ComplianceCheck,
    /// Sensitivity.
    pub classification: Classification,
    /// The retention rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<String>,
    /// Where in the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizational_context: Option<OrganizationalContext>,
}

/// One decision in an approval chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The role in which it was made.
    pub role: String,
    /// Who.
    pub user_id: String,
    /// Their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// In whose place, when it was delegated; the role is theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// When (RFC 3339).
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: time::OffsetDateTime,
    /// What.
    pub status: String,
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comments: Option<String>,
}

/// Results of compliance checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComplianceCheck {
    /// Personal Data Protection Act.
    pub pdpa_approved: bool,
    /// Trademarks.
    pub trademark_cleared: bool,
    /// Legal review.
    pub legal_review: bool,
    /// Export control.
    pub export_control_passed: bool,
    /// The classification was checked.
    pub classification_verified: bool,
}

/// Where in the organisation an asset belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganizationalContext {
    /// Department.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// Project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// CAWG training-and-data-mining assertion 1.1: entries by kind of use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingMining {
    entries: BTreeMap<String, TrainingEntry>,
}

#[derive(Debug, Deserialize)]
struct TrainingEntry {
    #[serde(rename = "use")]
    allowed: String,
    constraint_info: Option<String>,
}

impl TrainingMining {
    fn check(&self) -> std::result::Result<(), String> {
        const KINDS: [&str; 4] = ["cawg.data_mining", "cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training"];
        for (kind, entry) in &self.entries {
            if !KINDS.contains(&kind.as_str()) && kind.starts_with("cawg.") {
                return Err(format!("{kind} is not an entry of this assertion"));
            }
            match (entry.allowed.as_str(), &entry.constraint_info) {
                ("allowed" | "notAllowed", _) | ("constrained", Some(_)) => {}
                ("constrained", None) => return Err(format!("{kind}: constrained needs constraint_info")),
                _ => return Err(format!("{kind}: use must be allowed, notAllowed or constrained")),
            }
        }
        if self.entries.is_empty() { Err("needs an entry".into()) } else { Ok(()) }
    }
}

/// The commitment that a countersignature exists: stripping it from the unprotected header then shows.
pub fn commitment(algorithm: omt_crypto::Algorithm, spki_sha256: [u8; 32]) -> Value {
    json!({ "profile": "omt-hybrid/1", "alg": algorithm.cose_id(), "algorithm": algorithm.name(), "spki_sha256": hex::encode(spki_sha256) })
}

/// Label of the commitment.
pub const COMMITMENT_LABEL: &str = "org.openmediatrust.pq-commitment";

#[cfg(test)]
mod tests {
    use super::*;

    fn code(label: &str, data: Value) -> Option<&'static str> {
        let definition =
            ClaimDefinition { assertions: vec![CustomAssertion { label: label.into(), data }], ..Default::default() };
        definition.validate().err().map(|e| e.code)
    }

    #[test]
    fn labels_are_checked() {
        assert_eq!(code("com.example.note", json!({})), None);
        assert_eq!(code("note", json!({})), Some("INVALID_LABEL"));
        assert_eq!(code("com..x", json!({})), Some("INVALID_LABEL"));
        assert_eq!(code("com.example.note__2", json!({})), Some("INVALID_LABEL"));
        assert_eq!(code("com.exämple", json!({})), Some("INVALID_LABEL"));
        assert_eq!(code("c2pa.hash.data", json!({})), Some("RESERVED_LABEL"));
        assert_eq!(code("C2PA.actions", json!({})), Some("RESERVED_LABEL"));
        assert_eq!(code("org.openmediatrust.pq-commitment", json!({})), Some("RESERVED_LABEL"));
        assert_eq!(code("stds.schema-org.CreativeWork", json!({})), Some("DEPRECATED_ASSERTION"));
        assert_eq!(code("com.example.note", json!([])), Some("INVALID_ASSERTION"));
        assert_eq!(code("com.example.big", json!({ "x": "y".repeat(5 << 20) })), Some("ASSERTION_TOO_LARGE"));
    }

    #[test]
    fn every_label_is_given_once() {
        let given = |labels: &[&str]| {
            let each = |label: &&str| CustomAssertion { label: (*label).into(), data: json!({}) };
            let definition = ClaimDefinition { assertions: labels.iter().map(each).collect(), ..Default::default() };
            definition.validate().err().map(|e| (e.code, e.fields[0].field.clone()))
        };
        assert_eq!(given(&["org.x", "org.y", "org.x.v2"]), None);
        let twice = ["org.x", "org.y", "org.x"];
        assert_eq!(given(&twice), Some(("REPEATED_LABEL", "assertions[2].label".to_owned())));
    }

    #[test]
    fn what_our_own_reader_would_refuse_is_not_signed() {
        let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "x": inner }));
        assert_eq!(code("com.example.number", json!({ "x": [i64::MAX, i64::MIN] })), None);
        assert_eq!(code("com.example.number", json!({ "x": [i64::MAX as u64 + 1] })), Some("INVALID_ASSERTION"));
        assert_eq!(code("com.example.deep", nested(62)), None);
        assert_eq!(code("com.example.deep", nested(63)), Some("INVALID_ASSERTION"));
        assert_eq!(code("com.example.many", json!({ "x": vec![1; 499_990] })), None);
        assert_eq!(code("com.example.many", json!({ "x": vec![1; 500_001] })), Some("INVALID_ASSERTION"));
        // JSON is not read as CBOR.
        let mut metadata = nested(100);
        metadata["@context"] = json!({ "ex": "http://example.com/" });
        assert_eq!(code("com.example.metadata", metadata), None);
    }

    #[test]
    fn known_assertions_are_typed() {
        let workflow = json!({
            "workflow_id": "w-1",
            "approval_chain": [{ "role": "approver", "user_id": "u1", "timestamp": "2026-01-02T03:04:05Z", "status": "approved" }],
            "compliance_check": { "pdpa_approved": true, "trademark_cleared": true, "legal_review": false, "export_control_passed": true, "classification_verified": true },
            "classification": "internal",
            "organizational_context": { "department": "news" }
        });
        assert_eq!(code(WORKFLOW_LABEL, workflow.clone()), None);
        let mut bad = workflow;
        bad["classification"] = json!("whatever");
        assert_eq!(code(WORKFLOW_LABEL, bad), Some("INVALID_ASSERTION"));
        assert_eq!(code(TRAINING_LABEL, json!({ "entries": { "cawg.ai_training": { "use": "notAllowed" } } })), None);
        assert_eq!(
            code(TRAINING_LABEL, json!({ "entries": { "cawg.ai_training": { "use": "maybe" } } })),
            Some("INVALID_ASSERTION")
        );
        assert_eq!(
            code("cawg.metadata", json!({ "@context": { "dc": "http://purl.org/dc/elements/1.1/" }, "dc:title": "x" })),
            None
        );
        assert_eq!(code("cawg.metadata", json!({ "@context": {}, "dc:title": "x" })), Some("INVALID_ASSERTION"));
    }

    #[test]
    fn actions_are_known_or_your_own() {
        let check =
            |action: &str| ClaimDefinition { action: action.into(), ..Default::default() }.validate().err().map(|e| e.code);
        assert_eq!(check("c2pa.edited"), None);
        assert_eq!(check("com.example.stamped"), None);
        assert_eq!(check("c2pa.adjustedColor"), None);
        assert_eq!(check("created"), Some("UNKNOWN_ACTION"));
        // Deprecated in C2PA 2.2 or before it (annex C), newer than it, or more than a name.
        for action in [
            "c2pa.color_adjustments",
            "c2pa.copied",
            "c2pa.formatted",
            "c2pa.managed",
            "c2pa.produced",
            "c2pa.saved",
            "c2pa.version_updated",
            "c2pa.resized.proportional",
            "c2pa.placed",
            "c2pa.translated",
            "c2pa.watermarked",
        ] {
            assert_eq!(check(action), Some("UNKNOWN_ACTION"), "{action}");
        }
    }
}
