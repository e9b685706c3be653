//! An identity provider keeps users and groups by SCIM 2.0.

use crate::users::code;
use omt_tests::{Server, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Client<'a> {
    server: &'a Server,
    key: String,
}

impl Client<'_> {
    async fn send(&self, method: &str, path: &str, body: Value) -> Response {
        let request = self.server.anonymous(method, &format!("/scim/v2/{path}")).bearer_auth(&self.key);
        let request =
            if body.is_null() { request } else { request.header("content-type", "application/scim+json").body(body.to_string()) };
        request.send().await.unwrap()
    }
    async fn ok(&self, method: &str, path: &str, body: Value, status: StatusCode) -> Value {
        ok(self.send(method, path, body).await, status).await
    }
    async fn refused(&self, method: &str, path: &str, body: Value, status: u16, kind: &str) {
        let answer = self.send(method, path, body).await;
        assert_eq!(answer.headers()["content-type"], "application/scim+json");
        let found = answer.status().as_u16();
        let error: Value = answer.json().await.unwrap();
        assert_eq!((found, error["scimType"].as_str().unwrap_or_default()), (status, kind), "{error}");
        assert_eq!(error["status"], status.to_string());
    }
}

#[tokio::test]
async fn users_and_groups_are_provisioned() {
    depends_on!(Database);
    let server = Server::start().await;
    // Whoever puts people into a group gives what the group gives.
    let scopes = ["admin:user:read", "admin:user:manage", "manifest:read", "manifest:create", "workflow:initiate"];
    let scim = Client { server: &server, key: server.key("default", &scopes).await };
    let petra = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "petra@example.test", "externalId": "e-1",
        "name": { "formatted": "Petra Parker" }, "emails": [{ "value": "petra@example.test", "primary": true }], "active": true,
    });
    let made = scim.ok("POST", "Users", petra.clone(), StatusCode::CREATED).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let user = format!("Users/{id}");
    assert_eq!((made["displayName"].as_str(), made["active"].as_bool()), (Some("Petra Parker"), Some(true)));
    scim.refused("POST", "Users", petra.clone(), 409, "uniqueness").await;
    scim.refused("POST", "Users", json!({ "userName": "a*" }), 400, "invalidValue").await;
    let found = scim.ok("GET", "Users?filter=userName%20eq%20%22PETRA%40example.test%22", Value::Null, StatusCode::OK).await;
    assert_eq!((found["totalResults"].as_u64(), &found["Resources"][0]["id"]), (Some(1), &made["id"]));
    let found = scim.ok("GET", "Users?filter=externalId%20eq%20%22e-1%22", Value::Null, StatusCode::OK).await;
    assert_eq!(found["totalResults"], 1);
    let all = scim.ok("GET", "Users?startIndex=2&count=1", Value::Null, StatusCode::OK).await;
    assert_eq!(
        (all["totalResults"].as_u64(), all["itemsPerPage"].as_u64(), all["startIndex"].as_u64()),
        (Some(2), Some(1), Some(2))
    );
    for filter in ["userName%20co%20%22x%22", "nonsense", "title%20eq%20%22x%22", "userName%20eq%20x"] {
        scim.refused("GET", &format!("Users?filter={filter}"), Value::Null, 400, "invalidFilter").await;
    }
    // A group gives what its mapping says.
    let group = json!({ "displayName": "Desk", "members": [{ "value": id }] });
    let group = scim.ok("POST", "Groups", group, StatusCode::CREATED).await;
    let path = format!("Groups/{}", group["id"].as_str().unwrap());
    let roles = async || server.json(&format!("/api/v1/admin/users/{id}")).await["group_roles"].clone();
    assert_eq!(roles().await, json!([]));
    // A trial says what would be seen, not only which roles there would be.
    let trial = json!({ "group": "desk", "department": "news", "clearance": "top_secret" });
    let tried = server.request("POST", "/api/v1/admin/group-mappings?dry_run=true").json(&trial).send().await.unwrap();
    let tried = ok(tried, StatusCode::OK).await;
    assert_eq!(tried["summary"], "this 1 user would gain department news, clearance top_secret");
    assert_eq!(
        (&tried["users"][0]["gains"], &tried["users"][0]["sees"]),
        (&json!([]), &json!({ "department": "news", "projects": [], "clearance": "top_secret" }))
    );
    let mapping = json!({ "group": "desk", "roles": ["creator"] });
    ok(server.request("POST", "/api/v1/admin/group-mappings").json(&mapping).send().await.unwrap(), StatusCode::CREATED).await;
    assert_eq!(roles().await, json!(["creator"]));
    let patch =
        |operations: Value| json!({ "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": operations });
    let remove = patch(json!([{ "op": "remove", "path": format!("members[value eq \"{id}\"]") }]));
    assert_eq!(scim.ok("PATCH", &path, remove, StatusCode::OK).await["members"], json!([]));
    assert_eq!(roles().await, json!([]));
    let add = patch(json!([{ "op": "Add", "path": "members", "value": [{ "value": id }] }]));
    scim.ok("PATCH", &path, add, StatusCode::OK).await;
    assert_eq!(roles().await, json!(["creator"]));
    scim.refused(
        "PATCH",
        &path,
        patch(json!([{ "op": "add", "path": "members", "value": [{ "value": uuid::Uuid::now_v7() }] }])),
        400,
        "invalidValue",
    )
    .await;
    scim.refused("PATCH", &path, patch(json!([{ "op": "add", "path": "color", "value": "red" }])), 400, "invalidPath").await;
    // A key that holds less than a group gives cannot put anybody into it.
    let mighty = json!({ "displayName": "Bosses", "members": [] });
    let mighty = scim.ok("POST", "Groups", mighty, StatusCode::CREATED).await;
    let mapping = json!({ "group": "bosses", "roles": ["administrator"] });
    ok(server.request("POST", "/api/v1/admin/group-mappings").json(&mapping).send().await.unwrap(), StatusCode::CREATED).await;
    let add = patch(json!([{ "op": "add", "path": "members", "value": [{ "value": id }] }]));
    scim.refused("PATCH", &format!("Groups/{}", mighty["id"].as_str().unwrap()), add, 403, "").await;
    // Nor by a mapping that gives a wider view than its own.
    let narrow = json!({ "name": "narrow", "scopes": scopes, "clearance": "internal" });
    let narrow =
        ok(server.request("POST", "/api/v1/admin/api-keys").json(&narrow).send().await.unwrap(), StatusCode::CREATED).await;
    let narrow = Client { server: &server, key: narrow["key"].as_str().unwrap().to_owned() };
    let cleared = scim.ok("POST", "Groups", json!({ "displayName": "Cleared" }), StatusCode::CREATED).await;
    let mapping = json!({ "group": "cleared", "clearance": "top_secret" });
    ok(server.request("POST", "/api/v1/admin/group-mappings").json(&mapping).send().await.unwrap(), StatusCode::CREATED).await;
    let add = patch(json!([{ "op": "add", "path": "members", "value": [{ "value": id }] }]));
    narrow.refused("PATCH", &format!("Groups/{}", cleared["id"].as_str().unwrap()), add, 403, "").await;
    // Deactivation, as Entra and Okta send it.
    for value in [json!("False"), json!(false)] {
        let off = scim.ok("PATCH", &user, patch(json!([{ "op": "Replace", "path": "active", "value": value }])), StatusCode::OK);
        assert_eq!(off.await["active"], false);
    }
    let on = patch(json!([{ "op": "replace", "value": { "active": true, "displayName": "P. Parker" } }]));
    let on = scim.ok("PATCH", &user, on, StatusCode::OK).await;
    assert_eq!((on["active"].as_bool(), on["displayName"].as_str()), (Some(true), Some("P. Parker")));
    let replaced = scim.ok("PUT", &user, json!({ "userName": "pp@example.test" }), StatusCode::OK).await;
    assert_eq!((replaced["userName"].as_str(), &replaced["displayName"]), (Some("pp@example.test"), &Value::Null));
    scim.refused("PATCH", &user, patch(json!([{ "op": "explode", "path": "active" }])), 400, "invalidValue").await;
    assert_eq!(scim.send("DELETE", &user, Value::Null).await.status(), StatusCode::NO_CONTENT);
    scim.refused("GET", &user, Value::Null, 404, "").await;
    assert_eq!(scim.ok("GET", &path, Value::Null, StatusCode::OK).await["members"], json!([]));
    assert_eq!(scim.send("DELETE", &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(scim.ok("GET", "ServiceProviderConfig", Value::Null, StatusCode::OK).await["patch"]["supported"], true);
    // Others may not.
    let reader = Client { server: &server, key: server.key("default", &["manifest:read"]).await };
    problem(reader.send("GET", "Users", Value::Null).await, 403, "FORBIDDEN").await;
}

#[tokio::test]
async fn who_is_in_a_mapped_group_is_changed_with_a_fresh_second_factor() {
    depends_on!(Database);
    let server = Server::start_with("[auth]\nstep_up_seconds = 5\n").await;
    let scopes = ["admin:user:read", "admin:user:manage", "manifest:read", "manifest:create", "workflow:initiate"];
    let program = Client { server: &server, key: server.key("default", &scopes).await };
    let person = Client { server: &server, key: server.login().await };
    let pia = server.user("pia", json!({})).await;
    let members = json!([{ "value": pia }]);
    let group = async |name: &str| {
        let made = program.ok("POST", "Groups", json!({ "displayName": name }), StatusCode::CREATED).await;
        format!("Groups/{}", made["id"].as_str().unwrap())
    };
    let (desk, plain) = (group("Desk").await, group("Plain").await);
    let mapping = json!({ "group": "desk", "roles": ["creator"] });
    ok(server.request("POST", "/api/v1/admin/group-mappings").json(&mapping).send().await.unwrap(), StatusCode::CREATED).await;
    let factor = "/api/v1/auth/second-factor";
    let ask = async |method: &str, path: &str, body: Value| {
        server.anonymous(method, path).bearer_auth(&person.key).json(&body).send().await.unwrap()
    };
    let secret = ok(ask("POST", factor, json!({})).await, StatusCode::CREATED).await["secret"].as_str().unwrap().to_owned();
    let step = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 30;
    assert_eq!(ask("PUT", factor, json!({ "code": code(&secret, step) })).await.status(), StatusCode::NO_CONTENT);
    // The code of enrolment counts for five seconds.
    let put = json!({ "displayName": "Desk", "members": members });
    person.ok("PUT", &desk, put.clone(), StatusCode::OK).await;
    person.ok("PUT", &desk, json!({ "displayName": "Desk" }), StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let add = json!({ "Operations": [{ "op": "add", "path": "members", "value": members }] });
    for (method, path, body) in [
        ("PUT", &desk, put.clone()),
        ("PATCH", &desk, add.clone()),
        ("DELETE", &desk, Value::Null),
        // Neither by giving a group the mapped name nor by taking it away.
        ("PUT", &plain, put.clone()),
        ("PUT", &desk, json!({ "displayName": "Other" })),
        ("POST", &"Groups".to_owned(), put.clone()),
    ] {
        let refused = person.send(method, path, body).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(refused.json::<Value>().await.unwrap()["code"], "STEP_UP_REQUIRED", "{method} {path}");
    }
    // A group that gives nothing needs none, and a program has none to give.
    person.ok("PATCH", &plain, add.clone(), StatusCode::OK).await;
    assert_eq!(person.send("DELETE", &plain, Value::Null).await.status(), StatusCode::NO_CONTENT);
    program.ok("PATCH", &desk, add, StatusCode::OK).await;
    let given = ask("POST", "/api/v1/auth/step-up", json!({ "code": code(&secret, step + 1) })).await;
    assert_eq!(given.status(), StatusCode::NO_CONTENT);
    person.ok("PUT", &desk, json!({ "displayName": "Desk" }), StatusCode::OK).await;
    assert_eq!(person.send("DELETE", &desk, Value::Null).await.status(), StatusCode::NO_CONTENT);
}
