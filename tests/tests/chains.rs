//! A chain of approvals: stages side by side and one after others, of groups, of a part of those assigned, and nobody else.

use crate::workflow::{Person, find};
use omt_kernel::{TenantId, port::Database as _};
use omt_tests::{Server, combination, fixture, id, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// Puts a user into a group, as the directory that they come from would.
async fn join(server: &Server, person: &Person<'_>, group: &str) {
    let database = server.database().await;
    let unit = database.begin().await.unwrap();
    let user = person.id.strip_prefix("user:").unwrap().parse().unwrap();
    let mut user = unit.users().get(&TenantId::default_tenant(), user).await.unwrap().unwrap();
    let before = user.revision;
    user.revision += 1;
    user.mapped.groups.insert(group.to_owned());
    assert!(unit.users().update(&user, before).await.unwrap());
    unit.commit().await.unwrap();
}

/// Counsel and a part of the editors side by side, and the board once both are done.
fn definition(mut default: Value) -> Value {
    default["name"] = json!("chain");
    let all = default["transitions"].as_array_mut().unwrap();
    let approve = all.iter_mut().find(|t| t["action"] == "approve").unwrap();
    approve.as_object_mut().unwrap().retain(|name, _| !["role", "task"].contains(&name.as_str()));
    approve["guards"] = json!([{ "classification_at_most": "internal" }]);
    approve["stages"] = json!([
        { "name": "law", "role": "approver", "groups": ["Counsel"], "task": "Look at the law" },
        { "name": "desk", "role": "approver", "quorum": { "percent": 60 }, "task": "Look at the words" },
        { "name": "board", "role": "manager", "after": ["law", "desk"], "task": "Let it go" },
    ]);
    default
}

async fn approve(person: &Person<'_>, workflow: &Value, stage: Option<&str>) -> Response {
    let path = format!("/api/v1/workflows/{}/transition", workflow["workflow_id"].as_str().unwrap());
    person.post(&path, json!({ "action": "approve", "stage": stage })).await
}

/// The stages that wait for somebody, by their inbox.
async fn waits(person: &Person<'_>) -> Vec<String> {
    let tasks = person.get("/api/v1/tasks").await;
    let mut stages: Vec<_> =
        tasks["items"].as_array().unwrap().iter().map(|task| task["stage"].as_str().unwrap().to_owned()).collect();
    stages.sort();
    stages
}

#[tokio::test]
async fn a_chain_is_approved_by_those_it_names() {
    // What databases and stores are beneath makes no difference to it.
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let default = server.json("/api/v1/workflow-definitions/default").await["definition"].clone();
    let put = server.request("PUT", "/api/v1/workflow-definitions/chain").json(&definition(default));
    ok(put.send().await.unwrap(), StatusCode::OK).await;
    let author = Person::with(&server, "carla", &["creator", "approver"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let counsel = Person::with(&server, "cora", &["approver"]).await;
    join(&server, &counsel, "counsel").await;
    // In the group, and without the role.
    let clerk = Person::with(&server, "clark", &["reviewer"]).await;
    join(&server, &clerk, "counsel").await;
    let mut desk = Vec::new();
    for name in ["ed", "edda", "edgar"] {
        desk.push(Person::with(&server, name, &["approver"]).await);
    }
    let [one, two, three] = &desk[..] else { unreachable!() };
    let other = Person::with(&server, "otto", &["approver"]).await;
    let boss = Person::with(&server, "max", &["manager"]).await;

    let draft = author.draft("a.jpg", fixture("a.jpg"), &[]).await;
    let begin = async |assignees: Value| {
        let body = json!({ "manifest_id": id(&draft), "definition": "chain", "assignees": assignees });
        author.post("/api/v1/workflows", body).await
    };
    let field = |refused: &Value| refused["errors"][0]["field"].as_str().unwrap().to_owned();
    assert_eq!(field(&problem(begin(json!({})).await, 422, "MISSING_FIELD").await), "assignees.desk");
    let unknown = begin(json!({ "desk": [one.id], "gate": [two.id] })).await;
    assert_eq!(field(&problem(unknown, 422, "UNKNOWN_STAGE").await), "assignees.gate");
    // Without the role; in the group without it; with it and not in the group; and who does not see the content.
    let narrow = format!("user:{}", server.user("nora", json!({ "roles": ["approver"], "clearance": "public" })).await);
    for wrong in [
        json!({ "desk": [reviewer.id, one.id] }),
        json!({ "desk": [one.id], "law": [clerk.id] }),
        json!({ "desk": [one.id], "law": [two.id] }),
        json!({ "desk": [one.id, narrow] }),
    ] {
        let refused = problem(begin(wrong.clone()).await, 422, "NOT_ELIGIBLE").await;
        assert_eq!(field(&refused), if wrong["law"].is_null() { "assignees.desk" } else { "assignees.law" });
    }
    // Of the author and another, both would have to.
    problem(begin(json!({ "desk": [author.id, one.id] })).await, 422, "QUORUM_OUT_OF_REACH").await;
    let workflow = ok(begin(json!({ "desk": [one.id, two.id, three.id] })).await, StatusCode::CREATED).await;
    author.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;

    assert_eq!((waits(&counsel).await, waits(one).await), (vec!["law".to_owned()], vec!["desk".to_owned()]));
    for nobody in [&other, &boss] {
        assert_eq!(waits(nobody).await, Vec::<String>::new());
    }
    problem(approve(&other, &workflow, None).await, 403, "NOT_ELIGIBLE").await;
    problem(approve(&author, &workflow, None).await, 403, "FOUR_EYES").await;
    problem(approve(&clerk, &workflow, None).await, 403, "FORBIDDEN").await;
    problem(approve(one, &workflow, Some("law")).await, 403, "NOT_ELIGIBLE").await;
    problem(approve(&counsel, &workflow, Some("desk")).await, 403, "NOT_ELIGIBLE").await;
    problem(approve(&boss, &workflow, Some("board")).await, 409, "STAGE_CLOSED").await;

    // A place is lent to who sees what it is about.
    let task = one.get("/api/v1/tasks").await["items"][0].clone();
    let lend = one.post(&format!("/api/v1/tasks/{}/delegate", id(&task)), json!({ "to": narrow })).await;
    problem(lend, 422, "DELEGATION_REFUSED").await;

    // More is not for this chain.
    let class = async |class: &str| {
        let path = format!("/api/v1/manifests/{}", id(&draft));
        let change = server.request("PATCH", &path).json(&json!({ "classification": class })).send().await.unwrap();
        ok(change, StatusCode::OK).await
    };
    class("confidential").await;
    // Somebody had decided: it begins anew.
    author.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;
    let refused = problem(approve(one, &workflow, None).await, 409, "GUARD_FAILED").await;
    assert!(refused["errors"][0]["reason"].as_str().unwrap().contains("internal is the most"), "{refused}");
    class("internal").await;
    author.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;

    let stays = async |person: &Person<'_>| {
        let seen = ok(approve(person, &workflow, None).await, StatusCode::OK).await;
        assert_eq!(seen["current_state"], "in_review", "{seen:#}");
    };
    stays(one).await;
    problem(approve(one, &workflow, None).await, 409, "ALREADY_DECIDED").await;
    problem(approve(&boss, &workflow, Some("board")).await, 409, "STAGE_CLOSED").await;
    // Two of three are sixty of a hundred.
    stays(two).await;
    problem(approve(three, &workflow, Some("desk")).await, 409, "STAGE_CLOSED").await;
    problem(approve(&boss, &workflow, Some("board")).await, 409, "STAGE_CLOSED").await;
    stays(&counsel).await;
    assert_eq!(waits(&boss).await, ["board"]);
    problem(approve(&counsel, &workflow, Some("board")).await, 409, "ALREADY_DECIDED").await;
    problem(approve(&other, &workflow, Some("board")).await, 403, "NOT_ELIGIBLE").await;
    let done = ok(approve(&boss, &workflow, None).await, StatusCode::OK).await;
    assert_eq!(done["current_state"], "approved", "{done:#}");
    three.moves(&workflow, "publish", "published").await;

    let crjson = server.json(&format!("/api/v1/manifests/{}/crjson", id(&draft))).await;
    let chain = find(&crjson, "approval_chain").unwrap().as_array().unwrap();
    let roles: Vec<&str> = chain.iter().map(|a| a["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["reviewer", "approver", "approver", "approver", "manager", "approver"], "{chain:#?}");
    let people: std::collections::BTreeSet<&str> = chain.iter().map(|a| a["user_id"].as_str().unwrap()).collect();
    assert_eq!(people.len(), 6, "six people");
}
