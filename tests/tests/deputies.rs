//! Places that are lent for a time.

use crate::{
    decisions::{helper, in_review, path, task, told},
    workflow::Person,
};
use omt_tests::{Server, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[tokio::test]
async fn a_deputy_has_a_task_for_its_time_only() {
    depends_on!(Database, Queue);
    let server = Server::start_with("[workflow]\ntimers_every_seconds = 1\n").await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let anna = Person::with(&server, "anna", &["approver", "reviewer"]).await;
    let deputy = helper(&server, "dora").await;
    let later = in_review(&carla, &anna, "dual-approval").await;
    let now = in_review(&carla, &anna, "dual-approval").await;
    let turn = (OffsetDateTime::now_utc() + Duration::from_secs(5)).format(&Rfc3339).unwrap();
    ok(anna.post(&task(&later, "delegate"), json!({ "to": deputy.id, "from": turn })).await, StatusCode::OK).await;
    ok(anna.post(&task(&now, "delegate"), json!({ "to": deputy.id, "until": turn })).await, StatusCode::OK).await;
    let mine = async || {
        let inbox = deputy.get("/api/v1/tasks?inbox=mine").await;
        inbox["items"].as_array().unwrap().iter().map(|task| task["workflow_id"].clone()).collect::<Vec<_>>()
    };
    let opened = ["workflow.task.opened".to_owned()];
    assert_eq!(mine().await, [now["workflow_id"].clone()]);
    assert_eq!(deputy.get("/api/v1/tasks/counts").await["mine"], 1);
    assert_eq!((told(&deputy, &now).await, told(&deputy, &later).await), (opened.to_vec(), vec![]));
    problem(deputy.post(&task(&later, "decide"), json!({})).await, 403, "NOT_ELIGIBLE").await;

    let turned = vec![later["workflow_id"].clone()];
    for _ in 0..300 {
        if mine().await == turned {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(mine().await, turned, "one began, the other ended");
    assert_eq!(deputy.get("/api/v1/tasks/counts").await["mine"], 1);
    assert_eq!((told(&deputy, &now).await, told(&deputy, &later).await), (opened.to_vec(), opened.to_vec()), "each once");
    problem(deputy.post(&task(&now, "decide"), json!({})).await, 403, "NOT_ELIGIBLE").await;
    // The alarms of the task are what they were.
    let (was, is) = (&later["tasks"][0]["due_at"], anna.shown(&later).await["tasks"][0]["due_at"].clone());
    assert!(was.is_string() && *was == is, "{was} {is}");
    ok(deputy.post(&task(&later, "decide"), json!({})).await, StatusCode::OK).await;
}

#[tokio::test]
async fn a_lent_place_is_looked_at_whatever_happens_first() {
    depends_on!(Database, Queue);
    let at = |seconds: u64| {
        let turn = OffsetDateTime::now_utc() + Duration::from_secs(seconds);
        (turn, turn.format(&Rfc3339).unwrap())
    };
    let until = async |turn: OffsetDateTime| {
        while OffsetDateTime::now_utc() <= turn {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // The timers look too late.
    let server = Server::start_with("[workflow]\ntimers_every_seconds = 3600\n").await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let anna = Person::with(&server, "anna", &["approver", "reviewer"]).await;
    let bert = Person::with(&server, "bert", &["approver"]).await;
    let deputy = helper(&server, "dora").await;
    let workflow = in_review(&carla, &anna, "dual-approval").await;
    // No moment that nothing could hold.
    for field in ["from", "until"] {
        let mut body = json!({ "to": deputy.id });
        body[field] = json!("9999-12-31T23:59:59-23:59");
        let refused = problem(anna.post(&task(&workflow, "delegate"), body).await, 422, "INVALID_FIELD").await;
        assert_eq!(refused["errors"][0]["field"], field);
    }
    let (turn, text) = at(2);
    ok(anna.post(&task(&workflow, "delegate"), json!({ "to": deputy.id, "from": text })).await, StatusCode::OK).await;
    assert_eq!(told(&deputy, &workflow).await, Vec::<String>::new());
    until(turn).await;
    for _ in 0..2 {
        ok(carla.post(&path(&workflow, "comments"), json!({ "comments": "well" })).await, StatusCode::OK).await;
        assert_eq!(told(&deputy, &workflow).await, ["workflow.task.opened"], "once");
    }

    // What a deputy took is for others when their time is over.
    let workflow = in_review(&carla, &anna, "default").await;
    let (turn, text) = at(6);
    ok(anna.post(&task(&workflow, "delegate"), json!({ "to": deputy.id, "until": text })).await, StatusCode::OK).await;
    ok(deputy.post(&task(&workflow, "claim"), json!({})).await, StatusCode::OK).await;
    problem(bert.post(&task(&workflow, "decide"), json!({})).await, 409, "TASK_CLAIMED").await;
    let offered = async |person: &Person<'_>| person.shown(&workflow).await["available_actions"].clone();
    assert_eq!((offered(&bert).await, offered(&deputy).await), (json!(["reject"]), json!(["approve"])));
    until(turn).await;
    // What is offered is what a decision finds, though nobody has written it down.
    assert_eq!((offered(&bert).await, offered(&deputy).await), (json!(["approve", "reject"]), json!([])));
    let listed = bert.get("/api/v1/workflows").await;
    let listed = listed["items"].as_array().unwrap().iter().find(|w| w["workflow_id"] == workflow["workflow_id"]).unwrap();
    assert_eq!(listed["available_actions"], json!(["approve", "reject"]));
    problem(deputy.post(&task(&workflow, "decide"), json!({})).await, 403, "NOT_ELIGIBLE").await;
    let done = ok(bert.post(&task(&workflow, "decide"), json!({})).await, StatusCode::OK).await;
    assert_eq!(done["current_state"], "approved");

    // The timers give it back, too.
    let server = Server::start_with("[workflow]\ntimers_every_seconds = 1\n").await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let anna = Person::with(&server, "anna", &["approver", "reviewer"]).await;
    let deputy = helper(&server, "dora").await;
    let workflow = in_review(&carla, &anna, "default").await;
    let (_, text) = at(4);
    ok(anna.post(&task(&workflow, "delegate"), json!({ "to": deputy.id, "until": text })).await, StatusCode::OK).await;
    let taken = ok(deputy.post(&task(&workflow, "claim"), json!({})).await, StatusCode::OK).await;
    assert_eq!(taken["tasks"][0]["claimed_by"], json!(deputy.id));
    let mut seen = taken;
    for _ in 0..300 {
        // It is nobody's from that moment on; the timers write it down.
        if seen["history"].as_array().unwrap().last().unwrap()["action"] == "unclaim" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = anna.shown(&workflow).await;
    }
    assert_eq!(seen["tasks"][0]["claimed_by"], Value::Null, "{seen:#}");
    let last = seen["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["action"], &last["user_id"]), (&json!("unclaim"), &Value::Null), "{seen:#}");
}
