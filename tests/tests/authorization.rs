//! Every operation, called by nobody, by somebody whose token has ended, by another tenant and in every role, against the reviewed
//! table `operations.csv`.

use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const ROLES: [&str; 8] = ["creator", "reviewer", "approver", "editor", "manager", "administrator", "auditor", "service"];

struct Line {
    needs: String,
    roles: Vec<bool>,
}

/// The reviewed table.
fn table() -> BTreeMap<String, Line> {
    let text = std::fs::read_to_string(omt_tests::package().join("operations.csv")).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next().unwrap(), format!("operation,needs,{}", ROLES.join(",")));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let roles = cells[2..].iter().map(|cell| match *cell {
                "yes" => true,
                "no" => false,
                other => panic!("{line}: {other}"),
            });
            (cells[0].to_owned(), Line { needs: cells[1].to_owned(), roles: roles.collect() })
        })
        .collect()
}

/// Every operation, and what it needs.
pub(crate) fn needs() -> Vec<(String, String)> {
    table().into_iter().map(|(operation, line)| (operation, line.needs)).collect()
}

fn operations() -> Vec<String> {
    let document = serde_json::to_value(omt_api::openapi_document()).unwrap();
    let mut out = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        out.extend(item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    out
}

/// A call of an operation on things that do not exist, with a body that does not fit: it is refused for who calls, or for what.
async fn call(server: &Server, operation: &str, credential: Option<&str>) -> (StatusCode, String) {
    let (method, path) = operation.split_once(' ').unwrap();
    let some = uuid::Uuid::now_v7().to_string();
    let path = path
        .replace("{id}", &some)
        .replace("{delivery}", &some)
        .replace("{serial}", "00")
        .replace("{name}", "nobody")
        .replace("{path}", "0/000");
    let query = match path.as_str() {
        "/api/v1/admin/explain" => format!("?user={some}&permission=manifest:read"),
        "/api/v1/audit/proof/inclusion" => format!("?entry={some}"),
        "/api/v1/audit/proof/consistency" => "?from=0".to_owned(),
        "/api/v1/badges" if method == "GET" => format!("?manifest_id={some}"),
        _ => String::new(),
    };
    let mut request = server.anonymous(method, &format!("{path}{query}"));
    if let Some(credential) = credential {
        request = request.bearer_auth(credential);
    }
    if matches!(method, "POST" | "PUT" | "PATCH") {
        request = request.json(&json!({ "does not": "fit" }));
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn every_operation_is_for_those_whom_the_table_names() {
    depends_on!();
    let (table, operations) = (table(), operations());
    let missing: Vec<&String> = operations.iter().filter(|operation| !table.contains_key(*operation)).collect();
    assert!(missing.is_empty(), "operations without a line in tests/operations.csv: {missing:#?}");
    let gone: Vec<&String> = table.keys().filter(|operation| !operations.contains(operation)).collect();
    assert!(gone.is_empty(), "lines of operations that are gone: {gone:#?}");

    let server = Server::start().await;
    let mut tokens = Vec::new();
    for role in ROLES {
        server.user(role, json!({ "roles": [role], "clearance": "top_secret" })).await;
        tokens.push(server.token(role).await);
    }
    server.user("nothing", json!({ "roles": [] })).await;
    let powerless = server.token("nothing").await;
    let ended = server.token("creator").await;
    let sessions = ok(server.anonymous("GET", "/api/v1/auth/sessions").bearer_auth(&ended).send().await.unwrap(), StatusCode::OK);
    let current = sessions.await["items"].as_array().unwrap().iter().find(|s| s["current"] == true).unwrap()["id"].clone();
    let end = format!("/api/v1/auth/sessions/{}", current.as_str().unwrap());
    let out = server.anonymous("DELETE", &end).bearer_auth(&ended).send().await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    let mut wrong = Vec::new();
    for (operation, line) in &table {
        let open = line.needs == "anybody";
        let (status, code) = call(&server, operation, None).await;
        if (status == StatusCode::UNAUTHORIZED && code == "MISSING_CREDENTIAL") == open {
            wrong.push(format!("{operation} by nobody: {status} {code}"));
        }
        for (credential, expected) in [("omt_wrong", "INVALID_API_KEY"), ("a.b.c", "INVALID_TOKEN"), (&ended, "SESSION_ENDED")] {
            let (status, code) = call(&server, operation, Some(credential)).await;
            if !open && (status != StatusCode::UNAUTHORIZED || code != expected) {
                wrong.push(format!("{operation} with {expected}: {status} {code}"));
            }
        }
        let (status, code) = call(&server, operation, Some(&powerless)).await;
        if (status == StatusCode::FORBIDDEN) == (open || line.needs == "any caller") {
            wrong.push(format!("{operation} without any role: {status} {code}"));
        }
        for ((role, token), expected) in ROLES.iter().zip(&tokens).zip(&line.roles) {
            let (status, code) = call(&server, operation, Some(token)).await;
            let allowed = !(status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED && !open);
            if allowed != *expected || status.is_server_error() && code != "NOT_INTEGRATED" && code != "ISSUER_UNAVAILABLE" {
                wrong.push(format!("{operation} as {role}: {status} {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn tokens_end_for_every_operation() {
    depends_on!();
    let server = Server::start_with("[auth]\nsession_lifetime_seconds = 3\n").await;
    let token = server.login().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (operation, line) in table() {
        if line.needs != "anybody" {
            let (status, code) = call(&server, &operation, Some(&token)).await;
            assert_eq!((status, code.as_str()), (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"), "{operation}");
        }
    }
}

#[tokio::test]
async fn another_tenants_administrator_reaches_nothing() {
    depends_on!(Database);
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let user = server.user("alice", json!({ "roles": ["creator"] })).await;
    let post = async |path: &str, body: Value| {
        ok(server.request("POST", path).json(&body).send().await.unwrap(), StatusCode::CREATED).await
    };
    post("/api/v1/admin/roles", json!({ "name": "desk", "permissions": ["manifest:hold"] })).await;
    let mapping = post("/api/v1/admin/group-mappings", json!({ "group": "g", "roles": ["desk"] })).await;
    let key = post("/api/v1/admin/api-keys", json!({ "name": "k", "scopes": ["manifest:read"] })).await;
    let session = server.json("/api/v1/auth/sessions").await["items"][0]["id"].as_str().unwrap().to_owned();
    let entry = server.json("/api/v1/admin/audit-logs").await["items"][0]["id"].as_str().unwrap().to_owned();
    let webhook = post("/api/v1/webhooks", json!({ "url": "https://hooks.example.com/", "events": ["*"] })).await;
    let token = server.tenant("acme").await;
    let ask = |method: &str, path: String| server.anonymous(method, &path).bearer_auth(&token);
    let webhook = format!("/api/v1/webhooks/{}", id(&webhook));
    let manifest = format!("/api/v1/manifests/{}", id(&record));
    let (user_path, role) = (format!("/api/v1/admin/users/{user}"), "/api/v1/admin/roles/desk");
    for (method, path, body) in [
        ("GET", manifest.clone(), None),
        ("PATCH", manifest.clone(), Some(json!({ "title": "x" }))),
        ("DELETE", manifest.clone(), None),
        ("PUT", format!("{manifest}/legal-hold"), Some(json!({ "reason": "x" }))),
        ("GET", format!("{manifest}/content"), None),
        ("GET", webhook.clone(), None),
        ("PATCH", webhook.clone(), Some(json!({ "enabled": false }))),
        ("DELETE", webhook.clone(), None),
        ("POST", format!("{webhook}/test"), None),
        ("POST", format!("{webhook}/rotate-secret"), Some(json!({}))),
        ("POST", format!("{webhook}/recover"), Some(json!({ "since": "2026-01-01T00:00:00Z" }))),
        ("GET", format!("{webhook}/deliveries"), None),
        ("GET", user_path.clone(), None),
        ("PUT", user_path.clone(), Some(json!({ "active": false }))),
        ("PUT", user_path.clone(), Some(json!({ "clearance": "public" }))),
        ("DELETE", user_path.clone(), None),
        ("GET", format!("/api/v1/admin/explain?user={user}&permission=manifest:read"), None),
        ("GET", format!("/api/v1/privacy/subjects/{user}/export"), None),
        ("DELETE", format!("/api/v1/privacy/subjects/{user}"), None),
        ("GET", role.to_owned(), None),
        ("PUT", role.to_owned(), Some(json!({ "permissions": [] }))),
        ("DELETE", role.to_owned(), None),
        ("DELETE", format!("/api/v1/admin/group-mappings/{}", id(&mapping)), None),
        ("DELETE", format!("/api/v1/admin/api-keys/{}", id(&key)), None),
        ("DELETE", format!("/api/v1/admin/sessions/{session}"), None),
        ("DELETE", format!("/api/v1/auth/sessions/{session}"), None),
        ("GET", format!("/api/v1/audit/proof/inclusion?entry={entry}"), None),
        ("GET", "/api/v1/admin/tenants/default".to_owned(), None),
    ] {
        let mut request = ask(method, path.clone());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let status = request.send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    // What is the platform's is not for a tenant, however mighty its administrator is there.
    for (method, path) in [
        ("GET", "/api/v1/admin/tenants"),
        ("POST", "/api/v1/admin/tenants"),
        ("PUT", "/api/v1/admin/tenants/acme"),
        ("GET", "/api/v1/audit/tile/0/000"),
        ("GET", "/metrics"),
    ] {
        let body = json!({ "id": "other", "settings": {} });
        let body = if method == "PUT" { json!({ "settings": {} }) } else { body };
        let status = ask(method, path.to_owned()).json(&body).send().await.unwrap().status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let body = json!({ "name": "x", "scopes": ["manifest:read"], "tenant": "default" });
    let stolen = ask("POST", "/api/v1/admin/api-keys".to_owned()).json(&body).send().await.unwrap();
    assert_eq!(stolen.status(), StatusCode::FORBIDDEN);
    for (path, items) in [
        ("/api/v1/manifests", 0),
        ("/api/v1/admin/users", 1),
        ("/api/v1/admin/sessions", 1),
        ("/api/v1/admin/api-keys", 0),
        ("/api/v1/admin/group-mappings", 0),
        ("/api/v1/admin/jobs", 0),
    ] {
        let page = ok(ask("GET", path.to_owned()).send().await.unwrap(), StatusCode::OK).await;
        assert_eq!(page["items"].as_array().unwrap().len(), items, "{path}: {page}");
    }
    let log = ok(ask("GET", "/api/v1/admin/audit-logs?limit=200".to_owned()).send().await.unwrap(), StatusCode::OK).await;
    assert!(log["items"].as_array().unwrap().iter().all(|item| item["entry"]["tenant"] == "acme"));
    assert!(log["items"].as_array().unwrap().iter().any(|item| item["entry"]["action"] == "access.denied"));
    // Settings name only what there is.
    let settings =
        json!({ "settings": { "approval": { "secret": "no-such" }, "compliance": { "public": ["public_content", "nothing"] } } });
    let refused = problem(
        ask("PUT", "/api/v1/admin/tenants/acme".to_owned()).json(&settings).send().await.unwrap(),
        422,
        "INVALID_SETTINGS",
    );
    let fields =
        refused.await["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(fields, ["settings.approval.secret", "settings.compliance.public"]);
    assert_eq!(ok(ask("GET", "/api/v1/admin/tenants/acme".to_owned()).send().await.unwrap(), StatusCode::OK).await["id"], "acme");
}
