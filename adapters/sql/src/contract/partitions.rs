//! Partitions by month on PostgreSQL: nothing is lost, nothing is refused, and what guards the audit log guards every part of it.

use super::{governance::tenant, now, postgres};
use crate::SqlDatabase;
use omt_kernel::{
    AuditId, ManifestId, OffsetDateTime, VerificationId,
    audit::{AuditEntry, AuditFilter},
    port::{Database, Page, Tended},
    record::VerificationRecord,
};
use omt_migrations::Migrator;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use serde_json::json;
use std::sync::Arc;
use time::Duration;
use uuid::Uuid;

/// The migration that divides tables.
const DIVIDES: &str = "m20261121_000019_partitions";

/// A version 7 UUID of a moment.
fn id(at: OffsetDateTime, n: u8) -> Uuid {
    let millis = (at.unix_timestamp_nanos() / 1_000_000) as u64;
    uuid::Builder::from_unix_timestamp_millis(millis, &[n; 10]).into_uuid()
}

fn verification(manifest: ManifestId, at: OffsetDateTime, n: u8) -> VerificationRecord {
    VerificationRecord {
        id: VerificationId(id(at, n)),
        tenant: tenant(),
        manifest,
        state: "valid".into(),
        trust_level: "trusted".into(),
        report: json!({ "n": n }),
        verified_by: "user:1".into(),
        created_at: at,
    }
}

fn entry(at: OffsetDateTime, n: u8) -> AuditEntry {
    AuditEntry {
        id: AuditId(id(at, n)),
        tenant: tenant(),
        at,
        actor: "p".into(),
        action: "user.create".into(),
        resource_kind: "user".into(),
        resource_id: n.to_string(),
        outcome: "done".into(),
        request_id: String::new(),
        leaf: vec![n],
        index: None,
    }
}

async fn verify(database: &SqlDatabase, record: &VerificationRecord) -> omt_kernel::Result<()> {
    let unit = database.begin().await?;
    unit.verifications().insert(record).await?;
    unit.commit().await
}

async fn append(database: &SqlDatabase, entry: &AuditEntry) -> omt_kernel::Result<()> {
    let unit = database.begin().await?;
    unit.audit().append(entry).await?;
    unit.commit().await
}

/// A new database as it was before tables were divided.
async fn undivided() -> Option<Arc<SqlDatabase>> {
    let (database, _) = postgres().await?;
    let before = Migrator::migrations().iter().position(|migration| migration.name() == DIVIDES).unwrap() as u32;
    Migrator::up(&database.write, Some(before - super::BEFORE_STORAGE)).await.unwrap();
    Some(database)
}

async fn texts(database: &SqlDatabase, statement: &str) -> Vec<String> {
    let statement = Statement::from_string(DbBackend::Postgres, statement);
    let rows = database.write.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn run(database: &SqlDatabase, statement: &str) -> Result<u64, String> {
    database.write.execute_unprepared(statement).await.map(|done| done.rows_affected()).map_err(|error| error.to_string())
}

/// The partitions of a table, with their schema.
async fn parts(database: &SqlDatabase, table: &str) -> Vec<String> {
    let found = format!("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass ORDER BY 1");
    texts(database, &found).await
}

fn month(at: OffsetDateTime) -> String {
    format!("{}_{:02}", at.year(), u8::from(at.month()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_stays_and_what_comes_has_its_month() {
    let Some(database) = undivided().await else { return };
    let (manifest, today) = (ManifestId(Uuid::now_v7()), now());
    let (long_ago, in_a_year) = (today - Duration::days(800), today + Duration::days(400));
    let old = [verification(manifest, long_ago, 1), verification(manifest, today, 2), verification(manifest, in_a_year, 3)];
    for record in &old {
        verify(&database, record).await.unwrap();
    }
    let logged = [entry(long_ago, 1), entry(today, 2), entry(in_a_year, 3)];
    for entry in &logged {
        append(&database, entry).await.unwrap();
    }
    database.migrate().await.unwrap();
    database.check_schema().await.unwrap();
    let two_months = today + Duration::days(62);
    let new = [verification(manifest, two_months, 4), verification(manifest, today + Duration::days(4_000), 5)];
    for record in &new {
        verify(&database, record).await.unwrap();
    }
    append(&database, &entry(two_months, 4)).await.unwrap();
    // Whatever is no time at all has a place too.
    let odd = VerificationRecord { id: VerificationId(Uuid::max()), ..verification(manifest, today, 6) };
    verify(&database, &odd).await.unwrap();
    let at = |n: u8| format!("SELECT tableoid::regclass::text FROM verifications WHERE report->>'n' = '{n}'");
    let expected = [
        (1, "before".to_owned()),
        (2, "before".to_owned()),
        (3, "rest".to_owned()),
        (4, month(two_months)),
        (5, "rest".to_owned()),
        (6, "rest".to_owned()),
    ];
    for (n, part) in expected {
        assert_eq!(texts(&database, &at(n)).await, [format!("public_parts.verifications_{part}")], "{n}");
    }
    // The same list as ever, over all of them, in pages.
    let read = database.read().await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    while let Some(last) = {
        let page = read.verifications().history(&tenant(), manifest, Page { after, limit: 2 }).await.unwrap();
        seen.extend(page.iter().map(|record| record.report["n"].as_u64().unwrap()));
        page.last().map(|record| record.id.0)
    } {
        after = Some(last);
    }
    assert_eq!(seen, [6, 5, 3, 4, 2, 1]);
    assert_eq!(read.verifications().count(&tenant(), today - Duration::minutes(1)).await.unwrap(), 5);
    // An identifier is there once, in whichever part it is.
    for record in old.iter().chain(&new) {
        assert!(verify(&database, record).await.is_err(), "{:?}", record.id);
    }
    // Every entry of the log waits for its place, once.
    let waiting = read.audit().waiting(10).await.unwrap();
    assert_eq!(waiting.iter().map(|entry| entry.leaf[0]).collect::<Vec<_>>(), [1, 2, 4, 3]);
    assert!(append(&database, &logged[0]).await.is_err());
    for entry in &logged {
        assert_eq!(read.audit().find(&tenant(), entry.id).await.unwrap().as_ref(), Some(entry));
    }
    let listed = read.audit().search(&tenant(), &AuditFilter::default(), Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.leaf[0]).collect::<Vec<_>>(), [3, 4, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_made_ahead_and_empty_ones_go() {
    let Some(database) = undivided().await else { return };
    database.migrate().await.unwrap();
    let soon = now() + Duration::days(62);
    assert_eq!(database.tend().await.unwrap(), Tended::default(), "the migration made them");
    for table in ["verifications", "webhook_deliveries", "audit_entries"] {
        assert!(parts(&database, table).await.len() >= 4, "{table}");
    }
    // One that is missing comes back, whoever asks at the same time.
    let missing = format!("public_parts.verifications_{}", month(soon));
    run(&database, &format!("DROP TABLE {missing}")).await.unwrap();
    let (one, two) = tokio::join!(database.tend(), database.tend());
    assert_eq!(one.unwrap().made + two.unwrap().made, 1);
    assert!(parts(&database, "verifications").await.contains(&missing));
    // Where the rest took rows in the meantime, they stay there, and everything goes on.
    run(&database, &format!("DROP TABLE {missing}")).await.unwrap();
    let record = verification(ManifestId(Uuid::now_v7()), soon, 1);
    verify(&database, &record).await.unwrap();
    assert_eq!(database.tend().await.unwrap(), Tended::default());
    verify(&database, &verification(record.manifest, soon, 2)).await.unwrap();
    let read = database.read().await.unwrap();
    let page = Page { after: None, limit: 10 };
    assert_eq!(read.verifications().history(&tenant(), record.manifest, page).await.unwrap().len(), 2);
    // Of months past, what is empty goes and what is not stays; months to come stay, how many there are depends on the day.
    let to_come: Vec<String> =
        parts(&database, "verifications").await.into_iter().filter(|part| !part.ends_with("_before")).collect();
    assert!(to_come.len() >= 2, "{to_come:?}");
    let attach = |name: &str, from: &str, to: &str| {
        format!(
            "CREATE TABLE public_parts.verifications_{name} (LIKE verifications INCLUDING ALL); \
             ALTER TABLE verifications DETACH PARTITION public_parts.verifications_before; \
             ALTER TABLE verifications ATTACH PARTITION public_parts.verifications_{name} \
             FOR VALUES FROM (first_id('{from}')) TO (first_id('{to}'))"
        )
    };
    run(&database, &attach("2020_01", "2020-01-01 00:00+00", "2020-02-01 00:00+00")).await.unwrap();
    let later = attach("2020_02", "2020-02-01 00:00+00", "2020-03-01 00:00+00")
        .replace("ALTER TABLE verifications DETACH PARTITION public_parts.verifications_before; ", "");
    run(&database, &later).await.unwrap();
    let january = OffsetDateTime::from_unix_timestamp(1_578_000_000).unwrap();
    verify(&database, &verification(record.manifest, january, 3)).await.unwrap();
    assert_eq!(database.tend().await.unwrap(), Tended { made: 0, gone: 1 });
    let left = parts(&database, "verifications").await;
    assert!(left.contains(&"public_parts.verifications_2020_01".to_owned()), "{left:?}");
    assert!(!left.contains(&"public_parts.verifications_2020_02".to_owned()), "{left:?}");
    assert!(to_come.iter().all(|part| left.contains(part)), "{left:?}");
    assert_eq!(read.verifications().history(&tenant(), record.manifest, page).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_the_audit_log_changes() {
    let Some(database) = undivided().await else { return };
    for n in 0..3 {
        append(&database, &entry(now() - Duration::days(40 * i64::from(n)), n)).await.unwrap();
    }
    database.migrate().await.unwrap();
    // One that the daily job makes, as it will in months to come.
    let later = format!("public_parts.audit_entries_{}", month(now() + Duration::days(62)));
    run(&database, &format!("DROP TABLE {later}")).await.unwrap();
    assert_eq!(database.tend().await.unwrap().made, 1);
    append(&database, &entry(now() + Duration::days(62), 7)).await.unwrap();
    append(&database, &entry(now() + Duration::days(4_000), 8)).await.unwrap();
    let all = parts(&database, "audit_entries").await;
    assert!(all.contains(&later) && all.len() >= 4, "{all:?}");
    let before = texts(&database, "SELECT id::text FROM audit_entries ORDER BY id").await;
    for table in all.iter().map(String::as_str).chain(["audit_entries"]) {
        let filled = texts(&database, &format!("SELECT id::text FROM {table}")).await;
        let mut statements = vec![format!("TRUNCATE {table}")];
        if !filled.is_empty() {
            statements.push(format!("UPDATE {table} SET outcome = 'failed'"));
            statements.push(format!("UPDATE {table} SET id = gen_random_uuid()"));
            statements.push(format!("DELETE FROM {table}"));
        }
        for statement in statements {
            let refused = run(&database, &statement).await.expect_err(&statement);
            assert!(refused.contains("append-only"), "{statement}: {refused}");
        }
    }
    assert_eq!(texts(&database, "SELECT id::text FROM audit_entries ORDER BY id").await, before);
    // The retention that the database guards holds in every part: what is old enough goes when it has its place, and nothing else.
    database.keep_audit_for(30).await.unwrap();
    let oldest = texts(&database, "SELECT id::text FROM audit_entries ORDER BY id LIMIT 1").await.remove(0);
    let gone = format!("DELETE FROM audit_entries WHERE id = '{oldest}'");
    assert!(run(&database, &gone).await.expect_err("it has no place").contains("append-only"));
    run(&database, "INSERT INTO audit_places SELECT row_number() OVER (ORDER BY id) - 1, id FROM audit_entries").await.unwrap();
    assert_eq!(run(&database, &gone).await, Ok(1));
    assert!(run(&database, "DELETE FROM audit_entries").await.expect_err("the others are young").contains("append-only"));
    // What is not empty is never let go, however old.
    assert_eq!(database.tend().await.unwrap().gone, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_serves_has_what_it_had_and_no_part() {
    let Some(database) = undivided().await else { return };
    let role = format!("app_{}", Uuid::new_v4().simple());
    // As docs/production.md has it, before the tables were divided.
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'app'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         REVOKE UPDATE, DELETE, TRUNCATE ON audit_entries, audit_places, audit_checkpoints FROM {role}; \
         REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON audit_retention FROM {role}; \
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}"
    );
    run(&database, &grants).await.unwrap();
    append(&database, &entry(now(), 1)).await.unwrap();
    database.migrate().await.unwrap();
    let server = std::env::var("OMT_TEST_POSTGRES").unwrap();
    let (_, place) = server.rsplit_once('@').unwrap();
    let (host, _) = place.rsplit_once('/').unwrap();
    let name = texts(&database, "SELECT current_database()::text").await.remove(0);
    let app = SqlDatabase::connect(&format!("postgres://{role}:app@{host}/{name}")).await.unwrap();
    app.check_schema().await.unwrap();
    append(&app, &entry(now(), 2)).await.unwrap();
    let record = verification(ManifestId(Uuid::now_v7()), now() + Duration::days(62), 1);
    verify(&app, &record).await.unwrap();
    // It makes the parts that are missing, which are not its own.
    let later = format!("public_parts.audit_entries_{}", month(now() + Duration::days(62)));
    run(&database, &format!("DROP TABLE {later}")).await.unwrap();
    assert_eq!(app.tend().await.unwrap().made, 1);
    append(&app, &entry(now() + Duration::days(62), 3)).await.unwrap();
    assert_eq!(run(&app, "UPDATE verifications SET state = 'valid'").await, Ok(1));
    let mut refused = vec!["UPDATE audit_entries SET outcome = 'x'", "DELETE FROM audit_entries", "TRUNCATE audit_entries"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for part in parts(&database, "audit_entries").await {
        refused.extend([
            format!("UPDATE {part} SET outcome = 'x'"),
            format!("DELETE FROM {part}"),
            format!("TRUNCATE {part}"),
            format!("INSERT INTO {part} SELECT * FROM audit_entries"),
            format!("DROP TABLE {part}"),
            format!("ALTER TABLE audit_entries DETACH PARTITION {part}"),
        ]);
    }
    for statement in refused {
        let words = run(&app, &statement).await.expect_err(&statement);
        assert!(words.contains("permission denied") || words.contains("must be owner"), "{statement}: {words}");
    }
    assert_eq!(texts(&database, "SELECT count(*)::text FROM audit_entries").await, ["3"]);
    app.close().await;
    run(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}
