//! Endpoints and deliveries.

use omt_kernel::{
    DeliveryId, EndpointId, Error, OffsetDateTime, Reach, Result,
    error::Context as _,
    webhook::{About, DeliveryRecord, EndpointRecord},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The most endpoints of a tenant.
pub const MAX_ENDPOINTS: usize = 20;
/// Attempts that a delivery remembers.
const REMEMBERED: usize = 20;

/// How bodies look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `{type, timestamp, data}` (Standard Webhooks).
    #[default]
    Standard,
    /// A CloudEvents 1.0 event in structured JSON.
    CloudEvents,
}

/// What signs messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// The secret, encrypted.
    pub sealed: Vec<u8>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made_at: OffsetDateTime,
    /// Signs no more from then on; the newest has no end.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ends_at: Option<OffsetDateTime>,
}

/// A place that is told of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where to post.
    pub url: String,
    /// Words for people.
    pub description: String,
    /// Types of events; `manifest.*` is all that begin so, `*` is all.
    pub events: BTreeSet<String>,
    /// How bodies look.
    pub format: Format,
    /// Events on which content it is told of.
    pub reach: Reach,
    /// Secrets, newest first.
    pub secrets: Vec<Secret>,
    /// Since when every delivery has failed for good.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// Why the platform itself closed it.
    pub closed_because: Option<String>,
}

/// A place and its record.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// The record.
    pub record: EndpointRecord,
    /// What it is.
    pub place: Place,
}

impl Endpoint {
    /// Its identifier.
    pub fn id(&self) -> EndpointId {
        self.record.id
    }

    pub(super) fn of(record: EndpointRecord) -> Result<Self> {
        let place = serde_json::from_value(record.data.clone()).context("a webhook cannot be read")?;
        Ok(Self { record, place })
    }

    /// The record with what the place is now.
    pub(super) fn to_record(&self) -> Result<EndpointRecord> {
        let data = serde_json::to_value(&self.place).context("a webhook cannot be written")?;
        Ok(EndpointRecord { data, ..self.record.clone() })
    }
}

/// One try to deliver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The answer's status.
    pub status: Option<u16>,
    /// What went wrong, when there was no answer.
    pub error: Option<String>,
    /// The beginning of what the endpoint said.
    pub excerpt: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// What a delivery says, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// What happened.
    pub data: Value,
    /// When it is tried again.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
    /// How often it was tried.
    pub tries: u32,
    /// The last of them, oldest first.
    pub attempts: Vec<Attempt>,
}

/// An event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The record.
    pub record: DeliveryRecord,
    /// What it says, and how it went.
    pub parcel: Parcel,
}

impl Delivery {
    /// Waits to be delivered.
    pub const PENDING: &'static str = "pending";
    /// The endpoint took it.
    pub const DELIVERED: &'static str = "delivered";
    /// It was given up.
    pub const FAILED: &'static str = "failed";

    pub(super) fn of(record: DeliveryRecord) -> Result<Self> {
        let parcel = serde_json::from_value(record.data.clone()).context("a delivery cannot be read")?;
        Ok(Self { record, parcel })
    }

    pub(super) fn to_record(&self) -> Result<DeliveryRecord> {
        let data = serde_json::to_value(&self.parcel).context("a delivery cannot be written")?;
        Ok(DeliveryRecord { data, ..self.record.clone() })
    }

    pub(super) fn note(&mut self, attempt: Attempt) {
        self.parcel.tries += 1;
        self.parcel.attempts.push(attempt);
        let surplus = self.parcel.attempts.len().saturating_sub(REMEMBERED);
        self.parcel.attempts.drain(..surplus);
    }

    /// A new delivery of a message.
    pub(super) fn new(
        id: DeliveryId,
        endpoint: &EndpointRecord,
        message: Uuid,
        event: &str,
        (data, about): (Value, Option<About>),
        now: OffsetDateTime,
    ) -> Self {
        let parcel = Parcel { data, next_at: Some(now), tries: 0, attempts: Vec::new() };
        let record = DeliveryRecord {
            id,
            tenant: endpoint.tenant.clone(),
            endpoint: endpoint.id,
            message,
            event: event.to_owned(),
            state: Self::PENDING.to_owned(),
            about,
            data: Value::Null,
            created_at: now,
            updated_at: now,
        };
        Self { record, parcel }
    }
}

/// Refuses what cannot be kept, or is more than anybody needs.
pub(super) fn check_place(place: &Place) -> Result<()> {
    let refuse = |field: &str, reason: &str| Err(Error::unprocessable_field("INVALID_FIELD", field, reason));
    check_events(&place.events)?;
    let plain = |text: &str, most: usize| text.len() <= most && !text.chars().any(char::is_control);
    if !plain(&place.description, 500) {
        return refuse("description", "at most 500 bytes without control characters");
    }
    if !plain(&place.url, 2_000) || place.url.chars().any(char::is_whitespace) {
        return refuse("url", "at most 2000 bytes without spaces and control characters");
    }
    if place.reach.department.as_deref().is_some_and(|department| !plain(department, 200)) {
        return refuse("department", "at most 200 bytes without control characters");
    }
    if place.reach.projects.len() > 100 || !place.reach.projects.iter().all(|project| plain(project, 200)) {
        return refuse("projects", "at most 100, each of at most 200 bytes without control characters");
    }
    Ok(())
}

/// Refuses a pattern that no event will ever fit.
fn check_events(events: &BTreeSet<String>) -> Result<()> {
    let refuse = |reason: String| Err(Error::unprocessable_field("INVALID_FIELD", "events", reason));
    if events.is_empty() || events.len() > 50 {
        return refuse("1 to 50 are allowed".to_owned());
    }
    for pattern in events {
        if !super::rules::EVENTS.iter().any(|(event, _)| super::rules::fits(pattern, event)) {
            return refuse(format!("there is no event {pattern:?}"));
        }
    }
    Ok(())
}
