//! Background jobs, over whatever queue and database the combination has.

use omt_tests::{Server, fixture, id, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The platform's recurring job, once it is in this state.
async fn housekeeping(server: &Server, state: &str) -> Value {
    let began = Instant::now();
    loop {
        let jobs = server.json("/api/v1/admin/jobs?kind=housekeeping").await;
        if let Some(job) = jobs["items"].as_array().unwrap().iter().find(|job| job["state"] == state) {
            return job.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{jobs}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn recurring_jobs_run_and_are_seen() {
    let server = Server::start().await;
    let job = housekeeping(&server, "done").await;
    assert_eq!((job["attempts"].as_u64(), job["tenant"].is_null()), (Some(1), true));
    assert!(job["progress"]["jobs"].is_number(), "{job}");
    let path = format!("/api/v1/admin/jobs/{}", id(&job));
    assert_eq!(server.json(&path).await["state"], "done");
    assert_eq!(server.json("/api/v1/admin/jobs?state=dead").await["items"], json!([]));
    // Done is done.
    for act in ["retry", "cancel"] {
        problem(server.request("POST", &format!("{path}/{act}")).send().await.unwrap(), 409, "WRONG_JOB_STATE").await;
    }
    problem(server.get("/api/v1/admin/jobs?state=sleeping").await, 400, "INVALID_QUERY").await;
    // The platform's own jobs are not for a tenant's administrators, nor jobs at all for others.
    let theirs = server.key("other", &["admin:job:read", "admin:job:manage"]).await;
    let ask = |path: &str| server.anonymous("GET", path).bearer_auth(&theirs).send();
    problem(ask(&path).await.unwrap(), 404, "NOT_FOUND").await;
    assert_eq!(ok(ask("/api/v1/admin/jobs").await.unwrap(), StatusCode::OK).await["items"], json!([]));
    let reader = server.key("default", &["manifest:read"]).await;
    let refused = server.anonymous("GET", "/api/v1/admin/jobs").bearer_auth(&reader).send().await.unwrap();
    problem(refused, 403, "FORBIDDEN").await;
}

#[tokio::test]
async fn metrics_need_their_permission_and_count() {
    let server = Server::start().await;
    housekeeping(&server, "done").await;
    let refused = server.anonymous("GET", "/metrics").send().await.unwrap();
    problem(refused, 401, "MISSING_CREDENTIAL").await;
    let key = server.key("default", &["metrics:read"]).await;
    let text = server.anonymous("GET", "/metrics").bearer_auth(&key).send().await.unwrap().text().await.unwrap();
    for line in [
        "omt_jobs{kind=\"housekeeping\",state=\"done\"} 1",
        "omt_job_duration_seconds_count{kind=\"housekeeping\",outcome=\"done\"} 1",
        "omt_http_request_duration_seconds_count{method=\"GET\",route=\"/metrics\",status=\"401\"} 1",
        "omt_database_connections",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    let open = Server::start_with("[metrics]\nopen = true\n").await;
    assert_eq!(open.anonymous("GET", "/metrics").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn old_manifests_are_archived_when_asked_and_counted() {
    let server = Server::start().await;
    let keep = server.signed("a.jpg", fixture("a.jpg"), &[("department", "legal")]).await;
    let held = server.signed("a.png", fixture("a.png"), &[]).await;
    let gone = server.signed("a.gif", fixture("a.gif"), &[]).await;
    let hold = format!("/api/v1/manifests/{}/legal-hold", id(&held));
    ok(server.request("PUT", &hold).json(&json!({ "reason": "case" })).send().await.unwrap(), StatusCode::OK).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let order = |body: Value| server.request("POST", "/api/v1/admin/system/archive").json(&body).send();
    problem(order(json!({ "older_than_days": 99999 })).await.unwrap(), 422, "INVALID_FIELD").await;
    let state = async |record: &Value| server.json(&format!("/api/v1/manifests/{}", id(record))).await["state"].clone();
    for (body, archived) in
        [(json!({ "older_than_days": 1 }), 0), (json!({ "older_than_days": 0, "classification": "internal" }), 2)]
    {
        let made = ok(order(body).await.unwrap(), StatusCode::ACCEPTED).await;
        let path = format!("/api/v1/admin/jobs/{}", made["job"].as_str().unwrap());
        let began = std::time::Instant::now();
        let done = loop {
            let job = server.json(&path).await;
            if job["state"] == "done" {
                break job;
            }
            assert!(began.elapsed() < Duration::from_secs(15), "{job}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(done["progress"]["archived"], archived, "{done}");
    }
    assert_eq!([state(&keep).await, state(&held).await, state(&gone).await], ["archived", "signed", "archived"]);
    let metrics = server.json("/api/v1/admin/metrics").await;
    assert_eq!((metrics["total_manifests"].as_u64(), metrics["manifests_today"].as_u64()), (Some(3), Some(3)));
    assert_eq!((metrics["total_users"].as_u64(), metrics["verifications_today"].as_u64()), (Some(1), Some(0)));
    assert!(metrics["storage_used_gb"].as_f64().unwrap() > 0.0);
}
