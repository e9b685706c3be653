//! Archives what is old, when an administrator asks for it.

use crate::governance::{on_a_thread, order};
use async_trait::async_trait;
use omt_claims::service::Manifests;
use omt_jobs::{ARCHIVE, ArchiveOrder, Handler, JobError, Progress};
use omt_kernel::{
    Actor, Error, Kind, OffsetDateTime, Result, TenantId,
    job::JobRecord,
    manifest::{ManifestFilter, ManifestRecord, ManifestState},
    port::{Database, Page},
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
    /// Manifests.
    pub manifests: Arc<Manifests>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    archived: u64,
    held: u64,
    changed_meanwhile: u64,
}

/// What became of a manifest.
enum Archived {
    Now,
    Held,
    ChangedMeanwhile,
}

impl Archive {
    /// Archives one as it was found; what became of it.
    async fn archive(&self, record: ManifestRecord) -> Result<Archived> {
        if record.legal_hold.is_some() {
            return Ok(Archived::Held);
        }
        let manifests = self.manifests.clone();
        let done = on_a_thread(move || async move {
            let actor = Actor::system(record.tenant.clone());
            manifests.archive(&actor, record.id, Some(record.revision)).await
        });
        match done.await {
            Ok(()) => Ok(Archived::Now),
            Err(error) if error.code == "LEGAL_HOLD" => Ok(Archived::Held),
            // Somebody is at it just now, or a workflow is.
            Err(error) if matches!(error.kind, Kind::Conflict | Kind::PreconditionFailed | Kind::NotFound) => {
                Ok(Archived::ChangedMeanwhile)
            }
            Err(error) => Err(error),
        }
    }

    async fn run_for(&self, tenant: &TenantId, order: &ArchiveOrder, progress: &Progress) -> Result<()> {
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
                match self.archive(record).await? {
                    Archived::Now => tally.archived += 1,
                    Archived::Held => tally.held += 1,
                    Archived::ChangedMeanwhile => tally.changed_meanwhile += 1,
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
        let (tenant, order): (_, ArchiveOrder) = order(job)?;
        Ok(self.run_for(&tenant, &order, progress).await?)
    }
}
