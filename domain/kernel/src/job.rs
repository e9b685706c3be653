//! Work that is done later, by whichever worker is free: written with the change that causes it, in one transaction.

use crate::{JobId, TenantId};
use std::{fmt, str::FromStr};
use time::{Duration, OffsetDateTime};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for its time and for a worker.
    Queued,
    /// A worker holds a lease on it.
    Running,
    /// It succeeded.
    Done,
    /// It failed for good; it can be replayed by hand.
    Dead,
    /// Somebody called it off.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Dead, Self::Cancelled];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or(())
    }
}

/// A job.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// Identifier, a version 7 UUID.
    pub id: JobId,
    /// Whose it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// What kind of work; names the handler, and is the queue's name.
    pub kind: String,
    /// What the handler needs to know. No secrets: administrators see it.
    pub payload: serde_json::Value,
    /// While a job with this key is queued or running, no second one is made.
    pub unique_key: Option<String>,
    /// Higher goes first.
    pub priority: i16,
    /// Where it stands.
    pub state: JobState,
    /// How often a worker began it.
    pub attempts: u32,
    /// How often a worker may begin it.
    pub max_attempts: u32,
    /// Not before this.
    pub run_at: OffsetDateTime,
    /// Until when the worker that runs it holds it; from then on another may.
    pub lease_until: Option<OffsetDateTime>,
    /// The worker that runs or last ran it.
    pub worker: Option<String>,
    /// How far it is, in the handler's own words.
    pub progress: Option<serde_json::Value>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last change.
    pub updated_at: OffsetDateTime,
    /// When it reached a final state.
    pub finished_at: Option<OffsetDateTime>,
}

/// A job that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueJob {
    /// Which.
    pub id: JobId,
    /// Its kind.
    pub kind: String,
    /// When workers were last told of it.
    pub announced_at: Option<OffsetDateTime>,
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only this state.
    pub state: Option<JobState>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this tenant's; none for everybody's.
    pub tenant: Option<TenantId>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It succeeded.
    Done,
    /// It failed and goes back into the queue until then.
    RetryAt(OffsetDateTime, String),
    /// It was not tried, and goes back into the queue until then; it counts as no attempt.
    Postponed(OffsetDateTime),
    /// It failed for good.
    Dead(String),
}

/// The end of an attempt, as its worker tells it.
#[derive(Debug, Clone, Copy)]
pub struct JobEnd<'a> {
    /// The job.
    pub job: JobId,
    /// When it ended.
    pub at: OffsetDateTime,
    /// How.
    pub end: &'a AttemptEnd,
    /// The last word on its progress, where there is one.
    pub progress: Option<&'a serde_json::Value>,
}

impl JobEnd<'_> {
    /// Whether the job was done, and there is nothing more to say of it.
    pub fn is_plain(&self) -> bool {
        *self.end == AttemptEnd::Done && self.progress.is_none()
    }
}

/// Ends and beginnings of a worker's attempts that are written together, the ends first: nobody gets anew what has just been done, and
/// what went back into the queue may be had at once.
#[derive(Debug, Clone, Copy)]
pub struct JobTurn<'a> {
    /// The worker.
    pub worker: &'a str,
    /// Attempts of its that ended.
    pub ends: &'a [JobEnd<'a>],
    /// Jobs that it would do next.
    pub wanted: &'a [JobId],
    /// Now.
    pub now: OffsetDateTime,
    /// Until when it holds those that it gets.
    pub lease: OffsetDateTime,
}

/// What came of them.
#[derive(Debug, Clone, Default)]
pub struct JobsTurned {
    /// Those whose end was written; the others are no longer this worker's.
    pub ended: Vec<JobId>,
    /// Those that it got, as they are now.
    pub claimed: Vec<JobRecord>,
}

/// How long a worker holds a job without a sign of life. Short enough that a killed worker's job is taken over within seconds.
pub const LEASE: Duration = Duration::seconds(6);
