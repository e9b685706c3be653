//! Users, roles, sessions, second factors, and what each sees.

use hmac::{Hmac, KeyInit, Mac};
use omt_tests::{PASSWORD, Server, fixture, form, id, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha1::Sha1;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

async fn send(server: &Server, token: &str, method: &str, path: &str, body: Value) -> Response {
    let request = server.anonymous(method, path).bearer_auth(token);
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.unwrap()
}

async fn admin(server: &Server, method: &str, path: &str, body: Value) -> Response {
    let request = server.request(method, path);
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.unwrap()
}

/// What the log says was denied with this code, newest first.
async fn denied(server: &Server, action: &str, code: &str) -> Vec<Value> {
    let log = server.json(&format!("/api/v1/admin/audit-logs?action={action}&outcome=denied&limit=200")).await;
    log["items"].as_array().unwrap().iter().filter(|item| item["entry"]["code"] == code).cloned().collect()
}

#[tokio::test]
async fn users_are_made_changed_and_removed() {
    depends_on!(Database);
    let server = Server::start().await;
    for (body, status, code) in [
        (json!({ "username": "a)(uid=*" }), 422, "INVALID_FIELD"),
        (json!({ "username": "bob", "password": "short" }), 422, "WEAK_PASSWORD"),
        (json!({ "username": "bob", "password": "bob-and-some-more" }).clone(), 201, ""),
        (json!({ "username": "BOB" }), 409, "USERNAME_TAKEN"),
        (json!({ "username": "carol", "roles": ["emperor"] }), 422, "UNKNOWN_ROLE"),
        (json!({ "username": "carol", "email": "nowhere" }), 422, "INVALID_FIELD"),
        (json!({ "username": "carol", "clearance": "cosmic" }), 422, "INVALID_FIELD"),
        (json!({ "username": "carol", "admin": true }), 400, "INVALID_JSON"),
    ] {
        let answer = admin(&server, "POST", "/api/v1/admin/users", body.clone()).await;
        if status == 201 {
            // Three letters are too few to look for in a password.
            assert_eq!(answer.status(), StatusCode::CREATED, "{body}");
        } else {
            problem(answer, status, code).await;
        }
    }
    let alice = server.user("alice", json!({ "roles": ["creator"], "display_name": "Alice A." })).await;
    let path = format!("/api/v1/admin/users/{alice}");
    let found = server.get(&path).await;
    let tag = found.headers()["etag"].to_str().unwrap().to_owned();
    let found = ok(found, StatusCode::OK).await;
    assert_eq!((found["roles"][0].as_str(), found["clearance"].as_str()), (Some("creator"), Some("internal")));
    assert!(!found.to_string().contains("argon2"), "{found}");
    let token = server.token("Alice").await;
    let me = ok(send(&server, &token, "GET", "/api/v1/auth/me", Value::Null).await, StatusCode::OK).await;
    assert_eq!(me["permissions"], json!(["manifest:create", "manifest:read", "workflow:initiate"]));
    // Rights that are given and taken hold at once.
    let changed = server.request("PUT", &path).header("if-match", &tag).json(&json!({ "roles": ["auditor"] })).send().await;
    ok(changed.unwrap(), StatusCode::OK).await;
    let stale = server.request("PUT", &path).header("if-match", &tag).json(&json!({ "roles": [] })).send().await.unwrap();
    problem(stale, 412, "REVISION_MISMATCH").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let me = ok(send(&server, &token, "GET", "/api/v1/auth/me", Value::Null).await, StatusCode::OK).await;
    assert_eq!(me["roles"], json!(["auditor"]));
    // What a database cannot keep is refused, or found nowhere.
    for path in ["/api/v1/admin/users?username=%00", "/api/v1/admin/audit-logs?action=%00", "/api/v1/manifests?q=%00"] {
        assert!(!server.get(path).await.status().is_server_error(), "{path}");
    }
    let listed = server.json("/api/v1/admin/users?username=LIC").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // What is not named stays.
    let narrowed = admin(&server, "PUT", &path, json!({ "department": "news", "projects": ["p"] })).await;
    ok(narrowed, StatusCode::OK).await;
    let cleared = ok(admin(&server, "PUT", &path, json!({ "clearance": "public" })).await, StatusCode::OK).await;
    assert_eq!((cleared["department"].as_str(), &cleared["projects"]), (Some("news"), &json!(["p"])));
    // What a hash does not show, the entry says.
    ok(admin(&server, "PUT", &path, json!({ "password": PASSWORD, "email": "a@example.test" })).await, StatusCode::OK).await;
    let log = server.json(&format!("/api/v1/admin/audit-logs?action=user.update&resource={alice}")).await;
    assert_eq!(log["items"][0]["entry"]["detail"], json!({ "changed": ["email", "password"] }));
    let token = server.token("alice").await;
    // Inactive users are out.
    ok(admin(&server, "PUT", &path, json!({ "active": false })).await, StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    problem(send(&server, &token, "GET", "/api/v1/auth/me", Value::Null).await, 401, "SESSION_ENDED").await;
    problem(server.log_in(json!({ "username": "alice", "password": PASSWORD })).await, 401, "INVALID_CREDENTIALS").await;
    assert_eq!(admin(&server, "DELETE", &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    problem(server.get(&path).await, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_hold() {
    depends_on!(Database);
    let server = Server::start().await;
    let admins = server.json("/api/v1/admin/users?username=admin").await;
    let first = id(&admins["items"][0]).to_owned();
    let first = format!("/api/v1/admin/users/{first}");
    for body in [json!({ "roles": [] }), json!({ "active": false })] {
        problem(admin(&server, "PUT", &first, body).await, 409, "LAST_ADMINISTRATOR").await;
    }
    problem(admin(&server, "DELETE", &first, Value::Null).await, 409, "LAST_ADMINISTRATOR").await;
    for body in [json!({ "password": "a very long new password" }), json!({ "reset_second_factor": true })] {
        problem(admin(&server, "PUT", &first, body).await, 409, "OWN_CREDENTIALS").await;
    }
    // Nor by way of a role of one's own.
    let path = "/api/v1/admin/roles/boss";
    let boss = json!({ "name": "boss", "inherits": ["administrator"] });
    ok(admin(&server, "POST", "/api/v1/admin/roles", boss).await, StatusCode::CREATED).await;
    ok(admin(&server, "PUT", &first, json!({ "roles": ["boss"] })).await, StatusCode::OK).await;
    problem(admin(&server, "PUT", path, json!({ "permissions": ["admin:system:config"] })).await, 409, "LAST_ADMINISTRATOR")
        .await;
    ok(admin(&server, "PUT", &first, json!({ "roles": ["administrator"] })).await, StatusCode::OK).await;
    ok(admin(&server, "PUT", path, json!({})).await, StatusCode::OK).await;
    // A role that manages users, and cannot sign.
    let made = admin(
        &server,
        "POST",
        "/api/v1/admin/roles",
        json!({ "name": "helpdesk", "permissions": ["admin:user:manage", "admin:user:read", "admin:role:manage", "admin:role:read", "manifest:read"] }),
    );
    ok(made.await, StatusCode::CREATED).await;
    server.user("helen", json!({ "roles": ["helpdesk"], "clearance": "confidential", "department": "support" })).await;
    let token = server.token("helen").await;
    let helen = async |method: &str, path: &str, body: Value| send(&server, &token, method, path, body).await;
    let users = "/api/v1/admin/users";
    problem(helen("POST", users, json!({ "username": "x", "roles": ["approver"] })).await, 403, "PERMISSION_NOT_HELD").await;
    problem(helen("POST", users, json!({ "username": "x", "roles": ["administrator"] })).await, 403, "PERMISSION_NOT_HELD").await;
    problem(helen("POST", users, json!({ "username": "x", "clearance": "secret" })).await, 403, "REACH_NOT_HELD").await;
    problem(helen("POST", users, json!({ "username": "x", "department": "legal" })).await, 403, "REACH_NOT_HELD").await;
    let made = ok(helen("POST", users, json!({ "username": "x", "roles": ["helpdesk"] })).await, StatusCode::CREATED).await;
    assert_eq!((made["department"].as_str(), made["clearance"].as_str()), (Some("support"), Some("internal")));
    // Whoever holds more is out of reach: their password would be theirs.
    problem(helen("PUT", &first, json!({ "password": "a very long new password" })).await, 403, "OUTRANKED").await;
    problem(helen("DELETE", &first, Value::Null).await, 403, "OUTRANKED").await;
    let roles = "/api/v1/admin/roles";
    let wide = json!({ "name": "wide", "permissions": ["manifest:sign"] });
    problem(helen("POST", roles, wide).await, 403, "PERMISSION_NOT_HELD").await;
    let wide = json!({ "name": "wide", "inherits": ["manager"] });
    problem(helen("POST", roles, wide).await, 403, "PERMISSION_NOT_HELD").await;
    let mapping = json!({ "group": "g", "roles": ["manager"] });
    problem(helen("POST", "/api/v1/admin/group-mappings", mapping).await, 403, "PERMISSION_NOT_HELD").await;
    let mapping = json!({ "group": "g", "clearance": "top_secret" });
    problem(helen("POST", "/api/v1/admin/group-mappings", mapping).await, 403, "REACH_NOT_HELD").await;
    // Everything that was refused is in the log.
    let log = server.json("/api/v1/admin/audit-logs?action=access.denied&limit=200").await;
    let codes: Vec<&str> = log["items"].as_array().unwrap().iter().map(|i| i["entry"]["code"].as_str().unwrap()).collect();
    for code in ["PERMISSION_NOT_HELD", "REACH_NOT_HELD", "OUTRANKED"] {
        assert!(codes.contains(&code), "{codes:?}");
    }
}

#[tokio::test]
async fn roles_inherit_and_say_why() {
    depends_on!(Database);
    let server = Server::start().await;
    let roles = "/api/v1/admin/roles";
    for (body, status, code) in [
        (json!({ "name": "Desk" }), 422, "INVALID_FIELD"),
        (json!({ "name": "manager" }), 409, "ROLE_EXISTS"),
        (json!({ "name": "desk", "permissions": ["manifest:fly"] }), 422, "UNKNOWN_PERMISSION"),
        (json!({ "name": "desk", "inherits": ["emperor"] }), 422, "UNKNOWN_ROLE"),
        (json!({ "name": "desk", "inherits": ["desk"] }), 422, "ROLE_CYCLE"),
    ] {
        problem(admin(&server, "POST", roles, body).await, status, code).await;
    }
    let desk = json!({ "name": "desk", "inherits": ["editor"], "permissions": ["manifest:hold"] });
    ok(admin(&server, "POST", roles, desk).await, StatusCode::CREATED).await;
    ok(admin(&server, "POST", roles, json!({ "name": "lead", "inherits": ["desk"] })).await, StatusCode::CREATED).await;
    let before = server.json("/api/v1/admin/roles/desk").await;
    problem(admin(&server, "PUT", "/api/v1/admin/roles/desk", json!({ "inherits": ["lead"] })).await, 422, "ROLE_CYCLE").await;
    // Nothing was changed by it, and it is in the log; so is a mapping to a role that there is not.
    assert_eq!(server.json("/api/v1/admin/roles/desk").await, before);
    let mapping = json!({ "group": "g", "roles": ["emperor"] });
    problem(admin(&server, "POST", "/api/v1/admin/group-mappings", mapping).await, 422, "UNKNOWN_ROLE").await;
    assert_eq!(server.json("/api/v1/admin/group-mappings").await["items"], json!([]));
    assert!(!denied(&server, "access.denied", "ROLE_CYCLE").await.is_empty());
    assert!(!denied(&server, "access.denied", "UNKNOWN_ROLE").await.is_empty());
    problem(admin(&server, "PUT", "/api/v1/admin/roles/editor", json!({})).await, 409, "BUILT_IN_ROLE").await;
    problem(admin(&server, "DELETE", "/api/v1/admin/roles/desk", Value::Null).await, 409, "ROLE_IN_USE").await;
    let lea = server.user("lea", json!({ "roles": ["lead"], "department": "news" })).await;
    problem(admin(&server, "DELETE", "/api/v1/admin/roles/lead", Value::Null).await, 409, "ROLE_IN_USE").await;
    let why = server.json(&format!("/api/v1/admin/explain?user={lea}&permission=manifest:update")).await;
    assert_eq!(why["allowed"], true);
    assert_eq!(why["roles"][0]["chain"], json!(["lead", "desk", "editor"]));
    let why = server.json(&format!("/api/v1/admin/explain?user={lea}&permission=manifest:sign")).await;
    assert_eq!((why["allowed"].as_bool(), &why["roles"][0]["chain"]), (Some(false), &Value::Null));
    let secret = server.signed("a.jpg", fixture("a.jpg"), &[("classification", "secret"), ("department", "legal")]).await;
    let path = format!("/api/v1/admin/explain?user={lea}&permission=manifest:read&resource={}", id(&secret));
    let why = server.json(&path).await;
    let failing: Vec<&str> =
        why["checks"].as_array().unwrap().iter().filter(|c| c["holds"] == false).map(|c| c["check"].as_str().unwrap()).collect();
    assert_eq!(failing, ["the manifest's department is within reach", "the clearance internal covers secret"]);
    // A role that changes is changed for whoever has it.
    let token = server.token("lea").await;
    let me = async || ok(send(&server, &token, "GET", "/api/v1/auth/me", Value::Null).await, StatusCode::OK).await;
    assert!(me().await["permissions"].as_array().unwrap().contains(&json!("manifest:hold")));
    ok(admin(&server, "PUT", "/api/v1/admin/roles/desk", json!({ "inherits": ["editor"] })).await, StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!me().await["permissions"].as_array().unwrap().contains(&json!("manifest:hold")));
}

#[tokio::test]
async fn what_is_out_of_reach_does_not_exist() {
    depends_on!(Database);
    let server = Server::start().await;
    let news = [("department", "news"), ("project", "p1")];
    let own = server.signed("a.jpg", fixture("a.jpg"), &[&news[..], &[("classification", "internal")]].concat()).await;
    let secret = server.signed("a.png", fixture("a.png"), &[&news[..], &[("classification", "secret")]].concat()).await;
    let legal = server.signed("a.gif", fixture("a.gif"), &[("department", "legal")]).await;
    let other = server.signed("a.webp", fixture("a.webp"), &[("department", "news"), ("project", "p2")]).await;
    let nobodys = server.signed("a.svg", fixture("a.svg"), &[]).await;
    server.user("nina", json!({ "roles": ["manager"], "department": "news", "projects": ["p1"] })).await;
    let token = server.token("nina").await;
    let nina = async |method: &str, path: String, body: Value| send(&server, &token, method, &path, body).await;
    let list = ok(nina("GET", "/api/v1/manifests".into(), Value::Null).await, StatusCode::OK).await;
    let seen: Vec<&str> = list["items"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(seen, [id(&nobodys), id(&own)]);
    for hidden in [&secret, &legal, &other] {
        let base = format!("/api/v1/manifests/{}", id(hidden));
        for (method, path, body) in [
            ("GET", base.clone(), Value::Null),
            ("GET", format!("{base}/content"), Value::Null),
            ("GET", format!("{base}/report"), Value::Null),
            ("DELETE", base.clone(), Value::Null),
            ("PUT", format!("{base}/legal-hold"), json!({ "reason": "x" })),
            ("GET", format!("/api/v1/verify/{}/history", id(hidden)), Value::Null),
            ("POST", "/api/v1/verify".into(), json!({ "manifest_id": id(hidden) })),
        ] {
            problem(nina(method, path, body).await, 404, "NOT_FOUND").await;
        }
    }
    let upload = async |fields: &[(&str, &str)]| {
        let form = form("b.png", fixture("a.png"), fields);
        server.anonymous("POST", "/api/v1/manifests").bearer_auth(&token).multipart(form).send().await.unwrap()
    };
    problem(upload(&[("classification", "confidential")]).await, 403, "CLEARANCE_EXCEEDED").await;
    problem(upload(&[("department", "legal")]).await, 403, "DEPARTMENT_NOT_YOURS").await;
    problem(upload(&[("project", "p2")]).await, 403, "PROJECT_NOT_YOURS").await;
    let made = ok(upload(&[("project", "p1")]).await, StatusCode::CREATED).await;
    assert_eq!(made["department"], "news");
    let path = format!("/api/v1/manifests/{}", id(&made));
    problem(nina("PATCH", path.clone(), json!({ "classification": "secret" })).await, 403, "CLEARANCE_EXCEEDED").await;
    problem(nina("PATCH", path, json!({ "department": "legal" })).await, 403, "DEPARTMENT_NOT_YOURS").await;
    // A key sees no more than whoever made it, and may see less.
    let body = json!({ "name": "k", "scopes": ["manifest:read"], "department": "legal", "clearance": "public" });
    let key = ok(admin(&server, "POST", "/api/v1/admin/api-keys", body).await, StatusCode::CREATED).await;
    let seen = send(&server, key["key"].as_str().unwrap(), "GET", "/api/v1/manifests", Value::Null).await;
    assert_eq!(ok(seen, StatusCode::OK).await["items"], json!([]));
    // Reading what is confidential or above is written down.
    server.get(&format!("/api/v1/manifests/{}", id(&secret))).await;
    let log = server.json(&format!("/api/v1/admin/audit-logs?action=manifest.read&resource={}", id(&secret))).await;
    assert_eq!(log["items"][0]["actor_name"], "admin");
}

#[tokio::test]
async fn names_close_after_failed_logins() {
    depends_on!(Database);
    let server = Server::start_with("[auth]\nlockout_attempts = 3\nlockout_seconds = 2\n").await;
    let alice = server.user("alice", json!({ "roles": ["creator"] })).await;
    // A tenant that does not exist is a wrong password like any other, and nothing is written under its name.
    let stranger = json!({ "username": "eve", "password": PASSWORD, "tenant": "made-up" });
    problem(server.log_in(stranger).await, 401, "INVALID_CREDENTIALS").await;
    let log = server.json("/api/v1/admin/audit-logs?action=auth.login&outcome=denied").await;
    assert_eq!(log["items"][0]["entry"]["tenant"], "default");
    for name in ["alice", "nobody"] {
        for _ in 0..3 {
            problem(server.log_in(json!({ "username": name, "password": "wrong" })).await, 401, "INVALID_CREDENTIALS").await;
        }
        // The right password does not help, and names that do not exist look alike.
        let closed = problem(server.log_in(json!({ "username": name, "password": PASSWORD })).await, 429, "TOO_MANY_ATTEMPTS");
        assert!(closed.await["retry_after"].as_u64().unwrap() <= 2);
    }
    // The log says whose name it was, where it was somebody's; and names that nobody can have are in it too.
    for code in ["TOO_MANY_ATTEMPTS", "INVALID_CREDENTIALS"] {
        let found = denied(&server, "auth.login", code).await;
        let whose =
            |kind: &str, id: &str| found.iter().any(|item| item["entry"]["resource"] == json!({ "kind": kind, "id": id }));
        assert!(whose("user", &alice) && whose("login", "password"), "{found:?}");
    }
    let before = denied(&server, "auth.login", "INVALID_CREDENTIALS").await.len();
    problem(server.log_in(json!({ "username": "ali\u{7}ce", "password": PASSWORD })).await, 401, "INVALID_CREDENTIALS").await;
    assert_eq!(denied(&server, "auth.login", "INVALID_CREDENTIALS").await.len(), before + 1);
    tokio::time::sleep(Duration::from_millis(2200)).await;
    ok(server.log_in(json!({ "username": "alice", "password": PASSWORD })).await, StatusCode::OK).await;
    // A thousand at once try no more than three, however long they take.
    let server = Server::start_with("[auth]\nlockout_attempts = 3\nlockout_seconds = 300\n").await;
    server.user("alice", json!({ "roles": ["creator"] })).await;
    let server = std::sync::Arc::new(server);
    let mut running = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let server = server.clone();
        running.spawn(async move {
            let answer = server.log_in(json!({ "username": "alice", "password": format!("guess-{n}") })).await;
            answer.status().as_u16()
        });
    }
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    while let Some(status) = running.join_next().await {
        *statuses.entry(status.unwrap()).or_default() += 1;
    }
    assert!(statuses.get(&401).copied().unwrap_or(0) <= 3, "{statuses:?}");
    assert!(statuses.keys().all(|status| [401, 429, 503].contains(status)), "{statuses:?}");
    assert_eq!(server.get("/health").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn sessions_are_seen_and_ended() {
    depends_on!(Database);
    let server = Server::start().await;
    let alice = server.user("alice", json!({ "roles": ["creator"] })).await;
    let (one, two) = (server.token("alice").await, server.token("alice").await);
    let mine = ok(send(&server, &one, "GET", "/api/v1/auth/sessions", Value::Null).await, StatusCode::OK).await;
    assert_eq!(mine["items"].as_array().unwrap().len(), 2);
    let other = mine["items"].as_array().unwrap().iter().find(|s| s["current"] == false).unwrap();
    let path = format!("/api/v1/auth/sessions/{}", id(other));
    assert_eq!(send(&server, &one, "DELETE", &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    problem(send(&server, &two, "GET", "/api/v1/auth/me", Value::Null).await, 401, "SESSION_ENDED").await;
    problem(send(&server, &one, "DELETE", &path, Value::Null).await, 404, "NOT_FOUND").await;
    let listed = server.json(&format!("/api/v1/admin/sessions?user={alice}")).await;
    let session = id(&listed["items"][0]).to_owned();
    let ended = admin(&server, "DELETE", &format!("/api/v1/admin/sessions/{session}"), Value::Null).await;
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    problem(send(&server, &one, "GET", "/api/v1/auth/me", Value::Null).await, 401, "SESSION_ENDED").await;
    // A new password ends every session.
    let token = server.token("alice").await;
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let path = "/api/v1/auth/password";
    problem(send(&server, &token, "PUT", path, change("wrong", "a long enough one")).await, 401, "INVALID_CREDENTIALS").await;
    problem(send(&server, &token, "PUT", path, change(PASSWORD, "short")).await, 422, "WEAK_PASSWORD").await;
    let changed = send(&server, &token, "PUT", path, change(PASSWORD, "a new and long password")).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    problem(send(&server, &token, "GET", "/api/v1/auth/me", Value::Null).await, 401, "SESSION_ENDED").await;
    ok(server.log_in(json!({ "username": "alice", "password": "a new and long password" })).await, StatusCode::OK).await;
}

/// The code of a step (RFC 6238), of a secret in base 32: by code of our own.
pub(crate) fn code(secret: &str, step: u64) -> String {
    let mut bits = 0_u64;
    let (mut held, mut key) = (0, Vec::new());
    for c in secret.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == c).unwrap() as u64;
        (bits, held) = (bits << 5 | value, held + 5);
        if held >= 8 {
            held -= 8;
            key.push((bits >> held & 0xff) as u8);
        }
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).unwrap();
    mac.update(&step.to_be_bytes());
    let tag = mac.finalize().into_bytes();
    let offset = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes(tag[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn step() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30
}

#[tokio::test]
async fn second_factors_are_enrolled_asked_for_and_used_once() {
    depends_on!(Database);
    let server = Server::start_with("[auth]\nsecond_factor_roles = [\"approver\"]\n").await;
    // A role of one's own is no way around.
    let signer = json!({ "name": "signer", "inherits": ["approver"] });
    ok(admin(&server, "POST", "/api/v1/admin/roles", signer).await, StatusCode::CREATED).await;
    server.user("sam", json!({ "roles": ["signer"] })).await;
    let tokens = ok(server.log_in(json!({ "username": "sam", "password": PASSWORD })).await, StatusCode::OK).await;
    assert_eq!(tokens["second_factor_enrolment_required"], true);
    let list = send(&server, tokens["access_token"].as_str().unwrap(), "GET", "/api/v1/manifests", Value::Null).await;
    problem(list, 403, "SECOND_FACTOR_ENROLMENT_REQUIRED").await;
    let ann = server.user("ann", json!({ "roles": ["approver"] })).await;
    let tokens = ok(server.log_in(json!({ "username": "ann", "password": PASSWORD })).await, StatusCode::OK).await;
    assert_eq!(tokens["second_factor_enrolment_required"], true);
    let token = tokens["access_token"].as_str().unwrap().to_owned();
    let list = send(&server, &token, "GET", "/api/v1/manifests", Value::Null).await;
    problem(list, 403, "SECOND_FACTOR_ENROLMENT_REQUIRED").await;
    let path = "/api/v1/auth/second-factor";
    let made = ok(send(&server, &token, "POST", path, Value::Null).await, StatusCode::CREATED).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(made["url"].as_str().unwrap().starts_with("otpauth://totp/OpenMediaTrust:ann?"));
    assert!(made["qr_png"].as_str().unwrap().starts_with("iVBOR"));
    problem(send(&server, &token, "PUT", path, json!({ "code": "000000" })).await, 401, "INVALID_SECOND_FACTOR").await;
    let first = step();
    let confirmed = send(&server, &token, "PUT", path, json!({ "code": code(secret, first) })).await;
    assert_eq!(confirmed.status(), StatusCode::NO_CONTENT);
    ok(send(&server, &token, "GET", "/api/v1/manifests", Value::Null).await, StatusCode::OK).await;
    let login = |second: Value| json!({ "username": "ann", "password": PASSWORD, "second_factor": second });
    problem(server.log_in(login(Value::Null)).await, 401, "SECOND_FACTOR_REQUIRED").await;
    // The code that confirmed is used; the next one is good once.
    problem(server.log_in(login(json!(code(secret, first)))).await, 401, "INVALID_SECOND_FACTOR").await;
    let next = code(secret, first + 1);
    ok(server.log_in(login(json!(next))).await, StatusCode::OK).await;
    problem(server.log_in(login(json!(next))).await, 401, "INVALID_SECOND_FACTOR").await;
    let reused = denied(&server, "auth.login", "INVALID_SECOND_FACTOR").await;
    assert_eq!(reused[0]["entry"]["resource"], json!({ "kind": "user", "id": ann }));
    // So is a recovery code.
    let recovery = made["recovery_codes"][3].clone();
    let tokens = ok(server.log_in(login(recovery.clone())).await, StatusCode::OK).await;
    problem(server.log_in(login(recovery)).await, 401, "INVALID_SECOND_FACTOR").await;
    let token = tokens["access_token"].as_str().unwrap();
    problem(send(&server, token, "DELETE", path, Value::Null).await, 409, "SECOND_FACTOR_REQUIRED").await;
    // An administrator helps who lost it.
    let ann = server.json("/api/v1/admin/users?username=ann").await;
    let path = format!("/api/v1/admin/users/{}", id(&ann["items"][0]));
    let reset = admin(&server, "PUT", &path, json!({ "reset_second_factor": true }));
    assert_eq!(ok(reset.await, StatusCode::OK).await["second_factor"], false);
}

#[tokio::test]
async fn what_is_dangerous_needs_a_fresh_second_factor() {
    depends_on!(Database);
    let server = Server::start_with("[auth]\nstep_up_seconds = 2\n").await;
    let token = server.login().await;
    let path = "/api/v1/auth/second-factor";
    let made = ok(send(&server, &token, "POST", path, Value::Null).await, StatusCode::CREATED).await;
    let (secret, first) = (made["secret"].as_str().unwrap(), step());
    let confirmed = send(&server, &token, "PUT", path, json!({ "code": code(secret, first) })).await;
    assert_eq!(confirmed.status(), StatusCode::NO_CONTENT);
    let role = |name: &str| json!({ "name": name });
    ok(send(&server, &token, "POST", "/api/v1/admin/roles", role("one")).await, StatusCode::CREATED).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for (method, path, body) in [
        ("POST", "/api/v1/admin/roles", role("two")),
        ("POST", "/api/v1/admin/tenants", json!({ "id": "acme" })),
        ("GET", "/api/v1/audit/export", Value::Null),
        ("GET", "/api/v1/audit/tile/entries/000", Value::Null),
        ("POST", "/api/v1/admin/api-keys", json!({ "name": "k", "scopes": ["manifest:read"] })),
        ("POST", "/api/v1/admin/group-mappings", json!({ "group": "g", "roles": ["creator"] })),
        ("POST", "/api/v1/admin/users", json!({ "username": "second", "roles": ["administrator"] })),
        ("POST", "/api/v1/admin/users", json!({ "username": "second", "password": PASSWORD })),
        ("DELETE", path, Value::Null),
    ] {
        problem(send(&server, &token, method, path, body).await, 403, "STEP_UP_REQUIRED").await;
    }
    // Somebody who may do nothing and cannot log in is no way back in.
    let plain = send(&server, &token, "POST", "/api/v1/admin/users", json!({ "username": "plain" })).await;
    ok(plain, StatusCode::CREATED).await;
    let step_up = "/api/v1/auth/step-up";
    problem(send(&server, &token, "POST", step_up, json!({ "code": "123" })).await, 401, "INVALID_SECOND_FACTOR").await;
    let given = send(&server, &token, "POST", step_up, json!({ "code": code(secret, first + 1) })).await;
    assert_eq!(given.status(), StatusCode::NO_CONTENT);
    ok(send(&server, &token, "POST", "/api/v1/admin/roles", role("two")).await, StatusCode::CREATED).await;
}
