//! What of the audit log goes when it is old, and who may take it.

use crate::audit::{change, integrated, refuses, run, says, tiles};
use omt_tests::{Server, combination, fixture, problem};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Entries of so many days ago, as a statement for each database.
fn of_days_ago(days: i64, numbers: std::ops::Range<u32>) -> (String, String) {
    let began = time::OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT) - time::Duration::days(days);
    let (mut sqlite, mut postgres) = (Vec::new(), Vec::new());
    for n in numbers {
        let millis = (began.unix_timestamp() * 1000 + i64::from(n)).unsigned_abs();
        let mut random = [0; 10];
        random[6..].copy_from_slice(&n.to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
        let leaf = json!({
            "v": 1, "id": id.to_string(), "time": at.format(&time::format_description::well_known::Rfc3339).unwrap(),
            "tenant": "default", "actor": "of-old", "via": "system", "action": "user.old", "resource": { "kind": "user", "id": "x" },
            "outcome": "done", "request": ""
        });
        let leaf = hex::encode(leaf.to_string());
        let rest = format!("'default', {}, 'of-old', 'user.old', 'user', 'x', 'done', ''", millis * 1000);
        sqlite.push(format!("(X'{}', {rest}, X'{leaf}')", id.simple()));
        postgres.push(format!("('{id}', {rest}, decode('{leaf}', 'hex'))"));
    }
    let columns = "id, tenant, at, actor, action, resource_kind, resource_id, outcome, request_id, leaf";
    let insert = |rows: &[String]| format!("INSERT INTO audit_entries ({columns}) VALUES {}", rows.join(", "));
    (insert(&sqlite), insert(&postgres))
}

/// The newest entry that says what expired, once it has its place.
async fn expired(server: &Server, before: u64) -> Value {
    let began = Instant::now();
    loop {
        let log = server.json("/api/v1/admin/audit-logs?action=audit.expire&limit=1").await;
        let newest = &log["items"][0];
        if newest["index"].is_u64() && newest["entry"]["detail"]["before"] == before {
            return newest.clone();
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn what_is_old_goes_and_the_log_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let made = Server::command(dir.path(), "").args(["migrate", "up"]).output().unwrap();
    assert!(made.status.success(), "{}", says(&made));
    for first in (0..600).step_by(50) {
        let (sqlite, postgres) = of_days_ago(40, first..first + 50);
        change(dir.path(), &sqlite, &postgres);
    }
    let config = "[audit]\nretention_days = 30\nexpire_every_seconds = 1\n[jobs]\nin_process = \"always\"\n";
    let server = Server::launch(dir, config).await;
    let dir = server.dir.path();
    // Whole bundles go; what is left of a bundle waits for the rest of it.
    let said = expired(&server, 512).await;
    assert_eq!(said["entry"]["detail"]["days"], 30);
    let began = Instant::now();
    let left = loop {
        let log = server.json("/api/v1/admin/audit-logs?action=user.old&limit=200").await;
        let left = log["items"].as_array().unwrap().clone();
        if left.len() == 88 {
            break left;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{}", left.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // It is the newest that is left, in its places.
    let places: Vec<u64> = left.iter().filter_map(|item| item["index"].as_u64()).collect();
    assert_eq!(places, (512..600).rev().collect::<Vec<u64>>());
    integrated(&server).await;
    // What is left is proved as before, and what is gone is owned up to.
    let whole = run(&server, &["verify"]);
    assert!(whole.status.success() && says(&whole).contains("of the first 512 the hashes are left"), "{}", says(&whole));
    let path = format!("/api/v1/audit/proof/inclusion?entry={}", left[0]["id"].as_str().unwrap());
    assert_eq!(server.json(&path).await["index"], 599);
    problem(server.get("/api/v1/audit/tile/entries/000").await, 404, "NOT_FOUND").await;
    assert_eq!(server.get("/api/v1/audit/tile/0/000").await.status(), StatusCode::OK);
    let kept = server.json("/api/v1/admin/audit-logs?action=audit.retention").await;
    assert_eq!(kept["items"][0]["entry"]["detail"], json!({ "days": 30, "before": 0 }));
    // Nothing younger goes, whoever asks, nor may it be said that nothing was ever kept.
    for statement in ["DELETE FROM audit_entries WHERE action <> 'user.old'", "DELETE FROM audit_places"] {
        assert!(refuses(&server, statement), "{statement}");
    }
    let short = Server::command(dir, "[audit]\nretention_days = 3\n").args(["migrate", "up"]).output().unwrap();
    assert!(!short.status.success() && says(&short).contains("retention_days"), "{}", says(&short));
    if !combination::current().s3 {
        // A lost tile is made anew, of the hashes of what has expired and the entries of what has not.
        let partial = std::fs::read_dir(tiles(&server).join("tile/1/000.p")).unwrap().next().unwrap().unwrap().path();
        std::fs::remove_file(partial).unwrap();
        let server = server.crash_and_restart().await;
        integrated(&server).await;
        let whole = run(&server, &["verify"]);
        assert!(whole.status.success(), "{}", says(&whole));
        // More is gone than the log says.
        std::fs::remove_dir_all(tiles(&server).join("tile/entries/002.p")).unwrap();
        let whole = run(&server, &["verify"]);
        assert_eq!(whole.status.code(), Some(2), "{}", says(&whole));
        assert!(says(&whole).contains("BAD   entry 512:"), "{}", says(&whole));
    }
}

#[tokio::test]
async fn a_role_of_its_own_serves_and_cannot_touch_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let Some(owner) = combination::database_url(dir.path()) else { return };
    let queue = format!("[queue]\nurl = \"sqlite:{}\"\n", dir.path().join("queue.db").display());
    let made = Server::command(dir.path(), "").args(["migrate", "up"]).output().unwrap();
    assert!(made.status.success(), "{}", says(&made));
    let role = format!("app_{}", uuid::Uuid::new_v4().simple());
    // As docs/production.md has it.
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'app'; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         REVOKE UPDATE, DELETE, TRUNCATE ON audit_entries, audit_places, audit_checkpoints FROM {role}; \
         REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON audit_retention FROM {role}"
    );
    change(dir.path(), "", &grants);
    let (_, place) = owner.rsplit_once('@').unwrap();
    let url = format!("postgres://{role}:app@{place}");
    let config = format!("[database]\nurl = \"{url}\"\n{queue}[jobs]\nin_process = \"always\"\n");
    let server = Server::launch(dir, &config).await;
    server.signed("a.jpg", fixture("a.jpg"), &[]).await;
    integrated(&server).await;
    for statement in [
        "UPDATE audit_entries SET outcome = 'done'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_places",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_retention SET days = 30",
        "ALTER TABLE audit_entries DISABLE TRIGGER USER",
        "DROP TRIGGER audit_refuse ON audit_entries",
    ] {
        let output = Command::new("psql").args([&url, "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && (words.contains("permission denied") || words.contains("must be owner")), "{words}");
    }
    drop(server);
    change_as(&owner, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

fn change_as(url: &str, statement: &str) {
    let output = Command::new("psql").args([url, "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
