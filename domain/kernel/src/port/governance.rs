//! Ports of governance: workflows, tasks, compliance, documents and notifications.

use super::Page;
use crate::{
    EvidenceId, ManifestId, NotificationId, Result, TaskId, TenantId, WorkflowId,
    document::{DocumentKind, VersionRecord},
    governance::{
        DueReport, EvidenceFilter, EvidenceRecord, NotificationRecord, OverrideRecord, ReportRecord, TaskFilter, TaskRecord,
        WorkflowEventRecord, WorkflowFilter, WorkflowRecord,
    },
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// Workflows. Every query names the tenant.
#[async_trait]
pub trait WorkflowRepository: Send + Sync {
    /// Adds a workflow.
    async fn insert(&self, workflow: &WorkflowRecord) -> Result<()>;
    /// Finds a workflow.
    async fn get(&self, tenant: &TenantId, id: WorkflowId) -> Result<Option<WorkflowRecord>>;
    /// Replaces a workflow if its revision is still `expected`; false when it is not.
    async fn update(&self, workflow: &WorkflowRecord, expected: i64) -> Result<bool>;
    /// A manifest's newest workflow, or its newest that is not over.
    async fn of_manifest(&self, tenant: &TenantId, manifest: ManifestId, open: bool) -> Result<Option<WorkflowRecord>>;
    /// Workflows on content within reach, newest first.
    async fn list(&self, tenant: &TenantId, filter: &WorkflowFilter, page: Page) -> Result<Vec<WorkflowRecord>>;
    /// The states of some workflows.
    async fn states(&self, tenant: &TenantId, ids: &[WorkflowId]) -> Result<BTreeMap<WorkflowId, String>>;
    /// Workflows that are not over and follow a definition, in the order of identifiers.
    async fn following(&self, tenant: &TenantId, definition: &str, page: Page) -> Result<Vec<WorkflowRecord>>;
    /// Every tenant's workflows whose effects have been under way since before.
    async fn stuck(&self, before: OffsetDateTime, limit: u32) -> Result<Vec<WorkflowRecord>>;
    /// Adds events.
    async fn add_events(&self, events: &[WorkflowEventRecord]) -> Result<()>;
    /// A workflow's events after one of them, oldest first.
    async fn events(&self, tenant: &TenantId, id: WorkflowId, after: i64, limit: u32) -> Result<Vec<WorkflowEventRecord>>;
}

/// What waits for somebody. Every query but the timers' names the tenant.
#[async_trait]
pub trait TaskRepository: Send + Sync {
    /// Adds a task or replaces it, and whom it waits for.
    async fn put(&self, task: &TaskRecord) -> Result<()>;
    /// Finds a task.
    async fn get(&self, tenant: &TenantId, id: TaskId) -> Result<Option<TaskRecord>>;
    /// A workflow's tasks.
    async fn of_workflow(&self, tenant: &TenantId, workflow: WorkflowId) -> Result<Vec<TaskRecord>>;
    /// Removes a task.
    async fn remove(&self, tenant: &TenantId, id: TaskId) -> Result<()>;
    /// Tasks on content within reach that wait for one of these, newest first; of what is overdue, the most overdue first.
    async fn inbox(&self, tenant: &TenantId, filter: &TaskFilter, page: Page) -> Result<Vec<TaskRecord>>;
    /// How many such tasks there are, `most` at most.
    async fn count(&self, tenant: &TenantId, filter: &TaskFilter, most: u32) -> Result<u64>;
    /// Notes that the content of a workflow is of another project now.
    async fn set_project(&self, tenant: &TenantId, workflow: WorkflowId, project: Option<&str>) -> Result<()>;
    /// Every tenant's tasks of which somebody must be reminded, that must be escalated, or that wait for others from now on.
    async fn due(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<TaskRecord>>;
}

/// Evidence, reports and overrides. Every query but the look for what is due names the tenant.
#[async_trait]
pub trait ComplianceRepository: Send + Sync {
    /// Adds evidence.
    async fn insert_evidence(&self, evidence: &EvidenceRecord) -> Result<()>;
    /// Finds evidence.
    async fn evidence(&self, tenant: &TenantId, id: EvidenceId) -> Result<Option<EvidenceRecord>>;
    /// Replaces evidence if its revision is still `expected`; false when it is not.
    async fn update_evidence(&self, evidence: &EvidenceRecord, expected: i64) -> Result<bool>;
    /// Evidence, newest first.
    async fn list_evidence(&self, tenant: &TenantId, filter: &EvidenceFilter, page: Page) -> Result<Vec<EvidenceRecord>>;
    /// Evidence that this subject brought, newest first.
    async fn brought_by(&self, tenant: &TenantId, subject: &str, page: Page) -> Result<Vec<EvidenceRecord>>;
    /// Evidence about any of these.
    async fn about(&self, tenant: &TenantId, keys: &BTreeSet<String>) -> Result<Vec<EvidenceRecord>>;
    /// Keeps a report; it replaces the one on the same manifest by the same policy.
    async fn put_report(&self, report: &ReportRecord) -> Result<()>;
    /// A manifest's reports, by policy.
    async fn reports(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<ReportRecord>>;
    /// Every tenant's reports that may say otherwise by now, those that are due longest first, after the last one of the page
    /// before.
    async fn due_reports(&self, now: OffsetDateTime, after: Option<&DueReport>, limit: u32) -> Result<Vec<DueReport>>;
    /// Manifests whose reports depend on this.
    async fn dependents(&self, tenant: &TenantId, key: &str, page: Page) -> Result<Vec<ManifestId>>;
    /// Adds or replaces an override.
    async fn put_override(&self, record: &OverrideRecord) -> Result<()>;
    /// Finds an override.
    async fn get_override(&self, tenant: &TenantId, id: uuid::Uuid) -> Result<Option<OverrideRecord>>;
    /// A manifest's overrides, oldest first.
    async fn overrides(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<OverrideRecord>>;
}

/// Documents in versions. Every query names the tenant.
#[async_trait]
pub trait DocumentRepository: Send + Sync {
    /// Adds a version; false when there is one of that name and version.
    async fn insert(&self, record: &VersionRecord) -> Result<bool>;
    /// A version; the newest when none is named.
    async fn get(&self, kind: DocumentKind, tenant: &TenantId, name: &str, version: Option<u32>)
    -> Result<Option<VersionRecord>>;
    /// The number of the newest version, which costs less than the version itself.
    async fn newest(&self, kind: DocumentKind, tenant: &TenantId, name: &str) -> Result<Option<u32>>;
    /// The newest version of each, by name.
    async fn list(&self, kind: DocumentKind, tenant: &TenantId) -> Result<Vec<VersionRecord>>;
    /// Every version of one, newest first.
    async fn versions(&self, kind: DocumentKind, tenant: &TenantId, name: &str) -> Result<Vec<VersionRecord>>;
}

/// Messages to people. Every query names the tenant.
#[async_trait]
pub trait NotificationRepository: Send + Sync {
    /// Adds a message.
    async fn insert(&self, notification: &NotificationRecord) -> Result<()>;
    /// Messages to one of these about content within reach, newest first; with whether this subject has read them.
    async fn list(
        &self,
        tenant: &TenantId,
        audience: &BTreeSet<String>,
        reach: &crate::Reach,
        subject: &str,
        unread: bool,
        page: Page,
    ) -> Result<Vec<(NotificationRecord, bool)>>;
    /// Finds a message.
    async fn get(&self, tenant: &TenantId, id: NotificationId) -> Result<Option<NotificationRecord>>;
    /// Notes that somebody read a message.
    async fn read(&self, id: NotificationId, subject: &str, at: OffsetDateTime) -> Result<()>;
    /// Forgets messages made before; how many.
    async fn forget(&self, before: OffsetDateTime) -> Result<u64>;
}
