//! Running jobs: telling workers, doing, and keeping the row true while it is done.

use crate::{
    cron::{Cron, Timing},
    ledger::Ledger,
    model::{Handler, JobError, NewJob, Progress},
    rules, service,
};
use omt_kernel::{
    Error, JobId, Kind, OffsetDateTime, Result,
    job::{AttemptEnd, DueJob, JobRecord, LEASE},
    port::{Clock, Database, Entropy, JobTransport, Telemetry},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration as StdDuration, Instant},
};
use time::Duration;
use tokio::task::JoinSet;

/// How often due jobs are looked for.
const LOOK: StdDuration = StdDuration::from_millis(40);
/// A ticket that brought no worker in this time is sent again.
const PATIENCE: Duration = Duration::seconds(5);
/// Attempts of a recurring job.
const RECURRING_ATTEMPTS: u32 = 5;

/// Runs the jobs of some kinds in this process.
pub struct Runner {
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    handlers: BTreeMap<&'static str, Arc<dyn Handler>>,
    timings: BTreeMap<&'static str, Timing>,
    telemetry: Arc<dyn Telemetry>,
    /// Names this process in rows; new at each start.
    worker: String,
    ledger: Ledger,
    /// Jobs whose attempts run here. One that was cancelled is not begun again before its attempt has noticed: rows tell processes
    /// apart, not attempts.
    running: Mutex<BTreeSet<JobId>>,
    /// How many attempts began since due jobs were last looked for: of jobs that wait for other hosts, and of the others.
    begun: [AtomicU32; 2],
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
        let handlers: BTreeMap<_, _> = handlers.into_iter().map(|handler| (handler.kind(), handler)).collect();
        let own = |handler: &Arc<dyn Handler>| Some((handler.kind(), Timing::Every(handler.schedule()?)));
        let timings = handlers.values().filter_map(own).collect();
        let ledger = Ledger::new(database.clone(), &worker);
        Self {
            database,
            clock,
            entropy,
            handlers,
            timings,
            telemetry,
            worker,
            ledger,
            running: Mutex::default(),
            begun: Default::default(),
            slots: Mutex::default(),
        }
    }

    /// The same with these cron expressions in place of the periods of the kinds that they name. Kinds that do not recur, or that
    /// this process does not do, are passed over.
    pub fn with_schedules(mut self, schedules: &BTreeMap<String, Cron>) -> Self {
        for (kind, timing) in &mut self.timings {
            if let Some(cron) = schedules.get(*kind) {
                *timing = Timing::Cron(Box::new(cron.clone()));
            }
        }
        self
    }

    /// The kinds it does.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.handlers.keys().copied().collect()
    }

    /// Those of them that wait for other hosts.
    pub fn outward(&self) -> Vec<&'static str> {
        self.handlers.values().filter(|handler| handler.is_outward()).map(|handler| handler.kind()).collect()
    }

    /// Looks for due jobs of its kinds and tells workers of them, for ever. Any number of processes may do so at once. Faults of
    /// the database or the transport are logged and tried again.
    pub async fn announce(&self, transport: &dyn JobTransport) {
        loop {
            let begun = Instant::now();
            let pause = match self.look(transport).await {
                // However long the backlog, most of the time is the jobs'.
                Ok(()) => LOOK.max(begun.elapsed() * 2),
                Err(error) => {
                    tracing::warn!(%error, "due jobs cannot be announced");
                    StdDuration::from_secs(2)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<&'static str, i64>> {
        self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn begun(&self, handler: &dyn Handler) -> &AtomicU32 {
        &self.begun[usize::from(!handler.is_outward())]
    }

    async fn look(&self, transport: &dyn JobTransport) -> Result<()> {
        self.make_recurring().await?;
        let now = self.clock.now();
        // Each by themselves, so that many of one do not keep the other from being seen.
        let (outward, inward): (Vec<_>, Vec<_>) = self.handlers.values().partition(|handler| handler.is_outward());
        let read = self.database.read().await?;
        let mut due = Vec::new();
        for lane in [inward, outward].into_iter().filter(|lane| !lane.is_empty()) {
            let ahead = rules::ahead(self.begun(lane[0].as_ref()).swap(0, Ordering::Relaxed));
            let kinds: Vec<&str> = lane.into_iter().map(|handler| handler.kind()).collect();
            due.extend(read.jobs().due(&kinds, now, ahead).await?);
        }
        drop(read);
        let mut told = Vec::new();
        for kind in self.kinds() {
            let silent = |job: &&DueJob| job.kind == kind && job.announced_at.is_none_or(|at| at < now - PATIENCE);
            let ids: Vec<JobId> = due.iter().filter(silent).map(|job| job.id).collect();
            if !ids.is_empty() {
                transport.announce(kind, &ids).await?;
                told.extend(ids);
            }
        }
        if !told.is_empty() {
            let unit = self.database.begin().await?;
            unit.jobs().announced(&told, now).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    /// Makes the recurring jobs whose time has come; each slot is taken once over all replicas, in the transaction that makes
    /// the job.
    async fn make_recurring(&self) -> Result<()> {
        let now = self.clock.now();
        for (kind, timing) in &self.timings {
            let Some(tick) = timing.last(now) else { continue };
            let (kind, slot) = (*kind, tick.slot);
            if self.slots().get(kind) == Some(&slot) {
                continue;
            }
            let unit = self.database.begin().await?;
            let due = timing.is_due(tick, unit.jobs().last_slot_taken_at(kind).await?);
            if unit.jobs().take_slot(kind, slot, now).await? && due {
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

    /// Does the job of a ticket, if it is due, nobody else has it, and its kind is known here; and writes what came of it.
    pub async fn run(self: &Arc<Self>, id: JobId, kind: &str) -> Result<()> {
        match self.begin(id, kind).await? {
            Some(ending) => ending.write().await,
            None => Ok(()),
        }
    }

    /// The same but for writing what came of it. Whoever has more to do begins the next while that is written, so that one transaction
    /// has the end of the one and the beginning of the other.
    pub async fn begin(self: &Arc<Self>, id: JobId, kind: &str) -> Result<Option<Ending>> {
        let Some(handler) = self.handlers.get(kind).cloned() else { return Ok(None) };
        let Some(running) = Running::begin(self.clone(), id) else { return Ok(None) };
        let Some(job) = self.ledger.claim(id, self.clock.now()).await? else { return Ok(None) };
        self.begun(handler.as_ref()).fetch_add(1, Ordering::Relaxed);
        let progress = Progress::default();
        let Some(end) = self.attempt(handler, &job, &progress).await else {
            tracing::info!(job = %id, kind = job.kind, "a job was cancelled or taken over while it ran");
            return Ok(None);
        };
        Ok(Some(Ending { running, at: self.clock.now(), end, progress: progress.get() }))
    }

    /// One attempt; none when the job was taken away meanwhile.
    async fn attempt(&self, handler: Arc<dyn Handler>, job: &JobRecord, progress: &Progress) -> Option<AttemptEnd> {
        let (begun, began) = (Instant::now(), self.clock.now());
        let limit = StdDuration::try_from(handler.timeout()).unwrap_or(StdDuration::MAX);
        // A task of its own, so that a panic is an error here and not the end of the worker; it ends with this attempt.
        let mut task = JoinSet::new();
        {
            let (job, progress) = (job.clone(), progress.clone());
            task.spawn(async move { tokio::time::timeout(limit, handler.run(&job, &progress)).await });
        }
        let mut pulse = tokio::time::interval(StdDuration::try_from(LEASE / 3).unwrap_or(StdDuration::from_secs(2)));
        pulse.tick().await;
        let result = loop {
            tokio::select! {
                done = task.join_next() => break match done {
                    Some(Ok(Ok(result))) => result,
                    Some(Ok(Err(_))) => Err(JobError::Retry(Error::new(Kind::Unavailable, "TIMEOUT", "the attempt took too long"))),
                    Some(Err(_)) | None => Err(JobError::Retry(Error::internal("the attempt ended in a defect"))),
                },
                _ = pulse.tick() => if !self.renew(job, progress).await {
                    task.abort_all();
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
            AttemptEnd::Postponed(_) => "postponed",
            AttemptEnd::Dead(_) => "dead",
        };
        self.telemetry.attempt(&job.kind, outcome, begun.elapsed(), waited(job, began));
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

/// What came of an attempt, to be written: until then the job is this worker's.
#[must_use]
pub struct Ending {
    running: Running,
    at: OffsetDateTime,
    end: AttemptEnd,
    progress: Option<Value>,
}

impl Ending {
    /// Writes it.
    pub async fn write(self) -> Result<()> {
        let Self { running: Running { ref runner, job }, at, end, progress } = self;
        if !runner.ledger.end(job, at, end, progress).await? {
            tracing::warn!(%job, "a job ended after another worker took it over");
        }
        Ok(())
    }
}

/// That an attempt runs here.
struct Running {
    runner: Arc<Runner>,
    job: JobId,
}

impl Running {
    /// None while one does.
    fn begin(runner: Arc<Runner>, job: JobId) -> Option<Self> {
        let begun = runner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(job);
        begun.then_some(Self { runner, job })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job);
    }
}

fn waited(job: &JobRecord, began: OffsetDateTime) -> StdDuration {
    StdDuration::try_from(began - job.run_at).unwrap_or_default()
}
