//! Time-stamps: every signature carries one where an authority is named, and it counts where that authority is trusted.

use crate::workflow::Person;
use omt_claims::jumbf::ManifestStore;
use omt_crypto::cose;
use omt_tests::{
    Server,
    authority::{Authority, Mood},
    corpus, fixture, id, judge, ok, problem,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{path::Path, process::Command};

fn codes(report: &Value) -> Vec<&str> {
    let lists = ["success", "informational", "failure"].map(|list| report["status_codes"][list].as_array());
    let codes = lists.into_iter().flatten().flatten().map(|status| status["code"].as_str().unwrap());
    codes.filter(|code| code.starts_with("timeStamp.")).collect()
}

/// The token in a manifest store, and what it must be about.
async fn token(server: &Server, record: &Value) -> (Vec<u8>, Vec<u8>) {
    let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(record))).await.bytes().await.unwrap();
    let store = ManifestStore::parse(&store).unwrap();
    let active = store.active().unwrap();
    let sign1 = cose::parse_sign1(active.signature.unwrap()).unwrap();
    let header = sign1.stamp.clone().unwrap().unwrap();
    let stamped = sign1.stamped(&header, active.claim.unwrap());
    (header.token, stamped)
}

#[tokio::test]
async fn signatures_carry_the_time_of_an_authority() {
    depends_on!();
    let authority = Authority::start().await;
    let server = Server::start_with(&authority.config()).await;
    for name in ["a.jpg", "a.png", "a.mp4", "a.wav"] {
        let record = server.signed(name, fixture(name), &[]).await;
        let content = server.content(&record).await;
        let report = server.verify(name, content.clone()).await;
        assert_eq!(
            (&report["validation_state"], &report["post_quantum"]["state"]),
            (&json!("trusted"), &json!("trusted")),
            "{report:#}"
        );
        assert_eq!((&report["signing_time"]["trusted"], &report["warnings"]), (&json!(true), &json!([])), "{name}: {report:#}");
        assert!(report["signing_time"]["authority"].as_str().unwrap().contains("CN=Time"), "{report:#}");
        assert_eq!(codes(&report), ["timeStamp.validated", "timeStamp.trusted"]);
        // Nobody approved it.
        assert_eq!(report["trust_level"], "enterprise");

        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_string_lossy().into_owned()
        };
        // OpenSSL reads the token as we wrote it.
        let (token, stamped) = token(&server, &record).await;
        let (token, stamped) = (write("token", &token), write("stamped", &stamped));
        assert!(openssl_verifies(&token, &stamped, &authority.root()), "{name}");
        assert!(!openssl_verifies(&token, &token, &authority.root()), "{name}");
        // And both other validators take the whole.
        let (file, roots) = (write(name, &content), server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap());
        let both = [roots.to_vec(), std::fs::read(authority.root()).unwrap()].concat();
        let roots = write("roots.pem", &both);
        for verdict in judge("media.py", &[&roots, &file]).unwrap_or_default() {
            assert_eq!(verdict["state"], "trusted", "{verdict}");
        }
    }
    // Who does not trust the authority is told so, and trusts the rest.
    let elsewhere = Server::start().await;
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let report = elsewhere.verify("a.jpg", server.content(&record).await).await;
    assert_eq!((report["valid"].as_bool(), &report["signing_time"]["trusted"]), (Some(true), &json!(false)), "{report:#}");
    assert_eq!(codes(&report), ["timeStamp.validated", "timeStamp.untrusted"]);
}

/// Tokens of an authority that everybody uses, in files of others.
#[tokio::test]
async fn tokens_of_others_are_read() {
    depends_on!();
    let Some(corpus) = corpus() else { return };
    let anchor = |name: &str| corpus.join("hybrid").join(name).display().to_string();
    let trust = format!(
        "[trust]\nanchors = [\"{}\"]\npq_anchors = [\"{}\"]\ntimestamp_anchors = [\"{}\"]\n",
        anchor("anchors.pem"),
        anchor("pq-anchor.pem"),
        anchor("tsa-anchor.pem")
    );
    let server = Server::start_with(&trust).await;
    for (name, when, who, trusted) in [
        ("signed/adobe-20220124-C.jpg", "2023-01-24T14:48:56Z", "O=DigiCert", false),
        ("signed/c2pa-rs-ocsp.jpg", "2025-08-13T16:30:55Z", "O=DigiCert", false),
        ("hybrid/hybrid-timestamped.jpg", "2026-11-20T12:03:52Z", "CN=TSA,O=TSA", true),
    ] {
        let report = server.verify("a.jpg", std::fs::read(corpus.join(name)).unwrap()).await;
        assert_eq!(codes(&report)[0], "timeStamp.validated", "{report:#}");
        let time = &report["signing_time"];
        assert!(time["time"] == when && time["authority"].as_str().unwrap().contains(who), "{time}");
        assert_eq!(time["trusted"], trusted, "{name}");
    }
}

fn openssl_verifies(token: &str, stamped: &str, root: &Path) -> bool {
    let arguments = ["ts", "-verify", "-token_in", "-in", token, "-data", stamped, "-CAfile"];
    Command::new("openssl").args(arguments).arg(root).output().unwrap().status.success()
}

#[tokio::test]
async fn what_was_approved_and_stamped_is_highly_assured() {
    depends_on!();
    let authority = Authority::start().await;
    let approval = "[tenant_defaults.approval]\npublic = \"default\"\n";
    let server = Server::start_with(&format!("{}{approval}", authority.config())).await;
    let creator = Person::with(&server, "carla", &["creator"]).await;
    let manager = Person::with(&server, "max", &["reviewer", "approver"]).await;
    let draft = creator.draft("a.jpg", fixture("a.jpg"), &[("classification", "public")]).await;
    let workflow = creator.start(&draft, "default").await;
    creator.moves(&workflow, "submit", "submitted").await;
    manager.moves(&workflow, "review", "in_review").await;
    manager.moves(&workflow, "approve", "approved").await;
    // While there is no time-stamp nothing is published, and nothing is lost.
    authority.behave(Mood::Broken);
    let late = manager.take(&workflow, "publish").await;
    assert!(late.status() == StatusCode::SERVICE_UNAVAILABLE || late.status() == StatusCode::ACCEPTED, "{}", late.status());
    authority.behave(Mood::Well);
    omt_tests::until("it is published", async || {
        let shown = manager.shown(&workflow).await;
        if shown["current_state"] == "approved" && shown["available_actions"].to_string().contains("publish") {
            drop(manager.take(&workflow, "publish").await);
        }
        shown["current_state"] == "published"
    })
    .await;
    let record = creator.get(&format!("/api/v1/manifests/{}", id(&draft))).await;
    let report = server.verify("a.jpg", server.content(&record).await).await;
    assert_eq!(
        (&report["trust_level"], &report["signing_time"]["trusted"]),
        (&json!("high_assurance"), &json!(true)),
        "{report:#}"
    );
    let stored = ok(
        server.request("POST", "/api/v1/verify").json(&json!({ "manifest_id": id(&draft) })).send().await.unwrap(),
        StatusCode::OK,
    );
    assert_eq!(stored.await["trust_level"], "high_assurance");
}

#[tokio::test]
async fn without_a_time_stamp_there_is_no_signature() {
    depends_on!();
    let authority = Authority::start().await;
    let server = Server::start_with(&authority.config()).await;
    let before = server.signed("a.png", fixture("a.png"), &[]).await;
    for mood in [Mood::Broken, Mood::Refusing, Mood::Replaying, Mood::Endless, Mood::Slow] {
        authority.behave(mood);
        let draft = ok(server.upload("a.jpg", fixture("a.jpg"), &[]).await, StatusCode::CREATED).await;
        let path = format!("/api/v1/manifests/{}/sign", id(&draft));
        let answer = server.request("POST", &path).send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"), "{mood:?}");
        let refused = problem(answer, 503, "TIMESTAMP_UNAVAILABLE").await;
        assert!(!refused.to_string().contains(&authority.url), "{refused}");
        if mood == Mood::Refusing {
            assert!(refused["detail"].as_str().unwrap().contains("not today"), "{refused}");
        }
        // An engine that embeds by itself tells the same.
        let direct = server.upload("a.mp4", fixture("a.mp4"), &[("sign", "true")]).await;
        problem(direct, 503, "TIMESTAMP_UNAVAILABLE").await;
        assert_eq!(server.json(&format!("/api/v1/manifests/{}", id(&draft))).await["state"], "draft");
        if mood != Mood::Slow {
            authority.behave(Mood::Well);
            ok(server.request("POST", &path).send().await.unwrap(), StatusCode::OK).await;
        }
    }
    // What was signed before needs nobody.
    let report = server.verify("a.png", server.content(&before).await).await;
    assert_eq!(report["signing_time"]["trusted"], true);
}

#[tokio::test]
async fn a_changed_time_stamp_is_no_word_of_anybody() {
    depends_on!();
    let authority = Authority::start().await;
    let server = Server::start_with(&authority.config()).await;
    let record = server.signed("a.wav", fixture("a.wav"), &[]).await;
    let content = server.content(&record).await;
    let (token, _) = token(&server, &record).await;
    let at = content.windows(token.len()).position(|w| w == token).unwrap();
    // The minute in the token's time, which stands before its signature.
    let time = token.windows(2).position(|w| w == [0x18, 0x0f]).unwrap() + 2 + 11;
    let mut forged = content.clone();
    forged[at + time] = if forged[at + time] == b'0' { b'1' } else { b'0' };
    let report = server.verify("a.wav", forged).await;
    assert_eq!((report["valid"].as_bool(), &report["signing_time"]), (Some(true), &Value::Null), "{report:#}");
    assert_eq!(codes(&report), ["timeStamp.untrusted"]);
    // The token of another signature is about another.
    let foreign = loop {
        // Signatures of ECDSA differ in length by a byte or two.
        let other = server.signed("a.wav", fixture("a.wav"), &[]).await;
        let (foreign, _) = self::token(&server, &other).await;
        if foreign.len() == token.len() {
            break foreign;
        }
    };
    let mut moved = content.clone();
    moved[at..at + token.len()].copy_from_slice(&foreign);
    let report = server.verify("a.wav", moved).await;
    assert_eq!((codes(&report), &report["signing_time"]), (vec!["timeStamp.mismatch"], &Value::Null), "{report:#}");
}
