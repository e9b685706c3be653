//! Keeps a copy of every stored blob at another place.

use crate::removal::{carry_out, late, remove_copy};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Error, Result, TenantId,
    job::JobRecord,
    manifest::BlobRef,
    port::{BlobStock, Clock, Database, TieredStore},
    storage::{ARCHIVED, Place, Unreplicated, lock_name, while_locked},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use time::Duration;

/// Blobs looked at in one query.
const PAGE: u32 = 200;
/// Blobs copied at once.
const AT_ONCE: usize = 4;
/// A run begins no page after this; the next run goes on.
const RUN: Duration = Duration::minutes(10);
/// A target that refuses so many in a row does not answer.
const GIVE_UP: u32 = 8;
/// Seconds until a target that did not answer is tried again.
const AGAIN: u32 = 10;
/// Marks of another target that are taken back in one transaction.
const FORGET: u32 = 5_000;

/// Copies every blob that records name and the target lacks, oldest first. A copy is read back, and counts once its SHA-256 is right;
/// only then the row says so. Cut off anywhere, the next run finds what is missing.
pub struct Replicate {
    /// The database.
    pub database: Arc<dyn Database>,
    /// Where blobs are.
    pub blobs: Arc<dyn TieredStore>,
    /// Where copies go.
    pub target: Arc<dyn BlobStock>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often.
    pub every: Duration,
    /// Where the last run was cut off, so that what fails for good at the beginning keeps nothing else from being copied.
    pub cursor: Mutex<Option<Unreplicated>>,
}

/// How far it is.
#[derive(Default, Serialize)]
struct Tally {
    copied: u64,
    bytes: u64,
    gone: u64,
    archived: u64,
    failed: u64,
    error: Option<String>,
}

/// What came of a blob.
enum Outcome {
    /// The target has it, and the row says so.
    Copied,
    /// No record names it any more.
    Gone,
    /// It cannot be read before somebody restores it.
    Archived,
    /// It cannot be read.
    Unread(Error),
    /// The target does not take it.
    Refused(Error),
}

impl Replicate {
    fn cursor(&self) -> MutexGuard<'_, Option<Unreplicated>> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_whole(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        let mut chunks = self.target.read(tenant, blob, 0..blob.size).await?;
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.try_next().await? {
            hash.update(&chunk);
        }
        Ok(hex::encode(hash.finalize()) == blob.sha256)
    }

    /// Whether the target has the right bytes. Wrong ones are removed.
    async fn has(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        if !self.target.exists(tenant, blob).await? {
            return Ok(false);
        }
        let whole = self.is_whole(tenant, blob).await?;
        if !whole {
            tracing::error!(%tenant, sha256 = blob.sha256, "a replica had other bytes than its name says");
            let unit = self.database.begin().await?;
            let doom = unit.blobs().doom(tenant, &blob.sha256, Place::Replica, late(self.clock.now())).await?;
            unit.commit().await?;
            carry_out(self.database.as_ref(), doom, self.target.delete(tenant, blob)).await?;
        }
        Ok(whole)
    }

    async fn copy(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Outcome> {
        match self.has(tenant, blob).await {
            Ok(true) => return self.mark(tenant, blob).await,
            Ok(false) => {}
            Err(error) => return Ok(Outcome::Refused(error)),
        }
        let content = match self.blobs.open(tenant, blob).await {
            Ok(content) => content,
            // It may have gone with its last record.
            Err(_) if self.database.read().await?.blobs().find(tenant, &blob.sha256).await?.is_none() => {
                return Ok(Outcome::Gone);
            }
            Err(error) if error.code == ARCHIVED => return Ok(Outcome::Archived),
            Err(error) => return Ok(Outcome::Unread(error)),
        };
        let put = async {
            self.target.put(tenant, blob, content).await?;
            self.has(tenant, blob).await
        };
        match put.await {
            Ok(true) => self.mark(tenant, blob).await,
            Ok(false) => Ok(Outcome::Refused(Error::internal("a replica came out with other bytes"))),
            Err(error) => Ok(Outcome::Refused(error)),
        }
    }

    /// Says in the row that the target has the blob. Under the lock of its existence, so that nobody removes the copy meanwhile.
    async fn mark(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Outcome> {
        let unit = self.database.begin().await?;
        unit.lock(&lock_name(tenant, &blob.sha256)).await?;
        if unit.blobs().find(tenant, &blob.sha256).await?.is_none() {
            drop(unit);
            // Its last record went while it was copied.
            let times = (None, self.clock.now());
            remove_copy(self.database.as_ref(), self.target.as_ref(), (tenant, blob), times).await?;
            return Ok(Outcome::Gone);
        }
        if !while_locked(self.target.exists(tenant, blob)).await? {
            return Ok(Outcome::Refused(Error::internal("a replica was removed while it was made")));
        }
        let copied = (self.target.describe(), self.clock.now());
        let marked = unit.blobs().set_replicated(tenant, &blob.sha256, Some((&copied.0, copied.1))).await?;
        unit.commit().await?;
        match marked {
            true => Ok(Outcome::Copied),
            false => Ok(Outcome::Refused(Error::internal("another process replicates to another target"))),
        }
    }

    /// What was copied to another target before is not at this one.
    async fn aim(&self) -> Result<()> {
        let unit = self.database.begin().await?;
        let since = unit.blobs().aim_replicas(&self.target.describe(), self.clock.now()).await?;
        unit.commit().await?;
        loop {
            let unit = self.database.begin().await?;
            let forgotten = unit.blobs().forget_replicas(since, FORGET).await?;
            unit.commit().await?;
            if forgotten == 0 {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Handler for Replicate {
    fn kind(&self) -> &'static str {
        "replicate"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(12)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        self.aim().await?;
        let until = self.clock.now() + RUN;
        let (mut tally, mut refused) = (Tally::default(), 0);
        let begun = self.cursor().take();
        let (mut after, mut round) = (begun.clone(), begun.is_none());
        loop {
            if self.clock.now() >= until || refused >= GIVE_UP {
                *self.cursor() = after;
                break;
            }
            let page = self.database.read().await?.blobs().unreplicated(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                if round {
                    break;
                }
                // What lies before the place where it began.
                (after, round) = (None, true);
                continue;
            };
            let over = round && begun.as_ref().is_some_and(|begun| last.created_at > begun.created_at);
            after = Some(last.clone());
            let mut done =
                stream::iter(page).map(|it| async move { (self.copy(&it.tenant, &it.blob).await, it) }).buffer_unordered(AT_ONCE);
            while let Some((outcome, it)) = done.next().await {
                let error = match outcome? {
                    Outcome::Copied => {
                        tally.copied += 1;
                        tally.bytes += it.blob.size;
                        refused = 0;
                        progress.set(&tally);
                        continue;
                    }
                    Outcome::Gone => {
                        tally.gone += 1;
                        continue;
                    }
                    // The next period looks again; the lag tells until then.
                    Outcome::Archived => {
                        tally.archived += 1;
                        continue;
                    }
                    Outcome::Unread(error) => error,
                    Outcome::Refused(error) => {
                        refused += 1;
                        error
                    }
                };
                tracing::warn!(tenant = %it.tenant, sha256 = it.blob.sha256, %error, "a blob could not be replicated");
                tally.failed += 1;
                // The service's own words are for the log.
                tally.error = Some(format!("{}: {}", error.code, error.message));
                progress.set(&tally);
                if refused >= GIVE_UP {
                    break;
                }
            }
            if over {
                break;
            }
        }
        progress.set(&tally);
        // No attempts are counted: it goes on for as long as the target is away, and the lag tells.
        if tally.failed > 0 { Err(JobError::Later(AGAIN)) } else { Ok(()) }
    }
}
