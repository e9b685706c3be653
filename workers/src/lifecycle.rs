//! Moves idle blobs to cheaper storage, deletes content whose retention has ended, and finds what nobody needs.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    OffsetDateTime, Result, TenantId, TenantSettings,
    job::JobRecord,
    manifest::ManifestState,
    port::{Clock, Database, TieredStore},
    storage::{StoredBlob, Tier},
};
use serde_json::json;
use std::{collections::HashMap, sync::Arc};
use time::Duration;

/// Blobs looked at in one query.
const PAGE: u32 = 200;
/// Blobs moved at once.
const AT_ONCE: usize = 4;

/// Daily: moves each blob to the tier that its tenant's rules give it. A move copies, reads the copy back and compares its
/// SHA-256, switches the record in a transaction, and only then removes the original; cut off anywhere, the blob is whole in
/// at least one tier, and doing it again ends it.
pub struct Lifecycle {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
}

#[derive(Default)]
struct Tally {
    looked_at: u64,
    moved: u64,
    bytes: u64,
    failed: u64,
}

impl Lifecycle {
    /// The tier for a blob: of the rules of its uses, the one that keeps it quickest.
    async fn target(&self, blob: &StoredBlob, settings: &TenantSettings, now: OffsetDateTime) -> Result<Tier> {
        let uses = self.database.read().await?.blobs().uses(&blob.tenant, &blob.blob.sha256).await?;
        let archived = !uses.is_empty() && uses.iter().all(|u| u.state == ManifestState::Archived);
        let tiers = uses.iter().map(|u| settings.tiers_for(u.classification).tier(blob.last_used_at, archived, now));
        Ok(tiers.min().unwrap_or(Tier::Hot))
    }

    async fn move_blob(&self, blob: &StoredBlob, to: Tier) -> Result<()> {
        self.blobs.copy(&blob.tenant, &blob.blob, blob.tier, to).await?;
        let unit = self.database.begin().await?;
        let switched = unit.blobs().set_tier(&blob.tenant, &blob.blob.sha256, blob.tier, to).await?;
        unit.commit().await?;
        if switched {
            self.blobs.remove(&blob.tenant, &blob.blob, blob.tier).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Handler for Lifecycle {
    fn kind(&self) -> &'static str {
        "lifecycle"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(12)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let now = self.clock.now();
        let mut settings: HashMap<TenantId, TenantSettings> = HashMap::new();
        let mut tally = Tally::default();
        let mut last_error = None;
        // Downwards only: a blob that is used again is served from where it is.
        for tier in [Tier::Hot, Tier::Warm] {
            let mut after: Option<StoredBlob> = None;
            loop {
                let page = self.database.read().await?.blobs().in_tier(tier, after.as_ref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                let mut moves = Vec::new();
                for blob in page {
                    tally.looked_at += 1;
                    if !settings.contains_key(&blob.tenant) {
                        let found = self.database.read().await?.tenants().settings(&blob.tenant).await?.unwrap_or_default();
                        settings.insert(blob.tenant.clone(), found);
                    }
                    let target = self.target(&blob, &settings[&blob.tenant], now).await?;
                    if target > tier {
                        moves.push((blob, target));
                    }
                }
                let mut done = stream::iter(moves)
                    .map(|(blob, to)| async move { (self.move_blob(&blob, to).await, blob) })
                    .buffer_unordered(AT_ONCE);
                while let Some((result, blob)) = done.next().await {
                    match result {
                        Ok(()) => {
                            tally.moved += 1;
                            tally.bytes += blob.blob.size;
                        }
                        Err(error) => {
                            tracing::warn!(tenant = %blob.tenant, sha256 = blob.blob.sha256, %error, "a blob could not be moved");
                            tally.failed += 1;
                            last_error = Some(error);
                        }
                    }
                    progress.set(json!({ "looked_at": tally.looked_at, "moved": tally.moved, "bytes": tally.bytes, "failed": tally.failed }));
                }
            }
        }
        progress.set(json!({ "looked_at": tally.looked_at, "moved": tally.moved, "bytes": tally.bytes, "failed": tally.failed }));
        // What failed is where it was, and is tried again.
        last_error.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Hourly: deletes the content of archived manifests whose retention has ended and that no legal hold keeps. The record, the
/// manifest store and every report stay.
pub struct Retention {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
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
        let (mut manifests, mut removed, mut left) = (0u64, 0u64, 0u64);
        loop {
            let expired = self.database.read().await?.manifests().expired(now, PAGE).await?;
            if expired.is_empty() {
                return Ok(());
            }
            let before = manifests;
            for mut record in expired {
                let expected = record.revision;
                record.revision += 1;
                record.updated_at = now;
                record.content_deleted_at = Some(now);
                let unit = self.database.begin().await?;
                // A hold or a change that came meanwhile wins: the revision is another.
                if !unit.manifests().update(&record, expected).await? {
                    continue;
                }
                let gone = unit.blobs().drop_content(&record.tenant, record.id).await?;
                unit.commit().await?;
                manifests += 1;
                for blob in gone {
                    // One stored just now may belong to an upload of the same bytes that has not committed yet.
                    match self.blobs.remove_older(&record.tenant, &blob, now - Duration::hours(1)).await {
                        Ok(true) => removed += 1,
                        // The sweep finds it later.
                        Ok(false) => left += 1,
                        Err(error) => {
                            tracing::warn!(tenant = %record.tenant, sha256 = blob.sha256, %error, "content could not be deleted now");
                            left += 1;
                        }
                    }
                }
                progress.set(json!({ "manifests": manifests, "blobs_removed": removed, "left_to_sweep": left }));
            }
            if manifests == before {
                // Others change all of them just now; the next look finds what is left.
                return Ok(());
            }
        }
    }
}

/// Daily: finds objects that no record names, and removes those older than a day.
pub struct Sweep {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
    /// Objects younger than this are left alone.
    pub young: Duration,
}

#[async_trait]
impl Handler for Sweep {
    fn kind(&self) -> &'static str {
        "sweep"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(12)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let now = self.clock.now();
        let (mut objects, mut orphans, mut bytes, mut young, mut kept, mut uploads) = (0u64, 0u64, 0u64, 0u64, 0u64, 0u64);
        for tier in Tier::ALL {
            uploads += self.blobs.abort_tier_uploads(tier, now - self.young).await?;
            let mut after: Option<String> = None;
            loop {
                let page = self.blobs.list_tier(tier, after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                for object in page {
                    objects += 1;
                    let known = self.database.read().await?.blobs().find(&object.tenant, &object.blob.sha256).await?;
                    if known.as_ref().is_some_and(|blob| blob.tier == tier) {
                        continue;
                    }
                    if now - object.modified < self.young {
                        young += 1;
                        continue;
                    }
                    // A blob in another tier than its record says must be whole there before this copy goes.
                    if let Some(elsewhere) = &known
                        && let Err(error) = self.blobs.verify(&object.tenant, &object.blob, elsewhere.tier).await
                    {
                        tracing::error!(tenant = %object.tenant, sha256 = object.blob.sha256, tier = %elsewhere.tier, %error,
                            "a blob is not whole in the tier of its record; another copy is kept");
                        kept += 1;
                        continue;
                    }
                    self.blobs.remove(&object.tenant, &object.blob, tier).await?;
                    orphans += 1;
                    bytes += object.blob.size;
                }
                progress.set(json!({ "objects": objects, "orphans_removed": orphans, "bytes": bytes, "young": young, "kept": kept, "uploads_aborted": uploads }));
            }
        }
        progress.set(
            json!({ "objects": objects, "orphans_removed": orphans, "bytes": bytes, "young": young, "kept": kept, "uploads_aborted": uploads }),
        );
        Ok(())
    }
}
