//! Content that is removed while a request is about to name it.

use omt_blob::TieredBlobStore;
use omt_jobs::{Handler, Progress};
use omt_kernel::{
    ManifestId, TenantId,
    job::{JobRecord, JobState},
    manifest::BlobRef,
    port::{BlobStore, Clock, Content, Database, Put, TieredStore},
    storage::{BlobRole, Tier, lock_name},
};
use omt_sql::SqlDatabase;
use omt_tests::combination;
use omt_workers::Sweep;
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc, time::Duration as StdDuration};
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
            assert!(sweep.run(&job, &progress).await.is_ok());
            progress.get().unwrap()
        })
    }
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
