//! Deletes content whose retention has ended.

use crate::removal::{Removal, remove_copy, remove_unneeded};
use async_trait::async_trait;
use omt_audit::{AuditTrail, Event};
use omt_claims::cdn::Cdn;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Actor, OffsetDateTime, Result, TenantId,
    job::JobRecord,
    manifest::{BlobRef, ManifestRecord},
    port::{BlobStock, Clock, Database, TieredStore},
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
    /// The content delivery network, where there is one.
    pub cdn: Option<Arc<Cdn>>,
    /// The replication target, where there is one.
    pub replica: Option<Arc<dyn BlobStock>>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    manifests: u64,
    blobs_removed: u64,
    copies_removed: u64,
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

    /// Removes a blob that nobody needs any more from every tier and from the replica; what cannot go now is the sweep's.
    async fn remove(&self, tenant: &TenantId, blob: &BlobRef, now: OffsetDateTime, tally: &mut Tally) {
        let later = |error| {
            tracing::warn!(%tenant, sha256 = blob.sha256, %error, "content could not be deleted now");
            Removal::Young
        };
        for tier in Tier::ALL {
            let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
            match remove_unneeded(database, blobs, (tenant, blob), tier, (now - GRACE, now)).await.unwrap_or_else(later) {
                Removal::Removed => tally.blobs_removed += 1,
                Removal::Absent | Removal::Needed => {}
                Removal::Young => tally.left_to_sweep += 1,
            }
        }
        if let Some(replica) = &self.replica {
            match remove_copy(self.database.as_ref(), replica.as_ref(), (tenant, blob), (None, now)).await.unwrap_or_else(later) {
                Removal::Removed => tally.copies_removed += 1,
                Removal::Absent | Removal::Needed => {}
                Removal::Young => tally.left_to_sweep += 1,
            }
        }
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
                    if let Some((cdn, key)) = self.cdn.as_ref().zip(self.blobs.object_key(&tenant, &blob)) {
                        // It was withdrawn when it was archived; the network may have fetched it once more before it was gone.
                        tracing::info!(url = cdn.place(&key), "content is deleted: purge it from the CDN if it was there");
                    }
                    self.remove(&tenant, &blob, now, &mut tally).await;
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
