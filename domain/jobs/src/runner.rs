//! Running jobs: telling workers, doing, and keeping the row true while it is done.

use crate::{
    model::{Handler, JobError, NewJob, Progress},
    rules, service,
};
use omt_kernel::{
    Error, JobId, Kind, Result,
    job::{AttemptEnd, JobRecord, LEASE},
    port::{Clock, Database, Entropy, JobTransport, Telemetry},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration as StdDuration,
};
use time::Duration;

/// How often due jobs are looked for.
const LOOK: StdDuration = StdDuration::from_millis(40);
/// A ticket that brought no worker in this time is sent again.
const PATIENCE: Duration = Duration::seconds(5);
/// How many tickets go out in one look.
const BATCH: u32 = 200;
/// Attempts of a recurring job.
const RECURRING_ATTEMPTS: u32 = 5;

/// Runs the jobs of some kinds in this process.
pub struct Runner {
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    handlers: BTreeMap<&'static str, Arc<dyn Handler>>,
    telemetry: Arc<dyn Telemetry>,
    /// Names this process in rows; new at each start.
    worker: String,
    running: AtomicUsize,
    /// Slots known to be taken, to ask only once.
    slots: Mutex<BTreeMap<&'static str, i64>>,
}

impl Runner {
    /// A runner with these handlers. `worker` must be unique among all processes, over restarts too.
    pub fn new(
        database: Arc<dyn Database>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        handlers: Vec<Arc<dyn Handler>>,
        telemetry: Arc<dyn Telemetry>,
        worker: String,
    ) -> Self {
        let handlers = handlers.into_iter().map(|handler| (handler.kind(), handler)).collect();
        Self { database, clock, entropy, handlers, telemetry, worker, running: AtomicUsize::new(0), slots: Mutex::default() }
    }

    /// The kinds it does.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.handlers.keys().copied().collect()
    }

    /// How many jobs it does now.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Looks for due jobs and tells workers of them, for ever. Any number of processes may do so at once. Faults of the
    /// database or the transport are logged and tried again.
    pub async fn announce(&self, transport: &dyn JobTransport) {
        loop {
            match self.look(transport).await {
                // More than fits may be due.
                Ok(found) if found >= BATCH as usize => {}
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::warn!(%error, "due jobs cannot be announced");
                    tokio::time::sleep(StdDuration::from_secs(2)).await;
                }
            }
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<&'static str, i64>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn look(&self, transport: &dyn JobTransport) -> Result<usize> {
        self.make_recurring().await?;
        let now = self.clock.now();
        let due = self.database.read().await?.jobs().due(now, now - PATIENCE, BATCH).await?;
        let mine: Vec<JobId> = due.iter().map(|(id, _)| *id).collect();
        if mine.is_empty() {
            return Ok(0);
        }
        transport.announce(&due).await?;
        let unit = self.database.begin().await?;
        unit.jobs().announced(&mine, now).await?;
        unit.commit().await?;
        Ok(mine.len())
    }

    /// Makes the recurring jobs whose time has come; each slot is taken once over all replicas, in the transaction that makes
    /// the job.
    async fn make_recurring(&self) -> Result<()> {
        let now = self.clock.now();
        for handler in self.handlers.values() {
            let Some(schedule) = handler.schedule() else { continue };
            let (kind, slot) = (handler.kind(), schedule.slot(now));
            if self.slots().get(kind) == Some(&slot) {
                continue;
            }
            let unit = self.database.begin().await?;
            if unit.jobs().take_slot(kind, slot, now).await? {
                let new = NewJob {
                    tenant: None,
                    kind,
                    payload: json!({ "slot": slot }),
                    unique_key: Some(format!("recurring:{kind}")),
                    priority: 0,
                    run_at: now,
                    max_attempts: RECURRING_ATTEMPTS,
                };
                unit.jobs().enqueue(&service::record(&new, JobId(self.entropy.uuid_v7(now)), now)).await?;
            }
            unit.commit().await?;
            self.slots().insert(kind, slot);
        }
        Ok(())
    }

    /// Does the job of a ticket, if it is due, nobody else has it, and its kind is known here.
    pub async fn run(&self, id: JobId, kind: &str) -> Result<()> {
        let Some(handler) = self.handlers.get(kind).cloned() else { return Ok(()) };
        let now = self.clock.now();
        let unit = self.database.begin().await?;
        let claimed = unit.jobs().claim(id, &self.worker, now, now + LEASE).await?;
        unit.commit().await?;
        let Some(job) = claimed else { return Ok(()) };
        if job.kind != kind {
            return Err(Error::internal("a ticket has another kind than its job"));
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        let ended = self.attempt(handler, &job).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        let Some(end) = ended else {
            tracing::info!(job = %id, kind = job.kind, "a job was cancelled or taken over while it ran");
            return Ok(());
        };
        let unit = self.database.begin().await?;
        let kept = unit.jobs().end(id, &self.worker, &end, self.clock.now()).await?;
        unit.commit().await?;
        if !kept {
            tracing::warn!(job = %id, kind = job.kind, "a job ended after another worker took it over");
        }
        Ok(())
    }

    /// One attempt; none when the job was taken away meanwhile.
    async fn attempt(&self, handler: Arc<dyn Handler>, job: &JobRecord) -> Option<AttemptEnd> {
        let (begun, began) = (std::time::Instant::now(), self.clock.now());
        let progress = Progress::default();
        let limit = StdDuration::try_from(handler.timeout()).unwrap_or(StdDuration::MAX);
        // A task of its own, so that a panic is an error here and not the end of the worker.
        let mut task = {
            let (job, progress) = (job.clone(), progress.clone());
            tokio::spawn(async move { tokio::time::timeout(limit, handler.run(&job, &progress)).await })
        };
        let mut pulse = tokio::time::interval(StdDuration::try_from(LEASE / 3).unwrap_or(StdDuration::from_secs(2)));
        pulse.tick().await;
        let result = loop {
            tokio::select! {
                done = &mut task => break match done {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) => Err(JobError::Retry(Error::new(Kind::Unavailable, "TIMEOUT", "the attempt took too long"))),
                    Err(_) => Err(JobError::Retry(Error::internal("the attempt ended in a defect"))),
                },
                _ = pulse.tick() => if !self.renew(job, &progress).await {
                    task.abort();
                    self.telemetry.attempt(&job.kind, "lost", begun.elapsed(), waited(job, began));
                    return None;
                },
            }
        };
        if let Err(JobError::Retry(error) | JobError::Fatal(error)) = &result {
            tracing::warn!(job = %job.id, kind = job.kind, attempt = job.attempts, %error, "an attempt failed");
        }
        let chance = self.entropy.secret()[0];
        let end = rules::end(result, job.attempts, job.max_attempts, self.clock.now(), chance);
        let outcome = match &end {
            AttemptEnd::Done => "done",
            AttemptEnd::RetryAt(..) => "retry",
            AttemptEnd::Dead(_) => "dead",
        };
        self.telemetry.attempt(&job.kind, outcome, begun.elapsed(), waited(job, began));
        // The last word on progress, however short the job was.
        if progress.get().is_some() && !self.renew(job, &progress).await {
            return None;
        }
        Some(end)
    }

    /// A sign of life. A database that does not answer is no reason to stop: the lease decides.
    async fn renew(&self, job: &JobRecord, progress: &Progress) -> bool {
        let lease = self.clock.now() + LEASE;
        let done = async {
            let unit = self.database.begin().await?;
            let held = unit.jobs().renew(job.id, &self.worker, lease, progress.get().as_ref()).await?;
            unit.commit().await?;
            Ok::<_, Error>(held)
        };
        done.await.unwrap_or_else(|error| {
            tracing::warn!(job = %job.id, %error, "a sign of life could not be written");
            true
        })
    }
}

fn waited(job: &JobRecord, began: omt_kernel::OffsetDateTime) -> StdDuration {
    StdDuration::try_from(began - job.run_at).unwrap_or_default()
}
