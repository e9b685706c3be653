//! Callers: logins, tokens, API keys, tenants.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_tests::{PASSWORD, Server, address, fixture, form, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

async fn login(server: &Server, username: &str, password: &str) -> reqwest::Response {
    server
        .anonymous("POST", "/api/v1/auth/login")
        .json(&json!({ "username": username, "password": password }))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn logins_and_refresh_tokens() {
    depends_on!(Database);
    let server = Server::start().await;
    problem(login(&server, "admin", "wrong").await, 401, "INVALID_CREDENTIALS").await;
    problem(login(&server, "nobody", PASSWORD).await, 401, "INVALID_CREDENTIALS").await;
    problem(login(&server, "admin", "").await, 401, "INVALID_CREDENTIALS").await;
    let tokens = ok(login(&server, "admin", PASSWORD).await, StatusCode::OK).await;
    assert_eq!((tokens["token_type"].as_str(), tokens["expires_in"].as_i64()), (Some("Bearer"), Some(900)));
    let exchange =
        |token: Value| server.anonymous("POST", "/api/v1/auth/refresh").json(&json!({ "refresh_token": token })).send();
    let first = tokens["refresh_token"].clone();
    let second = ok(exchange(first.clone()).await.unwrap(), StatusCode::OK).await["refresh_token"].clone();
    // A token used twice is stolen: its successors end, too.
    problem(exchange(first).await.unwrap(), 401, "REFRESH_TOKEN_REUSED").await;
    let log = server.json("/api/v1/admin/audit-logs?action=auth.refresh&outcome=denied").await;
    let stolen = &log["items"][0];
    assert_eq!((stolen["actor_name"].as_str(), &stolen["entry"]["code"]), (Some("admin"), &json!("REFRESH_TOKEN_REUSED")));
    problem(exchange(second).await.unwrap(), 401, "INVALID_REFRESH_TOKEN").await;
    problem(exchange(json!("x")).await.unwrap(), 401, "INVALID_REFRESH_TOKEN").await;
    let tokens = ok(login(&server, "admin", PASSWORD).await, StatusCode::OK).await;
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    let out = server.anonymous("POST", "/api/v1/auth/logout").json(&body).send().await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    problem(exchange(tokens["refresh_token"].clone()).await.unwrap(), 401, "INVALID_REFRESH_TOKEN").await;
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_refused() {
    depends_on!();
    let server = Server::start().await;
    let with = |token: String| server.anonymous("GET", "/api/v1/manifests").bearer_auth(token).send();
    problem(server.anonymous("GET", "/api/v1/manifests").send().await.unwrap(), 401, "MISSING_CREDENTIAL").await;
    let basic = server.anonymous("GET", "/api/v1/manifests").basic_auth("admin", Some(PASSWORD)).send().await.unwrap();
    problem(basic, 401, "MISSING_CREDENTIAL").await;
    let token = server.login().await;
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    claims["tenant"] = json!("other");
    problem(with(format!("{}.{}.{}", parts[0], encode(&claims), parts[2])).await.unwrap(), 401, "INVALID_TOKEN").await;
    for alg in ["none", "HS256", "ES384"] {
        let header = encode(&json!({ "alg": alg, "typ": "JWT" }));
        problem(with(format!("{header}.{}.{}", parts[1], parts[2])).await.unwrap(), 401, "INVALID_TOKEN").await;
    }
    problem(with(format!("{}.{}.", encode(&json!({ "alg": "none" })), parts[1])).await.unwrap(), 401, "INVALID_TOKEN").await;
    problem(with("omt_unknown".into()).await.unwrap(), 401, "INVALID_API_KEY").await;
    // Another server's token has another key.
    let other = Server::start().await;
    problem(with(other.login().await).await.unwrap(), 401, "INVALID_TOKEN").await;
    assert_eq!(with(token).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn api_keys_are_scoped_shown_once_and_revocable() {
    depends_on!(Database);
    let server = Server::start().await;
    let body = json!({ "name": "dam", "scopes": ["manifest:read"], "expires_in_days": 1 });
    let made = ok(server.request("POST", "/api/v1/admin/api-keys").json(&body).send().await.unwrap(), StatusCode::CREATED).await;
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("omt_") && made["expires_at"].is_string());
    let listed = server.json("/api/v1/admin/api-keys").await;
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert!(!listed.to_string().contains(&key));
    let as_key = |method: &str, path: &str| server.anonymous(method, path).bearer_auth(&key);
    assert_eq!(as_key("GET", "/api/v1/manifests").send().await.unwrap().status(), StatusCode::OK);
    let upload = as_key("POST", "/api/v1/manifests").multipart(form("a.jpg", fixture("a.jpg"), &[])).send().await.unwrap();
    problem(upload, 403, "FORBIDDEN").await;
    problem(as_key("GET", "/api/v1/admin/api-keys").send().await.unwrap(), 403, "FORBIDDEN").await;
    let revoke = || server.request("DELETE", &format!("/api/v1/admin/api-keys/{}", id(&made))).send();
    assert_eq!(revoke().await.unwrap().status(), StatusCode::NO_CONTENT);
    problem(as_key("GET", "/api/v1/manifests").send().await.unwrap(), 401, "API_KEY_REVOKED").await;
    problem(revoke().await.unwrap(), 404, "NOT_FOUND").await;
    for (body, status, code) in [
        (json!({ "name": "", "scopes": ["manifest:read"] }), 422, "INVALID_FIELD"),
        (json!({ "name": "x", "scopes": [] }), 422, "INVALID_FIELD"),
        (json!({ "name": "x", "scopes": ["manifest:everything"] }), 422, "UNKNOWN_SCOPE"),
        (json!({ "name": "x", "scopes": ["manifest:read"], "tenant": "../x" }), 422, "INVALID_TENANT"),
        (json!({ "name": "x", "scopes": ["manifest:read"], "expires_in_days": 0 }), 422, "INVALID_FIELD"),
        (json!({ "name": "x", "scopes": ["admin:system:config"], "tenant": "acme" }), 403, "SCOPE_NOT_ALLOWED"),
        (json!({ "name": "x" }), 400, "INVALID_JSON"),
        (json!({ "name": "x", "scopes": ["manifest:read"], "surprise": 1 }), 400, "INVALID_JSON"),
    ] {
        problem(server.request("POST", "/api/v1/admin/api-keys").json(&body).send().await.unwrap(), status, code).await;
    }
    // Nobody grants what they do not hold.
    let manager = server.key("default", &["admin:api-key:manage", "admin:user:read", "manifest:read"]).await;
    let body = json!({ "name": "x", "scopes": ["manifest:sign"] });
    let answer = server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(&manager).json(&body).send().await.unwrap();
    problem(answer, 403, "SCOPE_NOT_HELD").await;
    let body = json!({ "name": "x", "scopes": ["manifest:read"], "tenant": "acme" });
    let answer = server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(&manager).json(&body).send().await.unwrap();
    problem(answer, 403, "FORBIDDEN").await;
}

#[tokio::test]
async fn another_tenant_learns_nothing() {
    let server = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let all = ["manifest:create", "manifest:read", "manifest:update", "manifest:delete", "manifest:sign"];
    let key = server.key("acme", &all).await;
    let as_acme = |method: &str, path: &str| server.anonymous(method, path).bearer_auth(&key);
    let base = format!("/api/v1/manifests/{}", id(&record));
    for (method, path) in [
        ("GET", base.clone()),
        ("GET", format!("{base}/content")),
        ("GET", format!("{base}/manifest.c2pa")),
        ("GET", format!("{base}/report")),
        ("GET", format!("{base}/crjson")),
        ("DELETE", base.clone()),
        ("GET", format!("/api/v1/verify/{}/history", id(&record))),
        ("GET", format!("/api/v1/verify/{}/chain-of-custody", id(&record))),
    ] {
        problem(as_acme(method, &path).send().await.unwrap(), 404, "NOT_FOUND").await;
    }
    problem(as_acme("PATCH", &base).json(&json!({ "title": "x" })).send().await.unwrap(), 404, "NOT_FOUND").await;
    problem(as_acme("POST", &format!("{base}/sign")).json(&json!({})).send().await.unwrap(), 404, "NOT_FOUND").await;
    problem(
        as_acme("POST", "/api/v1/verify").json(&json!({ "manifest_id": record["id"] })).send().await.unwrap(),
        404,
        "NOT_FOUND",
    )
    .await;
    let list = ok(as_acme("GET", "/api/v1/manifests").send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(list["items"], json!([]));
    let own = as_acme("POST", "/api/v1/manifests").multipart(form("a.jpg", fixture("a.jpg"), &[])).send().await.unwrap();
    let own = ok(own, StatusCode::CREATED).await;
    assert_eq!(own["tenant"], "acme");
    problem(server.get(&format!("/api/v1/manifests/{}", id(&own))).await, 404, "NOT_FOUND").await;
    // The header may only narrow.
    let narrowed = as_acme("GET", "/api/v1/manifests").header("x-tenant-id", "acme").send().await.unwrap();
    assert_eq!(narrowed.status(), StatusCode::OK);
    problem(as_acme("GET", "/api/v1/manifests").header("x-tenant-id", "default").send().await.unwrap(), 403, "TENANT_MISMATCH")
        .await;
}

#[tokio::test]
async fn keys_end_with_whoever_made_them() {
    depends_on!(Database);
    let server = Server::start().await;
    let kim = server.user("kim", json!({ "roles": ["administrator"], "clearance": "top_secret" })).await;
    let token = server.token("kim").await;
    let make = async |bearer: &str| {
        let body = json!({ "name": "k", "scopes": ["manifest:read", "admin:api-key:manage"] });
        let made = server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(bearer).json(&body).send().await.unwrap();
        ok(made, StatusCode::CREATED).await["key"].as_str().unwrap().to_owned()
    };
    let first = make(&token).await;
    // A key that was made with a key is as much hers.
    let second = make(&first).await;
    let others = server.key("default", &["manifest:read"]).await;
    let list = async |key: &str| server.anonymous("GET", "/api/v1/manifests").bearer_auth(key).send().await.unwrap();
    assert_eq!(list(&second).await.status(), StatusCode::OK);
    let path = format!("/api/v1/admin/users/{kim}");
    let off = server.request("PUT", &path).json(&json!({ "active": false })).send().await.unwrap();
    ok(off, StatusCode::OK).await;
    for key in [&first, &second] {
        problem(list(key).await, 401, "API_KEY_REVOKED").await;
    }
    assert_eq!(list(&others).await.status(), StatusCode::OK);
    let log = server.json("/api/v1/admin/audit-logs?action=api_key.revoke").await;
    let revoked = log["items"].as_array().unwrap();
    assert_eq!(revoked.len(), 2, "{log}");
    assert!(revoked.iter().all(|item| item["actor_name"] == "admin" && item["entry"]["before"].is_string()), "{log}");
}

#[tokio::test]
async fn keys_made_with_keys_of_another_tenant_go_back_to_their_maker() {
    depends_on!(Database);
    let server = Server::start().await;
    server.tenant("acme").await;
    let kim = server.user("kim", json!({ "roles": ["administrator"], "clearance": "top_secret" })).await;
    let token = server.token("kim").await;
    let post = async |bearer: &str, tenant: Option<&str>| {
        let mut body = json!({ "name": "k", "scopes": ["manifest:read", "admin:api-key:manage"] });
        if let Some(tenant) = tenant {
            body["tenant"] = json!(tenant);
        }
        server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(bearer).json(&body).send().await.unwrap()
    };
    let make = async |bearer: &str, tenant: Option<&str>| ok(post(bearer, tenant).await, StatusCode::CREATED).await;
    let secret = |key: &Value| key["key"].as_str().unwrap().to_owned();
    let list = async |key: &str| server.anonymous("GET", "/api/v1/manifests").bearer_auth(key).send().await.unwrap();
    let first = make(&token, Some("acme")).await;
    let second = secret(&make(&secret(&first), None).await);
    // A key follows another: the one that made it may end.
    let path = format!("/api/v1/admin/api-keys/{}", id(&first));
    assert_eq!(server.request("DELETE", &path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    problem(post(&secret(&first), None).await, 401, "API_KEY_REVOKED").await;
    assert_eq!(list(&second).await.status(), StatusCode::OK);
    let third = secret(&make(&second, None).await);
    let off =
        server.request("PUT", &format!("/api/v1/admin/users/{kim}")).json(&json!({ "active": false })).send().await.unwrap();
    ok(off, StatusCode::OK).await;
    for key in [&second, &third] {
        problem(list(key).await, 401, "API_KEY_REVOKED").await;
    }
}

#[tokio::test]
async fn keys_are_not_made_with_keys_for_ever() {
    depends_on!(Database);
    let server = Server::start().await;
    let post = async |bearer: &str| {
        let body = json!({ "name": "k", "scopes": ["manifest:read", "admin:api-key:manage"] });
        server.anonymous("POST", "/api/v1/admin/api-keys").bearer_auth(bearer).json(&body).send().await.unwrap()
    };
    let mut key = server.key("default", &["manifest:read", "admin:api-key:manage"]).await;
    for _ in 0..64 {
        key = ok(post(&key).await, StatusCode::CREATED).await["key"].as_str().unwrap().to_owned();
    }
    problem(post(&key).await, 409, "KEY_CHAIN_TOO_LONG").await;
    // The last one works like any other.
    let list = server.anonymous("GET", "/api/v1/manifests").bearer_auth(&key).send().await.unwrap();
    assert_eq!(list.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_session_that_was_not_used_is_over_for_its_refresh_token_too() {
    depends_on!(Database);
    let server = Server::start_with("[auth]\nsession_idle_seconds = 2\n").await;
    let tokens = ok(login(&server, "admin", PASSWORD).await, StatusCode::OK).await;
    let exchange =
        |token: &Value| server.anonymous("POST", "/api/v1/auth/refresh").json(&json!({ "refresh_token": token })).send();
    let tokens = ok(exchange(&tokens["refresh_token"]).await.unwrap(), StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    problem(exchange(&tokens["refresh_token"]).await.unwrap(), 401, "INVALID_REFRESH_TOKEN").await;
}

/// A server of its own over a directory, whose configuration names this password for the first user.
struct Started {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Started {
    fn over(dir: &Path, config: &str, password: &str) -> Self {
        let mut command = Server::command(dir, config);
        let mut child = command.env("OMT_ADMIN__PASSWORD", password).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let url = address(&mut child);
        Self { child, url, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }
    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> reqwest::Response {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url)).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        request.send().await.unwrap()
    }
    async fn log_in(&self, username: &str, password: &str) -> reqwest::Response {
        self.send("", "POST", "/api/v1/auth/login", json!({ "username": username, "password": password })).await
    }
    async fn token(&self, username: &str, password: &str) -> String {
        ok(self.log_in(username, password).await, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_first_user_is_made_once_and_keeps_the_password_they_chose() {
    depends_on!(Database);
    let dir = tempfile::tempdir().unwrap();
    let (chosen, configured) = ("a new and long password", "another one of the operator");
    let server = Started::over(dir.path(), "", PASSWORD);
    let token = server.token("admin", PASSWORD).await;
    let change = json!({ "current": PASSWORD, "new": chosen });
    assert_eq!(server.send(&token, "PUT", "/api/v1/auth/password", change).await.status(), StatusCode::NO_CONTENT);
    drop(server);
    // The configuration says what it said before. What it says of the tenant is another thing, and in the log.
    let server = Started::over(dir.path(), "[tenant_defaults]\nthumbnails = false\n", PASSWORD);
    problem(server.log_in("admin", PASSWORD).await, 401, "INVALID_CREDENTIALS").await;
    let token = server.token("admin", chosen).await;
    let log = ok(server.send(&token, "GET", "/api/v1/admin/audit-logs?action=tenant.", Value::Null).await, StatusCode::OK).await;
    let actions: Vec<&Value> = log["items"].as_array().unwrap().iter().map(|item| &item["entry"]["action"]).collect();
    assert_eq!(actions, ["tenant.update", "tenant.create"]);
    assert!(log["items"][0]["entry"]["before"].is_string() && log["items"][0]["entry"]["resource"]["id"] == "default");
    drop(server);
    // A new one in the configuration is meant.
    let server = Started::over(dir.path(), "", configured);
    problem(server.log_in("admin", chosen).await, 401, "INVALID_CREDENTIALS").await;
    let token = server.token("admin", configured).await;
    let boss = json!({ "username": "boss", "password": PASSWORD, "roles": ["administrator"], "clearance": "top_secret" });
    ok(server.send(&token, "POST", "/api/v1/admin/users", boss).await, StatusCode::CREATED).await;
    let boss = server.token("boss", PASSWORD).await;
    let users = ok(server.send(&boss, "GET", "/api/v1/admin/users?username=admin", Value::Null).await, StatusCode::OK).await;
    let path = format!("/api/v1/admin/users/{}", id(&users["items"][0]));
    assert_eq!(server.send(&boss, "DELETE", &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    drop(server);
    // Who was removed does not come back while somebody else administers.
    let server = Started::over(dir.path(), "", configured);
    problem(server.log_in("admin", configured).await, 401, "INVALID_CREDENTIALS").await;
    server.token("boss", PASSWORD).await;
}
