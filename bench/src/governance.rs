//! Transitions over HTTP, policies in process.

use crate::quantile;
use clap::Args;
use omt_policy::{Policy, rules::Compiled};
use reqwest::{Client, multipart};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    hint::black_box,
    sync::{Arc, Mutex},
    time::Instant,
};

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
    policies();
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
    let workflows =
        Arc::new(Mutex::new(VecDeque::from(each((0..arguments.workflows).collect(), arguments.concurrency, begin).await.0)));
    let ids: Vec<String> = workflows.lock().unwrap().drain(..).collect();
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

/// A policy of fifty rules, ten of them expressions.
fn policies() {
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
    let facts = json!({
        "manifest": { "title": "A poster of the summer festival", "creator": "Example", "classification": "public", "size": 100_000 },
        "assertions": { "c2pa.actions.v2": { "actions": [] }, "cawg.metadata": metadata.clone() },
        "metadata": metadata, "ingredients": [{ "title": "a" }, { "title": "b" }], "signature": null,
    });
    let compiled = Compiled::new(policy, 1);
    assert!(compiled.evaluate(&facts).passed);
    let mut times: Vec<f64> = (0..20_000)
        .map(|_| {
            let begun = Instant::now();
            black_box(compiled.evaluate(black_box(&facts)));
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let rate = times.len() as f64 / times.iter().sum::<f64>();
    println!(
        "policy of 50 rules, 10 of them CEL: {rate:.0}/s on one thread, p50 {:.0} µs, p99 {:.0} µs (goal p99 200 µs)",
        quantile(&times, 0.5) * 1e6,
        quantile(&times, 0.99) * 1e6
    );
}
