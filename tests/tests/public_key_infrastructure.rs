//! Our certificates, judged by OpenSSL, pkilint and the C2PA profile schemas.

use omt_tests::{Server, corpus, fixture, id, judge};
use serde_json::Value;
use std::{path::PathBuf, process::Command};

const RECORD: &str = "6a0d2a4c-7a53-4c1c-9d2b-7f5f3f0f6a11";

/// Writes every certificate of a server: roots from the API, issuers and leaves from a signed manifest's chains.
async fn certificates(server: &Server, dir: &std::path::Path) -> Vec<(String, PathBuf)> {
    let record = server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    let store = server.get(&format!("/api/v1/manifests/{}/manifest.c2pa", id(&record))).await.bytes().await.unwrap();
    let parsed = omt_claims::jumbf::ManifestStore::parse(&store).unwrap();
    let sign1 = omt_crypto::cose::parse_sign1(parsed.active().unwrap().signature.unwrap()).unwrap();
    let counter = sign1.countersignature.unwrap().unwrap();
    let mut out = Vec::new();
    let mut write = |name: &str, pem: Vec<u8>| {
        let path = dir.join(format!("{name}.pem"));
        std::fs::write(&path, pem).unwrap();
        out.push((name.to_owned(), path));
    };
    write("classical-root", server.get("/api/v1/trust/roots.pem").await.bytes().await.unwrap().to_vec());
    write("pq-root", server.get("/api/v1/trust/pq-roots.pem").await.bytes().await.unwrap().to_vec());
    let pem = |der: &[u8]| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n")).into_bytes()
    };
    for (hierarchy, chain) in [("classical", &sign1.claim.chain), ("pq", &counter.chain)] {
        assert_eq!(chain.len(), 2, "leaf and issuer, never the root");
        write(&format!("{hierarchy}-leaf"), pem(&chain[0]));
        write(&format!("{hierarchy}-issuer"), pem(&chain[1]));
    }
    out
}

#[tokio::test]
async fn openssl_builds_the_classical_path_and_the_issuer_is_served() {
    depends_on!();
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    certificates(&server, dir.path()).await;
    let openssl = |arguments: &[&str]| Command::new("openssl").current_dir(dir.path()).args(arguments).output().unwrap();
    let output = openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        "classical-root.pem",
        "-untrusted",
        "classical-issuer.pem",
        "classical-leaf.pem",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = openssl(&["x509", "-in", "classical-leaf.pem", "-noout", "-text"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in [
        "1.3.6.1.4.1.62558.2.1",
        "E-mail Protection",
        "1.3.6.1.4.1.62558.1.1",
        "Digital Signature, Non Repudiation",
        "OCSP - URI:http://media.example.test/ocsp",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    let url = text
        .lines()
        .find_map(|l| l.split("CA Issuers - URI:http://media.example.test").nth(1))
        .expect("caIssuers")
        .trim()
        .to_owned();
    let served = server.anonymous("GET", &url).send().await.unwrap();
    assert_eq!(served.headers()["content-type"], "application/pkix-cert");
    std::fs::write(dir.path().join("issuer.der"), served.bytes().await.unwrap()).unwrap();
    let same = openssl(&["x509", "-inform", "DER", "-in", "issuer.der", "-outform", "PEM"]);
    let text = String::from_utf8(std::fs::read(dir.path().join("classical-issuer.pem")).unwrap()).unwrap();
    assert_eq!(String::from_utf8(same.stdout).unwrap(), text);
}

#[tokio::test]
async fn pkilint_finds_no_error_and_profiles_hold() {
    depends_on!();
    // With a record in the Conforming Products List the leaf meets its profile in full.
    let server = Server::start_with(&format!("[pki]\ncpl_record = \"{RECORD}\"\n")).await;
    let dir = tempfile::tempdir().unwrap();
    let certificates = certificates(&server, dir.path()).await;
    let profiles = corpus().map(|c| c.join("../c2pa-conformance/cert-profiles").to_string_lossy().into_owned());
    let mut arguments = vec![profiles.unwrap_or_else(|| "-".into())];
    arguments.extend(certificates.iter().map(|(_, path)| path.to_string_lossy().into_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(verdicts) = judge("certificates.py", &arguments) else { return eprintln!("no judges here") };
    assert_eq!(verdicts.len(), 6);
    for verdict in &verdicts {
        assert_eq!(verdict["pkilint"], serde_json::json!([]), "{verdict}");
        let deviations: Vec<&str> = verdict["profile"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
        // The post-quantum hierarchy follows the profiles but for what they say of algorithms, which know no post-quantum ones.
        let allowed = |d: &&&str| verdict["name"].as_str().unwrap().starts_with("pq-") && d.starts_with("algorithm:");
        let left: Vec<_> = deviations.iter().filter(|d| !allowed(d)).collect();
        assert!(left.is_empty(), "{}: {left:?}", verdict["name"]);
    }
    let chain: Vec<&Value> = verdicts.iter().filter(|v| v["signed_by_issuer"].is_boolean()).collect();
    assert!(chain.len() >= 3 && chain.iter().all(|v| v["signed_by_issuer"] == true), "{chain:?}");
}
