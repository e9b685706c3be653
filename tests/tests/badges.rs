//! Badges: whoever has the address learns whether it stands, and nothing else.

use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn issue(server: &Server, record: &Value) -> (StatusCode, Value) {
    let answer = server.request("POST", "/api/v1/badges").json(&json!({ "manifest_id": record["id"] })).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn look(server: &Server, badge: &Value) -> (Value, String) {
    let path = format!("/api/v1/badges/{}", id(badge));
    let answer = server.anonymous("GET", &path).send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let said = ok(answer, StatusCode::OK).await;
    let picture = server.anonymous("GET", &format!("{path}/badge.svg")).send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    (said, picture.text().await.unwrap())
}

#[tokio::test]
async fn anybody_may_ask_whether_a_badge_stands() {
    depends_on!(Database);
    let server = Server::start().await;
    let fields = [("classification", "public"), ("title", "Launch day"), ("organization", "Example Press")];
    let record = server.signed("a.jpg", fixture("a.jpg"), &fields).await;
    let (status, badge) = issue(&server, &record).await;
    assert_eq!(status, StatusCode::CREATED, "{badge}");
    // Asking again gives the same one.
    let (status, again) = issue(&server, &record).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &badge["id"]));
    let (said, picture) = look(&server, &badge).await;
    assert_eq!((said["status"].as_str(), said["title"].as_str()), (Some("valid"), Some("Launch day")));
    assert_eq!(said["organization"], "Example Press");
    assert!(picture.contains("verified"), "{picture}");
    // The digest is that of the bytes that are served.
    let content = server.content(&record).await;
    assert_eq!(said["content_sha256"], hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&content)));
    // Taken back, for good; the reason is for those who see the content.
    let revoke = format!("/api/v1/badges/{}/revoke", id(&badge));
    for reason in ["", "  ", "a\nb"] {
        let refused = server.request("POST", &revoke).json(&json!({ "reason": reason })).send().await.unwrap();
        problem(refused, 422, "INVALID_FIELD").await;
    }
    let body = json!({ "reason": "the licence ended" });
    for _ in 0..2 {
        let revoked = ok(server.request("POST", &revoke).json(&body).send().await.unwrap(), StatusCode::OK).await;
        assert_eq!(
            (revoked["status"].as_str(), revoked["revoked_reason"].as_str()),
            (Some("revoked"), Some("the licence ended"))
        );
    }
    let (said, picture) = look(&server, &badge).await;
    assert_eq!(said["status"], "revoked");
    assert!(picture.contains("revoked") && !said.to_string().contains("licence") && said["title"].is_null(), "{said}");
    // A new one can be issued, and the manifest knows both.
    let (status, second) = issue(&server, &record).await;
    assert!(status == StatusCode::CREATED && second["id"] != badge["id"]);
    let list = server.json(&format!("/api/v1/badges?manifest_id={}", id(&record))).await;
    let states: Vec<&str> = list["items"].as_array().unwrap().iter().map(|b| b["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["valid", "revoked"]);
    // What is archived is no longer offered.
    let path = format!("/api/v1/manifests/{}", id(&record));
    assert_eq!(server.request("DELETE", &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(look(&server, &second).await.0["status"], "withdrawn");
    let log = server.json("/api/v1/admin/audit-logs?action=badge.&limit=10").await;
    let actions: Vec<&str> = log["items"].as_array().unwrap().iter().map(|i| i["entry"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["badge.issued", "badge.revoked", "badge.issued"]);
}

#[tokio::test]
async fn badges_that_are_refused() {
    depends_on!(Database);
    let server = Server::start().await;
    let draft = ok(server.upload("a.png", fixture("a.png"), &[]).await, StatusCode::CREATED).await;
    let body = json!({ "manifest_id": draft["id"] });
    problem(server.request("POST", "/api/v1/badges").json(&body).send().await.unwrap(), 409, "NOT_SIGNED").await;
    let unknown = uuid::Uuid::now_v7();
    let body = json!({ "manifest_id": unknown });
    problem(server.request("POST", "/api/v1/badges").json(&body).send().await.unwrap(), 404, "NOT_FOUND").await;
    for path in [format!("/api/v1/badges/{unknown}"), format!("/api/v1/badges/{unknown}/badge.svg")] {
        problem(server.anonymous("GET", &path).send().await.unwrap(), 404, "NOT_FOUND").await;
    }
    // Another tenant, and somebody who does not see the content.
    let secret = server.signed("a.jpg", fixture("a.jpg"), &[("classification", "secret"), ("title", "Plans")]).await;
    let (_, badge) = issue(&server, &secret).await;
    server.user("approver", json!({ "roles": ["approver"], "clearance": "internal" })).await;
    let (uncleared, other) = (server.token("approver").await, server.tenant("acme").await);
    for token in [&uncleared, &other] {
        let body = json!({ "manifest_id": secret["id"] });
        let asked = server.anonymous("POST", "/api/v1/badges").bearer_auth(token).json(&body).send().await.unwrap();
        problem(asked, 404, "NOT_FOUND").await;
        let path = format!("/api/v1/badges?manifest_id={}", id(&secret));
        problem(server.anonymous("GET", &path).bearer_auth(token).send().await.unwrap(), 404, "NOT_FOUND").await;
        let path = format!("/api/v1/badges/{}/revoke", id(&badge));
        let body = json!({ "reason": "mine" });
        let asked = server.anonymous("POST", &path).bearer_auth(token).json(&body).send().await.unwrap();
        problem(asked, 404, "NOT_FOUND").await;
    }
    let (said, _) = look(&server, &badge).await;
    assert!(said["status"] == "valid" && !said.to_string().contains("Plans"), "{said}");
}

#[tokio::test]
async fn a_hundred_ask_at_once_and_get_one_badge() {
    depends_on!(Database);
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let all = futures_util::future::join_all((0..100).map(|_| issue(&server, &record))).await;
    assert_eq!(all.iter().filter(|(status, _)| *status == StatusCode::CREATED).count(), 1);
    assert!(all.iter().all(|(_, badge)| badge["id"] == all[0].1["id"]), "{all:?}");
}
