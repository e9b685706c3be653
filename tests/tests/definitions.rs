//! Definitions of workflows: what is refused of them, versions, pictures.

use crate::workflow::Person;
use omt_tests::{Server, fixture, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn definitions_are_checked_versioned_and_drawn() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let found = creator.get("/api/v1/workflow-definitions").await;
    let names: Vec<&str> = found["items"].as_array().unwrap().iter().map(|d| d["definition"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "dual-approval"]);
    let picture = creator.request("GET", "/api/v1/workflow-definitions/default/diagram.svg").send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    assert!(picture.text().await.unwrap().contains(">approve<"));

    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let running = creator.start(&draft, "default").await;
    creator.moves(&running, "submit", "submitted").await;
    let mut definition = creator.get("/api/v1/workflow-definitions/default").await["definition"].clone();
    let put = |body: Value| server.request("PUT", "/api/v1/workflow-definitions/default").json(&body);
    let refused = creator.request("PUT", "/api/v1/workflow-definitions/default").json(&definition).send().await.unwrap();
    problem(refused, 403, "FORBIDDEN").await;
    let mut island = definition.clone();
    island["states"]["island"] = json!({ "title": "Island", "kind": "closed" });
    let refused = problem(put(island).send().await.unwrap(), 422, "INVALID_DEFINITION").await;
    assert_eq!(refused["errors"], json!([{ "field": "states.island", "reason": "cannot be reached" }]));
    problem(put(definition.clone()).header("if-match", "\"9\"").send().await.unwrap(), 412, "REVISION_MISMATCH").await;
    // The second version has another name for `submitted`.
    let text = definition.to_string().replace("\"submitted\"", "\"waiting\"");
    definition = serde_json::from_str(&text).unwrap();
    let second = ok(put(definition).header("if-match", "\"1\"").send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(second["version"], 2);
    assert_eq!(creator.shown(&running).await["definition_version"], 1);
    let newer = creator.start(&creator.draft("b.jpg", fixture("a.jpg"), &[]).await, "default").await;
    assert_eq!(newer["definition_version"], 2);

    let migrate = |body: Value| server.request("POST", "/api/v1/workflow-definitions/default/migrate").json(&body);
    let done = ok(migrate(json!({})).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!((&done["moved"], done["stayed"].as_array().unwrap().len()), (&json!(0), 1));
    let cheat = migrate(json!({ "states": { "submitted": "published" } })).send().await.unwrap();
    problem(cheat, 422, "INVALID_FIELD").await;
    let done = ok(migrate(json!({ "states": { "submitted": "waiting" } })).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(done["moved"], 1);
    let seen = creator.shown(&running).await;
    assert_eq!((&seen["current_state"], &seen["definition_version"]), (&json!("waiting"), &json!(2)));
}

#[tokio::test]
async fn a_definition_that_nobody_could_follow_is_refused() {
    depends_on!();
    let server = Server::start().await;
    let definition = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    let faults = async |change: &dyn Fn(&mut Value)| {
        let mut broken = definition.clone();
        broken["name"] = json!("broken");
        change(&mut broken);
        let put = server.request("PUT", "/api/v1/workflow-definitions/broken").json(&broken).send().await.unwrap();
        problem(put, 422, "INVALID_DEFINITION").await["errors"].clone()
    };
    let unsigned = faults(&|d| {
        d["transitions"][4].as_object_mut().unwrap().remove("effects");
    })
    .await;
    let words = "a published state is reached by signing only";
    assert_eq!(unsigned, json!([{ "field": "transitions[4].effects", "reason": words }]));
    let nobody = faults(&|d| {
        d["transitions"][1]["permission"] = json!("audit:read");
        d["stand_ins"]["reviewer"] = json!(["approver"]);
    })
    .await;
    let words = "neither reviewer nor a role that stands in for it has audit:read";
    assert_eq!(nobody, json!([{ "field": "transitions[1].permission", "reason": words }]));
    let silent = faults(&|d| d["transitions"][3]["due"] = json!({ "hours": 8 })).await;
    let words = "is due, and has no task that anybody could be reminded of";
    assert_eq!(silent, json!([{ "field": "transitions[3].stages.reject", "reason": words }]));
    problem(server.get("/api/v1/workflow-definitions/broken").await, 404, "UNKNOWN_DEFINITION").await;
}
