//! A cold tier whose content must be restored before it can be read: in moto, which keeps archived objects from being read, beside
//! whatever database and queue the combination has.

use omt_tests::{Server, fixture, id, moto_client, ok, problem, service};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// Seconds that moto takes for a restore.
const TAKES: u64 = 8;

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Blobs by tier.
async fn tiers(server: &Server) -> Vec<(String, u64)> {
    let usage = server.json("/api/v1/admin/storage").await;
    let items = usage["items"].as_array().unwrap().clone();
    items.iter().map(|i| (i["tier"].as_str().unwrap().to_owned(), i["blobs"].as_u64().unwrap())).collect()
}

async fn restores(server: &Server) -> Vec<Value> {
    server.json("/api/v1/admin/jobs?kind=restore").await["items"].as_array().unwrap().clone()
}

/// Has moto take its time.
async fn slow_restores(url: &str) {
    let endpoint = endpoint(url);
    let body = json!({ "model_name": "s3::keyrestore", "transition": { "progression": "time", "seconds": TAKES } });
    let client = Client::builder().no_proxy().build().unwrap();
    let set = client.post(format!("{endpoint}/moto-api/state-manager/set-transition")).json(&body).send().await.unwrap();
    assert!(set.status().is_success());
}

/// An answer that puts its caller off; the job.
async fn later(answer: Response) -> String {
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let (location, wait) = (header("location"), header("retry-after"));
    let body = ok(answer, StatusCode::ACCEPTED).await;
    assert_eq!((body["code"].as_str(), body["retry_after"].to_string()), (Some("CONTENT_ARCHIVED"), wait), "{body}");
    assert!((43_000..=43_200).contains(&body["retry_after"].as_u64().unwrap()), "{body}");
    assert!(["queued", "running"].contains(&body["state"].as_str().unwrap()), "{body}");
    assert!(body["requested_at"].is_string() && body["detail"].is_string(), "{body}");
    let job = body["job"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/api/v1/admin/jobs/{job}"));
    job
}

#[tokio::test]
async fn archived_content_is_restored_when_it_is_asked_for() {
    depends_on!(Database, Queue);
    let Some(moto) = service("OMT_TEST_MOTO") else { return };
    slow_restores(&moto).await;
    let (place, query) = moto.split_once('?').unwrap();
    let place = format!("{place}/{}", uuid::Uuid::new_v4());
    let config = format!(
        "[blob]\nurl = \"{place}?{query}\"\ncold_url = \"{place}/.cold?{query}&storage_class=DEEP_ARCHIVE&restored_days=2\"\n\
         [lifecycle]\nmove_every_seconds = 1\nsweep_every_seconds = 1\nsweep_after_seconds = 6\nrestore_look_seconds = 1\n\
         [tenant_defaults.tiers]\nwarm_after_days = 0\ncold_after_days = 0\n\
         [tenant_defaults.tiers_by_classification.secret]\nwarm_after_days = 90\ncold_after_days = 365\n"
    );
    let server = Server::start_with(&config).await;
    let text = fixture("a.txt");
    let record = server.signed("a.txt", text.clone(), &[]).await;
    let path = |rest: &str| format!("/api/v1/manifests/{}/{rest}", id(&record));
    // Evidence must be read at once, for ever: the manifest store stays out of the archive.
    eventually("the content is archived", async || tiers(&server).await == [("cold".into(), 1), ("warm".into(), 1)]).await;
    tokio::time::sleep(Duration::from_millis(TAKES * 1000 + 500)).await;
    assert!(restores(&server).await.is_empty());
    assert_eq!(server.get(&path("manifest.c2pa")).await.status(), StatusCode::OK);
    // What needs no bytes restores none.
    let digest = hex::encode(Sha256::digest(&text));
    let (bucket, prefix) = place.trim_start_matches("s3://").split_once('/').unwrap();
    let (lister, listing) = (moto_client(), format!("{}/{bucket}?list-type=2&prefix={prefix}/.cold/", endpoint(&moto)));
    let cold = async || ok_text(lister.get(&listing).send().await.unwrap()).await;
    assert!(cold().await.contains(&digest));
    let seen = server.request("GET", &path("content")).header("if-none-match", format!("\"{digest}\""));
    assert_eq!(seen.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let beyond = server.request("GET", &path("content")).header("range", "bytes=999999-");
    assert_eq!(beyond.send().await.unwrap().status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert!(restores(&server).await.is_empty());
    // Whoever may read it and asks at once with others: one restore for all.
    let reader = server.key("default", &["manifest:read"]).await;
    let content = path("content");
    let ask = || server.anonymous("GET", &content).bearer_auth(&reader).send();
    let part = server.request("GET", &content).header("range", "bytes=0-3").send();
    let (url, report, head) = (path("content-url"), path("report"), server.request("HEAD", &content).send());
    let (a, b, c, d, part, url, head, report) =
        tokio::join!(ask(), ask(), ask(), ask(), part, server.get(&url), head, server.get(&report));
    let mut jobs = Vec::new();
    for answer in [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap(), part.unwrap(), url] {
        jobs.push(later(answer).await);
    }
    jobs.dedup();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let head = head.unwrap();
    assert_eq!((head.status(), head.headers().contains_key("retry-after")), (StatusCode::ACCEPTED, true));
    // What cannot wait says so, and when to come again.
    assert!(report.headers().contains_key("retry-after"));
    problem(report, 503, "CONTENT_ARCHIVED").await;
    let listed = restores(&server).await;
    assert_eq!((listed.len(), listed[0]["id"].as_str()), (1, Some(jobs[0].as_str())), "{listed:?}");
    assert_eq!(listed[0]["payload"]["blob"]["sha256"], digest);
    let stranger = server.key("other", &["manifest:read"]).await;
    problem(server.anonymous("GET", &content).bearer_auth(&stranger).send().await.unwrap(), 404, "NOT_FOUND").await;
    // In time it is there, whole.
    eventually("it is restored", async || server.get(&content).await.status() == StatusCode::OK).await;
    assert_eq!(server.content(&record).await, text);
    let part = server.request("GET", &content).header("range", "bytes=1-3").send().await.unwrap();
    assert_eq!((part.status(), part.bytes().await.unwrap().to_vec()), (StatusCode::PARTIAL_CONTENT, text[1..4].to_vec()));
    assert_eq!(server.json(&path("report")).await["validation_state"], "trusted");
    let url = server.json(&path("content-url")).await["url"].as_str().unwrap().to_owned();
    let client = Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().bytes().await.unwrap(), text);
    eventually("the job is done", async || restores(&server).await[0]["state"] == "done").await;
    let job = restores(&server).await.remove(0);
    assert_eq!((job["progress"]["stage"].as_str(), job["attempts"].as_u64()), (Some("restored"), Some(1)), "{job}");
    assert!(job["progress"]["readable_until"].is_string(), "{job}");
    // Who caused it is in the log.
    let log = server.json("/api/v1/admin/audit-logs?action=content.restore").await;
    assert_eq!(log["items"].as_array().map(Vec::len), Some(1), "{log}");
    // The same bytes come again and are needed at once: they are, and leave the archive.
    let again = server.signed("b.txt", text.clone(), &[("classification", "secret")]).await;
    assert_eq!(server.content(&again).await, text);
    let hot = |tiers: Vec<(String, u64)>| tiers.iter().any(|(tier, blobs)| tier == "hot" && *blobs == 2);
    eventually("the content is hot again", async || hot(tiers(&server).await)).await;
    assert_eq!(server.content(&record).await, text);
    eventually("the archived copy is gone", async || !cold().await.contains(&digest)).await;
    assert_eq!(server.content(&again).await, text);
    let failed = server.json("/api/v1/admin/jobs?state=dead").await;
    assert_eq!(failed["items"], json!([]), "{failed}");
}

async fn ok_text(answer: Response) -> String {
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.unwrap()
}

fn endpoint(url: &str) -> &str {
    url.split("endpoint=").nth(1).unwrap().split('&').next().unwrap()
}

#[tokio::test]
async fn only_the_cold_tier_is_an_archive() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    for (key, class) in [("url", "DEEP_ARCHIVE"), ("warm_url", "GLACIER")] {
        let config = format!("[blob]\n{key} = \"s3://media?endpoint=http://127.0.0.1:9&storage_class={class}\"\n");
        let refused = Server::command(dir.path(), &config).arg("serve").output().unwrap();
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && words.contains(&format!("blob.{key}")) && words.contains("cold_url"), "{words}");
    }
    // And the doctor says what such a cold tier means.
    let Some(moto) = service("OMT_TEST_MOTO") else { return };
    let config = format!("[blob]\ncold_url = \"{moto}&storage_class=DEEP_ARCHIVE&retrieval=bulk\"\n");
    let doctor = Server::command(dir.path(), &config).arg("doctor").output().unwrap();
    let words = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(words.contains("cold tier, class DEEP_ARCHIVE") && words.contains("48 hours"), "{words}");
    assert!(words.contains("cold tier, permissions"), "{words}");
}
