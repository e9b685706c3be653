//! What every database must do, run over each: always over SQLite, over PostgreSQL where `OMT_TEST_POSTGRES` names a server.

mod governance;
mod partitions;
mod replicas;
mod schedules;
mod search;
mod uses;

use crate::SqlDatabase;
use async_trait::async_trait;
use governance::{
    evidence_is_found_by_what_it_is_about, messages_reach_their_audience, tasks_wait_for_their_candidates,
    the_attested_migration_knows_who_approved, versions_are_in_order, webhooks_are_their_tenants, workflows_are_kept_as_seen,
};
use omt_jobs::{Handler, JobError, Progress, Runner};
use omt_kernel::{
    Error, JobId, Kind, ManifestId, OffsetDateTime, Result, TenantId, TenantSettings,
    job::{AttemptEnd, DueJob, JobFilter, JobRecord, JobState, LEASE},
    manifest::{BlobRef, ManifestFilter},
    port::{Clock, Database, Entropy, Gauges, JobTransport, Page, Telemetry},
    storage::{BlobRole, Tier},
};
use omt_migrations::Migrator;
use replicas::copies_are_kept_account_of;
use schedules::cron_times_come_once;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use search::{every_question_is_answered, what_is_said_is_found, what_was_said_is_not_found};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration as StdDuration,
};
use time::Duration;
use uses::uses_say_what_is_held_and_until_when;
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
    slots_are_taken_once,
    cron_times_come_once,
    due_jobs_come_in_order,
    one_worker_has_a_job,
    a_lease_that_ends_gives_the_job_away,
    jobs_that_kill_their_workers_end,
    jobs_are_cancelled_and_replayed,
    the_runner_does_retries_and_gives_up,
    workflows_are_kept_as_seen,
    versions_are_in_order,
    tasks_wait_for_their_candidates,
    evidence_is_found_by_what_it_is_about,
    messages_reach_their_audience,
    webhooks_are_their_tenants,
    uses_say_what_is_held_and_until_when,
    the_attested_migration_knows_who_approved,
    what_is_said_is_found,
    what_was_said_is_not_found,
    every_question_is_answered,
);

fn now() -> OffsetDateTime {
    // What the database keeps: microseconds.
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.microsecond() * 1000).unwrap()
}

fn job(kind: &str) -> JobRecord {
    JobRecord {
        id: JobId(Uuid::now_v7()),
        tenant: None,
        kind: kind.into(),
        payload: json!({ "n": 1 }),
        unique_key: None,
        priority: 0,
        state: JobState::Queued,
        attempts: 0,
        max_attempts: 3,
        run_at: now(),
        lease_until: None,
        worker: None,
        progress: None,
        error: None,
        created_at: now(),
        updated_at: now(),
        finished_at: None,
    }
}

async fn add(database: &SqlDatabase, job: &JobRecord) -> bool {
    let unit = database.begin().await.unwrap();
    let added = unit.jobs().enqueue(job).await.unwrap();
    unit.commit().await.unwrap();
    added
}

async fn claim(database: &SqlDatabase, id: JobId, worker: &str, at: OffsetDateTime) -> Option<JobRecord> {
    let unit = database.begin().await.unwrap();
    let claimed = unit.jobs().claim(&[id], worker, at, at + LEASE).await.unwrap();
    unit.commit().await.unwrap();
    claimed.into_iter().next()
}

async fn end(database: &SqlDatabase, id: JobId, worker: &str, end: AttemptEnd) -> bool {
    let unit = database.begin().await.unwrap();
    let ended = unit.jobs().end(&[id], worker, &end, None, now()).await.unwrap();
    unit.commit().await.unwrap();
    ended == [id]
}

async fn get(database: &SqlDatabase, id: JobId) -> JobRecord {
    database.read().await.unwrap().jobs().get(id).await.unwrap().unwrap()
}

async fn schema_is_current(database: Arc<SqlDatabase>) {
    database.check().await.unwrap();
    let status = database.schema_status().await.unwrap();
    assert_eq!((status.pending, status.unknown), (0, 0));
    // Applying again changes nothing.
    database.migrate().await.unwrap();
    assert_eq!(database.schema_status().await.unwrap(), status);
    assert!(database.connections().iter().map(|(_, n)| n).sum::<u64>() >= 1);
}

async fn the_storage_migration_lists_what_is_there(database: Arc<SqlDatabase>) {
    let blob = |c: char, size: u64| json!({ "sha256": c.to_string().repeat(64), "size": size });
    let ingredient = json!([{ "blob": blob('d', 4), "title": "t", "media_type": "m", "relationship": "component_of" }]);
    let signed = json!({
        "asset": blob('b', 2),
        "manifest_store": blob('c', 3),
        "embedded": true,
        "algorithm": "es256",
        "manifest_label": "urn:c2pa:x",
        "signed_at": "2026-01-01T00:00:00Z",
    });
    let (draft, done) = (Uuid::now_v7(), Uuid::now_v7());
    for (id, kept, ingredients, signed) in [(draft, true, ingredient, None), (done, false, json!([]), Some(signed))] {
        let columns = "id, tenant, revision, state, title, title_folded, creator, classification, media_type, source_sha256, \
                       source_size, source_kept, definition, metadata, ingredients, signed, created_by, created_at, updated_at";
        let postgres = database.write.get_database_backend() == DbBackend::Postgres;
        let places: Vec<String> = (1..=19).map(|n| if postgres { format!("${n}") } else { "?".to_owned() }).collect();
        let statement = format!("INSERT INTO manifests ({columns}) VALUES ({})", places.join(", "));
        let values: Vec<sea_orm::Value> = vec![
            id.into(),
            "default".into(),
            1i64.into(),
            if kept { "draft" } else { "signed" }.into(),
            "Old".into(),
            "old".into(),
            "c".into(),
            "internal".into(),
            "image/jpeg".into(),
            "a".repeat(64).into(),
            1i64.into(),
            kept.into(),
            json!({}).into(),
            json!({ "xmp": { "dc:subject": if kept { "Ferry" } else { "Dusk" } } }).into(),
            ingredients.into(),
            signed.map_or(sea_orm::Value::Json(None), Into::into),
            "u".into(),
            7i64.into(),
            8i64.into(),
        ];
        let backend = database.write.get_database_backend();
        database.write.execute_raw(Statement::from_sql_and_values(backend, statement, values)).await.unwrap();
    }
    database.migrate().await.unwrap();
    let (tenant, read) = (TenantId::default_tenant(), database.read().await.unwrap());
    for (c, manifest, size) in [('a', draft, 1), ('d', draft, 4), ('b', done, 2), ('c', done, 3)] {
        let digest = c.to_string().repeat(64);
        let found = read.blobs().find(&tenant, &digest).await.unwrap().unwrap();
        assert_eq!((found.blob.size, found.tier), (size, Tier::Hot), "{c}");
        let uses = read.blobs().uses(&tenant, &digest).await.unwrap();
        assert_eq!(uses.iter().map(|u| u.manifest.0).collect::<Vec<_>>(), [manifest], "{c}");
    }
    // And titles can be searched.
    let filter = ManifestFilter { search: Some("old".into()), ..Default::default() };
    let page = Page { after: None, limit: 10 };
    assert_eq!(read.manifests().list(&tenant, &filter, page).await.unwrap().len(), 2);
    let filter = ManifestFilter { search: Some("ferr* old".into()), ..Default::default() };
    let found = read.manifests().list(&tenant, &filter, page).await.unwrap();
    assert_eq!(found.iter().map(|record| record.id.0).collect::<Vec<_>>(), [draft]);
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

fn blob(c: char) -> BlobRef {
    BlobRef { sha256: c.to_string().repeat(64), size: 1 }
}

async fn add_uses(database: &SqlDatabase, tenant: &str, manifest: ManifestId, uses: &[(&BlobRef, BlobRole)], at: OffsetDateTime) {
    let unit = database.begin().await.unwrap();
    unit.blobs().add_uses(&TenantId::parse(tenant).unwrap(), manifest, uses, at).await.unwrap();
    unit.commit().await.unwrap();
}

async fn drop_content(database: &SqlDatabase, manifest: ManifestId) -> Vec<BlobRef> {
    let unit = database.begin().await.unwrap();
    let gone = unit.blobs().drop_uses(&TenantId::default_tenant(), manifest, BlobRole::CONTENT).await.unwrap();
    unit.commit().await.unwrap();
    gone
}

async fn content_goes_when_its_last_use_does(database: Arc<SqlDatabase>) {
    let (one, two) = (ManifestId(Uuid::now_v7()), ManifestId(Uuid::now_v7()));
    let (shared, own, evidence) = (blob('a'), blob('b'), blob('c'));
    let uses = [
        (&shared, BlobRole::Ingredient),
        (&shared, BlobRole::Asset),
        (&own, BlobRole::Source),
        (&evidence, BlobRole::ManifestStore),
    ];
    add_uses(&database, "default", one, &uses, now()).await;
    add_uses(&database, "default", one, &uses, now()).await;
    add_uses(&database, "default", two, &[(&shared, BlobRole::Asset)], now()).await;
    add_uses(&database, "other", two, &[(&own, BlobRole::Asset)], now()).await;
    // Of what is needed in two roles, one may go.
    let unit = database.begin().await.unwrap();
    assert!(unit.blobs().drop_uses(&TenantId::default_tenant(), one, &[BlobRole::Ingredient]).await.unwrap().is_empty());
    unit.commit().await.unwrap();
    assert_eq!(drop_content(&database, one).await, [own]);
    assert!(drop_content(&database, one).await.is_empty());
    let (read, tenant) = (database.read().await.unwrap(), TenantId::default_tenant());
    assert!(read.blobs().find(&tenant, &evidence.sha256).await.unwrap().is_some());
    assert!(read.blobs().find(&TenantId::parse("other").unwrap(), &blob('b').sha256).await.unwrap().is_some());
    assert_eq!(drop_content(&database, two).await, [shared]);
    let usage = read.blobs().usage(Some(&tenant)).await.unwrap();
    assert_eq!(usage.iter().map(|u| (u.tier, u.blobs, u.bytes)).collect::<Vec<_>>(), [(Tier::Hot, 1, 1)]);
}

async fn a_use_that_is_being_noted_keeps_its_blob(database: Arc<SqlDatabase>) {
    let (old, new, content) = (ManifestId(Uuid::now_v7()), ManifestId(Uuid::now_v7()), blob('a'));
    add_uses(&database, "default", old, &[(&content, BlobRole::Asset)], now()).await;
    // Noted, and not committed before the other begins to forget.
    let unit = database.begin().await.unwrap();
    unit.blobs().add_uses(&TenantId::default_tenant(), new, &[(&content, BlobRole::Asset)], now()).await.unwrap();
    let forgetting = {
        let database = database.clone();
        tokio::spawn(async move { drop_content(&database, old).await })
    };
    tokio::time::sleep(StdDuration::from_millis(300)).await;
    unit.commit().await.unwrap();
    assert!(forgetting.await.unwrap().is_empty());
    let read = database.read().await.unwrap();
    assert!(read.blobs().find(&TenantId::default_tenant(), &content.sha256).await.unwrap().is_some());
}

async fn blobs_page_without_loss(database: Arc<SqlDatabase>) {
    let at = now();
    for tenant in ["a", "b", "c"] {
        for c in ['d', 'e'] {
            add_uses(&database, tenant, ManifestId(Uuid::now_v7()), &[(&blob(c), BlobRole::Asset)], at).await;
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = database.read().await.unwrap().blobs().in_tier(Tier::Hot, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|b| (b.blob.sha256, b.tenant.to_string())));
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((seen.len(), sorted), (6, seen));
}

async fn unique_jobs_live_once(database: Arc<SqlDatabase>) {
    let keyed = |key: &str| JobRecord { unique_key: Some(key.into()), ..job("a") };
    let first = keyed("k");
    assert!(add(&database, &first).await);
    assert!(!add(&database, &keyed("k")).await);
    assert!(add(&database, &keyed("other")).await);
    assert!(add(&database, &job("a")).await && add(&database, &job("a")).await, "jobs without a key are never the same");
    claim(&database, first.id, "w", now()).await.unwrap();
    assert!(!add(&database, &keyed("k")).await, "it runs");
    let living = async || database.read().await.unwrap().jobs().living("k").await.unwrap().map(|job| job.id);
    assert_eq!(living().await, Some(first.id));
    assert!(end(&database, first.id, "w", AttemptEnd::Done).await);
    assert_eq!(living().await, None);
    let second = keyed("k");
    assert!(add(&database, &second).await, "it is done");
    // A dead one cannot come back beside one that lives.
    claim(&database, second.id, "w", now()).await.unwrap();
    end(&database, second.id, "w", AttemptEnd::Dead("x".into())).await;
    assert!(add(&database, &keyed("k")).await);
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().replay(second.id, now()).await.unwrap());
}

async fn slots_are_taken_once(database: Arc<SqlDatabase>) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let unit = database.begin().await.unwrap();
                let taken = unit.jobs().take_slot("k", 7, now()).await.unwrap();
                unit.commit().await.unwrap();
                u32::from(taken)
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(taken, 1);
}

async fn due_jobs_come_in_order(database: Arc<SqlDatabase>) {
    let at = now();
    let early = JobRecord { run_at: at - Duration::seconds(9), ..job("a") };
    let late = JobRecord { run_at: at - Duration::seconds(1), ..job("b") };
    let urgent = JobRecord { priority: 5, ..late.clone() };
    let urgent = JobRecord { id: JobId(Uuid::now_v7()), ..urgent };
    let future = JobRecord { run_at: at + Duration::hours(1), priority: 9, ..job("a") };
    for job in [&late, &early, &urgent, &future] {
        assert!(add(&database, job).await);
    }
    let due = async |kinds: &[&str], limit| database.read().await.unwrap().jobs().due(kinds, at, limit).await.unwrap();
    let ids = |due: Vec<DueJob>| due.into_iter().map(|due| due.id).collect::<Vec<_>>();
    assert_eq!(ids(due(&["a", "b"], 10).await), [urgent.id, early.id, late.id]);
    assert_eq!(ids(due(&["a", "b"], 2).await), [urgent.id, early.id]);
    assert_eq!(ids(due(&["a"], 10).await), [early.id]);
    assert!(due(&["c"], 10).await.is_empty() && due(&[], 10).await.is_empty());
    let unit = database.begin().await.unwrap();
    unit.jobs().announced(&[urgent.id], at).await.unwrap();
    unit.commit().await.unwrap();
    let told: Vec<_> = due(&["a", "b"], 10).await.into_iter().map(|due| due.announced_at).collect();
    assert_eq!(told, [Some(at), None, None]);
    let page = Page { after: None, limit: 10 };
    let filter = JobFilter { kind: Some("a".into()), ..Default::default() };
    assert_eq!(database.read().await.unwrap().jobs().list(&filter, page).await.unwrap().len(), 2);
    let counts = database.read().await.unwrap().jobs().counts().await.unwrap();
    assert!(counts.contains(&("b".into(), "queued".into(), 2)), "{counts:?}");
}

async fn one_worker_has_a_job(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (database, id) = (database.clone(), one.id);
            tokio::spawn(async move { claim(&database, id, &format!("w{n}"), now()).await.is_some() })
        })
        .collect();
    let mut claimed = 0;
    for task in tasks {
        claimed += u32::from(task.await.unwrap());
    }
    assert_eq!(claimed, 1);
    let held = get(&database, one.id).await;
    assert_eq!((held.state, held.attempts), (JobState::Running, 1));
}

async fn a_lease_that_ends_gives_the_job_away(database: Arc<SqlDatabase>) {
    let (one, at) = (job("a"), now());
    add(&database, &one).await;
    claim(&database, one.id, "first", at).await.unwrap();
    assert!(claim(&database, one.id, "second", at + LEASE).await.is_none(), "the lease has not ended");
    let unit = database.begin().await.unwrap();
    assert!(unit.jobs().renew(one.id, "first", at + LEASE * 2, Some(&json!({ "done": 3 }))).await.unwrap());
    unit.commit().await.unwrap();
    let later = at + LEASE * 2 + Duration::seconds(1);
    assert_eq!(get(&database, one.id).await.progress, Some(json!({ "done": 3 })));
    assert!(claim(&database, one.id, "second", at + LEASE + Duration::seconds(1)).await.is_none(), "it was renewed");
    assert_eq!(claim(&database, one.id, "second", later).await.unwrap().attempts, 2);
    // The first is out, whatever it believes.
    assert!(!end(&database, one.id, "first", AttemptEnd::Done).await);
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().renew(one.id, "first", later + LEASE, None).await.unwrap());
    drop(unit);
    assert!(end(&database, one.id, "second", AttemptEnd::Done).await);
    assert!(!end(&database, one.id, "second", AttemptEnd::Dead("x".into())).await, "done is done");
}

async fn jobs_that_kill_their_workers_end(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    let mut at = now();
    for attempt in 1..=3 {
        assert_eq!(claim(&database, one.id, "w", at).await.unwrap().attempts, attempt);
        at += LEASE + Duration::seconds(1);
    }
    assert!(claim(&database, one.id, "w", at).await.is_none());
    let dead = get(&database, one.id).await;
    assert_eq!(dead.state, JobState::Dead);
    assert!(dead.error.unwrap().contains("without an answer"));
}

async fn jobs_are_cancelled_and_replayed(database: Arc<SqlDatabase>) {
    let one = job("a");
    add(&database, &one).await;
    claim(&database, one.id, "w", now()).await.unwrap();
    let unit = database.begin().await.unwrap();
    assert!(unit.jobs().cancel(one.id, now()).await.unwrap());
    assert!(!unit.jobs().cancel(one.id, now()).await.unwrap());
    assert!(!unit.jobs().renew(one.id, "w", now(), None).await.unwrap());
    assert!(unit.jobs().replay(one.id, now()).await.unwrap());
    unit.commit().await.unwrap();
    let back = get(&database, one.id).await;
    assert_eq!((back.state, back.attempts, back.finished_at), (JobState::Queued, 0, None));
    claim(&database, one.id, "w", now()).await.unwrap();
    end(&database, one.id, "w", AttemptEnd::Done).await;
    let unit = database.begin().await.unwrap();
    assert!(!unit.jobs().replay(one.id, now()).await.unwrap(), "done is done");
    assert_eq!(unit.jobs().forget(now() - Duration::days(1)).await.unwrap(), 0);
    assert_eq!(unit.jobs().forget(now() + Duration::days(1)).await.unwrap(), 1);
}

struct World;

impl Clock for World {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Entropy for World {
    fn uuid_v7(&self, _: OffsetDateTime) -> Uuid {
        Uuid::now_v7()
    }
    fn uuid_v4(&self) -> Uuid {
        Uuid::new_v4()
    }
    fn secret(&self) -> [u8; 32] {
        [0; 32]
    }
}

/// Counts outcomes.
#[derive(Default)]
struct Outcomes(Mutex<Vec<(String, &'static str)>>);

impl Telemetry for Outcomes {
    fn request(&self, _: &str, _: &str, _: u16, _: StdDuration) {}
    fn refused(&self, _: &'static str) {}
    fn attempt(&self, kind: &str, outcome: &'static str, _: StdDuration, _: StdDuration) {
        self.0.lock().unwrap().push((kind.to_owned(), outcome));
    }
    fn verified(&self, _: &str) {}
    fn manifest(&self, _: &'static str) {}
    fn cache(&self, _: &'static str, _: bool) {}
    fn shadow_policy(&self, _: bool) {}
    fn replica_read(&self) {}
    fn render(&self, _: &Gauges) -> Result<String> {
        Ok(String::new())
    }
}

/// Does as the payload says.
struct Obedient {
    kind: &'static str,
    runs: AtomicU32,
}

#[async_trait]
impl Handler for Obedient {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn timeout(&self) -> Duration {
        Duration::milliseconds(300)
    }
    async fn run(&self, job: &JobRecord, progress: &Progress) -> std::result::Result<(), JobError> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        progress.set(&json!({ "run": run }));
        let error = || Error::new(Kind::Unavailable, "TEST", "as told");
        match self.kind {
            "second-time" if run == 1 => Err(error().into()),
            "fatal" => Err(JobError::Fatal(error())),
            "panics" => panic!("as told"),
            "sleeps" => {
                tokio::time::sleep(StdDuration::from_secs(600)).await;
                Ok(())
            }
            _ => {
                assert_eq!(job.payload, json!({ "n": 1 }));
                Ok(())
            }
        }
    }
}

/// Sends tickets twice and in any order, as a queue may.
struct Clumsy(tokio::sync::mpsc::UnboundedSender<(JobId, String)>);

#[async_trait]
impl JobTransport for Clumsy {
    async fn announce(&self, kind: &str, due: &[JobId]) -> Result<()> {
        for id in due.iter().rev().chain(due) {
            self.0.send((*id, kind.to_owned())).map_err(|_| Error::internal("closed"))?;
        }
        Ok(())
    }
    fn describe(&self) -> String {
        "clumsy".into()
    }
}

async fn the_runner_does_retries_and_gives_up(database: Arc<SqlDatabase>) {
    let kinds = ["good", "second-time", "fatal", "panics", "sleeps"];
    let handlers: Vec<Arc<dyn Handler>> =
        kinds.iter().map(|kind| Arc::new(Obedient { kind, runs: AtomicU32::new(0) }) as Arc<dyn Handler>).collect();
    let outcomes = Arc::new(Outcomes::default());
    let world = Arc::new(World);
    let runner = Arc::new(Runner::new(database.clone(), world.clone(), world, handlers, outcomes.clone(), "w".into()));
    let jobs: Vec<JobRecord> = kinds.iter().map(|kind| JobRecord { max_attempts: 2, ..job(kind) }).collect();
    for job in &jobs {
        add(&database, job).await;
    }
    let (sender, mut tickets) = tokio::sync::mpsc::unbounded_channel();
    let announcing = {
        let runner = runner.clone();
        tokio::spawn(async move { runner.announce(&Clumsy(sender)).await })
    };
    let working = {
        let runner = runner.clone();
        tokio::spawn(async move {
            while let Some((id, kind)) = tickets.recv().await {
                let runner = runner.clone();
                tokio::spawn(async move { runner.run(id, &kind).await.unwrap() });
            }
        })
    };
    let began = std::time::Instant::now();
    loop {
        let mut states = Vec::new();
        for job in &jobs {
            states.push(get(&database, job.id).await.state);
        }
        if states.iter().all(|s| s.is_final()) {
            assert_eq!(states, [JobState::Done, JobState::Done, JobState::Dead, JobState::Dead, JobState::Dead]);
            break;
        }
        assert!(began.elapsed() < StdDuration::from_secs(30), "{states:?}");
        tokio::time::sleep(StdDuration::from_millis(50)).await;
    }
    announcing.abort();
    working.abort();
    let attempts = |kind: &str| outcomes.0.lock().unwrap().iter().filter(|(k, _)| k == kind).map(|(_, o)| *o).collect::<Vec<_>>();
    assert_eq!(attempts("good"), ["done"]);
    assert_eq!(attempts("second-time"), ["retry", "done"]);
    assert_eq!(attempts("fatal"), ["dead"]);
    assert_eq!(attempts("panics"), ["retry", "dead"]);
    assert_eq!(attempts("sleeps"), ["retry", "dead"]);
    let slept = get(&database, jobs[4].id).await;
    assert!(slept.error.unwrap().starts_with("TIMEOUT"));
    assert_eq!(slept.progress, Some(json!({ "run": 2 })));
}
