//! Policies beyond what guards ask of them: what is refused when they are written, evidence, dry runs over what is signed, shadows.

use crate::workflow::Person;
use futures_util::future::join_all;
use omt_kernel::{
    Actor, TenantId,
    document::{self, DocumentKind, NewVersion},
    port::Database as _,
};
use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

fn rule(name: &str, expression: &str) -> Value {
    json!({ "name": name, "rule_type": "custom_function", "severity": "error", "custom_function": expression })
}

fn policy(name: &str, rules: Vec<Value>) -> Value {
    json!({ "name": name, "rules": rules })
}

async fn send(server: &Server, method: &str, path: &str, body: &Value) -> Response {
    server.request(method, path).json(body).send().await.unwrap()
}

async fn says(server: &Server, manifest: &Value, policy: &str) -> Value {
    let body = json!({ "manifest_id": id(manifest), "policy_name": policy });
    ok(send(server, "POST", "/api/v1/verify/policy", &body).await, StatusCode::OK).await
}

/// Tries a policy; what came of it.
async fn tries(server: &Server, policy: &Value) -> Value {
    let path = format!("/api/v1/policies/{}/dry-run", policy["name"].as_str().unwrap());
    let begun = ok(send(server, "POST", &path, policy).await, StatusCode::ACCEPTED).await;
    let path = format!("/api/v1/admin/jobs/{}", begun["job_id"].as_str().unwrap());
    for _ in 0..200 {
        let job = server.json(&path).await;
        if job["state"] == "done" {
            return job["progress"].clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the dry run never ended");
}

#[tokio::test]
async fn what_cannot_be_right_or_costs_too_much_is_refused() {
    depends_on!();
    let server = Server::start().await;
    for (expression, because) in [
        ("manifest.title > 3", "does not order a text and a number (at character 16)"),
        ("manifest.size == 'large'", "compares a number with a text"),
        ("signature.embedded == 'yes'", "compares a truth value with a text"),
        ("manifest.size.startsWith('1')", "manifest.size is a number"),
        ("manifest.title.starts", "manifest.title is a text, which has no members"),
        ("manifest.size", "gives a number and not a truth value"),
        ("ingredients.all(i, i.size > 3)", "has no size"),
        ("assertions.a.all(a, assertions.b.all(b, a > b))", "would cost too much"),
    ] {
        let body = policy("house", vec![rule("fine", "true"), rule("not", expression)]);
        let refused = problem(send(&server, "POST", "/api/v1/policies", &body).await, 422, "INVALID_POLICY").await;
        assert_eq!(refused["errors"][0]["field"], "rules[1].custom_function", "{refused}");
        assert!(refused["errors"][0]["reason"].as_str().unwrap().contains(because), "{expression}: {refused}");
    }
    // Each by itself is fine; two hundred are not.
    let one = "assertions.a.all(a, a.b.all(b, b.c != manifest.title))";
    let many = (0..200).map(|n| rule(&format!("r{n}"), one)).collect();
    let refused = problem(send(&server, "POST", "/api/v1/policies", &policy("many", many)).await, 422, "INVALID_POLICY").await;
    assert!(refused["errors"][0]["reason"].as_str().unwrap().contains("would cost too much"), "{refused}");
    ok(send(&server, "POST", "/api/v1/policies", &policy("one", vec![rule("r", one)])).await, StatusCode::CREATED).await;
}

#[tokio::test]
async fn verdicts_show_what_they_were_decided_from() {
    depends_on!(Database);
    let server = Server::start().await;
    let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[("title", "Poster")]).await, StatusCode::CREATED).await;
    let body = policy(
        "house",
        vec![
            json!({ "name": "actions", "rule_type": "required_assertion", "severity": "error", "assertion_label": "c2pa.actions" }),
            json!({ "name": "no-training", "rule_type": "forbidden_assertion", "severity": "error", "assertion_label": "cawg.training-mining" }),
            json!({ "name": "titled", "rule_type": "required_field", "severity": "error", "field_path": "manifest.title" }),
            rule("size", "manifest.size > 0 && signature == null"),
        ],
    );
    ok(send(&server, "POST", "/api/v1/policies", &body).await, StatusCode::CREATED).await;
    let verdict = says(&server, &draft, "house").await;
    assert_eq!(verdict["passed"], true, "{verdict:#}");
    let evidence = |n: usize| &verdict["rules"][n]["evidence"];
    assert_eq!(evidence(0)[0]["label"], "c2pa.actions.v2", "{verdict:#}");
    assert!(evidence(0)[0]["index"].is_u64() && evidence(0)[0]["source"] == "definition", "{verdict:#}");
    assert_eq!(evidence(1)[0]["place"], "assertions");
    assert!(evidence(1)[0]["found"].as_str().unwrap().contains("c2pa.actions.v2"), "{verdict:#}");
    assert_eq!(evidence(2)[0], json!({ "place": "manifest.title", "source": "record", "found": "\"Poster\"" }));
    let size = json!({ "place": "manifest.size", "source": "content", "found": draft["size"].to_string() });
    assert_eq!(evidence(3), &json!([size, { "place": "signature", "source": "record", "found": "null" }]));
}

#[tokio::test]
async fn dry_runs_know_what_verifications_said() {
    depends_on!(Database, Queue);
    let server = Server::start().await;
    let verified = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let verify = json!({ "manifest_id": id(&verified) });
    ok(send(&server, "POST", "/api/v1/verify", &verify).await, StatusCode::OK).await;
    let never = server.signed("a.png", fixture("a.png"), &[]).await;
    let draft = ok(server.upload("b.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    let archived = server.signed("c.jpg", fixture("a.jpg"), &[]).await;
    let gone = server.request("DELETE", &format!("/api/v1/manifests/{}", id(&archived))).send().await.unwrap();
    assert!(gone.status().is_success(), "{}", gone.status());

    let good = policy("signed", vec![rule("pq", "signature == null || signature.post_quantum == 'trusted'")]);
    let tried = tries(&server, &good).await;
    assert_eq!((&tried["total"], &tried["examined"]), (&json!(3), &json!(3)), "{tried:#}");
    assert_eq!((&tried["failing"], &tried["would_newly_fail"]), (&json!(0), &json!(0)), "{tried:#}");
    assert_eq!((&tried["cannot_say"], &tried["undecided"]), (&json!(1), &json!(1)), "one was never verified: {tried:#}");
    let bad = policy("signed", vec![rule("pq", "signature == null || signature.trust_level == 'none'")]);
    let tried = tries(&server, &bad).await;
    assert_eq!((&tried["would_newly_fail"], &tried["first"]), (&json!(1), &json!([id(&verified)])), "{tried:#}");

    // Asked about one, it is verified now.
    ok(send(&server, "POST", "/api/v1/policies", &good).await, StatusCode::CREATED).await;
    let verdict = says(&server, &never, "signed").await;
    assert_eq!((&verdict["passed"], &verdict["rules"][0]["reason"]), (&json!(true), &Value::Null), "{verdict:#}");
    let from = &verdict["rules"][0]["evidence"];
    assert!(from.as_array().unwrap().iter().any(|e| e["place"] == "signature.post_quantum" && e["source"] == "verification"));
    assert_eq!(says(&server, &draft, "signed").await["passed"], true);
    // And that was kept.
    assert_eq!(tries(&server, &good).await["cannot_say"], 0);
}

/// Whether the claim attests an approval is a fact of the signature: not whether somebody decided something once.
#[tokio::test]
async fn only_what_was_approved_is_approved() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    let review = async |name: &str| {
        let draft = creator.draft(name, fixture("a.jpg"), &[]).await;
        let workflow = creator.start(&draft, "default").await;
        creator.moves(&workflow, "submit", "submitted").await;
        manager.moves(&workflow, "review", "in_review").await;
        (draft, workflow)
    };
    let sign = async |draft: &Value| {
        let path = format!("/api/v1/manifests/{}/sign", id(draft));
        ok(server.request("POST", &path).send().await.unwrap(), StatusCode::OK).await
    };
    // Reviewed, given up, and signed without anybody's approval.
    let (alone, workflow) = review("a.jpg").await;
    let cancel = format!("/api/v1/workflows/{}/cancel", workflow["workflow_id"].as_str().unwrap());
    ok(creator.post(&cancel, json!({ "comments": "no more" })).await, StatusCode::OK).await;
    sign(&alone).await;
    // Approved, and signed by hand while it is; the workflow stays where it is.
    let (by_hand, workflow) = review("b.jpg").await;
    manager.moves(&workflow, "approve", "approved").await;
    sign(&by_hand).await;
    // Approved and published, as ever.
    let (published, workflow) = review("c.jpg").await;
    manager.moves(&workflow, "approve", "approved").await;
    manager.moves(&workflow, "publish", "published").await;

    let body = policy("approved", vec![rule("approved", "signature == null || 'org.enterprise.workflow' in assertions")]);
    let tried = tries(&server, &body).await;
    assert_eq!((&tried["examined"], &tried["cannot_say"]), (&json!(3), &json!(0)), "{tried:#}");
    assert_eq!((&tried["failing"], &tried["first"]), (&json!(1), &json!([id(&alone)])), "nobody verified anything: {tried:#}");
    ok(send(&server, "POST", "/api/v1/policies", &body).await, StatusCode::CREATED).await;
    for (manifest, approved) in [(&alone, false), (&by_hand, true), (&published, true)] {
        let verdict = says(&server, manifest, "approved").await;
        assert_eq!(verdict["passed"], approved, "{verdict:#}");
    }
}

#[tokio::test]
async fn a_shadow_leaves_what_is_in_force() {
    depends_on!(Database);
    let server = Server::start_with("[tenant_defaults.policies]\ninternal = [\"house\"]\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    let path = "/api/v1/policies/house";
    let made = policy("house", vec![rule("flyers", "manifest.title == 'Flyer'")]);
    ok(send(&server, "POST", "/api/v1/policies", &made).await, StatusCode::CREATED).await;
    let mut shadow = policy("house", vec![rule("small", "manifest.size < 1"), rule("titled", "manifest.title != ''")]);
    shadow["shadow"] = json!(true);
    assert_eq!(ok(send(&server, "PUT", path, &shadow).await, StatusCode::OK).await["version"], 2);
    let shown = server.json(path).await;
    assert_eq!((&shown["version"], &shown["in_force"], &shown["shadow"]), (&json!(2), &json!(1), &json!(true)));
    assert_eq!(shown["shadow_findings"]["asked"], 0);

    let review = async |title: &str| {
        let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("title", title)]).await;
        let workflow = creator.start(&draft, "default").await;
        creator.moves(&workflow, "submit", "submitted").await;
        manager.moves(&workflow, "review", "in_review").await;
        (draft, workflow)
    };
    let (draft, poster) = review("Poster").await;
    let refused = problem(manager.take(&poster, "approve").await, 409, "GUARD_FAILED").await;
    let reasons = refused["errors"].to_string();
    assert!(reasons.contains("flyers") && !reasons.contains("small"), "{refused}");
    let verdict = says(&server, &draft, "house").await;
    assert_eq!((&verdict["shadow"], &verdict["in_force"]["version"]), (&json!(true), &json!(1)), "{verdict:#}");
    assert_eq!(verdict["in_force"]["passed"], false);
    let (_, flyer) = review("Flyer").await;
    manager.moves(&flyer, "approve", "approved").await;

    // Nobody waits for a shadow: it is asked soon after.
    let mut shown = server.json(path).await;
    for _ in 0..100 {
        if shown["shadow_findings"]["asked"].as_u64() >= Some(2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        shown = server.json(path).await;
    }
    let found = &shown["shadow_findings"];
    assert_eq!(found["dropped"], 0, "{shown:#}");
    let asked = found["asked"].as_u64().unwrap();
    assert!(asked >= 2 && found["since"].is_string(), "{shown:#}");
    assert_eq!((&found["failed"], &found["rules"]), (&json!(asked), &json!({ "small": asked })), "{shown:#}");
    // What it shows may come back with the policy.
    assert_eq!(ok(send(&server, "PUT", path, &shown).await, StatusCode::OK).await["version"], 3);
    let shown = server.json(path).await;
    assert_eq!((&shown["in_force"], &shown["shadow_findings"]["asked"]), (&json!(1), &json!(0)), "{shown:#}");

    // Removed is removed; a shadow after that is alone, and stands against nothing.
    assert_eq!(server.request("DELETE", path).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let (_, poster) = review("Poster").await;
    problem(manager.take(&poster, "approve").await, 409, "GUARD_FAILED").await;
    ok(send(&server, "POST", "/api/v1/policies", &shadow).await, StatusCode::CREATED).await;
    assert_eq!(server.json(path).await["in_force"], Value::Null);
    manager.moves(&poster, "approve", "approved").await;
}

#[tokio::test]
async fn what_was_in_force_once_is_put_back_as_it_was() {
    depends_on!(Database);
    let server = Server::start().await;
    let path = "/api/v1/policies/house";
    let made = policy("house", vec![rule("titled", "manifest.title != ''")]);
    ok(send(&server, "POST", "/api/v1/policies", &made).await, StatusCode::CREATED).await;

    // A version as it was written before types were checked: only the database has one.
    let old = policy("house", vec![rule("large", "manifest.title > 3 || manifest.size > 0")]);
    let database = server.database().await;
    let unit = database.begin().await.unwrap();
    let actor = Actor::system(TenantId::default_tenant());
    let data = json!({ "policy": old, "removed": false });
    let new = NewVersion { name: "house".to_owned(), present: 1, expected: None, data };
    document::append(unit.as_ref(), &actor, DocumentKind::Policy, new, time::OffsetDateTime::now_utc()).await.unwrap();
    unit.commit().await.unwrap();

    assert_eq!(ok(send(&server, "PUT", path, &made).await, StatusCode::OK).await["version"], 3);
    problem(send(&server, "PUT", path, &old).await, 422, "INVALID_POLICY").await;
    let back = ok(send(&server, "POST", &format!("{path}/rollback"), &json!({ "version": 2 })).await, StatusCode::OK).await;
    assert_eq!(back["version"], 4, "{back:#}");
    assert_eq!(back["rules"][0]["custom_function"], "manifest.title > 3 || manifest.size > 0", "{back:#}");
    assert_eq!(server.json(path).await["in_force"], 4);
    // It is asked as it is.
    let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    assert_eq!(says(&server, &draft, "house").await["version"], 4);
}

/// Of many who remove a policy at once one does; the others are told that it is gone, and nothing is written twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_many_remove_is_removed_once() {
    depends_on!(Database);
    let server = Server::start().await;
    let path = "/api/v1/policies/house";
    let made = policy("house", vec![rule("titled", "manifest.title != ''")]);
    for round in 0..3 {
        ok(send(&server, "POST", "/api/v1/policies", &made).await, StatusCode::CREATED).await;
        let mut removed = 0;
        for answer in join_all((0..12).map(|_| server.request("DELETE", path).send())).await {
            let answer = answer.unwrap();
            if answer.status() == StatusCode::NO_CONTENT {
                removed += 1;
            } else {
                problem(answer, 404, "UNKNOWN_POLICY").await;
            }
        }
        assert_eq!(removed, 1);
        let versions = server.json(&format!("{path}/versions")).await;
        assert_eq!(versions["items"].as_array().unwrap().len(), 2 * (round + 1), "{versions:#}");
    }
}
