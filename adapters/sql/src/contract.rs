//! What every database must do, run over each: always over SQLite, over PostgreSQL where `OMT_TEST_POSTGRES` names a server.

mod doomed;
mod faults;
mod governance;
mod jobs;
mod pace;
mod partitions;
mod replicas;
mod runner;
mod schedules;
mod search;
mod storage;
mod uses;

use crate::SqlDatabase;
use doomed::what_is_being_removed_cannot_be_named;
use faults::{
    a_full_disk_says_so, a_role_that_may_not_write_is_told, readiness_does_not_ask_for_the_schema, what_can_only_be_read_says_so,
    who_made_way_gets_through,
};
use governance::{
    evidence_is_found_by_what_it_is_about, messages_reach_their_audience, tasks_wait_for_their_candidates,
    the_attested_migration_knows_who_approved, versions_are_in_order, webhooks_are_their_tenants, workflows_are_kept_as_seen,
};
use jobs::{
    a_lease_that_ends_gives_the_job_away, a_worker_ends_and_begins_at_once, due_jobs_come_in_order, job, jobs_are_added_at_once,
    jobs_are_cancelled_and_replayed, jobs_that_kill_their_workers_end, one_worker_has_a_job, slots_are_taken_once,
    unique_jobs_live_once, who_announces_waits_for_no_worker,
};
use omt_kernel::{OffsetDateTime, TenantId, TenantSettings, port::Database};
use omt_migrations::Migrator;
use pace::what_callers_took_adds_up;
use replicas::copies_are_kept_account_of;
use runner::{a_job_has_one_attempt_in_a_process, attempts_share_transactions, the_runner_does_retries_and_gives_up};
use schedules::cron_times_come_once;
use sea_orm_migration::MigratorTrait;
use search::{every_question_is_answered, what_is_said_is_found, what_was_said_is_not_found};
use std::sync::Arc;
use storage::{
    a_use_that_is_being_noted_keeps_its_blob, blobs_page_without_loss, content_goes_when_its_last_use_does,
    the_storage_migration_lists_what_is_there,
};
use uses::{uses_say_what_is_held_and_until_when, what_is_held_or_kept_does_not_expire};
use uuid::Uuid;

/// How many migrations there were before stored blobs were listed.
const BEFORE_STORAGE: u32 = 2;

async fn sqlite() -> (Arc<SqlDatabase>, Option<tempfile::TempDir>) {
    let dir = tempfile::tempdir().unwrap();
    let database = SqlDatabase::connect(&format!("sqlite:{}", dir.path().join("db").display())).await.unwrap();
    Migrator::up(&database.write, Some(BEFORE_STORAGE)).await.unwrap();
    (Arc::new(database), Some(dir))
}

/// A new database on the server, where there is one.
async fn postgres() -> Option<(Arc<SqlDatabase>, Option<tempfile::TempDir>)> {
    let server = omt_tests::service("OMT_TEST_POSTGRES")?;
    let name = format!("contract_{}", Uuid::new_v4().simple());
    let pool = sqlx::PgPool::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    let database = SqlDatabase::connect(&format!("{base}/{name}")).await.unwrap();
    Migrator::up(&database.write, Some(BEFORE_STORAGE)).await.unwrap();
    Some((Arc::new(database), None))
}

/// Each test gets an empty database of the newest schema, but for the one about migrating.
async fn prepare(database: &SqlDatabase, test: &str) {
    if test != "the_storage_migration_lists_what_is_there" {
        database.migrate().await.unwrap();
    }
}

macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        mod over_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let (database, _dir) = super::sqlite().await;
                super::prepare(&database, stringify!($test)).await;
                super::$test(database).await;
            })+
        }
        mod over_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let Some((database, _dir)) = super::postgres().await else { return };
                super::prepare(&database, stringify!($test)).await;
                super::$test(database).await;
            })+
        }
    };
}

contract!(
    schema_is_current,
    the_storage_migration_lists_what_is_there,
    what_is_not_committed_never_was,
    content_goes_when_its_last_use_does,
    a_use_that_is_being_noted_keeps_its_blob,
    blobs_page_without_loss,
    copies_are_kept_account_of,
    unique_jobs_live_once,
    jobs_are_added_at_once,
    slots_are_taken_once,
    cron_times_come_once,
    due_jobs_come_in_order,
    one_worker_has_a_job,
    a_worker_ends_and_begins_at_once,
    who_announces_waits_for_no_worker,
    a_lease_that_ends_gives_the_job_away,
    jobs_that_kill_their_workers_end,
    jobs_are_cancelled_and_replayed,
    the_runner_does_retries_and_gives_up,
    attempts_share_transactions,
    a_job_has_one_attempt_in_a_process,
    workflows_are_kept_as_seen,
    versions_are_in_order,
    tasks_wait_for_their_candidates,
    evidence_is_found_by_what_it_is_about,
    messages_reach_their_audience,
    webhooks_are_their_tenants,
    uses_say_what_is_held_and_until_when,
    what_is_held_or_kept_does_not_expire,
    the_attested_migration_knows_who_approved,
    what_is_said_is_found,
    what_was_said_is_not_found,
    every_question_is_answered,
    what_callers_took_adds_up,
    what_is_being_removed_cannot_be_named,
    what_can_only_be_read_says_so,
    a_full_disk_says_so,
    a_role_that_may_not_write_is_told,
    readiness_does_not_ask_for_the_schema,
    who_made_way_gets_through,
);

fn now() -> OffsetDateTime {
    // What the database keeps: microseconds.
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.microsecond() * 1000).unwrap()
}

async fn schema_is_current(database: Arc<SqlDatabase>) {
    database.check_schema().await.unwrap();
    let status = database.schema_status().await.unwrap();
    assert_eq!((status.pending, status.unknown), (0, 0));
    // Applying again changes nothing.
    database.migrate().await.unwrap();
    assert_eq!(database.schema_status().await.unwrap(), status);
    assert!(database.connections().iter().map(|(_, n)| n).sum::<u64>() >= 1);
}

async fn what_is_not_committed_never_was(database: Arc<SqlDatabase>) {
    let (tenant, one) = (TenantId::parse("acme").unwrap(), job("a"));
    {
        let unit = database.begin().await.unwrap();
        unit.tenants().put(&tenant, &TenantSettings::default(), now()).await.unwrap();
        assert!(unit.jobs().enqueue(&one).await.unwrap());
    }
    let read = database.read().await.unwrap();
    assert!(read.tenants().settings(&tenant).await.unwrap().is_none());
    assert!(read.jobs().get(one.id).await.unwrap().is_none());
}
