//! Lists and searches over many manifests.

use crate::{quantile, world};
use clap::Args;
use omt_claims::{definition::ClaimDefinition, metadata::Extracted};
use omt_jobs::{Jobs, Progress};
use omt_kernel::{
    ManifestId, OffsetDateTime, Reach, TenantId,
    governance::TaskFilter,
    manifest::{Classification, ManifestFilter, ManifestState},
    port::{Database, Page},
};
use omt_policy::{Dependencies, DryRunOrder, Policies};
use omt_sql::SqlDatabase;
use std::{sync::Arc, time::Instant};
use uuid::Uuid;

/// Over which database.
#[derive(Args)]
pub struct Arguments {
    /// Its URL; it is migrated, and filled when it is empty.
    #[arg(long)]
    database: String,
    /// How many manifests.
    #[arg(long, default_value_t = 1_000_000)]
    manifests: u64,
    /// Instead of lists: a dry run of a policy over all of them.
    #[arg(long)]
    dry_run: bool,
}

const ITEMS: u32 = 50;
const ROUNDS: usize = 100;

/// The identifier of the n-th manifest: rising with n, as version 7 UUIDs rise with time.
fn id(n: u64) -> Uuid {
    Uuid::from_u64_pair((0x0190 << 48) | (n << 16) | 0x7000, 0x8000_0000_0000_0000)
}

async fn fill(url: &str, manifests: u64) {
    let words = ["harbour", "portrait", "election", "festival", "product", "interview", "weather", "stadium"];
    let begun = Instant::now();
    // Rows as the platform writes them, made by the database itself.
    let literals = |dialect: &str| {
        let list = words.join("','");
        match dialect {
            "postgres" => format!("(ARRAY['{list}'])[1 + n % 8]"),
            _ => format!("json_extract('[\"{}\"]', '$[' || (n % 8) || ']')", words.join("\",\"")),
        }
    };
    let columns = "id, tenant, revision, state, title, title_folded, search_text, creator, department, project, organization, classification, \
                   media_type, file_name, source_sha256, source_size, source_kept, definition, metadata, ingredients, created_by, \
                   created_at, updated_at";
    let definition = serde_json::to_string(&ClaimDefinition::default()).unwrap();
    let metadata = serde_json::to_string(&Extracted::default()).unwrap();
    let select = |word: &str, id: &str, hex: &str, truth: &str, json: &dyn Fn(&str) -> String| {
        let (definition, metadata, nothing) = (json(&definition), json(&metadata), json("[]"));
        format!(
            "SELECT {id}, 'default', 1, CASE WHEN n % 10 = 0 THEN 'draft' ELSE 'signed' END, {word} || ' ' || n, {word} || ' ' || n, \
             ' ' || {word} || ' ' || n || ' ¶ creator ' || (n % 100) || ' ¶ department ' || (n % 20) || ' ¶ project ' || (n % 500) || \
             ' ¶ organization ¶ a jpg ¶ crowd ' || CASE WHEN n % 25000 = 77 THEN 'regatta' ELSE 'city' END || ' at dusk ', \
             'creator ' || (n % 100), 'department ' || (n % 20), 'project ' || (n % 500), 'organization', \
             CASE WHEN n % 4 = 0 THEN 'public' ELSE 'internal' END, 'image/jpeg', 'a.jpg', {hex}, 100000, {truth}, \
             {definition}, {metadata}, {nothing}, 'user', n * 1000000, n * 1000000"
        )
    };
    if url.starts_with("postgres") {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        let id = "(('0190' || lpad(to_hex(n), 8, '0') || '7000' || '8000000000000000'))::uuid";
        let body = select(&literals("postgres"), id, "lpad(to_hex(n), 64, '0')", "false", &|json| format!("'{json}'::jsonb"));
        let statement = format!("INSERT INTO manifests ({columns}) {body} FROM generate_series(1::bigint, {manifests}) AS n");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        for statement in governance(id, "false", "jsonb_build_object") {
            let statement = format!("{statement} FROM generate_series(1::bigint, {manifests}) AS n");
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        }
        sqlx::query("ANALYZE").execute(&pool).await.unwrap();
    } else {
        let pool = sqlx::SqlitePool::connect(url).await.unwrap();
        let id = "unhex('0190' || printf('%08x', n) || '7000' || '8000000000000000')";
        let body = select(&literals("sqlite"), id, "printf('%064x', n)", "0", &|json| format!("'{json}'"));
        let statement = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {manifests}) \
             INSERT INTO manifests ({columns}) {body} FROM numbers"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        for statement in governance(id, "0", "json_object") {
            let (head, body) = statement.split_once(" SELECT ").unwrap();
            let statement = format!(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {manifests}) \
                 {head} SELECT {body} FROM numbers"
            );
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
        }
        sqlx::query("ANALYZE").execute(&pool).await.unwrap();
    }
    println!("{manifests} manifests with workflows and tasks written in {:.0} s", begun.elapsed().as_secs_f64());
}

/// A workflow in review for every manifest, with its task, which waits for one of three roles.
fn governance(id: &str, truth: &str, object: &str) -> [String; 3] {
    let open = if truth == "0" { "1" } else { "true" };
    let role = "CASE n % 3 WHEN 0 THEN 'approver' WHEN 1 THEN 'reviewer' ELSE 'manager' END";
    // PostgreSQL wants to know what an empty list is a list of; a text of it serves both.
    let data = format!(
        "{object}('visit', 2, 'action', 'approve', 'stage', 'approve', 'title', 'Approve or reject', 'role', {role}, \
         'candidates', {object}(), 'needed', 1, 'decided', 0)"
    );
    let data = match truth {
        "0" => format!("json_set({data}, '$.candidates', json('[]'), '$.done_by', json('[]'))"),
        _ => format!("({data}) || '{{\"candidates\": [], \"done_by\": []}}'::jsonb"),
    };
    let empty = format!("{object}()");
    [
        format!(
            "INSERT INTO workflows (id, tenant, manifest_id, definition, state, open, revision, created_by, created_at, updated_at, data) \
             SELECT {id}, 'default', {id}, 'default', 'in_review', {open}, 3, 'user', n * 1000000, n * 1000000, {empty}"
        ),
        format!(
            "INSERT INTO workflow_tasks (id, tenant, workflow_id, manifest_id, due_at, next_at, created_at, data) \
             SELECT {id}, 'default', {id}, {id}, n * 1000000, NULL, n * 1000000, {data}"
        ),
        format!(
            "INSERT INTO workflow_candidates (tenant, candidate, task_id, project, due_at) \
             SELECT 'default', 'role:' || {role}, {id}, 'project ' || (n % 500), n * 1000000"
        ),
    ]
}

/// The inbox over as many workflows, with what the service looks up for each task.
async fn inbox(database: &SqlDatabase, manifests: u64) {
    let tenant = TenantId::default_tenant();
    let read = database.read().await.unwrap();
    let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let reach = Reach { clearance: Classification::Internal, ..Reach::ALL };
    let narrow = Reach { department: Some("department 7".into()), ..reach.clone() };
    let all = TaskFilter { candidates: of(&["role:approver"]), due_before: None, project: None, reach: Some(reach) };
    let half = OffsetDateTime::from_unix_timestamp(i64::try_from(manifests / 2).unwrap()).unwrap();
    let cases = [
        ("inbox of approvers", all.clone()),
        (
            "inbox of approvers and managers",
            TaskFilter { candidates: of(&["role:approver", "role:manager", "user:1"]), ..all.clone() },
        ),
        ("inbox of a department's approvers", TaskFilter { reach: Some(narrow), ..all.clone() }),
        ("inbox of a project's approvers", TaskFilter { project: Some("project 77".into()), ..all.clone() }),
        ("overdue tasks of approvers", TaskFilter { due_before: Some(half), ..all.clone() }),
        ("inbox of nobody's", TaskFilter { candidates: of(&["user:1"]), ..all }),
    ];
    for (name, filter) in cases {
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let tasks = read.tasks().inbox(&tenant, &filter, Page { after: None, limit: ITEMS + 1 }).await.unwrap();
            let (manifests, workflows): (Vec<_>, Vec<_>) = tasks.iter().map(|task| (task.manifest, task.workflow)).unzip();
            let headings = read.manifests().headings(&tenant, &manifests).await.unwrap();
            let states = read.workflows().states(&tenant, &workflows).await.unwrap();
            assert_eq!((headings.len(), states.len()), (tasks.len(), tasks.len()));
            found = tasks.len();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (p50, p95) = (quantile(&times, 0.5), quantile(&times, 0.95));
        println!("{name}: {found} tasks, p50 {p50:.1} ms, p95 {p95:.1} ms (goal p95 20 ms)");
    }
}

/// A policy of two rules, one of them an expression, over everything.
async fn dry_run(database: Arc<SqlDatabase>) {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = world::audit(dir.path(), database.clone());
    let (clock, entropy) = (Arc::new(world::System), Arc::new(world::System));
    let jobs = Arc::new(Jobs::new(database.clone(), clock.clone(), entropy.clone(), audit.clone()));
    let telemetry = Arc::new(omt_metrics::Prometheus::new().unwrap());
    let policies = Policies::new(Dependencies { database, clock, entropy, audit, jobs, telemetry }).unwrap();
    let candidate = serde_json::json!({ "name": "bench", "rules": [
        { "name": "public", "severity": "error", "rule_type": "classification_constraint", "classification_levels": ["public"] },
        { "name": "short", "severity": "error", "rule_type": "custom_function", "custom_function": "manifest.title.size() < 200" },
    ] });
    let order = DryRunOrder { candidate: serde_json::from_value(candidate).unwrap(), reach: Reach::ALL };
    let (progress, begun) = (Progress::default(), Instant::now());
    policies.run_dry(&TenantId::default_tenant(), &order, &progress).await.unwrap();
    let (took, done) = (begun.elapsed().as_secs_f64(), progress.get().unwrap());
    let examined = done["examined"].as_u64().unwrap();
    println!("dry run over {examined} manifests: {took:.1} s, {:.0}/s; {}", examined as f64 / took, done["summary"]);
}

/// Runs it and prints a line for each kind of list.
pub async fn run(arguments: Arguments) {
    let database = SqlDatabase::connect(&arguments.database).await.unwrap();
    database.migrate().await.unwrap();
    let tenant = TenantId::default_tenant();
    let page = |after: Option<Uuid>| Page { after, limit: ITEMS + 1 };
    let read = database.read().await.unwrap();
    if read.manifests().list(&tenant, &ManifestFilter::default(), page(None)).await.unwrap().is_empty() {
        fill(&arguments.database, arguments.manifests).await;
    }
    if arguments.dry_run {
        return dry_run(Arc::new(database)).await;
    }
    let all = ManifestFilter::default();
    let newest = read.manifests().list(&tenant, &all, page(None)).await.unwrap();
    assert_eq!(newest[0].id, ManifestId(id(arguments.manifests)));
    let deep = id(arguments.manifests - u64::from(ITEMS) * 5_000.min(arguments.manifests / u64::from(ITEMS) / 2));
    let department = ManifestFilter { department: Some("department 7".into()), ..all.clone() };
    let narrow = ManifestFilter { project: Some("project 77".into()), state: Some(ManifestState::Signed), ..all.clone() };
    let titled = |part: &str| ManifestFilter { search: Some(part.into()), ..all.clone() };
    let cases = [
        ("first page", all.clone(), None, 20.0),
        ("page 5,000", all.clone(), Some(deep), 20.0),
        ("first page of a department", department.clone(), None, 20.0),
        ("deep page of a department", department, Some(deep), 20.0),
        ("first page of a project's signed", narrow, None, 20.0),
        ("search for a frequent word", titled("harbour"), None, 100.0),
        ("search for one title", titled("festival 123459"), None, 100.0),
        ("search for what is not there", titled("submarine"), None, 100.0),
        ("search for two letters", titled("ar"), None, 100.0),
        ("search for a rare keyword", titled("regatta"), None, 100.0),
        ("search for frequent words", titled("dusk stadium"), None, 100.0),
        ("search for words that never meet", titled("harbour portrait"), None, 100.0),
        ("search for a phrase", titled("\"regatta at dusk\" crowd"), None, 100.0),
        ("search for a beginning", titled("regat*"), None, 100.0),
    ];
    for (name, filter, after, goal) in cases {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            found = read.manifests().list(&tenant, &filter, page(after)).await.unwrap().len();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (p50, p95) = (quantile(&times, 0.5), quantile(&times, 0.95));
        println!("{name}: {found} rows, p50 {p50:.1} ms, p95 {p95:.1} ms (goal p95 {goal:.0} ms)");
    }
    inbox(&database, arguments.manifests).await;
}
