//! What leaves the platform: webhooks' deliveries and mail; and forgetting what was told long ago.

use crate::governance::{on_a_thread, order};
use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{
    Kind,
    job::JobRecord,
    port::{Clock, Database},
};
use omt_notify::{DELIVERY, DeliveryOrder, LETTER, Letter, MAILING, Mailing, Post, Webhooks, webhook::Tried};
use serde::Serialize;
use std::sync::Arc;
use time::Duration;

/// Makes webhooks' deliveries.
pub struct Deliveries(pub Arc<Webhooks>);

#[async_trait]
impl Handler for Deliveries {
    fn kind(&self) -> &'static str {
        DELIVERY
    }

    fn is_outward(&self) -> bool {
        true
    }

    fn timeout(&self) -> Duration {
        Duration::minutes(1)
    }

    async fn run(&self, job: &JobRecord, _: &Progress) -> Result<(), JobError> {
        let (tenant, order): (_, DeliveryOrder) = order(job)?;
        let (webhooks, attempt, most) = (self.0.clone(), job.attempts, job.max_attempts);
        let tried = on_a_thread(move || async move { webhooks.deliver(&tenant, order.delivery, attempt, most).await }).await?;
        match tried {
            Tried::Over => Ok(()),
            Tried::Again(error) => Err(JobError::Retry(error)),
            Tried::Later(seconds) => Err(JobError::Later(seconds)),
        }
    }
}

/// Finds out who gets a message by mail.
pub struct Mailings(pub Arc<Post>);

#[derive(Serialize)]
struct Addressed {
    people: u64,
}

#[async_trait]
impl Handler for Mailings {
    fn kind(&self) -> &'static str {
        MAILING
    }

    fn is_outward(&self) -> bool {
        true
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let (tenant, mailing): (_, Mailing) = order(job)?;
        progress.set(&Addressed { people: self.0.address(&tenant, &mailing).await? });
        Ok(())
    }
}

/// Sends a mail.
pub struct Letters(pub Arc<Post>);

#[async_trait]
impl Handler for Letters {
    fn kind(&self) -> &'static str {
        LETTER
    }

    fn is_outward(&self) -> bool {
        true
    }

    fn timeout(&self) -> Duration {
        Duration::minutes(2)
    }

    async fn run(&self, job: &JobRecord, _: &Progress) -> Result<(), JobError> {
        let (tenant, letter): (_, Letter) = order(job)?;
        match self.0.send(&tenant, &letter).await {
            Ok(()) => Ok(()),
            // No attempt will do; an administrator sees why.
            Err(error) if error.kind == Kind::Unprocessable => Err(JobError::Fatal(error)),
            Err(error) => Err(JobError::Retry(error)),
        }
    }
}

/// Daily: forgets messages of half a year ago, and webhooks' deliveries of long ago.
pub struct OldMessages {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How long deliveries are kept.
    pub keep_deliveries: Duration,
}

#[async_trait]
impl Handler for OldMessages {
    fn kind(&self) -> &'static str {
        "old_messages"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: Duration::days(1), offset: Duration::hours(4) })
    }

    async fn run(&self, _: &JobRecord, _: &Progress) -> Result<(), JobError> {
        loop {
            let (unit, now) = (self.database.begin().await?, self.clock.now());
            let messages = unit.notifications().forget(now - Duration::days(180)).await?;
            let deliveries = unit.webhooks().forget_deliveries(now - self.keep_deliveries).await?;
            unit.commit().await?;
            if messages + deliveries == 0 {
                return Ok(());
            }
        }
    }
}
