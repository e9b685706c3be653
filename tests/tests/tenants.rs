//! Every operation on a thing of another tenant, by an administrator of their own: as if it were not there.

use crate::{authorization, workflow::Person};
use omt_tests::{Server, fixture, id, ok};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// What a tenant has: for each beginning of a path, what stands for its parameters.
async fn things(server: &Server) -> BTreeMap<&'static str, Vec<String>> {
    let all = ["creator", "reviewer", "approver", "manager", "administrator"];
    let (author, other) = (Person::with(server, "author", &all).await, Person::with(server, "other", &all).await);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let post = async |path: &str, body: Value| {
        let answer = server.request("POST", path).json(&body).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    };
    let put =
        async |path: &str, body: Value| ok(server.request("PUT", path).json(&body).send().await.unwrap(), StatusCode::OK).await;
    let signed = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let draft = author.draft("a.png", fixture("a.png"), &[]).await;
    post("/api/v1/admin/roles", json!({ "name": "desk", "permissions": ["manifest:hold"] })).await;
    let mapping = post("/api/v1/admin/group-mappings", json!({ "group": "g", "roles": ["desk"] })).await;
    let key = post("/api/v1/admin/api-keys", json!({ "name": "k", "scopes": ["manifest:read"] })).await;
    let session = text(&server.json("/api/v1/auth/sessions").await["items"][0]["id"]);
    let badge = post("/api/v1/badges", json!({ "manifest_id": signed["id"] })).await;
    let at = |days: i64| (OffsetDateTime::now_utc() + Duration::days(days)).format(&Rfc3339).unwrap();
    let consent = json!({
        "subject": "Somebody", "purpose": "publication", "scope": "all", "given_at": at(-1), "document_sha256": "a".repeat(64)
    });
    let consent = post("/api/v1/compliance/consents", consent).await;
    let over = json!({
        "manifest_id": signed["id"], "rule": "legal_review", "reason": "it is only a test of refusals", "expires_at": at(5)
    });
    let over = ok(author.post("/api/v1/compliance/override", over).await, StatusCode::CREATED).await;
    put("/api/v1/compliance/policies/desk", json!({ "rules": ["retention_policy"] })).await;
    let rule = json!({ "name": "r", "description": "r", "rule_type": "custom_function", "severity": "error", "custom_function": "true" });
    let policy = json!({ "name": "desk", "description": "d", "rules": [rule] });
    post("/api/v1/policies", policy.clone()).await;
    let job = text(&post("/api/v1/policies/desk/dry-run", policy).await["job_id"]);
    let mut definition = server.json("/api/v1/workflow-definitions/dual-approval").await["definition"].clone();
    definition["name"] = json!("desk");
    put("/api/v1/workflow-definitions/desk", definition).await;
    let workflow = author.start(&draft, "default").await;
    author.moves(&workflow, "submit", "submitted").await;
    let task = text(&other.get("/api/v1/tasks").await["items"][0]["id"]);
    let notification = text(&other.get("/api/v1/notifications").await["items"][0]["id"]);
    let webhook = post("/api/v1/webhooks", json!({ "url": "https://hooks.example.com/", "events": ["*"] })).await;
    let delivery = text(&post(&format!("/api/v1/webhooks/{}/test", id(&webhook)), Value::Null).await["id"]);
    let scim = |schema: &str, name: &str| json!({ "schemas": [schema], name: "scim-thing" });
    let group = post("/scim/v2/Groups", scim("urn:ietf:params:scim:schemas:core:2.0:Group", "displayName")).await;
    let member = post("/scim/v2/Users", scim("urn:ietf:params:scim:schemas:core:2.0:User", "userName")).await;
    let user = author.id.strip_prefix("user:").unwrap().to_owned();
    let manifest = vec![text(&draft["id"])];
    BTreeMap::from([
        ("/api/v1/admin/api-keys/", vec![text(&key["id"])]),
        ("/api/v1/admin/group-mappings/", vec![text(&mapping["id"])]),
        ("/api/v1/admin/jobs/", vec![job]),
        ("/api/v1/admin/roles/", vec!["desk".to_owned()]),
        ("/api/v1/admin/sessions/", vec![session.clone()]),
        ("/api/v1/admin/tenants/", vec!["default".to_owned()]),
        ("/api/v1/admin/users/", vec![user.clone()]),
        ("/api/v1/auth/sessions/", vec![session]),
        ("/api/v1/badges/", vec![text(&badge["id"])]),
        ("/api/v1/compliance/override/", vec![text(&over["id"])]),
        ("/api/v1/compliance/policies/", vec!["desk".to_owned()]),
        ("/api/v1/compliance/records/", vec![text(&consent["id"])]),
        ("/api/v1/compliance/reports/", vec![text(&signed["id"])]),
        ("/api/v1/manifests/", manifest),
        ("/api/v1/notifications/", vec![notification]),
        ("/api/v1/policies/", vec!["desk".to_owned()]),
        ("/api/v1/privacy/subjects/", vec![user]),
        ("/api/v1/tasks/", vec![task]),
        ("/api/v1/verify/", vec![text(&signed["id"])]),
        ("/api/v1/webhooks/", vec![text(&webhook["id"]), delivery]),
        ("/api/v1/workflow-definitions/", vec!["desk".to_owned()]),
        ("/api/v1/workflows/", vec![text(&workflow["workflow_id"])]),
        ("/scim/v2/Groups/", vec![text(&group["id"])]),
        ("/scim/v2/Users/", vec![text(&member["id"])]),
    ])
}

/// A body that fits the operation, so that it is refused for whose the thing is and for nothing else.
fn body(operation: &str) -> Value {
    let patch = |path: &str| {
        json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{ "op": "replace", "path": path, "value": "taken" }]
        })
    };
    match operation {
        "PATCH /api/v1/manifests/{id}" => json!({ "title": "taken" }),
        "PUT /api/v1/manifests/{id}/legal-hold" => json!({ "reason": "taken" }),
        "PUT /api/v1/admin/roles/{name}" => json!({ "permissions": [] }),
        "PUT /api/v1/admin/users/{id}" => json!({ "active": false }),
        "PUT /api/v1/admin/tenants/{id}" => json!({ "settings": {} }),
        "POST /api/v1/badges/{id}/revoke" => json!({ "reason": "taken" }),
        "POST /api/v1/policies/{name}/rollback" => json!({ "version": 1 }),
        "POST /api/v1/tasks/{id}/decide" => json!({ "action": "review" }),
        "POST /api/v1/tasks/{id}/delegate" => json!({ "to": "boss" }),
        "PATCH /api/v1/webhooks/{id}" => json!({ "enabled": false }),
        "POST /api/v1/webhooks/{id}/recover" => json!({ "since": "2026-01-01T00:00:00Z" }),
        "POST /api/v1/workflows/{id}/transition" => json!({ "action": "review" }),
        "POST /api/v1/workflows/{id}/cancel" | "POST /api/v1/workflows/{id}/comments" => json!({ "comments": "taken" }),
        "PUT /api/v1/workflows/{id}/compliance" => json!({ "policies": ["public_content"] }),
        "PATCH /scim/v2/Groups/{id}" | "PATCH /scim/v2/Users/{id}" => patch("displayName"),
        "PUT /scim/v2/Groups/{id}" => {
            json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "taken" })
        }
        "PUT /scim/v2/Users/{id}" => json!({ "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "taken" }),
        _ => json!({}),
    }
}

/// Names that each tenant gives for itself: there the other's document is not seen, and one of the caller's own is made.
const OWN_NAMES: [&str; 4] = [
    "PUT /api/v1/compliance/policies/{name}",
    "PUT /api/v1/policies/{name}",
    "POST /api/v1/policies/{name}/dry-run",
    "PUT /api/v1/workflow-definitions/{name}",
];
/// What only the tenant that runs the platform may ask at all.
const PLATFORM: [&str; 1] = ["GET /api/v1/audit/tile/{path}"];

/// What the tenant sees of its own things, but for what time alone changes.
async fn state(server: &Server, things: &BTreeMap<&'static str, Vec<String>>) -> Vec<Value> {
    let mut out = Vec::new();
    for (beginning, ids) in things {
        let path = format!("{beginning}{}", ids[0]);
        let answer = server.get(&path).await;
        if answer.status() == StatusCode::OK && !beginning.contains("jobs") {
            let mut body: Value = answer.json().await.unwrap();
            if let Some(members) = body.as_object_mut() {
                // A webhook fails by itself: nobody is at its address.
                members.retain(|name, _| !name.starts_with("last_") && name != "failing_since");
            }
            out.push(body);
        }
    }
    for list in ["/api/v1/admin/api-keys", "/api/v1/admin/group-mappings", "/api/v1/admin/sessions?limit=1", "/api/v1/badges"] {
        let path =
            if list.ends_with("badges") { format!("{list}?manifest_id={}", things["/api/v1/verify/"][0]) } else { list.into() };
        let mut body = server.json(&path).await;
        for item in body["items"].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().retain(|name, _| !name.starts_with("last_"));
        }
        out.push(body);
    }
    out
}

#[tokio::test]
async fn no_operation_reaches_a_thing_of_another_tenant() {
    depends_on!(Database);
    let server = Server::start().await;
    let things = things(&server).await;
    let token = server.tenant("acme").await;
    let before = state(&server, &things).await;
    assert!(before.len() > 15, "{before:#?}");
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (operation, needs) in authorization::needs() {
        let (method, path) = operation.split_once(' ').unwrap();
        if needs == "anybody" || !path.contains('{') || OWN_NAMES.contains(&operation.as_str()) {
            continue;
        }
        let beginning = things.keys().filter(|beginning| path.starts_with(**beginning)).max_by_key(|beginning| beginning.len());
        let Some(beginning) = beginning else {
            if PLATFORM.contains(&operation.as_str()) {
                continue;
            }
            panic!("{operation} has no thing of another tenant to be tried on: add one to `things`");
        };
        let mut filled = path.to_owned();
        for value in &things[beginning] {
            if let (Some(from), Some(to)) = (filled.find('{'), filled.find('}')) {
                filled.replace_range(from..=to, value);
            }
        }
        assert!(!filled.contains('{'), "{operation}");
        let mut request = server.anonymous(method, &filled).bearer_auth(&token);
        if matches!(method, "POST" | "PUT" | "PATCH") {
            request = request.json(&body(&operation));
        }
        let status = request.send().await.unwrap().status();
        let expected = if PLATFORM.contains(&operation.as_str()) { StatusCode::FORBIDDEN } else { StatusCode::NOT_FOUND };
        if status != expected {
            wrong.push(format!("{operation}: {status}"));
        }
        tried += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 60, "{tried}");
    assert_eq!(state(&server, &things).await, before);
}
