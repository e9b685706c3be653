//! The OpenAPI document: the committed copy is the code's, and every operation demands a credential unless listed here.

use omt_tests::Server;
use reqwest::StatusCode;
use serde_json::Value;

/// Operations that anyone may call.
const PUBLIC: &[&str] = &[
    "GET /health",
    "GET /ready",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/logout",
    "GET /api/v1/trust/roots.pem",
    "GET /api/v1/trust/pq-roots.pem",
    "GET /api/v1/trust/issuers/{serial}.cer",
];

fn document() -> Value {
    serde_json::to_value(omt_api::openapi_document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut out = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            out.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    out
}

#[test]
fn the_committed_document_is_current() {
    let path = omt_tests::package().join("../openapi/openapi.json");
    let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(committed == document(), "openapi/openapi.json differs from the code: run `make openapi`");
}

#[tokio::test]
async fn every_operation_refuses_strangers() {
    let server = Server::start().await;
    let document = document();
    let operations = operations(&document);
    assert!(operations.len() >= 24);
    for (method, path, operation) in operations {
        let name = format!("{method} {path}");
        let public = PUBLIC.contains(&name.as_str());
        assert_eq!(operation["security"].is_array(), !public, "{name}");
        let concrete = path.replace("{id}", &uuid::Uuid::now_v7().to_string()).replace("{serial}", "00");
        for credential in [None, Some("omt_wrong"), Some("a.b.c")] {
            let mut request = server.anonymous(&method, &concrete);
            if let Some(credential) = credential {
                request = request.bearer_auth(credential);
            }
            let status = request.send().await.unwrap().status();
            assert_eq!(status == StatusCode::UNAUTHORIZED, !public, "{name}: {status}");
        }
    }
}

#[tokio::test]
async fn the_browser_of_the_api_is_served_offline() {
    let server = Server::start().await;
    let page = server.anonymous("GET", "/api/docs/").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui") && !page.contains("https://"), "{page}");
    assert_eq!(server.anonymous("GET", "/api/docs").send().await.unwrap().status(), StatusCode::OK);
    let served: Value = server.anonymous("GET", "/api/openapi.json").send().await.unwrap().json().await.unwrap();
    assert!(served == document());
    assert_eq!(served["openapi"], "3.1.0");
}
