//! Taking a blob away for good.
//!
//! A store that was asked to remove something may do it long after nobody waits for it any more: the request is on its way, or its
//! answer was lost and it is sent again. So a removal is decided under the blob's lock and written down first (the blob is doomed
//! there), and the store is asked afterwards, outside of any transaction. Until it has answered, the database refuses records that
//! would name the blob there; where nobody hears the answer, for as long as the request may live.

use crate::locking::release;
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    manifest::BlobRef,
    port::{BlobStock, Database, TieredStore},
    storage::{Place, Tier, lock_name, while_locked},
};
use std::time::Duration as StdDuration;
use time::Duration;
use uuid::Uuid;

/// For so long a removal of which nothing was heard may still be done: no request lives longer.
const LATE: Duration = Duration::minutes(15);
/// How long an answer is waited for.
const PATIENCE: StdDuration = StdDuration::from_secs(60);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It was removed.
    Removed,
    /// The tier does not have it.
    Absent,
    /// A record names it there.
    Needed,
    /// It was stored so lately that a request may be about to name it.
    Young,
}

/// Until when what is asked for now may be done.
pub(crate) fn late(now: OffsetDateTime) -> OffsetDateTime {
    now + LATE
}

/// Has the store remove what is doomed, and spares it when that is over.
pub(crate) async fn carry_out(database: &dyn Database, doom: Uuid, removal: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(PATIENCE, removal).await.unwrap_or_else(|_| {
        let words = "the blob store takes too long to remove a blob";
        Err(Error::new(Kind::Unavailable, "BLOB_STORE_SLOW", words).retry_after(60))
    })?;
    let unit = database.begin().await?;
    unit.blobs().spare(doom).await?;
    unit.commit().await
}

/// Removes a blob from a tier, unless a record names it there or it was stored after `before`. It is looked at under the lock that
/// requests take before they name bytes that were there already, so that none is left with a name and no bytes.
pub(crate) async fn remove_unneeded(
    database: &dyn Database,
    blobs: &dyn TieredStore,
    (tenant, blob): (&TenantId, &BlobRef),
    tier: Tier,
    (before, now): (OffsetDateTime, OffsetDateTime),
) -> Result<Removal> {
    let unit = database.begin().await?;
    unit.lock(&lock_name(tenant, &blob.sha256)).await?;
    let recorded = unit.blobs().find(tenant, &blob.sha256).await?.map(|found| found.tier);
    if recorded == Some(tier) {
        return Ok(Removal::Needed);
    }
    match while_locked(blobs.modified(tenant, blob, tier)).await? {
        None => return Ok(Removal::Absent),
        Some(at) if at >= before => return Ok(Removal::Young),
        Some(_) => {}
    }
    // A version under a lock of its own would stay behind, hidden.
    if let Some(elsewhere) = recorded
        && release(unit.as_ref(), blobs, (tenant, blob), tier, elsewhere, now).await?
    {
        return Ok(Removal::Needed);
    }
    let doom = unit.blobs().doom(tenant, &blob.sha256, Place::Tier(tier), late(now)).await?;
    unit.commit().await?;
    carry_out(database, doom, blobs.remove(tenant, blob, tier)).await?;
    Ok(Removal::Removed)
}

/// Removes a copy from the replication target, unless a record names the blob, or it was stored after `before`. No request names bytes
/// because they are there, so that without a time it may go at once.
pub(crate) async fn remove_copy(
    database: &dyn Database,
    target: &dyn BlobStock,
    (tenant, blob): (&TenantId, &BlobRef),
    (before, now): (Option<OffsetDateTime>, OffsetDateTime),
) -> Result<Removal> {
    let unit = database.begin().await?;
    unit.lock(&lock_name(tenant, &blob.sha256)).await?;
    if unit.blobs().find(tenant, &blob.sha256).await?.is_some() {
        return Ok(Removal::Needed);
    }
    match while_locked(target.modified(tenant, blob)).await? {
        None => return Ok(Removal::Absent),
        Some(at) if before.is_some_and(|before| at >= before) => return Ok(Removal::Young),
        Some(_) => {}
    }
    let doom = unit.blobs().doom(tenant, &blob.sha256, Place::Replica, late(now)).await?;
    unit.commit().await?;
    carry_out(database, doom, target.delete(tenant, blob)).await?;
    Ok(Removal::Removed)
}
