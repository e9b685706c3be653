//! Buckets with object lock: what is held here is held there, whoever deletes it.

use omt_tests::{Server, fixture, id, moto_client, ok, service};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A bucket of moto's.
struct Bucket {
    client: Client,
    url: String,
}

impl Bucket {
    async fn make(endpoint: &str) -> Self {
        let client = moto_client();
        let url = format!("{endpoint}/lock-{}", uuid::Uuid::new_v4());
        let made = client.put(&url).header("x-amz-bucket-object-lock-enabled", "true").send().await.unwrap();
        assert!(made.status().is_success());
        Self { client, url }
    }

    fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    fn object(&self, tier: &str, digest: &str) -> String {
        format!("{}/{tier}default/{}/{digest}", self.url, &digest[..2])
    }

    async fn head(&self, object: &str) -> Response {
        self.client.head(object).send().await.unwrap()
    }

    async fn is_held(&self, object: &str) -> bool {
        header(&self.head(object).await, "x-amz-object-lock-legal-hold").as_deref() == Some("ON")
    }

    async fn release(&self, object: &str) {
        let off = "<LegalHold xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>OFF</Status></LegalHold>";
        let done = self.client.put(format!("{object}?legal-hold")).body(off).send().await.unwrap();
        assert!(done.status().is_success());
    }
}

fn header(answer: &Response, name: &str) -> Option<String> {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn blobs(server: &Server, record: &Value) -> (String, String) {
    let content = digest(&server.content(record).await);
    let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(record))).await.bytes().await.unwrap();
    (content, digest(&store))
}

#[tokio::test]
async fn the_bucket_keeps_what_is_held() {
    depends_on!(Database, Queue);
    let Some(moto) = service("OMT_TEST_MOTO") else { return };
    let bucket = Bucket::make(moto.split("endpoint=").nth(1).unwrap().split('&').next().unwrap()).await;
    let query = moto.split_once('?').unwrap().1;
    let config = |days: u32| {
        format!(
            "[blob]\nurl = \"s3://{}?{query}&object_lock=true&lock_retention=governance\"\n[lifecycle]\nmove_every_seconds = 1\n\
             sweep_every_seconds = 1\nlock_every_seconds = 1\n[tenant_defaults.tiers]\nwarm_after_days = {days}\ncold_after_days = 365\n",
            bucket.name()
        )
    };
    let server = Server::start_with(&config(90)).await;
    let held = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let (asset, store) = blobs(&server, &held).await;
    let (asset_at, store_at) = (bucket.object("", &asset), bucket.object("", &store));
    assert!(!bucket.is_held(&asset_at).await);
    let hold_path = format!("/api/v1/manifests/{}/legal-hold", id(&held));
    let hold = server.request("PUT", &hold_path).json(&json!({ "reason": "Case 9" })).send().await.unwrap();
    ok(hold, StatusCode::OK).await;
    for object in [&asset_at, &store_at] {
        eventually("it is held", async || bucket.is_held(object).await).await;
    }
    // Nobody deletes the version, whatever client they use.
    let version = header(&bucket.head(&asset_at).await, "x-amz-version-id").unwrap();
    let delete = |object: &str, version: &str| bucket.client.delete(format!("{object}?versionId={version}")).send();
    assert_eq!(delete(&asset_at, &version).await.unwrap().status(), StatusCode::FORBIDDEN);
    // What others change is mended.
    bucket.release(&asset_at).await;
    eventually("it is held again", async || bucket.is_held(&asset_at).await).await;
    // Archived content is kept until its retention ends, by the bucket too.
    let archived = server.signed("a.png", fixture("a.png"), &[]).await;
    let (content, _) = blobs(&server, &archived).await;
    let gone = server.request("DELETE", &format!("/api/v1/manifests/{}", id(&archived))).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    // It becomes warm at once, and is locked there.
    let warm = bucket.object(".warm/", &content);
    let mode = async |object: &str| header(&bucket.head(object).await, "x-amz-object-lock-mode");
    eventually("its retention is known", async || mode(&warm).await.as_deref() == Some("GOVERNANCE")).await;
    let until = header(&bucket.head(&warm).await, "x-amz-object-lock-retain-until-date").unwrap();
    let record = server.json(&format!("/api/v1/manifests/{}", id(&archived))).await;
    assert_eq!(until[..10], record["retain_until"].as_str().unwrap()[..10], "{record}");
    // A move takes the hold with it, and leaves none behind.
    let server = server.restart_with(&config(0)).await;
    let moved = bucket.object(".warm/", &asset);
    eventually("it moved", async || bucket.head(&asset_at).await.status() == StatusCode::NOT_FOUND).await;
    assert!(bucket.is_held(&moved).await);
    assert!(!bucket.is_held(&format!("{asset_at}?versionId={version}")).await);
    assert_eq!(delete(&asset_at, &version).await.unwrap().status(), StatusCode::NO_CONTENT);
    let version = header(&bucket.head(&moved).await, "x-amz-version-id").unwrap();
    assert_eq!(delete(&moved, &version).await.unwrap().status(), StatusCode::FORBIDDEN);
    // Another manifest that needs the same bytes and is held keeps them held.
    let content = server.content(&held).await;
    assert_eq!(digest(&content), asset);
    let other = ok(server.upload("other.jpg", content, &[]).await, StatusCode::CREATED).await;
    assert_eq!(other["sha256"], asset.as_str());
    let other_path = format!("/api/v1/manifests/{}/legal-hold", id(&other));
    ok(server.request("PUT", &other_path).json(&json!({ "reason": "Case 10" })).send().await.unwrap(), StatusCode::OK).await;
    ok(server.request("DELETE", &hold_path).send().await.unwrap(), StatusCode::OK).await;
    let store_moved = bucket.object(".warm/", &store);
    eventually("what only the first needed is released", async || !bucket.is_held(&store_moved).await).await;
    assert!(bucket.is_held(&moved).await);
    ok(server.request("DELETE", &other_path).send().await.unwrap(), StatusCode::OK).await;
    eventually("it is released", async || !bucket.is_held(&moved).await).await;
    assert_eq!(delete(&moved, &version).await.unwrap().status(), StatusCode::NO_CONTENT);
    // Nothing stumbled over markers.
    let dead = server.json("/api/v1/admin/jobs?state=dead").await;
    assert_eq!(dead["items"], json!([]), "{dead}");
    for job in server.json("/api/v1/admin/jobs?kind=sweep").await["items"].as_array().unwrap() {
        assert!(job["error"].is_null(), "{job}");
    }
}
