//! Has the stores themselves keep what is under a legal hold or retention (S3 object lock).

use crate::{
    governance::order,
    removal::{carry_out, late},
};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use omt_jobs::{Handler, JobError, LockOrder, OBJECT_LOCK, Progress, Schedule};
use omt_kernel::{
    OffsetDateTime, Result, TenantId,
    job::JobRecord,
    manifest::BlobRef,
    port::{Clock, Database, TieredStore, UnitOfWork},
    storage::{Lock, Locked, Place, StoredBlob, Tier, lock_name, while_locked},
};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// Blobs looked at in one query.
const PAGE: u32 = 200;
/// Blobs looked at at once.
const AT_ONCE: usize = 8;

/// The lock that those who need a blob ask for together. Retention that has ended is none.
async fn needed(unit: &dyn UnitOfWork, tenant: &TenantId, blob: &BlobRef, now: OffsetDateTime) -> Result<Lock> {
    let lock = Lock::of(&unit.blobs().uses(tenant, &blob.sha256).await?);
    Ok(Lock { retain_until: lock.retain_until.filter(|until| *until > now), ..lock })
}

/// Locks a blob's copies in these tiers as those who need it ask for; how many were locked otherwise before. It is looked at and
/// locked under the blob's own lock, so that of two who do so at once the later one has the last word.
pub(crate) async fn lock_as_needed(
    database: &dyn Database,
    blobs: &dyn TieredStore,
    (tenant, blob): (&TenantId, &BlobRef),
    tiers: &[Tier],
    now: OffsetDateTime,
) -> Result<u64> {
    let unit = database.begin().await?;
    unit.lock(&lock_name(tenant, &blob.sha256)).await?;
    let lock = needed(unit.as_ref(), tenant, blob, now).await?;
    let mut changed = 0;
    for tier in tiers.iter().filter(|tier| blobs.locks_in(**tier)) {
        changed += u64::from(while_locked(blobs.lock(tenant, blob, *tier, lock)).await? == Locked::Changed);
    }
    unit.commit().await?;
    Ok(changed)
}

/// Takes away the copy that a blob was moved from, unless its record names it there again. Under the blob's own lock: a hold that comes
/// or goes meanwhile finds one of the copies, or both. What must be locked now goes back, where the other tier cannot lock it; that copy
/// is left to the sweep.
pub(crate) async fn remove_moved(
    database: &dyn Database,
    blobs: &dyn TieredStore,
    moved: &StoredBlob,
    to: Tier,
    now: OffsetDateTime,
) -> Result<()> {
    let (tenant, blob, from) = (&moved.tenant, &moved.blob, moved.tier);
    let unit = database.begin().await?;
    unit.lock(&lock_name(tenant, &blob.sha256)).await?;
    let found = unit.blobs().find(tenant, &blob.sha256).await?;
    if found.is_some_and(|found| found.tier == from) {
        return Ok(());
    }
    if release(unit.as_ref(), blobs, (tenant, blob), from, to, now).await? {
        unit.blobs().set_tier(tenant, &blob.sha256, to, from).await?;
        return unit.commit().await;
    }
    let doom = unit.blobs().doom(tenant, &blob.sha256, Place::Tier(from), late(now)).await?;
    unit.commit().await?;
    carry_out(database, doom, blobs.remove(tenant, blob, from)).await
}

/// Takes the lock off a copy that is to go, after the copy in another tier has it; true where that tier cannot lock, and must not be the
/// only one.
pub(crate) async fn release(
    unit: &dyn UnitOfWork,
    blobs: &dyn TieredStore,
    (tenant, blob): (&TenantId, &BlobRef),
    from: Tier,
    to: Tier,
    now: OffsetDateTime,
) -> Result<bool> {
    if !blobs.locks_in(from) {
        return Ok(false);
    }
    let lock = needed(unit, tenant, blob, now).await?;
    if blobs.locks_in(to) {
        while_locked(blobs.lock(tenant, blob, to, lock)).await?;
    } else if lock != Lock::default() {
        return Ok(true);
    }
    while_locked(blobs.lock(tenant, blob, from, Lock::default())).await?;
    Ok(false)
}

/// After each change of a hold: locks what the manifest needs. Daily: looks at every blob of tiers that lock, and mends what is
/// locked otherwise than it should be.
pub struct ObjectLocks {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The tiers.
    pub blobs: Arc<dyn TieredStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often all of them are looked at.
    pub every: Duration,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    looked_at: u64,
    changed: u64,
    failed: u64,
}

impl ObjectLocks {
    fn tiers(&self) -> Vec<Tier> {
        Tier::ALL.into_iter().filter(|tier| self.blobs.locks_in(*tier)).collect()
    }

    async fn mend(&self, blob: &StoredBlob) -> Result<u64> {
        let (database, blobs, now) = (self.database.as_ref(), self.blobs.as_ref(), self.clock.now());
        let lock = needed(database.read().await?.as_ref(), &blob.tenant, &blob.blob, now).await?;
        if blobs.is_locked(&blob.tenant, &blob.blob, blob.tier, lock).await? {
            return Ok(0);
        }
        lock_as_needed(database, blobs, (&blob.tenant, &blob.blob), &[blob.tier], now).await
    }

    async fn look(&self, progress: &Progress) -> std::result::Result<(), JobError> {
        let (mut tally, mut last_error) = (Tally::default(), None);
        for tier in self.tiers() {
            let mut after: Option<StoredBlob> = None;
            loop {
                let page = self.database.read().await?.blobs().in_tier(tier, after.as_ref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                let mut done =
                    stream::iter(page).map(|blob| async move { (self.mend(&blob).await, blob) }).buffer_unordered(AT_ONCE);
                while let Some((result, blob)) = done.next().await {
                    tally.looked_at += 1;
                    match result {
                        Ok(changed) => tally.changed += changed,
                        Err(error) => {
                            tracing::warn!(tenant = %blob.tenant, sha256 = blob.blob.sha256, %error, "a blob could not be locked");
                            tally.failed += 1;
                            last_error = Some(error);
                        }
                    }
                }
                progress.set(&tally);
            }
        }
        progress.set(&tally);
        last_error.map_or(Ok(()), |error| Err(error.into()))
    }
}

#[async_trait]
impl Handler for ObjectLocks {
    fn kind(&self) -> &'static str {
        OBJECT_LOCK
    }

    fn schedule(&self) -> Option<Schedule> {
        (!self.tiers().is_empty()).then_some(Schedule { every: self.every, offset: Duration::hours(2) })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(12)
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        if job.tenant.is_none() {
            return self.look(progress).await;
        }
        let (tenant, order): (_, LockOrder) = order(job)?;
        let (tiers, mut tally) = (self.tiers(), Tally::default());
        for blob in &order.blobs {
            let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
            tally.changed += lock_as_needed(database, blobs, (&tenant, blob), &tiers, self.clock.now()).await?;
            tally.looked_at += 1;
        }
        progress.set(&tally);
        Ok(())
    }
}
