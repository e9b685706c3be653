//! An S3 that fails a twentieth of all calls, while servers and workers are killed at random times.

use crate::replica::{Process, Replica, every, jobs, times, worker};
use omt_tests::{combination, fixture, form, id};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// Larger than what is sent to S3 in one piece.
const LARGE: usize = 33 << 20;

/// A server and two workers over one directory, which are killed and started again.
struct Fleet {
    dir: PathBuf,
    config: Mutex<String>,
    server: Mutex<Arc<Replica>>,
    workers: Mutex<[Process; 2]>,
    kills: [AtomicUsize; 2],
    refused: AtomicUsize,
    cut_off: AtomicUsize,
}

/// A number below `end`.
fn chance(end: u64) -> u64 {
    uuid::Uuid::new_v4().as_u128() as u64 % end
}

impl Fleet {
    async fn start(dir: PathBuf, config: &str) -> Self {
        let server = Mutex::new(Arc::new(Replica::start(&dir, config).await));
        let workers = Mutex::new([worker(&dir, config), worker(&dir, config)]);
        let config = Mutex::new(config.to_owned());
        Self { dir, config, server, workers, kills: Default::default(), refused: 0.into(), cut_off: 0.into() }
    }

    fn server(&self) -> Arc<Replica> {
        self.server.lock().unwrap().clone()
    }

    /// Kills a worker, and another takes its place.
    fn kill_worker(&self, which: usize) {
        let config = self.config.lock().unwrap().clone();
        let mut workers = self.workers.lock().unwrap();
        workers[which].kill();
        workers[which] = worker(&self.dir, &config);
        self.kills[0].fetch_add(1, Ordering::Relaxed);
    }

    async fn kill_server(&self) {
        self.server().kill();
        let config = self.config.lock().unwrap().clone();
        let next = Arc::new(Replica::start(&self.dir, &config).await);
        *self.server.lock().unwrap() = next;
        self.kills[1].fetch_add(1, Ordering::Relaxed);
    }

    /// Kills one of them at random times until told to stop: every eighth time the server.
    async fn harass(&self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(200 + chance(1_600))).await;
            match chance(8) {
                0 => self.kill_server().await,
                n => self.kill_worker(n as usize % 2),
            }
        }
    }

    /// Uploads and signs, with one key for as often as it takes; the manifest's identifier.
    async fn upload(&self, key: &str, bytes: &[u8]) -> String {
        let began = Instant::now();
        loop {
            let form = form("a.txt", bytes.to_vec(), &[("sign", "true")]);
            let request = self.server().request("POST", "/api/v1/manifests").header("idempotency-key", key);
            match request.multipart(form).send().await {
                Ok(answer) if answer.status() == StatusCode::CREATED => {
                    // Acknowledged only when the whole answer arrived.
                    if let Ok(record) = answer.json::<Value>().await {
                        return id(&record).to_owned();
                    }
                    self.cut_off.fetch_add(1, Ordering::Relaxed);
                }
                // A clear answer, and the caller may try again.
                Ok(answer) => {
                    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{:?}", answer.text().await);
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => drop(self.cut_off.fetch_add(1, Ordering::Relaxed)),
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{key} is never taken");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The SHA-256 of a manifest's content.
    async fn digest(&self, id: &str) -> String {
        for _ in 0..10 {
            let answer = self.server().request("GET", &format!("/api/v1/manifests/{id}/content")).send().await.unwrap();
            match (answer.status(), answer.bytes().await) {
                (StatusCode::OK, Ok(bytes)) => return hex::encode(Sha256::digest(&bytes)),
                (StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE, _) => {}
                (status, _) => panic!("{id}: {status}"),
            }
        }
        panic!("{id} cannot be read");
    }

    /// Blobs by tier.
    async fn usage(&self) -> Vec<(String, u64)> {
        let usage = self.server().json("/api/v1/admin/storage").await;
        let items = usage["items"].as_array().unwrap();
        items.iter().map(|i| (i["tier"].as_str().unwrap().to_owned(), i["blobs"].as_u64().unwrap())).collect()
    }
}

/// The proxy: itself, and its port.
fn proxy(port: &str) -> (Process, String) {
    let script = omt_tests::package().join("services/faulty_s3.py");
    let mut proxy = Command::new("python3");
    let mut proxy = Process(proxy.arg(script).args([port, "0.05"]).stdout(Stdio::piped()).spawn().expect("the proxy starts"));
    let mut line = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (proxy, line.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_s3_loses_nothing() {
    if !combination::current().s3 {
        return;
    }
    let began = Instant::now();
    let real = std::env::var("OMT_TEST_S3").unwrap();
    let port = real.split("127.0.0.1:").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let (_proxy, failing) = proxy(&port);
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    let (place, query) = real.split_once('?').unwrap();
    let url = format!("{place}/faulty-{name}?{}", query.replace(&port, &failing));
    let config = |sweep: &str| {
        format!(
            "[blob]\nurl = \"{url}\"\n[jobs]\nin_process = \"never\"\n[tenant_defaults.tiers]\nwarm_after_days = 0\ncold_after_days = 365\n\
             [lifecycle]\nmove_every_seconds = 1\n{sweep}"
        )
    };
    let fleet = Arc::new(Fleet::start(dir.path().to_owned(), &config("sweep_every_seconds = 86400\n")).await);
    let stop = Arc::new(AtomicBool::new(false));
    let harassing = {
        let (fleet, stop) = (fleet.clone(), stop.clone());
        tokio::spawn(async move { fleet.harass(&stop).await })
    };
    // Two blobs each: the content and the manifest store.
    let (total, large) = (times(60, 5_000), times(1, 20));
    let mut acknowledged: Vec<(String, String)> = Vec::new();
    let mut running = JoinSet::new();
    for n in 0..total {
        let fleet = fleet.clone();
        running.spawn(async move {
            let mut bytes = [format!("{n} {}\n", uuid::Uuid::new_v4()).into_bytes(), fixture("a.txt")].concat();
            if n % (total / large) == 0 && n / (total / large) < large {
                bytes = bytes.iter().copied().cycle().take(LARGE).collect();
            }
            (fleet.upload(&format!("key-{n}"), &bytes).await, hex::encode(Sha256::digest(&bytes)))
        });
        if running.len() >= AT_ONCE {
            acknowledged.push(running.join_next().await.unwrap().unwrap());
        }
    }
    acknowledged.extend(running.join_all().await);
    let uploaded = began.elapsed();
    // Workers are killed until every blob has moved.
    let limit = Duration::from_secs(times(90, 1_800) as u64);
    stop.store(true, Ordering::Relaxed);
    harassing.await.unwrap();
    let pause = || Instant::now() + Duration::from_millis(1_000 + chance(8_000));
    let mut kill_at = pause();
    while fleet.usage().await.iter().any(|(tier, _)| tier == "hot") {
        assert!(began.elapsed() < uploaded + limit, "{:?}", fleet.usage().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
        if Instant::now() > kill_at {
            fleet.kill_worker(chance(2) as usize);
            kill_at = pause();
        }
    }
    // The sweep leaves exactly what records name, though it is killed too.
    *fleet.config.lock().unwrap() = config("sweep_every_seconds = 1\nsweep_after_seconds = 2\n");
    for round in 0..times(2, 8) {
        fleet.kill_worker(round % 2);
        tokio::time::sleep(Duration::from_millis(chance(1_500))).await;
    }
    let (began_sweeping, from) = (Instant::now(), uuid::Uuid::now_v7().to_string());
    let blobs: u64 = fleet.usage().await.iter().map(|(_, blobs)| blobs).sum();
    loop {
        let sweeps = jobs(&fleet.server(), "sweep").await;
        let clean = sweeps.iter().filter(|job| id(job) > from.as_str()).any(|job| {
            let p = &job["progress"];
            job["state"] == "done" && p["orphans_removed"] == 0 && p["young"] == 0 && p["objects"].as_u64() == Some(blobs)
        });
        if clean {
            break;
        }
        assert!(began_sweeping.elapsed() < limit, "{blobs} {:?}", sweeps.first());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(fleet.usage().await, [("warm".to_owned(), blobs)]);
    // Every key acted once, and everything that was acknowledged is there, as it was sent.
    let listed: BTreeSet<String> = every(&fleet.server(), "/api/v1/manifests?").await.iter().map(|r| id(r).to_owned()).collect();
    assert_eq!(listed, acknowledged.iter().map(|(id, _)| id.clone()).collect());
    assert_eq!(listed.len(), total);
    let mut reading = JoinSet::new();
    for (id, digest) in acknowledged {
        let fleet = fleet.clone();
        reading.spawn(async move { assert_eq!(fleet.digest(&id).await, digest, "{id}") });
        if reading.len() >= AT_ONCE {
            reading.join_next().await.unwrap().unwrap();
        }
    }
    reading.join_all().await;
    let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
    let refused = count(&fleet.refused);
    assert!(refused <= total / 10, "{refused} of {total} uploads were refused, though every call is tried several times");
    let client = Client::builder().no_proxy().build().unwrap();
    let counts: Value = client.get(format!("http://127.0.0.1:{failing}/.counts")).send().await.unwrap().json().await.unwrap();
    let figures = json!({
        "combination": combination::current().name,
        "uploads": total,
        "of more than 32 MiB": large,
        "blobs moved": blobs,
        "calls to S3": counts["calls"],
        "failed": counts["failed"],
        "workers killed": count(&fleet.kills[0]),
        "servers killed": count(&fleet.kills[1]),
        "uploads refused and sent again": refused,
        "uploads cut off and sent again": count(&fleet.cut_off),
        "seconds": began.elapsed().as_secs(),
    });
    println!("a failing S3: {figures}");
}
