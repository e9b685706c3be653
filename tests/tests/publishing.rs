//! Publishing in spite of `kill -9`: what was decided is done once, and others hear of it once.

use crate::{
    webhooks::{HERE, Receiver, subscribe},
    workflow::Person,
};
use omt_tests::{Server, combination, fixture, id, kill_at_write, ok};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How often a publication is interrupted.
const KILLS: usize = 16;

/// Publishing is killed at many moments; after the restart it has happened exactly once.
#[tokio::test]
async fn publishing_survives_kill() {
    let mut server = Server::start_with(&format!("[workflow]\ntimers_every_seconds = 1\n{HERE}")).await;
    let (receiver, url) = Receiver::start(vec![]).await;
    subscribe(&server, &url, &["manifest.signed", "workflow.moved", "badge.issued"]).await;
    let mut definition = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    definition["name"] = json!("with-badge");
    let publish = definition["transitions"].as_array_mut().unwrap().iter_mut().find(|t| t["action"] == "publish").unwrap();
    publish["effects"] = json!(["sign", "issue_badge", { "webhook": "out" }]);
    let put = server.request("PUT", "/api/v1/workflow-definitions/with-badge").json(&definition).send().await.unwrap();
    ok(put, StatusCode::OK).await;
    server.user("carla", json!({ "roles": ["creator"] })).await;
    server.user("max", json!({ "roles": ["manager"] })).await;
    let mut published = Vec::new();
    let kills = combination::current().kills(KILLS);
    for round in 0..kills {
        let creator = Person { server: &server, token: server.token("carla").await, id: String::new() };
        let manager = Person { server: &server, token: server.token("max").await, id: String::new() };
        let draft = creator.draft("a.png", fixture("a.png"), &[]).await;
        let workflow = creator.start(&draft, "with-badge").await;
        creator.moves(&workflow, "submit", "submitted").await;
        manager.moves(&workflow, "review", "in_review").await;
        manager.moves(&workflow, "approve", "approved").await;
        // At one write after another, where the system lets us; else at one time after another.
        let strace = kill_at_write(server.child.id(), 1 + 2 * round * KILLS / kills);
        let path = format!("/api/v1/workflows/{}/transition", workflow["workflow_id"].as_str().unwrap());
        let publish = manager.request("POST", &path).json(&json!({ "action": "publish" }));
        let under_way = tokio::spawn(publish.send());
        let began = Instant::now();
        let most = Duration::from_millis(if strace.is_some() { 1_500 } else { 2 + 3 * round as u64 });
        while began.elapsed() < most && server.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server = server.crash_and_restart().await;
        drop(under_way.await);
        if let Some(mut strace) = strace {
            strace.wait().unwrap();
        }
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
        if seen["current_state"] == "approved" {
            assert!(seen["pending_action"].is_null(), "{seen:#}");
            manager.moves(&workflow, "publish", "published").await;
            seen = manager.shown(&workflow).await;
        }
        assert_eq!(seen["current_state"], "published", "{seen:#}");
        let moves = seen["history"].as_array().unwrap().iter().filter(|h| h["to_state"] == "published");
        assert_eq!(moves.count(), 1);
        let record = manager.get(&format!("/api/v1/manifests/{}", id(&draft))).await;
        assert_eq!((&record["state"], &record["revision"]), (&json!("signed"), &json!(2)));
        let badges = manager.get(&format!("/api/v1/badges?manifest_id={}", id(&draft))).await;
        let states: Vec<&Value> = badges["items"].as_array().unwrap().iter().map(|badge| &badge["status"]).collect();
        assert_eq!(states, ["valid"]);
        published.push(id(&draft).to_owned());
    }
    // Others hear of each once: what is told twice is the same message.
    let told = |r: &Receiver, event: &str, id: &str| {
        let about = |heard: &&omt_tests::http::Heard| {
            let body: Value = serde_json::from_str(&heard.body).unwrap();
            body["type"] == event
                && body["data"]["manifest_id"] == id
                && (event != "workflow.moved" || body["data"]["to"] == "published")
        };
        r.heard().iter().filter(about).map(|heard| heard.headers["webhook-id"].clone()).collect::<BTreeSet<_>>().len()
    };
    let all = |r: &Receiver| {
        let every =
            |id: &String| ["manifest.signed", "workflow.moved", "badge.issued"].iter().all(|event| told(r, event, id) > 0);
        published.iter().all(every)
    };
    receiver.wait("every publication", all).await;
    for id in &published {
        assert_eq!((told(&receiver, "manifest.signed", id), told(&receiver, "workflow.moved", id)), (1, 1), "{id}");
        assert_eq!(told(&receiver, "badge.issued", id), 1, "{id}");
    }
}
