//! Moves idle blobs to cheaper storage.

use crate::{
    locking::{lock_as_needed, remove_moved},
    removal::{carry_out, late, remove_unneeded},
};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId, TenantSettings,
    job::JobRecord,
    manifest::ManifestState,
    port::{Clock, Database, TieredStore},
    storage::{BLOB_DAMAGED, Place, StoredBlob, Tier, lock_name},
};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc};
use time::Duration;

/// Blobs looked at in one query.
const PAGE: u32 = 200;
/// Blobs moved at once.
const AT_ONCE: usize = 4;

/// Moves each blob to the tier that its tenant's rules give it. A move copies, reads the copy back and compares its SHA-256,
/// locks it where the store does that, switches the record in a transaction, and only then removes the original; cut off
/// anywhere, the blob is whole in at least one tier, and doing it again ends it.
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

/// How far it is.
#[derive(Default, Serialize)]
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
        let tiers = uses.iter().map(|u| {
            let idle = settings.tiers_for(u.classification).tier(blob.last_used_at, archived, now);
            let locked = (u.held || u.retain_until.is_some()) && self.blobs.locks_in(blob.tier);
            // Never into a tier that must not hold it, nor out of the store that keeps it; and evidence is read at once for ever.
            let open = Tier::ALL.into_iter().filter(|tier| {
                *tier <= idle
                    && settings.may_hold(*tier, u.classification)
                    && !(u.evidence && self.blobs.archives(*tier))
                    && (!locked || self.blobs.locks_in(*tier))
            });
            open.max().unwrap_or(Tier::Hot)
        });
        Ok(tiers.min().unwrap_or(Tier::Hot))
    }

    async fn move_blob(&self, blob: &StoredBlob, to: Tier) -> Result<()> {
        let (database, blobs) = (self.database.as_ref(), self.blobs.as_ref());
        let (name, now) = ((&blob.tenant, &blob.blob), self.clock.now());
        let copied = blobs.copy(&blob.tenant, &blob.blob, blob.tier, to).await;
        let damaged = |result: &Result<()>| result.as_ref().is_err_and(|error| error.code == BLOB_DAMAGED);
        // It may be the original that is damaged, and the copy the only good one.
        if damaged(&copied) && damaged(&blobs.verify(&blob.tenant, &blob.blob, to).await) {
            // However young; but not where another worker's copy turned out well and the record names it by now.
            remove_unneeded(database, blobs, name, to, (now + Duration::days(1), now)).await?;
        }
        copied?;
        if blobs.locks_in(to) {
            // After the copy is there: a hold that comes now finds it, and one that came before is seen here.
            lock_as_needed(database, blobs, name, &[to], now).await?;
        }
        let (sha256, from) = (&blob.blob.sha256, blob.tier);
        // The store locks the original, or it is asked for again before the copy can be read: who decides about it is in a transaction.
        let plain = !blobs.locks_in(from) && !blobs.archives(to);
        let unit = self.database.begin().await?;
        // Whoever removes a copy there, which no record named until now, decides so under this lock.
        unit.lock(&lock_name(&blob.tenant, sha256)).await?;
        if !unit.blobs().set_tier(&blob.tenant, sha256, from, to).await? {
            return Ok(());
        }
        let doom = match plain {
            true => Some(unit.blobs().doom(&blob.tenant, sha256, Place::Tier(from), late(now)).await?),
            false => None,
        };
        unit.commit().await?;
        // Somebody may have removed it after it was read back and before the record named it; nobody does any more.
        if blobs.modified(&blob.tenant, &blob.blob, to).await?.is_none() {
            let unit = self.database.begin().await?;
            if let Some(doom) = doom {
                unit.blobs().spare(doom).await?;
            }
            unit.blobs().set_tier(&blob.tenant, sha256, to, from).await?;
            unit.commit().await?;
            let words = "the copy was removed while it was made";
            return Err(Error::new(Kind::Unavailable, "BLOB_MOVED_AWAY", words).retry_after(1));
        }
        match doom {
            Some(doom) => carry_out(database, doom, blobs.remove(&blob.tenant, &blob.blob, from)).await,
            None => remove_moved(database, blobs, blob, to, now).await,
        }
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
                }
                progress.set(&tally);
            }
        }
        progress.set(&tally);
        // What failed is where it was, and is tried again.
        last_error.map_or(Ok(()), |error| Err(error.into()))
    }
}
