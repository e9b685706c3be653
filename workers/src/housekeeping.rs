//! Forgets what has served its time.

use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    job::JobRecord,
    port::{Clock, Database},
};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// How long finished jobs stay visible.
const JOBS: Duration = Duration::days(7);
/// How long an `Idempotency-Key` replays its answer.
const ANSWERS: Duration = Duration::days(2);

/// How long failed logins count: longer than a name is ever closed.
const ATTEMPTS: Duration = Duration::days(2);

/// Hourly: jobs that ended a week ago, answers to requests of two days ago, sessions and refresh tokens that have ended, failed
/// logins.
pub struct Housekeeping {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// What was forgotten.
#[derive(Serialize)]
struct Tally {
    jobs: u64,
    answers: u64,
    sessions: u64,
    attempts: u64,
}

#[async_trait]
impl Handler for Housekeeping {
    fn kind(&self) -> &'static str {
        "housekeeping"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: Duration::hours(1), offset: Duration::minutes(7) })
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let now = self.clock.now();
        let unit = self.database.begin().await?;
        let tally = Tally {
            jobs: unit.jobs().forget(now - JOBS).await?,
            answers: unit.idempotency().forget(now - ANSWERS).await?,
            sessions: unit.sessions().forget(now).await?,
            attempts: unit.users().forget_attempts(now - ATTEMPTS).await?,
        };
        unit.commit().await?;
        progress.set(&tally);
        Ok(())
    }
}
