//! A request that bears an `Idempotency-Key` acts once, whatever it does.

use futures_util::future::join_all;
use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn send(server: &Server, path: &str, key: &str, body: Value) -> Response {
    server.request("POST", path).header("idempotency-key", key).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn what_acts_acts_once_under_one_key() {
    depends_on!(Database);
    let server = Server::start().await;
    let user = |name: &str| json!({ "username": name, "password": "a long enough password", "roles": ["creator"] });
    let path = "/api/v1/admin/users";
    let first = ok(send(&server, path, "k1", user("alice")).await, StatusCode::CREATED).await;
    let again = send(&server, path, "k1", user("alice")).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(ok(again, StatusCode::CREATED).await, first);
    // Another body, another operation, another caller.
    problem(send(&server, path, "k1", user("bob")).await, 422, "IDEMPOTENCY_KEY_REUSED").await;
    problem(send(&server, "/api/v1/admin/roles", "k1", json!({ "name": "desk" })).await, 422, "IDEMPOTENCY_KEY_REUSED").await;
    let key = server.key("default", &["admin:role:manage", "admin:role:read"]).await;
    let other = server.anonymous("POST", "/api/v1/admin/roles").bearer_auth(&key).header("idempotency-key", "k1");
    ok(other.json(&json!({ "name": "desk" })).send().await.unwrap(), StatusCode::CREATED).await;
    // What was refused may be tried again under its key, once it can be done.
    let mapping = json!({ "group": "g", "roles": ["later"] });
    let refused = send(&server, "/api/v1/admin/group-mappings", "k2", mapping.clone()).await;
    assert!(refused.status().is_client_error());
    ok(send(&server, "/api/v1/admin/roles", "k3", json!({ "name": "later" })).await, StatusCode::CREATED).await;
    ok(send(&server, "/api/v1/admin/group-mappings", "k2", mapping).await, StatusCode::CREATED).await;
    // An answer with a secret is shown once; the key is made once, too.
    let wanted = json!({ "name": "robot", "scopes": ["manifest:read"] });
    ok(send(&server, "/api/v1/admin/api-keys", "k4", wanted.clone()).await, StatusCode::CREATED).await;
    problem(send(&server, "/api/v1/admin/api-keys", "k4", wanted).await, 409, "ANSWER_NOT_KEPT").await;
    let keys = server.json("/api/v1/admin/api-keys").await;
    assert_eq!(keys["items"].as_array().unwrap().iter().filter(|key| key["name"] == "robot").count(), 1);
    // Without a body, too: a badge is taken back, a job started, once each.
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let badge =
        ok(send(&server, "/api/v1/badges", "k5", json!({ "manifest_id": record["id"] })).await, StatusCode::CREATED).await;
    let badge_again = send(&server, "/api/v1/badges", "k5", json!({ "manifest_id": record["id"] })).await;
    assert_eq!(ok(badge_again, StatusCode::CREATED).await["id"], badge["id"], "the answer is the first one, with its status");
    let webhook = json!({ "url": "https://hooks.example.com/", "events": ["*"] });
    let webhook = ok(send(&server, "/api/v1/webhooks", "k6", webhook).await, StatusCode::CREATED).await;
    let test = format!("/api/v1/webhooks/{}/test", id(&webhook));
    let tested = async || server.request("POST", &test).header("idempotency-key", "k7").send().await.unwrap();
    let (one, two) = (tested().await, tested().await);
    assert_eq!(two.headers()["idempotency-replayed"], "true");
    assert_eq!(one.json::<Value>().await.unwrap()["id"], two.json::<Value>().await.unwrap()["id"]);
    // Where a body says nothing, it changes nothing.
    let with_body = server.request("POST", &test).header("idempotency-key", "k7").json(&json!({})).send().await.unwrap();
    assert_eq!(with_body.headers()["idempotency-replayed"], "true");
    let group = json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "editors" });
    let made = ok(send(&server, "/scim/v2/Groups", "k8", group.clone()).await, StatusCode::CREATED).await;
    let again = send(&server, "/scim/v2/Groups", "k8", group).await;
    assert_eq!(again.headers()["content-type"], "application/scim+json");
    assert_eq!(ok(again, StatusCode::CREATED).await, made);
    problem(send(&server, path, &"x".repeat(256), user("carol")).await, 400, "INVALID_IDEMPOTENCY_KEY").await;
}

#[tokio::test]
async fn requests_at_once_under_one_key_act_once() {
    depends_on!(Database);
    let server = Server::start().await;
    let consent = json!({
        "subject": "Somebody", "purpose": "publication", "scope": "all", "document_sha256": "a".repeat(64),
        "given_at": "2020-01-01T00:00:00Z"
    });
    let path = "/api/v1/compliance/consents";
    let answers = join_all((0..20).map(async |_| {
        let answer = send(&server, path, "k", consent.clone()).await;
        (answer.status(), answer.json::<Value>().await.unwrap())
    }));
    // Whoever comes while it is being done is told so, and may ask again.
    for (status, body) in answers.await {
        assert!(status == StatusCode::CREATED || body["code"] == "OUTCOME_UNKNOWN", "{status} {body}");
    }
    let made = server.json("/api/v1/compliance/records?kind=consent&person=Somebody").await;
    assert_eq!(made["items"].as_array().unwrap().len(), 1, "{made}");
    let replayed = send(&server, path, "k", consent).await;
    assert_eq!(ok(replayed, StatusCode::CREATED).await["id"], made["items"][0]["id"]);
}
