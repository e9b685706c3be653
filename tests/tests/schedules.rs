//! Cron expressions: each time once over all replicas.

use omt_tests::{Server, ok, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A worker that ends with the test.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn jobs(server: &Server) -> Vec<Value> {
    server.json("/api/v1/admin/jobs?kind=housekeeping&limit=200").await["items"].as_array().unwrap().clone()
}

/// The second at which the schedule fired that a job was made for.
fn slot(job: &Value) -> i64 {
    job["payload"]["slot"].as_i64().unwrap()
}

#[tokio::test]
async fn each_time_comes_once_over_two_workers() {
    let config = "[jobs]\nin_process = \"never\"\ntime_zone = \"Asia/Singapore\"\n\
                  [jobs.schedules]\nhousekeeping = \"*/2 * * * * *\"\nsweep = \"30 3 * * SUN\"\n";
    let server = Server::start_with(config).await;
    let start = || Worker(Server::command(server.dir.path(), config).arg("worker").stdout(Stdio::null()).spawn().unwrap());
    let workers = [start(), start()];
    let began = Instant::now();
    while jobs(&server).await.iter().filter(|job| job["state"] == "done").count() < 5 {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", jobs(&server).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(workers);
    let made = jobs(&server).await;
    let slots: BTreeSet<i64> = made.iter().map(slot).collect();
    assert_eq!(slots.len(), made.len(), "a time came twice: {made:?}");
    assert!(slots.iter().all(|slot| slot % 2 == 0), "{slots:?}");
    // Nothing works on jobs for a while; then the last time that passed is made up for, and the others are not.
    let last = *slots.last().unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    let back = time::OffsetDateTime::now_utc().unix_timestamp();
    let _worker = start();
    let began = Instant::now();
    let first = loop {
        if let Some(first) = jobs(&server).await.iter().map(slot).filter(|slot| *slot > last).min() {
            break first;
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(first >= back - 2, "{first} was missed before {back}, and is not the last");
    // What is planned can be seen.
    let planned = server.json("/api/v1/admin/jobs/schedules").await;
    let planned = planned["items"].as_array().unwrap();
    let of = |kind: &str| planned.iter().find(|item| item["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {planned:?}"));
    let house = of("housekeeping");
    assert_eq!((&house["mode"], &house["schedule"]), (&json!("cron"), &json!("*/2 * * * * * Asia/Singapore")));
    assert_eq!(house["last_run"]["kind"], "housekeeping");
    // Half past three on a Sunday in Singapore is Saturday evening in UTC.
    let sweep = of("sweep");
    assert!(sweep["next_run_at"].as_str().unwrap().ends_with("T19:30:00Z"), "{sweep}");
    assert!(sweep["last_run"].is_null(), "a new schedule waits for its time: {sweep}");
    assert_eq!((&of("retention")["mode"], &of("retention")["schedule"]), (&json!("interval"), &json!("every 3600 seconds")));
    // It is the platform's, and not for everybody.
    let theirs = server.key("other", &["admin:job:read"]).await;
    let ask = |key: &str| server.anonymous("GET", "/api/v1/admin/jobs/schedules").bearer_auth(key).send();
    assert_eq!(ok(ask(&theirs).await.unwrap(), StatusCode::OK).await["items"], json!([]));
    let reader = server.key("default", &["manifest:read"]).await;
    problem(ask(&reader).await.unwrap(), 403, "FORBIDDEN").await;
}

#[test]
fn what_is_no_schedule_stops_the_start() {
    depends_on!();
    let dir = tempfile::tempdir().unwrap();
    for (config, words) in [
        ("[jobs.schedules]\nsweep = \"often\"\n", "jobs.schedules.sweep: \"often\" is no cron expression"),
        ("[jobs.schedules]\nsweep = \"0 0 31 2 *\"\n", "jobs.schedules.sweep: \"0 0 31 2 *\" never fires"),
        ("[jobs.schedules]\nsweeep = \"@daily\"\n", "jobs.schedules.sweeep: there is no such recurring job; there are "),
        ("[jobs.schedules]\nwebhook = \"@daily\"\n", "jobs.schedules.webhook: there is no such recurring job"),
        ("[jobs]\nin_process = \"never\"\ntime_zone = \"Nowhere\"\n", "jobs.time_zone: there is no time zone \"Nowhere\""),
    ] {
        for command in ["serve", "worker"] {
            let mut command: Command = {
                let mut c = Server::command(dir.path(), config);
                c.arg(command);
                c
            };
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(words), "{config}: {said}");
        }
    }
}
