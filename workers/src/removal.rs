//! Taking a blob away for good.

use crate::locking::release;
use omt_kernel::{
    OffsetDateTime, Result, TenantId,
    manifest::BlobRef,
    port::{BlobStock, Database, TieredStore},
    storage::{Tier, lock_name, while_locked},
};

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

/// Removes a blob from a tier, unless a record names it there or it was stored after `before`. It is looked at and removed under
/// the lock that requests take before they name bytes that were there already, so that none is left with a name and no bytes.
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
    let done = if recorded == Some(tier) {
        Removal::Needed
    } else {
        match while_locked(blobs.modified(tenant, blob, tier)).await? {
            None => Removal::Absent,
            Some(at) if at >= before => Removal::Young,
            Some(_) => {
                // A version under a lock of its own would stay behind, hidden.
                let keeps = match recorded {
                    Some(elsewhere) => release(unit.as_ref(), blobs, (tenant, blob), tier, elsewhere, now).await?,
                    None => false,
                };
                if keeps {
                    Removal::Needed
                } else {
                    while_locked(blobs.remove(tenant, blob, tier)).await?;
                    Removal::Removed
                }
            }
        }
    };
    unit.commit().await?;
    Ok(done)
}

/// Removes a copy from the replication target, unless a record names the blob, or it was stored after `before`. No request names bytes
/// because they are there, so that without a time it may go at once.
pub(crate) async fn remove_copy(
    database: &dyn Database,
    target: &dyn BlobStock,
    (tenant, blob): (&TenantId, &BlobRef),
    before: Option<OffsetDateTime>,
) -> Result<Removal> {
    let unit = database.begin().await?;
    unit.lock(&lock_name(tenant, &blob.sha256)).await?;
    let done = if unit.blobs().find(tenant, &blob.sha256).await?.is_some() {
        Removal::Needed
    } else {
        match while_locked(target.modified(tenant, blob)).await? {
            None => Removal::Absent,
            Some(at) if before.is_some_and(|before| at >= before) => Removal::Young,
            Some(_) => {
                while_locked(target.delete(tenant, blob)).await?;
                Removal::Removed
            }
        }
    };
    unit.commit().await?;
    Ok(done)
}
