//! The schema, as forward-only migrations for SQLite and PostgreSQL.
//!
//! Times are microseconds since 1970 UTC. Every row names its tenant, save those of the platform itself (certificates).

use sea_orm_migration::prelude::*;

mod m20261120_000001_first;
mod m20261120_000002_jobs;
mod m20261120_000003_storage;
mod m20261120_000004_secrets;
mod m20261120_000005_search;
mod m20261120_000006_access;
mod m20261120_000007_audit;
mod m20261121_000008_governance;
mod m20261121_000009_webhooks;
mod m20261121_000010_inbox;
mod m20261121_000011_audit_retention;
mod m20261121_000012_report_turns;
mod m20261121_000016_badges;
mod m20261121_000018_words;
mod m20261121_000019_partitions;
mod m20261121_000020_replication;
mod m20261121_000021_attested;
mod m20261129_000022_paces;
mod m20261129_000023_doomed;

/// Runs the migrations.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261120_000001_first::Migration),
            Box::new(m20261120_000002_jobs::Migration),
            Box::new(m20261120_000003_storage::Migration),
            Box::new(m20261120_000004_secrets::Migration),
            Box::new(m20261120_000005_search::Migration),
            Box::new(m20261120_000006_access::Migration),
            Box::new(m20261120_000007_audit::Migration),
            Box::new(m20261121_000008_governance::Migration),
            Box::new(m20261121_000009_webhooks::Migration),
            Box::new(m20261121_000010_inbox::Migration),
            Box::new(m20261121_000011_audit_retention::Migration),
            Box::new(m20261121_000012_report_turns::Migration),
            Box::new(m20261121_000016_badges::Migration),
            Box::new(m20261121_000018_words::Migration),
            Box::new(m20261121_000019_partitions::Migration),
            Box::new(m20261121_000020_replication::Migration),
            Box::new(m20261121_000021_attested::Migration),
            Box::new(m20261129_000022_paces::Migration),
            Box::new(m20261129_000023_doomed::Migration),
        ]
    }
}

/// A column or table by name.
fn column(name: &str) -> Alias {
    Alias::new(name)
}
