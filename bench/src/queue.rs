//! Background jobs that do nothing: how many a second, and how soon one begins.

use crate::{quantile, world::System};
use async_trait::async_trait;
use clap::Args;
use futures_util::FutureExt;
use omt_jobs::{Handler, JobError, Jobs, NewJob, Progress, Runner};
use omt_kernel::{
    OffsetDateTime,
    job::JobRecord,
    port::{Database, Telemetry},
};
use omt_queue::{Afterwards, ApalisQueue, Handle};
use omt_sql::SqlDatabase;
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Over what.
#[derive(Args)]
pub struct Arguments {
    /// The database's URL.
    #[arg(long)]
    database: String,
    /// The queue's URL.
    #[arg(long)]
    queue: String,
    /// Jobs at once in the queue.
    #[arg(long, default_value_t = 5_000)]
    jobs: usize,
}

/// Notes when it ran.
struct Nothing(Mutex<Vec<(u64, Instant)>>);

#[async_trait]
impl Handler for Nothing {
    fn kind(&self) -> &'static str {
        "nothing"
    }
    async fn run(&self, job: &JobRecord, _: &Progress) -> Result<(), JobError> {
        self.0.lock().unwrap().push((job.payload["n"].as_u64().unwrap(), Instant::now()));
        Ok(())
    }
}

/// Runs it and prints two lines.
pub async fn run(arguments: Arguments) {
    let database = Arc::new(SqlDatabase::connect(&arguments.database).await.unwrap());
    database.migrate().await.unwrap();
    let world = Arc::new(System);
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = crate::world::audit(dir.path(), database.clone());
    let jobs = Jobs::new(database.clone(), world.clone(), world.clone(), audit);
    let handler = Arc::new(Nothing(Mutex::default()));
    let telemetry: Arc<dyn Telemetry> = Arc::new(omt_metrics::Prometheus::new().unwrap());
    let name = format!("bench-{}", Uuid::new_v4());
    let handlers: Vec<Arc<dyn Handler>> = vec![handler.clone()];
    let runner = Arc::new(Runner::new(database.clone(), world.clone(), world, handlers, telemetry, name.clone()));
    let queue = Arc::new(ApalisQueue::connect(&arguments.queue, &name).await.unwrap());
    let handle: Handle = {
        let runner = runner.clone();
        Arc::new(move |id, kind| {
            let runner = runner.clone();
            Box::pin(async move {
                let begun = runner.begin(id, kind).await.unwrap();
                begun.map(|ending| -> Afterwards { Box::new(move || async { ending.write().await.unwrap() }.boxed()) })
            })
        })
    };
    let worker = queue.clone();
    tokio::spawn(async move { worker.work(&name, &["nothing"], &[], 16, handle, std::future::pending()).await });
    let (announcer, transport) = (runner.clone(), queue.clone());
    tokio::spawn(async move { announcer.announce(transport.as_ref()).await });
    let add = async |from: usize, to: usize| {
        let unit = database.begin().await.unwrap();
        let new = |n: usize| NewJob {
            tenant: None,
            kind: "nothing",
            payload: json!({ "n": n }),
            unique_key: None,
            priority: 0,
            run_at: OffsetDateTime::now_utc(),
            max_attempts: 3,
        };
        let made = jobs.enqueue_all(unit.as_ref(), &(from..to).map(new).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(made.len(), to - from);
        unit.commit().await.unwrap();
    };
    let ran = || handler.0.lock().unwrap().len();
    // One at a time, as an idle platform sees them.
    let mut waits = Vec::new();
    for n in 0..200 {
        add(n, n + 1).await;
        let added = Instant::now();
        while ran() <= n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(handler.0.lock().unwrap()[n].1.saturating_duration_since(added).as_secs_f64() * 1e3);
    }
    waits.sort_by(f64::total_cmp);
    println!(
        "picked up after p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms (goal p95 100 ms)",
        quantile(&waits, 0.5),
        quantile(&waits, 0.95),
        quantile(&waits, 0.99)
    );
    let (before, begun) = (ran(), Instant::now());
    for from in (0..arguments.jobs).step_by(500) {
        add(1_000 + from, 1_000 + (from + 500).min(arguments.jobs)).await;
    }
    while ran() < before + arguments.jobs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{:.0} jobs a second, with enqueueing them (goal 2,000)", arguments.jobs as f64 / begun.elapsed().as_secs_f64());
}
