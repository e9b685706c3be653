//! Ports of what leaves the platform: webhooks and e-mail.

use super::{Page, UnitOfWork};
use crate::{
    DeliveryId, EndpointId, Error, Kind, Result, TenantId,
    webhook::{DeliveryFilter, DeliveryRecord, EndpointRecord, Happening},
};
use async_trait::async_trait;
use time::OffsetDateTime;

/// Webhooks' endpoints and deliveries. Every query but that of old deliveries names the tenant.
#[async_trait]
pub trait WebhookRepository: Send + Sync {
    /// Adds an endpoint.
    async fn insert_endpoint(&self, endpoint: &EndpointRecord) -> Result<()>;
    /// Finds an endpoint.
    async fn endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<Option<EndpointRecord>>;
    /// Every endpoint of a tenant, oldest first.
    async fn endpoints(&self, tenant: &TenantId) -> Result<Vec<EndpointRecord>>;
    /// Replaces an endpoint if its revision is still `expected`; false when it is not.
    async fn update_endpoint(&self, endpoint: &EndpointRecord, expected: i64) -> Result<bool>;
    /// Removes an endpoint; false when there is none. Its deliveries are forgotten later, a few at once.
    async fn delete_endpoint(&self, tenant: &TenantId, id: EndpointId) -> Result<bool>;
    /// Adds a delivery.
    async fn insert_delivery(&self, delivery: &DeliveryRecord) -> Result<()>;
    /// Finds a delivery.
    async fn delivery(&self, tenant: &TenantId, id: DeliveryId) -> Result<Option<DeliveryRecord>>;
    /// Replaces a delivery; false when there is none.
    async fn update_delivery(&self, delivery: &DeliveryRecord) -> Result<bool>;
    /// Deliveries, newest first.
    async fn deliveries(&self, tenant: &TenantId, filter: &DeliveryFilter, page: Page) -> Result<Vec<DeliveryRecord>>;
    /// Forgets deliveries of every tenant of events before, and those of endpoints that are gone, a bounded number at once; how many.
    async fn forget_deliveries(&self, before: OffsetDateTime) -> Result<u64>;
}

/// Hears of what is written in the audit log about content, within the change's own transaction.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Hears of it. An error undoes the change.
    async fn heard(&self, unit: &dyn UnitOfWork, tenant: &TenantId, happening: &Happening) -> Result<()>;
}

/// How an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// HTTP status.
    pub status: u16,
    /// Seconds that it asks to be left alone.
    pub retry_after: Option<u32>,
    /// The beginning of what it said.
    pub excerpt: String,
}

/// Posts to endpoints: bounded in time and size, never redirected, and never to a private address.
#[async_trait]
pub trait WebhookSender: Send + Sync {
    /// Refuses a URL that nothing will ever be posted to.
    fn check(&self, url: &str) -> Result<()>;
    /// Posts. An error when there was no answer.
    async fn post(&self, url: &str, headers: &[(&str, String)], body: String) -> Result<WebhookAnswer>;
}

/// A message to somebody's mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Distinguishes it from all others; the same when it is sent again.
    pub id: String,
    /// To which address.
    pub to: String,
    /// Subject.
    pub subject: String,
    /// Text.
    pub text: String,
}

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands a message to the mail server. [`Kind::Unprocessable`](crate::Kind::Unprocessable) when no attempt will ever do.
    async fn send(&self, mail: &Mail) -> Result<()>;
    /// Does it answer? For readiness.
    async fn check(&self) -> Result<()>;
    /// What and where it is; no secret.
    fn describe(&self) -> String;
}

/// There is no time-stamp, for this reason: [`Kind::Unavailable`] `TIMESTAMP_UNAVAILABLE`.
pub fn no_timestamp(reason: impl std::fmt::Display) -> Error {
    let words = format!("there is no time-stamp, without which nothing is signed here: {reason}");
    Error::new(Kind::Unavailable, "TIMESTAMP_UNAVAILABLE", words).retry_after(30)
}

/// An authority that stamps what it is shown with the time (RFC 3161).
pub trait TimestampAuthority: Send + Sync {
    /// Sends a TimeStampReq and returns the TimeStampResp, both DER, neither looked at. Waits for it, for a bounded time.
    fn ask(&self, request: Vec<u8>) -> Result<Vec<u8>>;
}
