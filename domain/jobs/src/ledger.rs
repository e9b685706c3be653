//! What attempts write about themselves, several in one transaction: a commit waits for the disk, and whatever is to be written
//! meanwhile shares the next one.

use omt_kernel::{
    Error, JobId, OffsetDateTime, Result,
    job::{AttemptEnd, JobEnd, JobRecord, JobTurn, LEASE},
    port::Database,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Semaphore, oneshot};

/// The beginning or the end of an attempt.
enum Entry {
    Claim,
    End(AttemptEnd, Option<Value>),
}

/// What came of it.
enum Written {
    /// The job, where this worker got it.
    Claimed(Option<Box<JobRecord>>),
    /// Whether this worker still had it.
    Ended(bool),
}

struct Line {
    /// Tells it from others.
    number: u64,
    job: JobId,
    at: OffsetDateTime,
    entry: Entry,
    answer: oneshot::Sender<Result<Written>>,
}

/// The beginnings and ends of one process's attempts.
pub(crate) struct Ledger {
    database: Arc<dyn Database>,
    /// Names this process in rows.
    worker: Arc<str>,
    lines: Mutex<Vec<Line>>,
    /// How many lines there ever were.
    numbers: AtomicU64,
    /// Held by whoever writes for all.
    turns: Arc<Semaphore>,
}

/// Transactions at the same time, where the database has several: while one waits for the disk, another is written.
const TURNS: usize = 2;

impl Ledger {
    pub(crate) fn new(database: Arc<dyn Database>, worker: &str) -> Self {
        let turns = Arc::new(Semaphore::new(if database.writes_in_parallel() { TURNS } else { 1 }));
        Self { database, worker: worker.into(), lines: Mutex::default(), numbers: AtomicU64::new(0), turns }
    }

    /// Takes a job that is due and that nobody else has; none otherwise.
    pub(crate) async fn claim(&self, job: JobId, at: OffsetDateTime) -> Result<Option<JobRecord>> {
        match self.write(job, at, Entry::Claim).await? {
            Written::Claimed(job) => Ok(job.map(|job| *job)),
            Written::Ended(_) => Err(Error::internal("a claim was answered as an end")),
        }
    }

    /// Ends an attempt; false when the job was taken away meanwhile.
    pub(crate) async fn end(&self, job: JobId, at: OffsetDateTime, end: AttemptEnd, progress: Option<Value>) -> Result<bool> {
        match self.write(job, at, Entry::End(end, progress)).await? {
            Written::Ended(kept) => Ok(kept),
            Written::Claimed(_) => Err(Error::internal("an end was answered as a claim")),
        }
    }

    async fn write(&self, job: JobId, at: OffsetDateTime, entry: Entry) -> Result<Written> {
        let (answer, mut written) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.lines().push(Line { number, job, at, entry, answer });
        // Who has the answer leaves the queue: standing in it, they would be called up one by one, each to write what the one before
        // brought meanwhile.
        let turn = tokio::select! {
            biased;
            written = &mut written => return told(written),
            // It is never closed, and writing without a turn would be right too.
            turn = self.turns.clone().acquire_owned() => turn.ok(),
        };
        // Whoever is about to write something too comes along.
        tokio::task::yield_now().await;
        let lines = {
            let mut lines = self.lines();
            // One that is being written in another turn waits for that alone. Whoever brought the others stands in the queue.
            if lines.iter().any(|line| line.number == number) { mem::take(&mut *lines) } else { Vec::new() }
        };
        if lines.is_empty() {
            drop(turn);
        } else {
            let (database, worker) = (self.database.clone(), self.worker.clone());
            // A task of its own: others wait for it too, even when this caller is gone.
            tokio::spawn(async move {
                write_all(database.as_ref(), &worker, lines).await;
                drop(turn);
            });
        }
        told(written.await)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(written: std::result::Result<Result<Written>, oneshot::error::RecvError>) -> Result<Written> {
    written.map_err(|e| Error::internal("writing what a job did ended in a defect").caused_by(e))?
}

/// Writes all at once, or each by itself where that fails, so that one that cannot be written keeps none of the others.
async fn write_all(database: &dyn Database, worker: &str, lines: Vec<Line>) {
    if lines.len() > 1 {
        match written(database, worker, &lines).await {
            Ok(written) => return lines.into_iter().zip(written).for_each(|(line, written)| tell(line, Ok(written))),
            Err(error) => tracing::debug!(%error, lines = lines.len(), "what jobs did is written one by one"),
        }
    }
    for line in lines {
        let written = written(database, worker, std::slice::from_ref(&line)).await.map(|mut written| written.pop());
        let written = written.and_then(|written| written.ok_or_else(|| Error::internal("nothing was written")));
        tell(line, written);
    }
}

fn tell(line: Line, written: Result<Written>) {
    // Who asked may have stopped waiting.
    let _ = line.answer.send(written);
}

/// What came of each line, in their order.
async fn written(database: &dyn Database, worker: &str, lines: &[Line]) -> Result<Vec<Written>> {
    let (mut ends, mut wanted) = (Vec::new(), Vec::new());
    for &Line { job, at, ref entry, .. } in lines {
        match entry {
            Entry::Claim => wanted.push(job),
            Entry::End(end, progress) => ends.push(JobEnd { job, at, end, progress: progress.as_ref() }),
        }
    }
    // The latest of their times: what is due at an earlier one is due then.
    let now = lines.iter().map(|line| line.at).max().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let turned = database.turn_jobs(&JobTurn { worker, ends: &ends, wanted: &wanted, now, lease: now + LEASE }).await?;
    let mut ended: BTreeSet<JobId> = turned.ended.into_iter().collect();
    let mut claimed: BTreeMap<JobId, _> = turned.claimed.into_iter().map(|job| (job.id, Box::new(job))).collect();
    let mut written = |line: &Line| match line.entry {
        // Of two tickets for a job, one gets it.
        Entry::Claim => Written::Claimed(claimed.remove(&line.job)),
        Entry::End(..) => Written::Ended(ended.remove(&line.job)),
    };
    Ok(lines.iter().map(&mut written).collect())
}
