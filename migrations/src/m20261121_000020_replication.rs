//! Where copies of stored blobs go, and which blobs have one.

use sea_orm_migration::{prelude::*, sea_orm::ConnectionTrait};

#[derive(DeriveMigrationName)]
pub struct Migration;

const STATEMENTS: [&str; 4] = [
    "ALTER TABLE blobs ADD COLUMN replicated_at bigint",
    // One row, of what is copied to now.
    "CREATE TABLE IF NOT EXISTS replication (id integer PRIMARY KEY NOT NULL, target text NOT NULL, since bigint NOT NULL)",
    "CREATE INDEX IF NOT EXISTS blobs_unreplicated ON blobs (created_at, sha256, tenant) WHERE replicated_at IS NULL",
    "CREATE INDEX IF NOT EXISTS blobs_replicated ON blobs (replicated_at) WHERE replicated_at IS NOT NULL",
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
