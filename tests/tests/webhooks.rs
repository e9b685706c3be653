//! Webhooks and mail: what happened is told, signed, once it is committed, until it is taken, and to public addresses only.

use crate::workflow::{Person, jpeg_with_xmp};
use hmac::{Hmac, KeyInit, Mac};
use omt_tests::{Server, fixture, http, id, judge, ok, package, problem, service};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Receivers of these tests are on this machine.
pub(crate) const HERE: &str = "[webhooks]\nallowed_networks = [\"127.0.0.0/8\"]\nallow_http = true\n";

/// What a receiver has heard, and how it answers.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    heard: Arc<Mutex<Vec<http::Heard>>>,
    answers: Arc<Mutex<Vec<http::Answer>>>,
}

impl Receiver {
    /// Starts one that answers so, in turn, and 204 from then on.
    pub(crate) async fn start(mut answers: Vec<http::Answer>) -> (Self, String) {
        answers.reverse();
        let this = Self { heard: Arc::default(), answers: Arc::new(Mutex::new(answers)) };
        let receiver = this.clone();
        let url = http::serve(move |request| {
            receiver.heard.lock().unwrap().push(request);
            receiver.answers.lock().unwrap().pop().unwrap_or((204, vec![], String::new()))
        })
        .await;
        (this, url)
    }

    pub(crate) fn heard(&self) -> Vec<http::Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Types of events, in the order of their times.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        let bodies = self.heard().into_iter().map(|heard| serde_json::from_str::<Value>(&heard.body).unwrap());
        let mut all: Vec<Value> = bodies.collect();
        all.sort_by_key(|body| body["timestamp"].as_str().unwrap().to_owned());
        all.into_iter().map(|body| (body["type"].as_str().unwrap().to_owned(), body["data"].clone())).collect()
    }

    pub(crate) async fn wait(&self, what: &str, enough: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if enough(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {:?}", self.heard());
    }
}

pub(crate) async fn subscribe(server: &Server, url: &str, events: &[&str]) -> Value {
    let body = json!({ "url": url, "events": events });
    ok(server.request("POST", "/api/v1/webhooks").json(&body).send().await.unwrap(), StatusCode::CREATED).await
}

fn webhook(made: &Value) -> String {
    format!("/api/v1/webhooks/{}", id(made))
}

async fn deliveries(server: &Server, made: &Value, query: &str) -> Vec<Value> {
    let found = server.json(&format!("{}/deliveries{query}", webhook(made))).await;
    found["items"].as_array().unwrap().clone()
}

/// Waits until a delivery list is as it should be.
async fn delivered(server: &Server, made: &Value, state: &str, count: usize) -> Vec<Value> {
    for _ in 0..400 {
        let found = deliveries(server, made, &format!("?state={state}")).await;
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {count} {state}: {:#?}", deliveries(server, made, "").await);
}

fn good(secret: &str, heard: &http::Heard) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.{}", heard.headers["webhook-id"], heard.headers["webhook-timestamp"], heard.body).as_bytes());
    let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    heard.headers["webhook-signature"].split(' ').any(|signature| signature == wanted)
}

#[tokio::test]
async fn what_happens_is_told_and_signed() {
    depends_on!(Database, Queue);
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    let made = subscribe(&server, &format!("{url}/hook?a=b"), &["manifest.*"]).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() == 6 + 44);
    // Shown once.
    assert!(server.json(&webhook(&made)).await.get("secret").is_none());
    let record = server.signed("a.jpg", fixture("a.jpg"), &[("project", "apollo")]).await;
    receiver.wait("one event", |r| r.heard().len() == 1).await;
    let heard = receiver.heard().remove(0);
    assert_eq!(heard.path, "/hook?a=b");
    assert_eq!(heard.headers["content-type"], "application/json");
    assert!(good(secret, &heard));
    if let Some(lines) = judge(
        "webhook.py",
        &[
            secret,
            &heard.headers["webhook-id"],
            &heard.headers["webhook-timestamp"],
            &heard.headers["webhook-signature"],
            &heard.body,
        ],
    ) {
        assert_eq!(lines[0]["valid"], true, "{lines:?}");
    }
    let (event, data) = receiver.events().remove(0);
    assert_eq!(event, "manifest.created");
    assert_eq!(
        (&data["manifest_id"], &data["manifest_state"], &data["project"]),
        (&record["id"], &json!("signed"), &json!("apollo"))
    );
    assert!(!heard.body.contains("a.jpg"), "titles stay here: {}", heard.body);
    // The log says the same.
    let log = delivered(&server, &made, "delivered", 1).await;
    assert_eq!(log[0]["message_id"], heard.headers["webhook-id"].as_str());
    assert_eq!((&log[0]["attempts"][0]["status"], &log[0]["tries"]), (&json!(204), &json!(1)));
    // A replay is the same message, signed anew.
    let path = format!("{}/deliveries/{}/replay", webhook(&made), id(&log[0]));
    let again = ok(server.request("POST", &path).send().await.unwrap(), StatusCode::ACCEPTED).await;
    assert_eq!(again["state"], "pending");
    receiver.wait("the replay", |r| r.heard().len() == 2).await;
    let second = receiver.heard().remove(1);
    assert_eq!((&second.headers["webhook-id"], &second.body), (&heard.headers["webhook-id"], &heard.body));
    assert!(good(secret, &second));
}

#[tokio::test]
async fn every_step_of_a_workflow_is_told() {
    depends_on!(Database, Queue);
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    subscribe(&server, &url, &["*"]).await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let rosa = Person::with(&server, "rosa", &["reviewer"]).await;
    let anna = Person::with(&server, "anna", &["approver"]).await;
    let mut definition = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    definition["name"] = json!("told");
    let publish = definition["transitions"].as_array_mut().unwrap().iter_mut().find(|t| t["action"] == "publish").unwrap();
    publish["effects"] = json!(["sign", { "webhook": "gone.public" }, { "notify": ["role:auditor"] }]);
    let put = server.request("PUT", "/api/v1/workflow-definitions/told").json(&definition).send().await.unwrap();
    assert!(put.status().is_success(), "{}", put.text().await.unwrap());
    let draft = carla.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let workflow = carla.start(&draft, "told").await;
    carla.moves(&workflow, "submit", "submitted").await;
    rosa.moves(&workflow, "review", "in_review").await;
    anna.moves(&workflow, "approve", "approved").await;
    anna.moves(&workflow, "publish", "published").await;
    receiver.wait("the last event", |r| r.events().iter().filter(|(event, _)| event == "workflow.moved").count() == 4).await;
    // Deliveries go side by side, so that the last event need not be the last to come.
    for event in ["workflow.effect", "manifest.signed", "manifest.created", "workflow.started"] {
        receiver.wait(event, |r| r.events().iter().any(|(seen, _)| seen == event)).await;
    }
    let events = receiver.events();
    let moves: BTreeSet<(&str, &str)> = events
        .iter()
        .filter(|(event, _)| event == "workflow.moved")
        .map(|(_, data)| (data["from"].as_str().unwrap(), data["to"].as_str().unwrap()))
        .collect();
    let steps = [("draft", "submitted"), ("submitted", "in_review"), ("in_review", "approved"), ("approved", "published")];
    assert_eq!(moves, steps.into());
    let effect = events.iter().find(|(event, _)| event == "workflow.effect").unwrap();
    assert_eq!((&effect.1["name"], &effect.1["workflow_id"]), (&json!("gone.public"), &workflow["workflow_id"]));
    assert!(
        events.iter().any(|(event, _)| event == "workflow.started")
            && events.iter().any(|(event, _)| event == "manifest.created")
    );
    let told: BTreeSet<String> = receiver.heard().iter().map(|heard| heard.headers["webhook-id"].clone()).collect();
    assert_eq!(told.len(), receiver.heard().len(), "each once");
    // Nobody is named.
    let all: String = receiver.heard().iter().map(|heard| heard.body.clone()).collect();
    assert!(["carla", "rosa", "anna", carla.id.as_str()].iter().all(|name| !all.contains(name)), "{all}");
    let avery = Person::with(&server, "avery", &["auditor"]).await;
    let inbox = avery.get("/api/v1/notifications").await;
    assert_eq!(inbox["items"][0]["data"]["action"], "publish");
}

#[tokio::test]
async fn evidence_and_what_changes_with_it_is_told() {
    depends_on!(Database, Queue);
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    subscribe(&server, &url, &["compliance.*", "workflow.voided"]).await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let rosa = Person::with(&server, "rosa", &["reviewer"]).await;
    let anna = Person::with(&server, "anna", &["approver"]).await;
    let draft = carla.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let checked = json!({ "manifest_id": id(&draft), "policy_name": "public_content" });
    ok(rosa.post("/api/v1/compliance/check", checked).await, StatusCode::OK).await;
    let clear = json!({ "manifest_id": id(&draft), "area": "legal", "cleared": true, "reason": "read by counsel Quimby" });
    let made = ok(anna.post("/api/v1/compliance/clearances", clear).await, StatusCode::CREATED).await;
    let path = format!("/api/v1/compliance/records/{}", id(&made));
    assert!(anna.request("DELETE", &path).send().await.unwrap().status().is_success());
    let event = |name: &str| receiver.events().into_iter().find(|(event, _)| event == name).map(|(_, data)| data);
    for name in ["compliance.checked", "compliance.evidence_added", "compliance.evidence_withdrawn"] {
        receiver.wait(name, |r| r.events().iter().any(|(seen, _)| seen == name)).await;
        let data = event(name).unwrap();
        assert_eq!(data["manifest_id"], draft["id"], "{name}: {data}");
        if name != "compliance.checked" {
            assert_eq!(data["kind"], "clearance", "{name}: {data}");
        }
    }
    // What was decided about content that is another now.
    let workflow = carla.start(&draft, "default").await;
    carla.moves(&workflow, "submit", "submitted").await;
    rosa.moves(&workflow, "review", "in_review").await;
    anna.moves(&workflow, "approve", "approved").await;
    let change = server.request("PATCH", &format!("/api/v1/manifests/{}", id(&draft))).json(&json!({ "title": "another" }));
    ok(change.send().await.unwrap(), StatusCode::OK).await;
    receiver.wait("what is void", |r| r.events().iter().any(|(seen, _)| seen == "workflow.voided")).await;
    assert_eq!(event("workflow.voided").unwrap()["workflow_id"], workflow["workflow_id"]);
    // Those who had decided hear of it.
    let told = anna.get("/api/v1/notifications").await;
    let kinds: Vec<&str> = told["items"].as_array().unwrap().iter().filter_map(|item| item["kind"].as_str()).collect();
    assert!(kinds.contains(&"workflow.voided"), "{told}");
    let all: String = receiver.heard().iter().map(|heard| heard.body.clone()).collect();
    assert!(!all.contains("Quimby") && !all.contains(&anna.id), "reasons and people stay here: {all}");
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_what_is_gone_is_left_alone() {
    depends_on!(Database, Queue);
    let server = Server::start_with(HERE).await;
    let oops = (500, vec![], "something\u{7} broke".to_owned());
    let (receiver, url) = Receiver::start(vec![oops]).await;
    let made = subscribe(&server, &url, &["manifest.created"]).await;
    let began = Instant::now();
    server.upload("a.jpg", fixture("a.jpg"), &[]).await;
    receiver.wait("a second attempt", |r| r.heard().len() == 2).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "the standard's first pause is five seconds");
    let log = delivered(&server, &made, "delivered", 1).await;
    assert_eq!((&log[0]["attempts"][0]["status"], &log[0]["attempts"][1]["status"]), (&json!(500), &json!(204)));
    assert_eq!(log[0]["attempts"][0]["excerpt"], "something broke");
    let both = receiver.heard();
    assert_eq!(both[0].headers["webhook-id"], both[1].headers["webhook-id"]);
    assert_ne!(both[0].headers["webhook-timestamp"], both[1].headers["webhook-timestamp"]);

    // 410 ends it, and what comes later is not even written.
    let (gone, url) = Receiver::start(vec![(410, vec![], String::new())]).await;
    let made = subscribe(&server, &url, &["manifest.created"]).await;
    server.upload("a.jpg", fixture("a.jpg"), &[]).await;
    let log = delivered(&server, &made, "failed", 1).await;
    let shown = server.json(&webhook(&made)).await;
    assert_eq!((&shown["enabled"], &shown["disabled_because"]), (&json!(false), &json!("it answered 410 Gone")));
    server.upload("b.jpg", fixture("a.jpg"), &[]).await;
    assert_eq!(deliveries(&server, &made, "").await.len(), 1);
    let path = format!("{}/deliveries/{}/replay", webhook(&made), id(&log[0]));
    problem(server.request("POST", &path).send().await.unwrap(), 409, "WEBHOOK_DISABLED").await;
    problem(server.request("POST", &format!("{}/test", webhook(&made))).send().await.unwrap(), 409, "WEBHOOK_DISABLED").await;
    // Enabled again, what failed is made again.
    let body = json!({ "enabled": true });
    ok(server.request("PATCH", &webhook(&made)).json(&body).send().await.unwrap(), StatusCode::OK).await;
    let since = json!({ "since": "2026-01-01T00:00:00Z" });
    let path = format!("{}/recover", webhook(&made));
    let done = ok(server.request("POST", &path).json(&since).send().await.unwrap(), StatusCode::ACCEPTED).await;
    assert_eq!((&done["deliveries"], &done["more"]), (&json!(1), &json!(false)));
    gone.wait("the recovered event", |r| r.heard().len() == 2).await;
    delivered(&server, &made, "delivered", 1).await;
}

#[tokio::test]
async fn a_delivery_survives_kill() {
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    // Nobody listens there yet, so that the first attempt fails.
    let made = subscribe(&server, "http://127.0.0.1:1/", &["manifest.created"]).await;
    server.upload("a.jpg", fixture("a.jpg"), &[]).await;
    for _ in 0..200 {
        if deliveries(&server, &made, "").await[0]["tries"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = server.crash_and_restart().await;
    let moved = json!({ "url": url });
    ok(server.request("PATCH", &webhook(&made)).json(&moved).send().await.unwrap(), StatusCode::OK).await;
    receiver.wait("the event", |r| r.heard().len() == 1).await;
    delivered(&server, &made, "delivered", 1).await;
    assert_eq!(receiver.heard().len(), 1);
}

#[tokio::test]
async fn secrets_change_over() {
    depends_on!(Database, Queue);
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    let made = subscribe(&server, &url, &["manifest.created"]).await;
    let old = made["secret"].as_str().unwrap();
    let path = format!("{}/rotate-secret", webhook(&made));
    let long = json!({ "overlap_seconds": 604_801 });
    problem(server.request("POST", &path).json(&long).send().await.unwrap(), 422, "INVALID_FIELD").await;
    let turned = ok(server.request("POST", &path).json(&json!({})).send().await.unwrap(), StatusCode::OK).await;
    let new = turned["secret"].as_str().unwrap();
    assert_eq!(turned["secrets"].as_array().unwrap().len(), 2);
    ok(server.request("POST", &format!("{}/test", webhook(&made))).send().await.unwrap(), StatusCode::ACCEPTED).await;
    receiver.wait("the test", |r| r.heard().len() == 1).await;
    let heard = receiver.heard().remove(0);
    assert!(good(old, &heard) && good(new, &heard) && old != new);
    assert_eq!(receiver.events()[0].0, "webhook.test");
    // Without an overlap the old ones end at once.
    let turned =
        ok(server.request("POST", &path).json(&json!({ "overlap_seconds": 0 })).send().await.unwrap(), StatusCode::OK).await;
    ok(server.request("POST", &format!("{}/test", webhook(&made))).send().await.unwrap(), StatusCode::ACCEPTED).await;
    receiver.wait("the second test", |r| r.heard().len() == 2).await;
    let heard = receiver.heard().remove(1);
    assert!(good(turned["secret"].as_str().unwrap(), &heard) && !good(old, &heard) && !good(new, &heard));
    // CloudEvents say the same in their own words.
    let cloud = json!({ "format": "cloudevents" });
    ok(server.request("PATCH", &webhook(&made)).json(&cloud).send().await.unwrap(), StatusCode::OK).await;
    let record = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    receiver.wait("the event", |r| r.heard().len() == 3).await;
    let heard = receiver.heard().remove(2);
    let body: Value = serde_json::from_str(&heard.body).unwrap();
    assert_eq!(heard.headers["content-type"], "application/cloudevents+json");
    assert_eq!((&body["specversion"], &body["type"]), (&json!("1.0"), &json!("org.openmediatrust.manifest.created")));
    assert_eq!((&body["subject"], &body["source"]), (&record["id"], &json!("http://media.example.test/tenants/default")));
    assert_eq!(body["id"], heard.headers["webhook-id"].as_str());
}

#[tokio::test]
async fn nothing_beyond_reach_is_told() {
    depends_on!();
    let server = Server::start_with(HERE).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    // Internal content of one project, unless more is asked for.
    let narrow = json!({ "url": url, "events": ["*"], "projects": ["apollo"] });
    ok(server.request("POST", "/api/v1/webhooks").json(&narrow).send().await.unwrap(), StatusCode::CREATED).await;
    for (classification, project) in [("secret", "apollo"), ("internal", "gemini"), ("internal", "apollo")] {
        let fields = [("classification", classification), ("project", project)];
        ok(server.upload("a.jpg", fixture("a.jpg"), &fields).await, StatusCode::CREATED).await;
    }
    receiver.wait("one event", |r| !r.heard().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = receiver.events();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0].1["project"], &events[0].1["classification"]), (&json!("apollo"), &json!("internal")));
    // An administrator lets nobody hear of what they do not see, and does not see what hears of it.
    let wide = json!({ "url": url, "events": ["*"], "clearance": "top_secret" });
    let made = ok(server.request("POST", "/api/v1/webhooks").json(&wide).send().await.unwrap(), StatusCode::CREATED).await;
    server.user("adam", json!({ "roles": ["administrator"], "clearance": "internal" })).await;
    let token = server.token("adam").await;
    let ask = |method: &str, path: &str| server.anonymous(method, path).bearer_auth(&token);
    problem(ask("POST", "/api/v1/webhooks").json(&wide).send().await.unwrap(), 403, "BEYOND_REACH").await;
    problem(ask("GET", &webhook(&made)).send().await.unwrap(), 404, "NOT_FOUND").await;
    problem(ask("DELETE", &webhook(&made)).send().await.unwrap(), 404, "NOT_FOUND").await;
    let listed = ok(ask("GET", "/api/v1/webhooks").send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // What a webhook was narrowed against since is not told again, and no longer seen by those whom it is beyond.
    let secret = [("classification", "secret"), ("project", "apollo")];
    ok(server.upload("b.jpg", fixture("a.jpg"), &secret).await, StatusCode::CREATED).await;
    let log = delivered(&server, &made, "delivered", 1).await;
    assert_eq!(log[0]["data"]["classification"], "secret");
    let told = receiver.heard().len();
    let narrowed = server.request("PATCH", &webhook(&made)).json(&json!({ "clearance": "internal" })).send().await.unwrap();
    ok(narrowed, StatusCode::OK).await;
    let delivery = format!("{}/deliveries/{}", webhook(&made), id(&log[0]));
    problem(server.request("POST", &format!("{delivery}/replay")).send().await.unwrap(), 409, "BEYOND_REACH").await;
    ok(ask("GET", &webhook(&made)).send().await.unwrap(), StatusCode::OK).await;
    problem(ask("GET", &delivery).send().await.unwrap(), 404, "NOT_FOUND").await;
    let seen = ok(ask("GET", &format!("{}/deliveries", webhook(&made))).send().await.unwrap(), StatusCode::OK).await;
    assert!(seen["items"].as_array().unwrap().iter().all(|item| item["data"]["classification"] != "secret"));
    assert_eq!(receiver.heard().len(), told);
    // Another tenant has none of it.
    let boss = server.tenant("other").await;
    let other = |method: &str, path: &str| server.anonymous(method, path).bearer_auth(&boss);
    let listed = ok(other("GET", "/api/v1/webhooks").send().await.unwrap(), StatusCode::OK).await;
    assert!(listed["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn webhooks_that_are_refused() {
    depends_on!();
    let server = Server::start().await;
    let post = |body: Value| server.request("POST", "/api/v1/webhooks").json(&body).send();
    for url in [
        "http://hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://0x7f000001/",
        "https://user:password@hooks.example.com/",
        "ftp://hooks.example.com/",
        "nothing",
    ] {
        let answer = post(json!({ "url": url, "events": ["*"] })).await.unwrap();
        problem(answer, 422, "INVALID_WEBHOOK_URL").await;
    }
    let far = "https://hooks.example.com/";
    for events in [json!([]), json!(["manifest.sung"]), json!(["manifest*"])] {
        problem(post(json!({ "url": far, "events": events })).await.unwrap(), 422, "INVALID_FIELD").await;
    }
    problem(post(json!({ "url": far, "events": ["*"], "secret": "mine" })).await.unwrap(), 400, "INVALID_JSON").await;
    // A retry with the same key makes no second one, and shows no secret.
    let body = json!({ "url": far, "events": ["*"] });
    let keyed = || server.request("POST", "/api/v1/webhooks").header("idempotency-key", "k1");
    let first = ok(keyed().json(&body).send().await.unwrap(), StatusCode::CREATED).await;
    let again = keyed().json(&body).send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let again = ok(again, StatusCode::CREATED).await;
    assert_eq!(again["id"], first["id"]);
    assert!(again.get("secret").is_none() && first.get("secret").is_some());
    let other = json!({ "url": far, "events": ["manifest.*"] });
    problem(keyed().json(&other).send().await.unwrap(), 422, "IDEMPOTENCY_KEY_REUSED").await;
    let stale = server.request("PATCH", &webhook(&first)).header("if-match", "\"7\"").json(&json!({ "enabled": false }));
    problem(stale.send().await.unwrap(), 412, "REVISION_MISMATCH").await;
    let inward = server.request("PATCH", &webhook(&first)).json(&json!({ "url": "https://192.168.0.1/" }));
    problem(inward.send().await.unwrap(), 422, "INVALID_WEBHOOK_URL").await;
    for _ in 1..20 {
        ok(post(body.clone()).await.unwrap(), StatusCode::CREATED).await;
    }
    problem(post(body.clone()).await.unwrap(), 409, "TOO_MANY_WEBHOOKS").await;
    let gone = server.request("DELETE", &webhook(&first)).send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    problem(server.request("DELETE", &webhook(&first)).send().await.unwrap(), 404, "NOT_FOUND").await;
    // A name of this machine is refused when it is resolved, and the log says so.
    let body = json!({ "url": "https://localhost/", "events": ["*"] });
    let made = ok(post(body).await.unwrap(), StatusCode::CREATED).await;
    ok(server.request("POST", &format!("{}/test", webhook(&made))).send().await.unwrap(), StatusCode::ACCEPTED).await;
    for _ in 0..200 {
        let log = deliveries(&server, &made, "").await;
        if log[0]["tries"] == 1 {
            let error = log[0]["attempts"][0]["error"].as_str().unwrap();
            assert!(error.contains("not public"), "{error}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing was tried");
}

#[tokio::test]
async fn endpoints_must_be_who_they_say() {
    depends_on!();
    let Some(dir) = service("OMT_TEST_TLS_DIR").map(std::path::PathBuf::from) else { return };
    let script = package().join("services/receiver.py");
    let mut receiver = Command::new("python3")
        .arg(script)
        .args([dir.join("server.pem"), dir.join("server.key")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let port = lines.next().unwrap().unwrap();
    let with = |ca: &str| {
        let ca = dir.join(ca);
        format!("[webhooks]\nallowed_networks = [\"127.0.0.0/8\"]\nca_file = \"{}\"\n", ca.display())
    };
    for (ca, trusted) in [("other.pem", false), ("ca.pem", true)] {
        let server = Server::start_with(&with(ca)).await;
        let made = subscribe(&server, &format!("https://localhost:{port}/tls"), &["manifest.created"]).await;
        server.upload("a.jpg", fixture("a.jpg"), &[]).await;
        if trusted {
            delivered(&server, &made, "delivered", 1).await;
        } else {
            for _ in 0..200 {
                if deliveries(&server, &made, "").await[0]["tries"] == 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let log = deliveries(&server, &made, "").await;
            assert_eq!(log[0]["attempts"][0]["status"], Value::Null, "{log:?}");
        }
    }
    let heard: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(heard["path"], "/tls");
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

/// Every mail in a Maildir to this address.
fn mail_to(dir: &std::path::Path, address: &str) -> Vec<String> {
    let Ok(found) = std::fs::read_dir(dir.join("new")) else { return Vec::new() };
    let all = found.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    all.filter(|mail| mail.contains(&format!("To: {address}"))).collect()
}

#[tokio::test]
async fn people_get_mail() {
    depends_on!(Database, Queue);
    let Some(smtp) = service("OMT_TEST_SMTP") else { return };
    let dir = std::path::PathBuf::from(std::env::var_os("OMT_TEST_SMTP_DIR").unwrap());
    let ca = std::path::PathBuf::from(std::env::var_os("OMT_TEST_TLS_DIR").unwrap()).join("ca.pem");
    let config = format!(
        "[email]\nurl = \"smtp://{smtp}?tls=required\"\nfrom = \"Trust <trust@example.test>\"\nca_file = \"{}\"\n",
        ca.display()
    );
    let server = Server::start_with(&config).await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    // Other servers' tests use the same mailbox.
    let tag = uuid::Uuid::new_v4().simple().to_string();
    let at = |name: &str| format!("{name}-{tag}@example.test");
    for (name, clearance) in [("rosa", "internal"), ("rita", "public"), ("ruth", "internal")] {
        let fields = json!({ "roles": ["reviewer"], "email": at(name), "clearance": clearance });
        server.user(name, fields).await;
    }
    // One of them does not want any.
    let token = server.token("ruth").await;
    let settings = || server.anonymous("PUT", "/api/v1/notifications/settings").bearer_auth(&token);
    ok(settings().json(&json!({ "email": false })).send().await.unwrap(), StatusCode::OK).await;
    let asked = server.anonymous("GET", "/api/v1/notifications/settings").bearer_auth(&token).send().await.unwrap();
    assert_eq!(ok(asked, StatusCode::OK).await["email"], false);
    let draft = carla.draft("a.jpg", jpeg_with_xmp(""), &[("title", "Hush hush")]).await;
    let workflow = carla.start(&draft, "default").await;
    carla.moves(&workflow, "submit", "submitted").await;
    for _ in 0..400 {
        if !mail_to(&dir, &at("rosa")).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let got = mail_to(&dir, &at("rosa"));
    assert_eq!(got.len(), 1, "{got:?}");
    assert!(got[0].contains("Subject: OpenMediaTrust: A task waits for you"), "{}", got[0]);
    assert!(got[0].contains(id(&draft)) && !got[0].contains("Hush"), "{}", got[0]);
    assert!(mail_to(&dir, &at("rita")).is_empty(), "nobody hears of what they do not see");
    assert!(mail_to(&dir, &at("ruth")).is_empty(), "nobody gets mail that they do not want");
    // Nothing waits any more.
    let path = format!("/api/v1/workflows/{}/cancel", workflow["workflow_id"].as_str().unwrap());
    ok(carla.post(&path, json!({ "comments": "not now" })).await, StatusCode::OK).await;
    omt_tests::until("the end is told", async || mail_to(&dir, &at("rosa")).len() == 2).await;
    let mails = mail_to(&dir, &at("rosa"));
    assert_eq!(mails.iter().filter(|mail| mail.contains("A workflow was cancelled")).count(), 1, "{mails:?}");
    // A program has no mailbox.
    let key = server.key("default", &["manifest:read"]).await;
    let answer = server.anonymous("GET", "/api/v1/notifications/settings").bearer_auth(&key).send().await.unwrap();
    problem(answer, 403, "NOT_A_USER").await;
}

/// An endpoint that takes its time keeps neither other endpoints waiting nor other work.
#[tokio::test]
async fn a_slow_endpoint_holds_up_nobody_else() {
    depends_on!(Database, Queue);
    let server = Server::start_with(&format!("{HERE}[jobs]\nin_process = \"always\"\nconcurrency = 2\n")).await;
    // It takes connections and says nothing, for as long as the test lasts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = format!("http://{}/", silent.local_addr().unwrap());
    subscribe(&server, &slow, &["manifest.*"]).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    let began = Instant::now();
    for n in 0..6 {
        server.upload(&format!("{n}.jpg"), fixture("a.jpg"), &[]).await;
    }
    subscribe(&server, &url, &["manifest.*"]).await;
    server.upload("a.jpg", fixture("a.jpg"), &[]).await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    let workflow = carla.start(&carla.draft("a.png", fixture("a.png"), &[]).await, "default").await;
    carla.moves(&workflow, "submit", "submitted").await;
    for (action, to) in [("review", "in_review"), ("approve", "approved"), ("publish", "published")] {
        manager.moves(&workflow, action, to).await;
    }
    // Long before the slow one is given up.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let heard = async { receiver.wait("the other endpoint", |r| r.heard().len() >= 3).await };
    tokio::time::timeout(Duration::from_secs(15), heard).await.unwrap();
}
