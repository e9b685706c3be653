//! Cron schedules: each time once over all replicas, missed times once, and none twice however long ago it was.

use super::runner::{Obedient, Outcomes, World};
use crate::SqlDatabase;
use async_trait::async_trait;
use omt_jobs::{Cron, Handler, JobError, Progress, Runner, Schedule};
use omt_kernel::{
    JobId, OffsetDateTime, Result,
    job::{AttemptEnd, JobFilter, JobRecord, LEASE},
    port::{Clock, Database, JobTransport, Page},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::Duration as StdDuration,
};
use time::{Duration, macros::datetime};

const KIND: &str = "nightly";

/// A clock that is set.
struct Set(Mutex<OffsetDateTime>);

impl Clock for Set {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// Recurs; what it does does not matter.
struct Nightly(Obedient);

#[async_trait]
impl Handler for Nightly {
    fn kind(&self) -> &'static str {
        KIND
    }
    fn schedule(&self) -> Option<Schedule> {
        Some(Schedule { every: Duration::seconds(1), offset: Duration::ZERO })
    }
    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        self.0.run(job, progress).await
    }
}

/// Tells nobody.
struct Silent;

#[async_trait]
impl JobTransport for Silent {
    async fn announce(&self, _: &str, _: &[JobId]) -> Result<()> {
        Ok(())
    }
    fn describe(&self) -> String {
        "silent".into()
    }
}

fn replicas(database: &Arc<SqlDatabase>, clock: &Arc<Set>) -> Vec<tokio::task::JoinHandle<()>> {
    let schedules = BTreeMap::from([(KIND.to_owned(), Cron::parse("0 3 * * *", "UTC").unwrap())]);
    let start = |n: u32| {
        let handler: Arc<dyn Handler> = Arc::new(Nightly(Obedient { kind: KIND, runs: AtomicU32::new(0) }));
        let (clock, outcomes) = (clock.clone(), Arc::new(Outcomes::default()));
        let runner = Runner::new(database.clone(), clock, Arc::new(World), vec![handler], outcomes, format!("w{n}"));
        let runner = runner.with_schedules(&schedules);
        tokio::spawn(async move { runner.announce(&Silent).await })
    };
    (0..3).map(start).collect()
}

/// The slots of the jobs that were made, the newest first; each job is done at once.
async fn made(database: &SqlDatabase) -> Vec<i64> {
    // Ten looks.
    tokio::time::sleep(StdDuration::from_millis(600)).await;
    let filter = JobFilter { kind: Some(KIND.into()), ..JobFilter::default() };
    let jobs = database.read().await.unwrap().jobs().list(&filter, Page { after: None, limit: 100 }).await.unwrap();
    for job in jobs.iter().filter(|job| !job.state.is_final()) {
        let unit = database.begin().await.unwrap();
        assert_eq!(unit.jobs().claim(&[job.id], "w", job.run_at, job.run_at + LEASE).await.unwrap().len(), 1);
        assert_eq!(unit.jobs().end(&[job.id], "w", &AttemptEnd::Done, None, job.run_at).await.unwrap(), [job.id]);
        unit.commit().await.unwrap();
    }
    let mut slots: Vec<i64> = jobs.iter().map(|job| job.payload["slot"].as_i64().unwrap()).collect();
    slots.sort_by(|a, b| b.cmp(a));
    slots
}

pub(super) async fn cron_times_come_once(database: Arc<SqlDatabase>) {
    let clock = Arc::new(Set(Mutex::new(datetime!(2026-11-21 14:00 UTC))));
    let set = |at: OffsetDateTime| *clock.0.lock().unwrap() = at;
    let running = replicas(&database, &clock);
    assert!(made(&database).await.is_empty(), "a new schedule waits for its time");
    set(datetime!(2026-11-22 02:59:59.9 UTC));
    assert!(made(&database).await.is_empty());
    set(datetime!(2026-11-22 03:00:00.1 UTC));
    let first = datetime!(2026-11-22 03:00 UTC).unix_timestamp();
    assert_eq!(made(&database).await, [first], "three replicas make one job");
    set(datetime!(2026-11-22 23:00 UTC));
    assert_eq!(made(&database).await, [first]);
    running.iter().for_each(tokio::task::JoinHandle::abort);
    // Everything was down for five days: one job, and it is the last one's.
    set(datetime!(2026-11-27 09:00 UTC));
    let running = replicas(&database, &clock);
    let second = datetime!(2026-11-27 03:00 UTC).unix_timestamp();
    assert_eq!(made(&database).await, [second, first]);
    running.iter().for_each(tokio::task::JoinHandle::abort);
    // Old slots are forgotten, but for the one that tells that this time was not missed.
    let unit = database.begin().await.unwrap();
    unit.jobs().forget(datetime!(2026-11-01 00:00 UTC)).await.unwrap();
    assert!(unit.jobs().take_slot(KIND, 7, datetime!(2026-11-20 00:00 UTC)).await.unwrap());
    unit.jobs().forget(datetime!(2026-11-28 00:00 UTC)).await.unwrap();
    assert_eq!(unit.jobs().last_slot_taken_at(KIND).await.unwrap(), Some(datetime!(2026-11-27 09:00 UTC)));
    assert_eq!(unit.jobs().last_slot_taken_at("other").await.unwrap(), None);
    assert!(!unit.jobs().take_slot(KIND, second, datetime!(2026-11-27 10:00 UTC)).await.unwrap());
    for forgotten in [7, first] {
        assert!(unit.jobs().take_slot(KIND, forgotten, datetime!(2026-11-27 08:00 UTC)).await.unwrap());
    }
    unit.commit().await.unwrap();
    let running = replicas(&database, &clock);
    assert!(made(&database).await.is_empty(), "the jobs are forgotten, and none is made again");
    running.iter().for_each(tokio::task::JoinHandle::abort);
}
