//! The runner over a real database.

use super::{
    jobs::{add, get, job},
    now,
};
use crate::SqlDatabase;
use async_trait::async_trait;
use omt_jobs::{Handler, JobError, Progress, Runner};
use omt_kernel::{
    Error, JobId, Kind, OffsetDateTime, Result,
    job::{JobRecord, JobState},
    port::{Clock, Database, Entropy, Gauges, JobTransport, Telemetry},
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration as StdDuration,
};
use time::Duration;
use uuid::Uuid;

pub(super) struct World;

impl Clock for World {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Entropy for World {
    fn uuid_v7(&self, _: OffsetDateTime) -> Uuid {
        Uuid::now_v7()
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// Counts outcomes.
#[derive(Default)]
pub(super) struct Outcomes(pub(super) Mutex<Vec<(String, &'static str)>>);

impl Telemetry for Outcomes {
    fn request(&self, _: &str, _: &str, _: u16, _: StdDuration) {}
    fn refused(&self, _: &'static str) {}
    fn attempt(&self, kind: &str, outcome: &'static str, _: StdDuration, _: StdDuration) {
        self.0.lock().unwrap().push((kind.to_owned(), outcome));
    }
    fn verified(&self, _: &str) {}
    fn manifest(&self, _: &'static str) {}
    fn cache(&self, _: &'static str, _: bool) {}
    fn shadow_policy(&self, _: bool) {}
    fn replica_read(&self) {}
    fn render(&self, _: &Gauges) -> Result<String> {
        Ok(String::new())
    }
}

/// Does as the payload says.
pub(super) struct Obedient {
    pub(super) kind: &'static str,
    pub(super) runs: AtomicU32,
}

#[async_trait]
impl Handler for Obedient {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn timeout(&self) -> Duration {
        Duration::milliseconds(300)
    }
    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        if self.kind != "quiet" {
            progress.set(&json!({ "run": run }));
        }
        let error = || Error::new(Kind::Unavailable, "TEST", "as told");
        match self.kind {
            "second-time" if run == 1 => Err(error().into()),
            "fatal" => Err(JobError::Fatal(error())),
            "panics" => panic!("as told"),
            "sleeps" => {
                tokio::time::sleep(StdDuration::from_secs(600)).await;
                Ok(())
            }
            _ => {
                assert_eq!(job.payload, json!({ "n": 1 }));
                Ok(())
            }
        }
    }
}

/// Sends tickets twice and in any order, as a queue may.
struct Clumsy(tokio::sync::mpsc::UnboundedSender<(JobId, String)>);

#[async_trait]
impl JobTransport for Clumsy {
    async fn announce(&self, kind: &str, due: &[JobId]) -> Result<()> {
        for id in due.iter().rev().chain(due) {
            self.0.send((*id, kind.to_owned())).map_err(|_| Error::internal("closed"))?;
        }
        Ok(())
    }
    fn describe(&self) -> String {
        "clumsy".into()
    }
}

pub(super) async fn the_runner_does_retries_and_gives_up(database: Arc<SqlDatabase>) {
    let kinds = ["good", "second-time", "fatal", "panics", "sleeps"];
    let handlers: Vec<Arc<dyn Handler>> =
        kinds.iter().map(|kind| Arc::new(Obedient { kind, runs: AtomicU32::new(0) }) as Arc<dyn Handler>).collect();
    let outcomes = Arc::new(Outcomes::default());
    let world = Arc::new(World);
    let runner = Arc::new(Runner::new(database.clone(), world.clone(), world, handlers, outcomes.clone(), "w".into()));
    let jobs: Vec<JobRecord> = kinds.iter().map(|kind| JobRecord { max_attempts: 2, ..job(kind) }).collect();
    for job in &jobs {
        add(&database, job).await;
    }
    let (sender, mut tickets) = tokio::sync::mpsc::unbounded_channel();
    let announcing = {
        let runner = runner.clone();
        tokio::spawn(async move { runner.announce(&Clumsy(sender)).await })
    };
    let working = {
        let runner = runner.clone();
        tokio::spawn(async move {
            while let Some((id, kind)) = tickets.recv().await {
                let runner = runner.clone();
                tokio::spawn(async move { runner.run(id, &kind).await.unwrap() });
            }
        })
    };
    let began = std::time::Instant::now();
    loop {
        let mut states = Vec::new();
        for job in &jobs {
            states.push(get(&database, job.id).await.state);
        }
        if states.iter().all(|s| s.is_final()) {
            assert_eq!(states, [JobState::Done, JobState::Done, JobState::Dead, JobState::Dead, JobState::Dead]);
            break;
        }
        assert!(began.elapsed() < StdDuration::from_secs(30), "{states:?}");
        tokio::time::sleep(StdDuration::from_millis(50)).await;
    }
    announcing.abort();
    working.abort();
    let attempts = |kind: &str| outcomes.0.lock().unwrap().iter().filter(|(k, _)| k == kind).map(|(_, o)| *o).collect::<Vec<_>>();
    assert_eq!(attempts("good"), ["done"]);
    assert_eq!(attempts("second-time"), ["retry", "done"]);
    assert_eq!(attempts("fatal"), ["dead"]);
    assert_eq!(attempts("panics"), ["retry", "dead"]);
    assert_eq!(attempts("sleeps"), ["retry", "dead"]);
    let slept = get(&database, jobs[4].id).await;
    assert!(slept.error.unwrap().starts_with("TIMEOUT"));
    assert_eq!(slept.progress, Some(json!({ "run": 2 })));
}

/// Each commit waits for the disk, so attempts that begin or end together are written together: what shares a transaction has its time.
pub(super) async fn attempts_share_transactions(database: Arc<SqlDatabase>) {
    const MANY: usize = 64;
    let handler: Arc<dyn Handler> = Arc::new(Obedient { kind: "quiet", runs: AtomicU32::new(0) });
    let world = Arc::new(World);
    let outcomes = Arc::new(Outcomes::default());
    let runner = Arc::new(Runner::new(database.clone(), world.clone(), world, vec![handler], outcomes, "w".into()));
    let jobs: Vec<JobRecord> = (0..MANY).map(|_| job("quiet")).collect();
    for job in &jobs {
        add(&database, job).await;
    }
    // Two tickets for each, of which one finds nothing to do.
    let mut attempts = tokio::task::JoinSet::new();
    for id in jobs.iter().chain(&jobs).map(|job| job.id) {
        let runner = runner.clone();
        attempts.spawn(async move { runner.run(id, "quiet").await.unwrap() });
    }
    attempts.join_all().await;
    let mut times = BTreeSet::new();
    for job in &jobs {
        let done = get(&database, job.id).await;
        assert_eq!((done.state, done.attempts), (JobState::Done, 1));
        times.insert(done.finished_at);
    }
    assert!(times.len() <= MANY / 2, "{MANY} ends were {} transactions", times.len());
}

/// Rows tell processes apart, not attempts: a job that was cancelled and replayed waits until its attempt here has ended.
pub(super) async fn a_job_has_one_attempt_in_a_process(database: Arc<SqlDatabase>) {
    let handler: Arc<dyn Handler> = Arc::new(Obedient { kind: "sleeps", runs: AtomicU32::new(0) });
    let (world, outcomes) = (Arc::new(World), Arc::new(Outcomes::default()));
    let runner = Arc::new(Runner::new(database.clone(), world.clone(), world, vec![handler], outcomes.clone(), "w".into()));
    let job = job("sleeps");
    add(&database, &job).await;
    let first = {
        let (runner, id) = (runner.clone(), job.id);
        tokio::spawn(async move { runner.run(id, "sleeps").await.unwrap() })
    };
    while get(&database, job.id).await.state != JobState::Running {
        tokio::time::sleep(StdDuration::from_millis(5)).await;
    }
    let unit = database.begin().await.unwrap();
    assert!(unit.jobs().cancel(job.id, now()).await.unwrap() && unit.jobs().replay(job.id, now()).await.unwrap());
    unit.commit().await.unwrap();
    runner.run(job.id, "sleeps").await.unwrap();
    let waits = get(&database, job.id).await;
    assert_eq!((waits.state, waits.attempts, first.is_finished()), (JobState::Queued, 0, false));
    first.await.unwrap();
    assert_eq!(get(&database, job.id).await.state, JobState::Queued, "the old attempt says nothing of the new one");
    runner.run(job.id, "sleeps").await.unwrap();
    assert_eq!(get(&database, job.id).await.attempts, 1);
}
