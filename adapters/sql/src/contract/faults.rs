//! What goes wrong in a database, each with its own name.

use super::{jobs::job, now, runner::World};
use crate::{SqlDatabase, failed};
use omt_kernel::{
    Error, Kind, Result, TenantId, TenantSettings,
    port::{Database, UnitOfWork},
    retry,
};
use sea_orm::{ConnectionTrait, DbBackend, IsolationLevel, TransactionTrait};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

async fn run(database: &SqlDatabase, statement: &str) -> Result<()> {
    database.write.execute_unprepared(statement).await.map(drop).map_err(failed)
}

fn over_postgres(database: &SqlDatabase) -> bool {
    database.write.get_database_backend() == DbBackend::Postgres
}

fn name(database: &SqlDatabase) -> String {
    database.describe().rsplit_once('/').unwrap().1.to_owned()
}

fn is(error: &Error, code: &str) {
    assert_eq!((error.kind, error.code), (Kind::Unavailable, code), "{error}");
    assert!(error.retry_after.is_some());
}

async fn put(unit: &dyn UnitOfWork, tenant: &str) -> Result<()> {
    unit.tenants().put(&TenantId::parse(tenant).unwrap(), &TenantSettings::default(), now()).await
}

/// As after a failover, or with the file system mounted for reading: it answers, and takes nothing.
pub(super) async fn what_can_only_be_read_says_so(database: Arc<SqlDatabase>) {
    let url = database.describe().to_owned();
    let only = if over_postgres(&database) {
        run(&database, &format!("ALTER DATABASE {} SET default_transaction_read_only = on", name(&database))).await.unwrap();
        SqlDatabase::connect(&url).await.unwrap()
    } else {
        SqlDatabase::connect(&format!("{url}?mode=ro")).await.unwrap()
    };
    only.check().await.unwrap();
    only.check_schema().await.unwrap();
    is(&only.try_writing().await.unwrap_err(), "DATABASE_READ_ONLY");
    // Where it takes writes, trying leaves nothing behind.
    database.try_writing().await.unwrap();
    let view = database.read().await.unwrap();
    assert!(view.tenants().settings(&TenantId::parse("writing-is-tried").unwrap()).await.unwrap().is_none());
}

pub(super) async fn a_full_disk_says_so(database: Arc<SqlDatabase>) {
    let mut large = job("large");
    large.payload = json!({ "much": "x".repeat(4 << 20) });
    let write = async || {
        let unit = database.begin().await?;
        unit.jobs().enqueue(&large).await?;
        unit.commit().await
    };
    if over_postgres(&database) {
        // What the server itself raises when a file cannot grow.
        let raised = run(&database, "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$").await;
        is(&raised.unwrap_err(), "STORAGE_FULL");
    } else {
        run(&database, "PRAGMA max_page_count = 1").await.unwrap();
        is(&write().await.unwrap_err(), "STORAGE_FULL");
        run(&database, "PRAGMA max_page_count = 1000000").await.unwrap();
    }
    write().await.unwrap();
}

pub(super) async fn a_role_that_may_not_write_is_told(database: Arc<SqlDatabase>) {
    if !over_postgres(&database) {
        return;
    }
    let role = format!("reader_{}", Uuid::new_v4().simple());
    run(&database, &format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await.unwrap();
    let (_, place) = database.describe().split_once('@').unwrap();
    let reader = SqlDatabase::connect(&format!("postgres://{role}@{place}")).await.unwrap();
    reader.check_schema().await.unwrap();
    is(&reader.try_writing().await.unwrap_err(), "DATABASE_REFUSED");
    reader.close().await;
    run(&database, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// A newer version migrates while older ones serve: those stay ready, and none starts any more.
pub(super) async fn readiness_does_not_ask_for_the_schema(database: Arc<SqlDatabase>) {
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m99991231_000001_of_a_newer_version', 0)";
    run(&database, newer).await.unwrap();
    database.check().await.unwrap();
    assert_eq!(database.check_schema().await.unwrap_err().code, "SCHEMA_TOO_NEW");
    run(&database, "DELETE FROM seaql_migrations WHERE version > 'm20261121'").await.unwrap();
    database.check().await.unwrap();
    assert_eq!(database.check_schema().await.unwrap_err().code, "SCHEMA_TOO_OLD");
    // A table that is not there means that nothing was applied; a database that does not answer means nothing.
    run(&database, "DROP TABLE seaql_migrations").await.unwrap();
    assert_eq!(database.schema_status().await.unwrap().applied, 0);
    database.close().await;
    is(&database.schema_status().await.unwrap_err(), "DATABASE_UNAVAILABLE");
}

/// SQLite gives its lock to one writer, and PostgreSQL ends one of two who wait for each other: whoever lost is told that the
/// same may be tried at once, and gets through.
pub(super) async fn who_made_way_gets_through(database: Arc<SqlDatabase>) {
    let other = SqlDatabase::connect(database.describe()).await.unwrap();
    if !over_postgres(&database) {
        run(&other, "PRAGMA busy_timeout = 1").await.unwrap();
        let holds = database.begin().await.unwrap();
        is(&other.begin().await.err().unwrap(), retry::BUSY);
        let released = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            holds.commit().await.unwrap();
        };
        let mut attempts = 0;
        let wrote = retry::transaction(&World, async || {
            attempts += 1;
            let unit = other.begin().await?;
            put(unit.as_ref(), "late").await?;
            unit.commit().await
        });
        let ((), wrote) = tokio::join!(released, wrote);
        wrote.unwrap();
        assert!(attempts > 1);
        return;
    }
    run(&database, "INSERT INTO tenants (id, settings, created_at) VALUES ('one', '{}', 0), ('two', '{}', 0)").await.unwrap();
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let both = async |database: &SqlDatabase, first: &str, second: &str| {
        retry::transaction(&World, async || {
            attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let unit = database.begin().await?;
            put(unit.as_ref(), first).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            put(unit.as_ref(), second).await?;
            unit.commit().await
        })
        .await
    };
    let began = Instant::now();
    let (one, two) = tokio::join!(both(&database, "one", "two"), both(&other, "two", "one"));
    one.and(two).unwrap();
    let attempts = attempts.into_inner();
    assert!(attempts > 2 && began.elapsed() < Duration::from_secs(10), "{attempts} attempts in {:?}", began.elapsed());
    // A serialization failure.
    let level = Some(IsolationLevel::RepeatableRead);
    let old = database.write.begin_with_config(level, None).await.unwrap();
    old.query_one_raw(sea_orm::Statement::from_string(DbBackend::Postgres, "SELECT 1 FROM tenants")).await.unwrap();
    run(&other, "UPDATE tenants SET created_at = 1 WHERE id = 'one'").await.unwrap();
    let late = old.execute_unprepared("UPDATE tenants SET created_at = 2 WHERE id = 'one'").await;
    is(&failed(late.unwrap_err()), retry::BUSY);
}
