//! Background jobs, over whatever queue and database the combination has.

use crate::{
    replica::{Process, Replica, jobs, worker},
    webhooks::HERE,
};
use omt_tests::{Server, fixture, http, id, ok, problem, until};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::watch};

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
    depends_on!(Database, Queue);
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
    depends_on!(Database, Queue);
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

#[tokio::test]
async fn jobs_are_called_off_and_queued_again() {
    depends_on!(Database);
    let setup = |in_process: &str| format!("[jobs]\nin_process = \"{in_process}\"\n");
    let server = Server::start_with(&setup("never")).await;
    let order = async || {
        let body = json!({ "older_than_days": 0 });
        server.request("POST", "/api/v1/admin/system/archive").json(&body).send().await.unwrap()
    };
    let made = async || ok(order().await, StatusCode::ACCEPTED).await["job"].as_str().unwrap().to_owned();
    let act =
        async |job: &str, act: &str| server.request("POST", &format!("/api/v1/admin/jobs/{job}/{act}")).send().await.unwrap();
    let first = made().await;
    problem(act(&first, "retry").await, 409, "WRONG_JOB_STATE").await;
    problem(order().await, 409, "JOB_EXISTS").await;
    let cancelled = ok(act(&first, "cancel").await, StatusCode::OK).await;
    assert_eq!((&cancelled["state"], cancelled["finished_at"].is_string()), (&json!("cancelled"), true), "{cancelled}");
    problem(act(&first, "cancel").await, 409, "WRONG_JOB_STATE").await;
    // What is called off is in nobody's way; what came in its place is in its.
    let second = made().await;
    problem(act(&first, "retry").await, 409, "JOB_EXISTS").await;
    ok(act(&second, "cancel").await, StatusCode::OK).await;
    let queued = ok(act(&first, "retry").await, StatusCode::OK).await;
    assert_eq!((&queued["state"], &queued["attempts"], &queued["finished_at"]), (&json!("queued"), &json!(0), &Value::Null));
    // And it is done, and the other is not.
    let server = server.restart_with(&setup("always")).await;
    let state = async |job: &str| server.json(&format!("/api/v1/admin/jobs/{job}")).await;
    until("it is done", async || state(&first).await["state"] == "done").await;
    assert!(state(&first).await["progress"]["archived"].is_number());
    assert_eq!(state(&second).await["state"], "cancelled");
    // The log shows an entry once it has its place.
    for (action, job) in [("job.cancel", &second), ("job.replay", &first)] {
        let path = format!("/api/v1/admin/audit-logs?action={action}&limit=1");
        until("it is written", async || server.json(&path).await["items"][0]["entry"]["resource"]["id"] == job.as_str()).await;
    }
}

/// A receiver that answers nobody before it is told to; what it has heard, by the message's identifier.
async fn slow_receiver(open: watch::Receiver<bool>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, heard) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let messages = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut open, messages) = (open.clone(), messages.clone());
            tokio::spawn(async move {
                let Some(request) = http::read(&mut stream).await else { return };
                messages.lock().unwrap().push(request.headers["webhook-id"].clone());
                open.wait_for(|open| *open).await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").await;
            });
        }
    });
    (url, heard)
}

/// SIGTERM: what is under way ends, what is not begun waits for the next worker, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_ends_what_it_began() {
    depends_on!(Database, Queue);
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{HERE}[jobs]\nin_process = \"never\"\n");
    let replica = Replica::start(dir.path(), &config).await;
    let (open, opened) = watch::channel(false);
    let (url, heard) = slow_receiver(opened).await;
    let heard = || heard.lock().unwrap().clone();
    let body = json!({ "url": url, "events": ["manifest.created"] });
    let made = replica.request("POST", "/api/v1/webhooks").json(&body).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    for n in 0..4 {
        let (status, body) = replica.sign("a.txt", format!("text {n}").into_bytes(), &format!("k{n}")).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let counts = async || {
        let jobs = jobs(&replica, "webhook").await;
        let count = |state: &str| jobs.iter().filter(|job| job["state"] == state).count();
        (count("queued"), count("running"), count("done"))
    };
    assert_eq!(counts().await, (4, 0, 0));
    let mut first: Process = worker(dir.path(), &config);
    // Two at once go to one receiver.
    until("two are under way", async || heard().len() == 2 && counts().await == (2, 2, 0)).await;
    assert!(Command::new("kill").args(["-TERM", &first.0.id().to_string()]).status().unwrap().success());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(first.0.try_wait().unwrap().is_none(), "it waits for what it began");
    open.send_replace(true);
    until("it ends", async || first.0.try_wait().unwrap().is_some()).await;
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
    assert_eq!((heard().len(), counts().await), (2, (2, 0, 2)));
    let _second = worker(dir.path(), &config);
    until("the others are made", async || counts().await == (0, 0, 4)).await;
    assert_eq!((heard().len(), heard().into_iter().collect::<BTreeSet<_>>().len()), (4, 4), "{:?}", heard());
    assert!(jobs(&replica, "webhook").await.iter().all(|job| job["attempts"] == 1));
}
