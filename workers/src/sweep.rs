//! Finds what lies in the blob stores and no record names.

use crate::{
    locking::lock_as_needed,
    removal::{Removal, remove_copy, remove_unneeded},
};
use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Error, Result,
    job::JobRecord,
    port::{BlobStock, Clock, Database, Listed, TieredStore},
    storage::{Tier, lock_name, while_locked},
};
use serde::Serialize;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// Objects looked at in one listing.
const PAGE: u32 = 200;

/// Finds objects that no record names, and removes those that are old enough; aborts uploads that never ended.
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
    /// The replication target, where there is one.
    pub replica: Option<Arc<dyn BlobStock>>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    objects: u64,
    orphans_removed: u64,
    bytes: u64,
    young: u64,
    kept: u64,
    brought_back: u64,
    uploads_aborted: u64,
    copies: u64,
    copies_removed: u64,
    failed: u64,
}

impl Sweep {
    /// Whether this was uploaded again after the same bytes had been archived: then it is in use, and this copy is the one to keep.
    async fn came_again(&self, object: &Listed, tier: Tier, recorded: Tier) -> Result<bool> {
        if tier > recorded || !self.blobs.archives(recorded) {
            return Ok(false);
        }
        let archived = self.blobs.modified(&object.tenant, &object.blob, recorded).await?;
        Ok(archived.is_some_and(|at| at < object.modified))
    }

    /// Has the record name this copy, if it is whole. The archived one goes with the next sweep.
    async fn bring_back(&self, object: &Listed, tier: Tier, recorded: Tier) -> Result<bool> {
        self.blobs.verify(&object.tenant, &object.blob, tier).await?;
        let unit = self.database.begin().await?;
        unit.lock(&lock_name(&object.tenant, &object.blob.sha256)).await?;
        // Whoever moves it removes this copy under the same lock.
        let there = while_locked(self.blobs.modified(&object.tenant, &object.blob, tier)).await?.is_some();
        let done = there && unit.blobs().set_tier(&object.tenant, &object.blob.sha256, recorded, tier).await?;
        unit.commit().await?;
        if done {
            let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
            lock_as_needed(database, blobs, (&object.tenant, &object.blob), &[tier], self.clock.now()).await?;
        }
        Ok(done)
    }

    async fn look_at(&self, object: &Listed, tier: Tier, before: OffsetDateTime, tally: &mut Tally) -> Result<()> {
        tally.objects += 1;
        let known = self.database.read().await?.blobs().find(&object.tenant, &object.blob.sha256).await?;
        if known.as_ref().is_some_and(|blob| blob.tier == tier) {
            return Ok(());
        }
        if let Some(elsewhere) = &known
            && self.came_again(object, tier, elsewhere.tier).await?
        {
            tally.brought_back += u64::from(self.bring_back(object, tier, elsewhere.tier).await?);
            return Ok(());
        }
        // A blob in another tier than its record says must be whole there before this copy goes.
        if let Some(elsewhere) = &known
            && let Err(error) = self.blobs.verify(&object.tenant, &object.blob, elsewhere.tier).await
        {
            tracing::error!(tenant = %object.tenant, sha256 = object.blob.sha256, tier = %elsewhere.tier, %error,
                "a blob is not whole in the tier of its record; another copy is kept");
            tally.kept += 1;
            return Ok(());
        }
        let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
        match remove_unneeded(database, blobs, (&object.tenant, &object.blob), tier, (before, self.clock.now())).await? {
            Removal::Removed => {
                tally.orphans_removed += 1;
                tally.bytes += object.blob.size;
            }
            Removal::Young => tally.young += 1,
            Removal::Absent | Removal::Needed => {}
        }
        Ok(())
    }

    /// Copies of what no record names go too. A target that does not answer keeps nothing else from being swept.
    async fn sweep_replica(&self, replica: &dyn BlobStock, before: OffsetDateTime, tally: &mut Tally) -> Result<()> {
        match replica.abort_uploads(before).await {
            Ok(aborted) => tally.uploads_aborted += aborted,
            Err(error) => {
                tracing::warn!(%error, "old uploads to the replication target could not be aborted");
                tally.failed += 1;
            }
        }
        let mut after: Option<String> = None;
        loop {
            let page = replica.list(after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for object in &page {
                tally.copies += 1;
                let unit = self.database.read().await?;
                if object.modified >= before || unit.blobs().find(&object.tenant, &object.blob.sha256).await?.is_some() {
                    continue;
                }
                drop(unit);
                let copy = (&object.tenant, &object.blob);
                match remove_copy(self.database.as_ref(), replica, copy, (Some(before), self.clock.now())).await {
                    Ok(removal) => tally.copies_removed += u64::from(removal == Removal::Removed),
                    Err(error) => {
                        tracing::warn!(tenant = %object.tenant, sha256 = object.blob.sha256, %error, "a replica could not be swept");
                        tally.failed += 1;
                    }
                }
            }
        }
    }
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
        let before = self.clock.now() - self.young;
        let (mut tally, mut last_error) = (Tally::default(), None);
        for tier in Tier::ALL {
            // A service that may not be asked for uploads keeps nothing else from being swept.
            match self.blobs.abort_tier_uploads(tier, before).await {
                Ok(aborted) => tally.uploads_aborted += aborted,
                Err(error) => {
                    tracing::warn!(%tier, %error, "old uploads could not be aborted");
                    tally.failed += 1;
                }
            }
            let mut after: Option<String> = None;
            loop {
                let page = self.blobs.list_tier(tier, after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                for object in &page {
                    if let Err(error) = self.look_at(object, tier, before, &mut tally).await {
                        let (tenant, sha256) = (&object.tenant, &object.blob.sha256);
                        tracing::warn!(%tenant, sha256, %tier, %error, "an object could not be swept");
                        tally.failed += 1;
                        last_error = Some(error);
                    }
                }
                progress.set(&tally);
            }
        }
        if let Some(replica) = &self.replica
            && let Err(error) = self.sweep_replica(replica.as_ref(), before, &mut tally).await
        {
            tracing::warn!(%error, "the replication target could not be swept");
        }
        progress.set(&tally);
        last_error.map_or(Ok(()), |error: Error| Err(error.into()))
    }
}
