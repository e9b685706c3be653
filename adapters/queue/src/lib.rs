//! The queue that carries tickets for due jobs to free workers: apalis over SQLite, PostgreSQL or Redis. The URL's scheme picks.
//!
//! A ticket only says which jobs; a job's row in the database holds everything else (see `omt-jobs`). So a ticket may be lost or
//! come twice, and none needs to be retried here.

use apalis::prelude::{BackendExt, BoxDynError, Data, TaskSink, WorkerBuilder, WorkerBuilderExt};
use apalis_core::{backend::Vacuum, error::WorkerError};
use apalis_postgres::PostgresStorage;
use apalis_redis::{ConnectionManager, RedisStorage};
use apalis_sqlite::SqliteStorage;
use async_trait::async_trait;
use futures_util::{
    FutureExt, Stream,
    future::{BoxFuture, Shared},
    stream,
};
use omt_kernel::{
    Error, JobId, Kind, Result,
    port::JobTransport,
    url::{has_parameter, is_loopback, without_secret},
};
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    collections::BTreeMap,
    fmt::Display,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

/// How often a worker gives a sign of life, and how many may be missing before its tickets go to others: a day's. apalis gives none while
/// it has tickets that it found no room for, and jobs that nobody began are announced again long before, so nothing waits for this.
const HEARTBEAT: Duration = Duration::from_secs(30);
const MISSING: usize = 2_880;
/// How often a worker looks for tickets that another process sent; its own process rings.
const POLL: Duration = Duration::from_secs(1);
/// After a ring it looks again this soon, since a look that was under way when a ticket came did not see it, and then ever later, each
/// time after this part of what has passed since.
const SOON: Duration = Duration::from_millis(20);
const PART: u32 = 8;
/// Among how many tickets the jobs of one announcement are dealt out: as many as may run at once, but no more, since each costs the
/// backend three statements.
const TICKETS: usize = 16;
/// Tickets taken in one look.
const BATCH: usize = 2 * TICKETS;
/// How long the workers of a kind rest after their queue failed them.
const RESTART: Duration = Duration::from_secs(2);
/// How many times as many jobs that wait for other hosts run at once.
const WAITING: usize = 4;
/// How often spent tickets are removed.
const VACUUM: Duration = Duration::from_secs(60);

/// Names jobs that are due, to be done one after another. Those that wait too long are announced again, and whoever is free takes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ticket {
    jobs: Vec<JobId>,
}

/// Deals jobs out like cards, so that the most urgent are the first of each ticket.
fn deal(due: &[JobId]) -> Vec<Ticket> {
    let deal = |first| due.iter().skip(first).step_by(TICKETS).copied().collect();
    (0..due.len().min(TICKETS)).map(|first| Ticket { jobs: deal(first) }).collect()
}

/// What a worker does with a ticket for a job of a kind. It never fails: what went wrong is in the job's row.
pub type Handle = Arc<dyn Fn(JobId, &'static str) -> BoxFuture<'static, Option<Afterwards>> + Send + Sync>;

/// What is to be done when a job is, for which the next one need not wait.
pub type Afterwards = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What the tickets of one kind go to, as a type without lifetimes, which apalis asks for.
#[derive(Clone)]
struct Taker {
    kind: &'static str,
    handle: Handle,
    /// Shared by every kind of a worker that is not apart, or by those that are.
    room: Arc<Semaphore>,
    /// Rung when a ticket is done: there is room for another.
    bell: Arc<Notify>,
}

#[derive(Clone)]
enum Backend {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    Redis(ConnectionManager),
}

/// The tickets of one kind: a queue of their own, so that each reaches a worker that does the kind.
enum Storage {
    Sqlite(SqliteStorage<Ticket>),
    Postgres(PostgresStorage<Ticket>),
    Redis(RedisStorage<Ticket, ConnectionManager>),
}

/// A queue for each kind of job.
pub struct ApalisQueue {
    backend: Backend,
    name: String,
    description: String,
    /// Wakes this process's own workers, by kind. An idle queue costs each kind one look a second and not the many that a quick start
    /// would need.
    bells: Mutex<BTreeMap<String, Arc<Notify>>>,
    /// Kinds whose workers rest.
    resting: AtomicUsize,
}

/// How long after a ring, or after the last look, there is another.
fn pause(since_ring: Duration) -> Duration {
    (since_ring / PART).clamp(SOON, POLL)
}

/// When to look for tickets: when somebody rings, often just after that, and now and then.
fn looks(bell: Arc<Notify>) -> impl Stream<Item = ()> + Unpin + Send + Sync {
    let next = move |(rung, looked): (Instant, Instant)| {
        let bell = bell.clone();
        async move {
            let again = tokio::time::timeout(pause(rung.elapsed()), bell.notified()).await.is_ok();
            // Rings that come soon after a look share the next.
            if let Some(early) = SOON.checked_sub(looked.elapsed()) {
                tokio::time::sleep(early).await;
            }
            let now = Instant::now();
            Some(((), (if again { now } else { rung }, now)))
        }
    };
    let begun = Instant::now();
    let mut times = Box::pin(stream::unfold((begun, begun), next));
    // apalis asks once each time it is woken, so what has come has to be asked for the next at once: otherwise nothing would wake the
    // worker for it before its next sign of life.
    stream::poll_fn(move |context| {
        let mut come = Poll::Pending;
        while times.as_mut().poll_next(context).is_ready() {
            come = Poll::Ready(Some(()));
        }
        come
    })
}

fn unavailable(error: impl Display) -> Error {
    Error::new(Kind::Unavailable, "QUEUE_UNAVAILABLE", "the queue does not answer")
        .retry_after(5)
        .caused_by(std::io::Error::other(error.to_string()))
}

impl ApalisQueue {
    /// Connects to `sqlite:PATH`, `postgres://…` or `redis://…`, and makes what the backend needs there. `name` keeps platforms
    /// apart that share a server. Redis is connected to when it is first needed: while it is away jobs wait, and processes start.
    pub async fn connect(url: &str, name: &str) -> Result<Self> {
        let (backend, description) = match url.split(':').next() {
            Some("sqlite") => (Backend::Sqlite(sqlite(url).await?), url.to_owned()),
            Some("postgres" | "postgresql") => (Backend::Postgres(postgres(url).await?), without_secret(url)),
            Some("redis" | "rediss") => (Backend::Redis(later(url)?), without_secret(url)),
            _ => {
                let words = "queue.url must begin with sqlite:, postgres: or redis:";
                return Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", words));
            }
        };
        Ok(Self { backend, name: name.to_owned(), description, bells: Mutex::default(), resting: AtomicUsize::new(0) })
    }

    fn bell(&self, kind: &str) -> Arc<Notify> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.to_owned()).or_default().clone()
    }

    fn storage(&self, kind: &str) -> Storage {
        let queue = format!("{}:{kind}", self.name);
        macro_rules! config {
            ($backend:ident) => {
                $backend::Config::default()
                    .queue(&queue)
                    .batch_size(BATCH)
                    .heartbeat_interval(HEARTBEAT)
                    .missed_heartbeats(MISSING)
            };
        }
        match &self.backend {
            Backend::Sqlite(pool) => Storage::Sqlite(SqliteStorage::new(pool).with_config(config!(apalis_sqlite))),
            Backend::Postgres(pool) => Storage::Postgres(PostgresStorage::new(pool).with_config(config!(apalis_postgres))),
            Backend::Redis(connection) => {
                Storage::Redis(RedisStorage::new(connection.clone()).with_config(config!(apalis_redis)))
            }
        }
    }

    /// Works: gives each ticket of these kinds to `handle`, at most `concurrency` at once, and more of the kinds that are `apart`, which
    /// wait for others, until `stop` ends; then lets those under way end. Where the queue fails the workers of a kind, new ones take
    /// their place, and those of other kinds go on. `worker` must never have been used before. Errors are of what failed at the end.
    pub async fn work(
        self: &Arc<Self>,
        worker: &str,
        kinds: &[&'static str],
        apart: &[&'static str],
        concurrency: usize,
        handle: Handle,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let stop = stop.boxed().shared();
        let wide = (concurrency * WAITING).max(16);
        let (room, other) = (Arc::new(Semaphore::new(concurrency)), Arc::new(Semaphore::new(wide)));
        let mut workers = JoinSet::new();
        for kind in kinds {
            let (room, concurrency) = if apart.contains(kind) { (&other, wide) } else { (&room, concurrency) };
            let taker = Taker { kind, handle: handle.clone(), room: room.clone(), bell: self.bell(kind) };
            // A task of its own: joined in one, each would be polled whenever another wakes.
            workers.spawn(self.clone().keep_at(format!("{worker}-{kind}"), concurrency, taker, stop.clone()));
        }
        let mut result = Ok(());
        while let Some(ended) = workers.join_next().await {
            let ended = ended.map_err(|e| Error::internal("the queue's worker ended in a defect").caused_by(e));
            result = result.and(ended.flatten());
        }
        result
    }

    /// Whether the queue answers now. For `doctor`.
    pub async fn check(&self) -> Result<()> {
        match &self.backend {
            Backend::Sqlite(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop).map_err(unavailable),
            Backend::Postgres(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop).map_err(unavailable),
            Backend::Redis(connection) => {
                let mut connection = connection.clone();
                redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(unavailable)
            }
        }
    }

    /// Whether every kind has workers.
    pub fn is_working(&self) -> bool {
        self.resting.load(Ordering::Relaxed) == 0
    }

    async fn keep_at(
        self: Arc<Self>,
        worker: String,
        concurrency: usize,
        taker: Taker,
        stop: Shared<BoxFuture<'static, ()>>,
    ) -> Result<()> {
        for start in 0u64.. {
            // A queue takes a name that comes back for the worker that died under it.
            let ended = self.work_on(&format!("{worker}-{start}"), concurrency, taker.clone(), stop.clone()).await;
            if stop.peek().is_some() {
                return ended;
            }
            tracing::error!(kind = taker.kind, error = ?ended.err(), "the queue failed its workers; others take their place");
            self.resting.fetch_add(1, Ordering::Relaxed);
            let stopped = tokio::time::timeout(RESTART, stop.clone()).await.is_ok();
            self.resting.fetch_sub(1, Ordering::Relaxed);
            if stopped {
                break;
            }
        }
        Ok(())
    }

    fn work_on(
        &self,
        worker: &str,
        concurrency: usize,
        taker: Taker,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<()>> {
        let storage = self.storage(taker.kind);
        let bell = taker.bell.clone();
        let room = taker.room.clone();
        let signal = async move {
            stop.await;
            // What has not begun is for others.
            room.close();
            Ok::<(), WorkerError>(())
        };
        macro_rules! run {
            ($storage:expr) => {
                WorkerBuilder::new(worker)
                    .backend($storage.poll_with_stream(looks(bell)))
                    .data(taker)
                    .concurrency(concurrency)
                    .build(take)
                    .run_until(signal)
                    .map(ended)
                    .boxed()
            };
        }
        match storage {
            Storage::Sqlite(storage) => run!(storage),
            Storage::Postgres(storage) => run!(storage),
            Storage::Redis(storage) => run!(storage),
        }
    }

    /// Removes spent tickets of these kinds, for ever.
    pub async fn tidy(&self, kinds: &[&str]) {
        loop {
            tokio::time::sleep(VACUUM).await;
            for kind in kinds {
                if let Err(error) = self.vacuum(kind).await {
                    tracing::warn!(%error, kind, "spent tickets cannot be removed");
                }
            }
        }
    }

    async fn vacuum(&self, kind: &str) -> Result<()> {
        match self.storage(kind) {
            Storage::Sqlite(mut storage) => storage.vacuum().await.map(drop).map_err(unavailable),
            Storage::Postgres(storage) => {
                let spent = "DELETE FROM apalis.jobs WHERE job_type = $1 AND status IN ('Done', 'Failed', 'Killed') \
                             AND done_at < now() - interval '1 minute'";
                let queue = format!("{}:{kind}", self.name);
                sqlx::query(spent).bind(queue).execute(storage.pool()).await.map(drop).map_err(unavailable)
            }
            Storage::Redis(mut storage) => storage.vacuum().await.map(drop).map_err(unavailable),
        }
    }
}

fn ended(result: std::result::Result<(), WorkerError>) -> Result<()> {
    result.map_err(|error| Error::internal("the queue's worker ended").caused_by(std::io::Error::other(error.to_string())))
}

async fn take(ticket: Ticket, taker: Data<Taker>) -> std::result::Result<(), BoxDynError> {
    let mut ending = std::future::ready(()).boxed();
    for job in ticket.jobs {
        let begun = async {
            // Closed at the end.
            let _room = taker.room.acquire().await.ok()?;
            Some((taker.handle)(job, taker.kind).await)
        };
        let (begun, ()) = tokio::join!(begun, ending);
        let Some(afterwards) = begun else { return Ok(()) };
        ending = afterwards.map_or_else(|| std::future::ready(()).boxed(), |write| write());
    }
    ending.await;
    taker.bell.notify_one();
    Ok(())
}

/// How often a file is set up before it is given up.
const SETUPS: u32 = 20;

async fn sqlite(url: &str) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(unavailable)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A lost ticket is sent again, so none needs a sync of its own; but the file must still be one after a power failure.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(10));
    let open = |connections| SqlitePoolOptions::new().max_connections(connections).connect_with(options.clone());
    // On a connection of its own, since it leaves another `synchronous` behind.
    let setting_up = open(1).await.map_err(unavailable)?;
    // Another process may be setting up the same file: SQLite has no lock for that, and whoever comes second finds it done.
    let mut tries = 1;
    while let Err(error) = SqliteStorage::setup(&setting_up).await {
        if tries == SETUPS {
            return Err(unavailable(error));
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    setting_up.close().await;
    open(2).await.map_err(unavailable)
}

/// A connection to be. Only a URL that means nothing is an error.
fn later(url: &str) -> Result<ConnectionManager> {
    let meaningless = |error: redis::RedisError| {
        Error::new(Kind::Invalid, "BAD_CONFIGURATION", format!("queue.url means nothing: {error}")).caused_by(error)
    };
    let client = redis::Client::open(url).map_err(meaningless)?;
    client.get_connection_manager_lazy(redis::aio::ConnectionManagerConfig::new()).map_err(meaningless)
}

/// The options of a URL. What asks for no `sslmode` gets `verify-full`, but for a server on this machine: the driver's own default
/// goes on without encryption where the server has none, and verifies nothing.
fn postgres_options(url: &str) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)?;
    let silent = matches!(options.get_ssl_mode(), PgSslMode::Prefer)
        && !["sslmode", "ssl-mode"].iter().any(|name| has_parameter(url, name));
    let local = options.get_socket().is_some() || is_loopback(options.get_host());
    Ok(if silent && !local { options.ssl_mode(PgSslMode::VerifyFull) } else { options })
}

async fn postgres(url: &str) -> Result<PgPool> {
    let options = postgres_options(url).map_err(unavailable)?;
    let pool = PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(unavailable)?;
    PostgresStorage::setup(&pool).await.map_err(unavailable)?;
    Ok(pool)
}

#[async_trait]
impl JobTransport for ApalisQueue {
    async fn announce(&self, kind: &str, due: &[JobId]) -> Result<()> {
        let tickets = deal(due);
        match self.storage(kind) {
            Storage::Sqlite(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
            Storage::Postgres(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
            Storage::Redis(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
        }?;
        self.bell(kind).notify_one();
        Ok(())
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

/// What every queue must do, run over each adapter: always over SQLite, over the others where `OMT_TEST_POSTGRES` and
/// `OMT_TEST_REDIS` name a server.
#[cfg(test)]
mod contract {
    use super::*;
    use std::{collections::BTreeSet, sync::Mutex};

    /// Gathers what one worker of these kinds gets.
    struct Worker {
        seen: Arc<Mutex<BTreeSet<(JobId, &'static str)>>>,
        stop: tokio::sync::oneshot::Sender<()>,
        work: tokio::task::JoinHandle<Result<()>>,
    }

    impl Worker {
        fn start(queue: &Arc<ApalisQueue>, kinds: &'static [&'static str]) -> Self {
            let seen = Arc::new(Mutex::new(BTreeSet::new()));
            let (into, queue) = (seen.clone(), queue.clone());
            let handle: Handle = Arc::new(move |id, kind| {
                let into = into.clone();
                Box::pin(async move {
                    into.lock().unwrap().insert((id, kind));
                    None
                })
            });
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let name = format!("test-{}", uuid::Uuid::new_v4());
            let work =
                tokio::spawn(async move { queue.work(&name, kinds, &[], 4, handle, async move { drop(stopped.await) }).await });
            Self { seen, stop, work }
        }
        async fn gets(&self, wanted: &BTreeSet<(JobId, &'static str)>) {
            let began = Instant::now();
            while !wanted.is_subset(&self.seen.lock().unwrap()) && began.elapsed() < Duration::from_secs(20) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(*self.seen.lock().unwrap(), *wanted, "exactly these");
        }
        async fn end(self) {
            self.stop.send(()).unwrap();
            tokio::time::timeout(Duration::from_secs(10), self.work).await.expect("it stops when told").unwrap().unwrap();
        }
    }

    async fn suite(url: &str) {
        let queue = Arc::new(ApalisQueue::connect(url, &uuid::Uuid::new_v4().to_string()).await.unwrap());
        let mut sent = BTreeSet::new();
        for kind in ["one", "two", "three"] {
            let ids: Vec<JobId> = (0..50).map(|_| JobId(uuid::Uuid::new_v4())).collect();
            for ids in ids.chunks(20) {
                queue.announce(kind, ids).await.unwrap();
            }
            sent.extend(ids.into_iter().map(|id| (id, kind)));
        }
        let only = |kinds: &[&str]| sent.iter().filter(|(_, kind)| kinds.contains(kind)).copied().collect::<BTreeSet<_>>();
        // Each worker gets the tickets of its kinds and no others.
        let some = Worker::start(&queue, &["one", "two"]);
        some.gets(&only(&["one", "two"])).await;
        let rest = Worker::start(&queue, &["three"]);
        rest.gets(&only(&["three"])).await;
        some.end().await;
        rest.end().await;
        queue.check().await.unwrap();
        for kind in ["one", "two", "three"] {
            queue.vacuum(kind).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite() {
        let dir = tempfile::tempdir().unwrap();
        suite(&format!("sqlite:{}", dir.path().join("queue.db").display())).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        let Some(url) = omt_tests::service("OMT_TEST_POSTGRES") else { return };
        suite(&url).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn redis() {
        let Some(url) = omt_tests::service("OMT_TEST_REDIS") else { return };
        suite(&url).await;
    }

    #[tokio::test]
    async fn a_server_with_another_ca_is_not_talked_to() {
        let Some(dir) = omt_tests::service("OMT_TEST_TLS_DIR") else { return };
        let server = omt_tests::service("OMT_TEST_POSTGRES").unwrap();
        for (ca, trusted) in [("ca", true), ("other", false)] {
            let connected = super::postgres(&format!("{server}?sslmode=verify-full&sslrootcert={dir}/{ca}.pem")).await;
            assert_eq!(connected.is_ok(), trusted, "{:?}", connected.err());
        }
        // Where the URL says nothing, it is verified all the same, but on this machine.
        let silent = |url: &str| postgres_options(url).unwrap().get_ssl_mode();
        assert!(matches!(silent("postgres://omt@db.example.org/omt?application_name=sslmode"), PgSslMode::VerifyFull));
        assert!(matches!(silent("postgres://omt@db.example.org/omt?sslmode=require"), PgSslMode::Require));
        assert!(matches!(silent("postgres://omt@127.0.0.1/omt"), PgSslMode::Prefer));
    }

    #[test]
    fn looks_are_ever_later_after_a_ring() {
        assert_eq!(pause(Duration::ZERO), SOON);
        assert_eq!(pause(Duration::from_secs(1)), Duration::from_millis(125));
        assert_eq!(pause(Duration::from_secs(3_600)), POLL);
        let after = (0..100).fold(Duration::ZERO, |since, _| since + pause(since));
        assert!(after > Duration::from_secs(30), "a hundred looks last {after:?}");
    }

    #[test]
    fn jobs_are_dealt_out_the_most_urgent_first() {
        let due: Vec<JobId> = (0..TICKETS * 2 + 1).map(|n| JobId(uuid::Uuid::from_u128(n as u128))).collect();
        assert_eq!(deal(&[]), []);
        assert_eq!(deal(&due[..2]), due[..2].iter().map(|job| Ticket { jobs: vec![*job] }).collect::<Vec<_>>());
        let tickets = deal(&due);
        assert_eq!(tickets.len(), TICKETS);
        assert_eq!(tickets[0].jobs, [due[0], due[TICKETS], due[TICKETS * 2]]);
        assert_eq!(tickets[1].jobs, [due[1], due[TICKETS + 1]]);
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_named() {
        let error = ApalisQueue::connect("amqp://x", "q").await.err().unwrap();
        assert_eq!(error.code, "BAD_CONFIGURATION");
        let error = ApalisQueue::connect("redis://[nowhere/", "q").await.err().unwrap();
        assert_eq!(error.code, "BAD_CONFIGURATION");
    }

    #[tokio::test]
    async fn redis_may_come_later() {
        let queue = ApalisQueue::connect("redis://127.0.0.1:9/", "q").await.unwrap();
        assert_eq!(queue.check().await.unwrap_err().code, "QUEUE_UNAVAILABLE");
        assert_eq!(queue.announce("kind", &[JobId(uuid::Uuid::new_v4())]).await.unwrap_err().code, "QUEUE_UNAVAILABLE");
    }
}
