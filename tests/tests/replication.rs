//! Copies of blobs at another place, over whatever blob store the combination has, to a directory and to S3.

use omt_kernel::port::{BlobStock, Content};
use omt_kernel::{TenantId, manifest::BlobRef};
use omt_tests::{Server, combination, fixture, id, ok};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(90), "{what}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Targets of every kind that there is here, and the start of their configuration.
fn targets(dir: &Path) -> Vec<String> {
    let mut out = vec![format!("file:{}", dir.join("copy").display())];
    if let Ok(url) = std::env::var("OMT_TEST_S3") {
        let (place, query) = url.split_once('?').unwrap();
        out.push(format!("{place}/copy-{}?{query}", uuid::Uuid::new_v4().simple()));
    }
    out
}

fn config(url: &str, more: &str) -> String {
    format!("replication.url = \"{url}\"\nreplication.every_seconds = 1\n{more}")
}

async fn open(url: &str, dir: &Path) -> Arc<dyn BlobStock> {
    omt_blob::open(url, &dir.join("test-spool")).await.unwrap()
}

/// The digests of what a store holds; each object's bytes are what its name says.
async fn held(store: &dyn BlobStock) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for object in store.list(None, 1000).await.unwrap() {
        let content = store.open(&object.tenant, &object.blob).await.unwrap();
        let bytes = match &content {
            Content::Memory(bytes) => bytes.to_vec(),
            Content::File(file) => std::fs::read(file.path()).unwrap(),
            Content::Stored(file) => std::fs::read(file.path()).unwrap(),
        };
        assert_eq!(hex::encode(Sha256::digest(&bytes)), object.blob.sha256);
        out.insert(object.blob.sha256);
    }
    out
}

async fn state(server: &Server) -> Value {
    server.json("/api/v1/admin/storage").await["replication"].clone()
}

async fn stored(server: &Server) -> u64 {
    let usage = server.json("/api/v1/admin/storage").await;
    usage["items"].as_array().unwrap().iter().map(|item| item["blobs"].as_u64().unwrap()).sum()
}

async fn metrics(server: &Server) -> String {
    let key = server.key("default", &["metrics:read"]).await;
    server.anonymous("GET", "/metrics").bearer_auth(&key).send().await.unwrap().text().await.unwrap()
}

async fn complete(server: &Server) {
    eventually("everything is copied", async || {
        let state = state(server).await;
        state["pending_blobs"] == 0 && state["last_copied_at"].is_string()
    })
    .await;
}

fn digest(bytes: &[u8]) -> BlobRef {
    BlobRef { sha256: hex::encode(Sha256::digest(bytes)), size: bytes.len() as u64 }
}

/// Where the combination has its hot blobs.
fn hot_url(dir: &Path, config: &str) -> String {
    let environment = combination::environment(dir, config);
    let url = environment.into_iter().find(|(name, _)| *name == "OMT_BLOB__URL").map(|(_, url)| url);
    url.unwrap_or_else(|| format!("file:{}", dir.join("data/blobs").display()))
}

#[tokio::test]
async fn every_blob_has_a_copy_that_is_read_when_the_tiers_fail() {
    let places = tempfile::tempdir().unwrap();
    for url in targets(places.path()) {
        let config = config(&url, "");
        let server = Server::start_with(&config).await;
        let (first, second) =
            (server.signed("a.jpg", fixture("a.jpg"), &[]).await, server.signed("a.txt", fixture("a.txt"), &[]).await);
        let contents = [server.content(&first).await, server.content(&second).await];
        complete(&server).await;
        let target = open(&url, places.path()).await;
        let copies = held(target.as_ref()).await;
        assert_eq!(copies.len() as u64, stored(&server).await);
        assert!(contents.iter().all(|bytes| copies.contains(&digest(bytes).sha256)));
        let now = state(&server).await;
        assert_eq!((now["pending_bytes"].as_u64(), now["lag_seconds"].as_f64()), (Some(0), Some(0.0)), "{now}");
        assert!(!now["target"].as_str().unwrap().is_empty());
        let text = metrics(&server).await;
        for line in ["omt_replication_lag_seconds 0", "omt_replication_pending_blobs 0", "omt_replication_pending_bytes 0"] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("omt_replica_reads_total 1"));
        // A tenant's own administrators do not see where the platform keeps its copies.
        let theirs = server.tenant("acme").await;
        let seen = server.anonymous("GET", "/api/v1/admin/storage").bearer_auth(&theirs).send().await.unwrap();
        assert!(ok(seen, StatusCode::OK).await["replication"].is_null());
        // The tiers lose a blob.
        let hot = open(&hot_url(server.dir.path(), &config), places.path()).await;
        hot.delete(&TenantId::default_tenant(), &digest(&contents[0])).await.unwrap();
        assert_eq!(server.content(&first).await, contents[0]);
        assert_eq!(server.json(&format!("/api/v1/manifests/{}/report", id(&first))).await["validation_state"], "trusted");
        let reads = metrics(&server).await;
        let reads = reads.lines().find_map(|line| line.strip_prefix("omt_replica_reads_total ")).unwrap().parse::<u64>().unwrap();
        assert!(reads >= 1);
        // A copy that lost its bytes is not taken for one: here nobody has them any more.
        target.delete(&TenantId::default_tenant(), &digest(&contents[0])).await.unwrap();
        let gone = server.get(&format!("/api/v1/manifests/{}/content", id(&first))).await;
        assert!(gone.status().is_server_error() || gone.bytes().await.is_err());
    }
}

/// Connections pass while it is open, and are closed when it is not.
async fn gate(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mine, open) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(true)));
    let passes = open.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let passes = passes.clone();
            tokio::spawn(async move {
                let Ok(mut to) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                let closed = async {
                    while passes.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                    () = closed => {}
                }
            });
        }
    });
    (mine, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_rises_while_the_target_is_away_and_nothing_else_suffers() {
    let places = tempfile::tempdir().unwrap();
    for mut url in targets(places.path()) {
        let mut open = None;
        if let Some((_, rest)) = url.clone().split_once("127.0.0.1:") {
            let real: u16 = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
            let (port, switch) = gate(real).await;
            url = url.replace(&real.to_string(), &port.to_string());
            open = Some(switch);
        }
        let (place, aside) = (places.path().join("copy"), places.path().join("away"));
        let set = |up: bool| match &open {
            Some(open) => open.store(up, Ordering::SeqCst),
            None if up => std::fs::rename(&aside, &place).unwrap(),
            None => std::fs::rename(&place, &aside).unwrap(),
        };
        let config = config(&url, "");
        let server = Server::start_with(&config).await;
        server.signed("a.jpg", fixture("a.jpg"), &[]).await;
        complete(&server).await;
        let doctor = || Server::command(server.dir.path(), &config).arg("doctor").output().unwrap();
        assert!(String::from_utf8_lossy(&doctor().stdout).contains("ok    replica"));
        set(false);
        let record = server.signed("a.png", fixture("a.png"), &[]).await;
        let lag = async || state(&server).await["lag_seconds"].as_f64().unwrap();
        eventually("the lag is over two seconds", async || lag().await > 2.0).await;
        let earlier = lag().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(lag().await > earlier + 1.0);
        assert_eq!(state(&server).await["pending_blobs"], 2);
        assert!(metrics(&server).await.contains("omt_replication_pending_blobs 2"));
        assert_eq!(server.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
        assert!(!server.content(&record).await.is_empty());
        if open.is_some() {
            let said = String::from_utf8_lossy(&doctor().stdout).into_owned();
            assert!(said.contains("FAIL  replica") && said.contains("replication.url"), "{said}");
        }
        eventually("the job says what is wrong", async || {
            let jobs = server.json("/api/v1/admin/jobs?kind=replicate").await;
            let jobs = jobs["items"].as_array().unwrap();
            assert!(jobs.iter().all(|job| job["state"] != "dead"), "{jobs:?}");
            jobs.iter().any(|job| job["progress"]["error"].is_string())
        })
        .await;
        set(true);
        complete(&server).await;
        assert_eq!(lag().await, 0.0);
        let target = omt_blob::open(&url, &places.path().join("test-spool")).await.unwrap();
        assert_eq!(held(target.as_ref()).await.len() as u64, stored(&server).await);
    }
}

/// A worker that ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // With SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn killed_again_and_again_it_ends_complete() {
    let places = tempfile::tempdir().unwrap();
    for url in targets(places.path()) {
        let config = config(&url, "[jobs]\nin_process = \"never\"\n");
        let server = Server::start_with(&config).await;
        for n in 0..30 {
            let text = [fixture("a.txt"), format!("{n}").into_bytes()].concat();
            server.signed("a.txt", text, &[]).await;
        }
        // One large enough to be cut off within.
        server.signed("a.txt", [fixture("a.txt"), vec![b'x'; 12 << 20]].concat(), &[]).await;
        let all = stored(&server).await;
        assert_eq!(state(&server).await["pending_blobs"].as_u64(), Some(all));
        let start = || Worker(Server::command(server.dir.path(), &config).arg("worker").stdout(Stdio::null()).spawn().unwrap());
        for round in 0..combination::current().kills(6) {
            let worker = start();
            let (before, began) = (state(&server).await["pending_blobs"].clone(), Instant::now());
            // Killed a moment after it has begun, or when nothing is left.
            while state(&server).await["pending_blobs"] == before && before != 0 && began.elapsed() < Duration::from_secs(20) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(20 * round as u64)).await;
            drop(worker);
        }
        let _worker = start();
        complete(&server).await;
        let target = open(&url, places.path()).await;
        assert_eq!(held(target.as_ref()).await.len() as u64, all);
    }
}

#[tokio::test]
async fn retention_and_sweeps_remove_the_copies_and_holds_keep_them() {
    let places = tempfile::tempdir().unwrap();
    let quick = "[lifecycle]\nmove_every_seconds = 3600\nretention_every_seconds = 1\nsweep_every_seconds = 1\nsweep_after_seconds = 2\n\
                 [tenant_defaults.retention_days_by_classification]\ninternal = 0\n";
    for url in targets(places.path()) {
        let config = config(&url, quick);
        let server = Server::start_with(&config).await;
        let path = |record: &Value| format!("/api/v1/manifests/{}", id(record));
        let (gone, kept) =
            (server.signed("a.jpg", fixture("a.jpg"), &[]).await, server.signed("a.png", fixture("a.png"), &[]).await);
        let (gone_bytes, kept_bytes) = (digest(&server.content(&gone).await), digest(&server.content(&kept).await));
        complete(&server).await;
        let (target, hot) = (open(&url, places.path()).await, open(&hot_url(server.dir.path(), &config), places.path()).await);
        assert_eq!(held(target.as_ref()).await.len(), 4);
        let hold = server.request("PUT", &format!("{}/legal-hold", path(&kept))).json(&json!({ "reason": "Case 9" }));
        ok(hold.send().await.unwrap(), StatusCode::OK).await;
        // A copy of what no record names, as a crash may leave it.
        let stray = digest(b"stray");
        let tenant = TenantId::default_tenant();
        target.put(&tenant, &stray, Content::Memory(b"stray".as_slice().into())).await.unwrap();
        assert_eq!(server.request("DELETE", &path(&gone)).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let there =
            async |blob: &BlobRef| [hot.exists(&tenant, blob).await.unwrap(), target.exists(&tenant, blob).await.unwrap()];
        eventually("the content is gone from both", async || there(&gone_bytes).await == [false, false]).await;
        eventually("the stray is swept", async || !target.exists(&tenant, &stray).await.unwrap()).await;
        assert_eq!(there(&kept_bytes).await, [true, true]);
        // The evidence stays, here and there.
        let names = held(target.as_ref()).await;
        assert_eq!(names.len() as u64, stored(&server).await);
        assert_eq!((names.len(), names.contains(&kept_bytes.sha256)), (3, true));
        // Released, it goes as any other.
        let released = server.request("DELETE", &format!("{}/legal-hold", path(&kept))).send().await.unwrap();
        ok(released, StatusCode::OK).await;
        assert_eq!(server.request("DELETE", &path(&kept)).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        eventually("it is gone from both", async || there(&kept_bytes).await == [false, false]).await;
        assert_eq!(state(&server).await["pending_blobs"], 0);
    }
}

#[test]
fn a_target_within_a_tier_stops_the_start() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "replication.url = \"file:{}\"\n[blob]\nurl = \"file:{}\"\n",
        dir.path().join("blobs/copy").display(),
        dir.path().join("blobs").display()
    );
    let output = Server::command(dir.path(), &config).arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("replication.url and the hot tier lie within each other"), "{said}");
}
