//! Compliance and organisational policy: decided from evidence, by the right people, for exactly this content.

use crate::workflow::{Person, jpeg_with_xmp, with_person};
use omt_tests::{Server, corpus, fixture, id, ok, problem, until};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

/// What a policy says of a manifest, which is kept.
pub(crate) async fn check(person: &Person<'_>, manifest: &Value, policy: &str) -> Value {
    let body = json!({ "manifest_id": id(manifest), "policy_name": policy });
    ok(person.post("/api/v1/compliance/check", body).await, StatusCode::OK).await
}

fn rule<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == name).unwrap()
}

#[tokio::test]
async fn a_withdrawn_consent_turns_what_depends_on_it() {
    depends_on!(Database, Queue);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let draft = creator.draft("portrait.jpg", with_person("Grace Hopper"), &[("classification", "public")]).await;
    assert_eq!(rule(&check(&reviewer, &draft, "pdpa_compliance").await, "pdpa_consent")["status"], "failed");
    let body = |subject: &str| {
        json!({
            "subject": subject, "purpose": "publication", "scope": "worldwide", "document_sha256": "cd".repeat(32),
            "given_at": "2020-01-01T00:00:00Z",
        })
    };
    problem(creator.post("/api/v1/compliance/consents", body("Grace Hopper")).await, 403, "FORBIDDEN").await;
    let mut wrong = body("Grace Hopper");
    wrong["document_sha256"] = json!("no");
    problem(reviewer.post("/api/v1/compliance/consents", wrong).await, 422, "INVALID_FIELD").await;
    ok(reviewer.post("/api/v1/compliance/consents", body("Somebody Else")).await, StatusCode::CREATED).await;
    assert_eq!(check(&reviewer, &draft, "pdpa_compliance").await["status"], "failed", "another's consent is not theirs");
    let consent = ok(reviewer.post("/api/v1/compliance/consents", body("Grace Hopper")).await, StatusCode::CREATED).await;
    assert!(!consent.to_string().contains("Grace"), "{consent}");
    assert_eq!(check(&reviewer, &draft, "pdpa_compliance").await["status"], "passed");

    let path = format!("/api/v1/compliance/records/{}", id(&consent));
    let stale = reviewer.request("DELETE", &path).header("if-match", "\"4\"").send().await.unwrap();
    problem(stale, 412, "REVISION_MISMATCH").await;
    let gone = ok(reviewer.request("DELETE", &path).send().await.unwrap(), StatusCode::OK).await;
    assert!(gone["evidence"]["withdrawn_at"].is_string() && gone["revision"] == 2, "{gone}");
    let reports = creator.get(&format!("/api/v1/compliance/reports/{}", id(&draft))).await;
    assert_eq!(reports["items"][0]["status"], "failed", "at once, for whoever asks");
    until("a notice", async || {
        let messages = creator.get("/api/v1/notifications").await;
        messages["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["kind"] == "compliance.failed" && m["data"]["manifest_id"] == draft["id"])
    })
    .await;
    let found = reviewer.get("/api/v1/compliance/records?kind=consent&person=grace%20hopper").await;
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn evidence_is_of_the_right_people_for_this_content() {
    depends_on!(Database);
    let server = Server::start().await;
    let author = Person::with(&server, "amy", &["creator", "approver"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let (one, two) = (Person::with(&server, "max", &["manager"]).await, Person::with(&server, "mia", &["manager"]).await);
    let draft = author.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let other = author.draft("a.png", fixture("a.png"), &[("classification", "public")]).await;
    let report = check(&reviewer, &draft, "public_content").await;
    assert_eq!(report["status"], "failed");
    assert_eq!(rule(&report, "legal_review")["status"], "pending");
    problem(
        reviewer.post("/api/v1/compliance/check", json!({ "manifest_id": id(&draft), "policy_name": "none" })).await,
        422,
        "UNKNOWN_POLICY",
    )
    .await;

    let clear = |manifest: &Value, area: &str| json!({ "manifest_id": id(manifest), "area": area, "cleared": true, "reason": "looked at it" });
    problem(reviewer.post("/api/v1/compliance/clearances", clear(&draft, "legal")).await, 403, "NOT_ELIGIBLE").await;
    problem(author.post("/api/v1/compliance/clearances", clear(&draft, "legal")).await, 403, "FOUR_EYES").await;
    problem(approver.post("/api/v1/compliance/clearances", clear(&draft, "taste")).await, 422, "INVALID_FIELD").await;
    ok(approver.post("/api/v1/compliance/clearances", clear(&other, "legal")).await, StatusCode::CREATED).await;
    assert_eq!(
        rule(&check(&reviewer, &draft, "public_content").await, "legal_review")["status"],
        "pending",
        "that is of other content"
    );
    ok(approver.post("/api/v1/compliance/clearances", clear(&draft, "legal")).await, StatusCode::CREATED).await;
    ok(approver.post("/api/v1/compliance/clearances", clear(&draft, "trademark")).await, StatusCode::CREATED).await;
    let report = check(&reviewer, &draft, "public_content").await;
    assert_eq!((&rule(&report, "legal_review")["status"], &report["status"]), (&json!("passed"), &json!("failed")));

    // Nobody holds the rights: two people may say that it goes all the same.
    let over = json!({
        "manifest_id": id(&draft), "rule": "copyright_valid", "reason": "licence is in the post", "expires_at": "2027-06-01T00:00:00Z",
    });
    problem(approver.post("/api/v1/compliance/override", over.clone()).await, 403, "FORBIDDEN").await;
    let mut long = over.clone();
    long["expires_at"] = json!("2040-01-01T00:00:00Z");
    problem(one.post("/api/v1/compliance/override", long).await, 422, "INVALID_FIELD").await;
    let asked = ok(one.post("/api/v1/compliance/override", over).await, StatusCode::CREATED).await;
    assert_eq!(asked["state"], "asked");
    assert_eq!(check(&reviewer, &draft, "public_content").await["status"], "failed", "one is not enough");
    let approve = format!("/api/v1/compliance/override/{}/approve", id(&asked));
    problem(one.post(&approve, json!({})).await, 403, "SECOND_PERSON_NEEDED").await;
    ok(two.post(&approve, json!({})).await, StatusCode::OK).await;
    problem(two.post(&approve, json!({})).await, 409, "ALREADY_DECIDED").await;
    let report = check(&reviewer, &draft, "public_content").await;
    assert_eq!((&report["status"], &rule(&report, "copyright_valid")["overridden_by"]), (&json!("warning"), &asked["id"]));
    assert_eq!(report["overrides"][0]["reason"], "licence is in the post");

    // A right, where it may be used, and where not.
    let rights = json!({ "manifest_id": id(&other), "holder": "Example Ltd", "licence": "CC-BY-4.0", "territories": ["SG"] });
    ok(reviewer.post("/api/v1/compliance/rights", rights).await, StatusCode::CREATED).await;
    let declare = |to: &[&str]| json!({ "manifest_id": id(&other), "persons": [], "audience": "public", "destinations": to });
    ok(author.post("/api/v1/compliance/declarations", declare(&["SG"])).await, StatusCode::CREATED).await;
    assert_eq!(rule(&check(&reviewer, &other, "public_content").await, "copyright_valid")["status"], "passed");
    let abroad = ok(author.post("/api/v1/compliance/declarations", declare(&["SG", "DE"])).await, StatusCode::CREATED).await;
    assert_eq!(rule(&check(&reviewer, &other, "public_content").await, "copyright_valid")["status"], "failed");
    let path = format!("/api/v1/compliance/records/{}", id(&abroad));
    problem(reviewer.request("DELETE", &path).send().await.unwrap(), 409, "NOT_WITHDRAWABLE").await;

    // What a reviewer saw in it, its author does not take back; another reviewer may.
    let seen = json!({ "manifest_id": id(&other), "persons": ["Bob"], "audience": "public", "destinations": ["SG"] });
    let made = ok(reviewer.post("/api/v1/compliance/declarations", seen).await, StatusCode::CREATED).await;
    assert_eq!(made["evidence"]["reviewed"], true);
    problem(author.post("/api/v1/compliance/declarations", declare(&["SG"])).await, 403, "REVIEWED_DECLARATION").await;
    let consent = async || rule(&check(&reviewer, &other, "pdpa_compliance").await, "pdpa_consent")["status"].clone();
    assert_eq!(consent().await, "failed");
    ok(approver.post("/api/v1/compliance/declarations", declare(&["SG"])).await, StatusCode::CREATED).await;
    assert_eq!(consent().await, "passed");

    // A policy of the tenant's own, and one that everybody has.
    let own = server.request("PUT", "/api/v1/compliance/policies/house").json(&json!({ "rules": ["retention_policy"] }));
    assert_eq!(ok(own.send().await.unwrap(), StatusCode::OK).await["version"], 1);
    assert_eq!(check(&reviewer, &draft, "house").await["status"], "passed");
    // Changed by who saw it, and kept as it was.
    let path = "/api/v1/compliance/policies/house";
    let again = |tag: &str| {
        let body = json!({ "rules": ["retention_policy", "legal_review"] });
        server.request("PUT", path).header("if-match", tag).json(&body).send()
    };
    problem(again("\"7\"").await.unwrap(), 412, "REVISION_MISMATCH").await;
    assert_eq!(ok(again("\"1\"").await.unwrap(), StatusCode::OK).await["version"], 2);
    let rules = async |path: &str| author.get(path).await["rules"].clone();
    assert_eq!(rules(path).await, json!(["legal_review", "retention_policy"]));
    assert_eq!(rules(&format!("{path}?version=1")).await, json!(["retention_policy"]));
    problem(author.request("GET", &format!("{path}?version=3")).send().await.unwrap(), 404, "UNKNOWN_POLICY").await;
    let shipped =
        server.request("PUT", "/api/v1/compliance/policies/public_content").json(&json!({ "rules": ["retention_policy"] }));
    problem(shipped.send().await.unwrap(), 409, "BUILT_IN_POLICY").await;
}

#[tokio::test]
async fn an_ingredients_classification_is_not_lowered() {
    depends_on!(Database);
    let server = Server::start().await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let map = ok(server.upload("a.png", fixture("a.png"), &[("classification", "secret")]).await, StatusCode::CREATED).await;
    let part = reqwest::multipart::Part::bytes(fixture("a.png")).file_name("map.png");
    let form = omt_tests::form("a.jpg", fixture("a.jpg"), &[("classification", "internal")]).part("ingredient", part);
    let made = server.request("POST", "/api/v1/manifests").multipart(form).send().await.unwrap();
    let poster = ok(made, StatusCode::CREATED).await;
    let report = check(&reviewer, &poster, "internal_content").await;
    let found = rule(&report, "classification_valid");
    assert_eq!(found["status"], "failed", "{report:#}");
    assert!(found["actual"].as_str().unwrap().contains("map.png"), "{found}");
    assert_eq!(check(&reviewer, &map, "internal_content").await["status"], "passed");

    // What was said of the poster turns with the map, both ways.
    let class = async |class: &str| {
        let change =
            server.request("PATCH", &format!("/api/v1/manifests/{}", id(&map))).json(&json!({ "classification": class }));
        ok(change.send().await.unwrap(), StatusCode::OK).await
    };
    let expected = [("failed", "passed"), ("passed", "failed")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    class("public").await;
    until("it passes", async || crate::compliance_turns::turns(&server, &poster).await == expected[..1]).await;
    class("secret").await;
    until("it fails", async || crate::compliance_turns::turns(&server, &poster).await == expected).await;
}

fn policy(name: &str, expression: &str) -> Value {
    json!({ "name": name, "rules": [
        { "name": "says-so", "rule_type": "custom_function", "severity": "error", "custom_function": expression },
    ] })
}

#[tokio::test]
async fn policies_are_versioned_tried_and_guard() {
    depends_on!(Database, Queue);
    let server = Server::start_with("[tenant_defaults.policies]\ninternal = [\"house\"]\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    let send = async |method: &str, path: &str, body: Value| -> Response {
        server.request(method, path).json(&body).send().await.unwrap()
    };
    let names: Vec<Value> =
        creator.get("/api/v1/policies").await["items"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, [json!("legal_documents"), json!("marketing_content")]);
    problem(creator.post("/api/v1/policies", policy("house", "true")).await, 403, "FORBIDDEN").await;
    for (expression, because) in [
        ("1 +", "not an expression"),
        ("manifest.titel == ''", "has no titel"),
        ("ingredients.all(a, ingredients.all(b, ingredients.all(c, true)))", "cost too much"),
        ("[1].map(x, [x]).map(x, [x]).size() > 0", "does not run over"),
        (&"(".repeat(1_000), "not an expression"),
    ] {
        let refused = problem(send("POST", "/api/v1/policies", policy("house", expression)).await, 422, "INVALID_POLICY").await;
        assert!(refused["errors"][0]["reason"].as_str().unwrap().contains(because), "{refused}");
        assert_eq!(refused["errors"][0]["field"], "rules[0].custom_function");
    }

    // What is asked for and is not there stands against approving.
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("title", "Poster")]).await;
    let workflow = creator.start(&draft, "default").await;
    creator.moves(&workflow, "submit", "submitted").await;
    manager.moves(&workflow, "review", "in_review").await;
    let refused = problem(manager.take(&workflow, "approve").await, 409, "GUARD_FAILED").await;
    assert!(refused["errors"][0]["reason"].as_str().unwrap().contains("no policy"), "{refused}");
    let made =
        ok(send("POST", "/api/v1/policies", policy("house", "manifest.title == 'Flyer'")).await, StatusCode::CREATED).await;
    assert_eq!(made["version"], 1);
    problem(send("POST", "/api/v1/policies", policy("house", "true")).await, 409, "POLICY_EXISTS").await;
    let refused = problem(manager.take(&workflow, "approve").await, 409, "GUARD_FAILED").await;
    assert!(refused["errors"][0]["reason"].as_str().unwrap().contains("says-so"), "{refused}");

    // Tried before it is put in force.
    let tried = ok(
        send("POST", "/api/v1/policies/house/dry-run", policy("house", "manifest.title.size() > 40")).await,
        StatusCode::ACCEPTED,
    )
    .await;
    let path = format!("/api/v1/admin/jobs/{}", tried["job_id"].as_str().unwrap());
    until("the job ends", async || server.json(&path).await["state"] == "done").await;
    let job = server.json(&path).await;
    assert_eq!((&job["progress"]["examined"], &job["progress"]["would_newly_fail"]), (&json!(1), &json!(0)), "{job:#}");
    let tried = ok(
        send("POST", "/api/v1/policies/other/dry-run", policy("other", "manifest.title.size() > 40")).await,
        StatusCode::ACCEPTED,
    )
    .await;
    let path = format!("/api/v1/admin/jobs/{}", tried["job_id"].as_str().unwrap());
    until("the job ends", async || server.json(&path).await["state"] == "done").await;
    let job = server.json(&path).await;
    assert_eq!((&job["progress"]["would_newly_fail"], &job["progress"]["first"]), (&json!(1), &json!([id(&draft)])), "{job:#}");

    let stale = server.request("PUT", "/api/v1/policies/house").header("if-match", "\"5\"").json(&policy("house", "true"));
    problem(stale.send().await.unwrap(), 412, "REVISION_MISMATCH").await;
    ok(send("PUT", "/api/v1/policies/house", policy("house", "true")).await, StatusCode::OK).await;
    let mut shadow = policy("house", "false");
    shadow["shadow"] = json!(true);
    assert_eq!(ok(send("PUT", "/api/v1/policies/house", shadow).await, StatusCode::OK).await["version"], 3);
    let verdict = ok(
        creator.post("/api/v1/verify/policy", json!({ "manifest_id": id(&draft), "policy_name": "house" })).await,
        StatusCode::OK,
    )
    .await;
    assert_eq!(
        (&verdict["passed"], &verdict["shadow"], &verdict["rules"][0]["actual"]),
        (&json!(false), &json!(true), &json!("false"))
    );
    // A shadow only says so; the version before it is in force.
    manager.moves(&workflow, "approve", "approved").await;
    assert_eq!(
        ok(send("POST", "/api/v1/policies/house/rollback", json!({ "version": 1 })).await, StatusCode::OK).await["version"],
        4
    );
    problem(manager.take(&workflow, "publish").await, 409, "GUARD_FAILED").await;
    let title = policy("house", "manifest.title == 'Poster' && (signature == null || signature.post_quantum == 'trusted')");
    ok(send("PUT", "/api/v1/policies/house", title).await, StatusCode::OK).await;
    manager.moves(&workflow, "publish", "published").await;
    let verdict = ok(
        creator.post("/api/v1/verify/policy", json!({ "manifest_id": id(&draft), "policy_name": "house" })).await,
        StatusCode::OK,
    )
    .await;
    assert_eq!(verdict["passed"], true, "it sees the signature too: {verdict:#}");
    let verdict = ok(
        creator.post("/api/v1/verify/policy", json!({ "manifest_id": id(&draft), "policy_name": "legal_documents" })).await,
        StatusCode::OK,
    )
    .await;
    let approved = verdict["rules"].as_array().unwrap().iter().find(|r| r["rule"] == "approved").unwrap();
    assert_eq!(approved["passed"], true, "{verdict:#}");

    let versions = creator.get("/api/v1/policies/house/versions").await;
    let numbers: Vec<u64> = versions["items"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    let gone = server.request("DELETE", "/api/v1/policies/house").send().await.unwrap();
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    problem(creator.request("GET", "/api/v1/policies/house").send().await.unwrap(), 404, "UNKNOWN_POLICY").await;
    assert_eq!(creator.get("/api/v1/policies/house?version=3").await["shadow"], true);
}

#[tokio::test]
async fn personal_data_is_taken_out_of_a_draft() {
    let server = Server::start().await;
    let carla = Person::with(&server, "carla", &["creator", "editor"]).await;
    let rosa = Person::with(&server, "rosa", &["reviewer"]).await;
    let properties = "<dc:creator><rdf:Seq><rdf:li>bob@example.org</rdf:li></rdf:Seq></dc:creator>\
                      <dc:title>Fine</dc:title>";
    let note = json!([{ "label": "com.example.note", "data": { "by": "S1234567D", "text": "fine" } }]).to_string();
    let fields = [("title", "from bob@example.org"), ("assertions", note.as_str()), ("classification", "public")];
    let draft = carla.draft("a.jpg", jpeg_with_xmp(properties), &fields).await;
    let workflow = carla.start(&draft, "default").await;
    carla.moves(&workflow, "submit", "submitted").await;
    rosa.moves(&workflow, "review", "in_review").await;
    let path = format!("/api/v1/manifests/{}", id(&draft));
    let redact = async |body: Value| carla.post(&format!("{path}/redact"), body).await;
    let content = async || carla.request("GET", &format!("{path}/content")).send().await.unwrap().bytes().await.unwrap().to_vec();
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&content().await, "bob@example.org"));
    problem(redact(json!({ "kinds": ["shoe_size"] })).await, 400, "INVALID_JSON").await;

    // One kind first, then the rest.
    let some = ok(redact(json!({ "kinds": ["nric_sg"] })).await, StatusCode::OK).await;
    assert_eq!(some["redacted"], json!([{ "location": "assertions[0].data.by", "kind": "nric_sg" }]));
    assert_eq!(some["manifest"]["source"]["sha256"], draft["source"]["sha256"]);
    let all = ok(redact(json!({})).await, StatusCode::OK).await;
    let places: Vec<&str> = all["redacted"].as_array().unwrap().iter().map(|item| item["location"].as_str().unwrap()).collect();
    assert_eq!(places, ["metadata.xmp.dc:creator", "title"]);
    assert_eq!(all["manifest"]["title"], "[redacted]");
    let left = content().await;
    assert!(!holds(&left, "bob") && holds(&left, "Fine"));
    let report = check(&rosa, &draft, "pdpa_compliance").await;
    assert_eq!(rule(&report, "pii_redaction")["status"], "passed", "{report:#}");
    // Nothing is left, so that nothing changes.
    let nothing = ok(redact(json!({})).await, StatusCode::OK).await;
    assert_eq!((&nothing["redacted"], &nothing["manifest"]["revision"]), (&json!([]), &all["manifest"]["revision"]));
    // What was begun before is about other content.
    let seen = rosa.get(&format!("/api/v1/workflows/{}", workflow["workflow_id"].as_str().unwrap())).await;
    assert_eq!(seen["current_state"], "draft");
    let stale = carla.request("POST", &format!("{path}/redact")).header("if-match", "\"1\"").json(&json!({}));
    problem(stale.send().await.unwrap(), 412, "REVISION_MISMATCH").await;

    // Names of members cannot go; content with a manifest of its own cannot change; what is signed is signed.
    let note = json!([{ "label": "com.example.note", "data": { "bob@example.org": "fine" } }]).to_string();
    let stubborn = carla.draft("a.jpg", fixture("a.jpg"), &[("assertions", note.as_str())]).await;
    let answer = carla.post(&format!("/api/v1/manifests/{}/redact", id(&stubborn)), json!({})).await;
    problem(answer, 422, "REDACTION_INCOMPLETE").await;
    let signed = server.signed("b.jpg", jpeg_with_xmp(properties), &[]).await;
    let answer =
        server.request("POST", &format!("/api/v1/manifests/{}/redact", id(&signed))).json(&json!({})).send().await.unwrap();
    problem(answer, 409, "ALREADY_SIGNED").await;
    let again = carla.draft("c.jpg", server.content(&signed).await, &[("action", "c2pa.opened")]).await;
    let answer = carla.post(&format!("/api/v1/manifests/{}/redact", id(&again)), json!({})).await;
    problem(answer, 409, "CONTENT_HAS_MANIFEST").await;
}

#[tokio::test]
async fn cameras_tell_nothing_after_redaction() {
    depends_on!();
    let Some(photograph) = corpus().map(|corpus| corpus.join("unsigned/P1000827.jpg")) else { return };
    let server = Server::start().await;
    let bytes = std::fs::read(photograph).unwrap();
    let draft = ok(server.upload("p.jpg", bytes.clone(), &[]).await, StatusCode::CREATED).await;
    let path = format!("/api/v1/manifests/{}", id(&draft));
    let done = server.request("POST", &format!("{path}/redact")).json(&json!({})).send().await.unwrap();
    let done = ok(done, StatusCode::OK).await;
    assert!(!done["redacted"].as_array().unwrap().is_empty(), "{done:#}");
    let after = server.request("GET", &format!("{path}/content")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(after.len(), bytes.len());
    assert_ne!(after, bytes);
    // It is a picture still, and signs.
    let signed = server.request("POST", &format!("{path}/sign")).send().await.unwrap();
    ok(signed, StatusCode::OK).await;
    let report = server.json(&format!("{path}/report")).await;
    assert_eq!(report["validation_state"], "trusted");
}

/// Makes a compliance policy of the tenant's own.
async fn own_policy(server: &Server, name: &str) {
    let path = format!("/api/v1/compliance/policies/{name}");
    let made = server.request("PUT", &path).json(&json!({ "rules": ["pii_redaction", "classification_valid"] }));
    ok(made.send().await.unwrap(), StatusCode::OK).await;
}

/// A policy that is gone stands against what asks for it, and no more than that: who signs did not name it, and the claim says
/// that nothing of it was passed.
#[tokio::test]
async fn what_a_policy_that_is_gone_asks_was_not_passed() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["manager"]).await;
    // One that asks nothing when it publishes.
    let mut plain = creator.get("/api/v1/workflow-definitions/default").await["definition"].clone();
    plain["name"] = json!("plain");
    for transition in plain["transitions"].as_array_mut().unwrap().iter_mut().filter(|t| t["action"] == "publish") {
        transition["guards"] = json!([]);
    }
    ok(server.request("PUT", "/api/v1/workflow-definitions/plain").json(&plain).send().await.unwrap(), StatusCode::OK).await;
    own_policy(&server, "house").await;
    let approved = async |approve: bool| {
        let draft = creator.draft("a.jpg", fixture("a.jpg"), &[]).await;
        let workflow = creator.start(&draft, "plain").await;
        let path = format!("/api/v1/workflows/{}/compliance", workflow["workflow_id"].as_str().unwrap());
        let asked = manager.request("PUT", &path).json(&json!({ "policies": ["house"] }));
        ok(asked.send().await.unwrap(), StatusCode::OK).await;
        creator.moves(&workflow, "submit", "submitted").await;
        manager.moves(&workflow, "review", "in_review").await;
        if approve {
            manager.moves(&workflow, "approve", "approved").await;
        }
        (draft, workflow)
    };
    let (by_hand, _) = approved(true).await;
    let (published, workflow) = approved(true).await;
    let (_, waiting) = approved(false).await;
    let crjson = async |manifest: &Value| {
        let said = server.json(&format!("/api/v1/manifests/{}/crjson", id(manifest))).await;
        crate::workflow::find(&said, "compliance_check").unwrap().clone()
    };
    let (kept, lost) = (approved(true).await.0, "DELETE FROM policies WHERE name = 'compliance/house'");
    let sign = |manifest: &Value| server.request("POST", &format!("/api/v1/manifests/{}/sign", id(manifest)));
    ok(sign(&kept).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(crjson(&kept).await["classification_verified"], true);

    let gone = omt_tests::combination::execute(server.dir.path(), lost);
    assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    let refused = problem(manager.take(&waiting, "approve").await, 409, "GUARD_FAILED").await;
    let reason = "house: there is no compliance policy \"house\"";
    assert_eq!(refused["errors"], json!([{ "field": "guard", "reason": reason }]));
    ok(sign(&by_hand).send().await.unwrap(), StatusCode::OK).await;
    manager.moves(&workflow, "publish", "published").await;
    for manifest in [&by_hand, &published] {
        let check = crjson(manifest).await;
        assert!(check.as_object().unwrap().values().all(|passed| passed == false), "nobody looked: {check}");
    }
}

/// A server that would ask for what is not there does not start.
#[tokio::test]
async fn settings_name_policies_that_are_there() {
    depends_on!(Database);
    let config = "[tenant_defaults.compliance]\ninternal = [\"house\", \"public_content\"]\n";
    let serve = |dir: &std::path::Path| {
        let mut command = Server::command(dir, config);
        command.arg("serve");
        command
    };
    let dir = tempfile::tempdir().unwrap();
    let refused = serve(dir.path()).output().unwrap();
    let words = "[tenant_defaults.compliance] internal: there is no compliance policy \"house\"";
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains(words), "{said}");
    // Once it is there, it may be named.
    let mut server = Server::launch(dir, "").await;
    own_policy(&server, "house").await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let mut child = serve(server.dir.path()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let url = omt_tests::address(&mut child);
    assert!(url.starts_with("http://"), "{url}");
    child.kill().unwrap();
    child.wait().unwrap();
}
