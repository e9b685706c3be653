//! When a report may say otherwise although nothing changes stands beside it, so that what ends is noticed; and which policy it is by
//! stands among what it depends on, so that a changed policy finds it. Every report that is kept already is due for one look.

use sea_orm_migration::{prelude::*, sea_orm::ConnectionTrait};

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: [&str; 4] = [
    "ALTER TABLE compliance_reports ADD COLUMN turns_at bigint",
    "UPDATE compliance_reports SET turns_at = 0",
    "CREATE INDEX IF NOT EXISTS compliance_reports_turns ON compliance_reports (turns_at, manifest_id) WHERE turns_at IS NOT NULL",
    "INSERT INTO compliance_keys (tenant, about, manifest_id, policy) \
     SELECT tenant, 'policy:' || policy, manifest_id, policy FROM compliance_reports WHERE 1 = 1 ON CONFLICT DO NOTHING",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
