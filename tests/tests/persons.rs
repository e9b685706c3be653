//! What is known of persons, also of those who are users no more, and forgetting it.

use omt_tests::{Server, fixture, form, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};

async fn draft(server: &Server, token: &str, creator: &str) -> Value {
    let form = form("a.png", fixture("a.png"), &[("creator", creator)]);
    let made = server.anonymous("POST", "/api/v1/manifests").bearer_auth(token).multipart(form).send().await.unwrap();
    ok(made, StatusCode::CREATED).await
}

#[tokio::test]
async fn who_was_removed_can_still_be_asked_for_and_forgotten() {
    depends_on!(Database);
    let server = Server::start().await;
    let roles = json!({ "roles": ["administrator"], "clearance": "top_secret" });
    let alice = server.user("alice-in-chains", roles).await;
    let token = server.token("alice-in-chains").await;
    // She writes her name as she likes.
    let record = draft(&server, &token, "Alice Liddell (photo desk)").await;
    let key = json!({ "name": "camera", "scopes": ["manifest:read"] });
    let made = server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(&token).json(&key).send().await.unwrap();
    let key = ok(made, StatusCode::CREATED).await;
    let gone = server.request("DELETE", &format!("/api/v1/admin/users/{alice}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let path = format!("/api/v1/privacy/subjects/{alice}");
    let known = server.json(&format!("{path}/export")).await;
    assert_eq!((&known["user"], known["name_in_audit_log"].as_str()), (&Value::Null, Some("alice-in-chains")));
    assert_eq!((id(&known["manifests"][0]), known["api_keys"][0]["name"].as_str()), (id(&record), Some("camera")));
    // Her key ended with her.
    assert_eq!(known["api_keys"][0]["id"], key["id"]);
    assert!(known["api_keys"][0]["revoked_at"].is_string());
    assert_eq!((&known["evidence"], &known["workflows"], &known["sessions"]), (&json!([]), &json!([]), &json!([])));
    assert!(!known["not_included"].as_array().unwrap().is_empty());
    let found = async |question: &str| server.json(&format!("/api/v1/manifests?q={question}")).await["items"].clone();
    assert_eq!(id(&found("liddell%20%22photo%20desk%22").await[0]), id(&record));
    let erase = || server.request("DELETE", &path).send();
    let erased = ok(erase().await.unwrap(), StatusCode::OK).await;
    assert_eq!(erased["signed_with_name"], json!([]));
    assert!(!erased["not_searched"].as_array().unwrap().is_empty());
    assert_eq!(server.json(&format!("/api/v1/manifests/{}", id(&record))).await["creator"], "erased");
    for word in ["alice", "liddell", "liddell*", "desk"] {
        assert_eq!(found(word).await, json!([]), "{word}");
    }
    let log = server.json("/api/v1/admin/audit-logs?limit=200").await;
    assert!(!log.to_string().to_lowercase().contains("alice"), "{log}");
    // Now there is nothing left to give out or to forget.
    problem(server.get(&format!("{path}/export")).await, 404, "NOT_FOUND").await;
    problem(erase().await.unwrap(), 404, "NOT_FOUND").await;
    let nobody = format!("/api/v1/privacy/subjects/{}/export", uuid::Uuid::now_v7());
    problem(server.get(&nobody).await, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn a_legal_hold_outlasts_whoever_made_it() {
    depends_on!(Database);
    let server = Server::start().await;
    let alice = server.user("alice", json!({ "roles": ["creator"] })).await;
    let record = draft(&server, &server.token("alice").await, "alice").await;
    let hold = format!("/api/v1/manifests/{}/legal-hold", id(&record));
    ok(server.request("PUT", &hold).json(&json!({ "reason": "case" })).send().await.unwrap(), StatusCode::OK).await;
    let gone = server.request("DELETE", &format!("/api/v1/admin/users/{alice}")).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    let path = format!("/api/v1/privacy/subjects/{alice}");
    problem(server.request("DELETE", &path).send().await.unwrap(), 409, "LEGAL_HOLD").await;
    ok(server.request("DELETE", &hold).send().await.unwrap(), StatusCode::OK).await;
    ok(server.request("DELETE", &path).send().await.unwrap(), StatusCode::OK).await;
}

#[tokio::test]
async fn answers_to_others_forget_the_person_too() {
    depends_on!(Database);
    let server = Server::start().await;
    let make = async |name: &str| {
        let body = json!({ "username": name, "email": format!("{name}@example.test"), "display_name": "Somebody" });
        let request = server.request("POST", "/api/v1/admin/users").header("idempotency-key", name);
        let answer = request.json(&body).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        (id(&ok(answer, StatusCode::CREATED).await).to_owned(), replayed)
    };
    let (alice, _) = make("alice").await;
    let (bruno, _) = make("bruno").await;
    assert_eq!(make("alice").await, (alice.clone(), true));
    let path = format!("/api/v1/privacy/subjects/{alice}");
    ok(server.request("DELETE", &path).send().await.unwrap(), StatusCode::OK).await;
    // The administrator's answer named her; that of somebody else stays.
    assert_eq!(make("bruno").await, (bruno, true));
    let (another, replayed) = make("alice").await;
    assert!(another != alice && !replayed);
}
