//! Documents that tenants write in versions: workflow definitions and policies. A version never changes; the newest is in force.

use crate::{Actor, Error, Kind, OffsetDateTime, Result, TenantId, check_revision, port::UnitOfWork};
use serde_json::Value;

/// A kind of document. Names are unique within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// A workflow's definition.
    WorkflowDefinition,
    /// An organisational policy.
    Policy,
    /// A compliance policy.
    CompliancePolicy,
}

impl DocumentKind {
    /// What people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::WorkflowDefinition => "workflow definition",
            Self::Policy => "policy",
            Self::CompliancePolicy => "compliance policy",
        }
    }

    /// How many of them a tenant has at most, and the code for more.
    fn most(self) -> (usize, &'static str) {
        match self {
            Self::WorkflowDefinition => (200, "TOO_MANY_DEFINITIONS"),
            Self::Policy => (500, "TOO_MANY_POLICIES"),
            Self::CompliancePolicy => (200, "TOO_MANY_POLICIES"),
        }
    }
}

/// A version of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRecord {
    /// What it is.
    pub kind: DocumentKind,
    /// Tenant.
    pub tenant: TenantId,
    /// Name.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// What it says, as the room that it is for understands it.
    pub data: Value,
    /// The subject that made it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
}

/// A version to be added.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Name.
    pub name: String,
    /// The newest version that there is, shipped ones counted; 0 when there is none.
    pub present: u32,
    /// The version that the caller saw.
    pub expected: Option<i64>,
    /// What it says.
    pub data: Value,
}

/// Waits until nobody else adds versions of this kind, until the transaction ends. Before `present` is read.
pub async fn lock(unit: &dyn UnitOfWork, kind: DocumentKind, tenant: &TenantId) -> Result<()> {
    let name = match kind {
        DocumentKind::WorkflowDefinition => "definitions",
        DocumentKind::Policy | DocumentKind::CompliancePolicy => "policies",
    };
    unit.lock(&format!("{name}:{tenant}")).await
}

/// Adds a version; 412 when the caller saw another, 409 when there are too many documents.
pub async fn append(
    unit: &dyn UnitOfWork,
    actor: &Actor,
    kind: DocumentKind,
    new: NewVersion,
    now: OffsetDateTime,
) -> Result<VersionRecord> {
    let (what, present) = (kind.words(), new.present);
    check_revision(what, i64::from(present), new.expected)?;
    let (most, code) = kind.most();
    if present == 0 && unit.documents().list(kind, &actor.tenant).await?.len() >= most {
        return Err(Error::new(Kind::Conflict, code, format!("a tenant has at most {most} of the kind {what}")));
    }
    let record = VersionRecord {
        kind,
        tenant: actor.tenant.clone(),
        name: new.name,
        version: present + 1,
        data: new.data,
        created_by: actor.subject.clone(),
        created_at: now,
    };
    if !unit.documents().insert(&record).await? {
        return Err(Error::new(
            Kind::Conflict,
            "CONCURRENT_CHANGE",
            format!("somebody else changed the {what} at the same time"),
        ));
    }
    Ok(record)
}
