//! Decisions in workflows that are refused, made at the same time, and told of.

use crate::workflow::{Person, find};
use futures_util::future::join_all;
use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Somebody who may approve in another's place, and has no place of their own.
pub(crate) async fn helper<'a>(server: &'a Server, name: &str) -> Person<'a> {
    let role = json!({ "name": "helper", "permissions": ["manifest:read", "workflow:review", "workflow:approve"] });
    let made = server.request("POST", "/api/v1/admin/roles").json(&role).send().await.unwrap();
    ok(made, StatusCode::CREATED).await;
    Person::with(server, name, &["helper"]).await
}

/// A workflow by this definition that waits for its approvals.
pub(crate) async fn in_review(creator: &Person<'_>, reviewer: &Person<'_>, definition: &str) -> Value {
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let workflow = creator.start(&draft, definition).await;
    creator.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await
}

/// The path of the first task of a workflow.
pub(crate) fn task(workflow: &Value, what: &str) -> String {
    format!("/api/v1/tasks/{}/{what}", id(&workflow["tasks"][0]))
}

pub(crate) fn path(workflow: &Value, what: &str) -> String {
    format!("/api/v1/workflows/{}/{what}", workflow["workflow_id"].as_str().unwrap())
}

/// Checks that a refusal has left everything as it was.
async fn refused(witness: &Person<'_>, before: &Value, answer: Response, status: u16, code: &str) -> Value {
    let body = problem(answer, status, code).await;
    untouched(witness, before).await;
    body
}

async fn untouched(witness: &Person<'_>, before: &Value) {
    let after = witness.shown(before).await;
    for member in ["revision", "current_state", "updated_at", "pending_action", "history", "approval_chain", "tasks"] {
        assert_eq!(after[member], before[member], "{member}");
    }
}

#[tokio::test]
async fn a_refusal_leaves_everything_as_it_was() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator", "approver"]).await;
    let rita = Person::with(&server, "rita", &["reviewer"]).await;
    let otto = Person::with(&server, "otto", &["auditor"]).await;
    let anna = Person::with(&server, "anna", &["approver"]).await;
    let bert = Person::with(&server, "bert", &["approver"]).await;
    let cleo = Person::with(&server, "cleo", &["approver"]).await;
    let seen = in_review(&carla, &rita, "dual-approval").await;
    let decide = task(&seen, "decide");

    // What is not there, or not there now.
    refused(&anna, &seen, anna.post(&decide, json!({ "action": "dance" })).await, 422, "UNKNOWN_ACTION").await;
    let wrong = refused(&anna, &seen, anna.post(&decide, json!({ "action": "publish" })).await, 409, "WRONG_STATE").await;
    let allowed = json!([{ "field": "allowed", "reason": "approve" }, { "field": "allowed", "reason": "reject" }]);
    assert_eq!(wrong["errors"], allowed);
    let nowhere = json!({ "action": "approve", "stage": "nowhere" });
    refused(&anna, &seen, anna.post(&path(&seen, "transition"), nowhere).await, 422, "UNKNOWN_STAGE").await;

    // What was meant for another revision.
    let stale =
        |person: &Person<'_>, path: &str, body: Value| person.request("POST", path).header("if-match", "\"1\"").json(&body);
    let answer = stale(&anna, &decide, json!({})).send().await.unwrap();
    refused(&anna, &seen, answer, 412, "REVISION_MISMATCH").await;
    let answer = stale(&anna, &path(&seen, "transition"), json!({ "action": "approve" })).send().await.unwrap();
    refused(&anna, &seen, answer, 412, "REVISION_MISMATCH").await;
    let answer = stale(&carla, &path(&seen, "cancel"), json!({ "comments": "enough" })).send().await.unwrap();
    refused(&anna, &seen, answer, 412, "REVISION_MISMATCH").await;

    // Whoever may not.
    refused(&anna, &seen, carla.post(&decide, json!({})).await, 403, "FOUR_EYES").await;
    refused(&anna, &seen, rita.post(&decide, json!({})).await, 403, "FORBIDDEN").await;
    refused(&anna, &seen, otto.post(&decide, json!({})).await, 403, "FORBIDDEN").await;
    let boss = Person { server: &server, token: server.tenant("other").await, id: String::new() };
    refused(&anna, &seen, boss.post(&decide, json!({})).await, 404, "NOT_FOUND").await;
    refused(&anna, &seen, bert.post(&path(&seen, "cancel"), json!({ "comments": "enough" })).await, 403, "NOT_ELIGIBLE").await;
    refused(&anna, &seen, anna.post(&task(&seen, "claim"), json!({})).await, 409, "TASK_SHARED").await;
    refused(&anna, &seen, anna.post(&task(&seen, "unclaim"), json!({})).await, 409, "TASK_NOT_CLAIMED").await;

    // Whatever is missing, or is no evidence.
    refused(&anna, &seen, rita.post(&decide, json!({ "action": "reject" })).await, 422, "COMMENTS_REQUIRED").await;
    let file = json!({ "name": "opinion.pdf", "sha256": "ab".repeat(32) });
    let short = json!({ "name": "opinion.pdf", "sha256": "ab" });
    let nameless = json!({ "name": " ", "sha256": "ab".repeat(32) });
    for files in [json!([short]), json!([file, nameless]), json!(vec![file.clone(); 21])] {
        let answer = anna.post(&decide, json!({ "attachments": files })).await;
        let body = refused(&anna, &seen, answer, 422, "INVALID_FIELD").await;
        assert_eq!(body["errors"][0]["field"], "attachments");
        let items = json!({ "items": [{ "id": id(&seen["tasks"][0]), "attachments": files }] });
        let results = ok(anna.post("/api/v1/tasks/decide", items).await, StatusCode::OK).await;
        assert_eq!((&results["items"][0]["status"], &results["items"][0]["code"]), (&json!(422), &json!("INVALID_FIELD")));
        untouched(&anna, &seen).await;
    }

    // Places that cannot be lent.
    let lend = task(&seen, "delegate");
    for body in [
        json!({ "to": anna.id }),
        json!({ "to": carla.id }),
        json!({ "to": bert.id, "from": "2036-01-02T00:00:00Z", "until": "2036-01-01T00:00:00Z" }),
        json!({ "to": bert.id, "from": "2036-01-01T00:00:00Z", "until": "2036-01-01T00:00:00Z" }),
        json!({ "to": bert.id, "until": "2020-01-01T00:00:00Z" }),
    ] {
        refused(&anna, &seen, anna.post(&lend, body).await, 422, "DELEGATION_REFUSED").await;
    }
    ok(anna.post(&lend, json!({ "to": bert.id })).await, StatusCode::OK).await;
    ok(bert.post(&lend, json!({ "to": cleo.id })).await, StatusCode::OK).await;
    let seen = anna.shown(&seen).await;
    let circle = refused(&anna, &seen, cleo.post(&lend, json!({ "to": anna.id })).await, 422, "DELEGATION_REFUSED").await;
    assert!(circle.to_string().contains("circle"), "{circle}");

    // Whoever has decided.
    let fresh = format!("\"{}\"", seen["revision"]);
    let first = anna.request("POST", &decide).header("if-match", &fresh).json(&json!({})).send().await.unwrap();
    let seen = ok(first, StatusCode::OK).await;
    assert_eq!(seen["tasks"][0]["decided"], 1);
    let again = anna.request("POST", &decide).header("if-match", fresh).json(&json!({})).send().await.unwrap();
    refused(&anna, &seen, again, 412, "REVISION_MISMATCH").await;
    refused(&anna, &seen, anna.post(&decide, json!({})).await, 409, "ALREADY_DECIDED").await;
    let other_way = json!({ "action": "reject", "comments": "no" });
    refused(&anna, &seen, anna.post(&decide, other_way).await, 409, "ALREADY_DECIDED").await;
    refused(&anna, &seen, anna.take(&seen, "approve").await, 409, "ALREADY_DECIDED").await;
    let done = ok(cleo.post(&decide, json!({})).await, StatusCode::OK).await;
    assert_eq!(done["current_state"], "approved");
    refused(&anna, &done, bert.post(&decide, json!({})).await, 404, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_at_the_same_time_decides_once() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let anna = Person::with(&server, "anna", &["approver", "reviewer"]).await;
    let deputy = helper(&server, "dora").await;
    let workflow = in_review(&carla, &anna, "dual-approval").await;
    // By each of the ways.
    let (decide, transition) = (task(&workflow, "decide"), path(&workflow, "transition"));
    let ways = (0..10).map(|n| match n % 2 {
        0 => anna.post(&decide, json!({})),
        _ => anna.post(&transition, json!({ "action": "approve" })),
    });
    let mut counted = 0;
    for answer in join_all(ways).await {
        if answer.status() == StatusCode::OK {
            counted += 1;
        } else {
            problem(answer, 409, "ALREADY_DECIDED").await;
        }
    }
    assert_eq!(counted, 1);
    let seen = anna.shown(&workflow).await;
    assert_eq!((&seen["current_state"], &seen["tasks"][0]["decided"]), (&json!("in_review"), &json!(1)));

    // Nor do somebody and their deputy decide both.
    for _ in 0..4 {
        let workflow = in_review(&carla, &anna, "dual-approval").await;
        ok(anna.post(&task(&workflow, "delegate"), json!({ "to": deputy.id })).await, StatusCode::OK).await;
        let decide = task(&workflow, "decide");
        let both = [&anna, &deputy, &anna, &deputy].map(|person| person.post(&decide, json!({})));
        let mut counted = 0;
        for answer in join_all(both).await {
            match answer.status().as_u16() {
                200 => counted += 1,
                // The deputy has no place once it is used.
                403 => drop(problem(answer, 403, "NOT_ELIGIBLE").await),
                _ => drop(problem(answer, 409, "ALREADY_DECIDED").await),
            }
        }
        assert_eq!(counted, 1);
        let seen = anna.shown(&workflow).await;
        assert_eq!((&seen["current_state"], &seen["tasks"][0]["decided"]), (&json!("in_review"), &json!(1)));
        let approvals = seen["approval_chain"].as_array().unwrap().iter().filter(|vote| vote["action"] == "approve");
        assert_eq!(approvals.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_decide_on_one_task_at_once() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let mut definition = carla.get("/api/v1/workflow-definitions/dual-approval").await["definition"].clone();
    definition["name"] = json!("crowd");
    let approve = definition["transitions"].as_array_mut().unwrap().iter_mut().find(|t| t["action"] == "approve").unwrap();
    approve["stages"][0]["quorum"] = json!({ "count": 30 });
    ok(server.request("PUT", "/api/v1/workflow-definitions/crowd").json(&definition).send().await.unwrap(), StatusCode::OK).await;
    let mut approvers = Vec::new();
    for n in 0..100 {
        approvers.push(Person::with(&server, &format!("a{n}"), &["approver", "reviewer"]).await);
    }
    let workflow = in_review(&carla, &approvers[0], "crowd").await;
    // By each of the ways.
    let (decide, transition) = (task(&workflow, "decide"), path(&workflow, "transition"));
    let ways = approvers.iter().enumerate().map(|(n, person)| match n % 2 {
        0 => person.post(&decide, json!({})),
        _ => person.post(&transition, json!({ "action": "approve" })),
    });
    let mut by_answer = BTreeMap::new();
    for answer in join_all(ways).await {
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        *by_answer.entry((status, body["code"].as_str().unwrap_or_default().to_owned())).or_insert(0) += 1;
    }
    // Whoever comes too late finds the task closed, or gone, and the workflow in another state.
    let late = [(409, "TASK_CLOSED"), (404, "NOT_FOUND"), (409, "WRONG_STATE")].map(|(status, code)| (status, code.to_owned()));
    assert_eq!(by_answer.get(&(200, String::new())), Some(&30), "{by_answer:?}");
    assert_eq!(late.iter().filter_map(|answer| by_answer.get(answer)).sum::<i32>(), 70, "{by_answer:?}");
    let seen = carla.shown(&workflow).await;
    assert_eq!(seen["current_state"], "approved");
    let moved = |h: &&Value| h["to_state"] == "approved" && h["from_state"] == "in_review";
    assert_eq!(seen["history"].as_array().unwrap().iter().filter(moved).count(), 1);
    let chain = seen["approval_chain"].as_array().unwrap().iter().filter(|vote| vote["action"] == "approve");
    let people: BTreeSet<&str> = chain.map(|vote| vote["user_id"].as_str().unwrap()).collect();
    assert_eq!(people.len(), 30);
}

/// Evidence is in the history, and in whose place somebody decided is there and in what is published.
#[tokio::test]
async fn history_and_chain_say_with_what_and_in_whose_place() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let anna = Person::with(&server, "anna", &["approver", "reviewer"]).await;
    let bert = Person::with(&server, "bert", &["approver"]).await;
    let deputy = helper(&server, "dora").await;
    let workflow = in_review(&carla, &anna, "dual-approval").await;
    let file = |name: &str| json!([{ "name": name, "sha256": "ab".repeat(32) }]);
    let said = json!({ "comments": "see there", "attachments": file("note.txt") });
    ok(carla.post(&path(&workflow, "comments"), said).await, StatusCode::OK).await;
    ok(anna.post(&task(&workflow, "delegate"), json!({ "to": deputy.id })).await, StatusCode::OK).await;
    let fine = json!({ "comments": "fine", "attachments": file("opinion.pdf") });
    ok(deputy.post(&task(&workflow, "decide"), fine).await, StatusCode::OK).await;
    let items = json!({ "items": [{ "id": id(&workflow["tasks"][0]), "attachments": file("second.pdf") }] });
    let results = ok(bert.post("/api/v1/tasks/decide", items).await, StatusCode::OK).await;
    assert_eq!(results["items"][0]["current_state"], "approved", "{results}");
    let publish = json!({ "action": "publish", "attachments": file("order.pdf") });
    let done = ok(bert.post(&path(&workflow, "transition"), publish).await, StatusCode::OK).await;
    assert_eq!(done["current_state"], "published");

    let pages = [done["history"].clone(), carla.get(&path(&workflow, "history")).await["items"].clone()];
    for history in pages {
        let line = |action: &str, by: &Person<'_>| {
            let all = history.as_array().unwrap().iter();
            all.filter(|h| h["action"] == action && h["user_id"] == by.id.as_str()).cloned().collect::<Vec<_>>()
        };
        for (action, by, name) in [
            ("comment", &carla, "note.txt"),
            ("approve", &deputy, "opinion.pdf"),
            ("approve", &bert, "second.pdf"),
            ("publish", &bert, "order.pdf"),
        ] {
            let lines = line(action, by);
            let [one] = &lines[..] else { panic!("{action}: {history:#}") };
            assert_eq!(one["attachments"], file(name), "{history:#}");
            let place = if by.id == deputy.id { json!(anna.id) } else { Value::Null };
            assert_eq!(one["on_behalf_of"], place, "{history:#}");
        }
        assert_eq!(line("submit", &carla)[0]["attachments"], json!([]));
    }

    let manifest = workflow["manifest_id"].as_str().unwrap();
    let crjson = server.json(&format!("/api/v1/manifests/{manifest}/crjson")).await;
    let chain = find(&crjson, "approval_chain").unwrap().as_array().unwrap();
    let outcome: Vec<(&str, bool)> =
        chain.iter().map(|a| (a["status"].as_str().unwrap(), a.get("on_behalf_of").is_some())).collect();
    assert_eq!(outcome, [("review", false), ("approve", true), ("approve", false), ("publish", false)], "{chain:#?}");
    // It is anna's place, by the pseudonym under which she reviewed.
    assert_eq!(chain[1]["on_behalf_of"], chain[0]["user_id"]);
    assert_ne!(chain[1]["on_behalf_of"], chain[1]["user_id"]);
    assert!(!crjson.to_string().contains(&anna.id) && !crjson.to_string().contains("dora"), "{crjson:#}");
    let verdict = server.verify("a.jpg", server.content(&json!({ "id": manifest })).await).await;
    assert_eq!(verdict["organizational_compliance"]["workflow_approved"], true, "{verdict:#}");
}

/// Kinds of messages that somebody has about a workflow.
pub(crate) async fn told(person: &Person<'_>, workflow: &Value) -> Vec<String> {
    let inbox = person.get("/api/v1/notifications?limit=200").await;
    let about = inbox["items"].as_array().unwrap().iter().filter(|m| m["data"]["workflow_id"] == workflow["workflow_id"]);
    about.map(|message| message["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn people_hear_of_what_becomes_of_their_decisions() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let rita = Person::with(&server, "rita", &["reviewer"]).await;
    let anna = Person::with(&server, "anna", &["approver"]).await;
    let bert = Person::with(&server, "bert", &["approver"]).await;
    let has = async |person: &Person<'_>, workflow: &Value, kind: &str| {
        told(person, workflow).await.iter().filter(|known| *known == kind).count()
    };
    let manifest = |workflow: &Value| format!("/api/v1/manifests/{}", workflow["manifest_id"].as_str().unwrap());

    // The content changes: what was decided on it counts no more.
    let workflow = in_review(&carla, &rita, "dual-approval").await;
    ok(anna.post(&task(&workflow, "decide"), json!({})).await, StatusCode::OK).await;
    let change = server.request("PATCH", &manifest(&workflow)).json(&json!({ "title": "Other" })).send().await.unwrap();
    ok(change, StatusCode::OK).await;
    assert_eq!(carla.shown(&workflow).await["current_state"], "draft");
    for (person, times) in [(&carla, 1), (&rita, 1), (&anna, 1), (&bert, 0)] {
        assert_eq!(has(person, &workflow, "workflow.voided").await, times, "{}", person.id);
    }

    // It is called off: nothing waits any more.
    let workflow = in_review(&carla, &rita, "dual-approval").await;
    ok(carla.post(&path(&workflow, "cancel"), json!({ "comments": "enough" })).await, StatusCode::OK).await;
    for (person, times) in [(&carla, 1), (&rita, 0), (&anna, 1), (&bert, 1)] {
        assert_eq!(has(person, &workflow, "workflow.cancelled").await, times, "{}", person.id);
    }
    // So it is when the content is put away.
    let workflow = in_review(&carla, &rita, "dual-approval").await;
    let away = server.request("DELETE", &manifest(&workflow)).send().await.unwrap();
    assert_eq!(away.status(), StatusCode::NO_CONTENT);
    assert_eq!((has(&carla, &workflow, "workflow.cancelled").await, has(&anna, &workflow, "workflow.cancelled").await), (1, 1));

    // Another version of the definition: its tasks are new.
    let workflow = in_review(&carla, &rita, "default").await;
    assert_eq!(has(&anna, &workflow, "workflow.task.opened").await, 1);
    let mut definition = carla.get("/api/v1/workflow-definitions/default").await["definition"].clone();
    definition["title"] = json!("Another");
    let put = server.request("PUT", "/api/v1/workflow-definitions/default").json(&definition).send().await.unwrap();
    ok(put, StatusCode::OK).await;
    let migrate = server.request("POST", "/api/v1/workflow-definitions/default/migrate").json(&json!({})).send().await.unwrap();
    assert_eq!(ok(migrate, StatusCode::OK).await["moved"], 1);
    assert_eq!(has(&anna, &workflow, "workflow.task.opened").await, 2);
    assert_eq!(has(&carla, &workflow, "workflow.moved").await, 2, "it is where it was");
    anna.moves(&workflow, "approve", "approved").await;
}

/// Keeps a definition like `default` under another name.
async fn variant(server: &Server, name: &str, change: impl Fn(&mut Vec<Value>)) {
    let mut definition = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    definition["name"] = json!(name);
    change(definition["transitions"].as_array_mut().unwrap());
    let put = server.request("PUT", &format!("/api/v1/workflow-definitions/{name}")).json(&definition).send().await.unwrap();
    ok(put, StatusCode::OK).await;
}

#[tokio::test]
async fn each_way_to_publish_is_measured_by_itself() {
    depends_on!(Database, Queue);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let rita = Person::with(&server, "rita", &["reviewer"]).await;
    let anna = Person::with(&server, "anna", &["approver"]).await;
    let bert = Person::with(&server, "bert", &["approver"]).await;
    for (name, place) in [("board-first", 1), ("express-first", 0)] {
        variant(&server, name, |transitions| {
            let at = transitions.iter().position(|t| t["action"] == "publish").unwrap();
            let mut express = transitions[at].clone();
            express["action"] = json!("express");
            let publish = transitions[at].as_object_mut().unwrap();
            publish.retain(|member, _| member != "role" && member != "task");
            let board = json!({ "name": "board", "task": "Agree", "role": "approver", "quorum": { "count": 2 } });
            publish.insert("stages".to_owned(), json!([board]));
            transitions.insert(at + place, express);
        })
        .await;
        let by_hand = async |workflow: &Value| {
            let sign = format!("/api/v1/manifests/{}/sign", workflow["manifest_id"].as_str().unwrap());
            problem(anna.request("POST", &sign).send().await.unwrap(), 409, "APPROVAL_REQUIRED").await
        };
        let workflow = in_review(&carla, &rita, name).await;
        anna.moves(&workflow, "approve", "approved").await;
        by_hand(&workflow).await;
        anna.moves(&workflow, "express", "published").await;
        let workflow = in_review(&carla, &rita, name).await;
        anna.moves(&workflow, "approve", "approved").await;
        anna.moves(&workflow, "publish", "approved").await;
        by_hand(&workflow).await;
        bert.moves(&workflow, "publish", "published").await;
    }
}

#[tokio::test]
async fn a_decision_that_was_written_is_not_answered_as_refused() {
    depends_on!(Database);
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator"]).await;
    let max = Person::with(&server, "max", &["manager"]).await;
    variant(&server, "put-away", |transitions| {
        let archive = transitions.iter_mut().find(|t| t["action"] == "archive").unwrap();
        archive["task"] = json!("Put away");
    })
    .await;
    let workflow = in_review(&carla, &max, "put-away").await;
    max.moves(&workflow, "approve", "approved").await;
    max.moves(&workflow, "publish", "published").await;
    let manifest = format!("/api/v1/manifests/{}", workflow["manifest_id"].as_str().unwrap());
    let hold = server.request("PUT", &format!("{manifest}/legal-hold")).json(&json!({ "reason": "case" }));
    ok(hold.send().await.unwrap(), StatusCode::OK).await;

    // What it leads to cannot be had: the workflow is where it was, and says why. Each of the ways does.
    let failed = |seen: &Value| {
        assert_eq!((&seen["current_state"], &seen["pending_action"]), (&json!("published"), &Value::Null), "{seen:#}");
        let last = seen["history"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["action"], &last["user_id"]), (&json!("archive_failed"), &Value::Null), "{seen:#}");
        assert!(last["comments"].as_str().unwrap().starts_with("LEGAL_HOLD: "), "{seen:#}");
    };
    failed(&max.moves(&workflow, "archive", "published").await);
    let seen = max.shown(&workflow).await;
    failed(&seen);
    failed(&ok(max.post(&task(&seen, "decide"), json!({})).await, StatusCode::OK).await);
    let seen = max.shown(&workflow).await;
    let items = json!({ "items": [{ "id": id(&seen["tasks"][0]) }] });
    let result = ok(max.post("/api/v1/tasks/decide", items).await, StatusCode::OK).await["items"][0].clone();
    let said = (&result["status"], &result["current_state"], &result["code"]);
    assert_eq!(said, (&json!(200), &json!("published"), &json!("LEGAL_HOLD")), "{result}");

    // Whoever decided may decide again.
    ok(server.request("DELETE", &format!("{manifest}/legal-hold")).send().await.unwrap(), StatusCode::OK).await;
    let seen = max.shown(&workflow).await;
    let items = json!({ "items": [{ "id": id(&seen["tasks"][0]) }] });
    let result = ok(max.post("/api/v1/tasks/decide", items).await, StatusCode::OK).await["items"][0].clone();
    let said = (&result["status"], &result["current_state"], &result["code"]);
    assert_eq!(said, (&json!(200), &json!("archived"), &Value::Null), "{result}");
}
