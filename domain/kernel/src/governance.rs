//! Records of governance: workflows, tasks, evidence, reports and notifications.

use crate::{EvidenceId, ManifestId, NotificationId, OffsetDateTime, Reach, TaskId, TenantId, WorkflowId};
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowRecord {
    /// Identifier, a version 7 UUID.
    pub id: WorkflowId,
    /// Tenant.
    pub tenant: TenantId,
    /// The manifest that it decides on.
    pub manifest: ManifestId,
    /// Its definition's name.
    pub definition: String,
    /// Where it stands.
    pub state: String,
    /// Whether it is not over.
    pub open: bool,
    /// Rises with each event; the `ETag`.
    pub revision: i64,
    /// The subject that began it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last event.
    pub updated_at: OffsetDateTime,
    /// Since when the effects of a transition are under way.
    pub pending_since: Option<OffsetDateTime>,
    /// What its events add up to, as the workflow room understands it.
    pub data: Value,
}

/// Which workflows to list.
#[derive(Debug, Clone, Default)]
pub struct WorkflowFilter {
    /// Exact manifest.
    pub manifest: Option<ManifestId>,
    /// Exact state.
    pub state: Option<String>,
    /// Exact definition.
    pub definition: Option<String>,
    /// Exact subject that began it.
    pub created_by: Option<String>,
    /// Only what is or is not over.
    pub open: Option<bool>,
    /// Only on content that the caller can see; everything when absent.
    pub reach: Option<Reach>,
}

/// Something that happened to a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowEventRecord {
    /// Workflow.
    pub workflow: WorkflowId,
    /// Its number, from 1.
    pub sequence: i64,
    /// Tenant.
    pub tenant: TenantId,
    /// When.
    pub at: OffsetDateTime,
    /// What, as the workflow room understands it.
    pub data: Value,
}

/// Something that waits for somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Identifier, a version 7 UUID.
    pub id: TaskId,
    /// Tenant.
    pub tenant: TenantId,
    /// Workflow.
    pub workflow: WorkflowId,
    /// Manifest.
    pub manifest: ManifestId,
    /// The visit of the state that it belongs to.
    pub visit: u32,
    /// The action that it is part of.
    pub action: String,
    /// The stage.
    pub stage: String,
    /// Words for people.
    pub title: String,
    /// The role that decides.
    pub role: String,
    /// Whom it waits for: `role:…`, `group:…` or a subject.
    pub candidates: BTreeSet<String>,
    /// Those who have decided in this state already, in whatever stage: they decide no more.
    pub done_by: BTreeSet<String>,
    /// How many have agreed to this stage.
    pub decided: u32,
    /// How many must agree.
    pub needed: u32,
    /// Who has it.
    pub claimed_by: Option<String>,
    /// When it is due.
    pub due_at: Option<OffsetDateTime>,
    /// When somebody must be reminded or it must be escalated.
    pub next_at: Option<OffsetDateTime>,
    /// When a place in it is lent or given back next, so that it waits for others.
    pub lent_at: Option<OffsetDateTime>,
    /// Creation.
    pub created_at: OffsetDateTime,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Waiting for one of these; for anybody when absent.
    pub candidates: Option<BTreeSet<String>>,
    /// Due before.
    pub due_before: Option<OffsetDateTime>,
    /// On content of this project.
    pub project: Option<String>,
    /// Only on content that the caller can see; everything when absent.
    pub reach: Option<Reach>,
}

/// The kind of jobs that look again at reports of compliance because something that they depend on changed.
pub const REMEASURE: &str = "compliance_remeasure";
/// What every report of compliance depends on: its tenant's settings. An order of the kind [`REMEASURE`] names it as its `key`.
pub const BY_SETTINGS: &str = "settings";

/// The kinds of evidence: consents, clearances, rights and declarations.
pub const EVIDENCE_KINDS: [&str; 4] = ["consent", "clearance", "rights", "declaration"];

/// Evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceRecord {
    /// Identifier.
    pub id: EvidenceId,
    /// Tenant.
    pub tenant: TenantId,
    /// What kind: `consent`, `clearance` or `rights`.
    pub kind: String,
    /// What it is about: `person:<hash>` or `content:<SHA-256>`.
    pub key: String,
    /// Rises with each change.
    pub revision: i64,
    /// What it says, as the compliance room understands it.
    pub data: Value,
    /// The subject that brought it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last change.
    pub updated_at: OffsetDateTime,
}

/// Which evidence to list.
#[derive(Debug, Clone, Default)]
pub struct EvidenceFilter {
    /// Exact kind.
    pub kind: Option<String>,
    /// Exactly about this.
    pub key: Option<String>,
}

/// What a compliance policy says of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportRecord {
    /// Tenant.
    pub tenant: TenantId,
    /// Manifest.
    pub manifest: ManifestId,
    /// Policy.
    pub policy: String,
    /// Overall.
    pub status: String,
    /// What it depends on: evidence that it looked for (`person:…`, `content:…`) and the policy (`policy:<name>`).
    pub keys: BTreeSet<String>,
    /// All of it, as the compliance room understands it.
    pub data: Value,
    /// When.
    pub at: OffsetDateTime,
    /// When it may say otherwise although nothing changes: something that it depends on begins or ends.
    pub turns_at: Option<OffsetDateTime>,
}

/// A report that may say otherwise by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueReport {
    /// Tenant.
    pub tenant: TenantId,
    /// Manifest.
    pub manifest: ManifestId,
    /// Since when.
    pub turns_at: OffsetDateTime,
}

/// An override of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrideRecord {
    /// Identifier.
    pub id: Uuid,
    /// Tenant.
    pub tenant: TenantId,
    /// Manifest.
    pub manifest: ManifestId,
    /// What it says, as the compliance room understands it.
    pub data: Value,
    /// Creation.
    pub created_at: OffsetDateTime,
}

/// A message to somebody.
#[derive(Debug, Clone, PartialEq)]
pub struct NotificationRecord {
    /// Identifier, a version 7 UUID.
    pub id: NotificationId,
    /// Tenant.
    pub tenant: TenantId,
    /// To whom: `role:…`, `group:…` or a subject.
    pub audience: String,
    /// What kind, such as `workflow.task.opened`.
    pub kind: String,
    /// What it says.
    pub data: Value,
    /// The manifest that it is about; only for those who see it.
    pub manifest: ManifestId,
    /// Creation.
    pub created_at: OffsetDateTime,
}
