//! Transitions over HTTP, policies in process.

use crate::{quantile, world::System};
use clap::Args;
use omt_claims::{
    definition::{ClaimDefinition, CustomAssertion},
    metadata::Extracted,
};
use omt_jobs::Jobs;
use omt_kernel::{
    Actor, ManifestId, OffsetDateTime, TenantId, TenantSettings,
    manifest::{BlobRef, Classification, IngredientRecord, ManifestRecord, ManifestState, Relationship},
    port::Database,
};
use omt_policy::{Deadline, Dependencies, Facts, Policies, Policy, Verified, rules::Compiled};
use omt_sql::SqlDatabase;
use reqwest::{Client, multipart};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    hint::black_box,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// At which server.
#[derive(Args)]
pub struct Arguments {
    /// The server.
    #[arg(long)]
    url: String,
    /// An access token of somebody who may begin workflows.
    #[arg(long)]
    bearer: String,
    /// The content of every draft.
    #[arg(long)]
    file: std::path::PathBuf,
    /// Workflows.
    #[arg(long, default_value_t = 600)]
    workflows: usize,
    /// Requests at once.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

/// Runs it and prints its lines.
pub async fn run(arguments: Arguments) {
    policies().await;
    let bytes = std::fs::read(&arguments.file).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let begin = {
        let (client, arguments_url, bearer, bytes) =
            (client.clone(), arguments.url.clone(), arguments.bearer.clone(), bytes.clone());
        move |_: usize| {
            let (client, url, bearer, bytes) = (client.clone(), arguments_url.clone(), bearer.clone(), bytes.clone());
            async move {
                let form = multipart::Form::new().part("file", multipart::Part::bytes(bytes).file_name("a.jpg"));
                let made =
                    client.post(format!("{url}/api/v1/manifests")).bearer_auth(&bearer).multipart(form).send().await.unwrap();
                let draft: Value = made.json().await.unwrap();
                let body = json!({ "manifest_id": draft["id"] });
                let made = client.post(format!("{url}/api/v1/workflows")).bearer_auth(&bearer).json(&body).send().await.unwrap();
                let workflow: Value = made.json().await.unwrap();
                workflow["workflow_id"].as_str().unwrap().to_owned()
            }
        }
    };
    let ids: Vec<String> = each((0..arguments.workflows).collect(), arguments.concurrency, begin).await.0;
    let submit = move |id: String| {
        let (client, url, bearer) = (client.clone(), arguments.url.clone(), arguments.bearer.clone());
        async move {
            let path = format!("{url}/api/v1/workflows/{id}/transition");
            let answer = client.post(path).bearer_auth(&bearer).json(&json!({ "action": "submit" })).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        }
    };
    let begun = Instant::now();
    let (_, mut times) = each(ids, arguments.concurrency, submit).await;
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    println!("transitions, {} at once: {rate:.0}/s, p95 {:.0} ms", arguments.concurrency, quantile(&times, 0.95) * 1e3);
}

/// Does something for each of some, so many at once; what came of it, and how long each took in seconds.
async fn each<I: Send + 'static, T: Send + 'static, W: Future<Output = T> + Send + 'static>(
    items: Vec<I>,
    concurrency: usize,
    work: impl Fn(I) -> W + Clone + Send + 'static,
) -> (Vec<T>, Vec<f64>) {
    let queue = Arc::new(Mutex::new(VecDeque::from(items)));
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..concurrency {
        let (queue, work) = (queue.clone(), work.clone());
        running.spawn(async move {
            let (mut out, mut times) = (Vec::new(), Vec::new());
            loop {
                let Some(item) = queue.lock().unwrap().pop_front() else { return (out, times) };
                let begun = Instant::now();
                out.push(work(item).await);
                times.push(begun.elapsed().as_secs_f64());
            }
        });
    }
    let (mut out, mut times) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (some, took) = done.unwrap();
        out.extend(some);
        times.extend(took);
    }
    (out, times)
}

/// A policy of fifty rules, ten of them expressions: through the service, as guards and `verify/policy` ask it, over a database of
/// SQLite; and as the baseline the same rules alone, compiled before, on one thread.
async fn policies() {
    let rules: Vec<Value> = (0..50)
        .map(|n| {
            let (name, severity) = (format!("rule-{n}"), "error");
            match n % 5 {
                0 => json!({ "name": name, "severity": severity, "rule_type": "custom_function",
                             "custom_function": "manifest.title.size() < 200 && 'cawg.metadata' in assertions && ingredients.all(i, i.title != '')" }),
                1 => json!({ "name": name, "severity": severity, "rule_type": "required_assertion", "assertion_label": "cawg.metadata" }),
                2 => json!({ "name": name, "severity": severity, "rule_type": "required_field", "field_path": "manifest.creator" }),
                3 => json!({ "name": name, "severity": severity, "rule_type": "value_constraint", "field_path": "manifest.title", "max_value": 120 }),
                _ => json!({ "name": name, "severity": severity, "rule_type": "classification_constraint", "classification_levels": ["public"] }),
            }
        })
        .collect();
    let policy: Policy = serde_json::from_value(json!({ "name": "bench", "rules": rules })).unwrap();
    policy.validate().unwrap();
    let metadata: serde_json::Map<String, Value> =
        (0..60).map(|n| (format!("exif:Property{n}"), json!(format!("value {n}")))).collect();
    let facts = Facts::new(json!({
        "manifest": { "title": "A poster of the summer festival", "creator": "Example", "classification": "public", "size": 100_000 },
        "assertions": { "c2pa.actions.v2": { "actions": [] }, "cawg.metadata": metadata.clone() },
        "metadata": metadata, "ingredients": [{ "title": "a" }, { "title": "b" }], "signature": null,
    }));
    let compiled = Compiled::new(policy.clone(), 1).unwrap();
    let evaluate = || compiled.evaluate(black_box(&facts), &Deadline::after(Duration::from_secs(2)));
    assert!(evaluate().passed);
    let times: Vec<f64> = (0..20_000)
        .map(|_| {
            let begun = Instant::now();
            black_box(evaluate());
            begun.elapsed().as_secs_f64()
        })
        .collect();
    say("policy of 50 rules, 10 of them CEL, compiled before (baseline)", " (goal p99 200 µs)", times);
    dearest();
    through_the_service(policy, metadata).await;
}

/// What the dearest policies take that may be written: of each expression as many as one policy may have, on content as large as
/// expressions look at.
fn dearest() {
    let rows: Vec<Value> = (0..1_000).map(|n| json!({ "a": n, "b": [n, n, n], "c": "text", "d": "x".repeat(300) })).collect();
    let words: Vec<String> = (0..1_000).map(|n| format!("word {n}")).collect();
    let long: serde_json::Map<String, Value> = (0..100).map(|n| (format!("p{n}"), json!("y".repeat(4_000)))).collect();
    let ingredients: Vec<Value> =
        (0..100).map(|n| json!({ "title": format!("t{n}"), "media_type": "image/jpeg", "relationship": "parentOf" })).collect();
    let facts = Facts::new(json!({
        "manifest": { "title": "z".repeat(4_000), "size": 1 }, "assertions": { "rows": rows, "words": words },
        "metadata": long, "ingredients": ingredients, "signature": null,
    }));
    for expression in [
        "true",
        "assertions.rows.all(r, r.a >= 0)",
        "assertions.rows.all(r, r.b.all(n, n >= 0))",
        "assertions.words.all(w, ingredients.all(i, i.title != w))",
        "ingredients.all(i, ingredients.all(j, i.title != '' && j.title != ''))",
        "assertions.rows.map(r, r).size() == 1000",
        "assertions.rows == assertions.rows",
        "assertions.words.all(w, manifest.title.contains(w) || true)",
        "metadata.all(p, metadata[p].contains('yyx') || true)",
        "manifest.title.matches('^([a-z]{2,40}[0-9])+$') || true",
        "manifest.title.matches('^\\w{1,20}$') || true",
        "assertions.rows.all(r, r - 1 == 0) || true",
    ] {
        let rule = |n: usize| {
            let name = format!("r{n}");
            json!({ "name": name, "rule_type": "custom_function", "severity": "error", "custom_function": expression })
        };
        let of = |many: usize| -> Policy {
            serde_json::from_value(json!({ "name": "dearest", "rules": (0..many).map(rule).collect::<Vec<_>>() })).unwrap()
        };
        let (mut most, mut beyond) = (1, 201);
        while beyond - most > 1 {
            let middle = (most + beyond) / 2;
            if of(middle).validate().is_ok() { most = middle } else { beyond = middle }
        }
        let compiled = Compiled::new(of(most), 1).unwrap();
        let begun = Instant::now();
        let verdict = compiled.evaluate(black_box(&facts), &Deadline::after(Duration::from_secs(60)));
        assert!(!verdict.rules.iter().any(omt_policy::RuleVerdict::is_open), "{expression}");
        println!("dearest policy, {most} times {expression}: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    }
}

/// Asks the service, one after the other: about another draft each time, and about the same one again.
async fn through_the_service(policy: Policy, metadata: serde_json::Map<String, Value>) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", dir.path().join("bench.db").display());
    let database = Arc::new(SqlDatabase::connect(&url).await.unwrap());
    database.migrate().await.unwrap();
    let world = Arc::new(System);
    let (audit, _) = crate::world::audit(dir.path(), database.clone());
    let jobs = Arc::new(Jobs::new(database.clone(), world.clone(), world.clone(), audit.clone()));
    let telemetry = Arc::new(omt_metrics::Prometheus::new().unwrap());
    let (clock, entropy) = (world.clone(), world);
    let deps = Dependencies { database: database.clone(), clock, entropy, audit, jobs, telemetry };
    let policies = Policies::new(deps).unwrap();
    let actor = Actor::system(TenantId::default_tenant());
    let drafts: Vec<ManifestRecord> = (0..2_000).map(|_| draft(metadata.clone())).collect();
    let unit = database.begin().await.unwrap();
    let settings = TenantSettings::default();
    unit.tenants().put(&actor.tenant, &settings, OffsetDateTime::now_utc()).await.unwrap();
    for draft in &drafts {
        unit.manifests().insert(draft).await.unwrap();
    }
    unit.commit().await.unwrap();
    policies.create(&actor, policy).await.unwrap();
    let ask = async |draft: &ManifestRecord| {
        let begun = Instant::now();
        let answer = policies.evaluate(&actor, draft.id, "bench", Verified::No).await.unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert!(answer.verdict.passed);
        took
    };
    let mut first = Vec::new();
    for draft in &drafts {
        first.push(ask(draft).await);
    }
    let mut again = Vec::new();
    for _ in 0..10_000 {
        again.push(ask(&drafts[drafts.len() - 1]).await);
    }
    say("the same through the service, about a draft that it knows (revision and version asked of SQLite)", "", again);
    say("the same through the service, about a draft that it reads from SQLite", "", first);
}

/// A draft with metadata and two ingredients.
fn draft(metadata: serde_json::Map<String, Value>) -> ManifestRecord {
    let blob = BlobRef { sha256: "ab".repeat(32), size: 100_000 };
    let ingredient = |title: &str| IngredientRecord {
        blob: blob.clone(),
        title: title.to_owned(),
        media_type: "image/jpeg".to_owned(),
        relationship: Relationship::ComponentOf,
    };
    let custom = vec![CustomAssertion { label: "cawg.metadata".to_owned(), data: Value::Object(metadata.clone()) }];
    let definition = ClaimDefinition { assertions: custom, ..ClaimDefinition::default() };
    let exif = metadata.into_iter().map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect();
    let extracted = Extracted { exif, orientation: 1, ..Extracted::default() };
    let now = OffsetDateTime::now_utc();
    ManifestRecord {
        id: ManifestId(Uuid::now_v7()),
        tenant: TenantId::default_tenant(),
        revision: 1,
        state: ManifestState::Draft,
        title: "A poster of the summer festival".to_owned(),
        creator: "Example".to_owned(),
        department: None,
        project: None,
        organization: None,
        classification: Classification::Public,
        media_type: "image/jpeg".to_owned(),
        file_name: None,
        source: blob.clone(),
        source_kept: true,
        definition: serde_json::to_value(&definition).unwrap(),
        metadata: serde_json::to_value(&extracted).unwrap(),
        ingredients: vec![ingredient("a"), ingredient("b")],
        signed: None,
        created_by: "system".to_owned(),
        created_at: now,
        updated_at: now,
        archived: None,
        legal_hold: None,
        content_deleted_at: None,
    }
}

fn say(what: &str, goal: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let rate = times.len() as f64 / times.iter().sum::<f64>();
    println!(
        "{what}: {rate:.0}/s one after the other, p50 {:.0} µs, p99 {:.0} µs{goal}",
        quantile(&times, 0.5) * 1e6,
        quantile(&times, 0.99) * 1e6
    );
}
