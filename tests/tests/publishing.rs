//! Publishing in spite of `kill -9`: what was decided is done once, and others hear of it once.

use crate::{
    webhooks::{HERE, Receiver, subscribe},
    workflow::Person,
};
use omt_kernel::{TenantId, WorkflowId, port::Database as _};
use omt_sql::SqlDatabase;
use omt_tests::{Server, combination, fixture, id, kill_at_write, ok};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// How often a publication is interrupted at a write.
const KILLS: usize = 9;
/// How often it is interrupted at a step until the crash leaves what that step leaves.
const TRIES: usize = 6;
/// What others hear of a publication.
const EVENTS: [&str; 3] = ["manifest.signed", "workflow.moved", "badge.issued"];

/// How far a publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Nothing was decided.
    Undecided,
    /// It was decided, and nothing was done yet.
    Decided,
    /// What was signed is stored, and no record says so.
    Stored,
    /// It is published, with its badge, and not everybody who wants to was told.
    Published,
    /// Everybody was.
    Told,
}

/// When a publication is interrupted.
#[derive(Debug, Clone, Copy)]
enum When {
    /// At the n-th write of a thread, where the system lets us; else after a time that sweeps over it.
    Write(usize),
    /// As soon as it is so far.
    Step(Step),
}

fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    visible.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// A publication, looked at from outside of the server, which may be dead.
struct Publication {
    workflow: WorkflowId,
    manifest: String,
    /// Files of blobs before it.
    blobs: usize,
}

impl Publication {
    async fn step(&self, server: &Server, receiver: &Receiver, database: &SqlDatabase) -> Step {
        let read = database.read().await.unwrap();
        let workflow = read.workflows().get(&TenantId::default_tenant(), self.workflow).await.unwrap().unwrap();
        if workflow.state == "published" {
            let all = EVENTS.iter().all(|event| told(receiver, event, &self.manifest) > 0);
            return if all { Step::Told } else { Step::Published };
        }
        match workflow.pending_since {
            None => Step::Undecided,
            Some(_) if blobs(server) > self.blobs => Step::Stored,
            Some(_) => Step::Decided,
        }
    }
    /// Waits until it is so far; not for ever.
    async fn reaches(&self, wanted: Step, server: &Server, receiver: &Receiver) {
        let (database, began) = (server.database().await, Instant::now());
        while self.step(server, receiver, &database).await < wanted && began.elapsed() < Duration::from_secs(10) {
            tokio::task::yield_now().await;
        }
    }
}

fn blobs(server: &Server) -> usize {
    files(&server.dir.path().join("data/blobs"))
}

/// How many messages of an event about a publication were heard: what is told twice is the same message.
fn told(receiver: &Receiver, event: &str, id: &str) -> usize {
    let about = |heard: &&omt_tests::http::Heard| {
        let body: Value = serde_json::from_str(&heard.body).unwrap();
        body["type"] == event
            && body["data"]["manifest_id"] == id
            && (event != "workflow.moved" || body["data"]["to"] == "published")
    };
    receiver.heard().iter().filter(about).map(|heard| heard.headers["webhook-id"].clone()).collect::<BTreeSet<_>>().len()
}

/// Begins to publish, and is killed; what that left.
async fn interrupted(mut server: Server, receiver: &Receiver, when: When) -> (Server, String, Value, Step) {
    let creator = Person { server: &server, token: server.token("carla").await, id: String::new() };
    let manager = Person { server: &server, token: server.token("max").await, id: String::new() };
    let draft = creator.draft("a.png", fixture("a.png"), &[]).await;
    let workflow = creator.start(&draft, "with-badge").await;
    creator.moves(&workflow, "submit", "submitted").await;
    manager.moves(&workflow, "review", "in_review").await;
    manager.moves(&workflow, "approve", "approved").await;
    let workflow_id = workflow["workflow_id"].as_str().unwrap().parse().unwrap();
    let publication = Publication { workflow: workflow_id, manifest: id(&draft).to_owned(), blobs: blobs(&server) };
    let strace = match when {
        When::Write(n) => kill_at_write(server.child.id(), n),
        When::Step(_) => None,
    };
    let path = format!("/api/v1/workflows/{}/transition", workflow["workflow_id"].as_str().unwrap());
    let publish = manager.request("POST", &path).json(&json!({ "action": "publish" }));
    let under_way = tokio::spawn(publish.send());
    match (when, &strace) {
        (When::Step(step), _) => publication.reaches(step, &server, receiver).await,
        (When::Write(n), None) => tokio::time::sleep(Duration::from_millis(2 + 2 * n as u64)).await,
        (When::Write(_), Some(_)) => {
            // Killed, or done without ever coming to that write.
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_millis(25)).await;
                if server.child.try_wait().unwrap().is_some() {
                    break;
                }
            }
        }
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    drop(under_way.await);
    if let Some(mut strace) = strace {
        strace.wait().unwrap();
    }
    let left = publication.step(&server, receiver, &server.database().await).await;
    (server.crash_and_restart().await, publication.manifest, workflow, left)
}

/// Publishing is killed at many moments, and between any two of its steps; after the restart it has happened exactly once.
#[tokio::test]
async fn publishing_survives_kill() {
    let mut server = Server::start_with(&format!("[workflow]\ntimers_every_seconds = 1\n{HERE}")).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    subscribe(&server, &url, &EVENTS).await;
    let mut definition = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    definition["name"] = json!("with-badge");
    let publish = definition["transitions"].as_array_mut().unwrap().iter_mut().find(|t| t["action"] == "publish").unwrap();
    publish["effects"] = json!(["sign", "issue_badge", { "webhook": "out" }]);
    let put = server.request("PUT", "/api/v1/workflow-definitions/with-badge").json(&definition).send().await.unwrap();
    ok(put, StatusCode::OK).await;
    server.user("carla", json!({ "roles": ["creator"] })).await;
    server.user("max", json!({ "roles": ["manager"] })).await;
    let (mut published, mut found) = (Vec::new(), BTreeSet::new());
    let kills = combination::current().kills(KILLS);
    let mut plan: Vec<When> = (0..kills).map(|round| When::Write(1 + 3 * round * KILLS / kills)).collect();
    // The steps themselves are looked for where files are blobs; they are the same whatever is beneath.
    let steps = [Step::Undecided, Step::Decided, Step::Stored, Step::Published];
    let by_step = combination::current() == combination::ALL[0];
    if by_step {
        plan.extend(steps.iter().rev().flat_map(|step| [When::Step(*step); TRIES]));
    }
    while let Some(when) = plan.pop() {
        // What a crash left once it need not leave again.
        if matches!(when, When::Step(step) if found.contains(&step)) {
            continue;
        }
        let (after, manifest, workflow, left) = interrupted(server, &receiver, when).await;
        server = after;
        found.insert(left);
        let manager = Person { server: &server, token: server.token("max").await, id: String::new() };
        let mut seen = Value::Null;
        for _ in 0..150 {
            seen = manager.shown(&workflow).await;
            if seen["pending_action"].is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Killed before it was decided, it is as if it was never asked; decided, it is done.
        if left == Step::Undecided {
            assert_eq!(
                (&seen["current_state"], &seen["pending_action"]),
                (&json!("approved"), &Value::Null),
                "{when:?}: {seen:#}"
            );
            manager.moves(&workflow, "publish", "published").await;
            seen = manager.shown(&workflow).await;
        }
        assert_eq!(seen["current_state"], "published", "{when:?} left {left:?}: {seen:#}");
        let moves = seen["history"].as_array().unwrap().iter().filter(|h| h["to_state"] == "published");
        assert_eq!(moves.count(), 1);
        let record = manager.get(&format!("/api/v1/manifests/{manifest}")).await;
        assert_eq!((&record["state"], &record["revision"]), (&json!("signed"), &json!(2)));
        let badges = manager.get(&format!("/api/v1/badges?manifest_id={manifest}")).await;
        let states: Vec<&Value> = badges["items"].as_array().unwrap().iter().map(|badge| &badge["status"]).collect();
        assert_eq!(states, ["valid"]);
        published.push(manifest);
    }
    if by_step {
        assert!(steps.iter().all(|step| found.contains(step)), "a crash left only {found:?}");
    }
    // Others hear of each once.
    let all = |r: &Receiver| published.iter().all(|id| EVENTS.iter().all(|event| told(r, event, id) > 0));
    receiver.wait("every publication", all).await;
    for id in &published {
        for event in EVENTS {
            assert_eq!(told(&receiver, event, id), 1, "{event} of {id}");
        }
    }
}
