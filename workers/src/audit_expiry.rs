//! Lets entries of the audit log go when its retention has ended.

use async_trait::async_trait;
use omt_audit::Expiry;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::job::JobRecord;
use time::Duration;

/// Looks for entries that have expired. Nothing happens while they are kept for ever.
pub struct AuditExpiry {
    /// What does it.
    pub expiry: Expiry,
    /// How often.
    pub every: Duration,
}

#[async_trait]
impl Handler for AuditExpiry {
    fn kind(&self) -> &'static str {
        "audit_expiry"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::minutes(11) })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(2)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        progress.set(&self.expiry.look().await?);
        Ok(())
    }
}
