//! A content delivery network in front of the bucket: what may be there and what not.

use crate::workflow::Person;
use hmac::{Hmac, KeyInit, Mac};
use omt_tests::{Server, combination, fixture, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &str = "a secret of the edge, 32 bytes or more";
const CDN: &str = "https://cdn.example.test/media";

async fn address(server: &Server, record: &Value) -> Value {
    server.json(&format!("/api/v1/manifests/{}/content-url", id(record))).await
}

fn via(address: &Value) -> (&str, Option<&str>) {
    (address["via"].as_str().unwrap(), address["not_cdn"].as_str())
}

/// The key that a URL of the network names is where the bytes are: the store signs a URL for the same.
async fn same_object(server: &Server, record: &Value, url: &str) {
    let key = url.strip_prefix(CDN).unwrap().split('?').next().unwrap().to_owned();
    let path = format!("/api/v1/manifests/{}/legal-hold", id(record));
    ok(server.request("PUT", &path).json(&json!({ "reason": "to have the store's URL" })).send().await.unwrap(), StatusCode::OK)
        .await;
    let stored = address(server, record).await;
    assert_eq!(via(&stored), ("store", Some("legal_hold")));
    let at_store = stored["url"].as_str().unwrap();
    assert!(at_store.contains(&format!("{key}?")), "{at_store} names another object than {key}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(at_store).send().await.unwrap().bytes().await.unwrap(), server.content(record).await);
    ok(server.request("DELETE", &path).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(via(&address(server, record).await), ("cdn", None));
}

#[tokio::test]
async fn only_what_is_public_signed_and_published_is_there() {
    if !combination::current().s3 {
        return;
    }
    let config = format!("blob.cdn_url = \"{CDN}/\"\n[tenant_defaults.approval]\nsecret = \"default\"\n");
    let server = Server::start_with(&config).await;
    let public = [("classification", "public")];
    let open = server.signed("a.jpg", fixture("a.jpg"), &public).await;
    let found = address(&server, &open).await;
    assert_eq!((via(&found), &found["expires_at"], &found["media_type"]), (("cdn", None), &Value::Null, &json!("image/jpeg")));
    let url = found["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{CDN}/")) && !url.contains('?'), "{url}");
    same_object(&server, &open, url).await;
    // Everything else is the store's, for five minutes.
    let internal = server.signed("a.png", fixture("a.png"), &[]).await;
    let draft = ok(server.upload("a.gif", fixture("a.gif"), &public).await, StatusCode::CREATED).await;
    for (record, why) in [(&internal, "classification"), (&draft, "draft")] {
        let found = address(&server, record).await;
        assert_eq!(via(&found), ("store", Some(why)));
        assert!(found["url"].as_str().unwrap().contains("X-Amz-Signature=") && found["expires_at"].is_string(), "{found}");
    }
    assert_eq!(server.request("DELETE", &format!("/api/v1/manifests/{}", id(&open))).send().await.unwrap().status(), 204);
    assert_eq!(via(&address(&server, &open).await), ("store", Some("archived")));
    let stranger = server.key("other", &["manifest:read"]).await;
    let path = format!("/api/v1/manifests/{}/content-url", id(&internal));
    problem(server.anonymous("GET", &path).bearer_auth(stranger).send().await.unwrap(), 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn what_needs_an_approval_is_there_once_it_is_published() {
    if !combination::current().s3 {
        return;
    }
    let config = format!("blob.cdn_url = \"{CDN}\"\n[tenant_defaults.approval]\npublic = \"default\"\n");
    let server = Server::start_with(&config).await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    for by_hand in [true, false] {
        let draft = creator.draft("a.png", fixture("a.png"), &[("classification", "public")]).await;
        let workflow = creator.start(&draft, "default").await;
        creator.moves(&workflow, "submit", "submitted").await;
        manager.moves(&workflow, "review", "in_review").await;
        manager.moves(&workflow, "approve", "approved").await;
        if by_hand {
            let signed = manager.post(&format!("/api/v1/manifests/{}/sign", id(&draft)), json!({})).await;
            assert!(signed.status().is_success(), "{}", signed.text().await.unwrap());
            assert_eq!(via(&address(&server, &draft).await), ("store", Some("not_published")));
        } else {
            manager.moves(&workflow, "publish", "published").await;
            assert_eq!(via(&address(&server, &draft).await), ("cdn", None));
        }
    }
}

#[tokio::test]
async fn signed_urls_end_and_bear_more_than_what_is_public() {
    if !combination::current().s3 {
        return;
    }
    let config =
        format!("blob.cdn_url = \"{CDN}\"\nblob.cdn_secret = \"{SECRET}\"\nblob.cdn_max_classification = \"internal\"\n");
    let server = Server::start_with(&config).await;
    let internal = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let confidential = server.signed("a.png", fixture("a.png"), &[("classification", "confidential")]).await;
    assert_eq!(via(&address(&server, &confidential).await), ("store", Some("classification")));
    let found = address(&server, &internal).await;
    assert_eq!(via(&found), ("cdn", None));
    let url = found["url"].as_str().unwrap();
    let (place, query) = url.split_once('?').unwrap();
    let path = place.strip_prefix("https://cdn.example.test").unwrap();
    let (expires, signature) = query.strip_prefix("expires=").unwrap().split_once("&signature=").unwrap();
    // As the edge checks it.
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{path}\n{expires}").as_bytes());
    mac.verify_slice(&hex::decode(signature).unwrap()).unwrap();
    let ends = time::OffsetDateTime::from_unix_timestamp(expires.parse().unwrap()).unwrap();
    let left = ends - time::OffsetDateTime::now_utc();
    assert!((time::Duration::seconds(200)..=time::Duration::seconds(300)).contains(&left), "{left}");
    assert!(found["expires_at"].is_string());
    same_object(&server, &internal, url).await;
}

#[test]
fn a_network_without_a_bucket_stops_the_start() {
    depends_on!();
    if combination::current().s3 {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Server::command(dir.path(), &format!("blob.cdn_url = \"{CDN}\"\n")).arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("blob.cdn_url needs blob.url to be an S3 bucket"), "{said}");
}
