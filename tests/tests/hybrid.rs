//! The countersignature: stripped, broken, absent, and the private profile.

use omt_claims::jumbf::ManifestStore;
use omt_tests::{Server, combination, fixture, id, judge, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A signed WAV, whose manifest store stands in one piece, and its claim signature.
async fn signed(server: &Server) -> (Vec<u8>, Vec<u8>) {
    let record = server.signed("a.wav", fixture("a.wav"), &[]).await;
    let content = server.content(&record).await;
    let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await.bytes().await.unwrap();
    let signature = ManifestStore::parse(&store).unwrap().active().unwrap().signature.unwrap().to_vec();
    (content, signature)
}

fn replace(content: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = content.windows(from.len()).position(|w| w == from).expect("it is there");
    [&content[..at], to, &content[at + from.len()..]].concat()
}

/// The C2PA SDK's state, where the judges are installed.
async fn sdk_state(server: &Server, bytes: &[u8]) -> Option<Value> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> String {
        let path: PathBuf = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let roots = server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap();
    let (roots, file) = (write("roots.pem", &roots), write("a.wav", bytes));
    judge("media.py", &[&roots, &file]).map(|lines| lines[0]["state"].clone())
}

#[tokio::test]
async fn stripped_and_broken_countersignatures_show() {
    depends_on!();
    let server = Server::start().await;
    let (content, signature) = signed(&server).await;
    let stripped = replace(&content, &signature, &omt_crypto::cose::strip_countersignature(&signature).unwrap());
    let report = server.verify("a.wav", stripped.clone()).await;
    assert_eq!(report["post_quantum"]["state"], "stripped", "{report}");
    assert_eq!((report["valid"].as_bool(), report["validation_state"].as_str()), (Some(false), Some("invalid")));
    assert_eq!(
        (report["c2pa_state"].as_str(), report["issues"][0]["code"].as_str()),
        (Some("trusted"), Some("postQuantum.stripped"))
    );
    // One flipped bit in the countersignature, which lies within the unprotected header.
    let parsed = omt_crypto::cose::parse_sign1(&signature).unwrap();
    let mut bad = parsed.countersignature.unwrap().unwrap().signature;
    let good = bad.clone();
    bad[1000] ^= 1;
    let broken = replace(&content, &good, &bad);
    let report = server.verify("a.wav", broken.clone()).await;
    assert_eq!((report["post_quantum"]["state"].as_str(), report["valid"].as_bool()), (Some("invalid"), Some(false)), "{report}");
    for (what, bytes) in [("stripped", stripped), ("broken", broken)] {
        if let Some(state) = sdk_state(&server, &bytes).await {
            assert_eq!(state, "trusted", "{what}");
        }
    }
}

#[tokio::test]
async fn policies_demand_what_they_say() {
    depends_on!();
    for (policy, plain_valid) in [("off", true), ("when_committed", true), ("always", false), ("pq_only", false)] {
        let server = Server::start_with(&format!("[tenant_defaults]\npost_quantum = \"{policy}\"\n")).await;
        let plain = server.signed("a.wav", fixture("a.wav"), &[("algorithm", "es256")]).await;
        let report = server.verify("a.wav", server.content(&plain).await).await;
        assert_eq!(report["post_quantum"]["state"], "absent");
        assert_eq!(report["valid"], plain_valid, "{policy}: {report}");
        let (content, signature) = signed(&server).await;
        let report = server.verify("a.wav", content.clone()).await;
        assert_eq!(
            (report["validation_state"].as_str(), report["post_quantum"]["state"].as_str()),
            (Some("trusted"), Some("trusted")),
            "{policy}"
        );
        let stripped = replace(&content, &signature, &omt_crypto::cose::strip_countersignature(&signature).unwrap());
        assert_eq!(server.verify("a.wav", stripped).await["valid"], policy == "off", "{policy}");
    }
}

#[tokio::test]
async fn every_hybrid_parameter_set_signs_and_an_independent_judge_agrees() {
    depends_on!();
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for algorithm in ["hybrid-es256-ml-dsa-44", "hybrid-es256-ml-dsa-65", "hybrid-es256-ml-dsa-87"] {
        let record = server.signed("a.jpg", fixture("a.jpg"), &[("algorithm", algorithm)]).await;
        let report = server.verify("a.jpg", server.content(&record).await).await;
        assert_eq!(
            (report["post_quantum"]["state"].as_str(), report["validation_state"].as_str()),
            (Some("trusted"), Some("trusted"))
        );
        let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await.bytes().await.unwrap();
        let path = dir.path().join(format!("{algorithm}.c2pa"));
        std::fs::write(&path, store).unwrap();
        files.push(path.to_string_lossy().into_owned());
    }
    let arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    for verdict in judge("hybrid.py", &arguments).unwrap_or_default() {
        assert_eq!(
            (verdict["countersignature"].as_str(), verdict["commitment"].as_bool()),
            (Some("valid"), Some(true)),
            "{verdict}"
        );
        assert_eq!(verdict["leaf_from_issuer"], true, "{verdict}");
    }
}

#[tokio::test]
async fn the_private_profile_signs_and_verifies_when_enabled() {
    depends_on!();
    let server = Server::start_with("[tenant_defaults]\nprivate_profile = true\n").await;
    for algorithm in ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "slh-dsa-sha2-128f"] {
        let record = server.signed("a.wav", fixture("a.wav"), &[("algorithm", algorithm)]).await;
        let content = server.content(&record).await;
        let report = server.verify("a.wav", content.clone()).await;
        assert_eq!(report["validation_state"], "trusted", "{algorithm}: {report}");
        assert_eq!(
            (report["post_quantum"]["state"].as_str(), report["post_quantum"]["algorithm"].as_str()),
            (Some("trusted"), Some(algorithm))
        );
        assert_eq!((report["signature_valid"].as_bool(), report["issues"].clone()), (Some(true), json!([])));
        // As an ingredient, under a hybrid claim.
        let outer = server.signed("a.wav", content.clone(), &[]).await;
        let report = server.verify("a.wav", server.content(&outer).await).await;
        assert_eq!(report["validation_state"], "trusted", "{algorithm} as ingredient: {report}");
        // A changed signature is not forgiven with the unknown algorithm.
        let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await.bytes().await.unwrap();
        let signature = ManifestStore::parse(&store).unwrap().active().unwrap().signature.unwrap().to_vec();
        let good = omt_crypto::cose::parse_sign1(&signature).unwrap().claim.signature;
        let mut bad = good.clone();
        bad[100] ^= 1;
        let report = server.verify("a.wav", replace(&content, &good, &bad)).await;
        assert_eq!(
            (report["valid"].as_bool(), report["post_quantum"]["state"].as_str()),
            (Some(false), Some("invalid")),
            "{report}"
        );
        // Nor is a changed byte of the content.
        let mut tampered = content;
        let last = tampered.len() - 50;
        let at = if tampered[last - 40..].windows(4).any(|w| w == b"C2PA") { 60 } else { last };
        tampered[at] ^= 1;
        assert_eq!(server.verify("a.wav", tampered).await["valid"], false, "{algorithm}");
    }
    // The slow ones, of which nothing depends on the adapters.
    let slow: &[&str] = match combination::current() == combination::ALL[0] {
        true => &["slh-dsa-sha2-128s", "slh-dsa-sha2-192s", "slh-dsa-sha2-256s"],
        false => &[],
    };
    for algorithm in slow {
        let record = server.signed("a.wav", fixture("a.wav"), &[("algorithm", algorithm)]).await;
        let mut content = server.content(&record).await;
        let report = server.verify("a.wav", content.clone()).await;
        assert_eq!(report["validation_state"], "trusted", "{algorithm}: {report}");
        assert_eq!(report["post_quantum"]["algorithm"], *algorithm, "{report}");
        content[60] ^= 1;
        assert_eq!(server.verify("a.wav", content).await["valid"], false, "{algorithm}");
    }
    let closed = Server::start().await;
    problem(
        closed.upload("a.wav", fixture("a.wav"), &[("sign", "true"), ("algorithm", "ml-dsa-65")]).await,
        422,
        "PRIVATE_PROFILE_DISABLED",
    )
    .await;
    // A server that does not offer the profile still verifies it, without trusting the foreign signer.
    let record = server.signed("a.wav", fixture("a.wav"), &[("algorithm", "ml-dsa-65")]).await;
    let report = closed.verify("a.wav", server.content(&record).await).await;
    assert_eq!(
        (report["validation_state"].as_str(), report["post_quantum"]["state"].as_str()),
        (Some("valid"), Some("valid")),
        "{report}"
    );
    let strict = omt_tests::form("a.wav", server.content(&record).await, &[("strict", "true")]);
    let strict = ok(closed.request("POST", "/api/v1/verify").multipart(strict).send().await.unwrap(), StatusCode::OK).await;
    assert_eq!((strict["valid"].as_bool(), strict["warnings"].clone()), (Some(false), json!([])));
}

#[test]
fn the_worked_example_of_the_documentation_holds() {
    depends_on!();
    let path = omt_tests::package().join("../docs/example/manifest.c2pa");
    let bytes = std::fs::read(&path).unwrap();
    let store = ManifestStore::parse(&bytes).unwrap();
    let active = store.active().unwrap();
    let (claim, sign1) = (active.claim.unwrap(), omt_crypto::cose::parse_sign1(active.signature.unwrap()).unwrap());
    let provider = omt_crypto::ProviderName::AwsLc.provider();
    // The certificates end one day; the signatures hold for ever.
    use omt_claims::post_quantum::Signed;
    Signed::new(&sign1.claim).verify_claim(provider.as_ref(), claim).unwrap();
    let counter = sign1.countersignature.as_ref().unwrap().as_ref().unwrap();
    Signed::new(counter).verify_countersignature(provider.as_ref(), &sign1.claim, claim).unwrap();
    for verdict in judge("hybrid.py", &[path.to_str().unwrap()]).unwrap_or_default() {
        assert_eq!((verdict["countersignature"].as_str(), verdict["commitment"].as_bool()), (Some("valid"), Some(true)));
    }
}
