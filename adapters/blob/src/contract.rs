//! What every blob store must do, run over each adapter: always over a directory, over S3 where `OMT_TEST_S3` and
//! `OMT_TEST_MOTO` name a bucket (see `tests/services`).

mod archive;
mod faults;
mod lock;

use crate::{FileBlobStore, S3BlobStore};
use bytes::Bytes;
use futures_util::TryStreamExt;
use omt_kernel::{
    Kind, TenantId,
    manifest::BlobRef,
    port::{BlobStock, BlobStore, Content, Put, TemporaryFile},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fs, ops::Range};

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
        Content::Stored(file) => fs::read(file.path()).unwrap(),
    }
}

fn spooled(store: &dyn BlobStore, bytes: &[u8]) -> Content {
    let path = store.spool_dir().join(uuid::Uuid::new_v4().to_string());
    fs::write(&path, bytes).unwrap();
    Content::File(TemporaryFile::new(path))
}

async fn suite(store: &dyn BlobStock) {
    store.check().await.unwrap();
    let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());

    // What nobody can have stored before is there as if it had been put the other way.
    let new = fresh(300_000);
    store.put_new(&a, &blob(&new), Content::Memory(new.clone().into())).await.unwrap();
    assert_eq!(all(store, &a, &blob(&new), 0..300_000).await, new);
    assert_eq!(store.put(&a, &blob(&new), Content::Memory(new.into())).await.unwrap(), Put::Present);

    // Put, twice; read whole, in parts and not at all.
    let bytes = fresh(700_000);
    let name = blob(&bytes);
    for put in [Put::Written, Put::Present] {
        assert_eq!(store.put(&a, &name, Content::Memory(bytes.clone().into())).await.unwrap(), put);
    }
    assert_eq!(all(store, &a, &name, 0..name.size).await, bytes);
    assert_eq!(all(store, &a, &name, 299_999..600_001).await, bytes[299_999..600_001]);
    assert!(all(store, &a, &name, 5..5).await.is_empty());
    assert_eq!(bytes_of(&store.open(&a, &name).await.unwrap()), bytes);

    // It is listed, once, with its size and a time.
    let listed = store.list(None, 100).await.unwrap();
    let mine: Vec<_> = listed.iter().filter(|l| l.blob == name).collect();
    assert_eq!((mine.len(), &mine[0].tenant), (1, &a));
    assert!((omt_kernel::OffsetDateTime::now_utc() - mine[0].modified).whole_seconds().abs() < 60);
    assert!(store.list(Some(&mine[0].key), 100).await.unwrap().iter().all(|l| l.key > mine[0].key));
    assert_eq!(store.list(None, 1).await.unwrap().len(), 1);
    assert!(store.modified(&a, &name).await.unwrap().is_some());
    assert!(store.modified(&b, &name).await.unwrap().is_none());
    assert_eq!(store.abort_uploads(omt_kernel::OffsetDateTime::UNIX_EPOCH).await.unwrap(), 0);

    // Page by page nothing is passed over, however the names of tenants compare with what separates them from the rest.
    let kin = ["kin", "kin-2"].map(|name| TenantId::parse(name).unwrap());
    let mut wanted = BTreeSet::new();
    for tenant in kin.iter().flat_map(|tenant| [tenant; 3]) {
        let bytes = fresh(10);
        store.put(tenant, &blob(&bytes), Content::Memory(bytes.clone().into())).await.unwrap();
        wanted.insert((tenant.clone(), blob(&bytes).sha256));
    }
    let (mut after, mut seen) = (None, Vec::new());
    while let Some(last) = store
        .list(after.as_deref(), 2)
        .await
        .unwrap()
        .into_iter()
        .inspect(|l| seen.push((l.tenant.clone(), l.blob.sha256.clone())))
        .last()
    {
        after = Some(last.key);
    }
    seen.retain(|(tenant, _)| kin.contains(tenant));
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (wanted.len(), wanted));

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

/// Tiers over any store: what moves is whole, and read wherever it is.
async fn tiers(hot: &str, spool: &std::path::Path) {
    use omt_kernel::{port::TieredStore, storage::Tier};
    let mut stores = Vec::new();
    for tier in Tier::ALL {
        stores.push(crate::open(&crate::tier_url(hot, tier), spool).await.unwrap());
    }
    let [hot, warm, cold]: [std::sync::Arc<dyn BlobStock>; 3] = stores.try_into().ok().unwrap();
    let tiered = crate::TieredBlobStore::new(hot.clone(), warm.clone(), cold.clone());
    let (tenant, bytes) = (TenantId::parse("a").unwrap(), fresh(100_000));
    let name = blob(&bytes);
    tiered.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    for (from, to, store) in [(Tier::Hot, Tier::Warm, &warm), (Tier::Warm, Tier::Cold, &cold)] {
        tiered.copy(&tenant, &name, from, to).await.unwrap();
        tiered.copy(&tenant, &name, from, to).await.unwrap();
        tiered.remove(&tenant, &name, from).await.unwrap();
        assert!(store.exists(&tenant, &name).await.unwrap());
        assert_eq!(bytes_of(&tiered.open(&tenant, &name).await.unwrap()), bytes);
        assert_eq!(all(&tiered, &tenant, &name, 10..20).await, bytes[10..20]);
        assert!(tiered.list_tier(to, None, 100).await.unwrap().iter().any(|l| l.blob == name));
        assert!(tiered.list_tier(from, None, 100).await.unwrap().iter().all(|l| l.blob != name));
    }
    for (tier, there) in [(Tier::Hot, false), (Tier::Warm, false), (Tier::Cold, true)] {
        assert_eq!(tiered.modified(&tenant, &name, tier).await.unwrap().is_some(), there);
        assert_eq!(tiered.verify(&tenant, &name, tier).await.is_ok(), there);
    }
    tiered.remove(&tenant, &name, Tier::Cold).await.unwrap();
    assert!(!tiered.exists(&tenant, &name).await.unwrap());
    assert!(tiered.copy(&tenant, &name, Tier::Hot, Tier::Warm).await.is_err());
}

#[tokio::test]
async fn tiers_in_directories() {
    let dir = tempfile::tempdir().unwrap();
    tiers(&format!("file:{}", dir.path().display()), dir.path()).await;
}

#[tokio::test]
async fn tiers_in_seaweedfs() {
    let Some(url) = omt_tests::service("OMT_TEST_S3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (place, query) = url.split_once('?').unwrap();
    tiers(&format!("{place}/{}?{query}", uuid::Uuid::new_v4()), dir.path()).await;
}

/// moto keeps storage classes, so it shows that they are asked for.
#[tokio::test]
async fn tiers_in_moto() {
    let Some(url) = omt_tests::service("OMT_TEST_MOTO") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (place, query) = url.split_once('?').unwrap();
    tiers(&format!("{place}/{}?{query}", uuid::Uuid::new_v4()), dir.path()).await;
}

/// The bucket that a variable names, with a prefix of this test's own.
fn bucket(variable: &str) -> Option<crate::S3Url> {
    let mut url: crate::S3Url = omt_tests::service(variable)?.parse().unwrap();
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

/// Uploads that never ended go when they are old and not before: those in parts.
#[tokio::test]
async fn old_uploads_in_parts_go() {
    // moto says of every upload that it began in 2010.
    let Some(url) = bucket("OMT_TEST_S3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    store.begin_parts(&format!("{}a/b", url.prefix), None, crate::s3_parts::Origin::Itself).await.unwrap();
    let (now, hour) = (omt_kernel::OffsetDateTime::now_utc(), std::time::Duration::from_secs(3600));
    assert_eq!(store.abort_uploads(now - hour).await.unwrap(), 0);
    assert_eq!(store.abort_uploads(now + hour).await.unwrap(), 1);
    assert_eq!(store.abort_uploads(now + hour).await.unwrap(), 0);
}

/// And direct ones that nobody took.
#[tokio::test]
async fn old_direct_uploads_go() {
    // SeaweedFS lists nothing below `.uploads`, a name that it uses itself.
    let Some(url) = bucket("OMT_TEST_MOTO") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(100));
    let key = format!("{}.uploads/{tenant}/{}", url.prefix, blob(&bytes).sha256);
    store.client.put_object().bucket(&url.bucket).key(key).body(bytes.clone().into()).send().await.unwrap();
    let (now, hour) = (omt_kernel::OffsetDateTime::now_utc(), std::time::Duration::from_secs(3600));
    assert_eq!(store.abort_uploads(now - hour).await.unwrap(), 0);
    assert_eq!(bytes_of(&store.uploaded(&tenant, &blob(&bytes).sha256, 1000).await.unwrap().unwrap().1), bytes);
    assert_eq!(store.abort_uploads(now + hour).await.unwrap(), 1);
    assert!(store.uploaded(&tenant, &blob(&bytes).sha256, 1000).await.unwrap().is_none());
}

/// SeaweedFS checks presigned URLs; moto does not.
#[tokio::test]
async fn direct_urls_end() {
    use omt_kernel::port::DirectDownload;
    use std::time::{Duration, Instant};
    let Some(url) = bucket("OMT_TEST_S3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    let (tenant, bytes) = (TenantId::default_tenant(), fresh(1000));
    let name = blob(&bytes);
    store.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    let wanted =
        DirectDownload { expires: Duration::from_secs(4), media_type: "image/png".into(), disposition: "attachment".into() };
    let curl = |arguments: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        let output = curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let get = store.direct_download(&tenant, &name, &wanted).await.unwrap().unwrap();
    let put = store.direct_upload(&tenant, &name, wanted.expires).await.unwrap().unwrap();
    let sent = dir.path().join("sent");
    fs::write(&sent, &bytes).unwrap();
    let headers: Vec<String> = put.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut upload = vec!["-T", sent.to_str().unwrap()];
    upload.extend(headers.iter().flat_map(|header| ["-H", header.as_str()]));
    upload.push(&put.url);
    let status = || (curl(&[&get]), curl(&upload));
    assert_eq!(status(), ("200".into(), "200".into()));
    let began = Instant::now();
    while status() != ("403".into(), "403".into()) {
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", status());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    store.unstage(&tenant, &name.sha256).await.unwrap();
}

/// moto knows lifecycle rules and public access blocks.
#[tokio::test]
async fn buckets_are_looked_after() {
    let Some(url) = bucket("OMT_TEST_MOTO") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = S3BlobStore::open(&url, dir.path()).await.unwrap();
    assert_eq!(store.missing_rules().await.unwrap().len(), 2);
    let applied = store.apply_rules().await.unwrap();
    assert_eq!(store.missing_rules().await.unwrap(), Vec::<String>::new());
    // Another prefix's rules stay.
    let other = bucket("OMT_TEST_MOTO").unwrap();
    let other = S3BlobStore::open(&other, dir.path()).await.unwrap();
    assert_ne!(other.apply_rules().await.unwrap(), applied);
    assert_eq!(store.missing_rules().await.unwrap(), Vec::<String>::new());
    let now = omt_kernel::OffsetDateTime::now_utc();
    let faults =
        |found: Vec<crate::BucketFinding>| found.into_iter().filter(|f| f.fault.is_some()).map(|f| f.subject).collect::<Vec<_>>();
    assert_eq!(faults(store.examine(now).await), ["public access"]);
    let late = now - std::time::Duration::from_secs(3600);
    assert_eq!(faults(store.examine(late).await), ["clock", "public access"]);
    let missing = S3BlobStore::open(&crate::S3Url { bucket: "no-such-bucket".into(), ..url }, dir.path()).await.unwrap();
    assert_eq!(faults(missing.examine(now).await), ["bucket"]);
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

/// Counts reads of a replica.
#[derive(Default)]
struct Reads(std::sync::atomic::AtomicU32);

impl omt_kernel::port::Telemetry for Reads {
    fn request(&self, _: &str, _: &str, _: u16, _: std::time::Duration) {}
    fn refused(&self, _: &'static str) {}
    fn attempt(&self, _: &str, _: &'static str, _: std::time::Duration, _: std::time::Duration) {}
    fn verified(&self, _: &str) {}
    fn manifest(&self, _: &'static str) {}
    fn cache(&self, _: &'static str, _: bool) {}
    fn shadow_policy(&self, _: bool) {}
    fn replica_read(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
    fn render(&self, _: &omt_kernel::port::Gauges) -> omt_kernel::Result<String> {
        Ok(String::new())
    }
}

/// What no tier gives is read from the replica, whatever kind of store it is.
async fn rescued(replica: &str, spool: &std::path::Path) {
    use omt_kernel::{port::TieredStore, storage::Tier};
    let dir = tempfile::tempdir().unwrap();
    let tier = async |name: &str| crate::open(&format!("file:{}", dir.path().join(name).display()), spool).await.unwrap();
    let (copy, reads) = (crate::open(replica, spool).await.unwrap(), std::sync::Arc::new(Reads::default()));
    let tiered = crate::TieredBlobStore::new(tier("hot").await, tier("warm").await, tier("cold").await);
    let tiered = tiered.with_replica(copy.clone(), reads.clone());
    let count = || reads.0.load(std::sync::atomic::Ordering::SeqCst);
    let (tenant, bytes) = (TenantId::parse("a").unwrap(), fresh(300_000));
    let name = blob(&bytes);
    tiered.put(&tenant, &name, Content::Memory(bytes.clone().into())).await.unwrap();
    assert!(!copy.exists(&tenant, &name).await.unwrap(), "nothing is copied by itself");
    copy.put(&tenant, &name, tiered.open(&tenant, &name).await.unwrap()).await.unwrap();
    assert_eq!((all(&tiered, &tenant, &name, 0..name.size).await == bytes, count()), (true, 0));
    tiered.remove(&tenant, &name, Tier::Hot).await.unwrap();
    assert!(all(&tiered, &tenant, &name, 5..200_000).await == bytes[5..200_000]);
    assert!(bytes_of(&tiered.open(&tenant, &name).await.unwrap()) == bytes);
    assert_eq!(count(), 2);
    // It is no tier: what is only there is not stored, and another tenant has nothing of it.
    assert!(!tiered.exists(&tenant, &name).await.unwrap());
    assert!(tiered.open(&TenantId::parse("b").unwrap(), &name).await.is_err());
    copy.delete(&tenant, &name).await.unwrap();
    assert_eq!(tiered.open(&tenant, &name).await.unwrap_err().kind, Kind::Internal);
    assert!(tiered.read(&tenant, &name, 0..name.size).await.is_err());
    assert_eq!(count(), 2);
}

#[tokio::test]
async fn a_replica_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    rescued(&format!("file:{}", dir.path().join("copy").display()), dir.path()).await;
}

#[tokio::test]
async fn a_replica_in_seaweedfs() {
    let Ok(url) = std::env::var("OMT_TEST_S3") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (place, query) = url.split_once('?').unwrap();
    rescued(&format!("{place}/{}?{query}", uuid::Uuid::new_v4()), dir.path()).await;
}

/// A temporary file of another file system is copied into place, not renamed.
#[tokio::test]
async fn content_comes_from_other_file_systems() {
    use std::os::unix::fs::MetadataExt;
    let (dir, other) = (tempfile::tempdir().unwrap(), std::path::Path::new("/dev/shm"));
    let device = |path: &std::path::Path| fs::metadata(path).map(|m| m.dev()).ok();
    if device(other).is_none() || device(other) == device(dir.path()) {
        return;
    }
    let store = FileBlobStore::open(dir.path()).unwrap();
    let (tenant, bytes) = (TenantId::parse("a").unwrap(), fresh(100_000));
    let path = other.join(uuid::Uuid::new_v4().to_string());
    fs::write(&path, &bytes).unwrap();
    let content = Content::File(TemporaryFile::new(path.clone()));
    assert_eq!(store.put(&tenant, &blob(&bytes), content).await.unwrap(), Put::Written);
    assert!(bytes_of(&store.open(&tenant, &blob(&bytes)).await.unwrap()) == bytes);
    assert!(!path.exists() && fs::read_dir(store.spool_dir()).unwrap().count() == 0);
}
