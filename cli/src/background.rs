//! Background jobs: in the serving process, or in a process of their own (`openmediatrust worker`).

use crate::{
    config::{Config, InProcess},
    fault::Fault,
    platform::Platform,
};
use futures_util::FutureExt;
use omt_api::Dependency;
use omt_audit::{Expiry, Integrator};
use omt_jobs::{Handler, Runner, Timing};
use omt_kernel::{Error, JobId, Kind, port::JobTransport};
use omt_queue::{Afterwards, ApalisQueue, Handle};
use omt_workers::{
    Archive, AuditExpiry, Deliveries, DryRuns, Effects, Housekeeping, Letters, Lifecycle, Look, Mailings, ObjectLocks,
    OldMessages, Partitions, Recheck, Remeasure, Replicate, Restores, Retention, Sweep, Timers,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use uuid::Uuid;

/// Seconds that jobs under way get to end after SIGTERM; what is cut off runs again elsewhere.
const DRAIN: Duration = Duration::from_secs(25);

/// Jobs that are being worked on.
pub struct Background {
    stop: watch::Sender<bool>,
    work: JoinHandle<omt_kernel::Result<()>>,
    others: Vec<JoinHandle<()>>,
    queue: Arc<ApalisQueue>,
}

fn handlers(config: &Config, platform: &Platform) -> Vec<Arc<dyn Handler>> {
    let (database, blobs, clock) = (platform.database.clone(), platform.tiers.clone(), platform.clock.clone());
    let seconds = |n: u32| time::Duration::seconds(n.into());
    let settings = &config.lifecycle;
    let mut handlers: Vec<Arc<dyn Handler>> = vec![
        Arc::new(Archive { database: database.clone(), manifests: platform.manifests.clone() }),
        Arc::new(Effects(platform.workflows.clone())),
        Arc::new(Timers { workflows: platform.workflows.clone(), every: seconds(config.workflow.timers_every_seconds) }),
        Arc::new(Recheck(platform.compliance.clone())),
        Arc::new(Remeasure(platform.compliance.clone())),
        Arc::new(Look { compliance: platform.compliance.clone(), every: seconds(config.workflow.compliance_every_seconds) }),
        Arc::new(DryRuns(platform.policies.clone())),
        Arc::new(Deliveries(platform.webhooks.clone())),
        Arc::new(OldMessages {
            database: database.clone(),
            clock: clock.clone(),
            keep_deliveries: time::Duration::days(config.webhooks.keep_days.into()),
        }),
        Arc::new(Housekeeping { database: database.clone(), clock: clock.clone() }),
        Arc::new(Lifecycle {
            database: database.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            every: seconds(settings.move_every_seconds),
        }),
        Arc::new(Retention {
            database: database.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            every: seconds(settings.retention_every_seconds),
            audit: platform.audit.clone(),
            cdn: platform.cdn.clone(),
            replica: platform.replica.clone(),
        }),
        Arc::new(AuditExpiry {
            expiry: Expiry {
                trail: platform.audit.clone(),
                database: database.clone(),
                tiles: platform.tiles.clone(),
                clock: clock.clone(),
                days: config.audit.retention_days,
            },
            every: seconds(config.audit.expire_every_seconds),
        }),
        Arc::new(Restores {
            database: database.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            look_every: settings.restore_look_seconds,
        }),
        Arc::new(ObjectLocks {
            database: database.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            every: seconds(settings.lock_every_seconds),
        }),
        Arc::new(Sweep {
            database: database.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            every: seconds(settings.sweep_every_seconds),
            young: seconds(settings.sweep_after_seconds),
            replica: platform.replica.clone(),
        }),
    ];
    if config.database.url.starts_with("postgres") {
        handlers.push(Arc::new(Partitions(database.clone())));
    }
    if let Some(target) = &platform.replica {
        let (target, every) = (target.clone(), seconds(config.replication.every_seconds));
        handlers.push(Arc::new(Replicate { database, blobs, target, clock, every, cursor: Mutex::default() }));
    }
    if let Some(post) = &platform.post {
        handlers.push(Arc::new(Mailings(post.clone())));
        handlers.push(Arc::new(Letters(post.clone())));
    }
    handlers
}

/// When the recurring jobs of every kind are due.
pub fn timings(config: &Config, platform: &Platform) -> Result<BTreeMap<&'static str, Timing>, Fault> {
    let own = |handler: &Arc<dyn Handler>| Some((handler.kind(), Timing::Every(handler.schedule()?)));
    let mut timings: BTreeMap<_, _> = handlers(config, platform).iter().filter_map(own).collect();
    for (kind, cron) in config.schedules()? {
        let Some(timing) = timings.get_mut(kind.as_str()) else {
            let known: Vec<&str> = timings.keys().copied().collect();
            let words = format!("jobs.schedules.{kind}: there is no such recurring job; there are {}", known.join(", "));
            return Err(Fault::new(words));
        };
        *timing = Timing::Cron(Box::new(cron));
    }
    Ok(timings)
}

/// Starts working on the jobs of `kinds`, or of every kind when there are none.
pub async fn start(config: &Config, platform: &Platform, kinds: &[String]) -> Result<Background, Fault> {
    timings(config, platform)?;
    let mut handlers = handlers(config, platform);
    if let Some(unknown) = kinds.iter().find(|kind| handlers.iter().all(|h| h.kind() != kind.as_str())) {
        let known: Vec<&str> = handlers.iter().map(|h| h.kind()).collect();
        return Err(Fault::new(format!("there is no queue {unknown:?}; there are {}", known.join(", "))));
    }
    if !kinds.is_empty() {
        handlers.retain(|h| kinds.iter().any(|kind| kind == h.kind()));
    }
    let queue = Arc::new(ApalisQueue::connect(&config.queue_url(), &config.queue.name).await?);
    // Unique over restarts.
    let name = format!("{}-{}", hostname(), Uuid::new_v4());
    let runner = Runner::new(
        platform.database.clone(),
        platform.clock.clone(),
        platform.entropy.clone(),
        handlers,
        platform.telemetry.clone(),
        name.clone(),
    );
    let runner = Arc::new(runner.with_schedules(&config.schedules()?));
    let (stop, stopped) = watch::channel(false);
    let handle: Handle = {
        let runner = runner.clone();
        Arc::new(move |id: JobId, kind: &'static str| {
            let runner = runner.clone();
            // The job stays due, so it is announced again.
            let failed = move |error: &Error| tracing::warn!(job = %id, %error, "a job could not be begun or ended");
            Box::pin(async move {
                let begun = runner.begin(id, kind).await.inspect_err(failed).ok().flatten();
                begun.map(|ending| -> Afterwards {
                    Box::new(move || async move { drop(ending.write().await.inspect_err(failed)) }.boxed())
                })
            })
        })
    };
    let work = {
        let (queue, concurrency) = (queue.clone(), config.job_concurrency());
        let (kinds, outward) = (runner.kinds(), runner.outward());
        tokio::spawn(async move { queue.work(&name, &kinds, &outward, concurrency, handle, told(stopped)).await })
    };
    let announcing = {
        let (runner, queue) = (runner.clone(), queue.clone());
        tokio::spawn(async move { runner.announce(queue.as_ref()).await })
    };
    let tidying = {
        let (queue, kinds) = (queue.clone(), runner.kinds());
        tokio::spawn(async move { queue.tidy(&kinds).await })
    };
    // Any process that works on jobs may integrate the audit log; a lock in the database makes it one at a time.
    let integrator =
        Integrator::new(platform.audit.clone(), platform.database.clone(), platform.tiles.clone(), platform.clock.clone());
    let integrating = tokio::spawn(integrator.run());
    tracing::info!(queue = queue.describe(), kinds = ?runner.kinds(), "working on jobs");
    Ok(Background { stop, work, others: vec![announcing, tidying, integrating], queue })
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has nothing more to say.
    let _ = stopped.wait_for(|stop| *stop).await;
}

impl Background {
    /// What carries the tickets.
    pub fn describe(&self) -> String {
        self.queue.describe()
    }

    /// Whether it works, as a dependency of readiness.
    pub fn dependency(&self) -> Dependency {
        let queue = self.queue.clone();
        let check = move || {
            let alive = queue.is_working();
            Box::pin(async move {
                let words = "the queue does not answer; jobs wait until it does";
                if alive { Ok(()) } else { Err(Error::new(Kind::Unavailable, "JOBS_STOPPED", words)) }
            }) as futures_util::future::BoxFuture<'static, _>
        };
        Dependency { name: "jobs", needed: false, check: Box::new(check) }
    }

    /// Takes no more jobs and lets those under way end.
    pub async fn drain(self) {
        self.others.iter().for_each(JoinHandle::abort);
        self.stop.send_replace(true);
        match tokio::time::timeout(DRAIN, self.work).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the queue's worker failed"),
            Ok(Err(error)) => tracing::error!(%error, "the queue's worker failed"),
            Err(_) => tracing::warn!("jobs under way were cut off; another worker takes them over"),
        }
    }
}

/// Whether the serving process works on jobs too.
pub fn in_process(config: &Config) -> bool {
    match config.jobs.in_process {
        InProcess::Always => true,
        InProcess::Never => false,
        InProcess::Embedded => config.queue_url().starts_with("sqlite:"),
    }
}

/// `openmediatrust worker`: works until SIGTERM or SIGINT.
pub async fn run(config: Config, kinds: &[String]) -> Result<(), Fault> {
    let platform = Platform::open(&config).await?;
    platform.check_defaults(&config).await?;
    let background = start(&config, &platform, kinds).await?;
    println!("OpenMediaTrust {} working on jobs", env!("CARGO_PKG_VERSION"));
    println!("  database   {}", platform.database.describe());
    println!("  blobs      {}", platform.blobs.describe());
    println!("  queue      {}", background.describe());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    background.drain().await;
    platform.database.close().await;
    Ok(())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "worker".to_owned() } else { name.to_owned() }
}
