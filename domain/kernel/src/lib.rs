//! The kernel: what every room of the domain shares — identifiers, the actor and what it may do, error kinds, records that
//! repositories keep, and the ports through which use cases reach the world.
//!
//! It knows no HTTP, SQL or file system, and holds no clock or random source of its own: those are [`port`]s.

pub mod access;
pub mod actor;
pub mod audit;
pub mod badge;
pub mod calendar;
pub mod document;
pub mod error;
pub mod gate;
pub mod governance;
pub mod ids;
pub mod job;
pub mod manifest;
pub mod once;
pub mod person;
pub mod pool;
pub mod port;
pub mod record;
pub mod retry;
pub mod search;
pub mod storage;
pub mod tenant;
pub mod url;
pub mod webhook;

pub use actor::{Actor, Permission, Reach, Via};
pub use error::{Error, FieldError, Kind, Result, check_revision};
pub use ids::{
    ApiKeyId, AuditId, BadgeId, DeliveryId, EndpointId, EvidenceId, JobId, ManifestId, MappingId, NotificationId, SessionId,
    TaskId, TenantId, UserId, VerificationId, WorkflowId,
};
pub use tenant::{Area, ExportRules, PqRequirement, TenantSettings};
pub use time::OffsetDateTime;
