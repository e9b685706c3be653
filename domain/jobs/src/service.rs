//! Making jobs, and what administrators do with them.

use crate::{
    cron::Timing,
    model::{ARCHIVE, ArchiveOrder, Made, NewJob},
};
use omt_audit::{AuditTrail, Event};
use omt_kernel::{
    Actor, Error, JobId, Kind, OffsetDateTime, Permission, Result,
    error::Context as _,
    job::{JobFilter, JobRecord, JobState},
    port::{Clock, Database, Entropy, Page, UnitOfWork},
    retry,
};
use std::{collections::BTreeMap, sync::Arc};

/// A kind of job that recurs by itself.
#[derive(Debug)]
pub struct Recurring {
    /// The kind.
    pub kind: &'static str,
    /// When it is due.
    pub timing: Timing,
    /// When it is due next.
    pub next: Option<OffsetDateTime>,
    /// The last one that was made, while it is remembered.
    pub last: Option<JobRecord>,
}

/// The use cases.
pub struct Jobs {
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    audit: Arc<AuditTrail>,
}

impl Jobs {
    /// The room, over its ports.
    pub fn new(database: Arc<dyn Database>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, audit: Arc<AuditTrail>) -> Self {
        Self { database, clock, entropy, audit }
    }

    /// Makes a job in the caller's transaction.
    pub async fn enqueue(&self, unit: &dyn UnitOfWork, new: NewJob) -> Made {
        enqueue(unit, self.clock.as_ref(), self.entropy.as_ref(), new).await
    }

    /// Makes jobs in the caller's transaction, all at once; those that were made, in no order. The others' unique keys live already.
    pub async fn enqueue_all(&self, unit: &dyn UnitOfWork, new: &[NewJob]) -> Result<Vec<JobId>> {
        enqueue_all(unit, self.clock.as_ref(), self.entropy.as_ref(), new).await
    }

    /// Jobs that the actor may see, newest first: their own tenant's; everybody's and the platform's for those who run it.
    pub async fn list(&self, actor: &Actor, mut filter: JobFilter, page: Page) -> Result<Vec<JobRecord>> {
        actor.require(Permission::AdminJobRead)?;
        if !actor.runs_platform() {
            filter.tenant = Some(actor.tenant.clone());
        }
        self.database.replica().await?.jobs().list(&filter, page).await
    }

    /// One job.
    pub async fn get(&self, actor: &Actor, id: JobId) -> Result<JobRecord> {
        actor.require(Permission::AdminJobRead)?;
        let found = self.database.read().await?.jobs().get(id).await?;
        found.filter(|job| sees(actor, job)).ok_or_else(|| Error::not_found("job"))
    }

    /// The platform's recurring jobs, by kind: for those who run it, and nothing for others.
    pub async fn recurring(&self, actor: &Actor, timings: &BTreeMap<&'static str, Timing>) -> Result<Vec<Recurring>> {
        actor.require(Permission::AdminJobRead)?;
        if !actor.runs_platform() {
            return Ok(Vec::new());
        }
        let (now, view) = (self.clock.now(), self.database.replica().await?);
        let mut out = Vec::new();
        for (kind, timing) in timings {
            let filter = JobFilter { kind: Some((*kind).to_owned()), ..JobFilter::default() };
            let last = view.jobs().list(&filter, Page { after: None, limit: 1 }).await?.pop();
            out.push(Recurring { kind, timing: timing.clone(), next: timing.next(now), last });
        }
        Ok(out)
    }

    /// Has a tenant's old manifests archived; the job that does it. Only one at a time.
    pub async fn archive(&self, actor: &Actor, order: ArchiveOrder) -> Result<JobId> {
        actor.require(Permission::AdminSystem)?;
        let new = NewJob {
            tenant: Some(actor.tenant.clone()),
            kind: ARCHIVE,
            payload: serde_json::to_value(&order).context("an order cannot be written")?,
            unique_key: Some(format!("{ARCHIVE}:{}", actor.tenant)),
            priority: 0,
            run_at: self.clock.now(),
            max_attempts: 5,
        };
        retry::transaction(self.entropy.as_ref(), async || {
            let unit = self.database.begin().await?;
            let made = self.enqueue(unit.as_ref(), new.clone()).await?;
            let words = "an archive job of the tenant is queued or running";
            let id = made.ok_or_else(|| Error::new(Kind::Conflict, "JOB_EXISTS", words))?;
            self.audit.append(unit.as_ref(), actor, Event::new("system.archive", "job", id).after(&order)).await?;
            unit.commit().await?;
            Ok(id)
        })
        .await
    }

    /// Calls a job off. One that runs is stopped at its worker's next sign of life.
    pub async fn cancel(&self, actor: &Actor, id: JobId) -> Result<JobRecord> {
        actor.require(Permission::AdminJobs)?;
        let job = self.get(actor, id).await?;
        retry::transaction(self.entropy.as_ref(), async || {
            let unit = self.database.begin().await?;
            if !unit.jobs().cancel(id, self.clock.now()).await? {
                return Err(wrong_state(&job, "queued or running"));
            }
            self.audit.append(unit.as_ref(), actor, Event::new("job.cancel", "job", id)).await?;
            unit.commit().await
        })
        .await?;
        self.get(actor, id).await
    }

    /// Queues a dead or cancelled job again.
    pub async fn replay(&self, actor: &Actor, id: JobId) -> Result<JobRecord> {
        actor.require(Permission::AdminJobs)?;
        let job = self.get(actor, id).await?;
        retry::transaction(self.entropy.as_ref(), async || {
            let unit = self.database.begin().await?;
            if !unit.jobs().replay(id, self.clock.now()).await? {
                if matches!(job.state, JobState::Dead | JobState::Cancelled) {
                    return Err(Error::new(Kind::Conflict, "JOB_EXISTS", "a job with the same purpose is queued or running"));
                }
                return Err(wrong_state(&job, "dead or cancelled"));
            }
            self.audit.append(unit.as_ref(), actor, Event::new("job.replay", "job", id)).await?;
            unit.commit().await
        })
        .await?;
        self.get(actor, id).await
    }
}

fn wrong_state(job: &JobRecord, wanted: &str) -> Error {
    Error::new(Kind::Conflict, "WRONG_JOB_STATE", format!("the job is {}; it would have to be {wanted}", job.state))
}

fn sees(actor: &Actor, job: &JobRecord) -> bool {
    job.tenant.as_ref() == Some(&actor.tenant) || actor.runs_platform()
}

/// Makes a job in the caller's transaction.
pub async fn enqueue(unit: &dyn UnitOfWork, clock: &dyn Clock, entropy: &dyn Entropy, new: NewJob) -> Made {
    Ok(enqueue_all(unit, clock, entropy, &[new]).await?.pop())
}

/// Makes jobs in the caller's transaction, all at once; those that were made, in no order. The others' unique keys live already.
pub async fn enqueue_all(unit: &dyn UnitOfWork, clock: &dyn Clock, entropy: &dyn Entropy, new: &[NewJob]) -> Result<Vec<JobId>> {
    let now = clock.now();
    let mut jobs: Vec<_> = new.iter().map(|new| record(new, JobId(entropy.uuid_v7(now)), now)).collect();
    // In one order: two transactions with the same keys never wait for each other in a circle.
    jobs.sort_by(|one, other| one.unique_key.cmp(&other.unique_key));
    unit.jobs().enqueue_all(&jobs).await
}

/// The row of a new job.
pub(crate) fn record(new: &NewJob, id: JobId, now: omt_kernel::OffsetDateTime) -> JobRecord {
    JobRecord {
        id,
        tenant: new.tenant.clone(),
        kind: new.kind.to_owned(),
        payload: new.payload.clone(),
        unique_key: new.unique_key.clone(),
        priority: new.priority,
        state: JobState::Queued,
        attempts: 0,
        max_attempts: new.max_attempts.max(1),
        run_at: new.run_at,
        lease_until: None,
        worker: None,
        progress: None,
        error: None,
        created_at: now,
        updated_at: now,
        finished_at: None,
    }
}
