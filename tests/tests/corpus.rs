//! The larger corpus, where `OMT_CORPUS` names it: real media, files signed by others, vectors of a separate prototype.

use omt_tests::{Server, corpus, fixture, id, judge};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

fn files(dir: &Path, extensions: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| extensions.is_empty() || p.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap())))
        .map(|p| p.to_string_lossy().into_owned())
        .collect();
    out.sort();
    out
}

fn verify(home: &Path, arguments: &[&str], files: &[String]) -> BTreeMap<String, Value> {
    let output = Server::command(home, "").args(["verify", "--json"]).args(arguments).args(files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let reports: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(reports.len(), files.len(), "{}", String::from_utf8_lossy(&output.stderr));
    reports.into_iter().map(|r| (r["file"].as_str().unwrap().to_owned(), r)).collect()
}

#[tokio::test]
async fn real_media_signs_and_the_sdk_trusts_it() {
    depends_on!();
    let Some(corpus) = corpus() else { return eprintln!("no OMT_CORPUS") };
    let server = Server::start().await;
    let out = tempfile::tempdir().unwrap();
    let roots = out.path().join("roots.pem");
    std::fs::write(&roots, server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap()).unwrap();
    let mut signed = vec![roots.to_string_lossy().into_owned()];
    for file in files(&corpus.join("unsigned"), &[]) {
        let name = Path::new(&file).file_name().unwrap().to_str().unwrap().to_owned();
        let record = server.signed(&name, std::fs::read(&file).unwrap(), &[]).await;
        let content = server.content(&record).await;
        if record["signature"]["embedded"] == true {
            let report = server.verify(&name, content.clone()).await;
            assert_eq!(
                (report["validation_state"].as_str(), report["post_quantum"]["state"].as_str()),
                (Some("trusted"), Some("trusted")),
                "{name}: {report}"
            );
            let path = out.path().join(&name);
            std::fs::write(&path, content).unwrap();
            signed.push(path.to_string_lossy().into_owned());
        }
    }
    assert!(signed.len() > 15);
    let arguments: Vec<&str> = signed.iter().map(String::as_str).collect();
    for verdict in judge("media.py", &arguments).unwrap_or_default() {
        assert_eq!(verdict["state"], "trusted", "{verdict}");
    }
}

/// C2PA's own schema lies beside the corpus.
#[tokio::test]
async fn crjson_satisfies_its_schema() {
    let Some(corpus) = corpus() else { return eprintln!("no OMT_CORPUS") };
    let schema = corpus.join("../c2pa-conformance/crJSON-schema.json");
    assert!(schema.is_file(), "{} is missing", schema.display());
    let server = Server::start().await;
    let out = tempfile::tempdir().unwrap();
    let mut arguments = vec![schema.to_string_lossy().into_owned()];
    let first = server.signed("a.jpg", fixture("a.jpg"), &[("title", "first")]).await;
    // With a parent that has a manifest, an assertion of its own, and none of both.
    let note = json!([{ "label": "com.example.note", "data": { "text": "hello" } }]).to_string();
    let fields = [("action", "c2pa.edited"), ("assertions", note.as_str())];
    let second = server.signed("a.jpg", server.content(&first).await, &fields).await;
    for record in [first, second, server.signed("a.mp4", fixture("a.mp4"), &[]).await] {
        let crjson = server.json(&format!("/api/v1/manifests/{}/crjson", id(&record))).await;
        let path = out.path().join(id(&record));
        std::fs::write(&path, crjson.to_string()).unwrap();
        arguments.push(path.to_string_lossy().into_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(verdicts) = judge("crjson.py", &arguments) else { return eprintln!("no judges here") };
    assert_eq!(verdicts.len(), 3);
    for verdict in verdicts {
        assert_eq!(verdict["errors"], json!([]), "{verdict}");
    }
}

#[test]
fn files_signed_by_others_have_the_sdks_state() {
    depends_on!();
    let Some(corpus) = corpus() else { return eprintln!("no OMT_CORPUS") };
    let (dir, home) = (corpus.join("signed"), tempfile::tempdir().unwrap());
    let roots = dir.join("c2pa-rs-test-roots.pem").to_string_lossy().into_owned();
    let files = files(&dir, &["jpg", "mp4"]);
    let ours = verify(home.path(), &["--trust-anchors", &roots], &files);
    for (file, report) in &ours {
        let broken = ["-E-dat", "-E-sig", "XCA"].iter().any(|mark| file.contains(mark));
        assert_eq!(report["validation_state"] == "invalid", broken, "{file}: {}", report["issues"]);
    }
    let arguments: Vec<&str> = [roots.as_str()].into_iter().chain(files.iter().map(String::as_str)).collect();
    for verdict in judge("media.py", &arguments).unwrap_or_default() {
        let report = &ours[verdict["file"].as_str().unwrap()];
        assert_eq!(report["validation_state"], verdict["state"], "{verdict}");
    }
}

#[test]
fn vectors_of_the_prototype_have_their_documented_states() {
    depends_on!();
    let Some(corpus) = corpus() else { return eprintln!("no OMT_CORPUS") };
    let (dir, home) = (corpus.join("hybrid"), tempfile::tempdir().unwrap());
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (anchors, pq_anchor) = (path("anchors.pem"), path("pq-anchor.pem"));
    let vectors = files(&dir, &["jpg"]);
    let expected = [
        ("hybrid.jpg", "trusted", "valid", "trusted"),
        ("hybrid-timestamped.jpg", "trusted", "valid", "trusted"),
        ("hybrid-bad-countersignature.jpg", "trusted", "invalid", "invalid"),
        ("pure-ml-dsa-65.jpg", "valid", "valid", "trusted"),
    ];
    let plain = verify(home.path(), &["--trust-anchors", &anchors], &vectors);
    let with_anchor = verify(home.path(), &["--trust-anchors", &anchors, "--pq-trust-anchors", &pq_anchor], &vectors);
    for (name, state, without, with) in expected {
        let (before, after) = (&plain[&path(name)], &with_anchor[&path(name)]);
        assert_eq!(
            (before["validation_state"].as_str(), before["post_quantum"]["state"].as_str()),
            (Some(state), Some(without)),
            "{name}"
        );
        assert_eq!(after["post_quantum"]["state"], with, "{name}");
    }
}
