//! Has archived content restored, for those who asked for it.

use crate::governance::order;
use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, RESTORE, RestoreOrder};
use omt_kernel::{
    Error, Kind, OffsetDateTime,
    job::JobRecord,
    port::{Clock, Database, TieredStore},
    storage::Availability,
};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// Twice what the slowest restore takes.
const LONGEST: Duration = Duration::hours(96);

/// Asks the store for an archived blob, and looks from time to time whether it is back.
pub struct Restores {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Seconds between looks.
    pub look_every: u32,
}

/// How far it is.
#[derive(Serialize)]
struct Stage {
    /// `restoring`, `restored`, or `deleted` when nobody needs it any more.
    stage: &'static str,
    /// Until when a restored copy can be read.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    readable_until: Option<OffsetDateTime>,
}

fn stage(stage: &'static str) -> Stage {
    Stage { stage, readable_until: None }
}

#[async_trait]
impl Handler for Restores {
    fn kind(&self) -> &'static str {
        RESTORE
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let (tenant, RestoreOrder { blob }) = order(job)?;
        if self.database.read().await?.blobs().find(&tenant, &blob.sha256).await?.is_none() {
            progress.set(&stage("deleted"));
            return Ok(());
        }
        match self.blobs.availability(&tenant, &blob).await? {
            Availability::AtOnce => progress.set(&stage("restored")),
            Availability::Restored(until) => progress.set(&Stage { readable_until: until, ..stage("restored") }),
            _ if self.clock.now() - job.created_at > LONGEST => {
                let words = "the store did not restore the content in four days";
                return Err(JobError::Fatal(Error::new(Kind::Unavailable, "RESTORE_TIMEOUT", words)));
            }
            asked => {
                if asked == Availability::Archived {
                    self.blobs.restore(&tenant, &blob).await?;
                }
                progress.set(&stage("restoring"));
                return Err(JobError::Later(self.look_every));
            }
        }
        Ok(())
    }
}
