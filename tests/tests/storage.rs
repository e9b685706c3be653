//! Tiers, retention, legal holds and the sweep, over whatever blob store the combination has.

use omt_tests::{Server, combination, fixture, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const QUICK: &str = "[lifecycle]\nmove_every_seconds = 1\nretention_every_seconds = 1\nsweep_every_seconds = 1\n";

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(40), "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Blobs by tier.
async fn tiers(server: &Server) -> Vec<(String, u64)> {
    let usage = server.json("/api/v1/admin/storage").await;
    let items = usage["items"].as_array().unwrap().clone();
    assert_eq!(usage["total_bytes"].as_u64().unwrap(), items.iter().map(|i| i["bytes"].as_u64().unwrap()).sum::<u64>());
    items.iter().map(|i| (i["tier"].as_str().unwrap().to_owned(), i["blobs"].as_u64().unwrap())).collect()
}

async fn hold(server: &Server, record: &Value, reason: &str) -> reqwest::Response {
    let path = format!("/api/v1/manifests/{}/legal-hold", id(record));
    server.request("PUT", &path).json(&json!({ "reason": reason })).send().await.unwrap()
}

#[tokio::test]
async fn idle_blobs_move_down_and_stay_readable() {
    let config = format!(
        "{QUICK}[tenant_defaults.tiers]\nwarm_after_days = 0\ncold_after_days = 365\n\
         [tenant_defaults.tiers_by_classification.secret]\nwarm_after_days = 90\ncold_after_days = 365\n"
    );
    let server = Server::start_with(&config).await;
    let moved = server.signed("a.jpg", fixture("a.jpg"), &[("title", "moves")]).await;
    let kept = server.signed("a.png", fixture("a.png"), &[("classification", "secret")]).await;
    let content = server.content(&moved).await;
    // The signed asset and the manifest store of one go; those of the other stay.
    eventually("two blobs are warm", async || tiers(&server).await == [("hot".into(), 2), ("warm".into(), 2)]).await;
    assert_eq!(server.content(&moved).await, content);
    assert_eq!(server.verify("a.jpg", content).await["validation_state"], "trusted");
    for record in [&moved, &kept] {
        let report = server.json(&format!("/api/v1/manifests/{}/report", id(record))).await;
        assert_eq!(report["validation_state"], "trusted", "{report}");
    }
    let jobs = server.json("/api/v1/admin/jobs?kind=lifecycle").await;
    let moves: u64 = jobs["items"].as_array().unwrap().iter().filter_map(|j| j["progress"]["moved"].as_u64()).sum();
    assert_eq!(moves, 2, "{jobs}");
    // The same bytes again are the same blob, wherever it is.
    server.signed("b.jpg", fixture("a.jpg"), &[]).await;
    let key = server.key("default", &["metrics:read"]).await;
    let metrics = server.anonymous("GET", "/metrics").bearer_auth(&key).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("omt_storage_bytes{tier=\"warm\"}"), "{metrics}");
}

#[tokio::test]
async fn retention_ends_and_legal_holds_win() {
    let config = format!("{QUICK}[tenant_defaults.retention_days_by_classification]\ninternal = 0\n");
    let server = Server::start_with(&config).await;
    // Two manifests of the same sidecar content, and one that is held.
    let text = fixture("a.txt");
    let first = server.signed("a.txt", text.clone(), &[]).await;
    let second = server.signed("b.txt", text.clone(), &[]).await;
    let held = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let path = |record: &Value| format!("/api/v1/manifests/{}", id(record));
    problem(hold(&server, &held, " ").await, 422, "INVALID_FIELD").await;
    let now_held = ok(hold(&server, &held, "Case 7").await, StatusCode::OK).await;
    assert_eq!(now_held["legal_hold"]["reason"], "Case 7");
    // Held, it cannot even be archived.
    problem(server.request("DELETE", &path(&held)).send().await.unwrap(), 409, "LEGAL_HOLD").await;
    // Archived first and held after.
    let late = server.signed("a.png", fixture("a.png"), &[("title", "late"), ("classification", "secret")]).await;
    let other = server.signed("a.gif", fixture("a.gif"), &[("title", "other"), ("classification", "secret")]).await;
    for record in [&first, &late, &other] {
        assert_eq!(server.request("DELETE", &path(record)).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }
    ok(hold(&server, &late, "Case 8").await, StatusCode::OK).await;
    // Their retention ends; that of the held one first.
    let end = "UPDATE manifests SET retain_until = CASE title WHEN 'late' THEN 1 ELSE 2 END WHERE title IN ('late', 'other')";
    let ended = combination::execute(server.dir.path(), end);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    eventually("retention passed by", async || !server.json(&path(&other)).await["content_deleted_at"].is_null()).await;
    eventually("the content is deleted", async || !server.json(&path(&first)).await["content_deleted_at"].is_null()).await;
    let content = format!("{}/content", path(&first));
    problem(server.get(&content).await, 410, "CONTENT_DELETED").await;
    problem(server.get(&format!("{}/report", path(&first))).await, 410, "CONTENT_DELETED").await;
    problem(hold(&server, &first, "too late").await, 410, "CONTENT_DELETED").await;
    // The evidence stays, and so does what another manifest needs.
    assert_eq!(server.get(&format!("{}/manifest.c2pa", path(&first))).await.status(), StatusCode::OK);
    assert_eq!(server.content(&second).await, text);
    for (record, state) in [(&held, "signed"), (&late, "archived")] {
        let now = server.json(&path(record)).await;
        assert_eq!((now["state"].as_str(), now["content_deleted_at"].is_null()), (Some(state), true));
        assert!(!server.content(record).await.is_empty());
    }
    // Released, they go as any other.
    for record in [&held, &late] {
        let released = server.request("DELETE", &format!("{}/legal-hold", path(record))).send().await.unwrap();
        assert!(ok(released, StatusCode::OK).await["legal_hold"].is_null());
    }
    assert_eq!(server.request("DELETE", &path(&held)).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    for record in [&held, &late] {
        eventually("it is deleted", async || !server.json(&path(record)).await["content_deleted_at"].is_null()).await;
    }
    // Holds are for those who may place them.
    let reader = server.key("default", &["manifest:read", "manifest:delete"]).await;
    let refused = server
        .anonymous("PUT", &format!("{}/legal-hold", path(&late)))
        .bearer_auth(&reader)
        .json(&json!({ "reason": "x" }))
        .send()
        .await
        .unwrap();
    problem(refused, 403, "FORBIDDEN").await;
}

#[tokio::test]
async fn content_comes_and_goes_directly() {
    use sha2::{Digest, Sha256};
    let server = Server::start().await;
    let (bytes, client) = (fixture("a.jpg"), reqwest::Client::builder().no_proxy().build().unwrap());
    let digest = hex::encode(Sha256::digest(&bytes));
    let begin = |body: Value| server.request("POST", "/api/v1/uploads").json(&body).send();
    let good = json!({ "sha256": digest, "size": bytes.len() });
    if !combination::current().s3 {
        problem(begin(good).await.unwrap(), 409, "NO_DIRECT_ACCESS").await;
        let record = server.signed("a.jpg", bytes, &[]).await;
        let url = format!("/api/v1/manifests/{}/content-url", id(&record));
        problem(server.get(&url).await, 409, "NO_DIRECT_ACCESS").await;
        return;
    }
    problem(begin(json!({ "sha256": "../x", "size": 1 })).await.unwrap(), 422, "INVALID_FIELD").await;
    problem(begin(json!({ "sha256": digest, "size": 0 })).await.unwrap(), 422, "EMPTY_FILE").await;
    problem(begin(json!({ "sha256": digest, "size": 5_000_000_000_000u64 })).await.unwrap(), 413, "CONTENT_TOO_LARGE").await;
    let make = |key: &'static str| {
        let form =
            reqwest::multipart::Form::new().text("upload", digest.clone()).text("file_name", "direct.jpg").text("sign", "true");
        server.request("POST", "/api/v1/manifests").header("idempotency-key", key).multipart(form).send()
    };
    problem(make("early").await.unwrap(), 422, "UPLOAD_MISSING").await;
    let target = ok(begin(good).await.unwrap(), StatusCode::CREATED).await;
    let put = |bytes: Vec<u8>, url: &str| {
        let request = client.put(url).body(bytes);
        let headers = target["headers"].as_object().unwrap();
        headers.iter().fold(request, |request, (name, value)| request.header(name, value.as_str().unwrap())).send()
    };
    let url = target["url"].as_str().unwrap();
    // For these bytes under this name only.
    let other = url.replace(&digest[..8], "00000000");
    assert_eq!(put(bytes.clone(), &other).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert!(put(bytes.clone(), url).await.unwrap().status().is_success());
    let record = ok(make("once").await.unwrap(), StatusCode::CREATED).await;
    assert_eq!((record["file_name"].as_str(), record["sha256"].as_str()), (Some("direct.jpg"), Some(digest.as_str())));
    // A retry of the same request finds its answer, though the upload is gone.
    let again = make("once").await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(id(&ok(again, StatusCode::CREATED).await), id(&record));
    problem(make("twice").await.unwrap(), 422, "UPLOAD_MISSING").await;
    // Other bytes under the announced digest are found out, whatever the store lets in.
    let lie = json!({ "sha256": digest, "size": bytes.len() });
    let target = ok(begin(lie).await.unwrap(), StatusCode::CREATED).await;
    let mut wrong = bytes.clone();
    wrong[700] ^= 1;
    let headers = target["headers"].as_object().unwrap().clone();
    let request = client.put(target["url"].as_str().unwrap()).body(wrong);
    let sent = headers.iter().fold(request, |r, (name, value)| r.header(name, value.as_str().unwrap())).send().await.unwrap();
    let code = if sent.status().is_success() { "UPLOAD_MISMATCH" } else { "UPLOAD_MISSING" };
    problem(make("lie").await.unwrap(), 422, code).await;
    // And out.
    let found = server.json(&format!("/api/v1/manifests/{}/content-url", id(&record))).await;
    let url = found["url"].as_str().unwrap();
    let direct = client.get(url).send().await.unwrap();
    assert_eq!(direct.headers()["content-type"], "image/jpeg");
    assert_eq!(direct.bytes().await.unwrap(), server.content(&record).await);
    let tampered = url.replace("X-Amz-Expires=300", "X-Amz-Expires=3000");
    assert_eq!(client.get(tampered).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let stranger = server.key("other", &["manifest:read"]).await;
    let refused = server
        .anonymous("GET", &format!("/api/v1/manifests/{}/content-url", id(&record)))
        .bearer_auth(stranger)
        .send()
        .await
        .unwrap();
    problem(refused, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn the_sweep_removes_what_no_record_names() {
    if combination::current().s3 {
        // Objects are put behind the server's back, which is simple in a directory only; the contract covers S3's listing.
        return;
    }
    let server = Server::start_with(&format!("{QUICK}sweep_after_seconds = 3600\n")).await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let place = |name: &str| server.dir.path().join("data/blobs/default").join(&name[..2]).join(name);
    let (old, young) = ("00".repeat(32), "11".repeat(32));
    for name in [&old, &young] {
        std::fs::create_dir_all(place(name).parent().unwrap()).unwrap();
        std::fs::write(place(name), b"stray").unwrap();
    }
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    std::fs::File::options().append(true).open(place(&old)).unwrap().set_modified(yesterday).unwrap();
    eventually("the old stray is gone", async || !place(&old).exists()).await;
    assert!(place(&young).exists(), "it may belong to a request that has not committed");
    assert_eq!(server.verify("a.jpg", server.content(&record).await).await["validation_state"], "trusted");
    let jobs = server.json("/api/v1/admin/jobs?kind=sweep&state=done").await;
    assert!(jobs["items"].as_array().unwrap().iter().any(|j| j["progress"]["orphans_removed"] == 1), "{jobs}");
}
