//! Partitions of the tables that only grow.

use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{job::JobRecord, port::Database};
use std::sync::Arc;
use time::Duration;

/// Daily: makes the partitions of the next three months, and lets go of empty ones of months past. Every insert has a place meanwhile,
/// also where this never runs.
pub struct Partitions(pub Arc<dyn Database>);

#[async_trait]
impl Handler for Partitions {
    fn kind(&self) -> &'static str {
        "partitions"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: Duration::days(1), offset: Duration::hours(5) })
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        progress.set(&self.0.tend().await?);
        Ok(())
    }
}
