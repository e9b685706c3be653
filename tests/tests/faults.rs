//! Faults of the world around: processes that are killed, replicas that do the same at once, servers that go away.

use crate::replica::{Process, Replica, every, jobs, times, worker};
use omt_tests::{PASSWORD, Server, combination, fixture, form, id};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What one replica ends or takes away is gone on the other within a second.
#[tokio::test]
async fn what_is_revoked_is_revoked_on_every_replica() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Replica::start(dir.path(), "").await, Replica::start(dir.path(), "").await);
    let post = async |replica: &Replica, path: &str, body: Value| {
        let answer = replica.request("POST", path).json(&body).send().await.unwrap();
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap())
    };
    let new = json!({ "username": "alice", "password": PASSWORD, "roles": ["auditor"] });
    let (status, alice) = post(&one, "/api/v1/admin/users", new).await;
    assert_eq!(status, StatusCode::CREATED, "{alice}");
    let (_, tokens) = post(&one, "/api/v1/auth/login", json!({ "username": "alice", "password": PASSWORD })).await;
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    let me = async || {
        let request = two.client.get(format!("{}/api/v1/auth/me", two.url)).bearer_auth(&token);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let within_a_second = async |what: &str, holds: &dyn Fn(&(StatusCode, Value)) -> bool| {
        let began = Instant::now();
        loop {
            let answer = me().await;
            if holds(&answer) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(1), "{what}: {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(me().await.1["roles"], json!(["auditor"]));
    let path = format!("/api/v1/admin/users/{}", alice["id"].as_str().unwrap());
    let changed = one.request("PUT", &path).json(&json!({ "roles": ["creator"] })).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    within_a_second("roles", &|(_, who)| who["roles"] == json!(["creator"])).await;
    let sessions = one.json(&format!("/api/v1/admin/sessions?user={}", alice["id"].as_str().unwrap())).await;
    let session = format!("/api/v1/admin/sessions/{}", sessions["items"][0]["id"].as_str().unwrap());
    assert_eq!(one.request("DELETE", &session).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    within_a_second("session", &|(status, _)| *status == StatusCode::UNAUTHORIZED).await;
}

/// Two replicas and two workers, one of them killed again and again, on whatever the combination has that replicas can share.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_act_once() {
    let (dir, started) = (tempfile::tempdir().unwrap(), Instant::now());
    let config = "[jobs]\nin_process = \"never\"\n[lifecycle]\nmove_every_seconds = 1\nretention_every_seconds = 1\nsweep_every_seconds = 3600\n";
    // Both make the schema, the keys and the certificates of an empty platform at once.
    let (one, two) = tokio::join!(Replica::start(dir.path(), config), Replica::start(dir.path(), config));
    let roots = |r: &Replica| r.request("GET", "/api/v1/trust/roots.pem").send();
    let texts = [roots(&one).await.unwrap().text().await.unwrap(), roots(&two).await.unwrap().text().await.unwrap()];
    assert_eq!(texts[0], texts[1], "one platform has one root");
    let _steady = worker(dir.path(), config);
    let mut killed = worker(dir.path(), config);
    let (replicas, total) = (std::sync::Arc::new([one, two]), times(300, 10_000));
    let mut running = tokio::task::JoinSet::new();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut take = |done: Option<(String, String)>| {
        if let Some((key, id)) = done {
            ids.entry(key).or_default().insert(id);
        }
    };
    let (mut kill_at, mut kills) = (Instant::now() + Duration::from_secs(2), 0);
    for n in 0..total {
        let replicas = replicas.clone();
        running.spawn(async move {
            let replica = &replicas[n % 2];
            match n % 6 {
                // The same request to both replicas, at once.
                0 | 1 => {
                    let key = format!("key-{}", n / 6);
                    loop {
                        let (status, body) = replica.sign("a.png", fixture("a.png"), &key).await;
                        match status {
                            StatusCode::CREATED => return Some((key, id(&body).to_owned())),
                            StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(Duration::from_millis(100)).await,
                            other => panic!("{other}: {body}"),
                        }
                    }
                }
                2 => {
                    let answer = replica
                        .request("POST", "/api/v1/verify")
                        .multipart(form("a.jpg", fixture("a.jpg"), &[]))
                        .send()
                        .await
                        .unwrap();
                    assert!(answer.status() == StatusCode::OK || answer.status() == StatusCode::SERVICE_UNAVAILABLE);
                    None
                }
                3 => {
                    replica.json("/api/v1/manifests?limit=5").await;
                    None
                }
                4 => {
                    replica.json("/api/v1/admin/storage").await;
                    None
                }
                _ => {
                    let missing = replica.request("GET", &format!("/api/v1/manifests/{}", uuid::Uuid::now_v7()));
                    assert_eq!(missing.send().await.unwrap().status(), StatusCode::NOT_FOUND);
                    None
                }
            }
        });
        if running.len() >= 16 {
            take(running.join_next().await.unwrap().unwrap());
        }
        if Instant::now() > kill_at {
            killed.kill();
            killed = worker(dir.path(), config);
            kills += 1;
            kill_at = Instant::now() + Duration::from_secs(2);
        }
    }
    while let Some(done) = running.join_next().await {
        take(done.unwrap());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "each key acts once");
    let listed = every(&replicas[0], "/api/v1/manifests?").await.len();
    assert_eq!(listed, ids.len(), "no manifest beside those acknowledged");
    // Recurring jobs ran once for each slot, whoever was alive.
    let mut recurring = 0;
    for kind in ["housekeeping", "lifecycle", "retention"] {
        let began = Instant::now();
        let slots = loop {
            let jobs = jobs(&replicas[1], kind).await;
            let slots: Vec<i64> = jobs.iter().map(|j| j["payload"]["slot"].as_i64().unwrap()).collect();
            // A slow machine may answer every request before a worker has started.
            if !slots.is_empty() {
                break slots;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{kind} never ran");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let distinct: BTreeSet<i64> = slots.iter().copied().collect();
        assert_eq!(slots.len(), distinct.len(), "{kind}: {slots:?}");
        recurring += slots.len();
    }
    // What the killed worker left is taken over.
    let began = Instant::now();
    drop(killed);
    loop {
        let stuck: Vec<Value> = jobs(&replicas[0], "lifecycle").await.into_iter().filter(|j| j["state"] == "running").collect();
        let old = stuck.iter().filter(|j| j["worker"] != Value::Null && j["attempts"].as_u64() > Some(4)).count();
        assert_eq!(old, 0, "{stuck:?}");
        if stuck.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{stuck:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let figures = json!({
        "combination": combination::current().name,
        "requests": total,
        "keys": ids.len(),
        "recurring jobs": recurring,
        "workers killed": kills,
        "seconds": started.elapsed().as_secs(),
    });
    println!("replicas: {figures}");
}

/// A job that its worker was killed in is done by the next one within ten seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let setup = "[jobs]\nin_process = \"never\"\n";
    let config = format!("{setup}[tenant_defaults.tiers]\nwarm_after_days = 0\ncold_after_days = 365\n");
    let replica = Replica::start(dir.path(), &config).await;
    let count = times(40, 400);
    for n in 0..count {
        let (status, body) = replica.sign("a.txt", format!("text {n}").into_bytes(), &format!("k{n}")).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let mut first = worker(dir.path(), &config);
    let began = Instant::now();
    let lifecycle = async || jobs(&replica, "lifecycle").await.into_iter().next();
    // Killed while it runs, or when it has just ended: the moves are quick on some stores.
    let job = loop {
        if let Some(job) = lifecycle().await
            && job["state"] != "queued"
        {
            break job;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    };
    first.kill();
    let killed = Instant::now();
    let left = lifecycle().await.unwrap();
    let caught = left["state"] == "running";
    assert!(caught || left["state"] == "done", "{job} {left}");
    let _second = worker(dir.path(), &config);
    loop {
        let job = lifecycle().await.unwrap();
        if job["state"] == "done" {
            if caught {
                assert_eq!(job["attempts"], 2, "{job}");
                assert_ne!(job["worker"], left["worker"]);
            }
            break;
        }
        // The job itself takes a moment besides.
        assert!(killed.elapsed() < Duration::from_secs(60), "{job}");
        if killed.elapsed() > Duration::from_secs(10) {
            assert_eq!(job["attempts"], 2, "nobody took it over: {job}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usage = replica.json("/api/v1/admin/storage").await;
    let warm = usage["items"].as_array().unwrap().iter().find(|i| i["tier"] == "warm").unwrap();
    assert_eq!(warm["blobs"].as_u64().unwrap() as usize, count * 2, "{usage}");
}

/// PostgreSQL closes every connection again and again; callers get answers, and nothing is half done.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_drops_connections_loses_nothing() {
    depends_on!(Database);
    if !combination::current().postgres {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::start(dir.path(), "").await;
    let server = std::env::var("OMT_TEST_POSTGRES").unwrap();
    let name: String = dir.path().file_name().unwrap().to_string_lossy().bytes().map(|b| format!("{b:02x}")).collect();
    let kick = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 't{name}'");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let kicking = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut kicked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let output = Command::new("psql").args([&server, "-qtA", "-c", &kick]).output().unwrap();
                kicked += String::from_utf8_lossy(&output.stdout).lines().filter(|l| *l == "t").count();
                std::thread::sleep(Duration::from_millis(150));
            }
            kicked
        })
    };
    let (mut acknowledged, mut refused) = (BTreeSet::new(), 0);
    for n in 0..times(60, 600) {
        let (status, body) = replica.sign("a.png", fixture("a.png"), &format!("k{n}")).await;
        match status {
            StatusCode::CREATED => drop(acknowledged.insert(id(&body).to_owned())),
            StatusCode::SERVICE_UNAVAILABLE => refused += 1,
            other => panic!("{other}: {body}"),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let kicked = kicking.join().unwrap();
    assert!(kicked > 5, "{kicked}");
    // Again with the same keys: what was done is not done twice, what was refused is done now.
    let mut all = BTreeSet::new();
    for n in 0..times(60, 600) {
        let mut tries = 0;
        loop {
            let (status, body) = replica.sign("a.png", fixture("a.png"), &format!("k{n}")).await;
            if status == StatusCode::CREATED {
                all.insert(id(&body).to_owned());
                break;
            }
            tries += 1;
            assert!(status == StatusCode::SERVICE_UNAVAILABLE && tries < 20, "{status}: {body}");
        }
    }
    assert!(all.is_superset(&acknowledged), "{refused} were refused");
    assert_eq!(all.len(), times(60, 600));
    for id in &all {
        assert_eq!(replica.json(&format!("/api/v1/manifests/{id}/report")).await["validation_state"], "trusted");
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The shared cache forged, and then gone: the same answers.
#[tokio::test(flavor = "multi_thread")]
async fn answers_never_depend_on_the_cache() {
    depends_on!(Database);
    if Command::new("redis-server").arg("--version").output().is_err() {
        assert!(std::env::var_os("OMT_TEST_REDIS").is_none(), "redis-server should be here");
        return;
    }
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned);
    let mut redis = Process(Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap());
    let cli = |arguments: &[&str]| {
        let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    while cli(&["ping"]).trim() != "PONG" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let config = format!("[cache]\nurl = \"redis://127.0.0.1:{port}/\"\nname = \"test\"\n");
    let mut server = Server::start_with(&config).await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let good = server.content(&record).await;
    let mut tampered = good.clone();
    let at = tampered.len() - 500;
    tampered[at] ^= 1;
    for (bytes, state) in [(&good, "trusted"), (&tampered, "invalid")] {
        assert_eq!(server.verify("a.jpg", bytes.clone()).await["validation_state"], state);
    }
    let keys = cli(&["keys", "test:cache:verification:*"]);
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    // Another process with nothing in memory takes them from there.
    let hits = async |server: &Server| {
        let key = server.key("default", &["metrics:read"]).await;
        let text = server.anonymous("GET", "/metrics").bearer_auth(key).send().await.unwrap().text().await.unwrap();
        text.lines()
            .find_map(|l| l.strip_prefix("omt_cache_requests_total{cache=\"shared_verification\",outcome=\"hit\"} "))
            .map_or(0, |n| n.parse::<u32>().unwrap())
    };
    server = server.crash_and_restart().await;
    assert_eq!(server.verify("a.jpg", good.clone()).await["validation_state"], "trusted");
    assert_eq!(hits(&server).await, 1);
    // Whoever can write there swaps the verdicts, or writes something else; neither is believed.
    cli(&["rename", keys[0], "aside"]);
    cli(&["rename", keys[1], keys[0]]);
    cli(&["rename", "aside", keys[1]]);
    server = server.crash_and_restart().await;
    for (bytes, state) in [(&good, "trusted"), (&tampered, "invalid")] {
        assert_eq!(server.verify("a.jpg", bytes.clone()).await["validation_state"], state);
    }
    assert_eq!(hits(&server).await, 0);
    for key in &keys {
        cli(&["set", key, "garbage"]);
    }
    server = server.crash_and_restart().await;
    assert_eq!(server.verify("a.jpg", tampered.clone()).await["validation_state"], "invalid");
    // And without it.
    redis.kill();
    for (bytes, state) in [(&good, "trusted"), (&tampered, "invalid")] {
        let mut bytes = bytes.clone();
        bytes.push(0);
        let again = server.verify("a.jpg", bytes).await;
        assert_eq!(again["validation_state"], if state == "trusted" { "invalid" } else { state }, "a byte more");
    }
    assert_eq!(server.verify("a.jpg", good).await["validation_state"], "trusted");
    assert_eq!(server.anonymous("GET", "/ready").send().await.unwrap().status(), StatusCode::OK);
}

/// The queue's server goes away and comes back: requests go on, jobs wait and then run.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_their_queue() {
    depends_on!(Database);
    if std::env::var_os("OMT_TEST_REDIS").is_none() {
        return;
    }
    let port = free_port();
    let start = || {
        let arguments =
            ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned);
        Process(Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap())
    };
    let mut redis = start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let config = format!(
        "[queue]\nurl = \"redis://127.0.0.1:{port}/\"\n[jobs]\nin_process = \"always\"\n[lifecycle]\nretention_every_seconds = 1\n"
    );
    let server = Server::start_with(&config).await;
    let done = async || {
        let jobs = server.json("/api/v1/admin/jobs?kind=retention&state=done&limit=200").await;
        jobs["items"].as_array().unwrap().len()
    };
    let until = async |count: usize, seconds: u64| {
        let began = Instant::now();
        while done().await < count {
            assert!(began.elapsed() < Duration::from_secs(seconds), "{} of {count}", done().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until(1, 20).await;
    redis.kill();
    server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.signed("a.png", fixture("a.png"), &[]).await;
    // It is told, and keeps no request away.
    let ready = async || {
        let answer = server.anonymous("GET", "/ready").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<serde_json::Value>().await.unwrap()
    };
    omt_tests::until("the stop of jobs is told", async || ready().await["status"] == "degraded").await;
    let before = done().await;
    let _redis = start();
    until(before + 2, 40).await;
    omt_tests::until("all is well again", async || ready().await["status"] == "ready").await;
}
