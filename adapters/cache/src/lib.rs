//! What replicas share in Redis: verification results, how much callers have used of what they may, and messages about what is to
//! be forgotten. None of it is ever the truth. A cached value counts only under a key that names all that it depends on, so that a
//! miss, a fault or a lost entry costs time and changes no answer.

mod broadcast;
mod link;
mod pace;

pub use broadcast::RedisBroadcast;

use async_trait::async_trait;
use bytes::Bytes;
use link::Link;
use omt_kernel::{Result, port::Cache};
use redis::AsyncTypedCommands;
use std::{sync::Arc, time::Duration};

/// Bytes in Redis, for a while.
pub struct RedisCache {
    link: Arc<Link>,
    prefix: String,
    description: String,
}

impl RedisCache {
    /// A cache at `redis://…` or `rediss://…`. `name` keeps platforms apart that share a server. It is connected to when it is first
    /// asked, so that a platform starts without it; only a URL that means nothing is an error.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        let link = Arc::new(Link::open(url)?);
        Ok(Self { link, prefix: format!("{name}:cache:"), description: omt_kernel::url::without_secret(url) })
    }

    /// Begins to tell other processes over the same server what they must forget, and to hear it of them.
    pub fn broadcast(&self) -> Arc<RedisBroadcast> {
        RedisBroadcast::start(self.link.clone(), format!("{}stale", self.prefix))
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let key = format!("{}{key}", self.prefix);
        let get = async |connection: &mut _| redis::cmd("GET").arg(&key).query_async::<Option<Vec<u8>>>(connection).await;
        self.link.ask(get).await.flatten().map(Bytes::from)
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        let key = format!("{}{key}", self.prefix);
        self.link.ask(async |connection| connection.set_ex(&key, value.as_ref(), ttl.as_secs().max(1)).await).await;
    }

    async fn check(&self) -> Result<()> {
        self.link.check().await
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::port::{Broadcast, Remembers, SharedPace, Stale};
    use std::{sync::Mutex, time::Instant};

    fn name() -> String {
        uuid::Uuid::new_v4().to_string()
    }

    async fn soon(what: &str, mut so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !so() {
            assert!(began.elapsed() < Duration::from_secs(10), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn keeps_for_a_while_and_apart() {
        let Some(url) = omt_tests::service("OMT_TEST_REDIS") else { return };
        let (one, other) = (RedisCache::open(&url, &name()).unwrap(), RedisCache::open(&url, "other").unwrap());
        one.check().await.unwrap();
        other.check().await.unwrap();
        assert!(one.get("k").await.is_none());
        one.put("k", Bytes::from_static(b"\x00value"), Duration::from_secs(1)).await;
        assert_eq!(one.get("k").await.unwrap(), Bytes::from_static(b"\x00value"));
        assert!(other.get("k").await.is_none());
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(one.get("k").await.is_none());
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_a_miss_and_a_url_without_meaning_an_error() {
        let cache = RedisCache::open("redis://127.0.0.1:9/", "n").unwrap();
        assert_eq!(cache.check().await.unwrap_err().code, "CACHE_UNAVAILABLE");
        cache.put("k", Bytes::from_static(b"v"), Duration::from_secs(1)).await;
        assert!(cache.get("k").await.is_none());
        assert!(cache.settle(&[("a".into(), Duration::from_secs(1))]).await.is_err());
        cache.broadcast().tell(Stale::Rights).await;
        assert_eq!(RedisCache::open("redis://[nowhere/", "n").err().unwrap().code, "BAD_CONFIGURATION");
    }

    /// A server that takes connections and says nothing, as one that is cut off does.
    #[tokio::test]
    async fn a_silent_server_costs_little() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cache = RedisCache::open(&format!("redis://{}/", silent.local_addr().unwrap()), "n").unwrap();
        let began = Instant::now();
        for _ in 0..100 {
            assert!(cache.get("k").await.is_none());
            cache.put("k", Bytes::from_static(b"v"), Duration::from_secs(1)).await;
        }
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<Stale>>);

    #[async_trait]
    impl Remembers for Heard {
        async fn forget(&self, stale: &Stale) {
            self.0.lock().unwrap().push(stale.clone());
        }
    }

    #[tokio::test]
    async fn others_hear_what_one_tells() {
        let Some(url) = omt_tests::service("OMT_TEST_REDIS") else { return };
        let name = name();
        let open = |name: &str| {
            let (broadcast, heard) = (RedisCache::open(&url, name).unwrap().broadcast(), Arc::new(Heard::default()));
            broadcast.join(heard.clone());
            (broadcast, heard)
        };
        let ((one, own), (_other, others), (_apart, apart)) = (open(&name), open(&name), open("apart"));
        let all = |heard: &Heard| heard.0.lock().unwrap().clone();
        // Whoever begins to hear knows nothing of what was said before.
        for heard in [&own, &others, &apart] {
            soon("it subscribes", || all(heard) == [Stale::Everything]).await;
        }
        let settings = Stale::Settings(omt_kernel::TenantId::default_tenant());
        one.tell(settings.clone()).await;
        // At once in its own process, and once.
        assert_eq!(all(&own), [Stale::Everything, settings.clone()]);
        soon("the other hears it", || all(&others).last() == Some(&settings)).await;
        one.tell(Stale::Rights).await;
        soon("and the next", || all(&others) == [Stale::Everything, settings.clone(), Stale::Rights]).await;
        assert_eq!((all(&own).len(), all(&apart).len()), (3, 1));
    }

    #[tokio::test]
    async fn what_callers_took_adds_up_and_comes_back() {
        let Some(url) = omt_tests::service("OMT_TEST_REDIS") else { return };
        let name = name();
        let (one, other) = (RedisCache::open(&url, &name).unwrap(), RedisCache::open(&url, &name).unwrap());
        one.check().await.unwrap();
        other.check().await.unwrap();
        let took = |caller: &str, seconds| (caller.to_owned(), Duration::from_secs(seconds));
        let near = |found: Duration, seconds: u64| {
            assert!(
                found <= Duration::from_secs(seconds) && found + Duration::from_secs(1) > Duration::from_secs(seconds),
                "{found:?}"
            );
        };
        let back = one.settle(&[took("a", 20), took("b", 5)]).await.unwrap();
        near(back[0], 20);
        near(back[1], 5);
        let back = other.settle(&[took("a", 10)]).await.unwrap();
        near(back[0], 30);
        assert!(one.settle(&[]).await.unwrap().is_empty());
    }
}
