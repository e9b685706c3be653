//! Badges.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, DbBackend},
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All of it or nothing, on every database.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let postgres = manager.get_database_backend() == DbBackend::Postgres;
        let id = if postgres { "uuid" } else { "uuid_text" };
        for statement in [
            format!(
                "CREATE TABLE IF NOT EXISTS badges (id {id} PRIMARY KEY NOT NULL, tenant text NOT NULL, manifest_id {id} NOT NULL, \
                 content_sha256 text NOT NULL, issued_by text NOT NULL, issued_at bigint NOT NULL, revoked_at bigint, \
                 revoked_by text, revoked_reason text)"
            ),
            "CREATE INDEX IF NOT EXISTS badges_manifest ON badges (tenant, manifest_id, issued_at)".to_owned(),
        ] {
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
