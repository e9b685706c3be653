//! What an entry says.

use hmac::{Hmac, KeyInit, Mac};
use omt_kernel::{
    Actor, AuditId, Error, Result,
    audit::AuditEntry,
    manifest::ManifestRecord,
    webhook::{About, Happening},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Logins, refusals, changes, signatures, uses of keys and exports; reading what is confidential or above.
    #[default]
    Standard,
    /// Every decision on a protected resource, reads too.
    Full,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Denied,
    /// It was tried and failed.
    Failed,
}

impl Outcome {
    /// The name in entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    action: Cow<'static, str>,
    kind: &'static str,
    id: String,
    outcome: Outcome,
    code: Option<Cow<'static, str>>,
    before: Option<String>,
    after: Option<String>,
    detail: Option<Value>,
    told: Option<Told>,
}

impl Event {
    /// `action` was done to the thing `id` of this kind.
    pub fn new(action: impl Into<Cow<'static, str>>, kind: &'static str, id: impl ToString) -> Self {
        Self {
            action: action.into(),
            kind,
            id: id.to_string(),
            outcome: Outcome::Done,
            code: None,
            before: None,
            after: None,
            detail: None,
            told: None,
        }
    }

    /// It happened to this content: those who want to hear of such an event are told, once it is done.
    #[must_use]
    pub fn tell(mut self, event: &'static str, record: &ManifestRecord) -> Self {
        self.told = Some(Told { event, about: record.into(), state: record.state.as_str(), revision: record.revision });
        self
    }

    /// It was refused or failed, for this reason.
    #[must_use]
    pub fn outcome(mut self, outcome: Outcome, code: impl Into<Cow<'static, str>>) -> Self {
        (self.outcome, self.code) = (outcome, Some(code.into()));
        self
    }

    /// Whether it was done.
    pub(crate) fn is_done(&self) -> bool {
        self.outcome == Outcome::Done
    }

    /// The thing's state before, of which the entry keeps a hash.
    #[must_use]
    pub fn before(mut self, state: &impl Serialize) -> Self {
        self.before = Some(state_hash(state));
        self
    }

    /// The thing's state after, of which the entry keeps a hash.
    #[must_use]
    pub fn after(mut self, state: &impl Serialize) -> Self {
        self.after = Some(state_hash(state));
        self
    }

    /// More, for readers of the log. Never a name or another datum of a person.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// Whom to tell of it, and how it is called there.
#[derive(Debug, Clone)]
struct Told {
    event: &'static str,
    about: About,
    state: &'static str,
    revision: i64,
}

impl Event {
    /// What others may be told of: what was done to content.
    pub(crate) fn happening(&self, at: OffsetDateTime) -> Option<Happening> {
        let Told { event, about, state, revision } = self.told.clone().filter(|_| self.outcome == Outcome::Done)?;
        let detail = self.detail.clone();
        Some(Happening { at, event, kind: self.kind, id: self.id.clone(), about, state, revision, detail })
    }
}

/// SHA-256 of a state's JSON, whose members are in the order of their names.
fn state_hash(state: &impl Serialize) -> String {
    // A value that cannot be written has the hash of null; our records can all be written.
    let value = serde_json::to_value(state).unwrap_or_default();
    hex::encode(Sha256::digest(value.to_string()))
}

/// A state's hash under the log's own key: a name that is guessed cannot be confirmed by what the log says for ever.
pub(crate) fn keyed(hash: &str, key: &[u8; 32]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Error::internal("no key for a state's hash"))?;
    mac.update(hash.as_bytes());
    Ok(hex::encode(mac.finalize().into_bytes()))
}

/// The leaf's data. The order of members is that of this declaration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leaf {
    /// Version of this form: 1.
    pub v: u8,
    /// The entry's identifier.
    pub id: String,
    /// When (RFC 3339, microseconds).
    pub time: String,
    /// Tenant.
    pub tenant: String,
    /// Pseudonym.
    pub actor: String,
    /// How the actor proved who they are.
    pub via: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub resource: LeafResource,
    /// What came of it.
    pub outcome: String,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// HMAC-SHA-256, under a key of the log, of the SHA-256 of the state before, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The same of the state after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The request.
    pub request: String,
    /// More.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// What a leaf tells of.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeafResource {
    /// Kind of thing.
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// The entry of an event.
pub(crate) fn entry(
    id: AuditId,
    now: OffsetDateTime,
    actor: &Actor,
    pseudonym: &str,
    event: Event,
    state_key: &[u8; 32],
) -> Result<AuditEntry> {
    // What the database keeps: microseconds.
    let at = now.replace_nanosecond(now.microsecond() * 1000).map_err(|_| Error::internal("no such time"))?;
    let time = at.format(&Rfc3339).map_err(|e| Error::internal("a time cannot be written").caused_by(e))?;
    let leaf = Leaf {
        v: 1,
        id: id.to_string(),
        time,
        tenant: actor.tenant.to_string(),
        actor: pseudonym.to_owned(),
        via: actor.via.as_str().to_owned(),
        action: event.action.into_owned(),
        resource: LeafResource { kind: event.kind.to_owned(), id: event.id.chars().take(200).collect() },
        outcome: event.outcome.as_str().to_owned(),
        code: event.code.map(Cow::into_owned),
        before: event.before.map(|hash| keyed(&hash, state_key)).transpose()?,
        after: event.after.map(|hash| keyed(&hash, state_key)).transpose()?,
        request: actor.request_id.clone(),
        detail: event.detail,
    };
    let bytes = serde_json::to_vec(&leaf).map_err(|e| Error::internal("an audit entry cannot be written").caused_by(e))?;
    if bytes.len() > crate::tiles::MAX_ENTRY {
        return Err(Error::internal("an audit entry is too long"));
    }
    Ok(AuditEntry {
        id,
        tenant: actor.tenant.clone(),
        at,
        actor: leaf.actor,
        action: leaf.action,
        resource_kind: leaf.resource.kind,
        resource_id: leaf.resource.id,
        outcome: leaf.outcome,
        request_id: leaf.request,
        leaf: bytes,
        index: None,
    })
}
