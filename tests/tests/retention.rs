//! A hold that comes while retention already has its hands on the record.

use async_trait::async_trait;
use omt_audit::{AuditTrail, Level, LogKeys};
use omt_blob::{FileBlobStore, TieredBlobStore};
use omt_crypto::ProviderName;
use omt_jobs::{Handler, Progress};
use omt_kernel::{
    JobId, ManifestId, OffsetDateTime, Result, TenantId,
    job::{JobRecord, JobState},
    manifest::{Archived, BlobRef, Classification, LegalHold, ManifestRecord, ManifestState},
    port::{BlobStore, Clock, Content, Database, Entropy, UnitOfWork},
    storage::BlobRole,
};
use omt_keys::KeystoreFile;
use omt_sql::SqlDatabase;
use omt_tests::combination;
use omt_workers::Retention;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use time::Duration;
use uuid::Uuid;

struct System;

impl Clock for System {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Entropy for System {
    fn uuid_v7(&self, _: OffsetDateTime) -> Uuid {
        Uuid::now_v7()
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        Sha256::digest(Uuid::new_v4()).into()
    }
}

/// A database in which somebody else writes a record just before the next transaction begins.
struct Meanwhile {
    database: Arc<SqlDatabase>,
    change: Mutex<Option<ManifestRecord>>,
}

#[async_trait]
impl Database for Meanwhile {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        let change = self.change.lock().unwrap().take();
        if let Some(record) = change {
            write(&self.database, &record).await;
        }
        self.database.begin().await
    }
    async fn read(&self) -> Result<Box<dyn UnitOfWork>> {
        self.database.read().await
    }
    async fn check(&self) -> Result<()> {
        self.database.check().await
    }
    fn connections(&self) -> Vec<(&'static str, u64)> {
        self.database.connections()
    }
}

async fn write(database: &SqlDatabase, record: &ManifestRecord) {
    let unit = database.begin().await.unwrap();
    assert!(unit.manifests().update(record, record.revision - 1).await.unwrap());
    unit.commit().await.unwrap();
}

/// An archived manifest whose retention is over.
fn expired(content: &BlobRef) -> ManifestRecord {
    let at = OffsetDateTime::now_utc() - Duration::days(2);
    ManifestRecord {
        id: ManifestId(Uuid::now_v7()),
        tenant: TenantId::default_tenant(),
        revision: 1,
        state: ManifestState::Archived,
        title: "A".into(),
        creator: "carla".into(),
        department: None,
        project: None,
        organization: None,
        classification: Classification::Internal,
        media_type: "image/jpeg".into(),
        file_name: None,
        source: content.clone(),
        source_kept: true,
        definition: json!({}),
        metadata: json!({}),
        ingredients: vec![],
        signed: None,
        created_by: "user:1".into(),
        created_at: at,
        updated_at: at,
        archived: Some(Archived { at, retain_until: at + Duration::days(1) }),
        legal_hold: None,
        content_deleted_at: None,
    }
}

#[tokio::test]
async fn a_hold_that_comes_meanwhile_wins() {
    depends_on!(Database);
    let dir = tempfile::tempdir().unwrap();
    let url = combination::database_url(dir.path()).unwrap_or_else(|| format!("sqlite:{}", dir.path().join("db").display()));
    let database = Arc::new(SqlDatabase::connect(&url).await.unwrap());
    database.migrate().await.unwrap();
    let tier = async |name: &str| omt_blob::open(&format!("file:{}", dir.path().join(name).display()), dir.path()).await.unwrap();
    let blobs = Arc::new(TieredBlobStore::new(tier("hot").await, tier("warm").await, tier("cold").await));
    let (tenant, bytes) = (TenantId::default_tenant(), b"what the case is about".as_slice());
    let content = BlobRef { sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 };
    blobs.put(&tenant, &content, Content::Memory(bytes.into())).await.unwrap();
    let record = expired(&content);
    let unit = database.begin().await.unwrap();
    unit.manifests().insert(&record).await.unwrap();
    unit.blobs().add_uses(&tenant, record.id, &[(&content, BlobRole::Source)], record.created_at).await.unwrap();
    unit.commit().await.unwrap();

    let keys = KeystoreFile::open(&dir.path().join("keys.json"), "secret", ProviderName::AwsLc.provider()).unwrap();
    let keys = LogKeys::open(Arc::new(keys), "test/audit").unwrap();
    let tiles = Arc::new(FileBlobStore::open(&dir.path().join("tiles")).unwrap());
    let audit = AuditTrail::new(database.clone(), tiles, Arc::new(System), Arc::new(System), keys, Level::Standard);
    let mut held = record.clone();
    held.revision = 2;
    held.legal_hold = Some(LegalHold { reason: "Case 1".into(), placed_by: "user:1".into(), placed_at: record.updated_at });
    let retention = Retention {
        database: Arc::new(Meanwhile { database: database.clone(), change: Mutex::new(Some(held.clone())) }),
        blobs: blobs.clone(),
        clock: Arc::new(System),
        every: Duration::days(1),
        audit: Arc::new(audit),
        cdn: None,
        replica: None,
    };
    let kept = async || {
        let found = database.read().await.unwrap().manifests().get(&tenant, record.id).await.unwrap().unwrap();
        let uses = database.read().await.unwrap().blobs().uses(&tenant, &content.sha256).await.unwrap();
        (found.revision, found.content_deleted_at.is_none(), uses.len(), blobs.exists(&tenant, &content).await.unwrap())
    };
    assert_eq!(run(&retention).await["manifests"], 0);
    assert_eq!(kept().await, (2, true, 1, true), "it is held, and nothing of it went");
    assert_eq!(run(&retention).await["manifests"], 0);
    (held.revision, held.legal_hold) = (3, None);
    write(&database, &held).await;
    // The content itself is young, and the sweep's.
    let tally = run(&retention).await;
    assert_eq!((&tally["manifests"], &tally["left_to_sweep"]), (&json!(1), &json!(1)), "{tally}");
    assert_eq!(kept().await, (4, false, 0, true));
}

/// What a run of the job says in the end.
async fn run(retention: &Retention) -> Value {
    let (at, progress) = (OffsetDateTime::now_utc(), Progress::default());
    let job = JobRecord {
        id: JobId(Uuid::now_v7()),
        tenant: None,
        kind: retention.kind().into(),
        payload: Value::Null,
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
    assert!(retention.run(&job, &progress).await.is_ok());
    progress.get().unwrap()
}
