//! The connection to Redis. It is made when it is first needed and again after it broke, and nobody waits long for it.

use omt_kernel::{Error, Kind, Result};
use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A cache that takes longer than this is no help. It holds for the whole of a call: a server that is cut off refuses nothing, it is
/// silent.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long making a connection may take. Nobody waits for it for longer than the above.
const CONNECTING: Duration = Duration::from_secs(5);
/// After a fault the server is left alone for so long, so that a dead one costs a request in a second and not every request.
const REST: Duration = Duration::from_secs(1);
/// So often the log says that it does not answer.
const QUIET: Duration = Duration::from_secs(60);

pub(crate) fn unavailable(error: RedisError) -> Error {
    Error::new(Kind::Unavailable, "CACHE_UNAVAILABLE", "the cache does not answer").retry_after(5).caused_by(error)
}

fn silent() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

pub(crate) struct Link {
    pub(crate) client: Client,
    connection: ConnectionManager,
    began: Instant,
    /// Milliseconds since `began` until which the server is left alone.
    resting_until: AtomicU64,
    /// The same, until which nothing more is said of it.
    quiet_until: AtomicU64,
}

impl Link {
    /// A connection to be. Only a URL that means nothing is an error: a server that is away comes back.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let meaningless = |error: RedisError| {
            Error::new(Kind::Invalid, "BAD_CONFIGURATION", format!("cache.url means nothing: {error}")).caused_by(error)
        };
        let client = Client::open(url).map_err(meaningless)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(CONNECTING))
            .set_number_of_retries(1);
        let connection = client.get_connection_manager_lazy(config).map_err(meaningless)?;
        // What connects is driven by whoever asks, and they give up before it has ended.
        let mut first = connection.clone();
        tokio::spawn(async move { redis::cmd("PING").query_async::<()>(&mut first).await });
        let (resting_until, quiet_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { client, connection, began: Instant::now(), resting_until, quiet_until })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the server something; nothing while it is left alone, and nothing when it does not answer soon.
    pub(crate) async fn ask<T>(&self, question: impl AsyncFnOnce(&mut ConnectionManager) -> redis::RedisResult<T>) -> Option<T> {
        if self.now() < self.resting_until.load(Ordering::Relaxed) {
            return None;
        }
        match self.answer(PATIENCE, question).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.rest(&error);
                None
            }
        }
    }

    async fn answer<T>(
        &self,
        patience: Duration,
        question: impl AsyncFnOnce(&mut ConnectionManager) -> redis::RedisResult<T>,
    ) -> redis::RedisResult<T> {
        let mut connection = self.connection.clone();
        tokio::time::timeout(patience, question(&mut connection)).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Whether it answers, given the time to connect.
    pub(crate) async fn check(&self) -> Result<()> {
        let ping = async |connection: &mut ConnectionManager| redis::cmd("PING").query_async::<()>(connection).await;
        self.answer(CONNECTING + PATIENCE, ping).await.map_err(unavailable)
    }

    fn rest(&self, error: &RedisError) {
        let now = self.now();
        let after = |pause: Duration| now + u64::try_from(pause.as_millis()).unwrap_or(0);
        self.resting_until.fetch_max(after(REST), Ordering::Relaxed);
        if now >= self.quiet_until.load(Ordering::Relaxed) {
            self.quiet_until.store(after(QUIET), Ordering::Relaxed);
            tracing::warn!(%error, "the cache does not answer; going on without it");
        }
    }
}
