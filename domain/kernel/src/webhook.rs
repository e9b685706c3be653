//! Records of webhooks, and what they tell of.

use crate::{
    DeliveryId, EndpointId, ManifestId, OffsetDateTime, Reach, TenantId,
    manifest::{Classification, ManifestRecord},
};
use serde_json::Value;
use uuid::Uuid;

/// A place that is told of events.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointRecord {
    /// Identifier, a version 7 UUID.
    pub id: EndpointId,
    /// Tenant.
    pub tenant: TenantId,
    /// Rises with each change; the `ETag`.
    pub revision: i64,
    /// Whether it is told.
    pub enabled: bool,
    /// What it is, as the notify room understands it. Secrets in it are sealed.
    pub data: Value,
    /// The subject that made it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last change.
    pub updated_at: OffsetDateTime,
}

/// An event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRecord {
    /// Identifier, a version 7 UUID.
    pub id: DeliveryId,
    /// Tenant.
    pub tenant: TenantId,
    /// To where.
    pub endpoint: EndpointId,
    /// The message: the same for every endpoint and every attempt, so that receivers know what they have had.
    pub message: Uuid,
    /// The event's type, such as `manifest.signed`.
    pub event: String,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// The content that it tells of; none for tests.
    pub about: Option<About>,
    /// What it says and how it went, as the notify room understands it.
    pub data: Value,
    /// When the event was.
    pub created_at: OffsetDateTime,
    /// Last change.
    pub updated_at: OffsetDateTime,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Exact endpoint.
    pub endpoint: Option<EndpointId>,
    /// Exact state.
    pub state: Option<String>,
    /// Only what was not delivered.
    pub undelivered: bool,
    /// Only of content within reach; of all when absent.
    pub reach: Option<Reach>,
    /// Exact type of event.
    pub event: Option<String>,
    /// Events at or after.
    pub since: Option<OffsetDateTime>,
}

/// Content that something happened to, as far as others may need it to know whether it concerns them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The manifest.
    pub manifest: ManifestId,
    /// Department.
    pub department: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Classification.
    pub classification: Classification,
}

impl About {
    /// Whether it lies within reach.
    pub fn within(&self, reach: &Reach) -> bool {
        reach.covers(self.department.as_deref(), self.project.as_deref(), self.classification)
    }
}

impl From<&ManifestRecord> for About {
    fn from(record: &ManifestRecord) -> Self {
        Self {
            manifest: record.id,
            department: record.department.clone(),
            project: record.project.clone(),
            classification: record.classification,
        }
    }
}

/// Something that happened to content, as the world is told.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When.
    pub at: OffsetDateTime,
    /// The type of event, such as `manifest.signed`.
    pub event: &'static str,
    /// The kind of thing that it happened to first, such as `workflow`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// The content.
    pub about: About,
    /// Its state.
    pub state: &'static str,
    /// Its revision.
    pub revision: i64,
    /// More; no datum of a person.
    pub detail: Option<Value>,
}
