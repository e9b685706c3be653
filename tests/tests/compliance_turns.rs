//! Reports that turn: what was published, checked or let through is looked at again when evidence, policy or content changes, and
//! when something ends; and evidence is about the content that its maker looked at.

use crate::{
    compliance::check,
    workflow::{Person, jpeg_with_xmp, with_person},
};
use omt_tests::{Server, combination, fixture, id, ok, problem, until};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How often somebody was told that a manifest fails a policy.
async fn told(person: &Person<'_>, manifest: &Value, policy: &str) -> usize {
    let messages = person.get("/api/v1/notifications?limit=200").await;
    let about = |m: &&Value| {
        m["kind"] == "compliance.failed" && m["data"]["manifest_id"] == manifest["id"] && m["data"]["policy"] == policy
    };
    messages["items"].as_array().unwrap().iter().filter(about).count()
}

/// The turns of a manifest's reports that the log has, oldest first.
pub(crate) async fn turns(server: &Server, manifest: &Value) -> Vec<(String, String)> {
    let path = format!("/api/v1/admin/audit-logs?action=compliance.turn&resource={}&limit=200", id(manifest));
    let log = server.json(&path).await;
    let text = |entry: &Value, name: &str| entry["entry"]["detail"][name].as_str().unwrap().to_owned();
    let mut out: Vec<_> = log["items"].as_array().unwrap().iter().map(|e| (text(e, "from"), text(e, "to"))).collect();
    out.reverse();
    out
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

fn in_seconds(seconds: i64) -> String {
    (OffsetDateTime::now_utc() + Duration::from_secs(seconds.unsigned_abs())).format(&Rfc3339).unwrap()
}

fn consent(subject: &str) -> Value {
    json!({
        "subject": subject, "purpose": "publication", "scope": "worldwide", "document_sha256": "cd".repeat(32),
        "given_at": "2020-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn what_was_published_without_a_check_hears_of_a_withdrawal() {
    depends_on!(Database, Queue);
    let server = Server::start_with("[tenant_defaults.compliance]\npublic = [\"pdpa_compliance\"]\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let draft = creator.draft("portrait.jpg", with_person("Grace Hopper"), &[("classification", "public")]).await;
    let workflow = creator.start(&draft, "default").await;
    creator.moves(&workflow, "submit", "submitted").await;
    reviewer.moves(&workflow, "review", "in_review").await;
    problem(approver.take(&workflow, "approve").await, 409, "GUARD_FAILED").await;
    let given = ok(reviewer.post("/api/v1/compliance/consents", consent("Grace Hopper")).await, StatusCode::CREATED).await;
    approver.moves(&workflow, "approve", "approved").await;
    approver.moves(&workflow, "publish", "published").await;
    // Nothing was kept of the move that was refused: what passes did not turn.
    assert_eq!(turns(&server, &draft).await, []);

    // Nobody ever asked for a report; the guards did.
    let gone = reviewer.request("DELETE", &format!("/api/v1/compliance/records/{}", id(&given))).send().await.unwrap();
    ok(gone, StatusCode::OK).await;
    until("a notice", async || told(&creator, &draft, "pdpa_compliance").await == 1).await;
    assert_eq!(turns(&server, &draft).await, [pair("passed", "failed")]);
}

#[tokio::test]
async fn policies_content_and_overrides_turn_reports() {
    depends_on!(Database, Queue);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator", "editor"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let (one, two) = (Person::with(&server, "max", &["manager"]).await, Person::with(&server, "mia", &["manager"]).await);
    let put = async |name: &str, rules: Value| {
        let path = format!("/api/v1/compliance/policies/{name}");
        ok(server.request("PUT", &path).json(&json!({ "rules": rules })).send().await.unwrap(), StatusCode::OK).await
    };
    put("house", json!(["retention_policy"])).await;
    put("clean", json!(["pii_redaction"])).await;
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let other = creator.draft("a.png", fixture("a.png"), &[("classification", "public")]).await;
    for (manifest, policy) in [(&draft, "house"), (&other, "clean")] {
        assert_eq!(check(&reviewer, manifest, policy).await["status"], "passed");
    }

    // Another policy; only what was ever measured by it.
    put("house", json!(["retention_policy", "copyright_valid"])).await;
    until("a turn for the policy", async || turns(&server, &draft).await == [pair("passed", "failed")]).await;
    // The same again says nothing new.
    put("house", json!(["copyright_valid"])).await;
    // And the same rules are not even looked at.
    let jobs =
        async || server.json("/api/v1/admin/jobs?kind=compliance_remeasure&limit=200").await["items"].as_array().unwrap().len();
    let before = jobs().await;
    put("house", json!(["copyright_valid"])).await;
    assert_eq!(jobs().await, before);

    // Two people let it pass.
    let over = json!({
        "manifest_id": id(&draft), "rule": "copyright_valid", "reason": "licence is in the post", "expires_at": in_seconds(86_400),
    });
    let asked = ok(one.post("/api/v1/compliance/override", over).await, StatusCode::CREATED).await;
    ok(two.post(&format!("/api/v1/compliance/override/{}/approve", id(&asked)), json!({})).await, StatusCode::OK).await;
    let expected = [pair("passed", "failed"), pair("failed", "warning")];
    until("a turn for the override", async || turns(&server, &draft).await == expected).await;

    // Other content: here, its title.
    let path = format!("/api/v1/manifests/{}", id(&other));
    let changed = creator.request("PATCH", &path).json(&json!({ "title": "by bob@example.org" })).send().await.unwrap();
    ok(changed, StatusCode::OK).await;
    until("a notice about the content", async || told(&creator, &other, "clean").await == 1).await;
    ok(creator.post(&format!("{path}/redact"), json!({})).await, StatusCode::OK).await;
    let expected = [pair("passed", "failed"), pair("failed", "passed")];
    until("a turn for the redaction", async || turns(&server, &other).await == expected).await;
    let told = (told(&creator, &draft, "house").await, told(&creator, &other, "clean").await);
    assert_eq!(told, (0, 1), "of what their own content says, once; not of what a policy made of many");
}

#[tokio::test]
async fn what_ends_turns_reports_by_itself() {
    depends_on!(Database, Queue);
    let server = Server::start_with("[workflow]\ncompliance_every_seconds = 1\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let (one, two) = (Person::with(&server, "max", &["manager"]).await, Person::with(&server, "mia", &["manager"]).await);
    let portrait = creator.draft("portrait.jpg", with_person("Grace Hopper"), &[("classification", "public")]).await;
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let house = server.request("PUT", "/api/v1/compliance/policies/house").json(&json!({ "rules": ["copyright_valid"] }));
    ok(house.send().await.unwrap(), StatusCode::OK).await;

    let mut short = consent("Grace Hopper");
    short["expires_at"] = json!(in_seconds(6));
    ok(reviewer.post("/api/v1/compliance/consents", short).await, StatusCode::CREATED).await;
    assert_eq!(check(&reviewer, &portrait, "pdpa_compliance").await["status"], "warning", "it ends soon");
    until("a notice about the consent", async || told(&creator, &portrait, "pdpa_compliance").await == 1).await;

    let over = json!({
        "manifest_id": id(&draft), "rule": "copyright_valid", "reason": "licence is in the post", "expires_at": in_seconds(6),
    });
    let asked = ok(one.post("/api/v1/compliance/override", over).await, StatusCode::CREATED).await;
    ok(two.post(&format!("/api/v1/compliance/override/{}/approve", id(&asked)), json!({})).await, StatusCode::OK).await;
    assert_eq!(check(&reviewer, &draft, "house").await["status"], "warning", "it is overridden");
    until("a notice about the override", async || told(&creator, &draft, "house").await == 1).await;
}

#[tokio::test]
async fn settings_turn_reports() {
    if combination::current() != combination::ALL[0] {
        return;
    }
    let server = Server::start().await;
    let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
    let body = json!({ "manifest_id": id(&draft), "policy_name": "internal_content" });
    let checked = ok(server.request("POST", "/api/v1/compliance/check").json(&body).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(checked["status"], "passed", "{checked:#}");
    // Who approves was not asked for when it was checked.
    let server = server.restart_with("[tenant_defaults.approval]\ninternal = \"default\"\n").await;
    until("a turn for the settings", async || turns(&server, &draft).await == [pair("passed", "pending")]).await;
}

#[tokio::test]
async fn evidence_is_about_what_its_maker_looked_at() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let sha256 = draft["sha256"].as_str().unwrap().to_owned();
    let records = [
        (
            &approver,
            "clearance",
            "clearances",
            json!({ "manifest_id": id(&draft), "area": "legal", "cleared": true, "reason": "looked at it" }),
        ),
        (&approver, "rights", "rights", json!({ "manifest_id": id(&draft), "holder": "Example Ltd", "licence": "CC-BY-4.0" })),
        (&creator, "declaration", "declarations", json!({ "manifest_id": id(&draft), "persons": [], "audience": "public" })),
    ];
    for (person, kind, where_to, mut body) in records {
        let path = format!("/api/v1/compliance/{where_to}");
        body["content_sha256"] = json!("ab".repeat(32));
        let refused = problem(person.post(&path, body.clone()).await, 409, "OTHER_CONTENT").await;
        let text = refused.to_string();
        assert!(text.contains(&"ab".repeat(32)) && text.contains(&sha256), "it names both: {refused}");
        assert_eq!(refused["errors"][0]["field"], "content_sha256");
        for wrong in ["", "no", &sha256.to_uppercase()] {
            body["content_sha256"] = json!(wrong);
            let refused = problem(person.post(&path, body.clone()).await, 422, "INVALID_FIELD").await;
            assert_eq!(refused["errors"][0]["field"], "content_sha256");
        }
        let found = approver.get(&format!("/api/v1/compliance/records?manifest_id={}", id(&draft))).await;
        assert!(found["items"].as_array().unwrap().iter().all(|r| r["kind"] != kind), "{found:#}");
        body["content_sha256"] = json!(sha256);
        let made = ok(person.post(&path, body).await, StatusCode::CREATED).await;
        assert_eq!(made["evidence"]["content_sha256"], sha256.as_str());
    }
}

#[tokio::test]
async fn times_lie_in_the_calendar() {
    depends_on!();
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let approver = Person::with(&server, "anna", &["approver"]).await;
    let (one, late) = (Person::with(&server, "max", &["manager"]).await, "9999-12-31T23:59:59-23:59");
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let with = |mut body: Value, field: &str| {
        body[field] = json!(late);
        body
    };
    let clearance = json!({ "manifest_id": id(&draft), "area": "legal", "cleared": true, "reason": "looked at it" });
    let rights = json!({ "manifest_id": id(&draft), "holder": "Example Ltd", "licence": "CC-BY-4.0" });
    let over = json!({ "manifest_id": id(&draft), "rule": "copyright_valid", "reason": "licence is in the post" });
    for (person, path, body, field) in [
        (&approver, "consents", consent("Grace Hopper"), "given_at"),
        (&approver, "consents", consent("Grace Hopper"), "expires_at"),
        (&approver, "clearances", clearance, "expires_at"),
        (&approver, "rights", rights.clone(), "from"),
        (&approver, "rights", rights, "until"),
        (&one, "override", over, "expires_at"),
    ] {
        let answer = person.post(&format!("/api/v1/compliance/{path}"), with(body, field)).await;
        let refused = problem(answer, 422, "INVALID_FIELD").await;
        assert_eq!(refused["errors"][0]["field"], field, "{path}: {refused:#}");
    }
}

#[tokio::test]
async fn details_about_people_need_their_consent() {
    depends_on!(Database);
    let server = Server::start().await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let details = "<Iptc4xmpExt:PersonInImageWDetails><rdf:Bag><rdf:li rdf:parseType=\"Resource\"><Iptc4xmpExt:PersonName><rdf:Alt>\
                   <rdf:li xml:lang=\"x-default\">Grace Hopper</rdf:li></rdf:Alt></Iptc4xmpExt:PersonName></rdf:li></rdf:Bag>\
                   </Iptc4xmpExt:PersonInImageWDetails>";
    let draft = creator.draft("a.jpg", jpeg_with_xmp(details), &[("classification", "public")]).await;
    assert_eq!(check(&reviewer, &draft, "pdpa_compliance").await["status"], "failed");
    ok(reviewer.post("/api/v1/compliance/consents", consent("Grace Hopper")).await, StatusCode::CREATED).await;
    assert_eq!(check(&reviewer, &draft, "pdpa_compliance").await["status"], "passed");
}

#[tokio::test]
async fn metadata_says_where_and_until_when() {
    depends_on!(Database);
    let server = Server::start_with("[tenant_defaults.export]\ncountries = [\"KP\"]\n").await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let reviewer = Person::with(&server, "rita", &["reviewer"]).await;
    let properties = "<p:Country xmlns:p=\"http://ns.adobe.com/photoshop/1.0/\">North Korea</p:Country>\
                      <dc:rights>Example Ltd</dc:rights><xmpRights:UsageTerms>as agreed</xmpRights:UsageTerms>\
                      <l:LicenseEndDate xmlns:l=\"http://ns.useplus.org/ldf/xmp/1.0/\">2020-05-31</l:LicenseEndDate>";
    let draft = creator.draft("a.jpg", jpeg_with_xmp(properties), &[("classification", "public")]).await;
    let rule = |report: &Value, name: &str| {
        report["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == name).unwrap().clone()
    };
    let copyright = rule(&check(&reviewer, &draft, "public_content").await, "copyright_valid");
    assert_eq!(copyright["status"], "failed");
    assert!(copyright["expected"].as_str().unwrap().contains("until 2020-05-31"), "{copyright:#}");
    assert!(copyright["actual"].as_str().unwrap().contains("ended on 2020-05-31"), "{copyright:#}");
    let export = rule(&check(&reviewer, &draft, "confidential_content").await, "export_control");
    assert!(export["actual"].as_str().unwrap().contains("made in KP"), "{export:#}");
    assert_eq!(export["locations"], json!(["metadata.xmp.photoshop:Country"]));
}
