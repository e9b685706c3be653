//! The OpenAPI document: the committed copy is the code's.

use omt_tests::Server;
use reqwest::StatusCode;
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(omt_api::openapi_document()).unwrap()
}

#[test]
fn the_committed_document_is_current() {
    depends_on!();
    let path = omt_tests::package().join("../openapi/openapi.json");
    let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(committed == document(), "openapi/openapi.json differs from the code: run `make openapi`");
}

#[tokio::test]
async fn the_browser_of_the_api_is_served_offline() {
    depends_on!();
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
