//! Approval: people decide in their roles, and nothing is signed or published around them.

use crate::directory::{ldap, map, unique};
use omt_tests::{Server, fixture, form, id, judge, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Somebody who is logged in.
pub(crate) struct Person<'a> {
    pub(crate) server: &'a Server,
    pub(crate) token: String,
    pub(crate) id: String,
}

impl<'a> Person<'a> {
    /// Makes a user with a role and logs them in.
    pub(crate) async fn with(server: &'a Server, name: &str, roles: &[&str]) -> Self {
        let id = server.user(name, json!({ "roles": roles, "clearance": "top_secret" })).await;
        Self { server, token: server.token(name).await, id: format!("user:{id}") }
    }
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.server.anonymous(method, path).bearer_auth(&self.token)
    }
    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request("POST", path).json(&body).send().await.unwrap()
    }
    pub(crate) async fn get(&self, path: &str) -> Value {
        ok(self.request("GET", path).send().await.unwrap(), StatusCode::OK).await
    }
    pub(crate) async fn draft(&self, name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]) -> Value {
        let made = self.request("POST", "/api/v1/manifests").multipart(form(name, bytes, fields)).send().await.unwrap();
        ok(made, StatusCode::CREATED).await
    }
    /// Begins a workflow on a draft.
    pub(crate) async fn start(&self, manifest: &Value, definition: &str) -> Value {
        let body = json!({ "manifest_id": id(manifest), "definition": definition });
        ok(self.post("/api/v1/workflows", body).await, StatusCode::CREATED).await
    }
    pub(crate) async fn take(&self, workflow: &Value, action: &str) -> Response {
        let path = format!("/api/v1/workflows/{}/transition", workflow["workflow_id"].as_str().unwrap());
        self.post(&path, json!({ "action": action, "comments": "so it is" })).await
    }
    /// Takes a transition that must lead to this state.
    pub(crate) async fn moves(&self, workflow: &Value, action: &str, to: &str) -> Value {
        let answer = ok(self.take(workflow, action).await, StatusCode::OK).await;
        assert_eq!(answer["current_state"], to, "{answer:#}");
        answer
    }
    pub(crate) async fn shown(&self, workflow: &Value) -> Value {
        self.get(&format!("/api/v1/workflows/{}", workflow["workflow_id"].as_str().unwrap())).await
    }
}

/// A JPEG whose XMP says this.
pub(crate) fn jpeg_with_xmp(properties: &str) -> Vec<u8> {
    let packet = format!(
        "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
         <rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" \
         xmlns:xmpRights=\"http://ns.adobe.com/xap/1.0/rights/\" \
         xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\">{properties}</rdf:Description></rdf:RDF></x:xmpmeta>"
    );
    let mut body = b"http://ns.adobe.com/xap/1.0/\0".to_vec();
    body.extend(packet.as_bytes());
    let mut out = fixture("a.jpg");
    let mut segment = vec![0xff, 0xe1];
    segment.extend(u16::try_from(body.len() + 2).unwrap().to_be_bytes());
    segment.extend(body);
    out.splice(2..2, segment);
    out
}

/// The names of people in a picture.
pub(crate) fn with_person(name: &str) -> Vec<u8> {
    jpeg_with_xmp(&format!("<Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>{name}</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>"))
}

/// Create, submit, review; compliance fails for missing consent; evidence; approve by two; publish. The people are those of a real
/// directory where there is one.
#[tokio::test]
async fn the_golden_path() {
    let (mut config, directory) = (String::new(), ldap());
    if let Some(ldap) = &directory {
        config.push_str(&ldap.config(&[format!("ldaps://{}", ldap.secure)], "ca"));
    }
    config.push_str(
        "[tenant_defaults.approval]\npublic = \"dual-approval\"\n[tenant_defaults.compliance]\npublic = [\"pdpa_compliance\"]\n",
    );
    let server = Server::start_with(&config).await;
    let mut people = Vec::new();
    for (role, n) in [("creator", 1), ("reviewer", 1), ("approver", 1), ("approver", 2)] {
        let name = unique(&format!("{role}{n}"));
        if let Some(ldap) = &directory {
            let group = ldap.person(&name);
            map(&server, &group, json!({ "roles": [role] })).await;
            let login = json!({ "username": name, "password": format!("{name}-secret") });
            let tokens = ok(server.log_in(login).await, StatusCode::OK).await;
            let token = tokens["access_token"].as_str().unwrap().to_owned();
            let me =
                ok(server.anonymous("GET", "/api/v1/auth/me").bearer_auth(&token).send().await.unwrap(), StatusCode::OK).await;
            people.push(Person { server: &server, token, id: me["subject"].as_str().unwrap_or_default().to_owned() });
        } else {
            people.push(Person::with(&server, &name, &[role]).await);
        }
    }
    let [creator, reviewer, one, two] = &people[..] else { unreachable!() };

    let draft = creator.draft("portrait.jpg", with_person("Ada Lovelace"), &[("classification", "public")]).await;
    // Not around anybody.
    let at_once = server.upload("a.jpg", fixture("a.jpg"), &[("classification", "public"), ("sign", "true")]).await;
    problem(at_once, 409, "APPROVAL_REQUIRED").await;
    let sign = format!("/api/v1/manifests/{}/sign", id(&draft));
    problem(server.request("POST", &sign).send().await.unwrap(), 409, "APPROVAL_REQUIRED").await;
    let wrong = creator.post("/api/v1/workflows", json!({ "manifest_id": id(&draft), "definition": "default" })).await;
    problem(wrong, 422, "WRONG_DEFINITION").await;

    let workflow = creator.start(&draft, "dual-approval").await;
    assert_eq!((&workflow["current_state"], &workflow["available_actions"]), (&json!("draft"), &json!(["submit"])));
    creator.moves(&workflow, "submit", "submitted").await;
    problem(server.request("POST", &sign).send().await.unwrap(), 409, "APPROVAL_REQUIRED").await;
    reviewer.moves(&workflow, "review", "in_review").await;

    // Its approvers have it in their inbox.
    let inbox = one.get("/api/v1/tasks").await;
    let task = inbox["items"].as_array().unwrap().iter().find(|t| t["manifest_id"] == draft["id"]).unwrap();
    assert_eq!((&task["needed"], &task["decided"], &task["content"]), (&json!(2), &json!(0), &json!("portrait.jpg")));
    let refused = problem(one.take(&workflow, "approve").await, 409, "GUARD_FAILED").await;
    assert!(refused["errors"][0]["reason"].as_str().unwrap().contains("no live consent"), "{refused}");
    let check = json!({ "manifest_id": id(&draft), "policy_name": "pdpa_compliance" });
    let report = ok(reviewer.post("/api/v1/compliance/check", check.clone()).await, StatusCode::OK).await;
    assert_eq!(report["status"], "failed");
    let text = report.to_string();
    assert!(!text.contains("Ada") && !text.contains("Lovelace"), "{text}");

    let consent = json!({
        "subject": "ada  lovelace", "purpose": "publication", "scope": "worldwide", "document_sha256": "ab".repeat(32),
        "given_at": "2020-01-01T00:00:00Z",
    });
    ok(reviewer.post("/api/v1/compliance/consents", consent).await, StatusCode::CREATED).await;
    let report = ok(reviewer.post("/api/v1/compliance/check", check).await, StatusCode::OK).await;
    assert_eq!(report["status"], "passed", "{report:#}");

    one.moves(&workflow, "approve", "in_review").await;
    problem(one.take(&workflow, "approve").await, 409, "ALREADY_DECIDED").await;
    problem(reviewer.take(&workflow, "approve").await, 403, "FORBIDDEN").await;
    let half = two.shown(&workflow).await;
    assert_eq!((&half["tasks"][0]["decided"], &half["tasks"][0]["needed"]), (&json!(1), &json!(2)));
    two.moves(&workflow, "approve", "approved").await;
    let done = one.moves(&workflow, "publish", "published").await;
    let actions: Vec<&str> = done["history"].as_array().unwrap().iter().map(|h| h["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["start", "submit", "review", "approve", "approve", "publish"], "{done:#}");
    assert!(done["history"].as_array().unwrap().iter().all(|h| h["user_name"].is_string()), "{done:#}");

    // What went out carries the chain, and other validators trust it.
    let record = creator.get(&format!("/api/v1/manifests/{}", id(&draft))).await;
    assert_eq!(record["state"], "signed");
    let content = server.content(&record).await;
    let report = server.verify("portrait.jpg", content.clone()).await;
    assert_eq!(report["validation_state"], "trusted", "{report:#}");
    let crjson = server.json(&format!("/api/v1/manifests/{}/crjson", id(&draft))).await;
    let text = crjson.to_string();
    assert!(text.contains("org.enterprise.workflow") && text.contains(workflow["workflow_id"].as_str().unwrap()), "{crjson:#}");
    let found = find(&crjson, "approval_chain").unwrap();
    let roles: Vec<(&str, &str)> =
        found.as_array().unwrap().iter().map(|a| (a["role"].as_str().unwrap(), a["status"].as_str().unwrap())).collect();
    assert_eq!(roles, [("reviewer", "review"), ("approver", "approve"), ("approver", "approve"), ("approver", "publish")]);
    assert!(found.as_array().unwrap().iter().all(|a| a["user_id"].as_str().unwrap().len() == 64 && a.get("user_name").is_none()));
    assert_eq!(find(&crjson, "compliance_check").unwrap()["pdpa_approved"], true);
    // It says so of itself, wherever it comes back from.
    let attested = json!({
        "pdpa_compliant": true, "workflow_approved": true, "department_authorized": null, "workflow_id": workflow["workflow_id"],
    });
    assert_eq!(report["organizational_compliance"], attested);
    assert!(approved(&server, content.clone()).await);
    // To another organisation on the same platform it says nothing of theirs.
    let boss = server.tenant("elsewhere").await;
    let looked = server.anonymous("POST", "/api/v1/verify").bearer_auth(&boss);
    let report = ok(looked.multipart(form("portrait.jpg", content.clone(), &[])).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(
        (&report["validation_state"], &report["organizational_compliance"]["workflow_approved"]),
        (&json!("trusted"), &Value::Null)
    );

    let dir = tempfile::tempdir().unwrap();
    let (file, roots) = (dir.path().join("portrait.jpg"), dir.path().join("roots.pem"));
    std::fs::write(&file, content).unwrap();
    std::fs::write(&roots, server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap()).unwrap();
    for verdict in judge("media.py", &[roots.to_str().unwrap(), file.to_str().unwrap()]).unwrap_or_default() {
        assert_eq!((&verdict["state"], &verdict["second_state"]), (&json!("trusted"), &json!("trusted")), "{verdict}");
    }
}

/// What the rule `approved` says of content that comes with the request.
async fn approved(server: &Server, content: Vec<u8>) -> bool {
    let form = form("a.jpg", content, &[("policy_name", "legal_documents")]);
    let verdict = server.request("POST", "/api/v1/verify/policy").multipart(form).send().await.unwrap();
    let verdict = ok(verdict, StatusCode::OK).await;
    assert_eq!(verdict["passed"], false, "no department answers for what is not stored here");
    verdict["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == "approved").unwrap()["passed"] == true
}

/// The first member of this name, however deep.
pub(crate) fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(name).or_else(|| map.values().find_map(|v| find(v, name))),
        Value::Array(items) => items.iter().find_map(|v| find(v, name)),
        _ => None,
    }
}

#[tokio::test]
async fn the_default_workflow_refuses_what_is_not_in_its_table() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator", "approver"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let auditor = Person::with(&server, "otto", &["auditor"]).await;
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let begin = json!({ "manifest_id": id(&draft) });
    problem(reviewer.post("/api/v1/workflows", begin.clone()).await, 403, "FORBIDDEN").await;
    let key = |request: reqwest::RequestBuilder| request.header("idempotency-key", "once").json(&begin);
    let workflow = ok(key(creator.request("POST", "/api/v1/workflows")).send().await.unwrap(), StatusCode::CREATED).await;
    let again = key(creator.request("POST", "/api/v1/workflows")).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(ok(again, StatusCode::CREATED).await["workflow_id"], workflow["workflow_id"]);
    problem(creator.post("/api/v1/workflows", begin).await, 409, "WORKFLOW_EXISTS").await;
    for member in
        ["workflow_id", "manifest_id", "current_state", "created_by", "created_at", "updated_at", "available_actions", "history"]
    {
        assert!(!workflow[member].is_null(), "{member}");
    }

    let refused = problem(creator.take(&workflow, "dance").await, 422, "UNKNOWN_ACTION").await;
    assert_eq!(refused["errors"].as_array().unwrap().len(), 7);
    let refused = problem(approver.take(&workflow, "approve").await, 409, "WRONG_STATE").await;
    assert_eq!(refused["errors"], json!([{ "field": "allowed", "reason": "submit" }]));
    problem(reviewer.take(&workflow, "submit").await, 403, "FORBIDDEN").await;
    problem(auditor.take(&workflow, "submit").await, 403, "FORBIDDEN").await;
    let path = format!("/api/v1/workflows/{}/transition", workflow["workflow_id"].as_str().unwrap());
    let stale = creator.request("POST", &path).header("if-match", "\"7\"").json(&json!({ "action": "submit" }));
    problem(stale.send().await.unwrap(), 412, "REVISION_MISMATCH").await;
    let fresh = creator.request("POST", &path).header("if-match", "\"1\"").json(&json!({ "action": "submit" }));
    ok(fresh.send().await.unwrap(), StatusCode::OK).await;
    let seen = creator.shown(&workflow).await;
    assert_eq!((&seen["current_state"], &seen["available_actions"]), (&json!("submitted"), &json!([])));
    assert_eq!(reviewer.shown(&workflow).await["available_actions"], json!(["review"]));
    reviewer.moves(&workflow, "review", "in_review").await;
    // The author has the role of an approver, and no say.
    problem(creator.take(&workflow, "approve").await, 403, "FOUR_EYES").await;
    let silent = reviewer.post(&path, json!({ "action": "reject" })).await;
    problem(silent, 422, "COMMENTS_REQUIRED").await;
    reviewer.moves(&workflow, "reject", "rejected").await;
    // What was rejected is not signed around.
    let sign = format!("/api/v1/manifests/{}/sign", id(&draft));
    problem(approver.request("POST", &sign).send().await.unwrap(), 409, "APPROVAL_REQUIRED").await;
    creator.moves(&workflow, "recall", "draft").await;
    creator.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;
    approver.moves(&workflow, "approve", "approved").await;

    // A change of what was approved makes it void.
    let change = server.request("PATCH", &format!("/api/v1/manifests/{}", id(&draft))).json(&json!({ "title": "Other" }));
    ok(change.send().await.unwrap(), StatusCode::OK).await;
    let seen = approver.shown(&workflow).await;
    assert_eq!((&seen["current_state"], &seen["approval_chain"]), (&json!("draft"), &json!([])));
    assert_eq!(seen["history"].as_array().unwrap().last().unwrap()["action"], "content_changed");
    problem(approver.take(&workflow, "publish").await, 409, "WRONG_STATE").await;
    problem(approver.request("POST", &sign).send().await.unwrap(), 409, "APPROVAL_REQUIRED").await;

    // Others know nothing of it.
    let boss = Person { server: &server, token: server.tenant("other").await, id: String::new() };
    problem(boss.take(&workflow, "submit").await, 404, "NOT_FOUND").await;
    let history = format!("/api/v1/workflows/{}/history", workflow["workflow_id"].as_str().unwrap());
    problem(boss.request("GET", &history).send().await.unwrap(), 404, "NOT_FOUND").await;
    assert_eq!(boss.get("/api/v1/workflows").await["items"], json!([]));
    // Nor does somebody who is not cleared for the content.
    let narrow = server.user("nora", json!({ "roles": ["reviewer"], "clearance": "public" })).await;
    let nora = Person { server: &server, token: server.token("nora").await, id: narrow };
    problem(nora.take(&workflow, "review").await, 404, "NOT_FOUND").await;
    assert_eq!(nora.get("/api/v1/workflows").await["items"], json!([]));
    assert_eq!(nora.get("/api/v1/tasks").await["items"], json!([]));

    let history = creator.get(&history).await;
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.iter().filter(|item| item["action"] == "submit").count(), 2);
    assert_eq!(items[1]["user_name"], "carla");
    assert_eq!((&items[1]["from_state"], &items[1]["to_state"]), (&json!("draft"), &json!("submitted")));
}

#[tokio::test]
async fn tasks_are_taken_lent_and_decided() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let (one, two) = (Person::with(&server, "one", &["reviewer"]).await, Person::with(&server, "two", &["reviewer"]).await);
    let deputy = Person::with(&server, "deputy", &["manager"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let mut workflows = Vec::new();
    for _ in 0..3 {
        let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("project", "atlas")]).await;
        let workflow = creator.start(&draft, "default").await;
        creator.moves(&workflow, "submit", "submitted").await;
        workflows.push(workflow);
    }
    assert_eq!(one.get("/api/v1/tasks/counts").await, json!({ "mine": 0, "groups": 3, "overdue": 0, "counted_to": 1000 }));
    assert_eq!(approver.get("/api/v1/tasks?inbox=groups").await["items"], json!([]));
    assert_eq!(one.get("/api/v1/tasks?project=atlas").await["items"].as_array().unwrap().len(), 3);
    assert_eq!(one.get("/api/v1/tasks?project=other").await["items"], json!([]));
    let page = one.get("/api/v1/tasks?limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(one.get(&format!("/api/v1/tasks?limit=2&cursor={cursor}")).await["items"].as_array().unwrap().len(), 1);

    let tasks = one.get("/api/v1/tasks").await["items"].as_array().unwrap().clone();
    let path = |task: &Value, what: &str| format!("/api/v1/tasks/{}/{what}", id(task));
    ok(one.post(&path(&tasks[0], "claim"), json!({})).await, StatusCode::OK).await;
    problem(two.post(&path(&tasks[0], "claim"), json!({})).await, 409, "TASK_CLAIMED").await;
    problem(two.post(&path(&tasks[0], "decide"), json!({})).await, 409, "TASK_CLAIMED").await;
    problem(approver.post(&path(&tasks[1], "claim"), json!({})).await, 403, "FORBIDDEN").await;
    assert_eq!(one.get("/api/v1/tasks/counts").await["mine"], 1);
    assert_eq!(two.get("/api/v1/tasks").await["items"].as_array().unwrap().len(), 2);
    ok(one.post(&path(&tasks[0], "unclaim"), json!({})).await, StatusCode::OK).await;
    problem(one.post(&path(&tasks[0], "unclaim"), json!({})).await, 409, "TASK_NOT_CLAIMED").await;

    problem(one.post(&path(&tasks[0], "delegate"), json!({ "to": "one" })).await, 422, "DELEGATION_REFUSED").await;
    problem(one.post(&path(&tasks[0], "delegate"), json!({ "to": "nobody" })).await, 422, "UNKNOWN_USER").await;
    problem(one.post(&path(&tasks[0], "delegate"), json!({ "to": "carla" })).await, 422, "DELEGATION_REFUSED").await;
    let lend = json!({ "to": deputy.id, "until": "2036-01-01T00:00:00Z" });
    ok(one.post(&path(&tasks[0], "delegate"), lend).await, StatusCode::OK).await;
    assert_eq!(deputy.get("/api/v1/tasks?inbox=mine").await["items"].as_array().unwrap().len(), 1);
    problem(deputy.post(&path(&tasks[0], "delegate"), json!({ "to": "one" })).await, 422, "DELEGATION_REFUSED").await;
    let done = ok(deputy.post(&path(&tasks[0], "decide"), json!({})).await, StatusCode::OK).await;
    assert_eq!(done["current_state"], "in_review");
    problem(one.post(&path(&tasks[0], "decide"), json!({})).await, 404, "NOT_FOUND").await;

    let bulk = json!({ "items": [{ "id": id(&tasks[1]) }, { "id": id(&tasks[0]) }, { "id": id(&tasks[2]), "action": "dance" }] });
    let results = ok(one.post("/api/v1/tasks/decide", bulk).await, StatusCode::OK).await;
    let seen: Vec<(u64, Option<&str>)> =
        results["items"].as_array().unwrap().iter().map(|r| (r["status"].as_u64().unwrap(), r["code"].as_str())).collect();
    assert_eq!(seen, [(200, None), (404, Some("NOT_FOUND")), (422, Some("UNKNOWN_ACTION"))]);

    // People are told.
    let messages = approver.get("/api/v1/notifications?unread=true").await;
    let message = messages["items"].as_array().unwrap().iter().find(|m| m["kind"] == "workflow.task.opened").unwrap();
    let read = approver.post(&format!("/api/v1/notifications/{}/read", id(message)), json!({})).await;
    assert_eq!(read.status(), StatusCode::NO_CONTENT);
    let left = approver.get("/api/v1/notifications?unread=true").await;
    assert!(left["items"].as_array().unwrap().iter().all(|m| m["id"] != message["id"]));
    problem(creator.post(&format!("/api/v1/notifications/{}/read", id(message)), json!({})).await, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn a_task_that_takes_too_long_goes_to_others() {
    depends_on!(Database, Queue);
    use omt_kernel::port::Database;
    let server = Server::start_with("[workflow]\ntimers_every_seconds = 1\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    let workflow = creator.start(&creator.draft("a.jpg", fixture("a.jpg"), &[]).await, "dual-approval").await;
    creator.moves(&workflow, "submit", "submitted").await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    reviewer.moves(&workflow, "review", "in_review").await;
    let seen = approver.shown(&workflow).await;
    assert!(seen["tasks"][0]["due_at"].is_string(), "{seen:#}");
    assert_eq!(manager.get("/api/v1/tasks").await["items"], json!([]));

    // The clock of the database's row is turned: it was due yesterday.
    let database = server.database().await;
    let unit = database.begin().await.unwrap();
    let tenant = omt_kernel::TenantId::default_tenant();
    let task = omt_kernel::TaskId(seen["tasks"][0]["id"].as_str().unwrap().parse().unwrap());
    let mut task = unit.tasks().get(&tenant, task).await.unwrap().unwrap();
    let yesterday = time::OffsetDateTime::now_utc() - time::Duration::days(1);
    (task.due_at, task.next_at) = (Some(yesterday), Some(yesterday));
    unit.tasks().put(&task).await.unwrap();
    unit.commit().await.unwrap();

    let mut items = Value::Null;
    for _ in 0..100 {
        items = manager.get("/api/v1/tasks?overdue=true").await["items"].clone();
        if items != json!([]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(items[0]["id"], seen["tasks"][0]["id"], "the manager has it now");
    let history = manager.shown(&workflow).await["history"].clone();
    assert!(history.as_array().unwrap().iter().any(|h| h["action"] == "escalate"), "{history:#}");
    let messages = manager.get("/api/v1/notifications").await;
    assert!(messages["items"].as_array().unwrap().iter().any(|m| m["kind"] == "workflow.task.escalated"));
    let messages = approver.get("/api/v1/notifications").await;
    assert!(messages["items"].as_array().unwrap().iter().any(|m| m["kind"] == "workflow.task.overdue"));
}

/// Ways around approval that were found by reading, and are closed.
#[tokio::test]
async fn there_is_no_way_around() {
    depends_on!(Database);
    let config = "[tenant_defaults.approval]\nconfidential = \"default\"\n";
    let server = Server::start_with(config).await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    // A chain of one's own making is not signed where there is approval.
    let chain = json!([{ "label": "org.enterprise.workflow", "data": {
        "workflow_id": "w", "approval_chain": [{ "role": "approver", "user_id": "u", "timestamp": "2026-01-01T00:00:00Z", "status": "approve" }],
        "compliance_check": { "pdpa_approved": true, "trademark_cleared": true, "legal_review": true,
                              "export_control_passed": true, "classification_verified": true },
        "classification": "internal" } }])
    .to_string();
    let forged =
        creator.request("POST", "/api/v1/manifests").multipart(form("a.jpg", fixture("a.jpg"), &[("assertions", &chain)]));
    problem(forged.send().await.unwrap(), 422, "RESERVED_LABEL").await;
    // Nor by another name for the same.
    for label in ["org.enterprise.workflow.v2", "org.enterprise.workflow__1", "ORG.enterprise.workflow"] {
        let renamed = chain.replace("org.enterprise.workflow", label);
        let forged = creator.request("POST", "/api/v1/manifests");
        let forged = forged.multipart(form("a.jpg", fixture("a.jpg"), &[("assertions", &renamed)])).send().await.unwrap();
        let status = forged.status();
        let body: Value = forged.json().await.unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{label}: {body}");
    }
    // Where there is none it is its author's word, and counts for none.
    let free = Server::start().await;
    let said = free.signed("a.jpg", fixture("a.jpg"), &[("assertions", &chain)]).await;
    let content = free.content(&said).await;
    let report = free.verify("a.jpg", content.clone()).await;
    assert_eq!((&report["validation_state"], &report["trust_level"]), (&json!("trusted"), &json!("enterprise")));
    assert_eq!(report["organizational_compliance"]["workflow_approved"], Value::Null);
    assert!(!approved(&free, content).await);
    // Content without a manifest has nothing to be approved.
    assert!(approved(&free, fixture("a.jpg")).await);

    // What publishing asks for, signing by itself asks for too.
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let workflow = creator.start(&draft, "default").await;
    creator.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;
    approver.moves(&workflow, "approve", "approved").await;
    let path = format!("/api/v1/workflows/{}", workflow["workflow_id"].as_str().unwrap());
    let more = reviewer.request("PUT", &format!("{path}/compliance")).json(&json!({ "policies": ["public_content"] }));
    ok(more.send().await.unwrap(), StatusCode::OK).await;
    let sign = format!("/api/v1/manifests/{}/sign", id(&draft));
    problem(approver.request("POST", &sign).send().await.unwrap(), 409, "GUARD_FAILED").await;
    problem(approver.take(&workflow, "publish").await, 409, "GUARD_FAILED").await;
    let fewer = reviewer.request("PUT", &format!("{path}/compliance")).json(&json!({ "policies": [] }));
    problem(fewer.send().await.unwrap(), 409, "WRONG_STATE").await;

    // Ended, it approves no more; and another may begin.
    problem(approver.post(&format!("{path}/cancel"), json!({ "comments": "enough" })).await, 403, "NOT_ELIGIBLE").await;
    problem(creator.post(&format!("{path}/cancel"), json!({ "comments": " " })).await, 422, "COMMENTS_REQUIRED").await;
    let ended = ok(creator.post(&format!("{path}/cancel"), json!({ "comments": "enough" })).await, StatusCode::OK).await;
    assert_eq!((&ended["available_actions"], &ended["tasks"]), (&json!([]), &json!([])));
    problem(approver.take(&workflow, "publish").await, 409, "WORKFLOW_OVER").await;
    let second = creator.start(&draft, "default").await;

    // What is put away waits for nobody.
    creator.moves(&second, "submit", "submitted").await;
    assert_eq!(reviewer.get("/api/v1/tasks").await["items"].as_array().unwrap().len(), 1);
    let away = server.request("DELETE", &format!("/api/v1/manifests/{}", id(&draft))).send().await.unwrap();
    assert_eq!(away.status(), StatusCode::NO_CONTENT);
    assert_eq!(reviewer.get("/api/v1/tasks").await["items"], json!([]));
    problem(reviewer.take(&second, "review").await, 409, "WORKFLOW_OVER").await;

    problem(creator.post("/api/v1/workflows", json!({ "manifest_id": id(&draft) })).await, 409, "NOT_A_DRAFT").await;

    // Messages are for those who see what they are about.
    server.user("nora", json!({ "roles": ["reviewer"], "department": "news" })).await;
    let nora = Person { server: &server, token: server.token("nora").await, id: String::new() };
    let legal = creator.draft("b.jpg", fixture("a.jpg"), &[("department", "legal")]).await;
    let third = creator.start(&legal, "default").await;
    creator.moves(&third, "submit", "submitted").await;
    let told = |messages: &Value| messages["items"].as_array().unwrap().iter().any(|m| m["data"]["manifest_id"] == legal["id"]);
    assert!(told(&reviewer.get("/api/v1/notifications").await));
    assert!(!told(&nora.get("/api/v1/notifications").await));

    // The same request to publish has the answer that was stored with the decision: 202, whatever became of it since.
    reviewer.moves(&third, "review", "in_review").await;
    approver.moves(&third, "approve", "approved").await;
    let publish = || {
        let path = format!("/api/v1/workflows/{}/transition", third["workflow_id"].as_str().unwrap());
        approver.request("POST", &path).header("idempotency-key", "go").json(&json!({ "action": "publish" })).send()
    };
    assert_eq!(ok(publish().await.unwrap(), StatusCode::OK).await["current_state"], "published");
    let again = publish().await.unwrap();
    assert_eq!((again.status(), again.headers()["idempotency-replayed"].to_str().unwrap()), (StatusCode::ACCEPTED, "true"));

    // A program's key is nobody's second person.
    let key = server.key("default", &["manifest:read", "compliance:override"]).await;
    let over = json!({ "manifest_id": id(&legal), "rule": "legal_review", "reason": "because I say so", "expires_at": "2027-01-01T00:00:00Z" });
    let asked = server.anonymous("POST", "/api/v1/compliance/override").bearer_auth(&key).json(&over).send().await.unwrap();
    problem(asked, 403, "PERSON_NEEDED").await;
}
