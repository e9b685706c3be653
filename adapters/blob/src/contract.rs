//! What every blob store must do, run over each adapter: always over a directory, over S3 where `OMT_TEST_S3` and
//! `OMT_TEST_MOTO` name a bucket (see `tests/services`).

use crate::{FileBlobStore, S3BlobStore};
use bytes::Bytes;
use futures_util::TryStreamExt;
use omt_kernel::{
    Kind, TenantId,
    manifest::BlobRef,
    port::{BlobStore, Content, TemporaryFile},
};
use sha2::{Digest, Sha256};
use std::{fs, ops::Range};

fn blob(bytes: &[u8]) -> BlobRef {
    BlobRef { sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 }
}

/// Bytes that no other test has.
fn fresh(len: usize) -> Vec<u8> {
    let seed = uuid::Uuid::new_v4();
    seed.as_bytes().iter().copied().cycle().take(len).enumerate().map(|(n, b)| b ^ (n >> 8) as u8).collect()
}

async fn all(store: &dyn BlobStore, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Vec<u8> {
    let chunks: Vec<Bytes> = store.read(tenant, blob, range).await.unwrap().try_collect().await.unwrap();
    chunks.concat()
}

fn bytes_of(content: &Content) -> Vec<u8> {
    match content {
        Content::Memory(bytes) => bytes.to_vec(),
        Content::File(temporary) => fs::read(temporary.path()).unwrap(),
        Content::Stored(path) => fs::read(path).unwrap(),
    }
}

fn spooled(store: &dyn BlobStore, bytes: &[u8]) -> Content {
    let path = store.spool_dir().join(uuid::Uuid::new_v4().to_string());
    fs::write(&path, bytes).unwrap();
    Content::File(TemporaryFile::new(path))
}

async fn suite(store: &dyn BlobStore) {
    store.check().await.unwrap();
    let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());

    // Put, twice; read whole, in parts and not at all.
    let bytes = fresh(700_000);
    let name = blob(&bytes);
    for _ in 0..2 {
        store.put(&a, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    }
    assert_eq!(all(store, &a, &name, 0..name.size).await, bytes);
    assert_eq!(all(store, &a, &name, 299_999..600_001).await, bytes[299_999..600_001]);
    assert!(all(store, &a, &name, 5..5).await.is_empty());
    assert_eq!(bytes_of(&store.open(&a, &name).await.unwrap()), bytes);

    // Another tenant sees nothing of it.
    assert!(store.exists(&a, &name).await.unwrap());
    assert!(!store.exists(&b, &name).await.unwrap());
    assert!(store.open(&b, &name).await.is_err());

    // A large one, from a file; opened, it is whole.
    let large = fresh(40 << 20);
    let large_name = blob(&large);
    store.put(&a, &large_name, spooled(store, &large)).await.unwrap();
    assert!(bytes_of(&store.open(&a, &large_name).await.unwrap()) == large);
    store.delete(&a, &large_name).await.unwrap();

    // From a file to another tenant.
    store.put(&b, &name, spooled(store, &bytes)).await.unwrap();
    assert_eq!(all(store, &b, &name, 0..name.size).await, bytes);

    // Deleting is final, per tenant, and may be repeated.
    store.delete(&a, &name).await.unwrap();
    store.delete(&a, &name).await.unwrap();
    assert!(!store.exists(&a, &name).await.unwrap());
    assert!(store.exists(&b, &name).await.unwrap());
    store.delete(&b, &name).await.unwrap();

    // An empty blob is a blob.
    let nothing = blob(b"");
    store.put(&a, &nothing, Content::Memory(Bytes::new())).await.unwrap();
    assert!(store.exists(&a, &nothing).await.unwrap());
    assert!(bytes_of(&store.open(&a, &nothing).await.unwrap()).is_empty());

    // A name that is not a digest is never a path or a key.
    let evil = BlobRef { sha256: "../".repeat(21) + "x", size: 1 };
    assert_eq!(store.exists(&a, &evil).await.unwrap_err().kind, Kind::Internal);

    // No temporary file stays behind.
    assert_eq!(fs::read_dir(store.spool_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory() {
    let dir = tempfile::tempdir().unwrap();
    suite(&FileBlobStore::open(dir.path()).unwrap()).await;
}

/// The bucket that a variable names, with a prefix of this test's own.
fn bucket(variable: &str) -> Option<crate::S3Url> {
    let mut url: crate::S3Url = std::env::var(variable).ok()?.parse().unwrap();
    url.prefix = format!("{}/", uuid::Uuid::new_v4());
    Some(url)
}

#[tokio::test]
async fn seaweedfs() {
    let Some(url) = bucket("OMT_TEST_S3") else { return };
    let dir = tempfile::tempdir().unwrap();
    suite(&S3BlobStore::open(&url, dir.path()).await.unwrap()).await;
}

#[tokio::test]
async fn moto() {
    let Some(url) = bucket("OMT_TEST_MOTO") else { return };
    let dir = tempfile::tempdir().unwrap();
    suite(&S3BlobStore::open(&url, dir.path()).await.unwrap()).await;
}

/// Each fault has its code and says nothing of the service's own words.
#[tokio::test]
async fn faults_have_names() {
    let Some(url) = bucket("OMT_TEST_MOTO") else { return };
    let dir = tempfile::tempdir().unwrap();
    let missing = crate::S3Url { bucket: "no-such-bucket".into(), ..url.clone() };
    let gone = crate::S3Url { endpoint: Some("http://127.0.0.1:9".into()), ..url };
    let bytes = fresh(10);
    for (url, code) in [(missing, "BLOB_STORE_MISSING"), (gone, "BLOB_STORE_UNAVAILABLE")] {
        let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
        let put = store.put(&TenantId::default_tenant(), &blob(&bytes), Content::Memory(bytes.clone().into())).await;
        let error = put.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unavailable, code), "{error}");
        assert!(error.retry_after.is_some());
    }
}
