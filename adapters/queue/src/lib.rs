//! The queue that carries tickets for due jobs to free workers: apalis over SQLite, PostgreSQL or Redis. The URL's scheme picks.
//!
//! A ticket only says which job; the job's row in the database holds everything else (see `omt-jobs`). So a ticket may be lost or
//! come twice, and none needs to be retried here.

use apalis::prelude::{BackendExt, BoxDynError, Data, TaskSink, WorkerBuilder, WorkerBuilderExt};
use apalis_core::{backend::Vacuum, error::WorkerError};
use apalis_postgres::PostgresStorage;
use apalis_redis::{ConnectionManager, RedisStorage};
use apalis_sqlite::SqliteStorage;
use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use omt_kernel::{Error, JobId, Kind, Result, port::JobTransport, url::without_secret};
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fmt::Display, str::FromStr, sync::Arc, time::Duration};

/// A worker without a sign of life for twice this gives back its tickets.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often a worker looks for tickets.
const POLL: Duration = Duration::from_millis(40);
/// Tickets taken in one look.
const BATCH: usize = 100;
/// How often spent tickets are removed.
const VACUUM: Duration = Duration::from_secs(60);

/// Names a job that is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ticket {
    job: JobId,
    kind: String,
}

/// What a worker does with a ticket. It never fails: what went wrong is in the job's row.
pub type Handle = Arc<dyn Fn(JobId, String) -> BoxFuture<'static, ()> + Send + Sync>;

/// A [`Handle`] as a type without lifetimes, which apalis asks for.
#[derive(Clone)]
struct Taker(Handle);

#[derive(Clone)]
enum Storage {
    Sqlite(SqliteStorage<Ticket>),
    Postgres(PostgresStorage<Ticket>),
    Redis(RedisStorage<Ticket, ConnectionManager>),
}

/// A queue.
pub struct ApalisQueue {
    storage: Storage,
    description: String,
}

fn unavailable(error: impl Display) -> Error {
    Error::new(Kind::Unavailable, "QUEUE_UNAVAILABLE", "the queue does not answer")
        .retry_after(5)
        .caused_by(std::io::Error::other(error.to_string()))
}

impl ApalisQueue {
    /// Connects to `sqlite:PATH`, `postgres://…` or `redis://…`, and makes what the backend needs there. `name` keeps platforms
    /// apart that share a server.
    pub async fn connect(url: &str, name: &str) -> Result<Self> {
        let (storage, description) = match url.split(':').next() {
            Some("sqlite") => (Storage::Sqlite(sqlite(url, name).await?), url.to_owned()),
            Some("postgres" | "postgresql") => (Storage::Postgres(postgres(url, name).await?), without_secret(url)),
            Some("redis" | "rediss") => (Storage::Redis(redis(url, name).await?), without_secret(url)),
            _ => {
                let words = "queue.url must begin with sqlite:, postgres: or redis:";
                return Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", words));
            }
        };
        Ok(Self { storage, description })
    }

    /// Works: gives each ticket to `handle`, at most `concurrency` at once, until `stop` ends; then lets those under way end.
    /// Returning before that is a fault.
    pub fn work(
        &self,
        worker: &str,
        concurrency: usize,
        handle: Handle,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<()>> {
        let signal = async move {
            stop.await;
            Ok::<(), WorkerError>(())
        };
        let taker = Taker(handle);
        macro_rules! run {
            ($storage:expr) => {
                WorkerBuilder::new(worker)
                    .backend($storage.poll_with_interval(POLL))
                    .data(taker)
                    .concurrency(concurrency)
                    .build(take)
                    .run_until(signal)
                    .map(ended)
                    .boxed()
            };
        }
        match self.storage.clone() {
            Storage::Sqlite(storage) => run!(storage),
            Storage::Postgres(storage) => run!(storage),
            Storage::Redis(storage) => run!(storage),
        }
    }

    /// Removes spent tickets, for ever.
    pub async fn tidy(&self) {
        loop {
            tokio::time::sleep(VACUUM).await;
            if let Err(error) = self.vacuum().await {
                tracing::warn!(%error, "spent tickets cannot be removed");
            }
        }
    }

    async fn vacuum(&self) -> Result<()> {
        match self.storage.clone() {
            Storage::Sqlite(mut storage) => storage.vacuum().await.map(drop).map_err(unavailable),
            Storage::Postgres(storage) => {
                let spent = "DELETE FROM apalis.jobs WHERE status IN ('Done', 'Failed', 'Killed') AND done_at < now() - interval '1 minute'";
                sqlx::query(spent).execute(storage.pool()).await.map(drop).map_err(unavailable)
            }
            Storage::Redis(mut storage) => storage.vacuum().await.map(drop).map_err(unavailable),
        }
    }
}

fn ended(result: std::result::Result<(), WorkerError>) -> Result<()> {
    result.map_err(|error| Error::internal("the queue's worker ended").caused_by(std::io::Error::other(error.to_string())))
}

async fn take(ticket: Ticket, taker: Data<Taker>) -> std::result::Result<(), BoxDynError> {
    let Taker(handle) = taker.0;
    handle(ticket.job, ticket.kind).await;
    Ok(())
}

async fn sqlite(url: &str, name: &str) -> Result<SqliteStorage<Ticket>> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(unavailable)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A lost ticket is sent again, so none needs a sync of its own.
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(Duration::from_secs(10));
    let pool: SqlitePool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await.map_err(unavailable)?;
    SqliteStorage::setup(&pool).await.map_err(unavailable)?;
    let config = apalis_sqlite::Config::default().queue(name).batch_size(BATCH).heartbeat_interval(HEARTBEAT);
    Ok(SqliteStorage::new(&pool).with_config(config))
}

async fn postgres(url: &str, name: &str) -> Result<PostgresStorage<Ticket>> {
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .connect(url)
        .await
        .map_err(unavailable)?;
    PostgresStorage::setup(&pool).await.map_err(unavailable)?;
    let config = apalis_postgres::Config::default().queue(name).batch_size(BATCH).heartbeat_interval(HEARTBEAT);
    Ok(PostgresStorage::new(&pool).with_config(config))
}

async fn redis(url: &str, name: &str) -> Result<RedisStorage<Ticket, ConnectionManager>> {
    let connection = apalis_redis::connect(url).await.map_err(unavailable)?;
    let config = apalis_redis::Config::default().queue(name).batch_size(BATCH).heartbeat_interval(HEARTBEAT).missed_heartbeats(2);
    Ok(RedisStorage::new(connection).with_config(config))
}

#[async_trait]
impl JobTransport for ApalisQueue {
    async fn announce(&self, due: &[(JobId, String)]) -> Result<()> {
        let tickets = due.iter().map(|(job, kind)| Ticket { job: *job, kind: kind.clone() }).collect();
        match self.storage.clone() {
            Storage::Sqlite(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
            Storage::Postgres(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
            Storage::Redis(mut storage) => storage.push_bulk(tickets).await.map_err(unavailable),
        }
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
    use std::{
        collections::BTreeSet,
        sync::Mutex,
        time::{Duration, Instant},
    };

    async fn suite(url: &str) {
        let queue = Arc::new(ApalisQueue::connect(url, &uuid::Uuid::new_v4().to_string()).await.unwrap());
        let sent: BTreeSet<JobId> = (0..50).map(|_| JobId(uuid::Uuid::new_v4())).collect();
        let due: Vec<_> = sent.iter().map(|id| (*id, "kind".to_owned())).collect();
        for due in due.chunks(20) {
            queue.announce(due).await.unwrap();
        }
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let handle: Handle = {
            let seen = seen.clone();
            Arc::new(move |id, kind| {
                let seen = seen.clone();
                assert_eq!(kind, "kind");
                Box::pin(async move {
                    seen.lock().unwrap().insert(id);
                })
            })
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = {
            let queue = queue.clone();
            let name = format!("test-{}", uuid::Uuid::new_v4());
            tokio::spawn(async move { queue.work(&name, 4, handle, async move { drop(stopped.await) }).await })
        };
        let began = Instant::now();
        while !sent.is_subset(&seen.lock().unwrap()) && began.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(sent.is_subset(&seen.lock().unwrap()), "{} of 50", seen.lock().unwrap().len());
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), worker).await.expect("it stops when told").unwrap().unwrap();
        queue.vacuum().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sqlite() {
        let dir = tempfile::tempdir().unwrap();
        suite(&format!("sqlite:{}", dir.path().join("queue.db").display())).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn postgres() {
        let Ok(url) = std::env::var("OMT_TEST_POSTGRES") else { return };
        suite(&url).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn redis() {
        let Ok(url) = std::env::var("OMT_TEST_REDIS") else { return };
        suite(&url).await;
    }

    #[tokio::test]
    async fn what_cannot_be_reached_is_named() {
        let error = ApalisQueue::connect("amqp://x", "q").await.err().unwrap();
        assert_eq!(error.code, "BAD_CONFIGURATION");
    }
}
