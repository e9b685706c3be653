//! Object lock, over buckets that have it: in moto, and in SeaweedFS.

use super::{blob, bucket, bytes_of, fresh};
use crate::{BucketFinding, LockRetention, S3BlobStore, S3Url};
use aws_sdk_s3::types::ObjectLockMode;
use omt_kernel::{
    OffsetDateTime, TenantId,
    manifest::BlobRef,
    port::{BlobStock, BlobStore, Content, Put},
    storage::{Lock, Locked},
};
use std::{path::Path, time::Duration};

/// A bucket of its own with object lock.
async fn locked(variable: &str, spool: &Path, retention: Option<LockRetention>) -> Option<S3BlobStore> {
    let url = bucket(variable)?;
    let url = S3Url { bucket: format!("lock-{}", uuid::Uuid::new_v4()), object_lock: true, lock_retention: retention, ..url };
    let store = S3BlobStore::open(&url, spool).await.unwrap();
    let made = store.client.create_bucket().bucket(&url.bucket).object_lock_enabled_for_bucket(true).send().await;
    made.unwrap();
    Some(store)
}

const HELD: Lock = Lock { held: true, retain_until: None };
const FREE: Lock = Lock { held: false, retain_until: None };

/// The versions of a blob, markers left out.
async fn versions(store: &S3BlobStore, name: &BlobRef) -> Vec<String> {
    let key = store.key(&TenantId::default_tenant(), name).unwrap();
    let page = store.client.list_object_versions().bucket(&store.url.bucket).prefix(key).send().await.unwrap();
    page.versions().iter().map(|version| version.version_id().unwrap().to_owned()).collect()
}

/// Deletes a version for good, past this adapter.
async fn destroy(store: &S3BlobStore, name: &BlobRef, version: &str) -> bool {
    let key = store.key(&TenantId::default_tenant(), name).unwrap();
    store.client.delete_object().bucket(&store.url.bucket).key(key).version_id(version).send().await.is_ok()
}

async fn holds(variable: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = locked(variable, dir.path(), None).await else { return };
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(50_000));
    let name = blob(&bytes);
    assert!(store.locks());
    assert_eq!(store.lock(&tenant, &name, HELD).await.unwrap(), Locked::Nothing);
    store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    assert!(store.is_locked(&tenant, &name, FREE).await.unwrap());
    assert!(!store.is_locked(&tenant, &name, HELD).await.unwrap());
    assert_eq!(store.lock(&tenant, &name, HELD).await.unwrap(), Locked::Changed);
    assert_eq!(store.lock(&tenant, &name, HELD).await.unwrap(), Locked::AsBefore);
    assert!(store.is_locked(&tenant, &name, HELD).await.unwrap());
    let version = versions(&store, &name).await.remove(0);
    assert!(!destroy(&store, &name, &version).await, "the bucket itself keeps it");
    // Deleted, it is hidden and not gone; listings and looks do not choke on the marker.
    store.delete(&tenant, &name).await.unwrap();
    store.delete(&tenant, &name).await.unwrap();
    assert!(!store.exists(&tenant, &name).await.unwrap());
    assert!(store.modified(&tenant, &name).await.unwrap().is_none());
    assert!(store.list(None, 10).await.unwrap().is_empty());
    assert!(store.open(&tenant, &name).await.is_err());
    assert_eq!(versions(&store, &name).await, std::slice::from_ref(&version));
    assert!(!destroy(&store, &name, &version).await);
    // It comes again as another version, and releasing it releases the one below.
    assert_eq!(store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap(), Put::Written);
    assert_eq!(bytes_of(&store.open(&tenant, &name).await.unwrap()), bytes);
    assert_eq!(store.lock(&tenant, &name, FREE).await.unwrap(), Locked::Changed);
    assert_eq!(store.lock(&tenant, &name, FREE).await.unwrap(), Locked::AsBefore);
    assert!(destroy(&store, &name, &version).await);
    // Nor does it matter that nothing is to be seen any more.
    store.lock(&tenant, &name, HELD).await.unwrap();
    store.delete(&tenant, &name).await.unwrap();
    let version = versions(&store, &name).await.remove(0);
    assert!(!destroy(&store, &name, &version).await);
    assert_eq!(store.lock(&tenant, &name, FREE).await.unwrap(), Locked::Changed);
    assert!(destroy(&store, &name, &version).await);
}

#[tokio::test]
async fn holds_in_moto() {
    holds("OMT_TEST_MOTO").await;
}

#[tokio::test]
async fn holds_in_seaweedfs() {
    holds("OMT_TEST_S3").await;
}

async fn retention(variable: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut store) = locked(variable, dir.path(), Some(LockRetention::Governance)).await else { return };
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(50_000));
    let name = blob(&bytes);
    store.put(&tenant, &name, Content::Memory(bytes.into())).await.unwrap();
    let until = |days: u64| {
        let at = OffsetDateTime::now_utc() + Duration::from_secs(days * 86_400);
        Lock { held: false, retain_until: Some(at) }
    };
    let retained = async |store: &S3BlobStore, name: &BlobRef| {
        store.head(&store.key(&tenant, name).unwrap()).await.unwrap().unwrap().retention.unwrap()
    };
    let (short, long) = (until(2), until(20));
    assert_eq!(store.lock(&tenant, &name, short).await.unwrap(), Locked::Changed);
    assert!(store.is_locked(&tenant, &name, short).await.unwrap());
    let (mode, end) = retained(&store, &name).await;
    assert_eq!(mode, ObjectLockMode::Governance);
    // Never shorter than was asked for, and to the second.
    let over = end - short.retain_until.unwrap();
    assert!((0..=1_000).contains(&over.whole_milliseconds()), "{over}");
    let version = versions(&store, &name).await.remove(0);
    assert!(!destroy(&store, &name, &version).await);
    // It is prolonged, and never shortened or taken back.
    assert_eq!(store.lock(&tenant, &name, long).await.unwrap(), Locked::Changed);
    for less in [short, FREE] {
        assert_eq!(store.lock(&tenant, &name, less).await.unwrap(), Locked::AsBefore);
    }
    assert!(retained(&store, &name).await.1 >= long.retain_until.unwrap());
    // What has a mode keeps it; what has none gets the one of the URL.
    store.url.lock_retention = Some(LockRetention::Compliance);
    assert_eq!(store.lock(&tenant, &name, until(30)).await.unwrap(), Locked::Changed);
    assert_eq!(retained(&store, &name).await.0, ObjectLockMode::Governance);
    let strict = blob(b"strict");
    store.put(&tenant, &strict, Content::Memory(b"strict".as_slice().into())).await.unwrap();
    assert_eq!(store.lock(&tenant, &strict, short).await.unwrap(), Locked::Changed);
    store.url.lock_retention = Some(LockRetention::Governance);
    assert_eq!(store.lock(&tenant, &strict, long).await.unwrap(), Locked::Changed);
    assert_eq!(retained(&store, &strict).await.0, ObjectLockMode::Compliance);
    // Where only holds are asked for, retention is left alone.
    store.url.lock_retention = None;
    assert_eq!(store.lock(&tenant, &name, until(90)).await.unwrap(), Locked::AsBefore);
}

#[tokio::test]
async fn retention_in_moto() {
    retention("OMT_TEST_MOTO").await;
}

#[tokio::test]
async fn retention_in_seaweedfs() {
    retention("OMT_TEST_S3").await;
}

#[tokio::test]
async fn buckets_with_locks_are_looked_after() {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = locked("OMT_TEST_MOTO", dir.path(), None).await else { return };
    let now = OffsetDateTime::now_utc();
    let faults = |found: Vec<BucketFinding>| {
        found.into_iter().filter_map(|f| f.fault.map(|(words, mend)| (f.subject, words, mend))).collect::<Vec<_>>()
    };
    let of_lock = |found: Vec<BucketFinding>| faults(found).into_iter().find(|(subject, ..)| *subject == "object lock");
    assert_eq!(of_lock(store.examine(now).await), None);
    assert!(store.needs_rules());
    assert_eq!(store.missing_rules().await.unwrap().len(), 3);
    let applied = store.apply_rules().await.unwrap();
    assert!(applied.iter().any(|name| name.ends_with("-old-versions")), "{applied:?}");
    assert_eq!(store.missing_rules().await.unwrap(), Vec::<String>::new());
    // A bucket without locks is named.
    let plain = S3Url { object_lock: true, ..bucket("OMT_TEST_MOTO").unwrap() };
    let plain = S3BlobStore::open(&plain, dir.path()).await.unwrap();
    let (_, words, mend) = of_lock(plain.examine(now).await).unwrap();
    assert!(words.contains("not enabled") && mend.contains("when a bucket is made"), "{words}; {mend}");
    // One that is asked for no locks gets none, and no rule for versions.
    let without = S3BlobStore::open(&S3Url { object_lock: false, ..plain.url }, dir.path()).await.unwrap();
    assert_eq!((without.missing_rules().await.unwrap().len(), without.needs_rules()), (2, false));
    let tenant = TenantId::default_tenant();
    assert_eq!(without.lock(&tenant, &blob(b"x"), HELD).await.unwrap(), Locked::Nothing);
}
