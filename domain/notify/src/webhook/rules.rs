//! Which events there are, who is told of them, and how messages are written and signed. Pure.

use super::model::Format;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use omt_kernel::{Error, OffsetDateTime, Result, error::Context as _, webhook::Happening};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::collections::BTreeSet;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Seconds between attempts (Standard Webhooks, "Deliverability and reliability").
pub const RETRIES: [u32; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];
/// What a test sends.
pub(super) const TEST: &str = "webhook.test";
/// What precedes a secret's base64.
const SECRET_PREFIX: &str = "whsec_";

/// Every type of event, and what it tells.
pub const EVENTS: &[(&str, &str)] = &[
    ("manifest.created", "content was uploaded, as a draft or signed at once"),
    ("manifest.updated", "a draft's metadata changed"),
    ("manifest.redacted", "personal data was taken out of a draft"),
    ("manifest.signed", "a draft was signed"),
    ("manifest.verified", "a stored manifest was verified; `state` is what came of it"),
    ("manifest.archived", "a manifest was archived"),
    ("manifest.held", "a legal hold was placed"),
    ("manifest.released", "a legal hold was released"),
    ("manifest.content_deleted", "content was deleted at the end of its retention"),
    ("workflow.started", "a workflow began"),
    ("workflow.moved", "a workflow reached another state: `from`, `to` and the `action`"),
    ("workflow.decided", "somebody decided, and the state is still the same"),
    ("workflow.failed", "the effects of a transition could not be had"),
    ("workflow.cancelled", "a workflow was called off"),
    ("workflow.voided", "a change of the content voided what was decided"),
    ("workflow.escalated", "a task was overdue and went to another role too"),
    ("workflow.migrated", "a workflow went on under another version of its definition"),
    ("workflow.policies_changed", "compliance policies were added to a workflow"),
    ("workflow.task_changed", "a task was claimed, given back or delegated: `action`"),
    ("workflow.commented", "somebody said something"),
    ("workflow.effect", "a transition with the effect `webhook` was taken: `name`"),
    ("compliance.checked", "a compliance policy was checked: `policy` and `status`"),
    ("compliance.changed", "a report says otherwise, for what it depends on changed or ended: `policy`, `from` and `to`"),
    ("compliance.evidence_added", "a clearance, a right or a declaration about content was recorded: `kind`"),
    ("compliance.evidence_withdrawn", "a clearance or a right about content was taken back: `kind`"),
    ("compliance.override_requested", "somebody asked for an override of a `rule`"),
    ("compliance.override_approved", "a second person agreed to it"),
    ("badge.issued", "a badge was issued for signed content: `badge_id`"),
    ("badge.revoked", "a badge was taken back: `badge_id`"),
    (TEST, "somebody tries whether an endpoint answers; sent to it whatever it asked for"),
];

/// Whether a type of event is one that a pattern names.
pub fn fits(pattern: &str, event: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(start) => start.ends_with('.') && event.starts_with(start),
        None => pattern == event,
    }
}

/// Whether any pattern names a type of event.
pub fn asked_for(patterns: &BTreeSet<String>, event: &str) -> bool {
    patterns.iter().any(|pattern| fits(pattern, event))
}

/// What is said of something that happened: what it happened to, and the log's own details.
pub fn data_of(happening: &Happening) -> Value {
    let about = &happening.about;
    let mut data = Map::new();
    if let Some(Value::Object(detail)) = &happening.detail {
        data.extend(detail.iter().filter(|(name, _)| *name != "manifest").map(|(name, value)| (name.clone(), value.clone())));
    }
    data.insert("manifest_id".to_owned(), json!(about.manifest));
    data.insert("manifest_state".to_owned(), json!(happening.state));
    data.insert("classification".to_owned(), json!(about.classification));
    data.insert("department".to_owned(), json!(about.department));
    data.insert("project".to_owned(), json!(about.project));
    if happening.kind == "workflow" {
        data.insert("workflow_id".to_owned(), json!(happening.id));
    } else {
        data.insert("manifest_revision".to_owned(), json!(happening.revision));
    }
    Value::Object(data)
}

/// A message, ready to be written.
pub struct Message<'a> {
    /// Its identifier.
    pub id: Uuid,
    /// The type of event.
    pub event: &'a str,
    /// When it was.
    pub at: OffsetDateTime,
    /// What happened.
    pub data: &'a Value,
    /// What it happened to.
    pub subject: Option<&'a str>,
    /// Who tells: a URI of this platform and the tenant.
    pub source: &'a str,
}

impl Message<'_> {
    /// The body and its media type.
    pub fn write(&self, format: Format) -> Result<(String, &'static str)> {
        let at = self.at.format(&Rfc3339).context("a time cannot be written")?;
        Ok(match format {
            Format::Standard => {
                (json!({ "type": self.event, "timestamp": at, "data": self.data }).to_string(), "application/json")
            }
            Format::CloudEvents => {
                let mut event = json!({
                    "specversion": "1.0", "id": self.id, "source": self.source,
                    "type": format!("org.openmediatrust.{}", self.event), "time": at,
                    "datacontenttype": "application/json", "data": self.data,
                });
                if let (Some(event), Some(subject)) = (event.as_object_mut(), self.subject) {
                    event.insert("subject".to_owned(), json!(subject));
                }
                (event.to_string(), "application/cloudevents+json")
            }
        })
    }
}

/// A secret as its owner keeps it.
pub fn secret_text(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(secret))
}

/// The value of `webhook-signature`: one signature for each secret that is in force, newest first.
pub fn signatures<S: AsRef<[u8]>>(secrets: &[S], id: Uuid, timestamp: i64, body: &str) -> Result<String> {
    let mut out = Vec::new();
    for secret in secrets {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_ref()).map_err(|_| Error::internal("no key for a webhook"))?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        out.push(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    }
    Ok(out.join(" "))
}

/// The pause after so many tries; none when there is no other.
pub fn pause(tries: u32) -> Option<u32> {
    RETRIES.get(usize::try_from(tries).ok()?.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::{ManifestId, manifest::Classification, webhook::About};

    /// The example of the Standard Webhooks specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(format!("{id}.1614265330.{{\"test\": 2432232314}}").as_bytes());
        assert_eq!(STANDARD.encode(mac.finalize().into_bytes()), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signatures(&[&secret, &secret], Uuid::nil(), 1, "{}").unwrap();
        let (first, second) = two.split_once(' ').unwrap();
        assert!(first == second && first.starts_with("v1,") && first.len() == 3 + 44);
        assert_eq!(secret_text(&secret), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn patterns_name_events() {
        for (pattern, event, fit) in [
            ("*", "manifest.signed", true),
            ("manifest.*", "manifest.signed", true),
            ("manifest.signed", "manifest.signed", true),
            ("manifest.*", "workflow.moved", false),
            ("manifest*", "manifest.signed", false),
            ("manifest.sign", "manifest.signed", false),
            ("", "manifest.signed", false),
        ] {
            assert_eq!(fits(pattern, event), fit, "{pattern} {event}");
        }
    }

    #[test]
    fn what_is_told_names_the_thing_and_the_action() {
        let happening = Happening {
            at: OffsetDateTime::UNIX_EPOCH,
            event: "workflow.moved",
            kind: "workflow",
            id: "w".to_owned(),
            about: About {
                manifest: ManifestId(Uuid::nil()),
                department: None,
                project: None,
                classification: Classification::Internal,
            },
            state: "signed",
            revision: 2,
            detail: Some(json!({ "action": "publish", "from": "approved", "to": "published", "manifest": "m" })),
        };
        let data = data_of(&happening);
        assert_eq!((&data["action"], &data["workflow_id"], &data["to"]), (&json!("publish"), &json!("w"), &json!("published")));
        assert!(data.get("manifest").is_none());
        let listed: BTreeSet<&str> = EVENTS.iter().map(|(event, _)| *event).collect();
        assert_eq!(listed.len(), EVENTS.len());
    }

    #[test]
    fn bodies_are_of_their_format() {
        let data = json!({ "manifest_id": "m" });
        let message = Message {
            id: Uuid::nil(),
            event: "manifest.signed",
            at: OffsetDateTime::UNIX_EPOCH,
            data: &data,
            subject: Some("m"),
            source: "https://media.example/tenants/default",
        };
        let (body, kind) = message.write(Format::Standard).unwrap();
        assert_eq!(kind, "application/json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body, json!({ "type": "manifest.signed", "timestamp": "1970-01-01T00:00:00Z", "data": data }));
        let (body, kind) = message.write(Format::CloudEvents).unwrap();
        assert_eq!(kind, "application/cloudevents+json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["specversion"], &body["type"]), (&json!("1.0"), &json!("org.openmediatrust.manifest.signed")));
        assert_eq!((&body["subject"], &body["source"]), (&json!("m"), &json!(message.source)));
    }

    #[test]
    fn pauses_are_those_of_the_standard_and_end() {
        assert_eq!(pause(0), None);
        assert_eq!((pause(1), pause(7), pause(8)), (Some(5), Some(36_000), None));
    }
}
