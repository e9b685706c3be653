//! Archives what is old, when an administrator asks for it.

use async_trait::async_trait;
use omt_audit::{AuditTrail, Event};
use omt_jobs::{ARCHIVE, ArchiveOrder, Handler, JobError, Progress};
use omt_kernel::{
    Actor, Error, OffsetDateTime, Result, TenantId,
    job::JobRecord,
    manifest::{Archived, ManifestFilter, ManifestRecord, ManifestState},
    port::{Clock, Database, Page},
};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// Manifests looked at in one query.
const PAGE: u32 = 200;

/// Archives a tenant's signed manifests that are older than the order says, but for those under a legal hold.
pub struct Archive {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    archived: u64,
    held: u64,
    changed_meanwhile: u64,
}

impl Archive {
    async fn archive(&self, mut record: ManifestRecord, now: OffsetDateTime, days: u32) -> Result<bool> {
        let expected = record.revision;
        record.revision += 1;
        record.state = ManifestState::Archived;
        record.updated_at = now;
        record.archived = Some(Archived { at: now, retain_until: now + Duration::days(i64::from(days)) });
        let unit = self.database.begin().await?;
        // A hold that came meanwhile wins: the revision is another.
        if !unit.manifests().update(&record, expected).await? {
            return Ok(false);
        }
        let event = Event::new("manifest.archive", "manifest", record.id);
        self.audit.append(unit.as_ref(), &Actor::system(record.tenant.clone()), event).await?;
        unit.commit().await?;
        Ok(true)
    }

    async fn run_for(&self, tenant: &TenantId, order: &ArchiveOrder, progress: &Progress) -> Result<()> {
        let settings = self.database.read().await?.tenants().settings(tenant).await?;
        let settings = settings.ok_or_else(|| Error::internal("the tenant of an archive job is gone"))?;
        let before = OffsetDateTime::from_unix_timestamp(order.created_before);
        let filter = ManifestFilter {
            state: Some(ManifestState::Signed),
            created_before: Some(before.map_err(|e| Error::internal("an archive job has no proper time").caused_by(e))?),
            department: order.department.clone(),
            project: order.project.clone(),
            classification: order.classification,
            ..ManifestFilter::default()
        };
        let (mut tally, mut after) = (Tally::default(), None);
        loop {
            let page = self.database.read().await?.manifests().list(tenant, &filter, Page { after, limit: PAGE }).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.0);
            for record in page {
                if record.legal_hold.is_some() {
                    tally.held += 1;
                } else if let days = settings.retention_for(record.classification)
                    && self.archive(record, self.clock.now(), days).await?
                {
                    tally.archived += 1;
                } else {
                    tally.changed_meanwhile += 1;
                }
            }
            progress.set(&tally);
        }
        progress.set(&tally);
        Ok(())
    }
}

#[async_trait]
impl Handler for Archive {
    fn kind(&self) -> &'static str {
        ARCHIVE
    }

    fn timeout(&self) -> Duration {
        Duration::hours(12)
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let order: std::result::Result<ArchiveOrder, _> = serde_json::from_value(job.payload.clone());
        let (Ok(order), Some(tenant)) = (order, &job.tenant) else {
            return Err(JobError::Fatal(Error::internal("an archive job says nothing that can be done")));
        };
        Ok(self.run_for(tenant, &order, progress).await?)
    }
}
