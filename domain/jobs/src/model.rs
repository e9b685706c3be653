//! Jobs to be made, and those who do them.

use async_trait::async_trait;
use omt_kernel::{Error, JobId, OffsetDateTime, Result, TenantId, job::JobRecord, manifest::BlobRef};
use serde::Serialize;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use time::Duration;

/// A job to be made.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Whose it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// Names the handler.
    pub kind: &'static str,
    /// What the handler needs to know; no secrets.
    pub payload: Value,
    /// While a job with this key is queued or running, no second one is made.
    pub unique_key: Option<String>,
    /// Higher goes first; 0 is usual.
    pub priority: i16,
    /// Not before this.
    pub run_at: OffsetDateTime,
    /// How often a worker may begin it.
    pub max_attempts: u32,
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum JobError {
    /// Another attempt may succeed.
    Retry(Error),
    /// None ever will.
    Fatal(Error),
    /// It was not tried: there is no room for it now. Again after so many seconds, without counting.
    Later(u32),
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        Self::Retry(error)
    }
}

/// Where a handler says how far it is. The worker writes it down with its signs of life.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Option<Value>>>);

impl Progress {
    /// Replaces what was said before.
    pub fn set(&self, progress: &impl Serialize) {
        // What cannot be written as JSON is not worth failing a job for.
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = serde_json::to_value(progress).ok();
    }

    /// What was said last.
    pub fn get(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// Does one kind of job. It runs at least once, so doing it again must change nothing.
#[async_trait]
pub trait Handler: Send + Sync {
    /// The kind.
    fn kind(&self) -> &'static str;
    /// After this the attempt has failed.
    fn timeout(&self) -> Duration {
        Duration::minutes(10)
    }
    /// Whether it waits for other hosts: such jobs have room of their own, so that slow hosts hold up nothing else.
    fn is_outward(&self) -> bool {
        false
    }
    /// Whether it recurs by itself.
    fn schedule(&self) -> Option<Schedule> {
        None
    }
    /// Does it. Dropped at its next await when the job was cancelled, its time is up or its worker lost it.
    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError>;
}

/// When a recurring job is due: once for every whole multiple of `every` since 1970, shifted by `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The period.
    pub every: Duration,
    /// How long after the period's beginning, such as three hours for 03:00 UTC of a day.
    pub offset: Duration,
}

impl Schedule {
    /// The number of the period that `now` lies in.
    pub fn slot(&self, now: OffsetDateTime) -> i64 {
        let every = self.every.whole_seconds().max(1);
        (now.unix_timestamp() - self.offset.whole_seconds()).div_euclid(every)
    }

    /// When a period begins.
    pub fn begin(&self, slot: i64) -> Option<OffsetDateTime> {
        let every = self.every.whole_seconds().max(1);
        let at = slot.checked_mul(every)?.checked_add(self.offset.whole_seconds())?;
        OffsetDateTime::from_unix_timestamp(at).ok()
    }
}

/// The identifier of a job that was made, or none where one with its key lives.
pub type Made = Result<Option<JobId>>;

/// The kind of jobs that archive what is old.
pub const ARCHIVE: &str = "archive";

/// What such a job archives: signed manifests made before a time, of one department, project and classification where they are
/// named.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ArchiveOrder {
    /// Made before, seconds since 1970.
    pub created_before: i64,
    /// Department.
    pub department: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Classification.
    pub classification: Option<omt_kernel::manifest::Classification>,
}

/// The kind of jobs that have archived content restored.
pub const RESTORE: &str = "restore";

/// The kind of jobs that lock blobs in their stores.
pub const OBJECT_LOCK: &str = "object_lock";

/// What such a job has restored: a blob of the job's tenant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RestoreOrder {
    /// The blob.
    pub blob: BlobRef,
}

impl RestoreOrder {
    /// While a job with this key lives, the blob is being restored.
    pub fn key(&self, tenant: &TenantId) -> String {
        format!("{RESTORE}:{tenant}:{}", self.blob.sha256)
    }
}

/// What such a job looks at: blobs of the job's tenant that a manifest needs, or needed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockOrder {
    /// The blobs.
    pub blobs: Vec<BlobRef>,
}
