//! The cache that replicas share, in Redis. It is never the truth: a miss, a fault or a lost entry costs time and changes no
//! answer, because every key names all that its value depends on.

use async_trait::async_trait;
use bytes::Bytes;
use omt_kernel::{Error, Kind, Result, port::Cache};
use redis::{
    AsyncTypedCommands, Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A cache that takes longer than this is no help.
const PATIENCE: Duration = Duration::from_millis(150);
/// After a fault the cache is left alone for so long, so that a dead one costs a request in a second and not every request.
const REST: Duration = Duration::from_secs(1);
/// So often the log says that it does not answer.
const QUIET: Duration = Duration::from_secs(60);

/// Bytes in Redis.
pub struct RedisCache {
    connection: ConnectionManager,
    prefix: String,
    description: String,
    began: Instant,
    /// Milliseconds since `began` until which the cache is left alone.
    resting_until: AtomicU64,
    /// The same, until which nothing more is said of it.
    quiet_until: AtomicU64,
}

impl RedisCache {
    /// Connects to `redis://…` or `rediss://…`. `name` keeps platforms apart that share a server. A server that is gone at the
    /// start is an error, since then the configuration is more likely wrong than the server.
    pub async fn connect(url: &str, name: &str) -> Result<Self> {
        let unavailable = |error: redis::RedisError| {
            Error::new(Kind::Unavailable, "CACHE_UNAVAILABLE", "the cache does not answer").retry_after(5).caused_by(error)
        };
        let client = Client::open(url).map_err(unavailable)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(Duration::from_secs(5)))
            .set_number_of_retries(1);
        let connection = client.get_connection_manager_with_config(config).await.map_err(unavailable)?;
        Ok(Self {
            connection,
            prefix: format!("{name}:cache:"),
            description: omt_kernel::url::without_secret(url),
            began: Instant::now(),
            resting_until: AtomicU64::new(0),
            quiet_until: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The connection, unless the cache is left alone now.
    fn awake(&self) -> Option<ConnectionManager> {
        (self.now() >= self.resting_until.load(Ordering::Relaxed)).then(|| self.connection.clone())
    }

    fn rest(&self, error: &redis::RedisError) {
        let now = self.now();
        let after = |pause: Duration| now + u64::try_from(pause.as_millis()).unwrap_or(0);
        self.resting_until.fetch_max(after(REST), Ordering::Relaxed);
        if now >= self.quiet_until.load(Ordering::Relaxed) {
            self.quiet_until.store(after(QUIET), Ordering::Relaxed);
            tracing::warn!(%error, "the cache does not answer; going on without it");
        }
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let mut connection = self.awake()?;
        match redis::cmd("GET").arg(format!("{}{key}", self.prefix)).query_async::<Option<Vec<u8>>>(&mut connection).await {
            Ok(found) => found.map(Bytes::from),
            Err(error) => {
                self.rest(&error);
                None
            }
        }
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        let Some(mut connection) = self.awake() else { return };
        let done = connection.set_ex(format!("{}{key}", self.prefix), value.as_ref(), ttl.as_secs().max(1)).await;
        if let Err(error) = done {
            self.rest(&error);
        }
    }

    async fn check(&self) -> Result<()> {
        let mut connection = self.connection.clone();
        redis::cmd("PING").query_async::<String>(&mut connection).await.map(drop).map_err(|error| {
            Error::new(Kind::Unavailable, "CACHE_UNAVAILABLE", "the cache does not answer").retry_after(5).caused_by(error)
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_for_a_while_and_apart() {
        let Some(url) = omt_tests::service("OMT_TEST_REDIS") else { return };
        let name = uuid::Uuid::new_v4().to_string();
        let (one, other) = (RedisCache::connect(&url, &name).await.unwrap(), RedisCache::connect(&url, "other").await.unwrap());
        one.check().await.unwrap();
        assert!(one.get("k").await.is_none());
        one.put("k", Bytes::from_static(b"\x00value"), Duration::from_secs(1)).await;
        assert_eq!(one.get("k").await.unwrap(), Bytes::from_static(b"\x00value"));
        assert!(other.get("k").await.is_none());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(one.get("k").await.is_none());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_at_the_start() {
        assert_eq!(RedisCache::connect("redis://127.0.0.1:9/", "n").await.err().unwrap().code, "CACHE_UNAVAILABLE");
    }
}
