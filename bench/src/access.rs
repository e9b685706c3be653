//! Decisions, the audit log, and logins.

use crate::{quantile, world};
use clap::Args;
use omt_audit::{Event, Integrator};
use omt_authz::CasbinAuthorizer;
use omt_kernel::{
    Actor, Permission, TenantId,
    access::RoleRecord,
    port::{Authorizer, Database, RoleTable},
};
use omt_sql::SqlDatabase;
use std::{
    collections::BTreeSet,
    hint::black_box,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Over what.
#[derive(Args)]
pub struct Arguments {
    /// The database's URL.
    #[arg(long)]
    database: String,
    /// Entries of the audit log.
    #[arg(long, default_value_t = 20_000)]
    entries: u64,
    /// Transactions at once.
    #[arg(long, default_value_t = 32)]
    concurrency: u64,
    /// A server at which the first user logs in again and again.
    #[arg(long)]
    url: Option<String>,
    /// The first user's password.
    #[arg(long, default_value = "")]
    password: String,
}

/// Runs it and prints its lines.
pub async fn run(arguments: Arguments) {
    decisions().await;
    audit(&arguments).await;
    if let Some(url) = &arguments.url {
        logins(url, &arguments.password).await;
    }
}

/// Logins over HTTP, eight at once for five seconds.
async fn logins(url: &str, password: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = serde_json::json!({ "username": "admin", "password": password });
    let (began, mut running) = (Instant::now(), tokio::task::JoinSet::new());
    for _ in 0..8 {
        let (client, body, url) = (client.clone(), body.clone(), format!("{url}/api/v1/auth/login"));
        running.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(5) {
                let begun = Instant::now();
                let answer = client.post(&url).json(&body).send().await.unwrap();
                if answer.status() == reqwest::StatusCode::OK {
                    times.push(begun.elapsed().as_secs_f64());
                }
            }
            times
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.extend(done.unwrap());
    }
    times.sort_by(f64::total_cmp);
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    println!("logins (Argon2id, 19 MiB): {rate:.0}/s, p95 {:.0} ms", quantile(&times, 0.95) * 1e3);
}

/// 10,000 users over roles whose lines make 300 with those that every tenant has.
async fn decisions() {
    let authorizer = CasbinAuthorizer::new().unwrap();
    let built_in: usize = authorizer.built_in().iter().map(|role| role.permissions.len()).sum();
    let (mut left, mut roles) = (300 - built_in, Vec::new());
    while left > 0 {
        let lines = left.min(5);
        left -= lines;
        let at = OffsetDateTime::UNIX_EPOCH;
        roles.push(RoleRecord {
            tenant: TenantId::parse("bench").unwrap(),
            name: format!("role-{}", roles.len()),
            description: String::new(),
            inherits: if roles.len() % 3 == 0 { BTreeSet::new() } else { [format!("role-{}", roles.len() - 1)].into() },
            permissions: Permission::ALL.iter().cycle().skip(roles.len() * 5).take(lines).copied().collect(),
            revision: 1,
            created_at: at,
            updated_at: at,
        });
    }
    let names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
    let table = RoleTable { tenant: TenantId::parse("bench").unwrap(), version: 1, roles: Arc::new(roles) };
    let users: Vec<BTreeSet<String>> =
        (0..10_000).map(|n| [names[n % names.len()].clone(), names[(n * 7 + 3) % names.len()].clone()].into()).collect();
    // Compiled once, as in a server.
    black_box(authorizer.permissions(&table, &users[0]).await.unwrap());
    let mut uncached = Vec::new();
    for (n, user) in users.iter().take(2_000).enumerate() {
        let (role, permission) = (user.first().unwrap(), Permission::ALL[n % Permission::ALL.len()]);
        let began = Instant::now();
        black_box(authorizer.decide(&table, role, permission).await.unwrap());
        uncached.push(began.elapsed().as_secs_f64());
    }
    let mut unseen = Vec::new();
    for user in &users {
        let began = Instant::now();
        authorizer.permissions(&table, user).await.unwrap();
        unseen.push(began.elapsed().as_secs_f64());
    }
    // Most users have the roles of somebody who came before them.
    unseen.sort_by(|a, b| b.total_cmp(a));
    unseen.truncate(users.iter().collect::<BTreeSet<_>>().len());
    unseen.reverse();
    println!(
        "everything that a set of roles not seen before may do, once for each set ({} sets): p50 {:.1} ms, p99 {:.1} ms",
        unseen.len(),
        quantile(&unseen, 0.5) * 1e3,
        quantile(&unseen, 0.99) * 1e3
    );
    let mut cached = Vec::new();
    for round in 0..10 {
        for (n, user) in users.iter().enumerate() {
            let permission = Permission::ALL[(n + round) % Permission::ALL.len()];
            let began = Instant::now();
            black_box(authorizer.permissions(&table, user).await.unwrap().contains(&permission));
            cached.push(began.elapsed().as_secs_f64());
        }
    }
    for (name, times, goal) in [("by Casbin itself", &mut uncached, 200), ("by the set compiled of it", &mut cached, 20)] {
        times.sort_by(f64::total_cmp);
        let (half, most) = (quantile(times, 0.5), quantile(times, 0.99));
        println!(
            "decision, 300 lines, 10,000 users, {name}: p50 {:.1} µs, p99 {:.1} µs (goal p99 {goal} µs)",
            half * 1e6,
            most * 1e6
        );
    }
}

/// Entries in transactions of their own while the log is integrated beside them.
async fn audit(arguments: &Arguments) {
    let database = Arc::new(SqlDatabase::connect(&arguments.database).await.unwrap());
    database.migrate().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = syncs(dir.path());
    let (trail, tiles) = world::audit(dir.path(), database.clone());
    let integrator = Integrator::new(trail.clone(), database.clone(), tiles, Arc::new(world::System));
    let integrating = tokio::spawn(integrator.run());
    let actor = Actor::system(TenantId::default_tenant());
    trail.record(&actor, Event::new("bench.warm", "bench", "")).await.unwrap();
    let began = Instant::now();
    let each = arguments.entries / arguments.concurrency;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..arguments.concurrency {
        let (trail, actor, database) = (trail.clone(), actor.clone(), database.clone());
        running.spawn(async move {
            for _ in 0..each {
                let unit = database.begin().await.unwrap();
                let event = Event::new("bench.entry", "bench", Uuid::now_v7());
                trail.append(unit.as_ref(), &actor, event).await.unwrap();
                unit.commit().await.unwrap();
            }
        });
    }
    let lag = {
        let database = database.clone();
        tokio::spawn(async move {
            let mut worst = Duration::ZERO;
            loop {
                let read = database.read().await.unwrap();
                if let Some(oldest) = read.audit().waiting(1).await.unwrap().first() {
                    let waits = OffsetDateTime::now_utc() - oldest.at;
                    worst = worst.max(Duration::try_from(waits).unwrap_or_default());
                } else if worst > Duration::ZERO && began.elapsed() > Duration::from_secs(3) {
                    return worst;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    let worst = tokio::time::timeout(Duration::from_secs(120), lag).await.unwrap().unwrap();
    integrating.abort();
    println!(
        "audit entries, durable, each in a transaction of its own: {:.0}/s (goal 2000 on PostgreSQL; this disk by itself: {disk:.0} \
         fdatasync/s); tree head behind by at most {:.2} s (goal 2)",
        (each * arguments.concurrency) as f64 / seconds,
        worst.as_secs_f64()
    );
}

/// How often a second this disk makes 4 KiB durable: what an entry in a transaction of its own cannot be much faster than.
fn syncs(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("syncs")).unwrap();
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}
