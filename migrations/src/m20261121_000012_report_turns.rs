//! When a report may say otherwise although nothing changes stands beside it, so that what ends is noticed; and which policy it is by
//! stands among what it depends on, so that a changed policy finds it. Every report that is kept already is due for one look, and
//! so is every one that an older version still adds, which says nothing of when.

use sea_orm_migration::{prelude::*, sea_orm::ConnectionTrait};

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: [&str; 3] = [
    "ALTER TABLE compliance_reports ADD COLUMN turns_at bigint DEFAULT 0",
    "CREATE INDEX IF NOT EXISTS compliance_reports_turns ON compliance_reports (turns_at, manifest_id) WHERE turns_at IS NOT NULL",
    "INSERT INTO compliance_keys (tenant, about, manifest_id, policy) \
     SELECT tenant, 'policy:' || policy, manifest_id, policy FROM compliance_reports WHERE 1 = 1 ON CONFLICT DO NOTHING",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
