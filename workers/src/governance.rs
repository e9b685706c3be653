//! What follows from decisions and evidence: effects that outlive the process that began them, reminders and escalation, another
//! look at what depends on evidence that changed.

use async_trait::async_trait;
use omt_compliance::{Compliance, LOOK, RECHECK, REMEASURE, RecheckOrder};
use omt_jobs::{Handler, JobError, Progress, Schedule};
use omt_kernel::{Error, TenantId, job::JobRecord};
use omt_policy::{DRY_RUN, DryRunOrder, Policies};
use omt_workflow::{EFFECTS, EffectsOrder, Workflows};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use time::Duration;

/// What a job is to do, and for whom.
pub(crate) fn order<T: DeserializeOwned>(job: &JobRecord) -> Result<(TenantId, T), JobError> {
    match (serde_json::from_value(job.payload.clone()), &job.tenant) {
        (Ok(order), Some(tenant)) => Ok((tenant.clone(), order)),
        _ => Err(JobError::Fatal(Error::internal("the job says nothing that can be done"))),
    }
}

/// Runs a use case whose future stays on its thread, as those do that HTTP handlers run. Cut off, it ends what it is at: everything
/// here may be done again.
pub(crate) async fn on_a_thread<T, W, F>(work: F) -> omt_kernel::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> W + Send + 'static,
    W: Future<Output = omt_kernel::Result<T>>,
{
    let handle = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || handle.block_on(work())).await;
    done.map_err(|e| Error::internal("a job's thread ended").caused_by(e))?
}

/// Finishes what a decision began, if the process that decided did not live to do it.
pub struct Effects(pub Arc<Workflows>);

#[async_trait]
impl Handler for Effects {
    fn kind(&self) -> &'static str {
        EFFECTS
    }

    async fn run(&self, job: &JobRecord, _: &Progress) -> Result<(), JobError> {
        let (tenant, order): (_, EffectsOrder) = order(job)?;
        let (workflows, whose) = (self.0.clone(), tenant.clone());
        match on_a_thread(move || async move { workflows.complete(&whose, order.workflow).await }).await {
            Ok(()) => Ok(()),
            // The last attempt: the workflow must not wait for ever for what does not come.
            Err(error) if job.attempts >= job.max_attempts => {
                let (workflows, reason) = (self.0.clone(), error.clone());
                on_a_thread(move || async move { workflows.abandon(&tenant, order.workflow, &reason).await }).await?;
                Err(JobError::Fatal(error))
            }
            Err(error) => Err(JobError::Retry(error)),
        }
    }
}

/// Every minute: reminds of tasks that are nearly due, escalates those that are.
pub struct Timers {
    /// Workflows.
    pub workflows: Arc<Workflows>,
    /// How often.
    pub every: Duration,
}

#[derive(Serialize)]
struct Rung {
    tasks: u64,
}

#[async_trait]
impl Handler for Timers {
    fn kind(&self) -> &'static str {
        "workflow_timers"
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let workflows = self.workflows.clone();
        progress.set(&Rung { tasks: on_a_thread(move || async move { workflows.ring_all().await }).await? });
        Ok(())
    }
}

/// Looks again at manifests whose evidence changed. Orders about policies and content that an earlier version made are done, too.
pub struct Recheck(pub Arc<Compliance>);

/// Looks again at manifests whose policy or content changed.
pub struct Remeasure(pub Arc<Compliance>);

async fn look_again(compliance: &Arc<Compliance>, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
    let (tenant, order): (_, RecheckOrder) = order(job)?;
    let compliance = compliance.clone();
    let (looked, failed) = on_a_thread(move || async move { compliance.recheck(&tenant, &order).await }).await?;
    progress.set(&looked);
    // All others were looked at; those that could not be are tried again.
    failed.map_or(Ok(()), |error| Err(JobError::Retry(error)))
}

#[async_trait]
impl Handler for Recheck {
    fn kind(&self) -> &'static str {
        RECHECK
    }

    fn timeout(&self) -> Duration {
        Duration::hours(2)
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        look_again(&self.0, job, progress).await
    }
}

#[async_trait]
impl Handler for Remeasure {
    fn kind(&self) -> &'static str {
        REMEASURE
    }

    fn timeout(&self) -> Duration {
        Duration::hours(2)
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        look_again(&self.0, job, progress).await
    }
}

/// Looks for consents, clearances, rights, licences and overrides that have begun or ended since, and again at what depends on
/// them.
pub struct Look {
    /// Compliance.
    pub compliance: Arc<Compliance>,
    /// How often.
    pub every: Duration,
}

#[async_trait]
impl Handler for Look {
    fn kind(&self) -> &'static str {
        LOOK
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: self.every, offset: Duration::ZERO })
    }

    fn timeout(&self) -> Duration {
        Duration::hours(2)
    }

    async fn run(&self, _: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let compliance = self.compliance.clone();
        progress.set(&on_a_thread(move || async move { compliance.look().await }).await?);
        Ok(())
    }
}

/// Tries a policy on everything that is stored.
pub struct DryRuns(pub Arc<Policies>);

#[async_trait]
impl Handler for DryRuns {
    fn kind(&self) -> &'static str {
        DRY_RUN
    }

    fn timeout(&self) -> Duration {
        Duration::hours(6)
    }

    async fn run(&self, job: &JobRecord, progress: &Progress) -> Result<(), JobError> {
        let (tenant, order): (_, DryRunOrder) = order(job)?;
        let (policies, progress) = (self.0.clone(), progress.clone());
        Ok(on_a_thread(move || async move { policies.run_dry(&tenant, &order, &progress).await }).await?)
    }
}
