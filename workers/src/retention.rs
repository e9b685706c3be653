//! Deletes content whose retention has ended.

use crate::removal::{Removal, remove_unneeded};
use async_trait::async_trait;
use omt_audit::{AuditTrail, Event};
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Actor, OffsetDateTime, Result,
    job::JobRecord,
    manifest::{BlobRef, ManifestRecord},
    port::{Clock, Database, TieredStore},
    storage::{BlobRole, Tier},
};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// Manifests looked at in one query.
const PAGE: u32 = 200;
/// Content stored later may belong to an upload of the same bytes that has not committed yet; the sweep finds it.
const GRACE: Duration = Duration::hours(1);

/// Deletes the content of archived manifests whose retention has ended and that no legal hold keeps. The record, the manifest
/// store and every report stay.
pub struct Retention {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    manifests: u64,
    blobs_removed: u64,
    left_to_sweep: u64,
}

impl Retention {
    /// Writes the tombstone; the blobs that nobody needs any more, or none when the manifest was changed meanwhile.
    async fn forget(&self, mut record: ManifestRecord, now: OffsetDateTime) -> Result<Option<Vec<BlobRef>>> {
        let expected = record.revision;
        record.revision += 1;
        record.updated_at = now;
        record.content_deleted_at = Some(now);
        let unit = self.database.begin().await?;
        // A hold that came meanwhile wins: the revision is another.
        if !unit.manifests().update(&record, expected).await? {
            return Ok(None);
        }
        let gone = unit.blobs().drop_uses(&record.tenant, record.id, BlobRole::CONTENT).await?;
        let event = Event::new("manifest.content_deleted", "manifest", record.id).tell("manifest.content_deleted", &record);
        self.audit.append(unit.as_ref(), &Actor::system(record.tenant.clone()), event).await?;
        unit.commit().await?;
        Ok(Some(gone))
    }
}

#[async_trait]
impl Handler for Retention {
    fn kind(&self) -> &'static str {
        "retention"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(2)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let now = self.clock.now();
        let mut tally = Tally::default();
        loop {
            let expired = self.database.read().await?.manifests().expired(now, PAGE).await?;
            let before = tally.manifests;
            for record in expired {
                let tenant = record.tenant.clone();
                let Some(gone) = self.forget(record, now).await? else { continue };
                tally.manifests += 1;
                for blob in gone {
                    for tier in Tier::ALL {
                        let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
                        match remove_unneeded(database, blobs, (&tenant, &blob), tier, now - GRACE).await {
                            Ok(Removal::Removed) => tally.blobs_removed += 1,
                            Ok(Removal::Absent | Removal::Needed) => {}
                            Ok(Removal::Young) => tally.left_to_sweep += 1,
                            Err(error) => {
                                tracing::warn!(%tenant, sha256 = blob.sha256, %error, "content could not be deleted now");
                                tally.left_to_sweep += 1;
                            }
                        }
                    }
                }
                progress.set(&tally);
            }
            // Nothing is left, or others change all of it just now and the next look finds it.
            if tally.manifests == before {
                progress.set(&tally);
                return Ok(());
            }
        }
    }
}
