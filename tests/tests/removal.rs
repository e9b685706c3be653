//! Content that is removed while a request is about to name it.

use async_trait::async_trait;
use bytes::Bytes;
use omt_blob::TieredBlobStore;
use omt_jobs::{Handler, Progress};
use omt_kernel::{
    Error, Kind, ManifestId, Result, TenantId,
    job::{JobRecord, JobState},
    manifest::BlobRef,
    port::{BlobStock, BlobStore, ByteStream, Clock, Content, Database, Listed, Put, TieredStore, TileStore},
    storage::{BlobRole, JUST_DELETED, Tier, lock_name},
};
use omt_sql::SqlDatabase;
use omt_tests::combination;
use omt_workers::Sweep;
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration as StdDuration,
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// A day ahead, so that what was just stored is old.
struct Tomorrow;

impl Clock for Tomorrow {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::days(1)
    }
}

struct World {
    database: Arc<SqlDatabase>,
    blobs: Arc<TieredBlobStore>,
    tenant: TenantId,
    blob: BlobRef,
}

impl World {
    /// A store that holds a blob which no record names.
    async fn with_orphan(dir: &Path) -> Self {
        let url = combination::database_url(dir).unwrap_or_else(|| format!("sqlite:{}", dir.join("db").display()));
        let database = SqlDatabase::connect(&url).await.unwrap();
        database.migrate().await.unwrap();
        let tier = async |name: &str| omt_blob::open(&format!("file:{}", dir.join(name).display()), dir).await.unwrap();
        let blobs = Arc::new(TieredBlobStore::new(tier("hot").await, tier("warm").await, tier("cold").await));
        let bytes = b"content that nobody names";
        let blob = BlobRef { sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 };
        let world = Self { database: Arc::new(database), blobs, tenant: TenantId::default_tenant(), blob };
        assert_eq!(world.store().await, Put::Written);
        world
    }

    async fn store(&self) -> Put {
        self.blobs.put(&self.tenant, &self.blob, Content::Memory(b"content that nobody names".as_slice().into())).await.unwrap()
    }

    async fn present(&self) -> bool {
        self.blobs.modified(&self.tenant, &self.blob, Tier::Hot).await.unwrap().is_some()
    }

    fn sweep(&self) -> tokio::task::JoinHandle<serde_json::Value> {
        self.sweep_with(true)
    }

    fn sweep_with(&self, well: bool) -> tokio::task::JoinHandle<serde_json::Value> {
        let sweep = Sweep {
            database: self.database.clone(),
            blobs: self.blobs.clone(),
            clock: Arc::new(Tomorrow),
            every: Duration::days(1),
            young: Duration::hours(1),
            replica: None,
        };
        tokio::spawn(async move {
            let (at, progress) = (OffsetDateTime::now_utc(), Progress::default());
            let job = JobRecord {
                id: omt_kernel::JobId(Uuid::now_v7()),
                tenant: None,
                kind: "sweep".into(),
                payload: serde_json::Value::Null,
                unique_key: None,
                priority: 0,
                state: JobState::Running,
                attempts: 1,
                max_attempts: 1,
                run_at: at,
                lease_until: None,
                worker: None,
                progress: None,
                error: None,
                created_at: at,
                updated_at: at,
                finished_at: None,
            };
            assert_eq!(sweep.run(&job, &progress).await.is_ok(), well);
            progress.get().unwrap()
        })
    }
}

/// A directory that loses the answer to a removal, and does it when nobody expects it any more.
struct Late {
    stock: Arc<dyn BlobStock>,
    asked: Mutex<Vec<BlobRef>>,
}

#[async_trait]
impl BlobStore for Late {
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<Put> {
        self.stock.put(tenant, blob, content).await
    }
    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream> {
        self.stock.read(tenant, blob, range).await
    }
    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content> {
        self.stock.open(tenant, blob).await
    }
    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        self.stock.exists(tenant, blob).await
    }
    async fn check(&self) -> Result<()> {
        self.stock.check().await
    }
    fn spool_dir(&self) -> &Path {
        self.stock.spool_dir()
    }
    fn describe(&self) -> String {
        self.stock.describe()
    }
}

#[async_trait]
impl TileStore for Late {
    async fn put_tile(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.stock.put_tile(path, bytes).await
    }
    async fn tile(&self, path: &str) -> Result<Option<Bytes>> {
        self.stock.tile(path).await
    }
    async fn remove_tile(&self, path: &str) -> Result<()> {
        self.stock.remove_tile(path).await
    }
    async fn remove_partials(&self, path: &str) -> Result<()> {
        self.stock.remove_partials(path).await
    }
}

#[async_trait]
impl BlobStock for Late {
    async fn delete(&self, _: &TenantId, blob: &BlobRef) -> Result<()> {
        self.asked.lock().unwrap().push(blob.clone());
        Err(Error::new(Kind::Unavailable, "BLOB_STORE_UNAVAILABLE", "the connection broke"))
    }
    async fn modified(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Option<OffsetDateTime>> {
        self.stock.modified(tenant, blob).await
    }
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<Listed>> {
        self.stock.list(after, limit).await
    }
    async fn abort_uploads(&self, before: OffsetDateTime) -> Result<u64> {
        self.stock.abort_uploads(before).await
    }
}

/// Nobody names bytes that a store may still remove, though nobody waits for it any more and they are there when they are looked for.
#[tokio::test]
async fn what_a_store_removes_late_was_never_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::with_orphan(dir.path()).await;
    let tier = async |name: &str| omt_blob::open(&format!("file:{}", dir.path().join(name).display()), dir.path()).await.unwrap();
    let late = Arc::new(Late { stock: tier("hot").await, asked: Mutex::default() });
    world.blobs = Arc::new(TieredBlobStore::new(late.clone(), tier("warm").await, tier("cold").await));
    assert_eq!(world.sweep_with(false).await.unwrap()["failed"], 1, "the answer is lost");
    assert_eq!(world.store().await, Put::Present, "the same bytes are sent again");
    let unit = world.database.begin().await.unwrap();
    unit.lock(&lock_name(&world.tenant, &world.blob.sha256)).await.unwrap();
    assert!(world.blobs.exists(&world.tenant, &world.blob).await.unwrap());
    let uses = [(&world.blob, BlobRole::Asset)];
    let named = async {
        unit.blobs().add_uses(&world.tenant, ManifestId(Uuid::now_v7()), &uses, OffsetDateTime::now_utc()).await?;
        unit.commit().await
    };
    assert_eq!(named.await.unwrap_err().code, JUST_DELETED);
    for blob in late.asked.lock().unwrap().drain(..) {
        std::fs::remove_file(dir.path().join("hot/default").join(&blob.sha256[..2]).join(&blob.sha256)).unwrap();
    }
    assert!(!world.present().await);
}

#[tokio::test]
async fn content_that_a_request_is_naming_is_not_swept() {
    depends_on!(Database);
    let dir = tempfile::tempdir().unwrap();
    let world = World::with_orphan(dir.path()).await;
    assert_eq!(world.store().await, Put::Present, "a request sends what is there");
    let unit = world.database.begin().await.unwrap();
    unit.lock(&lock_name(&world.tenant, &world.blob.sha256)).await.unwrap();
    assert!(world.blobs.exists(&world.tenant, &world.blob).await.unwrap());
    let sweeping = world.sweep();
    tokio::time::sleep(StdDuration::from_millis(300)).await;
    assert!(!sweeping.is_finished(), "the sweep waits for the request");
    let uses = [(&world.blob, BlobRole::Asset)];
    unit.blobs().add_uses(&world.tenant, ManifestId(Uuid::now_v7()), &uses, OffsetDateTime::now_utc()).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(sweeping.await.unwrap()["orphans_removed"], 0);
    assert!(world.present().await);
}

#[tokio::test]
async fn a_request_that_gives_up_leaves_an_orphan_to_the_sweep() {
    depends_on!(Database);
    let dir = tempfile::tempdir().unwrap();
    let world = World::with_orphan(dir.path()).await;
    let unit = world.database.begin().await.unwrap();
    unit.lock(&lock_name(&world.tenant, &world.blob.sha256)).await.unwrap();
    let sweeping = world.sweep();
    tokio::time::sleep(StdDuration::from_millis(100)).await;
    drop(unit);
    assert_eq!(sweeping.await.unwrap()["orphans_removed"], 1);
    // What the next request asks under the lock.
    assert!(!world.blobs.exists(&world.tenant, &world.blob).await.unwrap() && !world.present().await);
}
